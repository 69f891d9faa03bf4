// Wire types of the hub's HTTP API (see /openapi.json). Times are RFC 3339 in UTC, dates YYYY-MM-DD, money in yen.

export type Role =
  | 'guardian' | 'proxy_guardian' | 'facility_manager' | 'facility_staff' | 'operator' | 'municipal_admin'
  | 'municipal_staff' | 'programme_section' | 'app_section' | 'ward_section' | 'analyst' | 'stats_viewer' | 'support_desk'

export interface Page<T> {
  items: T[]
  next?: string | null
}

export interface Account {
  account_id: string
  role: Role
  email: string
  name: string
  municipality_code: string
  municipality_name: string
  facility_id?: string | null
  facility_name?: string | null
  guardian_id?: string | null
}

export interface SessionInfo {
  account: Account
  csrf_token: string
  terms_required: boolean
  server_time?: string
}

export interface SignInAnswer extends Partial<SessionInfo> {
  state: 'otp_required' | 'active'
  challenge_id?: string
  expires_at?: string
  device_token?: string
}

export interface Municipality {
  municipality_code: string
  name: string
  wards?: { ward_code: string; name: string }[]
  contact?: string
}

export interface Lot {
  lot_id: string
  amount_yen: number
  rest_yen: number
  expires_on: string
}

export interface Coupon {
  coupon_id: string
  coupon_no: string
  child_id: string
  child_name?: string
  guardian_id?: string
  application_id?: string
  coupon_set_id: string
  coupon_set_title: string
  coupon_kind: 'yen' | 'hours'
  state: string
  suspended: boolean
  balance_yen: number
  ledger_seq: number
  lots: Lot[]
}

export interface LedgerLine {
  seq: number
  at: string
  kind: string
  delta_yen: number
  balance_after_yen: number
  facility_name?: string | null
  programme_code?: string | null
  use_id?: string | null
  use_no?: string | null
  reason?: string | null
}

export interface HomeChild {
  child_id: string
  child_no: string
  name: string
  coupons: Coupon[]
  application?: { application_id: string; state: string; state_label: string } | null
}

export interface Notice {
  notice_id: string
  title: string
  body: string
  published_at?: string
  audience?: 'all' | 'guardians' | 'facilities'
  valid_from?: string
  valid_to?: string
  push?: boolean
}

export interface Home {
  children: HomeChild[]
  tasks: { kind: string; title: string; link: string }[]
  notices: Notice[]
  unread: number
}

export interface Child {
  child_id: string
  child_no?: string
  name: string
  name_kana?: string
  sex?: string
  birth_date?: string
  /** Identified in the resident data, by its QR or by matching. */
  matched?: boolean
  /** What a correction sends back. */
  version?: string
}

/** What the city asks the operator to do. */
export interface CityRequest {
  request_id: string
  kind: 'revoke_decision' | 'suspend' | 'resume'
  kind_label: string
  application_id?: string
  guardian_id?: string
  subject_no: string
  reason: string
  state: 'open' | 'executed' | 'declined' | 'withdrawn'
  state_label: string
  requested_by: string
  requested_at: string
  settled_at?: string
  note?: string
}

export interface QrImage {
  token: string
  display: string
  svg: string
}

export interface Message {
  message_id: string
  type: string
  category: string
  title: string
  body: string
  link?: string | null
  created_at: string
  read_at?: string | null
}

export interface Application {
  application_id: string
  application_no: string
  application_kind: string
  state: string
  state_label?: string
  child_id: string
  child_name: string
  child_no?: string
  child_birth_date?: string
  guardian_id?: string
  guardian_name?: string
  entry?: string
  via_child_qr: boolean
  submitted_at: string
  decided_at?: string | null
  deficiency?: { items: string[]; text?: string | null } | null
  reason?: string | { reason_code?: string; text?: string } | null
  documents?: { document_id: string; kind: string }[]
  matching?: { error_code?: string | null; candidates?: Candidate[] } | null
  guardian_confirmed?: boolean | null
  history?: { state: string; at: string; by_role: string }[]
}

export interface Candidate {
  resident_no: string
  name?: string
  name_kana?: string
  birth_date?: string
  sex?: string
  note?: string
}

export interface CouponUse {
  use_id: string
  use_no: string
  state: string
  amount_yen: number
  purpose: 'service' | 'cancellation_fee'
  programme_code: string
  facility_id?: string
  facility_name?: string
  child_id?: string
  child_label?: string
  used_at: string
  balance_after_yen?: number
  ledger_seq?: number
  initiated_by?: string
  device_less?: boolean
  payer_channel?: string
  reversed?: boolean
}

export interface Programme {
  programme_code: string
  name: string
}

export interface Facility {
  facility_id: string
  facility_no?: string
  name: string
  programmes?: (string | Programme)[]
  address?: string | null
  state?: string
}

export interface ChildByQr {
  child_label: string
  child_id?: string
  coupon_id?: string
  balance_yen: number
  state?: string
  suspended?: boolean
  coupon_set_title?: string
}

export type QuestionKind = 'single' | 'multiple' | 'scale' | 'number' | 'text'

export interface Question {
  question_no: number
  kind: QuestionKind
  text: string
  options?: string[]
  required: boolean
  min?: number | null
  max?: number | null
  kpi?: string | null
}

export interface SurveyAnswer {
  question_no: number
  options?: number[]
  number?: number
  text?: string
}

export interface Survey {
  survey_id: string
  title: string
  text: string
  state: string
  state_label?: string
  anonymous: boolean
  opens_at: string
  closes_at: string
  minutes_needed?: number
  /** What a change of the draft sends back. */
  version?: string
  targets?: number
  answers?: number
  questions: Question[]
  answered?: boolean
  answer?: { answers: SurveyAnswer[]; revision: number } | null
}

export interface QuestionResult {
  question_no: number
  kind: QuestionKind
  text: string
  base: number
  options?: { option_no: number; text: string; count: number; share: number | null }[]
  n?: number
  min?: number | null
  max?: number | null
  mean?: number | null
  median?: number | null
  top2_share?: number | null
  texts?: number
  samples?: string[]
}

export interface SurveyResults {
  targets: number
  delivered?: number
  answers: number
  response_rate: number | null
  questions: QuestionResult[]
}

export interface Report {
  report_id: string
  title: string
  columns: { name: string; label: string }[]
  rows: (string | number | boolean | null)[][]
  provenance?: { period_from: string; period_to: string; snapshot_id: string; created_at: string; watermark?: string | null }
}

export interface ReportInfo {
  report_id: string
  title: string
  dimensions?: { name: string; label: string }[]
  sql?: string
}

/** What prefecture and state may look at: reports, and the municipalities below them. */
export interface AggregateCatalogue {
  reports: { report_id: string; title: string; by_month: boolean }[]
  municipalities: { municipality_code: string; name: string }[]
  /** Figures of fewer persons are `*`. */
  persons_min: number
}

export interface AggregateReport extends Report {
  /** Names of municipalities whose figures cannot be shown now. */
  missing: string[]
}

export interface SqlAnswer {
  columns: { name: string; type: string }[]
  rows: (string | number | boolean | null)[][]
  truncated: boolean
  elapsed_ms: number
  snapshot_id: string
}

export interface SqlTable {
  name: string
  description?: string
  columns: { name: string; type: string; class?: string; description?: string }[]
}

export interface GuardianFound {
  guardian_id: string
  guardian_no: string
  name: string
  name_kana?: string
  email?: string
  suspended: boolean
  children: Child[]
}

export interface FacilityToday {
  uses: CouponUse[]
  total_yen: number
  n_uses: number
  by_hour: { hour: number; n_uses: number; total_yen: number }[]
}
