import { accountRoute, inboxRoute, type Workspace } from '../staff/workspace'

const base = '/staff/statistics'

export const workspace: Workspace = {
  base,
  title: '統計参照',
  nav: [
    { href: base, text: '統計参照', icon: 'chart' },
    { href: `${base}/inbox`, text: '受信箱', icon: 'inbox', badge: 'unread' },
    { href: `${base}/account`, text: '自分のアカウント', icon: 'key' },
  ],
  routes: [
    { pattern: base, screen: 'CT10', title: '統計参照', load: () => import('./StatisticsPage.svelte') },
    inboxRoute(base),
    accountRoute(base),
  ],
}
