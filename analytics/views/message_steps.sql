-- One row per step of a message on a channel. Openings that only the app saw are steps of `push`, letters of `paper`, and a
-- change of channel belongs to the new one.
SELECT message_id, event_type, occurred_at, jst_date, latency_ms, provider_ms, error_code,
       CASE WHEN event_type LIKE 'message.paper_%' THEN 'paper'
            WHEN event_type = 'message.escalated' THEN to_channel
            ELSE channel END AS channel
FROM events_message
WHERE event_type NOT IN ('message.created', 'message.suppressed', 'message.acknowledged')
UNION ALL
SELECT message_id, 'message.opened', occurred_at, jst_date, NULL, NULL, NULL, 'push'
FROM events_app
WHERE event_type = 'app.push_opened' AND message_id IS NOT NULL
