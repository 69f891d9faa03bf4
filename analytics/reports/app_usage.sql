-- R05 アプリ利用情報. Sections run in order; each becomes a table of its name for those after it; the last is the report.
-- `when: a, b` runs a section only if one of these dimensions was chosen, `unless: a, b` only if none was.
-- Parameters: $from, $to DATE, both included · $by_… BOOLEAN, one per dimension · $horizon DATE, the newest day the lake knows
--   $window_from, $active_to, $return_to DATE: how far back and ahead days count for weeks, months, rolling days and returns
-- A dimension that was not chosen is '' everywhere. A session belongs to the Japanese day of its start.
-- The lake has a file per day, so opening files costs as much as reading them: each kind of event is scanned once.
-- `rolled` marks what the server has by day (docs/reports.md): it then puts the same rows in place, or needs no such step.

-- section: span
SELECT jst_date,
       CASE WHEN $by_day THEN CAST(jst_date AS VARCHAR)
            WHEN $by_week THEN CAST(iso_week_start AS VARCHAR)
            WHEN $by_month THEN month ELSE '' END AS span
FROM calendar
WHERE jst_date BETWEEN $from AND $to

-- section: period
-- Each line of the report with its days that have passed; week, month and rolling figures are those of the last of them.
SELECT p.span, p.first_day, p.last_day, p.n_days, c.iso_week_start, c.month
FROM (
  SELECT span, MIN(jst_date) AS first_day,
         COALESCE(MAX(CASE WHEN jst_date <= $horizon THEN jst_date END), MIN(jst_date)) AS last_day,
         SUM(CASE WHEN jst_date <= $horizon THEN 1 ELSE 0 END) AS n_days
  FROM span
  GROUP BY span
) AS p
JOIN calendar c ON c.jst_date = p.last_day

-- section: event_day
-- unless: platform, app_version
-- rolled
SELECT jst_date, event_type,
       '' AS platform, '' AS app_version,
       CASE WHEN $by_role THEN COALESCE(actor_role, 'unknown') ELSE '' END AS role,
       CASE WHEN $by_screen_id THEN COALESCE(screen_id, 'unknown') ELSE '' END AS screen_id,
       CASE WHEN $by_error_kind AND event_type = 'app.error_occurred' THEN COALESCE(error_kind, 'unknown') ELSE '' END AS error_kind,
       CASE WHEN $by_message_type AND event_type = 'app.push_opened' THEN COALESCE(message_type, 'unknown') ELSE '' END AS message_type,
       COUNT(*) AS n
FROM events_app
WHERE event_type IN ('app.screen_viewed', 'app.error_occurred', 'app.push_opened') AND jst_date BETWEEN $from AND $to
GROUP BY jst_date, event_type,
         CASE WHEN $by_role THEN COALESCE(actor_role, 'unknown') ELSE '' END,
         CASE WHEN $by_screen_id THEN COALESCE(screen_id, 'unknown') ELSE '' END,
         CASE WHEN $by_error_kind AND event_type = 'app.error_occurred' THEN COALESCE(error_kind, 'unknown') ELSE '' END,
         CASE WHEN $by_message_type AND event_type = 'app.push_opened' THEN COALESCE(message_type, 'unknown') ELSE '' END

-- section: push_day
-- unless: platform, app_version, role, screen_id, error_kind
WITH delivered AS (
  SELECT d.jst_date, CASE WHEN $by_message_type THEN COALESCE(made.message_type, 'unknown') ELSE '' END AS message_type
  FROM events_message d
  LEFT JOIN (
    SELECT message_id, message_type FROM events_message WHERE event_type = 'message.created' AND $by_message_type
  ) AS made ON made.message_id = d.message_id
  WHERE d.event_type = 'message.delivered' AND d.channel = 'push' AND d.jst_date BETWEEN $from AND $to
)
SELECT jst_date, message_type, SUM(opened) AS opened, SUM(delivered) AS delivered
FROM (
  SELECT jst_date, message_type, n AS opened, 0 AS delivered FROM event_day WHERE event_type = 'app.push_opened'
  UNION ALL
  SELECT jst_date, message_type, 0, 1 FROM delivered
) AS step
GROUP BY jst_date, message_type

-- section: figures_by_screen
-- when: screen_id, error_kind
-- final
WITH viewed AS (
  SELECT span.span, v.screen_id, SUM(v.n) AS screen_views
  FROM event_day v JOIN span ON span.jst_date = v.jst_date
  WHERE v.event_type = 'app.screen_viewed'
  GROUP BY span.span, v.screen_id
),
failed AS (
  SELECT span.span, e.screen_id, e.error_kind, SUM(e.n) AS errors
  FROM event_day e JOIN span ON span.jst_date = e.jst_date
  WHERE e.event_type = 'app.error_occurred'
  GROUP BY span.span, e.screen_id, e.error_kind
),
cell AS (
  SELECT period.span, screen.screen_id, kind.error_kind
  FROM period
  CROSS JOIN (SELECT screen_id FROM event_day WHERE event_type IN ('app.screen_viewed', 'app.error_occurred')
              UNION SELECT '' AS screen_id WHERE NOT $by_screen_id) AS screen
  CROSS JOIN (SELECT error_kind FROM event_day WHERE event_type = 'app.error_occurred'
              UNION SELECT '' AS error_kind WHERE NOT $by_error_kind) AS kind
)
SELECT cell.span AS day, cell.span AS week, cell.span AS month, cell.screen_id, cell.error_kind,
       COALESCE(viewed.screen_views, 0) AS screen_views,
       COALESCE(failed.errors, 0) AS errors,
       quotient_1(COALESCE(failed.errors, 0) * 1000, COALESCE(viewed.screen_views, 0)) AS errors_per_1000_views
FROM cell
LEFT JOIN viewed ON viewed.span = cell.span AND viewed.screen_id = cell.screen_id
LEFT JOIN failed ON failed.span = cell.span AND failed.screen_id = cell.screen_id AND failed.error_kind = cell.error_kind
ORDER BY cell.span, cell.screen_id, cell.error_kind

-- section: figures_by_type
-- when: message_type
-- final
WITH pushed AS (
  SELECT span.span, p.message_type, SUM(p.opened) AS opened, SUM(p.delivered) AS delivered
  FROM push_day p JOIN span ON span.jst_date = p.jst_date
  GROUP BY span.span, p.message_type
)
SELECT period.span AS day, period.span AS week, period.span AS month, kind.message_type,
       COALESCE(pushed.opened, 0) AS push_opened,
       COALESCE(pushed.delivered, 0) AS push_delivered,
       percent(COALESCE(pushed.opened, 0), COALESCE(pushed.delivered, 0)) AS push_open_rate
FROM period
CROSS JOIN (SELECT DISTINCT message_type FROM push_day) AS kind
LEFT JOIN pushed ON pushed.span = period.span AND pushed.message_type = kind.message_type
ORDER BY period.span, kind.message_type

-- section: session
-- rolled
-- Sessions of the months the period touches, from one pass over all their events. Without an end event a session lasts to its
-- last activity; `is_broken` marks those where a silence of 30 minutes may have ended it before.
-- A session is what happens under its id on the day of its start and on the next, unless it starts anew there: what a day's
-- sessions are is told by its neighbours and no other day.
-- The id stays only where a later section needs it.
SELECT CASE WHEN $by_platform OR $by_app_version OR (ended_at IS NULL AND last_at - started_at > INTERVAL '30 minutes')
            THEN session_id END AS session_id,
       jst_date, started_at, guardian_key, device_key, is_staff, platform, app_version, role, has_error, has_fatal,
       ended_at IS NULL AND last_at - started_at > INTERVAL '30 minutes' AS is_broken,
       LEAST(GREATEST(COALESCE(duration_ms,
         CAST((date_part('epoch', COALESCE(ended_at, last_at)) - date_part('epoch', started_at)) * 1000 AS BIGINT)), 0), 14400000) AS duration_ms
FROM (
  SELECT session_id, begun_on AS jst_date,
         MIN(started_at) AS started_at, MAX(ended_at) AS ended_at, MAX(duration_ms) AS duration_ms, MAX(last_at) AS last_at,
         MAX(guardian_key) AS guardian_key, MAX(device_key) AS device_key,
         BOOL_OR(is_staff) AS is_staff, BOOL_OR(has_error) AS has_error, BOOL_OR(has_fatal) AS has_fatal,
         CASE WHEN $by_platform THEN COALESCE(MAX(platform), 'unknown') ELSE '' END AS platform,
         CASE WHEN $by_app_version THEN COALESCE(MAX(app_version), 'unknown') ELSE '' END AS app_version,
         CASE WHEN $by_role THEN COALESCE(MAX(role), 'unknown') ELSE '' END AS role
  FROM (
    SELECT session_id,
           CASE WHEN BOOL_OR(event_type = 'app.session_started') THEN jst_date
                ELSE CAST(jst_date - INTERVAL '1 day' AS DATE) END AS begun_on,
           MIN(CASE WHEN event_type = 'app.session_started' THEN occurred_at END) AS started_at,
           MAX(CASE WHEN event_type = 'app.session_ended' THEN occurred_at END) AS ended_at,
           MAX(CASE WHEN event_type = 'app.session_ended' THEN duration_ms END) AS duration_ms,
           MAX(CASE WHEN event_type <> 'app.session_ended' THEN occurred_at END) AS last_at,
           MAX(guardian_key) AS guardian_key,
           MAX(CASE WHEN event_type = 'app.session_started' THEN device_key END) AS device_key,
           COALESCE(BOOL_OR(platform = 'dashboard'), FALSE) AS is_staff,
           BOOL_OR(event_type = 'app.error_occurred') AS has_error,
           COALESCE(BOOL_OR(event_type = 'app.error_occurred' AND fatal), FALSE) AS has_fatal,
           MAX(platform) AS platform, MAX(app_version) AS app_version,
           MAX(CASE WHEN event_type = 'app.session_started' THEN actor_role END) AS role
    FROM events_app
    WHERE session_id IS NOT NULL AND jst_date BETWEEN $window_from AND $active_to + INTERVAL '1 day'
    GROUP BY session_id, jst_date
  ) AS on_day
  GROUP BY session_id, begun_on
) AS seen
WHERE started_at IS NOT NULL AND jst_date <= $active_to

-- section: silent
-- rolled
-- The broken sessions, up to the last activity before 30 minutes of silence.
WITH activity AS (
  SELECT u.session_id, u.jst_date, u.started_at, u.is_staff, u.platform, u.app_version, u.role, a.occurred_at,
         CASE WHEN a.occurred_at - LAG(a.occurred_at) OVER (PARTITION BY u.session_id, u.jst_date ORDER BY a.occurred_at)
                   > INTERVAL '30 minutes' THEN 1 ELSE 0 END AS after_silence
  FROM session u
  JOIN events_app a ON a.session_id = u.session_id
  WHERE u.is_broken AND a.occurred_at >= u.started_at AND a.jst_date <= u.jst_date + INTERVAL '1 day'
    AND a.event_type <> 'app.session_ended' AND a.jst_date BETWEEN $window_from AND $active_to + INTERVAL '1 day'
),
counted AS (
  SELECT session_id, jst_date, started_at, is_staff, platform, app_version, role, occurred_at,
         SUM(after_silence) OVER (PARTITION BY session_id, jst_date ORDER BY occurred_at) AS silences
  FROM activity
)
SELECT jst_date, is_staff, platform, app_version, role,
       LEAST(CAST((date_part('epoch', MAX(occurred_at)) - date_part('epoch', started_at)) * 1000 AS BIGINT), 14400000) AS duration_ms
FROM counted
WHERE silences = 0
GROUP BY session_id, started_at, jst_date, is_staff, platform, app_version, role

-- section: session_day
-- rolled
SELECT jst_date, platform, app_version, role,
       SUM(sessions) AS sessions, SUM(duration_ms) AS duration_ms, SUM(app_duration_ms) AS app_duration_ms
FROM (
  SELECT jst_date, platform, app_version, role, COUNT(*) AS sessions,
         SUM(CASE WHEN is_broken THEN 0 ELSE duration_ms END) AS duration_ms,
         SUM(CASE WHEN is_broken OR is_staff THEN 0 ELSE duration_ms END) AS app_duration_ms
  FROM session
  GROUP BY jst_date, platform, app_version, role
  UNION ALL
  SELECT jst_date, platform, app_version, role, 0, SUM(duration_ms), SUM(CASE WHEN is_staff THEN 0 ELSE duration_ms END)
  FROM silent
  GROUP BY jst_date, platform, app_version, role
) AS part
GROUP BY jst_date, platform, app_version, role

-- section: failed_day
-- rolled
SELECT jst_date, platform, app_version, role, COUNT(*) AS failed
FROM session
WHERE has_error
GROUP BY jst_date, platform, app_version, role

-- section: event_day
-- when: platform, app_version
-- rolled
-- A view or an error has no platform of its own: it is that of its session, which may have begun the day before.
SELECT e.jst_date, e.event_type,
       COALESCE(s.platform, b.platform, CASE WHEN $by_platform THEN 'unknown' ELSE '' END) AS platform,
       COALESCE(s.app_version, b.app_version, CASE WHEN $by_app_version THEN 'unknown' ELSE '' END) AS app_version,
       CASE WHEN $by_role THEN COALESCE(e.actor_role, 'unknown') ELSE '' END AS role,
       COUNT(*) AS n
FROM events_app e
LEFT JOIN session s ON s.session_id = e.session_id AND s.jst_date = e.jst_date
LEFT JOIN session b ON b.session_id = e.session_id AND b.jst_date = CAST(e.jst_date - INTERVAL '1 day' AS DATE)
WHERE e.event_type IN ('app.screen_viewed', 'app.error_occurred') AND e.jst_date BETWEEN $from AND $to
GROUP BY e.jst_date, e.event_type,
         COALESCE(s.platform, b.platform, CASE WHEN $by_platform THEN 'unknown' ELSE '' END),
         COALESCE(s.app_version, b.app_version, CASE WHEN $by_app_version THEN 'unknown' ELSE '' END),
         CASE WHEN $by_role THEN COALESCE(e.actor_role, 'unknown') ELSE '' END

-- section: user_day
-- rolled
-- Who was active on which day: the person where signed in, else the device. Staff screens have neither.
-- Days after `active_to` are for returns only.
SELECT jst_date, person, known, platform, app_version, role
FROM (
  SELECT jst_date, COALESCE(guardian_key, device_key) AS person, guardian_key IS NOT NULL AS known, platform, app_version, role
  FROM session
  WHERE guardian_key IS NOT NULL OR NOT is_staff
  UNION ALL
  SELECT jst_date, guardian_key, TRUE,
         CASE WHEN $by_platform THEN COALESCE(platform, 'unknown') ELSE '' END,
         CASE WHEN $by_app_version THEN COALESCE(app_version, 'unknown') ELSE '' END,
         CASE WHEN $by_role THEN COALESCE(actor_role, 'unknown') ELSE '' END
  FROM events_app
  WHERE event_type = 'app.session_started' AND guardian_key IS NOT NULL AND jst_date > $active_to AND jst_date <= $return_to
) AS active
GROUP BY jst_date, person, known, platform, app_version, role

-- section: active_day
-- rolled
SELECT jst_date, platform, app_version, role,
       SUM(CASE WHEN known THEN 1 ELSE 0 END) AS users, COUNT(*) AS users_incl_anonymous
FROM user_day
WHERE jst_date <= $active_to
GROUP BY jst_date, platform, app_version, role

-- section: active_week
-- rolled
SELECT iso_week_start, platform, app_version, role,
       SUM(CASE WHEN known THEN 1 ELSE 0 END) AS users, COUNT(*) AS users_incl_anonymous
FROM (
  SELECT DISTINCT c.iso_week_start, u.person, u.known, u.platform, u.app_version, u.role
  FROM user_day u
  JOIN calendar c ON c.jst_date = u.jst_date
  WHERE u.jst_date <= $active_to AND c.iso_week_start IN (SELECT iso_week_start FROM period)
) AS person
GROUP BY iso_week_start, platform, app_version, role

-- section: active_month
-- rolled
SELECT month, platform, app_version, role,
       SUM(CASE WHEN known THEN 1 ELSE 0 END) AS users, COUNT(*) AS users_incl_anonymous
FROM (
  SELECT DISTINCT c.month, u.person, u.known, u.platform, u.app_version, u.role
  FROM user_day u
  JOIN calendar c ON c.jst_date = u.jst_date
  WHERE u.jst_date <= $active_to AND c.month IN (SELECT month FROM period)
) AS person
GROUP BY month, platform, app_version, role

-- section: active_span
-- rolled
SELECT span, platform, app_version, role, COUNT(*) AS users
FROM (
  SELECT DISTINCT span.span, u.person, u.platform, u.app_version, u.role
  FROM user_day u
  JOIN span ON span.jst_date = u.jst_date
  WHERE u.known
) AS person
GROUP BY span, platform, app_version, role

-- section: next_active
-- unless: platform, app_version, role
-- rolled
SELECT jst_date, '' AS platform, '' AS app_version, '' AS role,
       COALESCE(LEAD(jst_date) OVER (PARTITION BY person ORDER BY jst_date), DATE '2999-12-31') AS next_date
FROM user_day
WHERE known AND jst_date <= $to

-- section: next_active
-- when: platform, app_version, role
-- rolled
SELECT jst_date, platform, app_version, role,
       COALESCE(LEAD(jst_date) OVER (PARTITION BY person, platform, app_version, role ORDER BY jst_date), DATE '2999-12-31') AS next_date
FROM user_day
WHERE known AND jst_date <= $to

-- section: stay
-- rolled
-- A person active on day d counts in the rolling window of days d to d + 6 (d + 29), or until the next active day takes over:
-- one step up and one step down per person and day instead of 7 (30) copies of each.
SELECT jst_date, platform, app_version, role,
       LEAST(next_date, CAST(jst_date + INTERVAL '7 days' AS DATE)) AS off_7,
       LEAST(next_date, CAST(jst_date + INTERVAL '30 days' AS DATE)) AS off_30,
       COUNT(*) AS n
FROM next_active
GROUP BY jst_date, platform, app_version, role, LEAST(next_date, CAST(jst_date + INTERVAL '7 days' AS DATE)),
         LEAST(next_date, CAST(jst_date + INTERVAL '30 days' AS DATE))

-- section: rolling
-- rolled
WITH stepped AS (
  SELECT jst_date, platform, app_version, role, n AS step_7, n AS step_30 FROM stay
  UNION ALL
  SELECT off_7, platform, app_version, role, -n, 0 FROM stay
  UNION ALL
  SELECT off_30, platform, app_version, role, 0, -n FROM stay
),
on_day AS (
  SELECT jst_date, platform, app_version, role, SUM(step_7) AS step_7, SUM(step_30) AS step_30
  FROM stepped
  GROUP BY jst_date, platform, app_version, role
)
SELECT jst_date, platform, app_version, role,
       SUM(step_7) OVER (PARTITION BY platform, app_version, role ORDER BY jst_date) AS users_7,
       SUM(step_30) OVER (PARTITION BY platform, app_version, role ORDER BY jst_date) AS users_30
FROM on_day

-- section: first_day
-- rolled
-- People whose very first session is in the period.
SELECT u.person, MIN(u.jst_date) AS first_day
FROM user_day u
LEFT JOIN (
  SELECT DISTINCT guardian_key AS person
  FROM events_app
  WHERE event_type = 'app.session_started' AND guardian_key IS NOT NULL AND jst_date < $from
) AS earlier ON earlier.person = u.person
WHERE u.known AND u.jst_date BETWEEN $from AND $to AND earlier.person IS NULL
GROUP BY u.person

-- section: cohort
-- unless: platform, app_version, role
-- rolled
SELECT person, first_day, '' AS platform, '' AS app_version, '' AS role
FROM first_day

-- section: cohort
-- when: platform, app_version, role
-- rolled
-- With the platform, version and role of that first session.
SELECT first.person, first.first_day, MIN(s.platform) AS platform, MIN(s.app_version) AS app_version, MIN(s.role) AS role
FROM (
  SELECT f.person, f.first_day, MIN(s.started_at) AS first_at
  FROM first_day f
  JOIN session s ON s.guardian_key = f.person AND s.jst_date = f.first_day
  GROUP BY f.person, f.first_day
) AS first
JOIN session s ON s.guardian_key = first.person AND s.started_at = first.first_at
GROUP BY first.person, first.first_day

-- section: returned
-- rolled
-- Who of a cohort came back exactly n days, or in the n-th calendar month, after the first session.
SELECT person, first_day, platform, app_version, role,
       MAX(CASE WHEN days = 1 THEN 1 ELSE 0 END) AS d1,
       MAX(CASE WHEN days = 7 THEN 1 ELSE 0 END) AS d7,
       MAX(CASE WHEN days = 30 THEN 1 ELSE 0 END) AS d30,
       MAX(CASE WHEN months = 1 THEN 1 ELSE 0 END) AS m1,
       MAX(CASE WHEN months = 2 THEN 1 ELSE 0 END) AS m2,
       MAX(CASE WHEN months = 3 THEN 1 ELSE 0 END) AS m3,
       MAX(CASE WHEN months = 4 THEN 1 ELSE 0 END) AS m4,
       MAX(CASE WHEN months = 5 THEN 1 ELSE 0 END) AS m5,
       MAX(CASE WHEN months = 6 THEN 1 ELSE 0 END) AS m6,
       MAX(CASE WHEN months = 7 THEN 1 ELSE 0 END) AS m7,
       MAX(CASE WHEN months = 8 THEN 1 ELSE 0 END) AS m8,
       MAX(CASE WHEN months = 9 THEN 1 ELSE 0 END) AS m9,
       MAX(CASE WHEN months = 10 THEN 1 ELSE 0 END) AS m10,
       MAX(CASE WHEN months = 11 THEN 1 ELSE 0 END) AS m11,
       12 * (CAST(date_part('year', CAST($horizon AS DATE)) AS BIGINT) - CAST(date_part('year', first_day) AS BIGINT))
         + CAST(date_part('month', CAST($horizon AS DATE)) AS BIGINT) - CAST(date_part('month', first_day) AS BIGINT) AS age_months
FROM (
  SELECT c.person, c.first_day, c.platform, c.app_version, c.role,
         CAST(date_part('epoch', u.jst_date) - date_part('epoch', c.first_day) AS BIGINT) / 86400 AS days,
         12 * (date_part('year', u.jst_date) - date_part('year', c.first_day))
           + date_part('month', u.jst_date) - date_part('month', c.first_day) AS months
  FROM cohort c
  JOIN user_day u ON u.person = c.person
  WHERE u.known
) AS seen
GROUP BY person, first_day, platform, app_version, role

-- section: retention
-- rolled
SELECT span.span, r.platform, r.app_version, r.role,
       COUNT(*) AS cohort_users,
       SUM(CASE WHEN r.first_day + INTERVAL '1 day' <= $horizon THEN 1 ELSE 0 END) AS base_d1,
       SUM(CASE WHEN r.first_day + INTERVAL '1 day' <= $horizon THEN r.d1 ELSE 0 END) AS kept_d1,
       SUM(CASE WHEN r.first_day + INTERVAL '7 days' <= $horizon THEN 1 ELSE 0 END) AS base_d7,
       SUM(CASE WHEN r.first_day + INTERVAL '7 days' <= $horizon THEN r.d7 ELSE 0 END) AS kept_d7,
       SUM(CASE WHEN r.first_day + INTERVAL '30 days' <= $horizon THEN 1 ELSE 0 END) AS base_d30,
       SUM(CASE WHEN r.first_day + INTERVAL '30 days' <= $horizon THEN r.d30 ELSE 0 END) AS kept_d30,
       SUM(CASE WHEN r.age_months >= 1 THEN 1 ELSE 0 END) AS base_m1, SUM(CASE WHEN r.age_months >= 1 THEN r.m1 ELSE 0 END) AS kept_m1,
       SUM(CASE WHEN r.age_months >= 2 THEN 1 ELSE 0 END) AS base_m2, SUM(CASE WHEN r.age_months >= 2 THEN r.m2 ELSE 0 END) AS kept_m2,
       SUM(CASE WHEN r.age_months >= 3 THEN 1 ELSE 0 END) AS base_m3, SUM(CASE WHEN r.age_months >= 3 THEN r.m3 ELSE 0 END) AS kept_m3,
       SUM(CASE WHEN r.age_months >= 4 THEN 1 ELSE 0 END) AS base_m4, SUM(CASE WHEN r.age_months >= 4 THEN r.m4 ELSE 0 END) AS kept_m4,
       SUM(CASE WHEN r.age_months >= 5 THEN 1 ELSE 0 END) AS base_m5, SUM(CASE WHEN r.age_months >= 5 THEN r.m5 ELSE 0 END) AS kept_m5,
       SUM(CASE WHEN r.age_months >= 6 THEN 1 ELSE 0 END) AS base_m6, SUM(CASE WHEN r.age_months >= 6 THEN r.m6 ELSE 0 END) AS kept_m6,
       SUM(CASE WHEN r.age_months >= 7 THEN 1 ELSE 0 END) AS base_m7, SUM(CASE WHEN r.age_months >= 7 THEN r.m7 ELSE 0 END) AS kept_m7,
       SUM(CASE WHEN r.age_months >= 8 THEN 1 ELSE 0 END) AS base_m8, SUM(CASE WHEN r.age_months >= 8 THEN r.m8 ELSE 0 END) AS kept_m8,
       SUM(CASE WHEN r.age_months >= 9 THEN 1 ELSE 0 END) AS base_m9, SUM(CASE WHEN r.age_months >= 9 THEN r.m9 ELSE 0 END) AS kept_m9,
       SUM(CASE WHEN r.age_months >= 10 THEN 1 ELSE 0 END) AS base_m10, SUM(CASE WHEN r.age_months >= 10 THEN r.m10 ELSE 0 END) AS kept_m10,
       SUM(CASE WHEN r.age_months >= 11 THEN 1 ELSE 0 END) AS base_m11, SUM(CASE WHEN r.age_months >= 11 THEN r.m11 ELSE 0 END) AS kept_m11
FROM returned r
JOIN span ON span.jst_date = r.first_day
GROUP BY span.span, r.platform, r.app_version, r.role

-- section: device_event
-- rolled
SELECT jst_date, occurred_at, event_type, device_key, granted, platform, app_version, actor_role
FROM events_app
WHERE event_type IN ('app.first_opened', 'app.push_permission_changed') AND jst_date <= $to

-- section: device_platform
-- unless: app_version, role
-- rolled
SELECT device_key, MAX(platform) AS platform
FROM events_app
WHERE event_type = 'app.session_started' AND $by_platform
GROUP BY device_key

-- section: device
-- unless: app_version, role
-- A change of the push permission is a step up or down on its day.
WITH platform_of AS (
  SELECT device_key, MAX(platform) AS platform
  FROM (
    SELECT device_key, platform FROM device_event WHERE event_type = 'app.first_opened'
    UNION ALL
    SELECT device_key, platform FROM device_platform
  ) AS named
  GROUP BY device_key
),
change AS (
  SELECT jst_date, device_key, granted,
         LAG(granted) OVER (PARTITION BY device_key ORDER BY occurred_at, granted) AS was_granted
  FROM device_event
  WHERE event_type = 'app.push_permission_changed'
)
SELECT change.jst_date,
       CASE WHEN $by_platform THEN COALESCE(platform_of.platform, 'unknown') ELSE '' END AS platform,
       SUM(CASE WHEN change.granted THEN 1 ELSE 0 END - CASE WHEN change.was_granted THEN 1 ELSE 0 END) AS step
FROM change
LEFT JOIN platform_of ON platform_of.device_key = change.device_key
GROUP BY change.jst_date, CASE WHEN $by_platform THEN COALESCE(platform_of.platform, 'unknown') ELSE '' END

-- section: first_open
SELECT span.span,
       CASE WHEN $by_platform THEN COALESCE(e.platform, 'unknown') ELSE '' END AS platform,
       CASE WHEN $by_app_version THEN COALESCE(e.app_version, 'unknown') ELSE '' END AS app_version,
       CASE WHEN $by_role THEN COALESCE(e.actor_role, 'unknown') ELSE '' END AS role,
       COUNT(DISTINCT e.device_key) AS devices
FROM device_event e
JOIN span ON span.jst_date = e.jst_date
WHERE e.event_type = 'app.first_opened'
GROUP BY span.span, CASE WHEN $by_platform THEN COALESCE(e.platform, 'unknown') ELSE '' END,
         CASE WHEN $by_app_version THEN COALESCE(e.app_version, 'unknown') ELSE '' END,
         CASE WHEN $by_role THEN COALESCE(e.actor_role, 'unknown') ELSE '' END

-- section: account_event
-- unless: platform, app_version, role
SELECT event_type, jst_date, occurred_at, event_id,
       CASE event_type WHEN 'account.deleted' THEN account_key WHEN 'account.proxy_registered' THEN proxy_key ELSE guardian_key END AS person_key
FROM events_account
WHERE jst_date <= $to
  AND (event_type IN ('account.registered', 'account.proxy_registered', 'account.deleted')
    OR (event_type IN ('account.consent_granted', 'account.consent_withdrawn') AND consent_kind = 'usage_analytics'))

-- section: member
-- unless: platform, app_version, role
-- How many people are registered, and how many of them consent to usage statistics, as steps per day.
WITH account AS (
  SELECT person_key,
         MIN(CASE WHEN event_type IN ('account.registered', 'account.proxy_registered') THEN jst_date END) AS registered_on,
         MAX(CASE WHEN event_type = 'account.deleted' THEN jst_date END) AS deleted_on
  FROM account_event
  GROUP BY person_key
),
wish AS (
  SELECT person_key, jst_date, occurred_at, event_id, event_type = 'account.consent_granted' AS consents
  FROM account_event
  WHERE event_type IN ('account.consent_granted', 'account.consent_withdrawn')
  UNION ALL
  -- A deleted account consents no more; ten days later, so that it sorts after whatever was wished that day.
  SELECT person_key, deleted_on, CAST(deleted_on + INTERVAL '10 days' AS TIMESTAMP), 'z', FALSE
  FROM account
  WHERE deleted_on IS NOT NULL
),
change AS (
  SELECT w.jst_date, w.consents,
         LAG(w.consents) OVER (PARTITION BY w.person_key ORDER BY w.occurred_at, w.event_id) AS consented
  FROM wish w
  JOIN account ON account.person_key = w.person_key
  WHERE account.registered_on IS NOT NULL
)
SELECT jst_date, SUM(registered) AS registered, SUM(consenting) AS consenting
FROM (
  SELECT registered_on AS jst_date, 1 AS registered, 0 AS consenting FROM account WHERE registered_on IS NOT NULL
  UNION ALL
  SELECT deleted_on, -1, 0 FROM account WHERE registered_on IS NOT NULL AND deleted_on IS NOT NULL
  UNION ALL
  SELECT jst_date, 0, CASE WHEN consents THEN 1 ELSE 0 END - CASE WHEN consented THEN 1 ELSE 0 END FROM change
) AS step
GROUP BY jst_date

-- section: cell
WITH client AS (
  SELECT platform, app_version, role FROM session_day
  UNION SELECT platform, app_version, role FROM active_day
  UNION SELECT platform, app_version, role FROM first_open
)
SELECT period.span, period.last_day, period.n_days, period.iso_week_start, period.month,
       p.platform, v.app_version, r.role
FROM period
CROSS JOIN (SELECT platform FROM client UNION SELECT '' AS platform WHERE NOT $by_platform) AS p
CROSS JOIN (SELECT app_version FROM client UNION SELECT '' AS app_version WHERE NOT $by_app_version) AS v
CROSS JOIN (SELECT role FROM client UNION SELECT '' AS role WHERE NOT $by_role) AS r

-- section: device_end
-- when: app_version, role
-- Permissions are kept per device, not per version or role: empty along these.
SELECT span, '' AS platform, CAST(NULL AS BIGINT) AS push_reachable FROM period WHERE FALSE

-- section: device_end
-- unless: app_version, role
SELECT cell.span, cell.platform, SUM(device.step) AS push_reachable
FROM (SELECT DISTINCT span, last_day, platform FROM cell) AS cell
JOIN device ON device.platform = cell.platform AND device.jst_date <= cell.last_day
GROUP BY cell.span, cell.platform

-- section: whole
-- when: platform, app_version, role
SELECT span, CAST(NULL AS BIGINT) AS push_opened, CAST(NULL AS BIGINT) AS push_delivered,
       CAST(NULL AS BIGINT) AS consenting, CAST(NULL AS BIGINT) AS registered
FROM period

-- section: whole
-- unless: platform, app_version, role
-- What is known of everybody only, not by client.
WITH pushed AS (
  SELECT span.span, SUM(p.opened) AS opened, SUM(p.delivered) AS delivered
  FROM push_day p JOIN span ON span.jst_date = p.jst_date
  GROUP BY span.span
),
member_end AS (
  SELECT period.span, SUM(m.registered) AS registered, SUM(m.consenting) AS consenting
  FROM period
  JOIN member m ON m.jst_date <= period.last_day
  GROUP BY period.span
)
SELECT period.span,
       COALESCE(pushed.opened, 0) AS push_opened, COALESCE(pushed.delivered, 0) AS push_delivered,
       COALESCE(member_end.consenting, 0) AS consenting, COALESCE(member_end.registered, 0) AS registered
FROM period
LEFT JOIN pushed ON pushed.span = period.span
LEFT JOIN member_end ON member_end.span = period.span

-- section: spanned
-- The measures that add up over the days of a line.
SELECT span.span, d.platform, d.app_version, d.role,
       SUM(d.dau) AS dau, SUM(d.sessions) AS sessions, SUM(d.duration_ms) AS duration_ms,
       SUM(d.screen_views) AS screen_views, SUM(d.errors) AS errors, SUM(d.failed) AS failed
FROM (
  SELECT jst_date, platform, app_version, role, users AS dau, 0 AS sessions, 0 AS duration_ms, 0 AS screen_views, 0 AS errors, 0 AS failed
  FROM active_day
  UNION ALL
  SELECT jst_date, platform, app_version, role, 0, sessions, duration_ms, 0, 0, 0 FROM session_day
  UNION ALL
  SELECT jst_date, platform, app_version, role, 0, 0, 0, n, 0, 0 FROM event_day WHERE event_type = 'app.screen_viewed'
  UNION ALL
  SELECT jst_date, platform, app_version, role, 0, 0, 0, 0, n, 0 FROM event_day WHERE event_type = 'app.error_occurred'
  UNION ALL
  SELECT jst_date, platform, app_version, role, 0, 0, 0, 0, 0, failed FROM failed_day
) AS d
JOIN span ON span.jst_date = d.jst_date
GROUP BY span.span, d.platform, d.app_version, d.role

-- section: crashed
-- rolled
SELECT span.span, f.platform, f.app_version, f.role, COUNT(DISTINCT f.guardian_key) AS users
FROM session f
JOIN span ON span.jst_date = f.jst_date
WHERE f.has_fatal
GROUP BY span.span, f.platform, f.app_version, f.role

-- section: monthly
-- The month of the last day of each line: mean daily users and time of the whole month, as far as it has passed.
SELECT c.month, d.platform, d.app_version, d.role, SUM(d.users) AS user_days, SUM(d.app_duration_ms) AS app_duration_ms
FROM (
  SELECT jst_date, platform, app_version, role, users, 0 AS app_duration_ms FROM active_day
  UNION ALL
  SELECT jst_date, platform, app_version, role, 0, app_duration_ms FROM session_day
) AS d
JOIN calendar c ON c.jst_date = d.jst_date
GROUP BY c.month, d.platform, d.app_version, d.role

-- section: month_length
SELECT month, COUNT(*) AS n_days
FROM calendar
WHERE jst_date <= $horizon AND month IN (SELECT month FROM period)
GROUP BY month

-- section: rolling_end
-- rolled
SELECT newest.span, newest.platform, newest.app_version, newest.role, r.users_7, r.users_30
FROM (
  SELECT cell.span, cell.platform, cell.app_version, cell.role, MAX(rolling.jst_date) AS jst_date
  FROM cell
  JOIN rolling ON rolling.platform = cell.platform AND rolling.app_version = cell.app_version AND rolling.role = cell.role
              AND rolling.jst_date <= cell.last_day
  GROUP BY cell.span, cell.platform, cell.app_version, cell.role
) AS newest
JOIN rolling r ON r.jst_date = newest.jst_date AND r.platform = newest.platform AND r.app_version = newest.app_version AND r.role = newest.role

-- section: figures
-- final
SELECT cell.span AS day, cell.span AS week, cell.span AS month, cell.platform, cell.app_version, cell.role,
       COALESCE(day_end.users, 0) AS dau,
       COALESCE(week_end.users, 0) AS wau,
       COALESCE(month_end.users, 0) AS mau,
       COALESCE(day_end.users_incl_anonymous, 0) AS dau_incl_anonymous,
       COALESCE(week_end.users_incl_anonymous, 0) AS wau_incl_anonymous,
       COALESCE(month_end.users_incl_anonymous, 0) AS mau_incl_anonymous,
       COALESCE(rolling_end.users_7, 0) AS active_7d,
       COALESCE(rolling_end.users_30, 0) AS active_30d,
       COALESCE(active_span.users, 0) AS active_users,
       quotient_1(COALESCE(s.dau, 0), cell.n_days) AS dau_mean,
       percent(COALESCE(monthly.user_days, 0), COALESCE(month_length.n_days, 0) * COALESCE(month_end.users, 0)) AS stickiness,
       COALESCE(s.sessions, 0) AS sessions,
       quotient_1(COALESCE(s.duration_ms, 0), COALESCE(s.sessions, 0) * 1000) AS avg_session_sec,
       quotient_1(COALESCE(monthly.app_duration_ms, 0), COALESCE(month_end.users, 0) * 60000) AS time_per_user_min,
       COALESCE(s.screen_views, 0) AS screen_views,
       quotient_1(COALESCE(s.screen_views, 0), COALESCE(s.sessions, 0)) AS views_per_session,
       COALESCE(k.cohort_users, 0) AS cohort_users,
       COALESCE(k.base_d1, 0) AS cohort_d1, COALESCE(k.kept_d1, 0) AS retained_users_d1, percent(COALESCE(k.kept_d1, 0), COALESCE(k.base_d1, 0)) AS retention_d1,
       COALESCE(k.base_d7, 0) AS cohort_d7, COALESCE(k.kept_d7, 0) AS retained_users_d7, percent(COALESCE(k.kept_d7, 0), COALESCE(k.base_d7, 0)) AS retention_d7,
       COALESCE(k.base_d30, 0) AS cohort_d30, COALESCE(k.kept_d30, 0) AS retained_users_d30, percent(COALESCE(k.kept_d30, 0), COALESCE(k.base_d30, 0)) AS retention_d30,
       COALESCE(k.base_m1, 0) AS cohort_m1, COALESCE(k.kept_m1, 0) AS retained_users_m1, percent(COALESCE(k.kept_m1, 0), COALESCE(k.base_m1, 0)) AS retention_m1,
       COALESCE(k.base_m2, 0) AS cohort_m2, COALESCE(k.kept_m2, 0) AS retained_users_m2, percent(COALESCE(k.kept_m2, 0), COALESCE(k.base_m2, 0)) AS retention_m2,
       COALESCE(k.base_m3, 0) AS cohort_m3, COALESCE(k.kept_m3, 0) AS retained_users_m3, percent(COALESCE(k.kept_m3, 0), COALESCE(k.base_m3, 0)) AS retention_m3,
       COALESCE(k.base_m4, 0) AS cohort_m4, COALESCE(k.kept_m4, 0) AS retained_users_m4, percent(COALESCE(k.kept_m4, 0), COALESCE(k.base_m4, 0)) AS retention_m4,
       COALESCE(k.base_m5, 0) AS cohort_m5, COALESCE(k.kept_m5, 0) AS retained_users_m5, percent(COALESCE(k.kept_m5, 0), COALESCE(k.base_m5, 0)) AS retention_m5,
       COALESCE(k.base_m6, 0) AS cohort_m6, COALESCE(k.kept_m6, 0) AS retained_users_m6, percent(COALESCE(k.kept_m6, 0), COALESCE(k.base_m6, 0)) AS retention_m6,
       COALESCE(k.base_m7, 0) AS cohort_m7, COALESCE(k.kept_m7, 0) AS retained_users_m7, percent(COALESCE(k.kept_m7, 0), COALESCE(k.base_m7, 0)) AS retention_m7,
       COALESCE(k.base_m8, 0) AS cohort_m8, COALESCE(k.kept_m8, 0) AS retained_users_m8, percent(COALESCE(k.kept_m8, 0), COALESCE(k.base_m8, 0)) AS retention_m8,
       COALESCE(k.base_m9, 0) AS cohort_m9, COALESCE(k.kept_m9, 0) AS retained_users_m9, percent(COALESCE(k.kept_m9, 0), COALESCE(k.base_m9, 0)) AS retention_m9,
       COALESCE(k.base_m10, 0) AS cohort_m10, COALESCE(k.kept_m10, 0) AS retained_users_m10, percent(COALESCE(k.kept_m10, 0), COALESCE(k.base_m10, 0)) AS retention_m10,
       COALESCE(k.base_m11, 0) AS cohort_m11, COALESCE(k.kept_m11, 0) AS retained_users_m11, percent(COALESCE(k.kept_m11, 0), COALESCE(k.base_m11, 0)) AS retention_m11,
       COALESCE(s.errors, 0) AS errors,
       COALESCE(s.failed, 0) AS sessions_with_error,
       percent(COALESCE(s.failed, 0), COALESCE(s.sessions, 0)) AS error_rate_sessions,
       COALESCE(crashed.users, 0) AS crashed_users,
       percent(COALESCE(active_span.users, 0) - COALESCE(crashed.users, 0), COALESCE(active_span.users, 0)) AS crash_free_users,
       quotient_1(COALESCE(s.errors, 0) * 1000, COALESCE(s.screen_views, 0)) AS errors_per_1000_views,
       COALESCE(first_open.devices, 0) AS first_opens,
       CASE WHEN NOT ($by_app_version OR $by_role) THEN COALESCE(device_end.push_reachable, 0) END AS push_reachable,
       whole.push_opened, whole.push_delivered, percent(whole.push_opened, whole.push_delivered) AS push_open_rate,
       whole.consenting, whole.registered, percent(whole.consenting, whole.registered) AS coverage
FROM cell
LEFT JOIN active_day day_end ON day_end.jst_date = cell.last_day
  AND day_end.platform = cell.platform AND day_end.app_version = cell.app_version AND day_end.role = cell.role
LEFT JOIN active_week week_end ON week_end.iso_week_start = cell.iso_week_start
  AND week_end.platform = cell.platform AND week_end.app_version = cell.app_version AND week_end.role = cell.role
LEFT JOIN active_month month_end ON month_end.month = cell.month
  AND month_end.platform = cell.platform AND month_end.app_version = cell.app_version AND month_end.role = cell.role
LEFT JOIN rolling_end ON rolling_end.span = cell.span
  AND rolling_end.platform = cell.platform AND rolling_end.app_version = cell.app_version AND rolling_end.role = cell.role
LEFT JOIN active_span ON active_span.span = cell.span
  AND active_span.platform = cell.platform AND active_span.app_version = cell.app_version AND active_span.role = cell.role
LEFT JOIN spanned s ON s.span = cell.span
  AND s.platform = cell.platform AND s.app_version = cell.app_version AND s.role = cell.role
LEFT JOIN monthly ON monthly.month = cell.month
  AND monthly.platform = cell.platform AND monthly.app_version = cell.app_version AND monthly.role = cell.role
LEFT JOIN month_length ON month_length.month = cell.month
LEFT JOIN retention k ON k.span = cell.span
  AND k.platform = cell.platform AND k.app_version = cell.app_version AND k.role = cell.role
LEFT JOIN crashed ON crashed.span = cell.span
  AND crashed.platform = cell.platform AND crashed.app_version = cell.app_version AND crashed.role = cell.role
LEFT JOIN first_open ON first_open.span = cell.span
  AND first_open.platform = cell.platform AND first_open.app_version = cell.app_version AND first_open.role = cell.role
LEFT JOIN device_end ON device_end.span = cell.span AND device_end.platform = cell.platform
LEFT JOIN whole ON whole.span = cell.span
ORDER BY cell.span, cell.platform, cell.app_version, cell.role
