import { uuid7 } from './uuid7'

export const SILENCE_MS_MAX = 30 * 60_000
const KEY = 'todoke.usage-session'

/** A stretch of use; 30 minutes in the background end it. Kept on the device, so a reload goes on with it. */
export interface UsageSession {
  session_id: string
  started_ms: number
  active_ms: number
  screens: number
}

export interface KeyValueStore {
  getItem(key: string): string | null
  setItem(key: string, value: string): void
  removeItem(key: string): void
}

export function readUsageSession(store: KeyValueStore): UsageSession | undefined {
  try {
    const text = store.getItem(KEY)
    return text ? (JSON.parse(text) as UsageSession) : undefined
  } catch {
    return undefined
  }
}

export function writeUsageSession(store: KeyValueStore, session: UsageSession | undefined): void {
  if (session) store.setItem(KEY, JSON.stringify(session))
  else store.removeItem(KEY)
}

/** Goes on with the known session, or tells which one ended and begins a new one. */
export function resume(known: UsageSession | undefined, nowMs: number): { current: UsageSession; ended?: UsageSession; isNew: boolean } {
  if (known && nowMs - known.active_ms < SILENCE_MS_MAX) {
    return { current: { ...known, active_ms: nowMs }, isNew: false }
  }
  const current: UsageSession = { session_id: uuid7(nowMs), started_ms: nowMs, active_ms: nowMs, screens: 0 }
  return known ? { current, ended: known, isNew: true } : { current, isNew: true }
}
