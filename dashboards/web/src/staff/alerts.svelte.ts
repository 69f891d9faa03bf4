import { api } from '$lib/api/client'
import { announcer } from '$lib/realtime/announcer.svelte'
import { live } from '$lib/realtime/live.svelte'

interface StaffData {
  title?: string
  body?: string
  cause_event_id?: string
  unread?: number
}

/** What staff hear of in whatever screen they are: a short note, and the number of unread messages. */
class Alerts {
  unread = $state(0)

  follow(): () => void {
    void this.refresh()
    const stopLive = live.onPublication((publication) => {
      const data = (publication.data ?? {}) as StaffData
      if (data.unread !== undefined) this.unread = data.unread
      if (data.cause_event_id) void live.acknowledge('message.delivered', { cause_event_id: data.cause_event_id })
      if (!data.title) return
      announcer.show({ title: data.title, ...(data.body ? { body: data.body } : {}), tone: 'info' })
      if (data.unread === undefined) void this.refresh()
    })
    const stopGap = live.onGap(() => void this.refresh())
    return () => {
      stopLive()
      stopGap()
    }
  }

  async refresh(): Promise<void> {
    try {
      this.unread = (await api.get<{ unread: number }>('/v1/inbox', { query: { unread: 1 } })).unread
    } catch {
      // The number stays; the next publication or reconnect corrects it.
    }
  }
}

export const alerts = new Alerts()
