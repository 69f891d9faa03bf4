import type { Route } from '$lib/router/match'
import type { IconName } from '$lib/ui/Icon.svelte'
import type { Account } from '$lib/api/types'
import { here } from '$lib/router/location.svelte'

/** The screens of one kind of staff. */
export interface Workspace {
  base: string
  title: string
  nav: { href: string; text: string; icon: IconName; badge?: 'unread'; allowed?: (account: Account) => boolean }[]
  routes: Route[]
}

/** Base address of the workspace the person is in, such as `/staff/operator`; screens shared by several use it for links. */
export function workspaceBase(): string {
  return here.path.split('/').slice(0, 3).join('/')
}

export const inboxRoute = (base: string): Route => ({ pattern: `${base}/inbox`, screen: 'FD02', title: '受信箱', load: () => import('./InboxPage.svelte') })
export const accountRoute = (base: string): Route => ({ pattern: `${base}/account`, screen: 'FD16', title: 'アカウント', load: () => import('./AccountPage.svelte') })
