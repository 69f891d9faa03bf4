-- One row per claim with its present state. An order of payment names all claims it is for.
WITH ordered AS (
  SELECT unnest(claim_ids) AS claim_id, occurred_at, subject_seq
  FROM events_claim
  WHERE event_type = 'claim.transfer_requested'
),
step AS (
  SELECT claim_id, occurred_at, subject_seq,
         CASE WHEN event_type <> 'claim.transfer_result' THEN substr(event_type, 7)
              WHEN result_code = 'ok' THEN 'paid'
              ELSE 'transfer_failed' END AS state
  FROM events_claim
  WHERE event_type IN ('claim.generated', 'claim.created', 'claim.confirmed', 'claim.submitted', 'claim.received',
                       'claim.forwarded', 'claim.returned', 'claim.transfer_result', 'claim.paid')
  UNION ALL
  SELECT claim_id, occurred_at, subject_seq, 'transfer_requested' AS state FROM ordered
),
present AS (
  SELECT claim_id, LAST_VALUE(state ORDER BY occurred_at, subject_seq) AS state
  FROM step
  GROUP BY claim_id
),
claim AS (
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
         MIN(CASE WHEN event_type = 'claim.paid' THEN occurred_at END) AS paid_at
  FROM events_claim
  WHERE claim_id IS NOT NULL
  GROUP BY claim_id
)
SELECT claim.claim_id, claim.claim_kind, claim.month, claim.facility_id, claim.programme_code,
       claim.residence_municipality_code, claim.quota_kind, claim.amount_yen, claim.standard_amount_yen,
       claim.selected_amount_yen, claim.created_at, claim.confirmed_at, claim.submitted_at, claim.received_at,
       claim.paid_at, present.state
FROM claim
LEFT JOIN present ON present.claim_id = claim.claim_id
