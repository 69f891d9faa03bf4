-- One row per reservation: its times, what became of it, guide fee, cancellation fee and quota.
WITH asked AS (
  SELECT reservation_id, child_key, guardian_key, use_type, use_date, "from" AS starts_at, "to" AS ends_at, minutes, slot_class,
         class_age, use_count, proxied_by, guide_fee_yen, programme_code, facility_id, occurred_at AS requested_at, jst_date
  FROM events_reservation
  WHERE event_type = 'reservation.requested'
),
step AS (
  SELECT reservation_id,
         MIN(CASE WHEN event_type = 'reservation.confirmed' THEN occurred_at END) AS confirmed_at,
         MIN(CASE WHEN event_type = 'reservation.declined' THEN occurred_at END) AS declined_at,
         MIN(CASE WHEN event_type IN ('reservation.cancelled', 'reservation.auto_cancelled') THEN occurred_at END) AS cancelled_at,
         MAX(CASE WHEN event_type = 'reservation.cancelled' THEN side
                  WHEN event_type = 'reservation.auto_cancelled' THEN 'facility' END) AS cancelled_side,
         BOOL_OR(event_type = 'reservation.no_show') AS no_show,
         MAX(cancel_fee_yen) AS cancel_fee_yen,
         BOOL_OR(quota_consumed) AS quota_consumed,
         LAST_VALUE(lead_min ORDER BY occurred_at) FILTER (WHERE lead_min IS NOT NULL) AS lead_min
  FROM events_reservation
  GROUP BY reservation_id
),
stamp AS (
  SELECT reservation_id,
         MIN(CASE WHEN event_type = 'attendance.started' THEN stamped_at END) AS started_at,
         MAX(CASE WHEN event_type = 'attendance.ended' THEN stamped_at END) AS ended_at
  FROM events_attendance
  GROUP BY reservation_id
)
SELECT asked.reservation_id, asked.child_key, asked.guardian_key, asked.programme_code, asked.facility_id, asked.jst_date,
       asked.use_type, asked.use_date, asked.starts_at, asked.ends_at, asked.minutes, asked.slot_class, asked.class_age,
       asked.use_count, asked.proxied_by, asked.guide_fee_yen, asked.requested_at,
       step.confirmed_at, step.declined_at, step.cancelled_at, step.cancelled_side, stamp.started_at, stamp.ended_at,
       step.no_show, step.cancel_fee_yen, step.quota_consumed, step.lead_min,
       CASE WHEN step.declined_at IS NOT NULL THEN 'declined'
            WHEN step.cancelled_side = 'guardian' THEN 'cancelled_guardian'
            WHEN step.cancelled_at IS NOT NULL THEN 'cancelled_facility'
            WHEN stamp.ended_at IS NOT NULL THEN 'ended'
            WHEN stamp.started_at IS NOT NULL THEN 'in_use'
            WHEN step.confirmed_at IS NOT NULL THEN 'confirmed'
            ELSE 'tentative' END AS state
FROM asked
LEFT JOIN step ON step.reservation_id = asked.reservation_id
LEFT JOIN stamp ON stamp.reservation_id = asked.reservation_id
