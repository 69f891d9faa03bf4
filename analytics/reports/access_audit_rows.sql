-- R18 underlying rows: one per access, oldest first. Who acted is a pseudonymous key; the purpose and the address an
-- access came from are not in the lake.

-- section: accesses
-- final
SELECT e.jst_date, e.occurred_at AS at, e.actor_key, e.actor_role AS role, e.what AS action, e.object_kind AS object,
       e.subject_id AS object_id, e."rows" AS "rows", e.event_id
FROM events_access e
WHERE e.event_type = 'access.audited' AND e.jst_date BETWEEN $from AND $to
ORDER BY e.occurred_at, e.event_id
