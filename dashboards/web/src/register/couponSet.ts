/** A definition of coupons. */
export interface CouponSet {
  coupon_set_id: string
  title: string
  coupon_kind?: string
  distribution_cycle?: string
  distribution_amount_yen?: number
  expiry_age_years?: number
  expiry_after_moveout_months?: number
  expiry_fixed_date?: string | null
  programmes?: string[]
  effective_from?: string
  state?: string
}
