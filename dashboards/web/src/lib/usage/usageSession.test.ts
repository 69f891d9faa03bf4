import { describe, expect, it } from 'vitest'
import { resume, SILENCE_MS_MAX } from './usageSession'

describe('resume', () => {
  const start = 1_795_000_000_000

  it('begins a session and goes on with it while it is not silent too long', () => {
    const first = resume(undefined, start)
    expect(first.isNew).toBe(true)
    const again = resume(first.current, start + SILENCE_MS_MAX - 1)
    expect(again.isNew).toBe(false)
    expect(again.current.session_id).toBe(first.current.session_id)
  })

  it('ends it after 30 minutes of silence, at its last activity', () => {
    const { current } = resume(undefined, start)
    const later = resume(current, start + SILENCE_MS_MAX)
    expect(later.ended).toEqual(current)
    expect(later.current.session_id).not.toBe(current.session_id)
    expect(later.current.screens).toBe(0)
  })
})
