// Service worker of the guardian app. The build fills in the two placeholders.
const VERSION = '__VERSION__'
const SHELL = ['__SHELL__']
const SHELL_CACHE = `todoke-shell-${VERSION}`
// Hashed files never change, so what was once fetched (fonts above all) stays across versions.
const ASSET_CACHE = 'todoke-assets'
const ASSETS_MAX = 240
// What the page registered this device as (`/device`), and whether a new subscription is still to be told (`/pending`).
const DEVICE_CACHE = 'todoke-device'
const RENEWAL = 'renew-subscription'
// Receipts that the server has not taken yet, as `/<kind>/<token>`.
const RECEIPT_CACHE = 'todoke-receipts'
const RECEIPTS = 'receipts'
// As many as the server takes at once.
const RECEIPTS_MAX = 200

self.addEventListener('install', (event) => {
  event.waitUntil(
    caches
      .open(SHELL_CACHE)
      .then((cache) => cache.addAll(SHELL))
      .then(() => self.skipWaiting()),
  )
})

self.addEventListener('activate', (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) {
        if (name.startsWith('todoke-shell-') && name !== SHELL_CACHE) await caches.delete(name)
      }
      const assets = await caches.open(ASSET_CACHE)
      const kept = await assets.keys()
      for (const old of kept.slice(0, Math.max(0, kept.length - ASSETS_MAX))) await assets.delete(old)
      await self.clients.claim()
    })(),
  )
})

self.addEventListener('fetch', (event) => {
  const request = event.request
  const url = new URL(request.url)
  if (request.method !== 'GET' || url.origin !== self.location.origin) return
  if (request.mode === 'navigate') {
    if (isGuardianPage(url.pathname)) event.respondWith(shellPage(request))
    return
  }
  if (url.pathname.startsWith('/assets/')) event.respondWith(cacheFirst(request))
})

// Only pages of the guardian app are answered from the cache; staff pages and the API always ask the server.
function isGuardianPage(path) {
  return !/^\/(staff|v1|m|connection|demo|healthz|readyz|metrics|openapi\.json)(\/|$)/.test(path)
}

async function shellPage(request) {
  try {
    const fresh = await fetch(request)
    if (fresh.ok) return fresh
    return (await caches.match('/')) ?? fresh
  } catch (error) {
    const cached = await caches.match('/')
    if (cached) return cached
    throw error
  }
}

async function cacheFirst(request) {
  const cached = await caches.match(request)
  if (cached) return cached
  const fresh = await fetch(request)
  if (fresh.ok) {
    const cache = await caches.open(ASSET_CACHE)
    await cache.put(request, fresh.clone())
  }
  return fresh
}

// What a push carries: { message_id, kind, tag, title, body, link, badge, receipt }.
self.addEventListener('push', (event) => {
  const told = read(event.data)
  if (!told) return
  event.waitUntil(told.kind === 'withdraw' ? takeBack(told) : show(told))
})

function read(data) {
  try {
    return data?.json()
  } catch {
    return undefined
  }
}

async function show(told) {
  await self.registration.showNotification(told.title ?? 'お知らせ', {
    body: told.body ?? '',
    // One notification per tag: a newer message of the subject, or the same one sent again, takes its place.
    tag: told.tag,
    renotify: told.kind !== 'test',
    silent: told.kind === 'test',
    icon: '/icon-192.png',
    badge: '/icon-192.png',
    lang: 'ja',
    data: { path: ownPath(told.link), receipt: told.receipt, message_id: told.message_id },
  })
  await badge(told.badge)
  await tell(told.receipt, 'displayed')
}

// Subscriptions are for pushes that show something: a browser ends them, or says something of its own, where one does not. So
// the notification gives way to a quiet line, unless somebody is looking at our page, where nothing has to be shown.
async function takeBack(told) {
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true })
  if (pages.some((page) => page.visibilityState === 'visible')) {
    for (const shown of await self.registration.getNotifications({ tag: told.tag })) shown.close()
  } else {
    await self.registration.showNotification('お知らせ', {
      body: '確認済み、または取り消されたお知らせです。',
      tag: told.tag,
      renotify: false,
      silent: true,
      icon: '/icon-192.png',
      badge: '/icon-192.png',
      lang: 'ja',
      data: { path: ownPath(told.link) },
    })
  }
  await badge(told.badge)
  await tell(told.receipt, 'delivered')
}

self.addEventListener('notificationclick', (event) => {
  event.notification.close()
  const { path, receipt } = event.notification.data ?? {}
  event.waitUntil(Promise.all([tell(receipt, 'opened'), open(path ?? '/inbox')]))
})

// A page that is open already goes there itself, so that nothing typed on it is lost without being asked.
async function open(path) {
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true })
  const page = pages.find((client) => isGuardianPage(new URL(client.url).pathname))
  if (!page) return self.clients.openWindow(path)
  page.postMessage({ kind: 'open', path })
  return page.focus()
}

// A push never leads off our own site.
function ownPath(link) {
  if (!link) return '/inbox'
  const url = new URL(link, self.location.origin)
  return url.origin === self.location.origin ? url.pathname + url.search : '/inbox'
}

async function badge(n) {
  if (n === undefined || !self.navigator.setAppBadge) return
  await (n > 0 ? self.navigator.setAppBadge(n) : self.navigator.clearAppBadge()).catch(() => undefined)
}

// The token is all the proof there is: no session is needed, and it speaks of this one delivery only. Kept until the server has
// it: without a connection it is told with the next one, at the next start of this worker, or as soon as there is a connection.
async function tell(receipt, kind) {
  if (!receipt) return
  const path = `/${kind}/${receipt}`
  try {
    await (await caches.open(RECEIPT_CACHE)).put(path, new Response())
  } catch {
    // A phone without room keeps nothing: told once, or never.
    await isTaken([path])
  }
  if (!(await tellKept().catch(() => false))) await self.registration.sync?.register(RECEIPTS).catch(() => undefined)
}

async function tellKept() {
  const kept = await caches.open(RECEIPT_CACHE)
  const requests = await kept.keys()
  for (let first = 0; first < requests.length; first += RECEIPTS_MAX) {
    const batch = requests.slice(first, first + RECEIPTS_MAX)
    if (!(await isTaken(batch.map((request) => new URL(request.url).pathname)))) return false
    for (const request of batch) await kept.delete(request)
  }
  return true
}

async function isTaken(paths) {
  const receipts = paths.map((path) => {
    const [, kind, receipt] = path.split('/')
    return { receipt, kind }
  })
  try {
    const answer = await fetch('/v1/receipts', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ receipts }), keepalive: true })
    // What the server will never take is not told for ever.
    return answer.status !== 429 && answer.status < 500
  } catch {
    return false
  }
}

// The browser changed the subscription by itself, mostly while no page is open: until the server knows the new one, no push
// arrives. What could not be told is told at the next start of this worker, or as soon as there is a connection.
self.addEventListener('pushsubscriptionchange', (event) => {
  event.waitUntil(
    (async () => {
      const device = await caches.open(DEVICE_CACHE)
      // A device that an older version registered is known to its pages only.
      if (await device.match('/device')) {
        await device.put('/pending', new Response())
        const { newSubscription, oldSubscription } = event
        if (await renewed(newSubscription, oldSubscription?.options?.applicationServerKey)) return
        await self.registration.sync?.register(RENEWAL).catch(() => undefined)
      }
      for (const client of await self.clients.matchAll({ type: 'window' })) client.postMessage({ kind: 'subscription' })
    })(),
  )
})

self.addEventListener('sync', (event) => {
  const work = { [RENEWAL]: retry, [RECEIPTS]: tellKept }[event.tag]
  if (!work) return
  event.waitUntil(
    work().then((done) => {
      // Only a failure makes the browser try again.
      if (!done) throw new Error(`not done: ${event.tag}`)
    }),
  )
})

async function retry() {
  const device = await caches.open(DEVICE_CACHE)
  return !(await device.match('/pending')) || renewed()
}

async function renewed(subscription, key) {
  try {
    return await renew(subscription, key)
  } catch {
    return false
  }
}

// Registers this device under its id with the subscription it has now; false where nobody is signed in or the id is
// another person's, which the page settles when it is opened.
async function renew(given, key) {
  const device = await caches.open(DEVICE_CACHE)
  const kept = await (await device.match('/device'))?.json()
  if (!kept) return true
  const manager = self.registration.pushManager
  const subscription = given ?? (await manager.getSubscription()) ?? (await manager.subscribe({ userVisibleOnly: true, applicationServerKey: key ?? (await webKey()) }))
  const session = await fetch('/v1/session')
  if (!session.ok) return false
  const { csrf_token } = await session.json()
  const { endpoint, keys } = subscription.toJSON()
  const answer = await fetch(`/v1/devices/${kept.id}`, {
    method: 'PUT',
    headers: { 'Content-Type': 'application/json', 'X-CSRF-Token': csrf_token },
    body: JSON.stringify({ ...kept.device, endpoint, keys }),
  })
  if (answer.ok) await device.delete('/pending')
  return answer.ok
}

async function webKey() {
  return (await (await fetch('/v1/push/web-key')).json()).key
}

void retry().catch(() => undefined)
void tellKept().catch(() => undefined)
