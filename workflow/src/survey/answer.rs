//! Answering: once per person, editable until the close.
//!
//! An anonymous answer names nobody: no account, no request, no finer time than the hour. What lets the
//! same person edit it is a ticket that only a signed-in session of theirs can have made again: a hash
//! over the record's secret, the survey and the account.

use serde_json::{Value, json};
use todoke_domain::{
    Timestamp,
    channel::Channel,
    ids::{AccountId, AnswerId, SurveyId},
    survey::{AnswerItem, Question, QuestionKind, SurveyState, check_answer, is_blank},
    text,
};
use todoke_store::survey::{Addressee, Survey, SurveyAnswer};

use super::{survey_about, view::OwnAnswer};
use crate::{Actor, FieldError, Work, Workflow, WorkflowError, secret, work::Subject};

/// Ward and class age stay with an anonymous answer only where at least so many of the audience share them.
const CELL_MIN: i64 = 5;
const HOUR_US: i64 = 3_600_000_000;

impl Workflow {
    /// Gives or changes the caller's answer.
    ///
    /// Errors: [`WorkflowError::NotFound`] for a survey the caller was not asked to answer,
    /// [`WorkflowError::Conflict`] once it is closed.
    pub async fn answer_survey(
        &self,
        actor: &Actor,
        id: SurveyId,
        answers: Vec<AnswerItem>,
        now: Timestamp,
    ) -> Result<OwnAnswer, WorkflowError> {
        let account = actor.account()?;
        let mut work = self.begin(actor, now).await?;
        let addressee = work.tx.survey_addressee(id, account).await?.ok_or(WorkflowError::NotFound("survey"))?;
        let survey = work.open_survey(id).await?;
        if survey.state()? != SurveyState::Open || survey.closes_at <= now {
            return Err(WorkflowError::Conflict("このアンケートの受付は終了しました。".to_owned()));
        }
        let answers = checked(&survey.questions, answers)?;
        let row = work.keep_answer(&survey, &addressee, &answers).await?;
        work.tell_answered(&survey, &row, &answers);
        work.commit().await?;
        OwnAnswer::of(&row)
    }
}

fn checked(questions: &[Question], mut answers: Vec<AnswerItem>) -> Result<Vec<AnswerItem>, WorkflowError> {
    check_answer(questions, &answers).map_err(|error| {
        WorkflowError::Invalid(vec![FieldError::new(format!("answers.{}", error.question_no), error.detail)])
    })?;
    for item in &mut answers {
        let kind =
            questions.iter().find(|question| question.question_no == item.question_no).map(|question| question.kind);
        // Only what the question asks for is kept.
        match kind {
            Some(QuestionKind::Single | QuestionKind::Multiple) => (item.number, item.text) = (None, None),
            Some(QuestionKind::Scale | QuestionKind::Number) => (item.options, item.text) = (Vec::new(), None),
            Some(QuestionKind::Text) => {
                (item.options, item.number) = (Vec::new(), None);
                item.text =
                    item.text.take().and_then(|words| text::lines(&words, todoke_domain::survey::TEXT_CHARS_MAX).ok());
            }
            None => {}
        }
        item.options.sort_unstable();
    }
    answers.retain(|item| !is_blank(item));
    answers.sort_by_key(|item| item.question_no);
    Ok(answers)
}

/// The ticket of one person for one survey.
pub(super) fn ticket(ticket_secret: &str, survey: SurveyId, account: AccountId) -> String {
    secret::hash(&format!("survey-ticket:{ticket_secret}:{survey}:{account}"))
}

impl Work<'_> {
    /// What tickets are made with: the record's own secret, which no answer and no event shows.
    pub(super) async fn ticket_secret(&mut self) -> Result<String, WorkflowError> {
        let instance = self.tx.instance().await?.ok_or(WorkflowError::Internal("the record has no identity"))?;
        Ok(instance.token_secret)
    }

    async fn keep_answer(
        &mut self,
        survey: &Survey,
        addressee: &Addressee,
        answers: &[AnswerItem],
    ) -> Result<SurveyAnswer, WorkflowError> {
        let id = survey.survey_id;
        let account = addressee.account_id;
        let answers =
            serde_json::to_string(answers).map_err(|_| WorkflowError::Internal("an answer could not be written"))?;
        let at = if survey.anonymous { hour_of(self.now) } else { self.now };
        let (named, ticket) = if survey.anonymous {
            (None, Some(ticket(&self.ticket_secret().await?, id, account)))
        } else {
            (Some(account), None)
        };
        let earlier = match &ticket {
            Some(ticket) => self.tx.answer_of_ticket(id, ticket).await?,
            None => self.tx.answer_of_account(id, account).await?,
        };
        if let Some(mut row) = earlier {
            row.revision += 1;
            row.answers = answers;
            row.at = at;
            self.tx.update_survey_answer(&row).await?;
            return Ok(row);
        }
        let tells_place =
            !survey.anonymous || self.tx.survey_cell(id, &addressee.ward_code, addressee.class_age).await? >= CELL_MIN;
        let row = SurveyAnswer {
            answer_id: AnswerId::new(at),
            survey_id: id,
            account_id: named,
            ticket,
            revision: 1,
            answers,
            ward_code: tells_place.then(|| addressee.ward_code.clone()),
            class_age: addressee.class_age.filter(|_| tells_place),
            at,
        };
        self.tx.insert_survey_answer(&row).await?;
        self.tx.count_answer(id).await?;
        if !survey.anonymous {
            self.tx.mark_answered(id, account).await?;
        }
        Ok(row)
    }

    fn tell_answered(&mut self, survey: &Survey, row: &SurveyAnswer, answers: &[AnswerItem]) {
        let subject = Subject::new("survey_answer", row.answer_id);
        let payload = json!({
            "survey_id": survey.survey_id,
            "target_key": row.account_id.and(self.actor.person_key),
            "ward_code": row.ward_code,
            "class_age": row.class_age,
            "revision": row.revision,
            "answers": survey.questions.iter().map(|question| answer_fields(question, answers)).collect::<Vec<_>>(),
        });
        if survey.anonymous {
            self.event_anonymous("survey.answered", subject, row.at, payload);
            // No publication either: its time and the answering person's session would meet.
            return;
        }
        self.event("survey.answered", subject, payload);
        let n_answers = survey.n_answers + i64::from(row.revision == 1);
        let data = [(
            "survey".to_owned(),
            json!({ "survey_id": survey.survey_id, "targets": survey.n_targets, "answers": n_answers }),
        )];
        let channel = Channel::OperatorQueue(self.actor.municipality_code.clone());
        self.publish_about(channel, "survey.answered", &survey_about(survey), data.into_iter().collect());
    }
}

/// One question's answer as the lake has it: choices and numbers, of words only their length.
fn answer_fields(question: &Question, answers: &[AnswerItem]) -> Value {
    let item = answers.iter().find(|item| item.question_no == question.question_no).cloned().unwrap_or_default();
    let option_ids: Vec<i64> = match (question.kind, item.number) {
        // A step of a scale is its own option.
        #[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number within the scale")]
        (QuestionKind::Scale, Some(step)) => vec![step as i64],
        _ => item.options,
    };
    json!({
        "question_id": question.question_no.to_string(),
        "option_ids": option_ids,
        "number": item.number,
        "text_length": item.text.map_or(0, |words| words.chars().count()),
    })
}

fn hour_of(now: Timestamp) -> Timestamp {
    Timestamp::from_micros(now.as_micros() - now.as_micros().rem_euclid(HOUR_US))
}
