import { afterEach, describe, expect, it, vi } from 'vitest'
import { chooseLanguage, deviceLanguage, keyBytes, platformOf, pushState } from './device'

const IPHONE = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1'

afterEach(() => vi.unstubAllGlobals())

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

  it('has no language of its own until one is chosen, and gives it up again', async () => {
    const kept = new Map<string, string>()
    vi.stubGlobal('localStorage', {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => kept.set(key, value),
      removeItem: (key: string) => kept.delete(key),
    })
    expect(deviceLanguage()).toBe('')
    await chooseLanguage('ja-easy')
    expect(deviceLanguage()).toBe('ja-easy')
    await chooseLanguage('')
    expect(deviceLanguage()).toBe('')
  })
})
