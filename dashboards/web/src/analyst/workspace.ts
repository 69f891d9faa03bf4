import { reportRoutes } from '../report/routes'
import { accountRoute, type Workspace } from '../staff/workspace'

const base = '/staff/analyst'

export const workspace: Workspace = {
  base,
  title: '分析',
  nav: [
    { href: base, text: 'SQLエディタ', icon: 'table' },
    { href: `${base}/reports`, text: '定型レポート', icon: 'chart' },
    { href: `${base}/data`, text: 'データ状況', icon: 'file' },
    { href: `${base}/account`, text: 'アカウント', icon: 'gear' },
  ],
  routes: [
    { pattern: base, screen: 'AN01', title: 'SQLエディタ', load: () => import('./SqlPage.svelte') },
    ...reportRoutes(base, 'AN03'),
    { pattern: `${base}/data`, screen: 'AN04', title: 'データ状況', load: () => import('./DataPage.svelte') },
    accountRoute(base),
  ],
}
