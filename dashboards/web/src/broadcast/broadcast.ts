// Broadcasts as the API gives and takes them.
import type { Choice } from '$lib/label/word'
import type { Segment } from './segment'

export interface Counters {
  created: number
  routed: number
  waiting: number
  sent: number
  suppressed: number
  delivered: number
  opened: number
  unread: number
}

export interface Round {
  round: number
  after_min: number
  due_at: string
  state: 'waiting' | 'creating' | 'routing' | 'done' | 'cancelled'
  created: number
  suppressed: number
  routed: number
}

export interface Broadcast {
  broadcast_id: string
  kind: 'segment' | 'event' | 'emergency'
  title: string
  body: string
  link: string
  event_on?: string
  place: string
  push: boolean
  email: boolean
  segment_id: string | null
  segment_name: string
  segment: Segment | null
  /** Why it cannot go out any more. */
  fault?: string
  state: 'draft' | 'awaiting_approval' | 'scheduled' | 'sending' | 'paused' | 'sent' | 'cancelled'
  state_label: string
  author_name: string
  own: boolean
  may_approve: boolean
  note: string
  starts_at: string | null
  pace_per_s: number
  resend_after_min: number[]
  targets: number
  created_at: string
  released_at: string | null
  started_at: string | null
  finished_at: string | null
  counters: Counters
  rounds: Round[]
  /** After a pause, a resumption or a stop: people whose notification cannot be called back. */
  under_way?: number
}

export interface BroadcastBody {
  kind: string
  title: string
  body: string
  link: string
  event_on: string | null
  place: string
  push: boolean
  email: boolean
  segment_id: string | null
  segment: Segment
  starts_at: string | null
  pace_per_s: number | null
  resend_after_min: number[]
}

/** Where a test went. */
export interface Trial {
  message_id: string
  devices: number
  email: boolean
}

/** Before it begins it can be tried out. */
export const canTry = (item: Broadcast) => item.state === 'draft' || item.state === 'awaiting_approval' || item.state === 'scheduled'

/** Everybody has it, but pushes or mails of it wait, or it is to go out again. */
export const waits = (item: Broadcast) =>
  item.state === 'sent' && (item.counters.waiting > 0 || item.rounds.some((round) => round.state !== 'done' && round.state !== 'cancelled'))

export const RESENDS = [15, 30, 60]
export const PACE = 500

export const kindChoices: (Choice & { hint: string })[] = [
  { value: 'segment', text: '通常', hint: '受け取りを止めている方には、受信箱だけに届きます。' },
  { value: 'event', text: '行事案内', hint: '開催日と場所を添えて届けます。' },
  { value: 'emergency', text: '緊急', hint: 'すぐに、すべての方法で届けます。夜間も止めません。' },
]
export const kindText = (kind: string) => kindChoices.find((choice) => choice.value === kind)?.text ?? kind

const ROUND: Record<Round['state'], string> = { waiting: '待機中', creating: '配信中', routing: '通知の送信中', done: '完了', cancelled: '中止' }
export const roundText = (state: Round['state']) => ROUND[state]
