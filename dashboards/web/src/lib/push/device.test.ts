import { describe, expect, it } from 'vitest'
import { keyBytes, platformOf } from './device'

describe('push on this device', () => {
  it('reads a key in base64url', () => {
    expect([...keyBytes('-_8A')]).toEqual([251, 255, 0])
  })

  it('knows an iPad that calls itself a Mac', () => {
    expect(platformOf('Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)', 5)).toBe('ios')
    expect(platformOf('Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)', 0)).toBe('web')
    expect(platformOf('Mozilla/5.0 (Linux; Android 15)', 5)).toBe('android')
  })
})
