import type { Page } from '$lib/api/types'

/** A letter of the print queue. */
export interface Letter {
  letter_no: string
  letter_kind: string
  recipient: string
  title: string
  state: string
  print_run_id?: string | null
  created_at: string
  /** When its message was taken back. */
  withdrawn_at?: string | null
}

/** Letters that are printed together. */
export interface Run {
  print_run_id: string
  created_at: string
  made_by: string
  n_letters: number
  n_queued: number
  n_printed: number
  n_posted: number
  n_returned: number
  n_withdrawn: number
}

/** Runs, and how many letters wait for the next one. */
export interface Runs extends Page<Run> {
  waiting: number
}

/** What can be noted of a letter. */
export type Step = 'printed' | 'posted' | 'returned'

/** Words for the steps. */
export const STEPS: Record<Step, string> = { printed: '印刷済', posted: '発送済', returned: '返戻' }

/** Words for the kinds of letters; a message has its own heading. */
export const LETTERS: Record<string, string> = { solicitation: '申請勧奨', resolicitation: '再勧奨', distribution: 'クーポン配付', deficiency: '不備', rejection: '不承認', qr_reissue: '二次元コード再発行' }

/** What comes after a letter's state, if anything does. */
export function stepAfter(state: string): Step | undefined {
  const after: Record<string, Step> = { queued: 'printed', printed: 'posted', posted: 'returned' }
  return after[state]
}

/** What can be noted of a whole run: letters come back one by one. */
export function runSteps(run: Run): Step[] {
  const steps: Step[] = []
  if (run.n_queued > 0) steps.push('printed')
  if (run.n_printed > 0) steps.push('posted')
  return steps
}
