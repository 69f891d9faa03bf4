import type { Role } from '$lib/api/types'
import type { Choice } from '$lib/label/word'

/** What a facility claims for a programme and a month. */
export interface Claim {
  claim_id: string
  claim_no: string
  facility_id: string
  facility_name: string
  programme_code: string
  programme_name: string
  /** YYYY-MM */
  month: string
  state: string
  state_label: string
  uses: number
  children: number
  gross_yen: number
  reversed_yen: number
  net_yen: number
  n_returned: number
  return_reason?: string
  submitted_at?: string
  transferred_on?: string
  result_code?: string
}

/** A file for the bank. */
export interface TransferFile {
  transfer_file_id: string
  n_claims: number
  amount_yen: number
  requested_at: string
}

/** The account a facility is paid to, with the version its form begins with. */
export interface BankAccount {
  account: { bank_code: string; branch_code: string; account_type: string; account_no: string; holder_kana: string } | null
  version: string
}

export const CLAIMS = '/v1/claims'

export const returnChoices: Choice[] = [
  { value: 'amount_mismatch', text: '請求額が利用の記録と合いません' },
  { value: 'content_mismatch', text: '請求の内容に誤りがあります' },
  { value: 'city_request', text: '市からの依頼' },
  { value: 'other', text: 'その他' },
]

/** Whether a role chooses this claim for its next step together with others: the operator to forward, the section to pay. */
export function canBePicked(role: Role | undefined, state: string): boolean {
  if (role === 'operator') return state === 'received'
  return role === 'app_section' && (state === 'forwarded' || state === 'transfer_failed')
}

/** The sum of some claims. */
export const sumOf = (claims: Claim[]): number => claims.reduce((sum, claim) => sum + claim.net_yen, 0)
