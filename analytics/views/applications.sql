-- One row per application with the first time of each step and the state that the last step left.
-- `open` = approved and not revoked since, for applications for a coupon.
WITH step AS (
  SELECT application_id, event_type, occurred_at, subject_seq,
         application_kind, child_key, guardian_key, entry, via_child_qr, contact_channel, application_no,
         decision, reason_code, previous, programme_code, facility_id,
         CASE
           WHEN event_type = 'application.submitted' THEN 'submitted'
           WHEN event_type = 'application.deficiency_found' THEN 'deficient'
           WHEN event_type = 'application.resubmitted' THEN 'resubmitted'
           WHEN event_type = 'application.matching_started' THEN 'matching'
           WHEN event_type = 'application.review_started' THEN 'under_review'
           WHEN event_type = 'application.adjusting' THEN 'adjusting'
           WHEN event_type = 'application.decided' THEN decision
           WHEN event_type = 'application.decision_revoked' AND previous = 'approved' THEN 'revoked'
           WHEN event_type = 'application.decision_revoked' THEN 'under_review'
           WHEN event_type = 'application.cancelled' THEN 'cancelled'
           WHEN event_type = 'application.used' THEN 'used'
         END AS state
  FROM events_application
)
SELECT application_id,
       MAX(application_kind) AS application_kind,
       MAX(application_no) AS application_no,
       MAX(child_key) AS child_key,
       MAX(guardian_key) AS guardian_key,
       MAX(entry) AS entry,
       BOOL_OR(via_child_qr) AS via_child_qr,
       MAX(contact_channel) AS contact_channel,
       MAX(programme_code) AS programme_code,
       MAX(facility_id) AS facility_id,
       MIN(CASE WHEN event_type = 'application.submitted' THEN occurred_at END) AS submitted_at,
       MIN(CASE WHEN event_type = 'application.received' THEN occurred_at END) AS received_at,
       MIN(CASE WHEN event_type = 'application.deficiency_found' THEN occurred_at END) AS deficient_at,
       MIN(CASE WHEN event_type = 'application.resubmitted' THEN occurred_at END) AS resubmitted_at,
       MIN(CASE WHEN event_type = 'application.matching_started' THEN occurred_at END) AS matching_at,
       MIN(CASE WHEN event_type = 'application.review_started' THEN occurred_at END) AS review_at,
       MIN(CASE WHEN event_type = 'application.decided' THEN occurred_at END) AS decided_at,
       MIN(CASE WHEN event_type = 'application.decided' AND decision = 'approved' THEN occurred_at END) AS approved_at,
       MIN(CASE WHEN event_type = 'application.decision_revoked' AND previous = 'approved' THEN occurred_at END) AS revoked_at,
       MIN(CASE WHEN event_type = 'application.cancelled' THEN occurred_at END) AS cancelled_at,
       LAST_VALUE(decision ORDER BY occurred_at, subject_seq) FILTER (WHERE decision IS NOT NULL) AS decision,
       LAST_VALUE(reason_code ORDER BY occurred_at, subject_seq) FILTER (WHERE reason_code IS NOT NULL) AS reason_code,
       LAST_VALUE(state ORDER BY occurred_at, subject_seq) FILTER (WHERE state IS NOT NULL) AS state
FROM step
GROUP BY application_id
