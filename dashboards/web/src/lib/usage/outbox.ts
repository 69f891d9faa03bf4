/** One app event, as `POST /v1/usage` takes it. */
export interface UsageEvent {
  event_id: string
  event_type: string
  occurred_at: string
  [field: string]: unknown
}

/** Where events wait; the real one is IndexedDB. */
export interface EventStore {
  put(event: UsageEvent): Promise<void>
  oldest(n: number): Promise<UsageEvent[]>
  remove(ids: string[]): Promise<void>
  clear(): Promise<void>
}

export type SendOutcome = 'taken' | 'retry' | 'refused'

const BATCH_MAX = 200
const BEACON_BYTES_MAX = 60_000
const BACKOFF_MS_MIN = 2_000
const BACKOFF_MS_MAX = 300_000

/**
 * Events wait here until the server has answered for them. They are removed only after its answer, so a lost answer
 * means sending again; the server knows the event ids and counts none twice.
 */
export class Outbox {
  readonly #store: EventStore
  readonly #send: (events: UsageEvent[]) => Promise<SendOutcome>
  readonly #schedule: (run: () => void, ms: number) => void
  #failures = 0
  #flushing = false
  #scheduled = false
  /** Mirror of what waits, since a page that is closing cannot wait for IndexedDB. */
  #waiting = new Map<string, UsageEvent>()

  constructor(
    store: EventStore,
    send: (events: UsageEvent[]) => Promise<SendOutcome>,
    schedule: (run: () => void, ms: number) => void = (run, ms) => void setTimeout(run, ms),
  ) {
    this.#store = store
    this.#send = send
    this.#schedule = schedule
  }

  async add(event: UsageEvent): Promise<void> {
    this.#waiting.set(event.event_id, event)
    await this.#store.put(event).catch(() => undefined)
  }

  /** Sends what waits, batch after batch; plans the next try when the server did not take it. */
  async flush(): Promise<void> {
    if (this.#flushing) return
    this.#flushing = true
    try {
      for (;;) {
        const batch = await this.#batch()
        if (batch.length === 0) return
        const outcome = await this.#send(batch)
        if (outcome === 'retry') {
          this.#retryLater()
          return
        }
        this.#failures = 0
        await this.#forget(batch)
      }
    } finally {
      this.#flushing = false
    }
  }

  /** What fits into one beacon, newest kept for last: nothing is removed, as a beacon has no answer. */
  beaconBatch(): UsageEvent[] {
    const batch: UsageEvent[] = []
    let bytes = 0
    for (const event of this.#waiting.values()) {
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

  async #batch(): Promise<UsageEvent[]> {
    const stored = await this.#store.oldest(BATCH_MAX).catch(() => undefined)
    return stored && stored.length > 0 ? stored : [...this.#waiting.values()].slice(0, BATCH_MAX)
  }

  async #forget(batch: UsageEvent[]): Promise<void> {
    const ids = batch.map((event) => event.event_id)
    ids.forEach((id) => this.#waiting.delete(id))
    await this.#store.remove(ids).catch(() => undefined)
  }

  #retryLater(): void {
    const ms = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.#failures)
    this.#failures += 1
    if (this.#scheduled) return
    this.#scheduled = true
    this.#schedule(() => {
      this.#scheduled = false
      void this.flush()
    }, ms)
  }
}
