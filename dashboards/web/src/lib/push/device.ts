import { api } from '$lib/api/client'
import { toApiError } from '$lib/api/problem'
import { uuid7 } from '$lib/usage/uuid7'

const DEVICE_ID_KEY = 'todoke.device-id'
const LANGUAGE_KEY = 'todoke.device-language'
/** Read by the service worker, which has no local storage. */
const DEVICE_CACHE = 'todoke-device'

/** A device as the server knows it. */
export interface Device {
  device_id: string
  kind: 'fcm' | 'apns' | 'webpush'
  permission: 'granted' | 'denied' | 'default'
  /** Its own; none where it has that of its person. */
  language: string | null
  platform: string
  os_version: string
  app_version: string
  registered_at: string
  seen_at: string
}

/** What push on this device is like: `home-screen` is an iPhone whose browser can only after being added there. */
export type PushState = 'unsupported' | 'home-screen' | 'denied' | 'off' | 'on'

/** The id this device registers under, if it has. */
export function ownDeviceId(): string | undefined {
  return localStorage.getItem(DEVICE_ID_KEY) ?? undefined
}

/** The language of what is pushed to this device; empty for that of its person. */
export function deviceLanguage(): string {
  return localStorage.getItem(LANGUAGE_KEY) ?? ''
}

function isIos(agent: string, touchPoints: number): boolean {
  // An iPad says that it is a Mac, but a Mac has no touch screen.
  return /iPhone|iPad|iPod/.test(agent) || (/Macintosh/.test(agent) && touchPoints > 1)
}

/** The system behind a browser, as it names itself. */
export function platformOf(agent: string, touchPoints: number): string {
  if (isIos(agent, touchPoints)) return 'ios'
  return /Android/.test(agent) ? 'android' : 'web'
}

async function registration(): Promise<ServiceWorkerRegistration | undefined> {
  if (!('serviceWorker' in navigator)) return undefined
  // `ready` never settles where no worker was registered, such as in development.
  return (await navigator.serviceWorker.getRegistration()) ?? undefined
}

/** How push stands on this device now. */
export async function pushState(): Promise<PushState> {
  if (!('Notification' in window) || !('PushManager' in window)) {
    return isIos(navigator.userAgent, navigator.maxTouchPoints) ? 'home-screen' : 'unsupported'
  }
  if (Notification.permission === 'denied') return 'denied'
  const subscription = await (await registration())?.pushManager.getSubscription()
  return subscription && ownDeviceId() && Notification.permission === 'granted' ? 'on' : 'off'
}

/** An `applicationServerKey` from its base64url text. */
export function keyBytes(text: string): Uint8Array<ArrayBuffer> {
  const plain = atob(text.replaceAll('-', '+').replaceAll('_', '/'))
  return Uint8Array.from(plain, (char) => char.charCodeAt(0))
}

async function register(subscription: PushSubscription): Promise<void> {
  const { endpoint, keys } = subscription.toJSON()
  const body = {
    kind: 'webpush', endpoint, keys, permission: Notification.permission,
    language: deviceLanguage(),
    platform: platformOf(navigator.userAgent, navigator.maxTouchPoints),
    app_version: __APP_VERSION__,
  }
  let id = ownDeviceId() ?? uuid7()
  try {
    await api.put(`/v1/devices/${id}`, body)
  } catch (cause) {
    // Somebody else was signed in here before: this person's device is a new one.
    if (toApiError(cause).status !== 409) throw cause
    id = uuid7()
    await api.put(`/v1/devices/${id}`, body)
  }
  localStorage.setItem(DEVICE_ID_KEY, id)
  await keepForWorker(id, body)
}

/** The worker registers this device anew with it when the browser changes the subscription while no page is open. */
async function keepForWorker(id: string, device: object): Promise<void> {
  if (!('caches' in globalThis)) return
  const kept = await caches.open(DEVICE_CACHE)
  await kept.put('/device', Response.json({ id, device }))
  await kept.delete('/pending')
}

/** Asks for permission and registers this device. Must be called from a click. */
export async function turnOn(): Promise<PushState> {
  const worker = await registration()
  if (!worker) return 'unsupported'
  if ((await Notification.requestPermission()) !== 'granted') return pushState()
  const { key } = await api.get<{ key: string }>('/v1/push/web-key')
  const options = { userVisibleOnly: true, applicationServerKey: keyBytes(key) }
  const existing = await worker.pushManager.getSubscription()
  const subscription = existing ?? (await worker.pushManager.subscribe(options))
  await register(subscription)
  return 'on'
}

/** What is kept here of this device as a registered one. */
async function forget(): Promise<void> {
  localStorage.removeItem(DEVICE_ID_KEY)
  localStorage.removeItem(LANGUAGE_KEY)
  if ('caches' in globalThis) await caches.delete(DEVICE_CACHE)
}

/** Nothing is pushed to this device any more. Works without a connection as far as the device is concerned. */
export async function turnOff(): Promise<void> {
  const id = ownDeviceId()
  await forget()
  if (id) await api.delete(`/v1/devices/${id}`).catch(() => undefined)
  const subscription = await (await registration())?.pushManager.getSubscription()
  await subscription?.unsubscribe()
}

/** Tells the server what has changed about this device: a rotated subscription, a withdrawn permission, a new version. */
export async function refresh(): Promise<void> {
  const id = ownDeviceId()
  if (!id || !('PushManager' in window)) return
  const worker = await registration()
  let subscription = await worker?.pushManager.getSubscription()
  if (!subscription && worker && Notification.permission === 'granted') {
    const { key } = await api.get<{ key: string }>('/v1/push/web-key')
    subscription = await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: keyBytes(key) })
  }
  if (subscription) return register(subscription)
  if (Notification.permission === 'granted') return
  // The subscription went with the permission: without this the server would go on counting on the device.
  try {
    await api.delete(`/v1/devices/${id}`)
  } catch (cause) {
    if (toApiError(cause).status !== 404) throw cause
  }
  await forget()
}

/** What is pushed to this device comes in this language from now on; empty for that of its person. */
export async function chooseLanguage(language: string): Promise<void> {
  localStorage.setItem(LANGUAGE_KEY, language)
  await refresh()
}
