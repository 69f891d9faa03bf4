-- R05 underlying rows. The final sections are row sets of their own. Parameters as in app_usage.sql.
-- Weekly, monthly and rolling figures reach beyond the period: `in_period` tells the rows inside it from those around it.

-- section: sessions
-- final
SELECT jst_date BETWEEN $from AND $to AS in_period, jst_date, session_id, guardian_key, device_key,
       actor_role AS role, platform, app_version, started_at, ended_at, duration_ms, screens, errors, fatal
FROM sessions
WHERE jst_date BETWEEN $window_from AND $active_to
ORDER BY started_at, session_id

-- section: views
-- final
SELECT v.jst_date, v.event_id, v.occurred_at, v.session_id, v.screen_id, v.previous_screen_id, v.dwell_ms,
       v.actor_role AS role, COALESCE(s.platform, b.platform) AS platform, COALESCE(s.app_version, b.app_version) AS app_version
FROM events_app v
LEFT JOIN (
  SELECT session_id, jst_date, MAX(platform) AS platform, MAX(app_version) AS app_version
  FROM events_app
  WHERE event_type = 'app.session_started' AND jst_date BETWEEN $window_from AND $to
  GROUP BY session_id, jst_date
) AS s ON s.session_id = v.session_id AND s.jst_date = v.jst_date
LEFT JOIN (
  SELECT session_id, jst_date, MAX(platform) AS platform, MAX(app_version) AS app_version
  FROM events_app
  WHERE event_type = 'app.session_started' AND jst_date BETWEEN $window_from AND $to
  GROUP BY session_id, jst_date
) AS b ON b.session_id = v.session_id AND b.jst_date = CAST(v.jst_date - INTERVAL '1 day' AS DATE)
WHERE v.event_type = 'app.screen_viewed' AND v.jst_date BETWEEN $from AND $to
ORDER BY v.occurred_at, v.event_id

-- section: errors
-- final
SELECT e.jst_date, e.event_id, e.occurred_at, e.session_id, e.screen_id, e.error_kind, e.code, e.fatal,
       e.actor_role AS role, COALESCE(s.platform, b.platform) AS platform, COALESCE(s.app_version, b.app_version) AS app_version
FROM events_app e
LEFT JOIN (
  SELECT session_id, jst_date, MAX(platform) AS platform, MAX(app_version) AS app_version
  FROM events_app
  WHERE event_type = 'app.session_started' AND jst_date BETWEEN $window_from AND $to
  GROUP BY session_id, jst_date
) AS s ON s.session_id = e.session_id AND s.jst_date = e.jst_date
LEFT JOIN (
  SELECT session_id, jst_date, MAX(platform) AS platform, MAX(app_version) AS app_version
  FROM events_app
  WHERE event_type = 'app.session_started' AND jst_date BETWEEN $window_from AND $to
  GROUP BY session_id, jst_date
) AS b ON b.session_id = e.session_id AND b.jst_date = CAST(e.jst_date - INTERVAL '1 day' AS DATE)
WHERE e.event_type = 'app.error_occurred' AND e.jst_date BETWEEN $from AND $to
ORDER BY e.occurred_at, e.event_id

-- section: cohorts
-- final
-- One row per person whose first session is in the period. 1 = came back then, 0 = did not, empty = too young to tell.
WITH first AS (
  SELECT guardian_key, MIN(jst_date) AS first_day, MIN(occurred_at) AS first_at
  FROM events_app
  WHERE event_type = 'app.session_started' AND guardian_key IS NOT NULL AND jst_date <= $to
  GROUP BY guardian_key
  HAVING MIN(jst_date) >= $from
),
member AS (
  SELECT first.guardian_key, first.first_day,
         MIN(s.platform) AS platform, MIN(s.app_version) AS app_version, MIN(s.actor_role) AS role,
         12 * (date_part('year', CAST($horizon AS DATE)) - date_part('year', first.first_day))
           + date_part('month', CAST($horizon AS DATE)) - date_part('month', first.first_day) AS age_months
  FROM first
  JOIN events_app s ON s.guardian_key = first.guardian_key AND s.occurred_at = first.first_at AND s.event_type = 'app.session_started'
  GROUP BY first.guardian_key, first.first_day
),
seen AS (
  SELECT DISTINCT m.guardian_key,
         CAST(date_part('epoch', u.jst_date) - date_part('epoch', m.first_day) AS BIGINT) / 86400 AS days,
         12 * (date_part('year', u.jst_date) - date_part('year', m.first_day))
           + date_part('month', u.jst_date) - date_part('month', m.first_day) AS months
  FROM member m
  JOIN events_app u ON u.guardian_key = m.guardian_key
  WHERE u.event_type = 'app.session_started' AND u.jst_date BETWEEN $from AND $return_to
)
SELECT m.guardian_key, m.first_day, m.platform, m.app_version, m.role,
       CASE WHEN m.first_day + INTERVAL '1 day' <= $horizon THEN MAX(CASE WHEN seen.days = 1 THEN 1 ELSE 0 END) END AS d1,
       CASE WHEN m.first_day + INTERVAL '7 days' <= $horizon THEN MAX(CASE WHEN seen.days = 7 THEN 1 ELSE 0 END) END AS d7,
       CASE WHEN m.first_day + INTERVAL '30 days' <= $horizon THEN MAX(CASE WHEN seen.days = 30 THEN 1 ELSE 0 END) END AS d30,
       CASE WHEN m.age_months >= 1 THEN MAX(CASE WHEN seen.months = 1 THEN 1 ELSE 0 END) END AS m1,
       CASE WHEN m.age_months >= 2 THEN MAX(CASE WHEN seen.months = 2 THEN 1 ELSE 0 END) END AS m2,
       CASE WHEN m.age_months >= 3 THEN MAX(CASE WHEN seen.months = 3 THEN 1 ELSE 0 END) END AS m3,
       CASE WHEN m.age_months >= 4 THEN MAX(CASE WHEN seen.months = 4 THEN 1 ELSE 0 END) END AS m4,
       CASE WHEN m.age_months >= 5 THEN MAX(CASE WHEN seen.months = 5 THEN 1 ELSE 0 END) END AS m5,
       CASE WHEN m.age_months >= 6 THEN MAX(CASE WHEN seen.months = 6 THEN 1 ELSE 0 END) END AS m6,
       CASE WHEN m.age_months >= 7 THEN MAX(CASE WHEN seen.months = 7 THEN 1 ELSE 0 END) END AS m7,
       CASE WHEN m.age_months >= 8 THEN MAX(CASE WHEN seen.months = 8 THEN 1 ELSE 0 END) END AS m8,
       CASE WHEN m.age_months >= 9 THEN MAX(CASE WHEN seen.months = 9 THEN 1 ELSE 0 END) END AS m9,
       CASE WHEN m.age_months >= 10 THEN MAX(CASE WHEN seen.months = 10 THEN 1 ELSE 0 END) END AS m10,
       CASE WHEN m.age_months >= 11 THEN MAX(CASE WHEN seen.months = 11 THEN 1 ELSE 0 END) END AS m11
FROM member m
LEFT JOIN seen ON seen.guardian_key = m.guardian_key
GROUP BY m.guardian_key, m.first_day, m.platform, m.app_version, m.role, m.age_months
ORDER BY m.first_day, m.guardian_key

-- section: pushes
-- final
SELECT jst_date, 'opened' AS step, event_id, occurred_at, message_id, message_type
FROM events_app
WHERE event_type = 'app.push_opened' AND jst_date BETWEEN $from AND $to
UNION ALL
SELECT d.jst_date, 'delivered', d.event_id, d.occurred_at, d.message_id, made.message_type
FROM events_message d
LEFT JOIN (
  SELECT message_id, message_type FROM events_message WHERE event_type = 'message.created'
) AS made ON made.message_id = d.message_id
WHERE d.event_type = 'message.delivered' AND d.channel = 'push' AND d.jst_date BETWEEN $from AND $to
ORDER BY occurred_at, event_id

-- section: devices
-- final
-- First openings in the period, and every change of the push permission up to its end: the last one of a device counts.
SELECT jst_date, event_type, event_id, occurred_at, device_key, platform, app_version, actor_role AS role, granted
FROM events_app
WHERE (event_type = 'app.first_opened' AND jst_date BETWEEN $from AND $to)
   OR (event_type = 'app.push_permission_changed' AND jst_date <= $to)
ORDER BY occurred_at, event_id

-- section: members
-- final
-- Steps up to the end of the period: the sum of `registered` is all registered people, that of `consenting` those who consent.
WITH account AS (
  SELECT person_key, MIN(registered_on) AS registered_on, MAX(deleted_on) AS deleted_on
  FROM (
    SELECT guardian_key AS person_key, jst_date AS registered_on, CAST(NULL AS DATE) AS deleted_on
    FROM events_account WHERE event_type = 'account.registered' AND jst_date <= $to
    UNION ALL
    SELECT proxy_key, jst_date, CAST(NULL AS DATE)
    FROM events_account WHERE event_type = 'account.proxy_registered' AND jst_date <= $to
    UNION ALL
    SELECT account_key, CAST(NULL AS DATE), jst_date
    FROM events_account WHERE event_type = 'account.deleted' AND jst_date <= $to
  ) AS step
  GROUP BY person_key
  HAVING MIN(registered_on) IS NOT NULL
),
wish AS (
  SELECT guardian_key AS person_key, jst_date, occurred_at, event_id, event_type = 'account.consent_granted' AS consents
  FROM events_account
  WHERE event_type IN ('account.consent_granted', 'account.consent_withdrawn') AND consent_kind = 'usage_analytics' AND jst_date <= $to
  UNION ALL
  SELECT person_key, deleted_on, CAST(deleted_on + INTERVAL '10 days' AS TIMESTAMP), 'z', FALSE
  FROM account WHERE deleted_on IS NOT NULL
),
change AS (
  SELECT w.person_key, w.jst_date, w.consents,
         LAG(w.consents) OVER (PARTITION BY w.person_key ORDER BY w.occurred_at, w.event_id) AS consented
  FROM wish w
  JOIN account ON account.person_key = w.person_key
),
step AS (
  SELECT registered_on AS jst_date, person_key, 1 AS registered, 0 AS consenting FROM account
  UNION ALL
  SELECT deleted_on, person_key, -1, 0 FROM account WHERE deleted_on IS NOT NULL
  UNION ALL
  SELECT jst_date, person_key, 0, CASE WHEN consents THEN 1 ELSE 0 END - CASE WHEN consented THEN 1 ELSE 0 END FROM change
)
SELECT jst_date, person_key, registered, consenting
FROM step
WHERE registered <> 0 OR consenting <> 0
ORDER BY jst_date, person_key
