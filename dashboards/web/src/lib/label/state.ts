// Words for states, exactly as in the glossary. Tone and icon go with the word, never instead of it.
export type Tone = 'neutral' | 'info' | 'progress' | 'good' | 'attention' | 'bad'

export interface StateLabel {
  text: string
  tone: Tone
}

type Labels = Record<string, StateLabel>

const label = (text: string, tone: Tone): StateLabel => ({ text, tone })

const APPLICATION: Labels = {
  draft: label('作成中', 'neutral'),
  submitted: label('受付済', 'info'),
  deficient: label('不備あり', 'attention'),
  resubmitted: label('再提出済', 'info'),
  matching: label('照合中', 'progress'),
  under_review: label('審査中', 'progress'),
  adjusting: label('利用調整中', 'progress'),
  approved: label('承認', 'good'),
  rejected: label('不承認', 'bad'),
  revoked: label('承認取消', 'bad'),
  cancelled: label('取消済', 'neutral'),
}

const COUPON: Labels = {
  active: label('利用可', 'good'),
  suspended: label('利用停止', 'bad'),
  expired: label('期限切れ', 'neutral'),
  revoked: label('取消', 'bad'),
}

const COUPON_USE: Labels = {
  settled: label('利用済', 'good'),
  refused: label('利用不可', 'bad'),
  reversed: label('取消', 'attention'),
}

const ACCOUNT: Labels = {
  invited: label('登録案内済', 'neutral'),
  pending_confirmation: label('確認待ち', 'attention'),
  issued: label('発行済', 'info'),
  active: label('有効', 'good'),
  locked: label('一時停止中', 'bad'),
  ended: label('期間終了', 'neutral'),
  deleted: label('削除済', 'neutral'),
}

const SURVEY: Labels = {
  draft: label('作成中', 'neutral'),
  scheduled: label('配信予約', 'info'),
  open: label('回答受付中', 'good'),
  closed: label('締切', 'attention'),
  aggregated: label('集計済', 'progress'),
  presented: label('提示済', 'neutral'),
}

const BROADCAST: Labels = {
  draft: label('作成中', 'neutral'),
  awaiting_approval: label('承認待ち', 'attention'),
  scheduled: label('配信予約', 'info'),
  sending: label('配信中', 'progress'),
  paused: label('一時停止中', 'attention'),
  sent: label('配信済', 'good'),
  cancelled: label('中止', 'neutral'),
}

const SOLICITATION: Labels = {
  targeted: label('勧奨対象', 'info'),
  solicited: label('勧奨済', 'progress'),
  applied: label('申請済', 'good'),
  exhausted: label('勧奨終了', 'attention'),
  out_of_target: label('対象外', 'neutral'),
}

const IMPORT: Labels = {
  completed: label('取込み完了', 'good'),
  failed: label('取込み失敗', 'bad'),
  running: label('取込み中', 'progress'),
}

const CITY_REQUEST: Labels = {
  open: label('依頼中', 'attention'),
  executed: label('対応済', 'good'),
  declined: label('差戻し', 'bad'),
  withdrawn: label('取下げ', 'neutral'),
}

const CLAIM: Labels = {
  created: label('作成済', 'neutral'),
  submitted: label('提出済', 'info'),
  received: label('受付済', 'progress'),
  forwarded: label('市へ送付済', 'progress'),
  transfer_requested: label('振替依頼済', 'progress'),
  paid: label('支払済', 'good'),
  transfer_failed: label('振替不能', 'bad'),
}

const DELIVERY: Labels = {
  queued: label('送信待ち', 'progress'),
  held: label('一時停止中', 'attention'),
  sent: label('送信済', 'progress'),
  accepted: label('受付済', 'info'),
  delivered: label('到達', 'good'),
  opened: label('開封', 'good'),
  expired: label('期限切れ', 'attention'),
  superseded: label('差し替え', 'neutral'),
  failed: label('失敗', 'bad'),
  suppressed: label('送信対象外', 'neutral'),
  printed: label('印刷済', 'progress'),
  posted: label('発送済', 'good'),
  returned: label('返戻', 'bad'),
  doubtful: label('到達不明', 'attention'),
}

const LETTER: Labels = {
  queued: label('印刷待ち', 'info'),
  unaddressed: label('住所なし', 'bad'),
  printed: label('印刷済', 'progress'),
  posted: label('発送済', 'good'),
  returned: label('返戻', 'bad'),
  replaced: label('再送済', 'neutral'),
  withdrawn: label('取下げ', 'neutral'),
}

const API_KEY: Labels = {
  active: label('有効', 'good'),
  revoked: label('終了', 'neutral'),
}

const KINDS = {
  application: APPLICATION, coupon: COUPON, coupon_use: COUPON_USE, account: ACCOUNT,
  survey: SURVEY, broadcast: BROADCAST, solicitation: SOLICITATION, import: IMPORT, city_request: CITY_REQUEST,
  delivery: DELIVERY, claim: CLAIM, letter: LETTER, api_key: API_KEY,
} satisfies Record<string, Labels>

export type StateKind = keyof typeof KINDS

/** The word and tone of a state; an unknown code is shown as the server named it. */
export function stateLabel(kind: StateKind, state: string, fallback?: string): StateLabel {
  return (KINDS[kind] as Labels)[state] ?? label(fallback ?? state, 'neutral')
}

/** States of one kind in the order of its flow, for filters. */
export function statesOf(kind: StateKind): { value: string; text: string }[] {
  return Object.entries(KINDS[kind]).map(([value, { text }]) => ({ value, text }))
}

export function couponState(coupon: { state: string; suspended: boolean }): string {
  return coupon.suspended && coupon.state === 'active' ? 'suspended' : coupon.state
}
