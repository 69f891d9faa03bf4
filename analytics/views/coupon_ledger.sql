-- One row per ledger line of a coupon with its signed change.
-- `balance_after_*` is what the ledger itself recorded (0 after a revocation, null where the event carries none);
-- `balance_*` is the running sum of the changes in ledger order.
-- `coupon_set_id` and `coupon_kind` come from the coupon's distributions, so that every line has them.
WITH line AS (
  SELECT event_id, event_type, occurred_at, recorded_at, jst_date, fiscal_year,
         coupon_id, ledger_seq, child_key, use_id, purpose, lot_id, bucket, expires_on,
         programme_code, facility_id, reason_code,
         CASE event_type
           WHEN 'coupon.distributed'   THEN COALESCE(amount_yen, 0)
           WHEN 'coupon.used'          THEN -COALESCE(amount_yen, 0)
           WHEN 'coupon.use_reversed'  THEN COALESCE(amount_yen, 0)
           WHEN 'coupon.adjusted'      THEN COALESCE(delta_yen, 0)
           ELSE -COALESCE(written_off_yen, 0) END AS delta_yen,
         CASE event_type
           WHEN 'coupon.distributed'   THEN COALESCE(amount_units, 0)
           WHEN 'coupon.used'          THEN -COALESCE(amount_units, 0)
           WHEN 'coupon.use_reversed'  THEN COALESCE(amount_units, 0)
           WHEN 'coupon.adjusted'      THEN COALESCE(delta_units, 0)
           ELSE -COALESCE(written_off_units, 0) END AS delta_units,
         CASE event_type WHEN 'coupon.revoked' THEN 0 ELSE balance_after_yen END AS balance_after_yen,
         CASE event_type WHEN 'coupon.revoked' THEN 0 ELSE balance_after_units END AS balance_after_units
  FROM events_coupon
  WHERE event_type IN ('coupon.distributed', 'coupon.used', 'coupon.use_reversed',
                       'coupon.adjusted', 'coupon.revoked', 'coupon.expired')
),
coupon AS (
  SELECT coupon_id, MAX(coupon_set_id) AS coupon_set_id, MAX(coupon_kind) AS coupon_kind
  FROM events_coupon
  WHERE event_type = 'coupon.distributed'
  GROUP BY coupon_id
)
SELECT line.event_id, line.event_type, line.occurred_at, line.recorded_at, line.jst_date, line.fiscal_year,
       line.coupon_id, line.ledger_seq, line.child_key, coupon.coupon_set_id, coupon.coupon_kind,
       line.use_id, line.purpose, line.lot_id, line.bucket, line.expires_on,
       line.programme_code, line.facility_id, line.reason_code,
       line.delta_yen, line.delta_units, line.balance_after_yen, line.balance_after_units,
       SUM(line.delta_yen) OVER (PARTITION BY line.coupon_id ORDER BY line.ledger_seq) AS balance_yen,
       SUM(line.delta_units) OVER (PARTITION BY line.coupon_id ORDER BY line.ledger_seq) AS balance_units
FROM line
LEFT JOIN coupon ON coupon.coupon_id = line.coupon_id
