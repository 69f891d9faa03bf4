-- One row per results report with its present state.
SELECT results_report_id,
       MAX(month) AS month,
       MAX(facility_id) AS facility_id,
       MAX(programme_code) AS programme_code,
       LAST_VALUE(rows ORDER BY occurred_at, subject_seq) FILTER (WHERE rows IS NOT NULL) AS rows,
       LAST_VALUE(amount_yen ORDER BY occurred_at, subject_seq) FILTER (WHERE amount_yen IS NOT NULL) AS amount_yen,
       MIN(CASE WHEN event_type = 'results_report.created' THEN occurred_at END) AS created_at,
       MIN(CASE WHEN event_type = 'results_report.submitted' THEN occurred_at END) AS submitted_at,
       MIN(CASE WHEN event_type = 'results_report.received' THEN occurred_at END) AS received_at,
       MIN(CASE WHEN event_type = 'results_report.forwarded' THEN occurred_at END) AS forwarded_at,
       SUM(CASE WHEN event_type = 'results_report.returned' THEN 1 ELSE 0 END) AS returned_count,
       LAST_VALUE(substr(event_type, 16) ORDER BY occurred_at, subject_seq) AS state
FROM events_results_report
GROUP BY results_report_id
