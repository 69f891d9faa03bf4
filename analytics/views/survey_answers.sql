-- One row per answer, question and chosen option (one row without option where the question has none).
-- `respondent` tells answers apart: the person's key, or the answer's id where the survey is anonymous.
WITH answer AS (
  SELECT survey_id, COALESCE(CAST(target_key AS VARCHAR), subject_id) AS respondent, target_key,
         event_id, occurred_at, recorded_at, jst_date, revision, ward_code, class_age, unnest(answers) AS item
  FROM events_survey
  WHERE event_type = 'survey.answered'
),
question AS (
  SELECT survey_id, respondent, target_key, event_id, occurred_at, recorded_at, jst_date, revision, ward_code, class_age,
         item['question_id'] AS question_id, item['number'] AS number, item['text_length'] AS text_length,
         unnest(CASE WHEN COALESCE(array_length(item['option_ids']), 0) = 0
                     THEN make_array(CAST(NULL AS INT)) ELSE item['option_ids'] END) AS option_no
  FROM answer
),
latest AS (
  SELECT survey_id, COALESCE(CAST(target_key AS VARCHAR), subject_id) AS respondent, MAX(revision) AS revision
  FROM events_survey
  WHERE event_type = 'survey.answered'
  GROUP BY survey_id, COALESCE(CAST(target_key AS VARCHAR), subject_id)
)
SELECT question.survey_id, question.respondent, question.target_key, question.event_id,
       question.occurred_at AS answered_at, question.jst_date, question.revision,
       latest.revision = question.revision AS is_latest,
       question.ward_code, question.class_age, question.question_id, question.option_no, question.number, question.text_length
FROM question
JOIN latest ON latest.survey_id = question.survey_id AND latest.respondent = question.respondent
