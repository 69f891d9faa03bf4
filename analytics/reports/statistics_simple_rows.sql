-- R01 underlying rows: every ledger line and every decision that was counted.
-- `line` = 'period': the row happened in the period. `line` = 'opening': what stood when it began, one row per coupon with
-- a balance (its sum is balance_start) and one per approved application (it counts for registered_end).
-- Yen and units are signed: uses negative, reversals positive.

-- section: child
WITH ward AS (
  SELECT person_key, LAST_VALUE(ward_code ORDER BY since) AS ward_code
  FROM person_wards
  WHERE person_kind = 'child' AND jst_date <= $to
  GROUP BY person_key
)
SELECT c.child_key,
       COALESCE(MAX(ward.ward_code), 'unknown') AS ward_code,
       COALESCE(CAST(MAX(c.class_age + $to_fiscal_year - c.fiscal_year) AS VARCHAR), 'unknown') AS class_age
FROM events_child c
LEFT JOIN ward ON ward.person_key = c.child_key
WHERE c.event_type = 'child.registered'
GROUP BY c.child_key

-- section: lot
SELECT lot_id, MAX(expires_on) AS expires_on
FROM events_coupon
WHERE event_type = 'coupon.distributed'
GROUP BY lot_id

-- section: drawn
-- The lots a use or a reversal touched.
SELECT part.event_id,
       STRING_AGG(part.lot_id, ' ' ORDER BY lot.expires_on, part.lot_id) AS lots,
       MIN(lot.expires_on) AS expires_on
FROM (
  SELECT event_id, item['lot_id'] AS lot_id
  FROM (
    SELECT event_id, unnest(lines) AS item
    FROM events_coupon
    WHERE event_type IN ('coupon.used', 'coupon.use_reversed') AND jst_date BETWEEN $from AND $to
  ) AS touched
) AS part
LEFT JOIN lot ON lot.lot_id = part.lot_id
GROUP BY part.event_id

-- section: rows
WITH ledger AS (
  SELECT * FROM coupon_ledger
  WHERE jst_date <= $to AND ($coupon_set_id = '' OR coupon_set_id = $coupon_set_id)
),
opening AS (
  SELECT coupon_id, coupon_set_id, coupon_kind, child_key,
         LAST_VALUE(event_id ORDER BY ledger_seq) AS event_id,
         MAX(occurred_at) AS occurred_at,
         SUM(delta_yen) AS yen, SUM(delta_units) AS units
  FROM ledger
  WHERE jst_date < $from
  GROUP BY coupon_id, coupon_set_id, coupon_kind, child_key
  HAVING SUM(delta_yen) <> 0 OR SUM(delta_units) <> 0
),
applicant AS (
  SELECT application_id, MAX(child_key) AS child_key, MAX(guardian_key) AS guardian_key
  FROM events_application
  WHERE event_type = 'application.submitted'
  GROUP BY application_id
),
decision AS (
  SELECT e.event_id, e.occurred_at, e.jst_date, e.event_type, e.application_id,
         applicant.child_key, applicant.guardian_key
  FROM events_application e
  LEFT JOIN applicant ON applicant.application_id = e.application_id
  WHERE e.jst_date <= $to
    AND ((e.event_type = 'application.decided' AND e.application_kind = 'coupon' AND e.decision = 'approved')
      OR (e.event_type = 'application.decision_revoked' AND e.previous = 'approved'))
),
counted AS (
  SELECT 'period' AS line, l.event_id, l.occurred_at, l.jst_date, l.event_type, l.coupon_id,
         l.child_key, CAST(NULL AS BIGINT) AS guardian_key, CAST(NULL AS VARCHAR) AS application_id,
         l.use_id, l.purpose, l.programme_code, l.facility_id, l.coupon_set_id, l.coupon_kind,
         l.delta_yen AS amount_yen, CAST(l.delta_units AS BIGINT) AS amount_units,
         COALESCE(l.lot_id, drawn.lots) AS lot,
         COALESCE(l.expires_on, lot.expires_on, drawn.expires_on) AS expiry,
         l.balance_after_yen, l.balance_after_units, l.ledger_seq
  FROM ledger l
  LEFT JOIN lot ON lot.lot_id = l.lot_id
  LEFT JOIN drawn ON drawn.event_id = l.event_id
  WHERE l.jst_date >= $from
  UNION ALL
  SELECT 'opening', event_id, occurred_at, CAST(NULL AS DATE), 'coupon.balance', coupon_id, child_key, CAST(NULL AS BIGINT),
         CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR),
         coupon_set_id, coupon_kind, yen, units, CAST(NULL AS VARCHAR), CAST(NULL AS DATE),
         yen AS balance_after_yen, units AS balance_after_units, CAST(NULL AS BIGINT)
  FROM opening
  UNION ALL
  SELECT CASE WHEN jst_date < $from THEN 'opening' ELSE 'period' END, event_id, occurred_at, jst_date, event_type,
         CAST(NULL AS VARCHAR), child_key, guardian_key, application_id,
         CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR),
         CAST(NULL AS VARCHAR), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS VARCHAR), CAST(NULL AS DATE),
         CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT)
  FROM decision
  WHERE $coupon_set_id = ''
)
SELECT counted.line, counted.event_id, counted.occurred_at, counted.jst_date, counted.event_type,
       counted.coupon_id, counted.child_key, counted.guardian_key, counted.application_id,
       counted.use_id, counted.purpose, counted.programme_code AS programme, counted.facility_id AS facility,
       COALESCE(child.ward_code, 'unknown') AS ward_code, COALESCE(child.class_age, 'unknown') AS class_age,
       counted.coupon_set_id, counted.coupon_kind,
       counted.amount_yen, counted.amount_units, counted.lot, counted.expiry,
       counted.balance_after_yen, counted.balance_after_units
FROM counted
LEFT JOIN child ON child.child_key = counted.child_key
ORDER BY counted.line, counted.occurred_at, counted.event_id
