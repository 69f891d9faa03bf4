import type { Entrance } from '$lib/session/session.svelte'

/** The two entrances differ only in where their pages live and what they are called. */
export function entrancePaths(entrance: Entrance) {
  const base = entrance === 'staff' ? '/staff' : ''
  return { home: base || '/', login: `${base}/login`, reset: `${base}/password-reset` }
}
