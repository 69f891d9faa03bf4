import { api } from '$lib/api/client'
import { here } from '$lib/router/location.svelte'

/**
 * A mailed link leads to its screen with the message in the address. Programs that look through mails follow it too; that
 * somebody with a session is here is what says it was read. The server leaves another person's message as it is.
 */
export function readMailed(): void {
  const id = here.query.get('mailed')
  if (!id) return
  here.setQuery({ mailed: undefined })
  void api.post(`/v1/inbox/${encodeURIComponent(id)}/read`).catch(() => undefined)
}
