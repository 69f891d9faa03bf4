import type { Route } from '$lib/router/match'

/** Broadcast screens of a workspace: the operator and the city have the same. */
export const broadcastRoutes = (base: string, screen: string): Route[] => [
  { pattern: `${base}/broadcasts`, screen, title: '配信', load: () => import('./BroadcastsPage.svelte') },
  { pattern: `${base}/broadcasts/new`, screen, title: '配信の作成', load: () => import('./NewBroadcastPage.svelte') },
  { pattern: `${base}/broadcasts/:broadcastId`, screen, title: '配信', load: () => import('./BroadcastPage.svelte') },
]
