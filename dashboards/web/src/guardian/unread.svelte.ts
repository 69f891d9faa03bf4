import { api } from '$lib/api/client'
import type { Message } from '$lib/api/types'
import { announcer } from '$lib/realtime/announcer.svelte'
import type { Publication } from '$lib/realtime/feed'
import { live } from '$lib/realtime/live.svelte'
import { ownPath } from '$lib/router/match'

/** What the guardian channel carries beside the envelope. */
export interface GuardianData {
  message?: Message
  coupon?: { coupon_id: string; child_id: string; balance_yen: number; state: string; ledger_seq: number; suspended?: boolean }
  application?: { application_id: string; state: string; state_label?: string }
  unread?: number
  title?: string
  body?: string
}

export type GuardianPublication = Publication<GuardianData>

/** Number of unread messages, kept by publications; a new message slides in wherever the person is. */
class Unread {
  n = $state(0)

  /** Follows the socket until the returned function is called. */
  follow(): () => void {
    const stopLive = live.onPublication((publication) => this.#take(publication as unknown as GuardianPublication))
    const stopGap = live.onGap(() => void this.refresh())
    return () => {
      stopLive()
      stopGap()
    }
  }

  async refresh(): Promise<void> {
    try {
      this.n = (await api.get<{ unread: number }>('/v1/inbox', { query: { unread: 1 } })).unread
    } catch {
      // The number stays as it was; the next publication or reconnect corrects it.
    }
  }

  #take(publication: GuardianPublication): void {
    const { message, unread, title, body } = publication.data ?? {}
    if (unread !== undefined) this.n = unread
    // Some news (a refused payment) is told live only and has no place in the inbox.
    if (!message && title) announcer.show({ title, ...(body ? { body } : {}), tone: 'info' })
    if (!message) return
    if (unread === undefined && !message.read_at) this.n += 1
    // The note below is on the screen only where somebody can see the page.
    void live.acknowledge(document.visibilityState === 'visible' ? 'message.displayed' : 'message.delivered', { message_id: message.message_id })
    announcer.show({ title: message.title, body: message.body, link: ownPath(message.link, '/inbox'), tone: 'info' })
  }
}

export const unread = new Unread()
