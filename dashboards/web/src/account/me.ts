import type { Account } from '$lib/api/types'

/** One's own account as `GET /v1/me` shows it. */
export interface Me extends Account {
  name_kana?: string
  sex?: string
  birth_date?: string
  postal_code?: string
  address?: string
  ward_code?: string
  phone?: string
  contact_channel?: string
  language?: string
  receive_mail?: boolean
  version?: string
  email_pending?: string | null
  proxy?: { account_id: string; email: string; name: string; state: string } | null
}
