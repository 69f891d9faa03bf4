-- R13 underlying rows. `messages`: one per message and channel that it was meant for or went by, of the messages made in the
-- period. `broadcasts`: one per broadcast released in the period, for K13 and K21.

-- section: messages
-- final
WITH made AS (
  SELECT message_id, message_type, recipient_key, class, channels, facility_id, cause_event_id, occurred_at, jst_date
  FROM events_message
  WHERE event_type = 'message.created' AND jst_date BETWEEN $from AND $to
),
bounced AS (
  SELECT message_id, MAX(occurred_at) AS failed_at
  FROM events_message
  WHERE event_type = 'message.failed' AND channel = 'email' AND permanent AND jst_date >= $from
  GROUP BY message_id
),
state AS (
  SELECT s.message_id, channel,
         MIN(CASE WHEN event_type = 'message.sent' THEN occurred_at END) AS sent,
         MIN(CASE WHEN event_type = 'message.accepted' THEN occurred_at END) AS accepted,
         MIN(CASE WHEN event_type IN ('message.delivered', 'message.opened')
                    OR (event_type = 'message.accepted' AND channel = 'email'
                        AND (bounced.failed_at IS NULL OR bounced.failed_at < occurred_at)) THEN occurred_at END) AS delivered,
         MIN(CASE WHEN event_type = 'message.opened' THEN occurred_at END) AS opened,
         MIN(CASE WHEN event_type = 'message.expired' THEN occurred_at END) AS expired,
         MIN(CASE WHEN event_type = 'message.superseded' THEN occurred_at END) AS superseded,
         MIN(CASE WHEN event_type = 'message.failed' THEN occurred_at END) AS failed,
         MAX(error_code) AS failed_code,
         MIN(CASE WHEN event_type = 'message.escalated' THEN occurred_at END) AS escalated,
         MIN(CASE WHEN event_type = 'message.paper_posted' THEN occurred_at END) AS posted,
         MIN(CASE WHEN event_type = 'message.paper_returned' THEN occurred_at END) AS returned
  FROM message_steps s
  LEFT JOIN bounced ON bounced.message_id = s.message_id
  WHERE channel IS NOT NULL AND jst_date >= $from
  GROUP BY s.message_id, channel
),
way AS (
  SELECT message_id, channel FROM (SELECT message_id, UNNEST(channels) AS channel FROM made) AS meant
  UNION
  SELECT state.message_id, state.channel FROM state JOIN made ON made.message_id = state.message_id
  UNION
  SELECT message_id, NULL FROM made WHERE cardinality(channels) = 0
),
dropped AS (
  SELECT message_id, MIN(reason) AS reason FROM events_message
  WHERE event_type = 'message.suppressed' AND reason <> 'duplicate' AND jst_date >= $from
  GROUP BY message_id
)
SELECT made.jst_date, made.message_id, made.message_type, message_category(made.message_type) AS category,
       made.class AS message_class, made.recipient_key, made.facility_id, way.channel,
       made.occurred_at AS created,
       CASE WHEN state.delivered IS NULL THEN dropped.reason END AS suppressed_reason,
       state.sent, state.accepted, state.delivered, state.opened, state.expired, state.superseded, state.failed, state.failed_code,
       state.escalated, state.posted, state.returned
FROM way
JOIN made ON made.message_id = way.message_id
LEFT JOIN state ON state.message_id = way.message_id AND state.channel = way.channel
LEFT JOIN dropped ON dropped.message_id = way.message_id
ORDER BY made.occurred_at, made.message_id, way.channel

-- section: broadcasts
-- final
-- When its messages went out: each into the inbox, and for the first time by each other way. What is made after it was handed to
-- everybody goes again to those who have not read it.
WITH broadcast AS (
  SELECT r.broadcast_id, r.jst_date, r.kind, r.released_at, f.targets, COALESCE(f.completed_at, f.stopped_at) AS ended_at, t.event_id
  FROM (
    SELECT broadcast_id, MAX(kind) AS kind, MIN(occurred_at) AS released_at, MIN(jst_date) AS jst_date
    FROM events_broadcast
    WHERE event_type = 'broadcast.released'
    GROUP BY broadcast_id
  ) AS r
  LEFT JOIN (
    SELECT broadcast_id, MAX(targets) AS targets,
           MIN(CASE WHEN event_type = 'broadcast.completed' THEN occurred_at END) AS completed_at,
           MIN(CASE WHEN event_type = 'broadcast.stopped' THEN occurred_at END) AS stopped_at
    FROM events_broadcast
    WHERE event_type IN ('broadcast.completed', 'broadcast.stopped')
    GROUP BY broadcast_id
  ) AS f ON f.broadcast_id = r.broadcast_id
  LEFT JOIN (
    SELECT broadcast_id, MIN(event_id) AS event_id
    FROM events_broadcast
    WHERE event_type = 'broadcast.started'
    GROUP BY broadcast_id
  ) AS t ON t.broadcast_id = r.broadcast_id
  WHERE r.jst_date BETWEEN $from AND $to
),
made AS (
  SELECT b.broadcast_id, m.message_id
  FROM events_message m
  JOIN broadcast b ON b.event_id = m.cause_event_id
  WHERE m.event_type = 'message.created' AND m.jst_date >= $from AND m.occurred_at <= b.ended_at
),
sent AS (
  SELECT broadcast_id, MIN(sent_at) AS first_sent_at, MAX(sent_at) AS last_sent_at
  FROM (
    SELECT made.broadcast_id, MIN(s.occurred_at) AS sent_at
    FROM made
    JOIN events_message s ON s.message_id = made.message_id
    WHERE s.event_type IN ('message.created', 'message.sent') AND s.jst_date >= $from
    GROUP BY made.broadcast_id, s.message_id, s.event_type, s.channel
  ) AS went
  GROUP BY broadcast_id
)
SELECT b.jst_date, b.broadcast_id, b.kind, b.released_at, sent.first_sent_at, sent.last_sent_at, b.targets,
       CAST(date_part('epoch', sent.last_sent_at) - date_part('epoch', b.released_at) AS BIGINT) AS duration_s
FROM broadcast b
LEFT JOIN sent ON sent.broadcast_id = b.broadcast_id
ORDER BY b.released_at, b.broadcast_id
