-- One row per message and channel with the first time of each delivery state. A repetition that was not made leaves the
-- message it would have repeated unsuppressed.
WITH made AS (
  SELECT message_id, message_type, recipient_key, recipient_role, class AS message_class, cause_event_id,
         occurred_at AS created_at, jst_date
  FROM events_message
  WHERE event_type = 'message.created'
),
state AS (
  SELECT message_id, channel,
         MIN(CASE WHEN event_type = 'message.queued' THEN occurred_at END) AS queued_at,
         MIN(CASE WHEN event_type = 'message.sent' THEN occurred_at END) AS sent_at,
         MIN(CASE WHEN event_type = 'message.accepted' THEN occurred_at END) AS accepted_at,
         MIN(CASE WHEN event_type = 'message.delivered' THEN occurred_at END) AS delivered_at,
         MIN(CASE WHEN event_type = 'message.displayed' THEN occurred_at END) AS displayed_at,
         MIN(CASE WHEN event_type = 'message.opened' THEN occurred_at END) AS opened_at,
         MIN(CASE WHEN event_type = 'message.failed' THEN occurred_at END) AS failed_at,
         MIN(CASE WHEN event_type = 'message.expired' THEN occurred_at END) AS expired_at,
         MIN(CASE WHEN event_type = 'message.superseded' THEN occurred_at END) AS superseded_at,
         MIN(CASE WHEN event_type = 'message.delivered' THEN latency_ms END) AS delivered_latency_ms,
         MAX(CASE WHEN event_type = 'message.failed' THEN error_code END) AS failed_code
  FROM message_steps
  WHERE channel IS NOT NULL
  GROUP BY message_id, channel
),
dropped AS (
  SELECT message_id, MIN(occurred_at) AS suppressed_at, MAX(reason) AS suppressed_reason
  FROM events_message
  WHERE event_type = 'message.suppressed' AND reason <> 'duplicate'
  GROUP BY message_id
)
SELECT made.message_id, made.message_type, made.recipient_key, made.recipient_role, made.message_class,
       made.cause_event_id, made.jst_date, made.created_at, state.channel,
       state.queued_at, state.sent_at, state.accepted_at, state.delivered_at,
       state.displayed_at, state.opened_at, state.failed_at, state.expired_at, state.superseded_at, state.delivered_latency_ms, state.failed_code,
       dropped.suppressed_at, dropped.suppressed_reason
FROM made
LEFT JOIN state ON state.message_id = made.message_id
LEFT JOIN dropped ON dropped.message_id = made.message_id
