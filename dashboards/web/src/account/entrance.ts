import { here } from '$lib/router/location.svelte'
import { ownPath } from '$lib/router/match'
import type { Entrance } from '$lib/session/session.svelte'

/** The two entrances differ only in where their pages live and what they are called. */
export function entrancePaths(entrance: Entrance) {
  const base = entrance === 'staff' ? '/staff' : ''
  return { home: base || '/', login: `${base}/login`, reset: `${base}/password-reset` }
}

/** Where somebody goes on after signing in: to what was asked for, if it is a page of this entrance. */
export function nextPath(entrance: Entrance): string {
  const { home } = entrancePaths(entrance)
  const next = ownPath(here.query.get('next'), home)
  return next.startsWith('/staff') === (entrance === 'staff') ? next : home
}
