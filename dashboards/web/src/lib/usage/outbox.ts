/** One app event, as `POST /v1/usage` takes it. */
export interface UsageEvent {
  event_id: string
  event_type: string
  occurred_at: string
  [field: string]: unknown
}

/** An event on the device, with the account it belongs to; null before anybody has signed in. */
export interface WaitingEvent extends UsageEvent {
  owner: string | null
}

/** Where events wait; the real one is IndexedDB. */
export interface EventStore {
  put(event: WaitingEvent): Promise<void>
  oldest(n: number): Promise<WaitingEvent[]>
  count(): Promise<number>
  remove(ids: string[]): Promise<void>
  clear(): Promise<void>
}

/** The server asks to be left alone for that long; what was sent waits. */
export interface RetryAfter {
  retryAfterMs: number
}

export type SendOutcome = 'taken' | 'retry' | 'refused' | RetryAfter

/** What the outbox takes from its surroundings besides store and server. */
export interface Clockwork {
  now: () => number
  schedule: (run: () => void, ms: number) => void
}

const BATCH_MAX = 200
const BEACON_BYTES_MAX = 60_000
const BACKOFF_MS_MIN = 2_000
const BACKOFF_MS_MAX = 300_000
/** Events that wait, at most: some weeks without a connection, about a megabyte. */
export const WAITING_MAX = 5_000
/** The server refuses what is older (docs/ingest.md, `too_old`). */
export const AGE_MS_MAX = 35 * 86_400_000

const pageClock: Clockwork = { now: () => Date.now(), schedule: (run, ms) => void setTimeout(run, ms) }

/**
 * Events wait here until the server has answered for them. They are removed only after its answer, so a lost answer
 * means sending again; the server knows the event ids and counts none twice. What is too old for the server, and the
 * oldest of what is more than a device should keep, is forgotten.
 *
 * The server takes what a session sends for that person's own. So an event leaves the device only under the account it
 * belongs to; what belongs to another one is forgotten when the events of the present one are sent.
 */
export class Outbox {
  readonly #store: EventStore
  readonly #send: (events: UsageEvent[]) => Promise<SendOutcome>
  readonly #account: () => string | undefined
  readonly #clock: Clockwork
  #failures = 0
  #flushing = false
  /** The next try, while one is planned. */
  #planned: { byServer: boolean } | undefined
  #addedSinceTrim = 0
  /** Mirror of what waits, since a page that is closing cannot wait for IndexedDB. */
  #waiting = new Map<string, WaitingEvent>()

  /** `account` tells whose session events would be sent with now; nothing leaves while it is undefined. */
  constructor(
    store: EventStore,
    send: (events: UsageEvent[]) => Promise<SendOutcome>,
    account: () => string | undefined,
    clock: Clockwork = pageClock,
  ) {
    this.#store = store
    this.#send = send
    this.#account = account
    this.#clock = clock
  }

  async add(event: WaitingEvent): Promise<void> {
    this.#waiting.set(event.event_id, event)
    for (const oldest of this.#waiting.keys()) {
      if (this.#waiting.size <= WAITING_MAX) break
      this.#waiting.delete(oldest)
    }
    await this.#store.put(event).catch(() => undefined)
    this.#addedSinceTrim += 1
    if (this.#addedSinceTrim >= BATCH_MAX) await this.#trim()
  }

  /** Sends what waits, batch after batch, unless a later try is planned; plans one when the server did not take it. */
  async flush(): Promise<void> {
    if (this.#flushing || this.#planned) return
    this.#flushing = true
    try {
      await this.#trim()
      for (;;) {
        const batch = await this.#batch()
        // Asked last: somebody may have signed in or out while the batch was read.
        const account = this.#account()
        if (batch.length === 0 || account === undefined) return
        const own = eventsOf(batch, account)
        if (own.length > 0) {
          const outcome = await this.#send(own)
          if (outcome !== 'taken' && outcome !== 'refused') {
            this.#retryLater(outcome)
            return
          }
          this.#failures = 0
        }
        const isForgotten = await this.#forget(batch)
        if (!isForgotten && own.length === 0) return
      }
    } finally {
      this.#flushing = false
    }
  }

  /** The connection is back, or somebody signed in or is leaving: ends a wait, but not one the server asked for. */
  async flushNow(): Promise<void> {
    if (this.#planned && !this.#planned.byServer) this.#planned = undefined
    await this.flush()
  }

  /** What fits into one beacon, newest kept for last: nothing is removed, as a beacon has no answer. */
  beaconBatch(): UsageEvent[] {
    // The server has no room now. What waits is in the store and goes out with the next start of the page.
    const account = this.#account()
    if (this.#planned?.byServer || account === undefined) return []
    const batch: UsageEvent[] = []
    let bytes = 0
    for (const event of eventsOf([...this.#waiting.values()], account)) {
      bytes += JSON.stringify(event).length + 1
      if (bytes > BEACON_BYTES_MAX) break
      batch.push(event)
    }
    return batch
  }

  async clear(): Promise<void> {
    this.#waiting.clear()
    await this.#store.clear().catch(() => undefined)
  }

  /** Forgets what is too many and what the server would refuse as too old. */
  async #trim(): Promise<void> {
    this.#addedSinceTrim = 0
    const tooMany = (await this.#store.count().catch(() => 0)) - WAITING_MAX
    if (tooMany > 0) await this.#forget(await this.#store.oldest(tooMany).catch(() => []))
    const eldest = this.#clock.now() - AGE_MS_MAX
    const isStale = (event: UsageEvent) => Date.parse(event.occurred_at) < eldest
    await this.#forget([...this.#waiting.values()].filter(isStale))
    for (;;) {
      const oldest = await this.#store.oldest(BATCH_MAX).catch(() => [])
      const stale = oldest.filter(isStale)
      const isForgotten = await this.#forget(stale)
      if (stale.length < BATCH_MAX || !isForgotten) return
    }
  }

  async #batch(): Promise<WaitingEvent[]> {
    const stored = await this.#store.oldest(BATCH_MAX).catch(() => undefined)
    return stored && stored.length > 0 ? stored : [...this.#waiting.values()].slice(0, BATCH_MAX)
  }

  async #forget(batch: UsageEvent[]): Promise<boolean> {
    const ids = batch.map((event) => event.event_id)
    ids.forEach((id) => this.#waiting.delete(id))
    if (ids.length === 0) return true
    return this.#store.remove(ids).then(() => true, () => false)
  }

  #retryLater(outcome: 'retry' | RetryAfter): void {
    const asked = outcome === 'retry' ? 0 : outcome.retryAfterMs
    const ms = Math.max(asked, Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.#failures))
    this.#failures += 1
    const planned = { byServer: asked > 0 }
    this.#planned = planned
    this.#clock.schedule(() => {
      // Another try came before this one: then its own plan holds.
      if (this.#planned !== planned) return
      this.#planned = undefined
      void this.flush()
    }, ms)
  }
}

/** Those that are the account's or were nobody's yet, as the server takes them. */
function eventsOf(waiting: WaitingEvent[], account: string): UsageEvent[] {
  return waiting.filter(({ owner }) => owner === null || owner === account).map(({ owner: _, ...event }) => event)
}
