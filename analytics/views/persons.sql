-- One row per guardian, proxy guardian and child, with what is known of them now.
-- `class_age` is the class age in the fiscal year `registered_fiscal_year`; add the years since then.
WITH ward AS (
  SELECT person_key, LAST_VALUE(ward_code ORDER BY since) AS ward_code
  FROM person_wards
  GROUP BY person_key
),
gone AS (
  SELECT account_key AS person_key, MAX(occurred_at) AS deleted_at
  FROM events_account
  WHERE event_type = 'account.deleted'
  GROUP BY account_key
),
person AS (
  SELECT guardian_key AS person_key, 'guardian' AS person_kind, CAST(NULL AS BIGINT) AS guardian_key,
         MIN(occurred_at) AS registered_at, MIN(fiscal_year) AS registered_fiscal_year,
         CAST(NULL AS DATE) AS birth_month, CAST(NULL AS INT) AS class_age
  FROM events_account
  WHERE event_type = 'account.registered'
  GROUP BY guardian_key
  UNION ALL
  SELECT proxy_key, 'proxy_guardian', MAX(guardian_key), MIN(occurred_at), MIN(fiscal_year),
         CAST(NULL AS DATE), CAST(NULL AS INT)
  FROM events_account
  WHERE event_type = 'account.proxy_registered'
  GROUP BY proxy_key
  UNION ALL
  SELECT child_key, 'child', MAX(guardian_key), MIN(occurred_at), MIN(fiscal_year), MAX(birth_month), MAX(class_age)
  FROM events_child
  WHERE event_type = 'child.registered'
  GROUP BY child_key
)
SELECT person.person_key, person.person_kind, person.guardian_key, person.registered_at, gone.deleted_at,
       COALESCE(ward.ward_code, guardian_ward.ward_code) AS ward_code,
       person.birth_month, person.class_age, person.registered_fiscal_year
FROM person
LEFT JOIN gone ON gone.person_key = person.person_key
LEFT JOIN ward ON ward.person_key = person.person_key
LEFT JOIN ward guardian_ward ON guardian_ward.person_key = person.guardian_key
