// Whom a broadcast is for: the tree of conditions as the screens edit it and as the API takes it.
import { stateLabel } from '$lib/label/state'
import { programmeText } from '$lib/label/word'

export type Condition =
  | { kind: 'all' | 'any'; of: Condition[] }
  | { kind: 'not'; of: Condition }
  | { kind: 'ward'; codes: string[] }
  | { kind: 'child_age_months'; from: number; to: number }
  | { kind: 'child_class_age'; ages: number[] }
  | { kind: 'child_count'; from: number; to: number }
  | { kind: 'programme_used'; codes: string[]; from?: string | null; to?: string | null }
  | { kind: 'facility_used'; facility_ids: string[] }
  | { kind: 'coupon_state'; state: string }
  | { kind: 'coupon_balance'; from_yen: number; to_yen: number }
  | { kind: 'application_state'; state: string }
  | { kind: 'topic'; topics: string[] }
  | { kind: 'inactive'; days: number }
  | { kind: 'survey_answered'; survey_id: string; answered: boolean }

export type Kind = Condition['kind']
export type People = 'guardians' | 'households'

export interface Segment {
  people: People
  when: Condition
}

export interface SavedSegment extends Segment {
  segment_id: string
  name: string
}

export interface Preview {
  count: number
  push: number
  email: number
  everybody: boolean
  sample: { no: string; role: string; ward_code: string; child_age_months: number[] }[]
}

/** Conditions a person can add, in the order of the menu. */
export const KINDS: { value: Kind; text: string }[] = [
  { value: 'ward', text: '行政区' },
  { value: 'child_age_months', text: '児童の月齢' },
  { value: 'child_class_age', text: '児童のクラス年齢' },
  { value: 'child_count', text: '児童の人数' },
  { value: 'programme_used', text: '利用した事業' },
  { value: 'coupon_state', text: 'クーポンの状態' },
  { value: 'coupon_balance', text: 'クーポンの残高' },
  { value: 'application_state', text: '申請の状態' },
  { value: 'topic', text: '関心のあること' },
  { value: 'inactive', text: '利用のない日数' },
  { value: 'any', text: 'いずれかに当てはまる（グループ）' },
  { value: 'all', text: 'すべてに当てはまる（グループ）' },
]

const AGE_MONTHS_MAX = 215
export const BALANCE_MAX_YEN = 9_999_999

/** A new condition with nothing chosen yet. */
export function blank(kind: Kind): Condition {
  switch (kind) {
    case 'all':
    case 'any':
      return { kind, of: [] }
    case 'not':
      return { kind, of: { kind: 'any', of: [] } }
    case 'ward':
      return { kind, codes: [] }
    case 'child_age_months':
      return { kind, from: 0, to: 35 }
    case 'child_class_age':
      return { kind, ages: [] }
    case 'child_count':
      return { kind, from: 1, to: 20 }
    case 'programme_used':
      return { kind, codes: [] }
    case 'facility_used':
      return { kind, facility_ids: [] }
    case 'coupon_state':
      return { kind, state: 'active' }
    case 'coupon_balance':
      return { kind, from_yen: 0, to_yen: BALANCE_MAX_YEN }
    case 'application_state':
      return { kind, state: 'submitted' }
    case 'topic':
      return { kind, topics: [] }
    case 'inactive':
      return { kind, days: 30 }
    case 'survey_answered':
      return { kind, survey_id: '', answered: false }
  }
}

const isFilled = (list: unknown[]) => list.length > 0
const isRange = (from: number, to: number, max: number) => Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= max

/** Whether the server would take it; the editor asks before it counts. */
export function isComplete(condition: Condition): boolean {
  switch (condition.kind) {
    case 'all':
      return condition.of.every(isComplete)
    case 'any':
      return isFilled(condition.of) && condition.of.every(isComplete)
    case 'not':
      return isComplete(condition.of)
    case 'ward':
      return isFilled(condition.codes)
    case 'child_age_months':
      return isRange(condition.from, condition.to, AGE_MONTHS_MAX)
    case 'child_class_age':
      return isFilled(condition.ages)
    case 'child_count':
      return isRange(condition.from, condition.to, 20)
    case 'facility_used':
      return isFilled(condition.facility_ids)
    case 'coupon_balance':
      return isRange(condition.from_yen, condition.to_yen, Number.MAX_SAFE_INTEGER)
    case 'topic':
      return isFilled(condition.topics)
    case 'inactive':
      return isRange(1, condition.days, 3650)
    case 'survey_answered':
      return condition.survey_id !== ''
    default:
      return true
  }
}

/** Whether it leaves nobody out: then a second person must agree. */
export function isEverybody(condition: Condition): boolean {
  if (condition.kind === 'all') return condition.of.every(isEverybody)
  return condition.kind === 'any' && condition.of.some(isEverybody)
}

type Names = { ward: (code: string) => string; topic: (code: string) => string }

/** One condition in words. */
export function conditionText(condition: Condition, names: Names): string {
  switch (condition.kind) {
    case 'all':
      return condition.of.length === 0 ? 'すべての方' : condition.of.map((below) => grouped(below, names)).join(' かつ ')
    case 'any':
      return condition.of.map((below) => grouped(below, names)).join(' または ')
    case 'not':
      return `${grouped(condition.of, names)}ではない`
    case 'ward':
      return `行政区：${condition.codes.map(names.ward).join('・')}`
    case 'child_age_months':
      return `月齢${condition.from}〜${condition.to}か月の児童がいる`
    case 'child_class_age':
      return `${condition.ages.join('・')}歳児クラスの児童がいる`
    case 'child_count':
      return `児童が${condition.from}〜${condition.to}人`
    case 'programme_used':
      return `利用した事業：${condition.codes.length === 0 ? 'いずれか' : condition.codes.map(programmeText).join('・')}`
    case 'facility_used':
      return `利用した事業所：${condition.facility_ids.length}か所`
    case 'coupon_state':
      return `クーポン：${condition.state === 'none' ? 'なし' : stateLabel('coupon', condition.state).text}`
    case 'coupon_balance':
      return `残高${condition.from_yen}〜${condition.to_yen}円`
    case 'application_state':
      return `申請：${stateLabel('application', condition.state).text}`
    case 'topic':
      return `関心：${condition.topics.map(names.topic).join('・')}`
    case 'inactive':
      return `${condition.days}日以上利用がない`
    case 'survey_answered':
      return condition.answered ? 'アンケートに回答済み' : 'アンケートに未回答'
  }
}

function grouped(condition: Condition, names: Names): string {
  const text = conditionText(condition, names)
  return 'of' in condition && Array.isArray(condition.of) && condition.of.length > 1 ? `（${text}）` : text
}
