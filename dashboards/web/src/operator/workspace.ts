import { accountRoute, inboxRoute, type Workspace } from '../staff/workspace'
import { registerRoutes } from '../register/routes'
import { surveyRoutes } from '../survey/routes'
import { claimRoutes } from '../claim/routes'
import { broadcastRoutes } from '../broadcast/routes'
import { reportRoutes } from '../report/routes'

const base = '/staff/operator'

export const workspace: Workspace = {
  base,
  title: '運営事業者',
  nav: [
    { href: base, text: '受付キュー', icon: 'inbox' },
    { href: `${base}/matching`, text: '同定エラー', icon: 'alert' },
    { href: `${base}/solicitations`, text: '申請勧奨', icon: 'send' },
    { href: `${base}/letters`, text: '通知書の印刷', icon: 'print', allowed: (account) => account.role === 'operator' },
    { href: `${base}/coupons`, text: 'クーポン管理', icon: 'ticket' },
    { href: `${base}/requests`, text: '市からの依頼', icon: 'alert' },
    { href: `${base}/claims`, text: '請求', icon: 'file', allowed: (account) => account.role === 'operator' },
    { href: `${base}/coupon-sets`, text: 'クーポンセット', icon: 'file' },
    { href: `${base}/imports`, text: '取込み', icon: 'upload' },
    { href: `${base}/surveys`, text: 'アンケート', icon: 'survey' },
    { href: `${base}/broadcasts`, text: '配信', icon: 'send' },
    { href: `${base}/notices`, text: 'お知らせ配信', icon: 'bell' },
    { href: `${base}/deliveries`, text: '配信状況', icon: 'send' },
    { href: `${base}/reports`, text: '統計', icon: 'chart' },
    { href: `${base}/data`, text: 'データ状況', icon: 'file' },
    { href: `${base}/inbox`, text: '受信箱', icon: 'bell', badge: 'unread' },
    { href: `${base}/account`, text: 'アカウント', icon: 'gear' },
  ],
  routes: [
    { pattern: base, screen: 'OC01', title: '受付キュー', load: () => import('../register/QueuePage.svelte') },
    { pattern: `${base}/paper`, screen: 'OC01', title: '紙の申請の登録', load: () => import('./PaperPage.svelte') },
    { pattern: `${base}/matching`, screen: 'OC03', title: '同定エラー', load: () => import('./MatchingPage.svelte') },
    { pattern: `${base}/solicitations`, screen: 'OC04', title: '申請勧奨', load: () => import('./SolicitationsPage.svelte') },
    { pattern: `${base}/letters`, screen: 'OC04', title: '通知書の印刷', load: () => import('./LettersPage.svelte') },
    { pattern: `${base}/coupon-sets`, screen: 'OC06', title: 'クーポンセット', load: () => import('./CouponSetsPage.svelte') },
    { pattern: `${base}/imports`, screen: 'OC07', title: '取込み', load: () => import('./ImportsPage.svelte') },
    { pattern: `${base}/notices`, screen: 'OC10', title: 'お知らせ配信', load: () => import('./NoticesPage.svelte') },
    { pattern: `${base}/deliveries`, screen: 'OC11', title: '配信状況', load: () => import('./DeliveriesPage.svelte') },
    { pattern: `${base}/data`, screen: 'AN04', title: 'データ状況', load: () => import('./DataPage.svelte') },
    ...registerRoutes(base, { queue: 'OC01', review: 'OC02', coupons: 'OC05' }),
    ...claimRoutes(base, 'OC08'),
    ...surveyRoutes(base, 'OC09'),
    ...broadcastRoutes(base, 'OC10'),
    ...reportRoutes(base, 'OC12'),
    inboxRoute(base),
    accountRoute(base),
  ],
}
