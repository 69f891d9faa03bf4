import { claimRoutes } from '../claim/routes'
import { reportRoutes } from '../report/routes'
import { accountRoute, inboxRoute, type Workspace } from '../staff/workspace'

const base = '/staff/facility'

export const workspace: Workspace = {
  base,
  title: '事業所',
  nav: [
    { href: base, text: '本日', icon: 'clock' },
    { href: `${base}/take`, text: 'クーポン受付', icon: 'pay' },
    { href: `${base}/uses`, text: '月別の利用', icon: 'table' },
    { href: `${base}/claims`, text: '請求', icon: 'file', allowed: (account) => account.role === 'facility_manager' },
    { href: `${base}/reports`, text: '請求の集計', icon: 'chart', allowed: (account) => account.role === 'facility_manager' },
    { href: `${base}/qr`, text: '二次元コード表示', icon: 'ticket' },
    { href: `${base}/inbox`, text: '受信箱', icon: 'inbox', badge: 'unread' },
    { href: `${base}/members`, text: '職員管理', icon: 'people', allowed: (account) => account.role === 'facility_manager' },
    { href: `${base}/account`, text: 'アカウント', icon: 'gear' },
  ],
  routes: [
    { pattern: base, screen: 'FD01', title: '本日', load: () => import('./TodayPage.svelte') },
    { pattern: `${base}/take`, screen: 'FD12', title: 'クーポン受付', load: () => import('./TakePage.svelte') },
    { pattern: `${base}/uses`, screen: 'FD12', title: '月別の利用', load: () => import('./UsesPage.svelte') },
    { pattern: `${base}/qr`, screen: 'FD03', title: '二次元コード表示', load: () => import('./QrPage.svelte') },
    { pattern: `${base}/members`, screen: 'FM02', title: '職員管理', load: () => import('./MembersPage.svelte') },
    ...claimRoutes(base, 'FM04'),
    ...reportRoutes(base, 'FM04'),
    inboxRoute(base),
    accountRoute(base),
  ],
}
