-- R17 underlying rows: what each measure counts, one per device, release, arrival, opening and broadcast.

-- section: counted
-- final
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
SELECT 'K13', 'delivered', m.jst_date, m.occurred_at, m.message_id, m.channel
FROM events_message m
WHERE (m.event_type = 'message.delivered' OR (m.event_type = 'message.accepted' AND m.channel = 'email'))
  AND m.jst_date BETWEEN $from AND $to
UNION ALL
SELECT 'K14', 'opened', m.jst_date, m.occurred_at, m.message_id, 'receipt'
FROM events_message m
WHERE m.event_type = 'message.opened' AND m.channel = 'push' AND m.jst_date BETWEEN $from AND $to
UNION ALL
SELECT 'K14', 'opened', a.jst_date, a.occurred_at, a.message_id, 'app'
FROM events_app a
WHERE a.event_type = 'app.push_opened' AND a.jst_date BETWEEN $from AND $to
UNION ALL
SELECT 'K21', 'broadcasts', b.jst_date, b.occurred_at, b.broadcast_id, b.event_type
FROM events_broadcast b
WHERE b.event_type IN ('broadcast.released', 'broadcast.completed')
ORDER BY kpi_id, measure, at, counted_id
