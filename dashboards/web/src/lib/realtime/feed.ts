/** What a publication carries, whatever its channel. */
export interface Publication<D = Record<string, unknown>> {
  type: string
  subject: { kind: string; id: string; no?: string | null }
  state?: string | null
  at: string
  data: D
}

interface Position {
  epoch: string
  offset: number
}

/** What a (re)subscription means for the screens. */
export type Continuity = 'continues' | 'refetch'

/**
 * Keeps, per channel, how far it has been shown, so that a publication is shown once: the client library delivers
 * recovered and live publications, and around a reconnect the same one can come twice.
 */
export class Feed {
  readonly #positions = new Map<string, Position>()

  /** True when the publication is new. Offsets below 1 mean a channel without history: always new. */
  accept(channel: string, offset: number | undefined): boolean {
    if (!offset) return true
    const known = this.#positions.get(channel)
    if (known && offset <= known.offset) return false
    this.#positions.set(channel, { epoch: known?.epoch ?? '', offset })
    return true
  }

  /** Tells whether screens must ask the server again: at the first subscription, after a new epoch or a gap. */
  subscribed(channel: string, at: { epoch?: string; offset?: number; wasRecovering: boolean; recovered: boolean }): Continuity {
    const known = this.#positions.get(channel)
    const epoch = at.epoch ?? ''
    const continues = known !== undefined && at.wasRecovering && at.recovered && (known.epoch === '' || known.epoch === epoch)
    if (continues) {
      // The recovered publications follow this event, so the position must not jump ahead of them.
      this.#positions.set(channel, { epoch, offset: known.offset })
      return 'continues'
    }
    this.#positions.set(channel, { epoch, offset: at.offset ?? 0 })
    return 'refetch'
  }

  clear(): void {
    this.#positions.clear()
  }
}

/**
 * Puts a changed record into a list by its key: replaced in place, or added in front. `isNewer` decides when both
 * exist, so that a slow answer of the server never overwrites a newer publication.
 */
export function mergeByKey<T>(items: readonly T[], changed: T, keyOf: (item: T) => string, isNewer: (a: T, b: T) => boolean = () => true): T[] {
  const key = keyOf(changed)
  const index = items.findIndex((item) => keyOf(item) === key)
  if (index < 0) return [changed, ...items]
  const current = items[index] as T
  if (!isNewer(changed, current)) return [...items]
  return items.map((item, i) => (i === index ? changed : item))
}
