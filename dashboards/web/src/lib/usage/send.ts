import type { SendOutcome } from './outbox'

/** Longest wait that a server is believed. A timer of more than 24 days would fire at once. */
const RETRY_AFTER_MS_MAX = 3_600_000
const REFUSED_FOR_NOW = new Set([
  401, // not signed in yet
  403, // the terms in force are not accepted yet
  408, // the body came too slowly
  429, // the account's requests of this minute are used up
])

/** Hands a batch to the server and tells what becomes of its events. */
export async function sendUsage(body: string, url = '/v1/usage', now: () => number = () => Date.now()): Promise<SendOutcome> {
  try {
    const response = await fetch(url, { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body })
    if (response.ok) return 'taken'
    // Any other 4xx: these events will never be taken.
    if (!REFUSED_FOR_NOW.has(response.status) && response.status < 500) return 'refused'
    const retryAfterMs = readRetryAfter(response.headers.get('Retry-After'), now())
    return retryAfterMs === undefined ? 'retry' : { retryAfterMs }
  } catch {
    return 'retry'
  }
}

/** Seconds, or a date of HTTP; undefined for what is neither, and for what is past. */
export function readRetryAfter(value: string | null, nowMs: number): number | undefined {
  if (!value) return undefined
  const ms = /^\s*\d+\s*$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - nowMs
  return ms > 0 ? Math.min(ms, RETRY_AFTER_MS_MAX) : undefined
}
