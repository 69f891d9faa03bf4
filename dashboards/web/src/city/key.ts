import type { Role } from '$lib/api/types'

/** A key of a machine, as `/v1/api-keys` lists it. */
export interface Key {
  api_key_id: string
  name: string
  role: Role
  /** Sources whose events it may send; null for one from before they had to be named, which may name any. */
  sources: string[] | null
  /** Name of who made it; empty where nobody is known. */
  issued_by: string
  created_at: string
  used_at: string | null
  revoked_at: string | null
  version?: string
}

export const KEYS_PATH = '/v1/api-keys'

/** Roles that the page offers: what an outside system needs, and no more. */
export const KEY_ROLES: Role[] = ['support_desk', 'analyst']

/** The sources that were entered, one a line. */
export function sourcesOf(text: string): string[] {
  return text.split('\n').map((line) => line.trim()).filter((line) => line !== '')
}

/** What a key may send, in words where it is not a list. */
export function sourcesText(key: Key): string {
  if (key.sources === null) return 'すべて（送信元の指定がない以前のキー）'
  return key.sources.length > 0 ? key.sources.join('\n') : 'なし（記録を送信できません）'
}
