-- One row per use and reversal in the newest computation of a coupon claim; yen and units of a reversal are negative.
WITH part AS (
  SELECT event_id, 'coupon.used' AS event_type, unnest(use_ids) AS line_id
  FROM events_claim
  WHERE event_type = 'claim.created'
  UNION ALL
  SELECT event_id, 'coupon.use_reversed', unnest(reversal_ids)
  FROM events_claim
  WHERE event_type = 'claim.created'
),
line AS (
  SELECT event_id, event_type, occurred_at, jst_date, use_id, child_key, coupon_id, purpose,
         CASE event_type WHEN 'coupon.used' THEN use_id ELSE reversal_id END AS line_id,
         CASE event_type WHEN 'coupon.used' THEN amount_yen ELSE -amount_yen END AS amount_yen,
         CASE event_type WHEN 'coupon.used' THEN amount_units ELSE -amount_units END AS amount_units
  FROM events_coupon
  WHERE event_type IN ('coupon.used', 'coupon.use_reversed')
)
SELECT claim.claim_id, line.event_id, line.event_type, line.occurred_at, line.jst_date,
       line.use_id, line.child_key, line.coupon_id, line.purpose, line.amount_yen, line.amount_units
FROM coupon_claims claim
JOIN part ON part.event_id = claim.computed_event_id
JOIN line ON line.event_type = part.event_type AND line.line_id = part.line_id
