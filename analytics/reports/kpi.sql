-- R17 KPI指標. The last section is the report: one line per indicator, measure and month of the period.
-- Parameters: $from, $to DATE, both included
-- The month's part inside the period counts. `cumulative` adds up from the first month of the period within a fiscal year, for
-- measures that can be added. A target is the fiscal year's, and is compared with the measure that the indicator is named after.

-- section: months
SELECT month, MIN(jst_date) AS first_day, MAX(jst_date) AS last_day, MAX(fiscal_year) AS fiscal_year
FROM calendar
WHERE jst_date BETWEEN $from AND $to
GROUP BY month

-- section: permission
-- K08: devices whose last word on push was yes, at both ends of the month.
SELECT month,
       SUM(CASE WHEN at_end THEN 1 ELSE 0 END) AS at_end,
       SUM(CASE WHEN at_start THEN 1 ELSE 0 END) AS at_start
FROM (
  SELECT months.month, p.device_key,
         LAST_VALUE(p.granted ORDER BY p.occurred_at, p.event_id) AS at_end,
         LAST_VALUE(p.granted ORDER BY p.occurred_at, p.event_id) FILTER (WHERE p.jst_date < months.first_day) AS at_start
  FROM months
  JOIN events_app p ON p.jst_date <= months.last_day
  WHERE p.event_type = 'app.push_permission_changed'
  GROUP BY months.month, p.device_key
) AS device
GROUP BY month

-- section: released
-- K13: what the municipality gave out.
SELECT c.month, COUNT(*) AS n
FROM (
  SELECT jst_date FROM events_notice WHERE event_type = 'notice.published' AND jst_date BETWEEN $from AND $to
  UNION ALL
  SELECT jst_date FROM events_broadcast WHERE event_type = 'broadcast.released' AND jst_date BETWEEN $from AND $to
) AS given
JOIN calendar c ON c.jst_date = given.jst_date
GROUP BY c.month

-- section: bounced
-- Mail that came back, after the next server had taken it or at once. What was taken later, sent again, has arrived.
SELECT message_id, MAX(occurred_at) AS failed_at
FROM events_message
WHERE event_type = 'message.failed' AND channel = 'email' AND permanent AND jst_date >= $from
GROUP BY message_id

-- section: arrived
-- K13 and K14, as R13 counts: messages made in the month that arrived, pushes that arrived, and those of them that were opened.
SELECT c.month,
       COUNT(DISTINCT s.message_id) AS messages,
       COUNT(DISTINCT CASE WHEN s.channel = 'push' THEN s.message_id END) AS pushes,
       COUNT(DISTINCT CASE WHEN s.channel = 'push' AND s.event_type = 'message.opened' THEN s.message_id END) AS opened
FROM message_steps s
JOIN events_message made ON made.message_id = s.message_id
JOIN calendar c ON c.jst_date = made.jst_date
LEFT JOIN bounced ON bounced.message_id = s.message_id
WHERE made.event_type = 'message.created' AND made.jst_date BETWEEN $from AND $to AND s.jst_date >= $from
  AND (s.event_type IN ('message.delivered', 'message.opened')
    OR (s.event_type = 'message.accepted' AND s.channel = 'email'
        AND (bounced.failed_at IS NULL OR bounced.failed_at < s.occurred_at)))
GROUP BY c.month

-- section: broadcast
-- K21: broadcasts released in the period that were handed to everybody, with the event that their messages name as their cause.
SELECT r.broadcast_id, r.jst_date, r.released_at, f.ended_at, t.event_id
FROM (
  SELECT broadcast_id, MIN(occurred_at) AS released_at, MIN(jst_date) AS jst_date
  FROM events_broadcast WHERE event_type = 'broadcast.released' GROUP BY broadcast_id
) AS r
JOIN (
  SELECT broadcast_id, MIN(occurred_at) AS ended_at
  FROM events_broadcast WHERE event_type = 'broadcast.completed' GROUP BY broadcast_id
) AS f ON f.broadcast_id = r.broadcast_id
JOIN (
  SELECT broadcast_id, MIN(event_id) AS event_id
  FROM events_broadcast WHERE event_type = 'broadcast.started' GROUP BY broadcast_id
) AS t ON t.broadcast_id = r.broadcast_id
WHERE r.jst_date BETWEEN $from AND $to

-- section: broadcast_sent
-- When its messages went out: each into the inbox, and for the first time by each other way. What is made after it was handed to
-- everybody goes again to those who have not read it.
SELECT broadcast_id, MAX(sent_at) AS last_sent_at
FROM (
  SELECT made.broadcast_id, MIN(s.occurred_at) AS sent_at
  FROM (
    SELECT b.broadcast_id, m.message_id
    FROM events_message m
    JOIN broadcast b ON b.event_id = m.cause_event_id
    WHERE m.event_type = 'message.created' AND m.jst_date >= $from AND m.occurred_at <= b.ended_at
  ) AS made
  JOIN events_message s ON s.message_id = made.message_id
  WHERE s.event_type IN ('message.created', 'message.sent') AND s.jst_date >= $from
  GROUP BY made.broadcast_id, s.message_id, s.event_type, s.channel
) AS went
GROUP BY broadcast_id

-- section: broadcast_time
-- Seconds from the release to the last sending, the middle one of the month's broadcasts.
SELECT month, COUNT(*) AS broadcasts,
       SUM(CASE WHEN nth IN ((n + 1) / 2, (n + 2) / 2) THEN duration_s ELSE 0 END) AS middle_sum,
       MAX(CASE WHEN n % 2 = 1 THEN 1 ELSE 2 END) AS middle_n
FROM (
  SELECT month, duration_s,
         ROW_NUMBER() OVER (PARTITION BY month ORDER BY duration_s) AS nth,
         COUNT(*) OVER (PARTITION BY month) AS n
  FROM (
    SELECT c.month, CAST(date_part('epoch', s.last_sent_at) - date_part('epoch', b.released_at) AS BIGINT) AS duration_s
    FROM broadcast b
    JOIN broadcast_sent s ON s.broadcast_id = b.broadcast_id
    JOIN calendar c ON c.jst_date = b.jst_date
  ) AS sent
) AS ranked
GROUP BY month

-- section: figures
WITH measure AS (
  SELECT month, 'K08' AS kpi_id, '通知許可端末数' AS indicator, 'reachable' AS measure, TRUE AS is_main, FALSE AS is_added,
         CAST(COALESCE(at_end, 0) AS DECIMAL(18, 1)) AS value
  FROM months LEFT JOIN permission USING (month)
  UNION ALL
  SELECT month, 'K08', '通知許可端末数', 'increase', FALSE, TRUE, CAST(COALESCE(at_end - at_start, 0) AS DECIMAL(18, 1))
  FROM months LEFT JOIN permission USING (month)
  UNION ALL
  SELECT month, 'K13', '情報発信数', 'released', TRUE, TRUE, CAST(COALESCE(n, 0) AS DECIMAL(18, 1))
  FROM months LEFT JOIN released USING (month)
  UNION ALL
  SELECT month, 'K13', '情報発信数', 'delivered', FALSE, TRUE, CAST(COALESCE(messages, 0) AS DECIMAL(18, 1))
  FROM months LEFT JOIN arrived USING (month)
  UNION ALL
  SELECT month, 'K14', 'プッシュ通知開封件数・率', 'opened', FALSE, TRUE, CAST(COALESCE(opened, 0) AS DECIMAL(18, 1))
  FROM months LEFT JOIN arrived USING (month)
  UNION ALL
  SELECT month, 'K14', 'プッシュ通知開封件数・率', 'open_rate', TRUE, FALSE, percent(COALESCE(opened, 0), COALESCE(pushes, 0))
  FROM months LEFT JOIN arrived USING (month)
  UNION ALL
  SELECT month, 'K21', '一斉配信の所要時間', 'median_s', TRUE, FALSE, quotient_1(middle_sum, middle_n)
  FROM months LEFT JOIN broadcast_time USING (month)
  UNION ALL
  SELECT month, 'K21', '一斉配信の所要時間', 'broadcasts', FALSE, TRUE, CAST(COALESCE(broadcasts, 0) AS DECIMAL(18, 1))
  FROM months LEFT JOIN broadcast_time USING (month)
),
line AS (
  SELECT m.kpi_id, m.indicator, m.measure, m.month, m.value, m.is_main, m.is_added, months.fiscal_year,
         CASE WHEN m.is_added THEN SUM(m.value) OVER (PARTITION BY m.kpi_id, m.measure, months.fiscal_year ORDER BY m.month) END AS cumulative
  FROM measure m
  JOIN months ON months.month = m.month
)
SELECT line.kpi_id, line.indicator, line.measure, line.month, line.value,
       CAST(line.cumulative AS DECIMAL(18, 1)) AS cumulative,
       t.target,
       CAST(ROUND(100 * CAST(COALESCE(line.cumulative, line.value) AS DOUBLE) / NULLIF(t.target, 0), 1) AS DECIMAL(18, 1)) AS attainment
FROM line
LEFT JOIN kpi_targets t ON line.is_main AND t.kpi = line.kpi_id AND t.fiscal_year = line.fiscal_year
ORDER BY line.kpi_id, line.measure, line.month
