// Words for codes of the record other than states.
export interface Choice {
  value: string
  text: string
}

const choices = (words: Record<string, string>): Choice[] => Object.entries(words).map(([value, text]) => ({ value, text }))
const worded = (words: Record<string, string>) => (code: string | null | undefined) => (code ? (words[code] ?? code) : '')

const REFUSAL: Record<string, string> = {
  insufficient_balance: '残高不足',
  guardian_suspended: '利用停止中',
  coupon_expired: '使用期限切れ',
  coupon_revoked: '承認取消済',
  facility_not_eligible: '対象外の施設',
  programme_not_eligible: '対象外の事業',
  duplicate: '二重の利用',
  amount_invalid: '金額または時間数の誤り',
  priority_not_reached: '先に使うサービスの時間が残っています',
  request_timed_out: '承認の期限切れ',
  set_not_current: '切替前のクーポン',
}

const REFUSAL_ADVICE: Record<string, string> = {
  insufficient_balance: '残高の範囲で金額を入力するか、不足分を別の方法でお支払いください。',
  guardian_suspended: 'くわしくは市区町村の窓口へお問い合わせください。',
  coupon_expired: '使用期限はクーポンの画面でご確認いただけます。',
  coupon_revoked: 'くわしくは市区町村の窓口へお問い合わせください。',
  facility_not_eligible: 'このクーポンが使える施設か、施設の方にご確認ください。',
  programme_not_eligible: 'このクーポンが使える事業か、施設の方にご確認ください。',
  duplicate: '同じお支払いが済んでいます。利用履歴をご確認ください。',
  amount_invalid: '金額をご確認のうえ、もう一度入力してください。',
  set_not_current: '新しいクーポンをお使いください。',
}

const DEFICIENCY: Record<string, string> = {
  document_missing: '書類が足りません',
  document_unreadable: '書類の画像が読み取れません',
  document_expired: '書類の有効期限が切れています',
  content_missing: '記入もれがあります',
  content_mismatch: '記入内容と書類が合いません',
  other: 'その他',
}

const REJECTION: Record<string, string> = {
  not_resident: '市区町村に住民登録がない',
  out_of_age: '対象年齢ではない',
  not_guardian: '保護者であることを確認できない',
  duplicate: '重複した申請',
  other: 'その他',
}

const CORRECTION: Record<string, string> = {
  input_error: '入力の誤り',
  city_request: '市区町村の依頼',
  misuse: '不正な利用',
  duplicate: '重複',
  other: 'その他',
}

const MATCHING_ERROR: Record<string, string> = {
  E1_multiple: '候補が複数あります',
  E2_no_candidate: '候補がありません',
  E3_name_changed: '氏名が変わった可能性があります',
  E4_deleted_at_source: '元の台帳から削除されています',
  E5_already_linked: 'すでに別の児童と結び付いています',
}

const ROLE: Record<string, string> = {
  guardian: '利用者',
  proxy_guardian: '代理利用者',
  facility_manager: '事業所管理者',
  facility_staff: '事業所職員',
  operator: '運営事業者',
  municipal_admin: '市区町村管理者',
  municipal_staff: '市区町村職員',
  programme_section: '事業所管課',
  app_section: 'アプリ担当課',
  ward_section: '区役所担当課',
  analyst: '分析担当者',
  stats_viewer: '都道府県・こども家庭庁',
  support_desk: 'コールセンター',
  system: 'システム',
}

const LEDGER: Record<string, string> = {
  distributed: '配付', used: '利用', cancellation_fee: 'キャンセル料', reversed: '利用の取消', adjusted: '残高の変更', expired: '期限切れ', revoked: '取消',
}

const CATEGORY: Record<string, string> = {
  account: 'アカウント', system: 'システム', money: 'クーポン・支払い', application: '申請', reservation: '予約',
  attendance: '登降園', survey: 'アンケート', notice: 'お知らせ', broadcast: '配信', claim: '請求',
}

const PROGRAMME: Record<string, string> = {
  temp_care_public: '一時預かり事業（公）',
  temp_care_private: '一時預かり事業（民）',
  sick_care_public: '病児・病後児保育事業（公）',
  sick_care_private: '病児・病後児保育事業（民）',
  short_stay: 'こどものショートステイ事業',
  postpartum_care: '産後ケア',
  childrearing_helper: '子育て応援ヘルパー派遣事業',
  open_nursery: 'こども誰でも通園制度',
  home_helper: 'ホームヘルパー',
  postpartum_doula: '産後ドゥーラ',
  single_parent_help: 'ひとり親家庭ホームヘルプサービス',
}

const DOCUMENT: Record<string, string> = {
  guardian_identity: '保護者の本人確認書類',
  child_identity: '児童の本人確認書類',
  identity_document: '本人確認書類',
  other: 'その他の書類',
}

const RELATION: Record<string, string> = { mother: '母', father: '父', grandparent: '祖父母', spouse: '配偶者', other: 'その他' }
const ENTRY: Record<string, string> = { online: 'アプリ', paper_proxy: '紙（代理登録）' }
/** Languages that messages can be had in; a text that one lacks comes in the first. */
const LANGUAGE: Record<string, string> = { ja: '日本語', 'ja-easy': 'やさしい にほんご' }
export const LANGUAGE_HINT = '「やさしい にほんご」の文がないお知らせは、日本語で届きます。'

/** The first of the languages asked for, such as a browser's (`ja-JP`), that messages can be had in; Japanese where none can. */
export function knownLanguage(asked: readonly string[]): string {
  for (const tag of asked.map((one) => one.toLowerCase())) {
    const known = [tag, tag.split('-')[0] ?? ''].find((name) => Object.hasOwn(LANGUAGE, name))
    if (known) return known
  }
  return 'ja'
}
const SEX: Record<string, string> = { female: '女', male: '男', unspecified: '回答しない' }
const QUESTION: Record<string, string> = {
  single: '単一選択', multiple: '複数選択', scale: '段階評価', number: '数値', text: '自由記述',
}
const PAYER: Record<string, string> = {
  guardian_device: '利用者のアプリ', facility_device: '事業所での読取り', child_qr: '児童用二次元コード',
}
const CYCLE: Record<string, string> = { once: '1回のみ', monthly: '毎月', quarterly: '3か月ごと', half_yearly: '半年ごと', yearly: '毎年' }
const AUDIENCE: Record<string, string> = { all: '全員', guardians: '利用者', facilities: '事業所' }

export const refusalText = worded(REFUSAL)
export const refusalAdvice = (code: string | undefined) => (code ? (REFUSAL_ADVICE[code] ?? '') : '')
export const deficiencyText = worded(DEFICIENCY)
export const rejectionText = worded(REJECTION)
export const correctionText = worded(CORRECTION)
export const matchingErrorText = worded(MATCHING_ERROR)
export const roleText = worded(ROLE)
export const ledgerText = worded(LEDGER)
export const categoryText = worded(CATEGORY)
export const programmeText = worded(PROGRAMME)
export const documentText = worded(DOCUMENT)
export const relationText = worded(RELATION)
export const sexText = worded(SEX)
export const questionText = worded(QUESTION)
export const entryText = worded(ENTRY)
export const payerText = worded(PAYER)
export const cycleText = worded(CYCLE)
export const audienceText = worded(AUDIENCE)

export const deficiencyChoices = choices(DEFICIENCY)
export const rejectionChoices = choices(REJECTION)
export const correctionChoices = choices(CORRECTION)
export const categoryChoices = choices(CATEGORY)
export const programmeChoices = choices(PROGRAMME)
export const sexChoices = choices(SEX)
export const languageChoices = choices(LANGUAGE)
export const questionChoices = choices(QUESTION)
export const audienceChoices = choices(AUDIENCE)
export const relationChoices: Choice[] = ['mother', 'father', 'grandparent', 'other'].map((value) => ({ value, text: RELATION[value] ?? value }))
export const proxyRelationChoices: Choice[] = ['spouse', 'grandparent', 'other'].map((value) => ({ value, text: RELATION[value] ?? value }))
