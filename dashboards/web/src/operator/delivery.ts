import type { Page } from '$lib/api/types'

/** Words for the channels of a message. */
export const CHANNELS: Record<string, string> = { inbox: '受信箱', push: 'プッシュ通知', email: 'メール', paper: '郵便' }

/** Words for what can be done about somebody whom nothing reached. */
export const NEXT: Record<string, string> = { wait: '配信中です', post: '印刷して発送する', address: '住所を確認する', resend: 'もう一度送る', call: '電話する', write: '手紙を送る' }

/** One message on its way to one device or address. */
export interface Delivery {
  delivery_id: string
  channel: string
  provider: string
  target: string
  purpose: 'notification' | 'withdraw' | 'test'
  state: string
  attempts: number
  doubtful: boolean
  error_code?: string | null
  escalation?: string | null
  due_at: string
  created_at: string
  sent_at?: string | null
  accepted_at?: string | null
  delivered_at?: string | null
  displayed_at?: string | null
  opened_at?: string | null
  ended_at?: string | null
  can_resend: boolean
}

/** A message with all its deliveries. */
export interface Life {
  message: { message_id: string; type: string; class: string; title: string; recipient: string; in_inbox: boolean; created_at: string; delivered_at?: string | null; read_at?: string | null }
  deliveries: Delivery[]
}

/** How far the messages of one type came on one channel. */
export interface FunnelRow {
  type: string
  channel: string
  created: number
  sent: number
  accepted: number
  delivered: number
  opened: number
  failed: number
  expired: number
  superseded: number
}

/** Somebody whom a mandatory message did not reach. */
export interface Contact {
  message_id: string
  type: string
  title: string
  subject_no?: string | null
  created_at: string
  account_id: string
  name: string
  guardian_no: string
  phone: string
  deliveries: Delivery[]
  next: string[]
}

/** A letter of no message that came back or has no address: its household is not registered. */
export interface LetterInVain {
  letter_no: string
  letter_kind: string
  recipient: string
  title: string
  state: string
  created_at: string
  next: string[]
}

/** Whom nothing reached, by message and by letter. */
export interface Unreached extends Page<Contact> {
  letters: LetterInVain[]
}

/** A message as the search finds it, without its text. */
export interface FoundMessage {
  message_id: string
  type: string
  title: string
  subject_no?: string | null
  created_at: string
  read_at?: string | null
  corrected_at?: string | null
  withdrawn_at?: string | null
  name: string
  guardian_no: string
}
