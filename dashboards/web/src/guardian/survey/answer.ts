import type { Question, SurveyAnswer } from '$lib/api/types'

/** What the form holds for one question; all kinds in one shape, so that a draft is plain JSON. */
export interface Entry {
  options: number[]
  number: string
  text: string
}

export function entriesOf(questions: Question[], answer: SurveyAnswer[] | null | undefined): Record<number, Entry> {
  return Object.fromEntries(
    questions.map((question) => {
      const given = answer?.find((item) => item.question_no === question.question_no)
      return [question.question_no, { options: given?.options ?? [], number: given?.number === undefined || given.number === null ? '' : String(given.number), text: given?.text ?? '' }]
    }),
  )
}

export function isAnswered(question: Question, entry: Entry | undefined): boolean {
  if (!entry) return false
  if (question.kind === 'single' || question.kind === 'multiple') return entry.options.length > 0
  return (question.kind === 'text' ? entry.text : entry.number).trim() !== ''
}

/** The error of a number outside its range; the server checks the same. */
export function entryError(question: Question, entry: Entry | undefined): string | undefined {
  if (!isAnswered(question, entry)) return question.required ? `問${question.question_no}に回答してください。` : undefined
  if (question.kind !== 'number') return undefined
  const value = Number(entry?.number.normalize('NFKC'))
  if (!Number.isFinite(value)) return `問${question.question_no}は数字で入力してください。`
  const min = question.min ?? Number.NEGATIVE_INFINITY
  const max = question.max ?? Number.POSITIVE_INFINITY
  return value < min || value > max ? `問${question.question_no}は${question.min ?? ''}〜${question.max ?? ''}の範囲で入力してください。` : undefined
}

/** Only answered questions are sent. */
export function answersOf(questions: Question[], entries: Record<number, Entry>): SurveyAnswer[] {
  return questions
    .filter((question) => isAnswered(question, entries[question.question_no]))
    .map((question) => {
      const entry = entries[question.question_no] as Entry
      const { question_no } = question
      if (question.kind === 'single' || question.kind === 'multiple') return { question_no, options: entry.options.toSorted((a, b) => a - b) }
      if (question.kind === 'text') return { question_no, text: entry.text.trim() }
      return { question_no, number: Number(entry.number.normalize('NFKC')) }
    })
}
