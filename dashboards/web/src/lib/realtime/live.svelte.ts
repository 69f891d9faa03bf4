import { Centrifuge, UnauthorizedError } from 'centrifuge'
import { api } from '$lib/api/client'
import { ApiError } from '$lib/api/problem'
import { Feed, type Publication } from './feed'

/** Older than this without a connection, shown data is marked as no longer updating. */
const STALE_AFTER_MS = 60_000

export type Connection = 'off' | 'connecting' | 'connected' | 'reconnecting'
export type AckMethod = 'message.delivered' | 'message.displayed' | 'message.opened' | 'message.acknowledged'
/** Code of a disconnect that this page asked for; any other one is final by the server's will. */
const CLOSED_BY_US = 0
type PublicationHandler = (publication: Publication, channel: string) => void

/** The socket of the signed-in person. Screens listen; they never open sockets of their own. */
class Live {
  connection = $state<Connection>('off')
  /** No connection for more than a minute. */
  stale = $state(false)
  /** The server ended the connection for good: the session may be over. */
  onEnded: () => void = () => undefined
  #client: Centrifuge | undefined
  #feed = new Feed()
  #handlers = new Set<PublicationHandler>()
  #gapHandlers = new Set<() => void>()
  #staleTimer: ReturnType<typeof setTimeout> | undefined
  #gapQueued = false

  start(): void {
    if (this.#client) return
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws'
    const client = new Centrifuge(`${scheme}://${location.host}/connection/websocket`, {
      name: 'todoke-web',
      version: __APP_VERSION__,
      getToken: fetchToken,
      minReconnectDelay: 300,
      maxReconnectDelay: 8_000,
    })
    client.on('connecting', () => this.#lost())
    client.on('connected', () => this.#found())
    client.on('disconnected', (context) => {
      this.#lost()
      if (context.code !== CLOSED_BY_US) this.onEnded()
    })
    client.on('subscribed', (context) => {
      const position = context.streamPosition
      const continuity = this.#feed.subscribed(context.channel, {
        ...(position ? { epoch: position.epoch, offset: position.offset } : {}),
        wasRecovering: context.wasRecovering,
        recovered: context.recovered,
      })
      if (continuity === 'refetch') this.#announceGap()
    })
    client.on('publication', (context) => {
      if (!this.#feed.accept(context.channel, context.offset)) return
      for (const handler of this.#handlers) handler(context.data as Publication, context.channel)
    })
    this.#client = client
    client.connect()
  }

  stop(): void {
    this.#client?.disconnect()
    this.#client?.removeAllListeners()
    this.#client = undefined
    this.#feed.clear()
    this.connection = 'off'
    this.stale = false
    clearTimeout(this.#staleTimer)
    this.#staleTimer = undefined
  }

  /** Calls `handler` for each new publication. Returns the way to stop. */
  onPublication(handler: PublicationHandler): () => void {
    this.#handlers.add(handler)
    return () => this.#handlers.delete(handler)
  }

  /** Calls `handler` when something may have been missed and shown state must be fetched again. */
  onGap(handler: () => void): () => void {
    this.#gapHandlers.add(handler)
    return () => this.#gapHandlers.delete(handler)
  }

  /** Tells the server what happened to a message. Lost acknowledgements are harmless: reading is also recorded over HTTP. */
  async acknowledge(method: AckMethod, subject: { message_id: string } | { cause_event_id: string }): Promise<void> {
    await this.#client?.rpc(method, subject).catch(() => undefined)
  }

  #found(): void {
    this.connection = 'connected'
    this.stale = false
    clearTimeout(this.#staleTimer)
    this.#staleTimer = undefined
  }

  #lost(): void {
    this.connection = this.connection === 'off' || this.connection === 'connecting' ? 'connecting' : 'reconnecting'
    this.#staleTimer ??= setTimeout(() => (this.stale = true), STALE_AFTER_MS)
  }

  // Several channels subscribe in one go; one refetch serves them all.
  #announceGap(): void {
    if (this.#gapQueued) return
    this.#gapQueued = true
    queueMicrotask(() => {
      this.#gapQueued = false
      for (const handler of this.#gapHandlers) handler()
    })
  }
}

async function fetchToken(): Promise<string> {
  try {
    return (await api.post<{ token: string }>('/v1/realtime/token')).token
  } catch (error) {
    // The session is over: stop instead of asking for ever.
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) throw new UnauthorizedError(error.text)
    throw error
  }
}

export const live = new Live()
