-- R04 underlying rows. The final sections are row sets of their own: `answers` and `targets`.
-- Parameters as in survey_aggregate.sql. Nothing here names a person where the survey is anonymous.

-- section: survey
WITH seen AS (
  SELECT survey_id,
         MIN(CASE WHEN event_type = 'survey.closed' THEN occurred_at END) AS closed_at,
         BOOL_OR(event_type IN ('survey.requested', 'survey.answered') AND jst_date BETWEEN $from AND $to) AS in_period
  FROM events_survey
  WHERE survey_id IS NOT NULL AND ($survey_id = '' OR survey_id = $survey_id)
  GROUP BY survey_id
)
SELECT seen.survey_id, surveys.title, seen.closed_at
FROM seen
LEFT JOIN surveys ON surveys.survey_id = seen.survey_id
WHERE seen.in_period

-- section: targets
-- final
SELECT survey.survey_id, survey.title, requested.target_key,
       MIN(requested.occurred_at) AS requested_at,
       MIN(arrived.occurred_at) AS delivered_at
FROM events_survey requested
JOIN survey ON survey.survey_id = requested.survey_id
LEFT JOIN events_message made ON made.cause_event_id = requested.event_id
  AND made.event_type = 'message.created' AND made.message_type = 'survey.requested'
LEFT JOIN events_message arrived ON arrived.message_id = made.message_id AND arrived.event_type = 'message.delivered'
WHERE requested.event_type = 'survey.requested' AND requested.jst_date BETWEEN $from AND $to
GROUP BY survey.survey_id, survey.title, requested.target_key
ORDER BY survey.survey_id, requested.target_key

-- section: answers
-- final
WITH received AS (
  SELECT e.survey_id, survey.title, COALESCE(CAST(e.target_key AS VARCHAR), e.subject_id) AS respondent, e.target_key, e.revision,
         e.occurred_at, e.ward_code, e.class_age
  FROM events_survey e
  JOIN survey ON survey.survey_id = e.survey_id
  WHERE e.event_type = 'survey.answered' AND e.jst_date BETWEEN $from AND $to
    AND (survey.closed_at IS NULL OR e.occurred_at <= survey.closed_at)
),
latest AS (
  SELECT survey_id, respondent, MAX(revision) AS revision
  FROM received
  GROUP BY survey_id, respondent
),
ward AS (
  SELECT person_key, LAST_VALUE(ward_code ORDER BY since) AS ward_code
  FROM person_wards
  WHERE person_kind = 'guardian' AND jst_date <= $to
  GROUP BY person_key
),
used AS (
  SELECT guardian_key,
         array_to_string(array_sort(array_agg(DISTINCT programme_code) FILTER (WHERE programme_code IS NOT NULL)), ' ') AS programmes,
         array_to_string(array_sort(array_agg(DISTINCT facility_id) FILTER (WHERE facility_id IS NOT NULL)), ' ') AS facilities
  FROM events_coupon
  WHERE event_type = 'coupon.used' AND jst_date <= $to
  GROUP BY guardian_key
),
counted AS (
  SELECT received.*, ROW_NUMBER() OVER (PARTITION BY received.survey_id ORDER BY received.respondent) AS answer_no
  FROM received
  JOIN latest ON latest.survey_id = received.survey_id AND latest.respondent = received.respondent AND latest.revision = received.revision
)
SELECT counted.survey_id, counted.title, counted.answer_no, counted.occurred_at AS answered_at,
       q.question_no, a.question_id, a.option_no, a.number, a.text_length,
       COALESCE(counted.ward_code, ward.ward_code, 'unknown') AS ward_code,
       COALESCE(CAST(counted.class_age AS VARCHAR), 'unknown') AS class_age,
       used.programmes, used.facilities
FROM counted
LEFT JOIN survey_answers a ON a.survey_id = counted.survey_id AND a.respondent = counted.respondent AND a.revision = counted.revision
LEFT JOIN survey_questions q ON q.survey_id = a.survey_id AND q.question_id = a.question_id
LEFT JOIN ward ON ward.person_key = counted.target_key
LEFT JOIN used ON used.guardian_key = counted.target_key
ORDER BY counted.survey_id, counted.answer_no, q.question_no, a.question_id, a.option_no
