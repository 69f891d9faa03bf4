import { afterEach, describe, expect, it, vi } from 'vitest'
import { chooseLanguage, deviceLanguage, keyBytes, ownDeviceId, platformOf, pushState, refresh } from './device'

const IPHONE = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1'

afterEach(() => vi.unstubAllGlobals())

/** A local storage with what a test needs in it. */
function storage(entries: [string, string][] = []) {
  const kept = new Map(entries)
  vi.stubGlobal('localStorage', {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => kept.set(key, value),
    removeItem: (key: string) => kept.delete(key),
  })
}

describe('push on this device', () => {
  it('needs the home screen on an iPhone, where the browser itself cannot', async () => {
    vi.stubGlobal('window', {})
    vi.stubGlobal('navigator', { userAgent: IPHONE, maxTouchPoints: 5 })
    expect(await pushState()).toBe('home-screen')
    vi.stubGlobal('navigator', { userAgent: 'Mozilla/5.0 (X11; Linux x86_64)', maxTouchPoints: 0 })
    expect(await pushState()).toBe('unsupported')
  })

  it('can be turned on in the app on the home screen', async () => {
    const asked = { Notification: { permission: 'default' }, PushManager: {} }
    vi.stubGlobal('window', asked)
    vi.stubGlobal('Notification', asked.Notification)
    vi.stubGlobal('navigator', { userAgent: IPHONE, maxTouchPoints: 5 })
    expect(await pushState()).toBe('off')
  })

  it('reads a key in base64url', () => {
    expect([...keyBytes('-_8A')]).toEqual([251, 255, 0])
  })

  it('knows an iPad that calls itself a Mac', () => {
    expect(platformOf('Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)', 5)).toBe('ios')
    expect(platformOf('Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)', 0)).toBe('web')
    expect(platformOf('Mozilla/5.0 (Linux; Android 15)', 5)).toBe('android')
  })

  it('tells the server when the permission is gone, again until it has been told', async () => {
    storage([['todoke.device-id', 'device-1']])
    const asked = { Notification: { permission: 'denied' }, PushManager: {} }
    vi.stubGlobal('window', asked)
    vi.stubGlobal('Notification', asked.Notification)
    const worker = { pushManager: { getSubscription: async () => null } }
    vi.stubGlobal('navigator', { serviceWorker: { getRegistration: async () => worker } })
    const fetch = vi.fn(async (_url: unknown, _options?: RequestInit): Promise<Response> => Promise.reject(new TypeError('no connection')))
    vi.stubGlobal('fetch', fetch)
    await expect(refresh()).rejects.toThrow()
    expect(ownDeviceId()).toBe('device-1')
    fetch.mockImplementation(async () => new Response(null, { status: 204 }))
    await refresh()
    const [url, options] = fetch.mock.calls.at(-1) ?? []
    expect([url, options?.method]).toEqual(['/v1/devices/device-1', 'DELETE'])
    expect(ownDeviceId()).toBeUndefined()
  })

  it('has no language of its own until one is chosen, and gives it up again', async () => {
    storage()
    expect(deviceLanguage()).toBe('')
    await chooseLanguage('ja-easy')
    expect(deviceLanguage()).toBe('ja-easy')
    await chooseLanguage('')
    expect(deviceLanguage()).toBe('')
  })
})
