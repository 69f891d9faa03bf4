-- R01 統計（簡易版）. Sections run in order; each becomes a table of its name for those after it; the last is the report.
-- Parameters: $from, $to DATE, both included · $to_fiscal_year · $by_… BOOLEAN, one per dimension
--   $coupon_set_id VARCHAR, '' = all sets
--   $with_registrations, $with_balances BOOLEAN: whether registrations and balances exist along the chosen dimensions
-- A dimension that was not chosen is '' everywhere, so that one statement serves every combination.

-- section: child
-- Ward and class age as they are at the end of the period: one value per child, or balances would not carry over.
WITH ward AS (
  SELECT person_key, LAST_VALUE(ward_code ORDER BY since) AS ward_code
  FROM person_wards
  WHERE person_kind = 'child' AND jst_date <= $to
  GROUP BY person_key
)
SELECT c.child_key,
       CASE WHEN $by_ward_code THEN COALESCE(MAX(ward.ward_code), 'unknown') ELSE '' END AS ward_code,
       CASE WHEN $by_class_age THEN COALESCE(CAST(MAX(c.class_age + $to_fiscal_year - c.fiscal_year) AS VARCHAR), 'unknown') ELSE '' END AS class_age
FROM events_child c
LEFT JOIN ward ON ward.person_key = c.child_key
WHERE c.event_type = 'child.registered'
GROUP BY c.child_key

-- section: line
-- Every ledger line, read once. Span 0 is what came before the period; `counted` are the lines the figures are made of.
SELECT l.coupon_id, l.ledger_seq, l.balance_after_yen, l.balance_after_units,
       CASE WHEN l.jst_date < $from THEN 0
            WHEN $by_month THEN (date_part('year', l.jst_date) - date_part('year', CAST($from AS DATE))) * 12
                                + date_part('month', l.jst_date) - date_part('month', CAST($from AS DATE)) + 1
            ELSE 1 END AS span_no,
       l.jst_date <= $to
         AND ($coupon_set_id = '' OR l.coupon_set_id = $coupon_set_id)
         AND ($with_balances OR (l.jst_date >= $from AND l.event_type IN ('coupon.used', 'coupon.use_reversed'))) AS counted,
       CASE WHEN $by_programme_code THEN COALESCE(l.programme_code, 'unknown') ELSE '' END AS programme_code,
       CASE WHEN $by_facility_id THEN COALESCE(l.facility_id, 'unknown') ELSE '' END AS facility_id,
       COALESCE(child.ward_code, CASE WHEN $by_ward_code THEN 'unknown' ELSE '' END) AS ward_code,
       COALESCE(child.class_age, CASE WHEN $by_class_age THEN 'unknown' ELSE '' END) AS class_age,
       CASE WHEN $by_coupon_set_id THEN COALESCE(l.coupon_set_id, 'unknown') ELSE '' END AS coupon_set_id,
       CASE WHEN $by_coupon_kind THEN COALESCE(l.coupon_kind, 'unknown') ELSE '' END AS coupon_kind,
       l.event_type, l.purpose, l.use_id, l.child_key, l.delta_yen, l.delta_units
FROM coupon_ledger l
LEFT JOIN child ON child.child_key = l.child_key

-- section: mismatch
-- The ledger against itself: the changes of a coupon up to its newest recorded balance must add up to that balance.
-- Any row here blocks the report, because then start + distributed + adjusted - used - expired - revoked = end is wrong.
WITH newest AS (
  SELECT coupon_id, MAX(ledger_seq) AS ledger_seq
  FROM line
  WHERE balance_after_yen IS NOT NULL
  GROUP BY coupon_id
),
recorded AS (
  SELECT line.coupon_id, line.ledger_seq, line.balance_after_yen, COALESCE(line.balance_after_units, 0) AS balance_after_units
  FROM line
  JOIN newest ON newest.coupon_id = line.coupon_id AND newest.ledger_seq = line.ledger_seq
)
SELECT line.coupon_id,
       SUM(line.delta_yen) - MAX(recorded.balance_after_yen) AS off_yen,
       SUM(line.delta_units) - MAX(recorded.balance_after_units) AS off_units
FROM line
JOIN recorded ON recorded.coupon_id = line.coupon_id
WHERE line.ledger_seq <= recorded.ledger_seq
GROUP BY line.coupon_id
HAVING SUM(line.delta_yen) <> MAX(recorded.balance_after_yen) OR SUM(line.delta_units) <> MAX(recorded.balance_after_units)

-- section: span
SELECT DISTINCT
       CASE WHEN $by_month THEN (date_part('year', jst_date) - date_part('year', CAST($from AS DATE))) * 12
                                + date_part('month', jst_date) - date_part('month', CAST($from AS DATE)) + 1
            ELSE 1 END AS span_no,
       CASE WHEN $by_month THEN month ELSE '' END AS month
FROM calendar
WHERE jst_date BETWEEN $from AND $to

-- section: application
-- Applications for a coupon that were approved, with the spans of the approval and of its revocation.
WITH applicant AS (
  SELECT application_id, MAX(child_key) AS child_key, MAX(guardian_key) AS guardian_key
  FROM events_application
  WHERE event_type = 'application.submitted'
  GROUP BY application_id
),
decision AS (
  SELECT application_id, event_type,
         CASE WHEN jst_date < $from THEN 0
              WHEN $by_month THEN (date_part('year', jst_date) - date_part('year', CAST($from AS DATE))) * 12
                                  + date_part('month', jst_date) - date_part('month', CAST($from AS DATE)) + 1
              ELSE 1 END AS span_no
  FROM events_application
  WHERE jst_date <= $to
    AND ((event_type = 'application.decided' AND application_kind = 'coupon' AND decision = 'approved')
      OR (event_type = 'application.decision_revoked' AND previous = 'approved'))
)
SELECT d.application_id, applicant.child_key, applicant.guardian_key,
       COALESCE(child.ward_code, CASE WHEN $by_ward_code THEN 'unknown' ELSE '' END) AS ward_code,
       COALESCE(child.class_age, CASE WHEN $by_class_age THEN 'unknown' ELSE '' END) AS class_age,
       MIN(CASE WHEN d.event_type = 'application.decided' THEN d.span_no END) AS approved_span,
       MAX(CASE WHEN d.event_type = 'application.decision_revoked' THEN d.span_no END) AS revoked_span
FROM decision d
LEFT JOIN applicant ON applicant.application_id = d.application_id
LEFT JOIN child ON child.child_key = applicant.child_key
WHERE $with_registrations
GROUP BY d.application_id, applicant.child_key, applicant.guardian_key, child.ward_code, child.class_age

-- section: cell
-- Every combination of the chosen dimensions, so that a value without rows shows 0.
WITH programme AS (
  SELECT programme_code FROM programmes WHERE $by_programme_code
  UNION SELECT programme_code FROM line WHERE counted
  UNION SELECT '' AS programme_code WHERE NOT $by_programme_code
),
facility AS (
  SELECT facility_id FROM facilities WHERE $by_facility_id
  UNION SELECT facility_id FROM line WHERE counted
  UNION SELECT '' AS facility_id WHERE NOT $by_facility_id
),
ward AS (
  SELECT ward_code FROM child
  UNION SELECT ward_code FROM line WHERE counted
  UNION SELECT ward_code FROM application
  UNION SELECT '' AS ward_code WHERE NOT $by_ward_code
),
class AS (
  SELECT class_age FROM child
  UNION SELECT class_age FROM line WHERE counted
  UNION SELECT class_age FROM application
  UNION SELECT '' AS class_age WHERE NOT $by_class_age
),
coupon_set AS (
  SELECT coupon_set_id FROM coupon_sets WHERE $by_coupon_set_id AND ($coupon_set_id = '' OR coupon_set_id = $coupon_set_id)
  UNION SELECT coupon_set_id FROM line WHERE counted
  UNION SELECT '' AS coupon_set_id WHERE NOT $by_coupon_set_id
),
kind AS (
  SELECT coupon_kind FROM coupon_sets WHERE $by_coupon_kind AND ($coupon_set_id = '' OR coupon_set_id = $coupon_set_id)
  UNION SELECT coupon_kind FROM line WHERE counted
  UNION SELECT '' AS coupon_kind WHERE NOT $by_coupon_kind
)
SELECT span.span_no, span.month, programme.programme_code, facility.facility_id, ward.ward_code, class.class_age,
       coupon_set.coupon_set_id, kind.coupon_kind
FROM span
CROSS JOIN programme
CROSS JOIN facility
CROSS JOIN ward
CROSS JOIN class
CROSS JOIN coupon_set
CROSS JOIN kind

-- section: figures
WITH flow AS (
  SELECT span_no, programme_code, facility_id, ward_code, class_age, coupon_set_id, coupon_kind,
         SUM(delta_yen) AS delta_yen,
         SUM(delta_units) AS delta_units,
         SUM(CASE WHEN event_type = 'coupon.distributed' THEN delta_yen ELSE 0 END) AS distributed_yen,
         SUM(CASE WHEN event_type = 'coupon.distributed' THEN delta_units ELSE 0 END) AS distributed_units,
         SUM(CASE WHEN event_type = 'coupon.adjusted' THEN delta_yen ELSE 0 END) AS adjusted_yen,
         SUM(CASE WHEN event_type = 'coupon.adjusted' THEN delta_units ELSE 0 END) AS adjusted_units,
         SUM(CASE WHEN purpose <> 'service' THEN 0
                  WHEN event_type = 'coupon.used' THEN 1
                  WHEN event_type = 'coupon.use_reversed' THEN -1 ELSE 0 END) AS service_uses,
         SUM(CASE WHEN event_type IN ('coupon.used', 'coupon.use_reversed') THEN -delta_yen ELSE 0 END) AS used_yen,
         SUM(CASE WHEN event_type IN ('coupon.used', 'coupon.use_reversed') THEN -delta_units ELSE 0 END) AS used_units,
         SUM(CASE WHEN event_type IN ('coupon.used', 'coupon.use_reversed') AND purpose = 'cancellation_fee'
                  THEN -delta_yen ELSE 0 END) AS of_which_cancel_fee_yen,
         SUM(CASE WHEN event_type = 'coupon.expired' THEN -delta_yen ELSE 0 END) AS expired_yen,
         SUM(CASE WHEN event_type = 'coupon.expired' THEN -delta_units ELSE 0 END) AS expired_units,
         SUM(CASE WHEN event_type = 'coupon.revoked' THEN -delta_yen ELSE 0 END) AS revoked_yen,
         SUM(CASE WHEN event_type = 'coupon.revoked' THEN -delta_units ELSE 0 END) AS revoked_units
  FROM line
  WHERE counted
  GROUP BY span_no, programme_code, facility_id, ward_code, class_age, coupon_set_id, coupon_kind
),
undone AS (
  SELECT use_id, MIN(span_no) AS span_no
  FROM line
  WHERE event_type = 'coupon.use_reversed' AND counted
  GROUP BY use_id
),
person AS (
  SELECT line.span_no, line.programme_code, line.facility_id, line.ward_code, line.class_age, line.coupon_set_id, line.coupon_kind,
         COUNT(DISTINCT line.child_key) AS users
  FROM line
  LEFT JOIN undone ON undone.use_id = line.use_id
  WHERE line.event_type = 'coupon.used' AND line.counted AND line.span_no > 0
    AND (undone.span_no IS NULL OR undone.span_no > line.span_no)
  GROUP BY line.span_no, line.programme_code, line.facility_id, line.ward_code, line.class_age, line.coupon_set_id, line.coupon_kind
),
approved AS (
  SELECT approved_span AS span_no, ward_code, class_age,
         COUNT(*) AS registrations, COUNT(DISTINCT guardian_key) AS guardians
  FROM application
  WHERE approved_span > 0
  GROUP BY approved_span, ward_code, class_age
),
withdrawn AS (
  SELECT revoked_span AS span_no, ward_code, class_age, COUNT(*) AS revoked
  FROM application
  WHERE revoked_span > 0
  GROUP BY revoked_span, ward_code, class_age
),
registered AS (
  SELECT span.span_no, a.ward_code, a.class_age,
         COUNT(DISTINCT COALESCE(CAST(a.child_key AS VARCHAR), a.application_id)) AS children
  FROM span
  JOIN application a ON a.approved_span <= span.span_no AND (a.revoked_span IS NULL OR a.revoked_span > span.span_no)
  GROUP BY span.span_no, a.ward_code, a.class_age
),
filled AS (
  SELECT cell.*,
         COALESCE(approved.registrations, 0) AS coupon_registrations,
         COALESCE(withdrawn.revoked, 0) AS coupon_registrations_revoked,
         COALESCE(approved.guardians, 0) AS coupon_guardians,
         COALESCE(registered.children, 0) AS registered_end,
         COALESCE(flow.distributed_yen, 0) AS distributed_yen, COALESCE(flow.distributed_units, 0) AS distributed_units,
         COALESCE(flow.adjusted_yen, 0) AS adjusted_yen, COALESCE(flow.adjusted_units, 0) AS adjusted_units,
         COALESCE(flow.service_uses, 0) AS service_uses,
         COALESCE(flow.used_yen, 0) AS used_yen, COALESCE(flow.used_units, 0) AS used_units,
         COALESCE(flow.of_which_cancel_fee_yen, 0) AS of_which_cancel_fee_yen,
         COALESCE(person.users, 0) AS users,
         COALESCE(flow.expired_yen, 0) AS expired_yen, COALESCE(flow.expired_units, 0) AS expired_units,
         COALESCE(flow.revoked_yen, 0) AS revoked_yen, COALESCE(flow.revoked_units, 0) AS revoked_units,
         COALESCE(flow.delta_yen, 0) AS delta_yen, COALESCE(flow.delta_units, 0) AS delta_units,
         COALESCE(opening.delta_yen, 0) AS opening_yen, COALESCE(opening.delta_units, 0) AS opening_units
  FROM cell
  LEFT JOIN flow ON flow.span_no = cell.span_no AND flow.programme_code = cell.programme_code
    AND flow.facility_id = cell.facility_id AND flow.ward_code = cell.ward_code AND flow.class_age = cell.class_age
    AND flow.coupon_set_id = cell.coupon_set_id AND flow.coupon_kind = cell.coupon_kind
  LEFT JOIN (SELECT * FROM flow WHERE span_no = 0) opening ON opening.programme_code = cell.programme_code
    AND opening.facility_id = cell.facility_id AND opening.ward_code = cell.ward_code AND opening.class_age = cell.class_age
    AND opening.coupon_set_id = cell.coupon_set_id AND opening.coupon_kind = cell.coupon_kind
  LEFT JOIN person ON person.span_no = cell.span_no AND person.programme_code = cell.programme_code
    AND person.facility_id = cell.facility_id AND person.ward_code = cell.ward_code AND person.class_age = cell.class_age
    AND person.coupon_set_id = cell.coupon_set_id AND person.coupon_kind = cell.coupon_kind
  LEFT JOIN approved ON approved.span_no = cell.span_no AND approved.ward_code = cell.ward_code AND approved.class_age = cell.class_age
  LEFT JOIN withdrawn ON withdrawn.span_no = cell.span_no AND withdrawn.ward_code = cell.ward_code AND withdrawn.class_age = cell.class_age
  LEFT JOIN registered ON registered.span_no = cell.span_no AND registered.ward_code = cell.ward_code AND registered.class_age = cell.class_age
),
balanced AS (
  SELECT *,
         opening_yen + SUM(delta_yen) OVER (
           PARTITION BY programme_code, facility_id, ward_code, class_age, coupon_set_id, coupon_kind ORDER BY span_no
           ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS balance_end_yen,
         opening_units + SUM(delta_units) OVER (
           PARTITION BY programme_code, facility_id, ward_code, class_age, coupon_set_id, coupon_kind ORDER BY span_no
           ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS balance_end_units
  FROM filled
)
SELECT month, programme_code, facility_id, ward_code, class_age, coupon_set_id, coupon_kind,
       CASE WHEN $with_registrations THEN coupon_registrations END AS coupon_registrations,
       CASE WHEN $with_registrations THEN coupon_registrations_revoked END AS coupon_registrations_revoked,
       CASE WHEN $with_registrations THEN coupon_guardians END AS coupon_guardians,
       CASE WHEN $with_registrations THEN registered_end END AS registered_end,
       CASE WHEN $with_balances THEN balance_end_yen - delta_yen END AS balance_start_yen,
       CASE WHEN $with_balances THEN balance_end_units - delta_units END AS balance_start_units,
       CASE WHEN $with_balances THEN distributed_yen END AS distributed_yen,
       CASE WHEN $with_balances THEN distributed_units END AS distributed_units,
       CASE WHEN $with_balances THEN adjusted_yen END AS adjusted_yen,
       CASE WHEN $with_balances THEN adjusted_units END AS adjusted_units,
       service_uses, used_yen, used_units, of_which_cancel_fee_yen, users,
       CASE WHEN $with_balances THEN expired_yen END AS expired_yen,
       CASE WHEN $with_balances THEN expired_units END AS expired_units,
       CASE WHEN $with_balances THEN revoked_yen END AS revoked_yen,
       CASE WHEN $with_balances THEN revoked_units END AS revoked_units,
       CASE WHEN $with_balances THEN balance_end_yen END AS balance_end_yen,
       CASE WHEN $with_balances THEN balance_end_units END AS balance_end_units,
       CASE WHEN $with_balances THEN percent(used_yen, balance_end_yen - delta_yen + distributed_yen + adjusted_yen) END AS usage_rate_yen,
       CASE WHEN $with_balances THEN percent(used_units, balance_end_units - delta_units + distributed_units + adjusted_units) END AS usage_rate_units
FROM balanced
ORDER BY month, programme_code, facility_id, ward_code, class_age, coupon_set_id, coupon_kind
