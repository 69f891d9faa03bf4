import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { onAttention } from './attention'

describe('onAttention', () => {
  const page = Object.assign(new EventTarget(), { visibilityState: 'visible' })
  let now = 0
  let n = 0

  beforeEach(() => {
    vi.stubGlobal('window', new EventTarget())
    vi.stubGlobal('document', page)
    now = n = 0
  })
  afterEach(() => vi.unstubAllGlobals())
  const happen = (name: string, at: number) => {
    now = at
    window.dispatchEvent(new Event(name))
  }

  it('tells who comes back after a while, once', () => {
    const stop = onAttention(() => (n += 1), () => now)
    happen('focus', 50_000)
    expect(n).toBe(0)
    happen('blur', 60_000)
    happen('focus', 65_000)
    expect(n).toBe(0)
    happen('blur', 70_000)
    page.visibilityState = 'hidden'
    page.dispatchEvent(new Event('visibilitychange'))
    now = 90_000
    page.visibilityState = 'visible'
    page.dispatchEvent(new Event('visibilitychange'))
    happen('focus', 90_001)
    expect(n).toBe(1)
    stop()
    happen('blur', 100_000)
    happen('focus', 200_000)
    expect(n).toBe(1)
  })
})
