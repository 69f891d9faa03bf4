-- R04 アンケート結果集計. Sections run in order; each becomes a table of its name for those after it; the last is the report.
-- Parameters: $from, $to DATE, both included · $survey_id VARCHAR, '' = all surveys of the period
--   $by_ward_code, $by_class_age, $by_programme_code, $by_facility_id BOOLEAN: which cross tables to add
-- Counted is the last revision of each answer that came in the period and before the close.

-- section: survey
WITH seen AS (
  SELECT survey_id,
         MIN(CASE WHEN event_type = 'survey.closed' THEN occurred_at END) AS closed_at,
         BOOL_OR(CASE WHEN event_type = 'survey.created' THEN anonymous END) AS anonymous,
         BOOL_OR(event_type IN ('survey.requested', 'survey.answered') AND jst_date BETWEEN $from AND $to) AS in_period
  FROM events_survey
  WHERE survey_id IS NOT NULL AND ($survey_id = '' OR survey_id = $survey_id)
  GROUP BY survey_id
)
SELECT seen.survey_id, surveys.title, seen.closed_at,
       COALESCE(surveys.anonymous, seen.anonymous, FALSE) AS anonymous
FROM seen
LEFT JOIN surveys ON surveys.survey_id = seen.survey_id
WHERE seen.in_period

-- section: target
SELECT requested.survey_id, requested.target_key, MIN(requested.occurred_at) AS requested_at,
       MAX(CASE WHEN reached.cause_event_id IS NOT NULL THEN 1 ELSE 0 END) AS delivered
FROM events_survey requested
LEFT JOIN (
  SELECT DISTINCT made.cause_event_id
  FROM events_message made
  JOIN events_message arrived ON arrived.message_id = made.message_id AND arrived.event_type = 'message.delivered'
  WHERE made.event_type = 'message.created' AND made.message_type = 'survey.requested'
) AS reached ON reached.cause_event_id = requested.event_id
WHERE requested.event_type = 'survey.requested' AND requested.jst_date BETWEEN $from AND $to
  AND requested.survey_id IN (SELECT survey_id FROM survey)
GROUP BY requested.survey_id, requested.target_key

-- section: answer
-- One row per counted answer.
WITH received AS (
  SELECT e.survey_id, COALESCE(CAST(e.target_key AS VARCHAR), e.subject_id) AS respondent, e.target_key, e.revision,
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
)
SELECT received.survey_id, received.respondent, received.target_key, received.revision, received.occurred_at AS answered_at,
       received.ward_code, received.class_age,
       ROW_NUMBER() OVER (PARTITION BY received.survey_id ORDER BY received.respondent) AS answer_no
FROM received
JOIN latest ON latest.survey_id = received.survey_id AND latest.respondent = received.respondent AND latest.revision = received.revision

-- section: item
-- One row per counted answer, question and chosen option. A question the reference data lack is told by what was answered.
WITH given AS (
  SELECT answer.survey_id, answer.answer_no, a.question_id, a.option_no, a.number, a.text_length
  FROM answer
  JOIN survey_answers a ON a.survey_id = answer.survey_id AND a.respondent = answer.respondent AND a.revision = answer.revision
),
guessed AS (
  SELECT survey_id, question_id,
         CASE WHEN MAX(option_no) IS NOT NULL THEN 'multiple' WHEN MAX(number) IS NOT NULL THEN 'number' ELSE 'text' END AS kind
  FROM given
  GROUP BY survey_id, question_id
)
SELECT given.survey_id, given.answer_no, given.question_id, given.option_no, given.number, given.text_length,
       COALESCE(q.kind, guessed.kind) AS kind, q.question_no, q.text AS question,
       CASE COALESCE(q.kind, guessed.kind)
         WHEN 'single' THEN CAST(given.option_no AS BIGINT)
         WHEN 'multiple' THEN CAST(given.option_no AS BIGINT)
         WHEN 'scale' THEN COALESCE(CAST(given.number AS BIGINT), CAST(given.option_no AS BIGINT)) END AS choice
FROM given
JOIN guessed ON guessed.survey_id = given.survey_id AND guessed.question_id = given.question_id
LEFT JOIN survey_questions q ON q.survey_id = given.survey_id AND q.question_id = given.question_id

-- section: question
SELECT q.survey_id, q.question_id, q.question_no, q.kind, q.text AS question, CAST(q.max AS BIGINT) AS scale_max
FROM survey_questions q
JOIN survey ON survey.survey_id = q.survey_id
UNION ALL
SELECT survey_id, question_id, CAST(NULL AS INT), MAX(kind), CAST(NULL AS VARCHAR), CAST(NULL AS BIGINT)
FROM item
WHERE question_no IS NULL
GROUP BY survey_id, question_id

-- section: option
-- Every option and every step of a scale, chosen or not.
WITH listed AS (
  SELECT q.survey_id, q.question_id, unnest(q.options) AS label, unnest(range(1, CAST(array_length(q.options) AS BIGINT) + 1)) AS choice
  FROM survey_questions q
  JOIN survey ON survey.survey_id = q.survey_id
  WHERE q.kind IN ('single', 'multiple') AND array_length(q.options) > 0
),
step AS (
  SELECT q.survey_id, q.question_id, unnest(range(CAST(q.min AS BIGINT), CAST(q.max AS BIGINT) + 1)) AS choice
  FROM survey_questions q
  JOIN survey ON survey.survey_id = q.survey_id
  WHERE q.kind = 'scale' AND q.min IS NOT NULL AND q.max IS NOT NULL
),
every AS (
  SELECT survey_id, question_id, CAST(choice AS BIGINT) AS choice, label FROM listed
  UNION ALL
  SELECT survey_id, question_id, CAST(choice AS BIGINT), CAST(choice AS VARCHAR) FROM step
  UNION ALL
  SELECT survey_id, question_id, choice, CAST(NULL AS VARCHAR) FROM item WHERE choice IS NOT NULL
)
SELECT every.survey_id, every.question_id, every.choice, COALESCE(MAX(every.label), CAST(every.choice AS VARCHAR)) AS label
FROM every
GROUP BY every.survey_id, every.question_id, every.choice

-- section: place
-- The dimension values of each counted answer; several where somebody used several programmes or facilities.
WITH ward AS (
  SELECT person_key, LAST_VALUE(ward_code ORDER BY since) AS ward_code
  FROM person_wards
  WHERE person_kind = 'guardian' AND jst_date <= $to
  GROUP BY person_key
),
used AS (
  SELECT DISTINCT guardian_key, programme_code, facility_id
  FROM events_coupon
  WHERE event_type = 'coupon.used' AND jst_date <= $to AND ($by_programme_code OR $by_facility_id)
)
SELECT answer.survey_id, answer.answer_no, 'ward_code' AS dimension, COALESCE(answer.ward_code, ward.ward_code, 'unknown') AS dimension_value
FROM answer
LEFT JOIN ward ON ward.person_key = answer.target_key
WHERE $by_ward_code
UNION ALL
SELECT survey_id, answer_no, 'class_age', COALESCE(CAST(class_age AS VARCHAR), 'unknown')
FROM answer
WHERE $by_class_age
UNION ALL
SELECT DISTINCT answer.survey_id, answer.answer_no, 'programme_code', COALESCE(used.programme_code, 'none')
FROM answer
LEFT JOIN used ON used.guardian_key = answer.target_key
WHERE $by_programme_code AND answer.target_key IS NOT NULL
UNION ALL
SELECT DISTINCT answer.survey_id, answer.answer_no, 'facility_id', COALESCE(used.facility_id, 'none')
FROM answer
LEFT JOIN used ON used.guardian_key = answer.target_key
WHERE $by_facility_id AND answer.target_key IS NOT NULL

-- section: figures
WITH asked AS (
  SELECT survey_id, COUNT(*) AS targets, SUM(delivered) AS delivered FROM target GROUP BY survey_id
),
came AS (
  SELECT survey_id, COUNT(*) AS answers FROM answer GROUP BY survey_id
),
head AS (
  SELECT survey.survey_id, survey.title, survey.anonymous,
         COALESCE(asked.targets, 0) AS targets, COALESCE(asked.delivered, 0) AS delivered, COALESCE(came.answers, 0) AS answers
  FROM survey
  LEFT JOIN asked ON asked.survey_id = survey.survey_id
  LEFT JOIN came ON came.survey_id = survey.survey_id
),
reached AS (
  SELECT survey_id, question_id, COUNT(DISTINCT answer_no) AS base
  FROM item
  GROUP BY survey_id, question_id
),
chosen AS (
  SELECT survey_id, question_id, choice, COUNT(DISTINCT answer_no) AS n
  FROM item
  WHERE choice IS NOT NULL
  GROUP BY survey_id, question_id, choice
),
scaled AS (
  SELECT item.survey_id, item.question_id, COUNT(*) AS n, SUM(item.choice) AS total,
         SUM(CASE WHEN item.choice >= COALESCE(question.scale_max, 5) - 1 THEN 1 ELSE 0 END) AS top2
  FROM item
  JOIN question ON question.survey_id = item.survey_id AND question.question_id = item.question_id
  WHERE item.kind = 'scale' AND item.choice IS NOT NULL
  GROUP BY item.survey_id, item.question_id
),
numbered AS (
  SELECT survey_id, question_id, COUNT(number) AS n, MIN(number) AS least, MAX(number) AS most,
         CAST(SUM(CAST(number AS DECIMAL(18, 4))) * 10000 AS BIGINT) AS total_10000, MEDIAN(number) AS middle
  FROM item
  WHERE kind = 'number' AND number IS NOT NULL
  GROUP BY survey_id, question_id
),
written AS (
  SELECT survey_id, question_id, SUM(CASE WHEN text_length > 0 THEN 1 ELSE 0 END) AS n
  FROM item
  WHERE kind = 'text'
  GROUP BY survey_id, question_id
),
valued AS (
  SELECT survey_id, dimension, dimension_value, question_id, COUNT(DISTINCT answer_no) AS base
  FROM (
    SELECT item.survey_id, item.question_id, item.answer_no, place.dimension, place.dimension_value
    FROM item
    JOIN place ON place.survey_id = item.survey_id AND place.answer_no = item.answer_no
  ) AS placed
  GROUP BY survey_id, dimension, dimension_value, question_id
),
crossed AS (
  SELECT item.survey_id, item.question_id, item.choice, place.dimension, place.dimension_value, COUNT(DISTINCT item.answer_no) AS n
  FROM item
  JOIN place ON place.survey_id = item.survey_id AND place.answer_no = item.answer_no
  WHERE item.choice IS NOT NULL
  GROUP BY item.survey_id, item.question_id, item.choice, place.dimension, place.dimension_value
),
line AS (
  SELECT 1 AS part, survey_id, 'targets' AS item, CAST(NULL AS VARCHAR) AS question_id, CAST(NULL AS BIGINT) AS choice,
         targets AS n, CAST(NULL AS BIGINT) AS base, CAST(NULL AS DECIMAL(18, 2)) AS value,
         CAST(NULL AS VARCHAR) AS dimension, CAST(NULL AS VARCHAR) AS dimension_value
  FROM head
  UNION ALL SELECT 2, survey_id, 'delivered', NULL, NULL, delivered, NULL, NULL, NULL, NULL FROM head
  UNION ALL SELECT 3, survey_id, 'answers', NULL, NULL, answers, NULL, NULL, NULL, NULL FROM head
  UNION ALL SELECT 4, survey_id, 'response_rate', NULL, NULL, answers, targets, NULL, NULL, NULL FROM head
  UNION ALL
  SELECT 5, question.survey_id, CASE question.kind WHEN 'scale' THEN 'value' ELSE 'option' END, question.question_id, option.choice,
         COALESCE(chosen.n, 0), COALESCE(reached.base, 0), NULL, NULL, NULL
  FROM question
  JOIN option ON option.survey_id = question.survey_id AND option.question_id = question.question_id
  LEFT JOIN chosen ON chosen.survey_id = option.survey_id AND chosen.question_id = option.question_id AND chosen.choice = option.choice
  LEFT JOIN reached ON reached.survey_id = question.survey_id AND reached.question_id = question.question_id
  UNION ALL
  SELECT 6, question.survey_id, 'mean', question.question_id, NULL, COALESCE(scaled.n, 0), NULL, quotient_2(scaled.total, scaled.n), NULL, NULL
  FROM question LEFT JOIN scaled ON scaled.survey_id = question.survey_id AND scaled.question_id = question.question_id
  WHERE question.kind = 'scale'
  UNION ALL
  SELECT 7, question.survey_id, 'top2_share', question.question_id, NULL, COALESCE(scaled.top2, 0), COALESCE(scaled.n, 0), NULL, NULL, NULL
  FROM question LEFT JOIN scaled ON scaled.survey_id = question.survey_id AND scaled.question_id = question.question_id
  WHERE question.kind = 'scale'
  UNION ALL
  SELECT 8, question.survey_id, 'n', question.question_id, NULL, COALESCE(numbered.n, 0), NULL, NULL, NULL, NULL
  FROM question LEFT JOIN numbered ON numbered.survey_id = question.survey_id AND numbered.question_id = question.question_id
  WHERE question.kind = 'number'
  UNION ALL SELECT 9, survey_id, 'min', question_id, NULL, n, NULL, CAST(least AS DECIMAL(18, 2)), NULL, NULL FROM numbered
  UNION ALL SELECT 10, survey_id, 'max', question_id, NULL, n, NULL, CAST(most AS DECIMAL(18, 2)), NULL, NULL FROM numbered
  UNION ALL SELECT 11, survey_id, 'mean', question_id, NULL, n, NULL, quotient_2(total_10000, n * 10000), NULL, NULL FROM numbered
  UNION ALL SELECT 12, survey_id, 'median', question_id, NULL, n, NULL, CAST(middle AS DECIMAL(18, 2)), NULL, NULL FROM numbered
  UNION ALL
  SELECT 13, question.survey_id, 'non_empty', question.question_id, NULL, COALESCE(written.n, 0), COALESCE(reached.base, 0), NULL, NULL, NULL
  FROM question
  LEFT JOIN written ON written.survey_id = question.survey_id AND written.question_id = question.question_id
  LEFT JOIN reached ON reached.survey_id = question.survey_id AND reached.question_id = question.question_id
  WHERE question.kind = 'text'
  UNION ALL
  SELECT 14, valued.survey_id, 'cross', valued.question_id, option.choice, COALESCE(crossed.n, 0), valued.base, NULL,
         valued.dimension, valued.dimension_value
  FROM valued
  JOIN option ON option.survey_id = valued.survey_id AND option.question_id = valued.question_id
  LEFT JOIN crossed ON crossed.survey_id = valued.survey_id AND crossed.question_id = valued.question_id
    AND crossed.choice = option.choice AND crossed.dimension = valued.dimension AND crossed.dimension_value = valued.dimension_value
)
SELECT line.survey_id, head.title, line.item, question.question_no, question.question, question.kind AS question_kind,
       line.choice AS option_no, option.label AS option,
       CASE WHEN head.anonymous AND line.item = 'cross' AND line.n < 5 THEN NULL ELSE line.n END AS count,
       CASE WHEN head.anonymous AND line.item = 'cross' AND line.n < 5 THEN NULL ELSE percent(line.n, line.base) END AS share,
       CASE WHEN head.anonymous AND line.item = 'cross' AND line.base < 5 THEN NULL ELSE line.base END AS base,
       line.value, line.dimension, line.dimension_value,
       head.anonymous AND line.item = 'cross' AND line.n < 5 AS masked
FROM line
JOIN head ON head.survey_id = line.survey_id
LEFT JOIN question ON question.survey_id = line.survey_id AND question.question_id = line.question_id
LEFT JOIN option ON option.survey_id = line.survey_id AND option.question_id = line.question_id AND option.choice = line.choice
ORDER BY line.survey_id, CASE WHEN line.part <= 4 THEN line.part ELSE 5 END, question.question_no, line.question_id,
         line.part, line.dimension, line.dimension_value, line.choice
