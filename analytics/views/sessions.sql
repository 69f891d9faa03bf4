-- One row per session of the app: it belongs to the Japanese day of its start.
-- Duration: what the end event says; without one, from the start to the last activity before 30 minutes of
-- silence. Never more than 4 hours.
-- A session is what happens under its id on the day of its start and on the next, unless it starts anew there.
WITH on_day AS (
  SELECT session_id,
         CASE WHEN BOOL_OR(event_type = 'app.session_started') THEN jst_date
              ELSE CAST(jst_date - INTERVAL '1 day' AS DATE) END AS begun_on,
         MAX(guardian_key) AS guardian_key, MAX(device_key) AS device_key,
         MAX(CASE WHEN event_type = 'app.session_started' THEN actor_role END) AS actor_role,
         MAX(platform) AS platform, MAX(app_version) AS app_version, MAX(os_version) AS os_version, MAX(entry) AS entry,
         MIN(CASE WHEN event_type = 'app.session_started' THEN occurred_at END) AS started_at,
         MAX(CASE WHEN event_type = 'app.session_ended' THEN occurred_at END) AS ended_at,
         MAX(CASE WHEN event_type = 'app.session_ended' THEN duration_ms END) AS duration_ms,
         MAX(CASE WHEN event_type <> 'app.session_ended' THEN occurred_at END) AS last_at,
         MAX(end_reason) AS end_reason,
         SUM(CASE WHEN event_type = 'app.screen_viewed' THEN 1 ELSE 0 END) AS screens,
         SUM(CASE WHEN event_type = 'app.error_occurred' THEN 1 ELSE 0 END) AS errors,
         COALESCE(BOOL_OR(event_type = 'app.error_occurred' AND fatal), FALSE) AS fatal
  FROM events_app
  WHERE session_id IS NOT NULL
  GROUP BY session_id, jst_date
),
seen AS (
  SELECT session_id, begun_on AS jst_date,
         MAX(guardian_key) AS guardian_key, MAX(device_key) AS device_key, MAX(actor_role) AS actor_role,
         MAX(platform) AS platform, MAX(app_version) AS app_version, MAX(os_version) AS os_version, MAX(entry) AS entry,
         MIN(started_at) AS started_at, MAX(ended_at) AS ended_at, MAX(duration_ms) AS duration_ms, MAX(last_at) AS last_at,
         MAX(end_reason) AS end_reason, SUM(screens) AS screens, SUM(errors) AS errors, BOOL_OR(fatal) AS fatal
  FROM on_day
  GROUP BY session_id, begun_on
),
activity AS (
  SELECT seen.session_id, seen.jst_date, a.occurred_at,
         CASE WHEN a.occurred_at - LAG(a.occurred_at) OVER (PARTITION BY seen.session_id, seen.jst_date ORDER BY a.occurred_at)
                   > INTERVAL '30 minutes' THEN 1 ELSE 0 END AS after_silence
  FROM seen
  JOIN events_app a ON a.session_id = seen.session_id
  WHERE seen.ended_at IS NULL AND seen.last_at - seen.started_at > INTERVAL '30 minutes'
    AND a.jst_date <= seen.jst_date + INTERVAL '1 day'
    AND a.occurred_at >= seen.started_at AND a.event_type <> 'app.session_ended'
),
counted AS (
  SELECT session_id, jst_date, occurred_at,
         SUM(after_silence) OVER (PARTITION BY session_id, jst_date ORDER BY occurred_at) AS silences
  FROM activity
),
broken AS (
  SELECT session_id, jst_date, MAX(occurred_at) AS last_at
  FROM counted
  WHERE silences = 0
  GROUP BY session_id, jst_date
),
bounded AS (
  SELECT seen.*, COALESCE(seen.ended_at, broken.last_at, seen.last_at) AS closed_at
  FROM seen
  LEFT JOIN broken ON broken.session_id = seen.session_id AND broken.jst_date = seen.jst_date
  WHERE seen.started_at IS NOT NULL
)
SELECT session_id, guardian_key, device_key, actor_role, platform, app_version, os_version, entry,
       jst_date, started_at, closed_at AS ended_at,
       LEAST(GREATEST(COALESCE(duration_ms,
         CAST((date_part('epoch', closed_at) - date_part('epoch', started_at)) * 1000 AS BIGINT)), 0), 14400000) AS duration_ms,
       end_reason, screens, errors, fatal
FROM bounded
