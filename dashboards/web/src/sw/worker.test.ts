import { describe, expect, it, vi } from 'vitest'
import source from './worker.js?raw'

const ORIGIN = 'https://todoke.example'
const PUSH = {
  message_id: 'm-1', kind: 'notification', tag: 'tag-1', title: 'クーポンを利用しました', body: '1,200円を利用しました。',
  link: `${ORIGIN}/coupons/1`, badge: 3, receipt: 'receipt-1',
}

interface Page {
  url: string
  visibilityState?: string
  postMessage: (message: unknown) => void
  focus: () => Promise<void>
}

interface Options {
  method?: string
  headers?: Record<string, string>
  body: string
}
const answer = async (_url: unknown, _options?: Options) => new Response()

/** A cache as a browser has it, in so far as the worker uses it; a kept thing is known by its path. */
function cacheOf(kept: Map<string, unknown>) {
  const path = (request: string | { url: string }) => (typeof request === 'string' ? request : new URL(request.url).pathname)
  return {
    match: async (key: string) => (kept.has(key) ? { json: async () => kept.get(key) } : undefined),
    put: async (key: string, value: unknown) => void kept.set(key, value),
    delete: async (request: string | { url: string }) => kept.delete(path(request)),
    keys: async () => [...kept.keys()].map((key) => ({ url: ORIGIN + key })),
  }
}

/** The worker in a scope of its own, with what a browser would give it; `device` and `receipts` are what it keeps. */
function start(pages: Page[] = [], fetch = vi.fn(answer), device = new Map<string, unknown>(), receipts = new Map<string, unknown>()) {
  const listeners = new Map<string, (event: object) => void>()
  const old = { close: vi.fn() }
  const self = {
    location: { origin: ORIGIN },
    addEventListener: (name: string, listener: (event: object) => void) => void listeners.set(name, listener),
    registration: {
      showNotification: vi.fn(async (_title: string, _options: Record<string, unknown>) => undefined),
      getNotifications: vi.fn(async (_filter: { tag: string }) => [old]),
      pushManager: { getSubscription: vi.fn(async () => null), subscribe: vi.fn(async (_options: object) => SUBSCRIPTION) },
      sync: { register: vi.fn(async (_tag: string) => undefined) },
    },
    clients: { matchAll: vi.fn(async () => pages), openWindow: vi.fn(async (_path: string) => undefined) },
    navigator: { setAppBadge: vi.fn(async (_n: number) => undefined), clearAppBadge: vi.fn(async () => undefined) },
  }
  const match = vi.fn(async (request: unknown) => (request === '/' ? 'the kept shell' : undefined))
  const caches = { match, open: vi.fn(async (name: string) => cacheOf(name === 'todoke-receipts' ? receipts : device)) }
  new Function('self', 'caches', 'fetch', source)(self, caches, fetch)
  const fire = async (name: string, event: object) => {
    let work: unknown
    const keep = (promise: unknown) => void (work = promise)
    listeners.get(name)?.({ ...event, waitUntil: keep, respondWith: keep })
    return await work
  }
  const push = (told: object) => fire('push', { data: { json: () => told } })
  const told = () => fetch.mock.calls.map(([url, options]) => [url, JSON.parse(options?.body ?? 'null')])
  return { self, old, fire, push, told }
}

const SUBSCRIPTION = { toJSON: () => ({ endpoint: 'https://push.example/new', keys: { p256dh: 'p', auth: 'a' } }) }
const DEVICE = { id: 'device-1', device: { kind: 'webpush', endpoint: 'https://push.example/old', permission: 'granted' } }
const changed = { oldSubscription: { options: { applicationServerKey: 'the key of before' } }, newSubscription: null }
const signedIn = async (url: unknown, _options?: Options) => (url === '/v1/session' ? Response.json({ csrf_token: 'csrf-1' }) : new Response())
const away = async (_url: unknown, _options?: Options): Promise<Response> => {
  throw new TypeError('no connection')
}

const receipt = (kind: string) => ['/v1/receipts', { receipts: [{ receipt: 'receipt-1', kind }] }]

describe('the service worker', () => {
  it('shows a push, counts it on the icon and says so', async () => {
    const { self, push, told } = start()
    await push(PUSH)
    const [title, options] = self.registration.showNotification.mock.calls[0] ?? []
    expect(title).toBe(PUSH.title)
    expect(options).toMatchObject({ body: PUSH.body, tag: 'tag-1', silent: false, data: { path: '/coupons/1' } })
    expect(self.navigator.setAppBadge.mock.calls).toEqual([[3]])
    expect(told()).toEqual([receipt('displayed')])
  })

  it('takes back what was read elsewhere, with a quiet line in its place', async () => {
    const { self, push, told } = start([{ url: `${ORIGIN}/inbox`, visibilityState: 'hidden', postMessage: vi.fn(), focus: vi.fn(async () => undefined) }])
    await push({ ...PUSH, kind: 'withdraw', title: undefined, body: undefined, badge: 0 })
    const [title, options] = self.registration.showNotification.mock.calls[0] ?? []
    expect(title).not.toBe(PUSH.title)
    expect(options).toMatchObject({ tag: 'tag-1', silent: true, renotify: false })
    expect(self.navigator.clearAppBadge).toHaveBeenCalledOnce()
    expect(told()).toEqual([receipt('delivered')])
  })

  it('takes it away without a word where somebody looks at the page', async () => {
    const { self, old, push, told } = start([{ url: `${ORIGIN}/inbox`, visibilityState: 'visible', postMessage: vi.fn(), focus: vi.fn(async () => undefined) }])
    await push({ ...PUSH, kind: 'withdraw', title: undefined, body: undefined, badge: 0 })
    expect(self.registration.getNotifications.mock.calls).toEqual([[{ tag: 'tag-1' }]])
    expect(old.close).toHaveBeenCalledOnce()
    expect(self.registration.showNotification).not.toHaveBeenCalled()
    expect(self.navigator.clearAppBadge).toHaveBeenCalledOnce()
    expect(told()).toEqual([receipt('delivered')])
  })

  it('is quiet about a test, and about what it cannot read', async () => {
    const { self, push, fire } = start()
    await push({ ...PUSH, kind: 'test' })
    expect(self.registration.showNotification.mock.calls[0]?.[1]).toMatchObject({ silent: true, renotify: false })
    await fire('push', { data: { json: () => JSON.parse('not JSON') } })
    expect(self.registration.showNotification).toHaveBeenCalledOnce()
  })

  it('leads to the screen of the message, in the page that is open', async () => {
    const staff = { url: `${ORIGIN}/staff/facility`, postMessage: vi.fn(), focus: vi.fn(async () => undefined) }
    const own = { url: `${ORIGIN}/inbox`, postMessage: vi.fn(), focus: vi.fn(async () => undefined) }
    const notification = { close: vi.fn(), data: { path: '/coupons/1', receipt: 'receipt-1' } }
    const open = start([staff, own])
    await open.fire('notificationclick', { notification })
    expect(own.postMessage.mock.calls).toEqual([[{ kind: 'open', path: '/coupons/1' }]])
    expect(own.focus).toHaveBeenCalledOnce()
    expect(staff.postMessage).not.toHaveBeenCalled()
    expect(open.self.clients.openWindow).not.toHaveBeenCalled()
    expect(open.told()).toEqual([receipt('opened')])
    const closed = start([staff])
    await closed.fire('notificationclick', { notification })
    expect(closed.self.clients.openWindow.mock.calls).toEqual([['/coupons/1']])
  })

  it('never leads off our own site', async () => {
    const { self, push } = start()
    await push({ ...PUSH, link: 'https://elsewhere.example/coupons/1' })
    expect(self.registration.showNotification.mock.calls[0]?.[1]).toMatchObject({ data: { path: '/inbox' } })
  })

  it('opens the inbox without a connection, and leaves staff pages to the server', async () => {
    const offline = start([], vi.fn(away))
    const visit = (path: string) => offline.fire('fetch', { request: { method: 'GET', mode: 'navigate', url: ORIGIN + path } })
    expect(await visit('/inbox')).toBe('the kept shell')
    expect(await visit('/staff/operator')).toBeUndefined()
    expect(await visit('/v1/inbox')).toBeUndefined()
  })

  it('tells its receipts once the server takes them, however long that lasts', async () => {
    const receipts = new Map<string, unknown>()
    const offline = start([], vi.fn(away), undefined, receipts)
    await offline.push(PUSH)
    expect(offline.self.registration.sync.register.mock.calls).toEqual([['receipts']])
    await expect(offline.fire('sync', { tag: 'receipts' })).rejects.toThrow()
    const busy = vi.fn(async (_url: unknown, _options?: Options) => new Response(null, { status: 429 }))
    await start([], busy, undefined, receipts).push({ ...PUSH, receipt: 'receipt-2' })
    expect([...receipts.keys()]).toEqual(['/displayed/receipt-1', '/displayed/receipt-2'])
    for (let n = 3; n <= 300; n++) receipts.set(`/displayed/receipt-${n}`, undefined)
    // The next start tells them, as many at once as the server takes.
    const again = start([], undefined, undefined, receipts)
    await vi.waitFor(() => expect(receipts.size).toBe(0))
    const told = again.told().map(([, body]) => body.receipts)
    expect(told.map((batch) => batch.length)).toEqual([200, 100])
    expect(told[0].slice(0, 2)).toEqual([{ receipt: 'receipt-1', kind: 'displayed' }, { receipt: 'receipt-2', kind: 'displayed' }])
  })

  it('registers a changed subscription by itself, with the key and under the id of before', async () => {
    const device = new Map<string, unknown>([['/device', DEVICE]])
    const fetch = vi.fn(signedIn)
    const worker = start([], fetch, device)
    await worker.fire('pushsubscriptionchange', changed)
    expect(worker.self.registration.pushManager.subscribe.mock.calls).toEqual([[{ userVisibleOnly: true, applicationServerKey: 'the key of before' }]])
    const [url, options] = fetch.mock.calls.at(-1) ?? []
    expect([url, options?.method, options?.headers?.['X-CSRF-Token']]).toEqual(['/v1/devices/device-1', 'PUT', 'csrf-1'])
    expect(JSON.parse(options?.body ?? '')).toEqual({ ...DEVICE.device, ...SUBSCRIPTION.toJSON() })
    expect(device.has('/pending')).toBe(false)
    const off = start([], vi.fn(signedIn))
    await off.fire('pushsubscriptionchange', changed)
    expect(off.self.registration.pushManager.subscribe).not.toHaveBeenCalled()
  })

  it('tells of a changed subscription later when there is no connection or nobody is signed in', async () => {
    const device = new Map<string, unknown>([['/device', DEVICE]])
    const page = { url: `${ORIGIN}/inbox`, postMessage: vi.fn(), focus: vi.fn(async () => undefined) }
    const offline = start([page], vi.fn(away), device)
    await offline.fire('pushsubscriptionchange', changed)
    expect(page.postMessage.mock.calls).toEqual([[{ kind: 'subscription' }]])
    expect(offline.self.registration.sync.register.mock.calls).toEqual([['renew-subscription']])
    await expect(offline.fire('sync', { tag: 'renew-subscription' })).rejects.toThrow()
    expect(device.has('/pending')).toBe(true)
    const signedOut = vi.fn(async (_url: unknown, _options?: Options) => new Response(null, { status: 401 }))
    await expect(start([], signedOut, device).fire('sync', { tag: 'renew-subscription' })).rejects.toThrow()
    // The next start does it without being asked.
    const fetch = vi.fn(async (url: unknown, options?: Options) => (url === '/v1/push/web-key' ? Response.json({ key: 'the key' }) : signedIn(url, options)))
    const again = start([], fetch, device)
    await vi.waitFor(() => expect(device.has('/pending')).toBe(false))
    expect(again.self.registration.pushManager.subscribe.mock.calls).toEqual([[{ userVisibleOnly: true, applicationServerKey: 'the key' }]])
    expect(fetch.mock.calls.map(([url]) => url)).toEqual(['/v1/push/web-key', '/v1/session', '/v1/devices/device-1'])
  })
})
