import type { Route } from '$lib/router/match'

/** Applications and coupons: the operator decides and corrects, the city looks on and corrects coupons. */
export const registerRoutes = (base: string, screens: { queue: string; review: string; coupons: string }): Route[] => [
  { pattern: `${base}/applications`, screen: screens.queue, title: '受付キュー', load: () => import('./QueuePage.svelte') },
  { pattern: `${base}/applications/:applicationId`, screen: screens.review, title: '申請審査', load: () => import('./ReviewPage.svelte') },
  { pattern: `${base}/requests`, screen: 'CT07', title: '取消・停止依頼', load: () => import('./RequestsPage.svelte') },
  { pattern: `${base}/coupons`, screen: screens.coupons, title: 'クーポン管理', load: () => import('./CouponsPage.svelte') },
]
