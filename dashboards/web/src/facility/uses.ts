import type { CouponUse, FacilityToday } from '$lib/api/types'
import { mergeByKey, type Publication } from '$lib/realtime/feed'
import { jstDay } from '$lib/format/date'

const JST_MS = 9 * 3_600_000

/** The use a publication tells of, if it tells of one. */
export function useOf(publication: Publication): CouponUse | undefined {
  return (publication.data as { use?: CouponUse } | undefined)?.use
}

/** Today's figures with one more or changed use; totals are always the sum of the rows shown. */
export function withUse(today: FacilityToday, use: CouponUse, now: Date): FacilityToday {
  if (jstDay(new Date(use.used_at)) !== jstDay(now)) return today
  const before = today.uses.find((item) => item.use_id === use.use_id)
  const counted = (item: CouponUse | undefined, sign: number) => (item && item.state === 'settled' ? sign : 0)
  const n = counted(use, 1) + counted(before, -1)
  const yen = counted(use, 1) * use.amount_yen + counted(before, -1) * (before?.amount_yen ?? 0)
  const hour = Math.floor((((new Date(use.used_at).getTime() + JST_MS) % 86_400_000) + 86_400_000) % 86_400_000 / 3_600_000)
  const known = today.by_hour.some((item) => item.hour === hour)
  const hours = known ? today.by_hour : [...today.by_hour, { hour, n_uses: 0, total_yen: 0 }].toSorted((a, b) => a.hour - b.hour)
  return {
    uses: mergeByKey(today.uses, { ...before, ...use }, (item) => item.use_id),
    n_uses: today.n_uses + n,
    total_yen: today.total_yen + yen,
    by_hour: hours.map((item) => (item.hour === hour ? { ...item, n_uses: item.n_uses + n, total_yen: item.total_yen + yen } : item)),
  }
}
