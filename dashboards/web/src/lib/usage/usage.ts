import { inStore, openDatabase } from '$lib/store/snapshot'
import { Outbox, type EventStore, type SendOutcome, type UsageEvent, type WaitingEvent } from './outbox'
import { sendUsage } from './send'
import { readUsageSession, resume, writeUsageSession, type UsageSession } from './usageSession'
import { uuid7 } from './uuid7'

const DEVICE_KEY = 'todoke.device-key'
const DEVICE_CONSENT = 'todoke.usage-consent'
/** The account that events of this device belong to, of all its pages: who signed in last and has not signed out. */
const OWNER = 'todoke.usage-owner'
const FLUSH_MS = 15_000

type EndReason = 'background_30min' | 'logout'
export type Action = 'application' | 'payment' | 'survey'

const storedEvents: EventStore = {
  put: async (event) => void (await inStore('usage', 'readwrite', (store) => store.put(event, event.event_id))),
  // Event ids are UUIDv7, so key order is time order.
  oldest: (n) => inStore('usage', 'readonly', (store) => store.getAll(undefined, n)) as Promise<WaitingEvent[]>,
  count: () => inStore('usage', 'readonly', (store) => store.count()),
  remove: async (ids) => {
    const store = (await openDatabase()).transaction('usage', 'readwrite').objectStore('usage')
    ids.forEach((id) => store.delete(id))
  },
  clear: async () => void (await inStore('usage', 'readwrite', (store) => store.clear())),
}

const post = (events: UsageEvent[]): Promise<SendOutcome> => sendUsage(bodyOf(events))

function bodyOf(events: UsageEvent[]): string {
  return JSON.stringify({ device_key: deviceKey(), events })
}

/** A random number for this device, as the lake keys things: positive and exact in JSON. */
function deviceKey(): number {
  const known = Number(localStorage.getItem(DEVICE_KEY))
  if (Number.isSafeInteger(known) && known > 0) return known
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2))
  const key = (high % 2 ** 21) * 2 ** 32 + low || 1
  localStorage.setItem(DEVICE_KEY, String(key))
  return key
}

/** The operating system as the browser tells it, no finer. */
function osVersion(): string {
  const known = /Android [\d.]+|OS [\d_]+|Windows NT [\d.]+|Mac OS X [\d_.]+/.exec(navigator.userAgent)
  return known ? known[0].replaceAll('_', '.') : 'unknown'
}

/** Records how the app is used, only with the person's consent `usage_analytics`; before it nothing is even kept. */
class Usage {
  readonly #outbox = new Outbox(storedEvents, post, () => this.#sender())
  #enabled = false
  /** Who is known to be signed in on this page. */
  #account: string | undefined
  #platform: 'web' | 'dashboard' = 'web'
  #session: UsageSession | undefined
  #screen: { id: string; since: number; previous: string | undefined } | undefined
  #listening = false

  /** Consent given on this device before login: 'granted', 'denied', or undefined when not yet asked. */
  get deviceConsent(): string | undefined {
    return localStorage.getItem(DEVICE_CONSENT) ?? undefined
  }

  setDeviceConsent(granted: boolean): void {
    localStorage.setItem(DEVICE_CONSENT, granted ? 'granted' : 'denied')
    void this.setEnabled(granted)
  }

  /** At page start: the device's consent holds until somebody signs in. */
  start(): void {
    if (this.deviceConsent === 'granted') void this.setEnabled(true)
  }

  /** Somebody is signed in. What happened before anybody was becomes theirs; what is another one's does not. */
  begin(accountId: string): void {
    const before = localStorage.getItem(OWNER)
    if (before !== null && before !== accountId) {
      this.#session = undefined
      this.#screen = undefined
      writeUsageSession(localStorage, undefined)
    }
    localStorage.setItem(OWNER, accountId)
    this.#account = accountId
  }

  /** The session is over without a sign-out: what waits is sent when the same person is back. */
  suspend(): void {
    this.#account = undefined
  }

  /** Somebody has signed out: what happens from now on is not theirs. */
  release(): void {
    this.#account = undefined
    localStorage.removeItem(OWNER)
  }

  /** From login on, the person's own consent decides. */
  async signedIn(isGuardian: boolean): Promise<void> {
    this.#platform = isGuardian ? 'web' : 'dashboard'
    try {
      const response = await fetch('/v1/me/consents', { headers: { Accept: 'application/json' } })
      if (!response.ok) return void (await this.setEnabled(false))
      const { items } = (await response.json()) as { items: { kind: string; granted: boolean }[] }
      await this.setEnabled(items.some((consent) => consent.kind === 'usage_analytics' && consent.granted))
    } catch {
      // Without an answer nothing is recorded; the next start asks again.
      this.#enabled = false
    }
  }

  async setEnabled(enabled: boolean): Promise<void> {
    if (this.#enabled === enabled) {
      if (!enabled) return
      this.#resume()
      // Events that waited for the sign-in need not wait any longer.
      void this.#outbox.flushNow()
      return
    }
    this.#enabled = enabled
    if (!enabled) {
      this.#session = undefined
      writeUsageSession(localStorage, undefined)
      await this.#outbox.clear()
      return
    }
    this.#listen()
    // Asked before the key is made: a device without one opens the app for the first time.
    const isNewDevice = localStorage.getItem(DEVICE_KEY) === null
    deviceKey()
    if (isNewDevice) this.#record('app.first_opened', { platform: this.#platform, app_version: __APP_VERSION__ })
    this.#resume()
    void this.#outbox.flush()
  }

  screen(id: string): void {
    const previous = this.#closeScreen()
    this.#screen = { id, since: Date.now(), previous }
  }

  action(action: Action, sinceMs: number): void {
    this.#recordInSession('app.action_completed', { action, duration_ms: Math.round(Date.now() - sinceMs) })
  }

  /** A call of the API failed; 401 is no fault of the app. */
  failure(status: number): void {
    if (status === 401) return
    const error_kind = status === 0 ? 'network' : status >= 500 ? 'http_5xx' : 'http_4xx'
    this.#recordInSession('app.error_occurred', { screen_id: this.#screen?.id ?? null, error_kind, code: String(status), fatal: false })
  }

  async end(reason: EndReason): Promise<void> {
    if (!this.#session) return
    this.#closeScreen()
    this.#recordEnd(this.#session, reason)
    this.#session = undefined
    writeUsageSession(localStorage, undefined)
    await this.#outbox.flushNow()
  }

  /** Another page of this browser may have another person's session by now; the cookie is theirs then. */
  #sender(): string | undefined {
    return this.#account !== undefined && this.#account === localStorage.getItem(OWNER) ? this.#account : undefined
  }

  #resume(): void {
    if (!this.#enabled) return
    const { current, ended, isNew } = resume(this.#session ?? readUsageSession(localStorage), Date.now())
    if (ended) this.#recordEnd(ended, 'background_30min')
    this.#session = current
    writeUsageSession(localStorage, current)
    if (!isNew) return
    const entry = new URLSearchParams(location.search).get('from') === 'icon' ? 'icon' : 'link'
    this.#recordInSession('app.session_started', { platform: this.#platform, os_version: osVersion(), app_version: __APP_VERSION__, entry })
  }

  #recordEnd(session: UsageSession, reason: EndReason): void {
    this.#record(
      'app.session_ended',
      { session_id: session.session_id, duration_ms: Math.max(0, session.active_ms - session.started_ms), screens: session.screens, end_reason: reason },
      session.active_ms,
    )
  }

  #closeScreen(): string | undefined {
    const screen = this.#screen
    this.#screen = undefined
    if (!screen) return undefined
    if (this.#session) this.#session.screens += 1
    this.#recordInSession('app.screen_viewed', {
      screen_id: screen.id, previous_screen_id: screen.previous ?? null, dwell_ms: Date.now() - screen.since,
    })
    return screen.id
  }

  #recordInSession(type: string, fields: Record<string, unknown>): void {
    if (!this.#enabled || !this.#session) return
    this.#session.active_ms = Date.now()
    writeUsageSession(localStorage, this.#session)
    this.#record(type, { session_id: this.#session.session_id, ...fields })
  }

  #record(event_type: string, fields: Record<string, unknown>, atMs: number = Date.now()): void {
    if (!this.#enabled) return
    // An id carries its event's time: a session that is found abandoned ended days ago.
    void this.#outbox.add({
      event_id: uuid7(atMs), event_type, occurred_at: new Date(atMs).toISOString(), ...fields,
      owner: this.#account ?? localStorage.getItem(OWNER),
    })
  }

  #listen(): void {
    if (this.#listening) return
    this.#listening = true
    setInterval(() => void this.#outbox.flush(), FLUSH_MS)
    window.addEventListener('online', () => void this.#outbox.flushNow())
    window.addEventListener('error', () => {
      this.#recordInSession('app.error_occurred', { screen_id: this.#screen?.id ?? null, error_kind: 'script', code: null, fatal: false })
    })
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#resume()
      else this.#touch()
    })
    window.addEventListener('pagehide', () => this.#beacon())
  }

  #touch(): void {
    if (!this.#session) return
    this.#session.active_ms = Date.now()
    writeUsageSession(localStorage, this.#session)
  }

  #beacon(): void {
    if (!this.#enabled) return
    const screen = this.#screen
    this.#closeScreen()
    this.#touch()
    const batch = this.#outbox.beaconBatch()
    if (batch.length > 0) navigator.sendBeacon('/v1/usage', new Blob([bodyOf(batch)], { type: 'text/plain' }))
    // The page may come back from the browser's cache: the visit of the screen goes on as a new one.
    if (screen) this.#screen = { id: screen.id, since: Date.now(), previous: screen.previous }
  }
}

export const usage = new Usage()
