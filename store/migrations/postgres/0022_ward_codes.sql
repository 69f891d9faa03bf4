-- A ward was any six characters once. The lake takes codes only, so a word in its place would undo whatever tells of it.
UPDATE guardian SET ward_code = municipality_code WHERE ward_code !~ '^[0-9]{6}$';
UPDATE survey_target SET ward_code = (SELECT municipality_code FROM survey WHERE survey.survey_id = survey_target.survey_id)
WHERE ward_code !~ '^[0-9]{6}$';
UPDATE survey_answer SET ward_code = (SELECT municipality_code FROM survey WHERE survey.survey_id = survey_answer.survey_id)
WHERE ward_code !~ '^[0-9]{6}$';
