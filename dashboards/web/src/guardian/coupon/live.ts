import type { Coupon } from '$lib/api/types'
import type { GuardianPublication } from '../unread.svelte'

/** Applies the money part of a publication to a coupon; older publications than what is shown change nothing. */
export function withLiveBalance(coupon: Coupon, publication: GuardianPublication): Coupon {
  const moved = publication.data?.coupon
  if (!moved || moved.coupon_id !== coupon.coupon_id || moved.ledger_seq < coupon.ledger_seq) return coupon
  return { ...coupon, balance_yen: moved.balance_yen, state: moved.state, ledger_seq: moved.ledger_seq, suspended: moved.suspended ?? coupon.suspended }
}

/** Publications that change nothing but the inbox's read marks. */
export function isReadMark(publication: { type: string }): boolean {
  return publication.type.startsWith('message.')
}
