-- Where a person lived from when on: one row per known ward of a guardian or a child.
-- A child lives where its guardian lives until an own movement says otherwise.
WITH guardian AS (
  SELECT COALESCE(guardian_key, account_key) AS person_key, occurred_at, jst_date, ward_code
  FROM events_account
  WHERE event_type IN ('account.registered', 'account.updated') AND ward_code IS NOT NULL
)
SELECT 'guardian' AS person_kind, person_key, occurred_at AS since, jst_date, ward_code
FROM guardian
UNION ALL
SELECT 'child', child.child_key, guardian.occurred_at, guardian.jst_date, guardian.ward_code
FROM guardian
JOIN events_child child ON child.guardian_key = guardian.person_key AND child.event_type = 'child.registered'
UNION ALL
SELECT 'child', child_key, occurred_at, jst_date, ward_code
FROM events_child
WHERE event_type IN ('child.moved_in', 'child.moved_out') AND ward_code IS NOT NULL
