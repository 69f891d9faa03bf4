-- One row per claim with its present state.
SELECT claim_id,
       MAX(claim_kind) AS claim_kind,
       MAX(month) AS month,
       MAX(facility_id) AS facility_id,
       MAX(programme_code) AS programme_code,
       MAX(residence_municipality_code) AS residence_municipality_code,
       MAX(quota_kind) AS quota_kind,
       LAST_VALUE(amount_yen ORDER BY occurred_at, subject_seq) FILTER (WHERE amount_yen IS NOT NULL) AS amount_yen,
       MAX(standard_amount_yen) AS standard_amount_yen,
       MAX(selected_amount_yen) AS selected_amount_yen,
       MIN(occurred_at) AS created_at,
       MIN(CASE WHEN event_type = 'claim.confirmed' THEN occurred_at END) AS confirmed_at,
       MIN(CASE WHEN event_type = 'claim.submitted' THEN occurred_at END) AS submitted_at,
       MIN(CASE WHEN event_type = 'claim.received' THEN occurred_at END) AS received_at,
       MIN(CASE WHEN event_type = 'claim.paid' THEN occurred_at END) AS paid_at,
       LAST_VALUE(substr(event_type, 7) ORDER BY occurred_at, subject_seq)
         FILTER (WHERE event_type IN ('claim.generated', 'claim.created', 'claim.confirmed', 'claim.submitted', 'claim.received',
                                      'claim.forwarded', 'claim.returned', 'claim.paid')) AS state
FROM events_claim
WHERE claim_id IS NOT NULL
GROUP BY claim_id
