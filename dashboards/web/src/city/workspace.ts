import type { Account } from '$lib/api/types'
import { claimRoutes } from '../claim/routes'
import { reportRoutes } from '../report/routes'
import { registerRoutes } from '../register/routes'
import { accountRoute, inboxRoute, type Workspace } from '../staff/workspace'
import { surveyRoutes } from '../survey/routes'
import { broadcastRoutes } from '../broadcast/routes'

const base = '/staff/city'
const isAdmin = (account: Account) => account.role === 'municipal_admin' || account.role === 'municipal_staff'

export const workspace: Workspace = {
  base,
  title: '市区町村',
  nav: [
    { href: base, text: 'ボード', icon: 'home' },
    { href: `${base}/reports`, text: '統計・KPI', icon: 'chart' },
    { href: `${base}/surveys`, text: 'アンケート', icon: 'survey' },
    { href: `${base}/broadcasts`, text: '配信', icon: 'send', allowed: isAdmin },
    { href: `${base}/applications`, text: '申請', icon: 'file' },
    { href: `${base}/coupons`, text: 'クーポン', icon: 'ticket', allowed: isAdmin },
    { href: `${base}/claims`, text: '請求', icon: 'pay', allowed: (account) => isAdmin(account) || account.role === 'app_section' },
    { href: `${base}/requests`, text: '取消・停止依頼', icon: 'send' },
    { href: `${base}/parameters`, text: 'パラメータ', icon: 'gear', allowed: isAdmin },
    { href: `${base}/accounts`, text: 'アカウント管理', icon: 'people', allowed: isAdmin },
    { href: `${base}/api-keys`, text: 'APIキー', icon: 'key', allowed: isAdmin },
    { href: `${base}/inbox`, text: '受信箱', icon: 'inbox', badge: 'unread' },
    { href: `${base}/account`, text: '自分のアカウント', icon: 'key' },
  ],
  routes: [
    { pattern: base, screen: 'CT01', title: 'ボード', load: () => import('./BoardPage.svelte') },
    { pattern: `${base}/parameters`, screen: 'CT05', title: 'パラメータ', load: () => import('./ParametersPage.svelte') },
    { pattern: `${base}/accounts`, screen: 'CT05', title: 'アカウント管理', load: () => import('./AccountsPage.svelte') },
    { pattern: `${base}/api-keys`, screen: 'CT05', title: 'APIキー', load: () => import('./KeysPage.svelte') },
    ...registerRoutes(base, { queue: 'CT01', review: 'CT01', coupons: 'CT07' }),
    ...claimRoutes(base, 'CT06'),
    ...surveyRoutes(base, 'CT08'),
    ...broadcastRoutes(base, 'CT08'),
    ...reportRoutes(base, 'CT09'),
    inboxRoute(base),
    accountRoute(base),
  ],
}
