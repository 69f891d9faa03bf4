-- R08 underlying rows: every use and reversal of the claims that were counted, oldest first within a claim. Children are
-- pseudonymous keys; the numbers of claims, uses and children are in the record only.

-- section: lines
-- final
SELECT calendar.month, claim.facility_id, claim.programme_code, line.claim_id, line.jst_date, line.occurred_at, line.event_type,
       line.use_id, line.coupon_id, line.child_key, line.purpose, line.amount_yen, line.amount_units, line.event_id
FROM coupon_claim_lines line
JOIN coupon_claims claim ON claim.claim_id = line.claim_id
JOIN calendar ON calendar.jst_date = claim.month
WHERE calendar.month IN (SELECT touched.month FROM calendar touched WHERE touched.jst_date BETWEEN $from AND $to)
  AND ($facility_id = '' OR claim.facility_id = $facility_id)
  AND (NOT $with_city OR claim.forwarded_at IS NOT NULL)
ORDER BY calendar.month, claim.facility_id, claim.programme_code, line.occurred_at, line.event_id
