import { onDestroy } from 'svelte'
import { ApiError, toApiError } from '$lib/api/problem'
import { live } from '$lib/realtime/live.svelte'
import type { Publication } from '$lib/realtime/feed'
import { onAttention } from './attention'
import { readSnapshot, saveSnapshot } from './snapshot'

interface Options<T> {
  /** Applies a live publication; returns true when the whole state should be fetched again instead. */
  onLive?: (publication: Publication, resource: Resource<T>) => boolean | void
  /** Key under which the last answer is kept for reading without a connection. */
  offlineKey?: string
  /** Keeps showing the old data while a changed question is being asked. */
  keep?: boolean
  /** Costly to ask: not asked again by itself when somebody comes back to the page. */
  steady?: boolean
}

/** State of the server as one screen sees it: fetched, then kept current by publications. */
export class Resource<T> {
  data = $state.raw<T | undefined>(undefined)
  error = $state.raw<ApiError | undefined>(undefined)
  loading = $state(true)
  /** Set when `data` comes from the device because the server was not reached. */
  savedAt = $state<number | undefined>(undefined)
  readonly #load: (signal: AbortSignal) => Promise<T>
  readonly #options: Options<T>
  #abort: AbortController | undefined

  constructor(load: (signal: AbortSignal) => Promise<T>, options: Options<T>) {
    this.#load = load
    this.#options = options
  }

  /** Asks the server. Reactive values that the loader reads before its first await make it run again. */
  run(quiet: boolean): void {
    this.#abort?.abort()
    const abort = (this.#abort = new AbortController())
    const pending = this.#load(abort.signal)
    if (!quiet) this.loading = true
    pending.then(
      (data) => {
        if (abort.signal.aborted) return
        this.data = data
        this.error = undefined
        this.savedAt = undefined
        this.loading = false
        if (this.#options.offlineKey) void saveSnapshot(this.#options.offlineKey, data)
      },
      (cause: unknown) => {
        if (abort.signal.aborted) return
        void this.#fail(toApiError(cause))
      },
    )
  }

  reload = (): void => this.run(this.data !== undefined)

  /** Replaces the data after a local change; undefined data stays. */
  update(change: (data: T) => T): void {
    if (this.data !== undefined) this.data = change(this.data)
  }

  stop(): void {
    this.#abort?.abort()
  }

  async #fail(error: ApiError): Promise<void> {
    const key = this.#options.offlineKey
    if (error.isNetwork && key && this.data === undefined) {
      const snapshot = await readSnapshot<T>(key)
      if (snapshot) {
        this.data = snapshot.value
        this.savedAt = snapshot.savedAt
        this.loading = false
        return
      }
    }
    this.loading = false
    // Data already shown stays; the connection bar tells that it may be old.
    if (!(error.isNetwork && this.data !== undefined)) this.error = error
  }
}

/** Creates a resource bound to the component that calls it. */
export function resource<T>(load: (signal: AbortSignal) => Promise<T>, options: Options<T> = {}): Resource<T> {
  const state = new Resource(load, options)
  let runs = 0
  $effect(() => {
    if (runs++ > 0 && !options.keep) state.data = undefined
    state.run(options.keep === true && runs > 1)
  })
  const stopGap = live.onGap(() => state.run(true))
  const stopLive = options.onLive
    ? live.onPublication((publication) => {
        if (options.onLive?.(publication, state)) state.run(true)
      })
    : () => undefined
  // What no publication tells of is asked again when somebody comes back to it.
  const stopAttention = options.onLive || options.steady ? () => undefined : onAttention(() => state.run(true))
  onDestroy(() => {
    stopGap()
    stopLive()
    stopAttention()
    state.stop()
  })
  return state
}
