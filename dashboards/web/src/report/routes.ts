import type { Route } from '$lib/router/match'

/** Report screens of a workspace. */
export const reportRoutes = (base: string, screen: string): Route[] => [
  { pattern: `${base}/reports`, screen, title: '統計', load: () => import('./ReportsPage.svelte') },
]
