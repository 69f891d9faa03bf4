-- One row per person and platform on each day with at least one session start.
SELECT jst_date, guardian_key, platform, COUNT(*) AS sessions
FROM events_app
WHERE event_type = 'app.session_started' AND guardian_key IS NOT NULL
GROUP BY jst_date, guardian_key, platform
