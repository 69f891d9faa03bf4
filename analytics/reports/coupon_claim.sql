-- R08 クーポン請求データ. One line per claim: facility, programme and month. The last section is the report.
-- Parameters: $from, $to DATE, both included: the claims for every month the period touches
--   $facility_id VARCHAR, '' = all · $with_city BOOLEAN: only claims that are with the city
-- What a claim holds is what it said when it was computed last, of whatever month that is.

-- section: figures
WITH sums AS (
  SELECT claim_id,
         COUNT(*) FILTER (WHERE event_type = 'coupon.used') AS uses,
         COUNT(DISTINCT child_key) FILTER (WHERE event_type = 'coupon.used') AS children,
         SUM(CASE WHEN event_type = 'coupon.used' THEN amount_yen ELSE 0 END) AS gross_yen,
         SUM(CASE WHEN event_type = 'coupon.used' THEN 0 ELSE -amount_yen END) AS reversed_yen,
         SUM(amount_yen) AS net_yen,
         CAST(SUM(amount_units) AS BIGINT) AS units,
         SUM(CASE WHEN purpose = 'cancellation_fee' THEN amount_yen ELSE 0 END) AS cancel_fee_yen
  FROM coupon_claim_lines
  GROUP BY claim_id
)
SELECT calendar.month, claim.facility_id, claim.programme_code, claim.claim_id,
       sums.uses, sums.children, sums.gross_yen, sums.reversed_yen, sums.net_yen, sums.units, sums.cancel_fee_yen,
       claim.transfer_file_id, claim.state, claim.submitted_at, claim.received_at, claim.forwarded_at,
       claim.transfer_requested_at, claim.transferred_on, claim.result_code
FROM coupon_claims claim
JOIN calendar ON calendar.jst_date = claim.month
LEFT JOIN sums ON sums.claim_id = claim.claim_id
WHERE calendar.month IN (SELECT touched.month FROM calendar touched WHERE touched.jst_date BETWEEN $from AND $to)
  AND ($facility_id = '' OR claim.facility_id = $facility_id)
  AND (NOT $with_city OR claim.forwarded_at IS NOT NULL)
ORDER BY calendar.month, claim.facility_id, claim.programme_code
