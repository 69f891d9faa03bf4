-- One row per coupon claim: its newest computation, and how far it has come since it was last sent back.
-- `submitted_at`, `received_at` and `forwarded_at` are empty again after it was sent back; what is with the city has a
-- `forwarded_at`. The order of a payment is one event for many claims. An order forgets the bank's answer to the one before.
WITH step AS (
  SELECT claim_id, event_type, occurred_at, subject_seq, result_code, transferred_on, CAST(NULL AS VARCHAR) AS transfer_file_id
  FROM events_claim
  WHERE event_type IN ('claim.created', 'claim.submitted', 'claim.received', 'claim.forwarded', 'claim.returned',
                       'claim.transfer_result', 'claim.paid')
  UNION ALL
  SELECT unnest(claim_ids), event_type, occurred_at, subject_seq, CAST(NULL AS VARCHAR), CAST(NULL AS DATE), transfer_file_id
  FROM events_claim
  WHERE event_type = 'claim.transfer_requested'
),
turn AS (
  SELECT claim_id,
         LAST_VALUE(event_type ORDER BY occurred_at, subject_seq) AS event_type,
         MAX(CASE WHEN event_type = 'claim.returned' THEN occurred_at END) AS returned_at,
         MAX(CASE WHEN event_type = 'claim.transfer_requested' THEN occurred_at END) AS transfer_requested_at,
         LAST_VALUE(transfer_file_id ORDER BY occurred_at) FILTER (WHERE transfer_file_id IS NOT NULL) AS transfer_file_id
  FROM step
  GROUP BY claim_id
),
since AS (
  SELECT step.claim_id,
         MAX(CASE WHEN step.event_type = 'claim.submitted' THEN step.occurred_at END) AS submitted_at,
         MAX(CASE WHEN step.event_type = 'claim.received' THEN step.occurred_at END) AS received_at,
         MAX(CASE WHEN step.event_type = 'claim.forwarded' THEN step.occurred_at END) AS forwarded_at,
         LAST_VALUE(step.transferred_on ORDER BY step.occurred_at)
           FILTER (WHERE step.result_code IS NOT NULL AND step.occurred_at >= turn.transfer_requested_at) AS transferred_on,
         LAST_VALUE(step.result_code ORDER BY step.occurred_at)
           FILTER (WHERE step.result_code IS NOT NULL AND step.occurred_at >= turn.transfer_requested_at) AS result_code
  FROM step
  JOIN turn ON turn.claim_id = step.claim_id
  WHERE turn.returned_at IS NULL OR step.occurred_at >= turn.returned_at
  GROUP BY step.claim_id
),
computed AS (
  SELECT claim_id, LAST_VALUE(event_id ORDER BY occurred_at, subject_seq) AS event_id
  FROM events_claim
  WHERE event_type = 'claim.created'
  GROUP BY claim_id
)
SELECT e.claim_id, e.month, e.facility_id, e.programme_code, e.amount_yen,
       CASE turn.event_type
         WHEN 'claim.returned' THEN 'created'
         WHEN 'claim.transfer_result' THEN CASE WHEN since.result_code = 'ok' THEN 'paid' ELSE 'transfer_failed' END
         ELSE substr(turn.event_type, 7) END AS state,
       since.submitted_at, since.received_at, since.forwarded_at,
       turn.transfer_requested_at, turn.transfer_file_id, since.transferred_on, since.result_code,
       e.event_id AS computed_event_id
FROM computed
JOIN events_claim e ON e.event_id = computed.event_id
JOIN turn ON turn.claim_id = e.claim_id
JOIN since ON since.claim_id = e.claim_id
