import { describe, expect, it } from 'vitest'
import type { CouponUse, FacilityToday } from '$lib/api/types'
import { withUse } from './uses'

const now = new Date('2026-11-21T03:00:00Z')
const use = (over: Partial<CouponUse> = {}): CouponUse => ({
  use_id: 'u1', use_no: 'U26-0000001', state: 'settled', amount_yen: 1200, purpose: 'service', programme_code: 'temp_care_private', used_at: '2026-11-21T01:30:00Z', ...over,
})
const empty: FacilityToday = { uses: [], n_uses: 0, total_yen: 0, by_hour: [{ hour: 10, n_uses: 0, total_yen: 0 }] }

describe('withUse', () => {
  it('adds a use to totals and to its hour in Tokyo', () => {
    const today = withUse(empty, use(), now)
    expect([today.n_uses, today.total_yen]).toEqual([1, 1200])
    expect(today.by_hour).toEqual([{ hour: 10, n_uses: 1, total_yen: 1200 }])
  })

  it('counts the same use once and takes a reversal back out', () => {
    const twice = withUse(withUse(empty, use(), now), use(), now)
    expect([twice.uses.length, twice.n_uses, twice.total_yen]).toEqual([1, 1, 1200])
    const reversed = withUse(twice, use({ state: 'reversed' }), now)
    expect([reversed.uses.length, reversed.n_uses, reversed.total_yen, reversed.by_hour[0]?.n_uses]).toEqual([1, 0, 0, 0])
  })

  it('leaves other days alone and makes a missing hour', () => {
    expect(withUse(empty, use({ used_at: '2026-11-20T14:59:00Z' }), now)).toBe(empty)
    expect(withUse(empty, use({ used_at: '2026-11-20T23:10:00Z' }), now).by_hour.map((item) => item.hour)).toEqual([8, 10])
  })
})
