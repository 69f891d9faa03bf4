import type { Question, QuestionKind, Survey } from '$lib/api/types'
import { fromLocalInput, toLocalInput } from '$lib/format/date'
import { fieldErrors, required, type FieldErrors } from '$lib/form/form.svelte'

/** A question while it is edited: numbers as typed, every kind with all fields, so that switching kinds loses nothing. */
export interface QuestionDraft {
  key: number
  kind: QuestionKind
  text: string
  options: string[]
  required: boolean
  min: string
  max: string
  kpi: string
}

export interface SurveyDraft {
  title: string
  text: string
  anonymous: boolean
  opens: string
  closes: string
  minutes: string
  questions: QuestionDraft[]
}

export type SurveyBody = Pick<Survey, 'title' | 'text' | 'anonymous' | 'opens_at' | 'closes_at' | 'questions'> & { minutes_needed: number }

const DAY_MS = 86_400_000
export const OPTIONS_MIN = 2

export function blankQuestion(key: number): QuestionDraft {
  return { key, kind: 'single', text: '', options: ['', ''], required: true, min: '1', max: '5', kpi: '' }
}

export function blankSurvey(now: Date): SurveyDraft {
  return {
    title: '', text: '', anonymous: true, minutes: '3', questions: [blankQuestion(1)],
    opens: toLocalInput(new Date(now.getTime() + DAY_MS)), closes: toLocalInput(new Date(now.getTime() + 15 * DAY_MS)),
  }
}

export function draftOf(survey: Survey): SurveyDraft {
  return {
    title: survey.title, text: survey.text, anonymous: survey.anonymous, opens: toLocalInput(survey.opens_at), closes: toLocalInput(survey.closes_at),
    minutes: String(survey.minutes_needed ?? ''),
    questions: survey.questions.map((question) => ({
      key: question.question_no, kind: question.kind, text: question.text, required: question.required,
      options: question.options && question.options.length > 0 ? [...question.options] : ['', ''],
      min: question.min === null || question.min === undefined ? '' : String(question.min),
      max: question.max === null || question.max === undefined ? '' : String(question.max),
      kpi: question.kpi ?? '',
    })),
  }
}

export const hasOptions = (kind: QuestionKind): boolean => kind === 'single' || kind === 'multiple'
export const hasRange = (kind: QuestionKind): boolean => kind === 'scale' || kind === 'number'

const filledOptions = (question: QuestionDraft) => question.options.map((option) => option.trim()).filter(Boolean)

function questionOf(draft: QuestionDraft, i: number): Question {
  const number = (text: string) => (text.trim() === '' ? null : Number(text.normalize('NFKC')))
  return {
    question_no: i + 1, kind: draft.kind, text: draft.text.trim(), required: draft.required,
    ...(hasOptions(draft.kind) ? { options: filledOptions(draft) } : {}),
    ...(hasRange(draft.kind) ? { min: number(draft.min), max: number(draft.max) } : {}),
    ...(draft.kpi ? { kpi: draft.kpi } : {}),
  }
}

export function bodyOf(draft: SurveyDraft): SurveyBody {
  return {
    title: draft.title.trim(), text: draft.text.trim(), anonymous: draft.anonymous, opens_at: fromLocalInput(draft.opens), closes_at: fromLocalInput(draft.closes),
    minutes_needed: Number(draft.minutes.normalize('NFKC')), questions: draft.questions.map(questionOf),
  }
}

export function surveyErrors(draft: SurveyDraft): FieldErrors {
  const errors = fieldErrors({
    title: required(draft.title.trim(), '題名'),
    text: required(draft.text.trim(), '説明文'),
    opens_at: required(draft.opens, '配信日時'),
    closes_at: draft.closes <= draft.opens && '回答期限は、配信日時より後にしてください。',
    minutes_needed: !(Number(draft.minutes.normalize('NFKC')) > 0) && '回答にかかる時間（分）を数字で入力してください。',
    questions: draft.questions.length === 0 && '質問を1つ以上作ってください。',
  })
  draft.questions.forEach((question, i) => Object.assign(errors, questionErrors(question, i)))
  return errors
}

function questionErrors(question: QuestionDraft, i: number): FieldErrors {
  const at = `questions[${i}]`
  const isRangeWrong = hasRange(question.kind) && question.min !== '' && question.max !== '' && Number(question.min) >= Number(question.max)
  const isScaleOpen = question.kind === 'scale' && (question.min === '' || question.max === '')
  return fieldErrors({
    [`${at}.text`]: question.text.trim() === '' && `問${i + 1}の質問文を入力してください。`,
    [`${at}.options`]: hasOptions(question.kind) && filledOptions(question).length < OPTIONS_MIN && `問${i + 1}の選択肢を${OPTIONS_MIN}つ以上入力してください。`,
    [`${at}.max`]: (isScaleOpen && `問${i + 1}の最小と最大を入力してください。`) || (isRangeWrong && `問${i + 1}の最大は、最小より大きくしてください。`),
  })
}
