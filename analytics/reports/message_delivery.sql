-- R13 通知配信実績. The last section is the report.
-- Parameters: $from, $to DATE, both included · $by_… BOOLEAN, one per dimension · $horizon DATE, the newest day the lake knows
-- A dimension that was not chosen is '' everywhere. A message belongs to the Japanese day it was made on, and what became
-- of it counts there, whenever that was. Without the dimension `channel` a message counts once, whatever it went by.
-- Arrived is what a device or client confirmed, what was opened, and mail that the next server took and that has not come back.
-- Reached is also who was posted a letter that has not come back.

-- section: span
SELECT jst_date,
       CASE WHEN $by_day THEN CAST(jst_date AS VARCHAR)
            WHEN $by_week THEN CAST(iso_week_start AS VARCHAR)
            WHEN $by_month THEN month ELSE '' END AS span
FROM calendar
WHERE jst_date BETWEEN $from AND $to

-- section: made
SELECT m.message_id, m.jst_date, m.occurred_at AS created_at, m.channels, m.class AS message_class,
       message_speed(m.message_type) = 'now' AS is_urgent,
       span.span,
       CASE WHEN $by_message_type THEN COALESCE(m.message_type, 'unknown') ELSE '' END AS message_type,
       CASE WHEN $by_category THEN COALESCE(message_category(m.message_type), 'unknown') ELSE '' END AS category,
       CASE WHEN $by_facility_id THEN COALESCE(m.facility_id, 'unknown') ELSE '' END AS facility_id,
       CASE WHEN $by_broadcast_id THEN COALESCE(b.broadcast_id, 'unknown') ELSE '' END AS broadcast_id,
       CASE WHEN $by_hour THEN substr(CAST(m.occurred_at + INTERVAL '9 hours' AS VARCHAR), 12, 2) ELSE '' END AS hour
FROM events_message m
JOIN span ON span.jst_date = m.jst_date
LEFT JOIN (
  SELECT event_id, MAX(broadcast_id) AS broadcast_id FROM events_broadcast WHERE event_type = 'broadcast.started' GROUP BY event_id
) AS b ON b.event_id = m.cause_event_id
WHERE m.event_type = 'message.created' AND m.jst_date BETWEEN $from AND $to

-- section: bounced
-- Mail that came back, after the next server had taken it or at once. What was taken later, sent again, has arrived.
SELECT message_id, MAX(occurred_at) AS failed_at
FROM events_message
WHERE event_type = 'message.failed' AND channel = 'email' AND permanent AND jst_date >= $from
GROUP BY message_id

-- section: state
SELECT s.message_id, s.channel,
       BOOL_OR(s.event_type = 'message.sent') AS sent,
       BOOL_OR(s.event_type = 'message.accepted') AS accepted,
       BOOL_OR(s.arrived) AS delivered,
       BOOL_OR(s.event_type = 'message.opened') AS opened,
       BOOL_OR(s.event_type = 'message.expired') AS expired,
       BOOL_OR(s.event_type = 'message.superseded') AS superseded,
       BOOL_OR(s.event_type = 'message.failed') AS failed,
       BOOL_OR(s.event_type = 'message.escalated') AS escalated,
       BOOL_OR(s.event_type = 'message.paper_posted') AS posted,
       BOOL_OR(s.event_type = 'message.paper_returned') AS returned,
       -- The letters of a message go out one after the other: each but the last has come back.
       CASE WHEN s.channel = 'paper'
            THEN CASE WHEN COUNT(CASE WHEN s.event_type = 'message.paper_posted' THEN 1 END)
                             > COUNT(CASE WHEN s.event_type = 'message.paper_returned' THEN 1 END)
                      THEN MAX(CASE WHEN s.event_type = 'message.paper_posted' THEN s.occurred_at END) END
            ELSE MIN(CASE WHEN s.arrived THEN s.occurred_at END) END AS reached_at,
       CASE WHEN s.channel = 'email'
            THEN MIN(CASE WHEN s.event_type = 'message.sent' THEN s.latency_ms END)
                 + MIN(CASE WHEN s.event_type = 'message.accepted' AND s.arrived THEN s.provider_ms END)
            ELSE MIN(CASE WHEN s.event_type = 'message.delivered' THEN s.latency_ms END) END AS delivered_ms,
       MIN(CASE WHEN (s.event_type = 'message.sent' AND s.channel = 'push')
                  OR (s.event_type = 'message.delivered' AND s.channel = 'live') THEN s.latency_ms END) AS handed_ms
FROM (
  SELECT s.message_id, s.channel, s.event_type, s.occurred_at, s.latency_ms, s.provider_ms,
         s.event_type IN ('message.delivered', 'message.opened')
           OR (s.event_type = 'message.accepted' AND s.channel = 'email'
               AND (bounced.failed_at IS NULL OR bounced.failed_at < s.occurred_at)) AS arrived
  FROM message_steps s
  JOIN made ON made.message_id = s.message_id
  LEFT JOIN bounced ON bounced.message_id = s.message_id
  WHERE s.channel IS NOT NULL AND s.jst_date >= $from
) AS s
GROUP BY s.message_id, s.channel

-- section: way
-- What is counted: each message, or each message and channel it was meant for or went by.
SELECT message_id, '' AS channel FROM made WHERE NOT $by_channel
UNION
SELECT message_id, channel FROM (SELECT message_id, UNNEST(channels) AS channel FROM made WHERE $by_channel) AS meant
UNION
SELECT message_id, channel FROM state WHERE $by_channel

-- section: line
SELECT made.span, made.message_type, made.category, made.facility_id, made.broadcast_id, made.hour, way.channel,
       made.message_id, made.is_urgent,
       -- What arrived was not suppressed, whatever was kept back of it afterwards or elsewhere.
       CASE WHEN NOT COALESCE(state.delivered, FALSE) THEN dropped.reason END AS suppressed_reason,
       COALESCE(dropped.is_repeated, FALSE) AS is_repeated,
       COALESCE(state.sent, FALSE) AS sent, COALESCE(state.accepted, FALSE) AS accepted,
       COALESCE(state.delivered, FALSE) AS delivered, COALESCE(state.opened, FALSE) AS opened,
       COALESCE(state.expired, FALSE) AS expired, COALESCE(state.superseded, FALSE) AS superseded,
       COALESCE(state.failed, FALSE) AS failed, COALESCE(state.escalated, FALSE) AS escalated,
       COALESCE(state.posted, FALSE) AS posted, COALESCE(state.returned, FALSE) AS returned,
       state.delivered_ms, state.handed_ms,
       made.message_class = 'mandatory' AND dropped.reason IS NULL AND made.jst_date < $horizon
         AND (state.reached_at IS NULL OR state.reached_at > made.created_at + INTERVAL '24 hours') AS is_unreached
FROM way
JOIN made ON made.message_id = way.message_id
LEFT JOIN (
  SELECT message_id, CASE WHEN $by_channel THEN channel ELSE '' END AS channel,
         BOOL_OR(sent) AS sent, BOOL_OR(accepted) AS accepted, BOOL_OR(delivered) AS delivered, BOOL_OR(opened) AS opened,
         BOOL_OR(expired) AS expired, BOOL_OR(superseded) AS superseded, BOOL_OR(failed) AS failed,
         BOOL_OR(escalated) AS escalated, BOOL_OR(posted) AS posted, BOOL_OR(returned) AS returned,
         MIN(reached_at) AS reached_at, MIN(delivered_ms) AS delivered_ms, MIN(handed_ms) AS handed_ms
  FROM state
  GROUP BY message_id, CASE WHEN $by_channel THEN channel ELSE '' END
) AS state ON state.message_id = way.message_id AND state.channel = way.channel
LEFT JOIN (
  -- A repetition that was not made names the message it would have repeated, which went out all the same.
  SELECT message_id, MIN(CASE WHEN reason <> 'duplicate' THEN reason END) AS reason, BOOL_OR(reason = 'duplicate') AS is_repeated
  FROM events_message
  WHERE event_type = 'message.suppressed' AND jst_date >= $from
  GROUP BY message_id
) AS dropped ON dropped.message_id = way.message_id

-- section: cell
SELECT s.span, k.message_type, k.category, f.facility_id, b.broadcast_id, h.hour, w.channel
FROM (SELECT DISTINCT span FROM span) AS s
CROSS JOIN (SELECT message_type, category FROM made UNION SELECT '', '' WHERE NOT $by_message_type AND NOT $by_category) AS k
CROSS JOIN (SELECT facility_id FROM made UNION SELECT '' WHERE NOT $by_facility_id) AS f
CROSS JOIN (SELECT broadcast_id FROM made UNION SELECT '' WHERE NOT $by_broadcast_id) AS b
CROSS JOIN (SELECT hour FROM made UNION SELECT '' WHERE NOT $by_hour) AS h
CROSS JOIN (SELECT channel FROM way UNION SELECT '' WHERE NOT $by_channel) AS w

-- section: latency
-- Exact ranks: the smallest latency that at least so many percent of the messages kept to.
SELECT span, message_type, category, facility_id, broadcast_id, hour, channel,
       MIN(CASE WHEN nth * 100 >= n * 50 THEN delivered_ms END) AS p50_latency_ms,
       MIN(CASE WHEN nth * 100 >= n * 95 THEN delivered_ms END) AS p95_latency_ms,
       MIN(CASE WHEN nth * 100 >= n * 99 THEN delivered_ms END) AS p99_latency_ms
FROM (
  SELECT span, message_type, category, facility_id, broadcast_id, hour, channel, delivered_ms,
         ROW_NUMBER() OVER (PARTITION BY span, message_type, category, facility_id, broadcast_id, hour, channel ORDER BY delivered_ms) AS nth,
         COUNT(*) OVER (PARTITION BY span, message_type, category, facility_id, broadcast_id, hour, channel) AS n
  FROM line
  WHERE delivered_ms IS NOT NULL
) AS ranked
GROUP BY span, message_type, category, facility_id, broadcast_id, hour, channel

-- section: live
-- Sockets have no type, facility or hour: told as a whole and by time only.
SELECT span.span, CAST(MAX(s.sessions) AS BIGINT) AS live_sessions_peak, CAST(SUM(s.republished) AS BIGINT) AS resume_gaps
FROM events_system s
JOIN span ON span.jst_date = s.jst_date
WHERE s.event_type = 'system.live_sampled' AND s.jst_date BETWEEN $from AND $to
  AND NOT ($by_message_type OR $by_category OR $by_facility_id OR $by_broadcast_id OR $by_hour OR $by_channel)
GROUP BY span.span

-- section: figures
WITH counted AS (
  SELECT span, message_type, category, facility_id, broadcast_id, hour, channel,
         COUNT(*) AS created,
         SUM(CASE WHEN suppressed_reason IS NOT NULL THEN 1 ELSE 0 END) AS suppressed,
         SUM(CASE WHEN suppressed_reason = 'opt_out' THEN 1 ELSE 0 END) AS suppressed_opt_out,
         SUM(CASE WHEN is_repeated THEN 1 ELSE 0 END) AS suppressed_duplicate,
         SUM(CASE WHEN suppressed_reason <> 'opt_out' THEN 1 ELSE 0 END) AS suppressed_other,
         SUM(CASE WHEN sent THEN 1 ELSE 0 END) AS sent,
         SUM(CASE WHEN accepted THEN 1 ELSE 0 END) AS accepted,
         SUM(CASE WHEN delivered THEN 1 ELSE 0 END) AS delivered,
         SUM(CASE WHEN opened THEN 1 ELSE 0 END) AS opened,
         SUM(CASE WHEN expired THEN 1 ELSE 0 END) AS expired,
         SUM(CASE WHEN superseded THEN 1 ELSE 0 END) AS superseded,
         SUM(CASE WHEN failed THEN 1 ELSE 0 END) AS failed,
         SUM(CASE WHEN is_urgent AND handed_ms IS NOT NULL THEN 1 ELSE 0 END) AS urgent,
         SUM(CASE WHEN is_urgent AND handed_ms <= 2000 THEN 1 ELSE 0 END) AS urgent_within_2s,
         SUM(CASE WHEN escalated THEN 1 ELSE 0 END) AS escalated,
         SUM(CASE WHEN posted THEN 1 ELSE 0 END) AS paper_posted,
         SUM(CASE WHEN returned THEN 1 ELSE 0 END) AS paper_returned,
         SUM(CASE WHEN is_unreached THEN 1 ELSE 0 END) AS unreached
  FROM line
  GROUP BY span, message_type, category, facility_id, broadcast_id, hour, channel
)
SELECT c.span AS day, c.span AS week, c.span AS month, c.hour, c.message_type, c.category, c.channel, c.facility_id, c.broadcast_id,
       COALESCE(n.created, 0) AS created,
       COALESCE(n.suppressed, 0) AS suppressed,
       COALESCE(n.suppressed_opt_out, 0) AS suppressed_opt_out,
       COALESCE(n.suppressed_duplicate, 0) AS suppressed_duplicate,
       COALESCE(n.suppressed_other, 0) AS suppressed_other,
       COALESCE(n.sent, 0) AS sent,
       COALESCE(n.accepted, 0) AS accepted,
       COALESCE(n.delivered, 0) AS delivered,
       CASE WHEN c.channel = '' THEN 'confirmed_or_mail_accepted' WHEN c.channel = 'email' THEN 'mail_accepted' ELSE 'confirmed' END AS delivered_means,
       COALESCE(n.expired, 0) AS expired,
       COALESCE(n.superseded, 0) AS superseded,
       COALESCE(n.failed, 0) AS failed,
       percent(COALESCE(n.delivered, 0), COALESCE(n.created - n.suppressed, 0)) AS delivery_rate,
       COALESCE(n.opened, 0) AS opened,
       percent(COALESCE(n.opened, 0), COALESCE(n.delivered, 0)) AS open_rate,
       latency.p50_latency_ms, latency.p95_latency_ms, latency.p99_latency_ms,
       percent(COALESCE(n.urgent_within_2s, 0), COALESCE(n.urgent, 0)) AS within_2s_share,
       COALESCE(n.escalated, 0) AS escalated,
       COALESCE(n.paper_posted, 0) AS paper_posted,
       COALESCE(n.paper_returned, 0) AS paper_returned,
       -- Reached by another channel is reached: empty along channels.
       CASE WHEN c.channel = '' THEN COALESCE(n.unreached, 0) END AS unreached_mandatory,
       live.live_sessions_peak, live.resume_gaps
FROM cell c
LEFT JOIN counted n ON n.span = c.span AND n.message_type = c.message_type AND n.category = c.category
  AND n.facility_id = c.facility_id AND n.broadcast_id = c.broadcast_id AND n.hour = c.hour AND n.channel = c.channel
LEFT JOIN latency ON latency.span = c.span AND latency.message_type = c.message_type AND latency.category = c.category
  AND latency.facility_id = c.facility_id AND latency.broadcast_id = c.broadcast_id AND latency.hour = c.hour
  AND latency.channel = c.channel
LEFT JOIN live ON live.span = c.span
ORDER BY c.span, c.hour, c.message_type, c.category, c.channel, c.facility_id, c.broadcast_id
