-- R17 underlying rows: what each measure counts, one per device, release, arrival, opening and broadcast. `jst_date`
-- is the day it counts on: of an arrival or opening the one its message was made on.

-- section: counted
-- final
WITH made AS (
  SELECT message_id, jst_date FROM events_message WHERE event_type = 'message.created' AND jst_date BETWEEN $from AND $to
),
bounced AS (
  SELECT message_id, MAX(occurred_at) AS failed_at
  FROM events_message
  WHERE event_type = 'message.failed' AND channel = 'email' AND permanent AND jst_date >= $from
  GROUP BY message_id
)
SELECT 'K08' AS kpi_id, 'reachable' AS measure, p.jst_date, p.occurred_at AS at, CAST(p.device_key AS VARCHAR) AS counted_id,
       CASE WHEN p.granted THEN 'granted' ELSE 'denied' END AS detail
FROM events_app p
WHERE p.event_type = 'app.push_permission_changed' AND p.jst_date <= $to
UNION ALL
SELECT 'K13', 'released', n.jst_date, n.occurred_at, n.notice_id, 'notice'
FROM events_notice n
WHERE n.event_type = 'notice.published' AND n.jst_date BETWEEN $from AND $to
UNION ALL
SELECT 'K13', 'released', b.jst_date, b.occurred_at, b.broadcast_id, b.kind
FROM events_broadcast b
WHERE b.event_type = 'broadcast.released' AND b.jst_date BETWEEN $from AND $to
UNION ALL
SELECT 'K13', 'delivered', made.jst_date, s.occurred_at, s.message_id, s.channel
FROM message_steps s
JOIN made ON made.message_id = s.message_id
LEFT JOIN bounced ON bounced.message_id = s.message_id
WHERE s.jst_date >= $from
  AND (s.event_type IN ('message.delivered', 'message.opened')
    OR (s.event_type = 'message.accepted' AND s.channel = 'email'
        AND (bounced.failed_at IS NULL OR bounced.failed_at < s.occurred_at)))
UNION ALL
SELECT 'K14', 'opened', made.jst_date, s.occurred_at, s.message_id, s.channel
FROM message_steps s
JOIN made ON made.message_id = s.message_id
WHERE s.event_type = 'message.opened' AND s.channel = 'push' AND s.jst_date >= $from
UNION ALL
SELECT 'K21', 'broadcasts', b.jst_date, b.occurred_at, b.broadcast_id, b.event_type
FROM events_broadcast b
WHERE b.event_type IN ('broadcast.released', 'broadcast.completed')
ORDER BY kpi_id, measure, at, counted_id
