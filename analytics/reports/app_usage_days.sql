-- R05 by day: what the server keeps of a day beside the rows that sections of app_usage.sql make of it.
-- Run after `session` of that file, with every client told apart. Parameters: $from, $to DATE, the days to make.

-- section: crashed_key
-- final
SELECT DISTINCT jst_date, platform, app_version, role, guardian_key
FROM session
WHERE has_fatal AND guardian_key IS NOT NULL

-- section: first_client
-- final
-- The client of each person's first session of the day; `cohort` asks for it where the day is the person's first.
SELECT s.jst_date, s.guardian_key, MIN(s.platform) AS platform, MIN(s.app_version) AS app_version, MIN(s.role) AS role
FROM (
  SELECT jst_date, guardian_key, MIN(started_at) AS first_at
  FROM session
  WHERE guardian_key IS NOT NULL
  GROUP BY jst_date, guardian_key
) AS first
JOIN session s ON s.guardian_key = first.guardian_key AND s.started_at = first.first_at
GROUP BY s.jst_date, s.guardian_key

-- section: start
-- final
SELECT jst_date, guardian_key, device_key, platform
FROM events_app
WHERE event_type = 'app.session_started' AND jst_date BETWEEN $from AND $to
GROUP BY jst_date, guardian_key, device_key, platform

-- section: device_row
-- final
SELECT jst_date, occurred_at, event_type, device_key, granted, platform, app_version, actor_role
FROM events_app
WHERE event_type IN ('app.first_opened', 'app.push_permission_changed') AND jst_date BETWEEN $from AND $to
