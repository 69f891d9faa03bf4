import type { Route } from '$lib/router/match'

/** The claims screen of a workspace: facility, operator and city see the same claims and do different things with them. */
export const claimRoutes = (base: string, screen: string): Route[] => [{ pattern: `${base}/claims`, screen, title: '請求', load: () => import('./ClaimsPage.svelte') }]
