-- One row per coupon use with what is left of it after its reversal.
WITH undone AS (
  SELECT use_id, SUM(amount_yen) AS yen, SUM(amount_units) AS units,
         MIN(occurred_at) AS reversed_at, MIN(jst_date) AS reversed_on, MAX(reversal_id) AS reversal_id
  FROM events_coupon
  WHERE event_type = 'coupon.use_reversed'
  GROUP BY use_id
)
SELECT u.use_id, u.occurred_at AS used_at, u.jst_date, u.used_on, u.coupon_id, u.child_key, u.guardian_key,
       u.coupon_set_id, u.coupon_kind, u.purpose, u.programme_code, u.facility_id,
       u.initiated_by, u.device_less, u.application_id, u.reservation_id, u.fee_total_yen,
       u.amount_yen, u.amount_units,
       COALESCE(u.amount_yen, 0) - COALESCE(undone.yen, 0) AS net_yen,
       COALESCE(u.amount_units, 0) - COALESCE(undone.units, 0) AS net_units,
       undone.use_id IS NOT NULL AS reversed,
       undone.reversal_id, undone.reversed_at, undone.reversed_on,
       u.ledger_seq, u.balance_after_yen, u.balance_after_units
FROM events_coupon u
LEFT JOIN undone ON undone.use_id = u.use_id
WHERE u.event_type = 'coupon.used'
