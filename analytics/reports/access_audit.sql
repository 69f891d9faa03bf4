-- R18 操作・出力記録. The last section is the report: how often and how many rows, by what was done to what.
-- Parameters: $from, $to DATE, both included · $by_day, $by_month, $by_role BOOLEAN
-- A dimension that was not chosen is '' everywhere. An access belongs to its Japanese day.

-- section: access
SELECT CASE WHEN $by_day THEN CAST(c.jst_date AS VARCHAR) ELSE '' END AS day,
       CASE WHEN $by_month THEN c.month ELSE '' END AS month,
       CASE WHEN $by_role THEN COALESCE(e.actor_role, 'unknown') ELSE '' END AS role,
       e.what AS action, e.object_kind AS object, e.actor_key, e."rows" AS n_rows
FROM events_access e
JOIN calendar c ON c.jst_date = e.jst_date
WHERE e.event_type = 'access.audited' AND e.jst_date BETWEEN $from AND $to

-- section: figures
SELECT day, month, role, action, object,
       COUNT(*) AS accesses, COUNT(DISTINCT actor_key) AS actors, CAST(SUM(n_rows) AS BIGINT) AS "rows"
FROM access
GROUP BY day, month, role, action, object
ORDER BY day, month, role, action, object
