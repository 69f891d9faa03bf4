//! Surveys (flow F20, machine C17): built by the operator or the city, sent to an extracted audience,
//! answered once and editable until the close, aggregated and presented.

mod answer;
mod audience;
mod result;
mod timer;
mod view;

use serde::Deserialize;
use serde_json::json;
use todoke_domain::{
    Event, Role, Timestamp,
    catalogue::{
        format,
        template::{Placeholder, Placeholders},
    },
    ids::SurveyId,
    role::Permission,
    survey::{Question, SurveyEvent, SurveyState, check_questions},
    text,
};
use todoke_store::survey::{Questions, Survey};

use crate::{Actor, Work, Workflow, WorkflowError, error::Fields, messaging::About, work::Subject};

pub use audience::Conditions;
pub use result::{OptionResult, QuestionResult, SurveyResults};
pub use timer::SurveyRun;
pub use view::{OwnAnswer, OwnSurvey, SurveyView};

/// A survey as its author writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurveyDraft {
    /// Heading, at most 100 characters.
    pub title: String,
    /// What it is about, at most 2,000 characters.
    #[serde(default)]
    pub text: String,
    /// Answers do not name who gave them.
    #[serde(default)]
    pub anonymous: bool,
    /// When the requests go out; an instant in the past means at once.
    pub opens_at: Timestamp,
    /// When the last answer is taken.
    pub closes_at: Timestamp,
    /// What the requests promise, 1 to 120.
    pub minutes_needed: i64,
    /// In order.
    pub questions: Vec<Question>,
}

impl SurveyDraft {
    fn check(mut self, now: Timestamp) -> Result<Self, WorkflowError> {
        let mut fields = Fields::default();
        if let Some(title) = fields.take("title", text::line(&self.title, 100)) {
            self.title = title;
        }
        if let Some(words) = fields.take("text", text::lines(&self.text, 2_000)) {
            self.text = words;
        }
        if self.closes_at <= self.opens_at || self.closes_at <= now {
            fields.refuse("closes_at", "締切は開始より後の、これからの日時にしてください。");
        }
        if !(1..=120).contains(&self.minutes_needed) {
            fields.refuse("minutes_needed", "1から120までの整数を入力してください。");
        }
        if let Err(error) = check_questions(&self.questions) {
            let field = if error.question_no == 0 {
                "questions".to_owned()
            } else {
                format!("questions.{}", error.question_no - 1)
            };
            fields.refuse(field, error.detail);
        }
        fields.finish()?;
        Ok(self)
    }

    fn write_to(self, survey: &mut Survey) {
        survey.questions = Questions(self.questions);
        survey.title = self.title;
        survey.text = self.text;
        survey.anonymous = self.anonymous;
        survey.opens_at = self.opens_at;
        survey.closes_at = self.closes_at;
        survey.minutes_needed = self.minutes_needed;
    }
}

impl Workflow {
    /// Makes a survey; nobody sees it before it is scheduled and its time has come.
    pub async fn create_survey(
        &self,
        actor: &Actor,
        draft: SurveyDraft,
        now: Timestamp,
    ) -> Result<SurveyView, WorkflowError> {
        actor.require(Permission::ManageSurveys)?;
        let draft = draft.check(now)?;
        let n_questions = draft.questions.len();
        let mut survey = Survey {
            survey_id: SurveyId::new(now),
            municipality_code: actor.municipality_code.clone(),
            title: String::new(),
            text: String::new(),
            state: SurveyState::Draft.as_str().to_owned(),
            anonymous: false,
            opens_at: now,
            closes_at: now,
            minutes_needed: 0,
            questions: Questions::default(),
            conditions: None,
            n_targets: 0,
            n_answers: 0,
            author_role: actor.role_code().to_owned(),
            created_at: now,
        };
        draft.write_to(&mut survey);
        let mut work = self.begin(actor, now).await?;
        work.tx.insert_survey(&survey).await?;
        work.event(
            "survey.created",
            Subject::new("survey", survey.survey_id),
            json!({
                "survey_id": survey.survey_id,
                "questions": n_questions,
                "anonymous": survey.anonymous,
                "author_role": survey.author_role,
            }),
        );
        work.commit().await?;
        SurveyView::of(&survey)
    }

    /// Changes a draft.
    ///
    /// Errors: [`WorkflowError::Conflict`] once it is scheduled; [`WorkflowError::Stale`] when it is no longer
    /// what `expected` names.
    pub async fn update_survey(
        &self,
        actor: &Actor,
        id: SurveyId,
        draft: SurveyDraft,
        expected: Option<&str>,
        now: Timestamp,
    ) -> Result<SurveyView, WorkflowError> {
        actor.require(Permission::ManageSurveys)?;
        let draft = draft.check(now)?;
        let mut work = self.begin(actor, now).await?;
        let mut survey = work.open_survey(id).await?;
        if survey.state()? != SurveyState::Draft {
            return Err(not_now(&survey)?);
        }
        view::survey_revision(&survey)?.expect(expected)?;
        draft.write_to(&mut survey);
        work.tx.update_survey(&survey).await?;
        work.commit().await?;
        SurveyView::of(&survey)
    }

    /// Sets a draft with a saved audience to go out at its time.
    pub async fn schedule_survey(
        &self,
        actor: &Actor,
        id: SurveyId,
        now: Timestamp,
    ) -> Result<SurveyView, WorkflowError> {
        actor.require(Permission::ManageSurveys)?;
        let mut work = self.begin(actor, now).await?;
        let mut survey = work.open_survey(id).await?;
        if survey.n_targets == 0 {
            return Err(WorkflowError::Conflict("対象者を抽出して保存してから、配信を予約してください。".to_owned()));
        }
        if survey.closes_at <= now {
            return Err(WorkflowError::Conflict("締切を過ぎています。日時を変更してください。".to_owned()));
        }
        work.advance_survey(&mut survey, SurveyEvent::Schedule).await?;
        work.commit().await?;
        SurveyView::of(&survey)
    }

    /// Closes an open survey before its time.
    pub async fn close_survey(&self, actor: &Actor, id: SurveyId, now: Timestamp) -> Result<SurveyView, WorkflowError> {
        actor.require(Permission::ManageSurveys)?;
        let mut work = self.begin(actor, now).await?;
        let mut survey = work.open_survey(id).await?;
        work.close_open_survey(&mut survey).await?;
        work.commit().await?;
        SurveyView::of(&survey)
    }

    /// The operator has counted a closed survey; tells the operator's staff.
    pub async fn aggregate_survey(
        &self,
        actor: &Actor,
        id: SurveyId,
        now: Timestamp,
    ) -> Result<SurveyView, WorkflowError> {
        self.hand_on(actor, id, SurveyEvent::Aggregate, "survey.aggregated", now).await
    }

    /// The operator presents the results to the city; tells its sections.
    pub async fn present_survey(
        &self,
        actor: &Actor,
        id: SurveyId,
        now: Timestamp,
    ) -> Result<SurveyView, WorkflowError> {
        self.hand_on(actor, id, SurveyEvent::Present, "survey.presented", now).await
    }

    async fn hand_on(
        &self,
        actor: &Actor,
        id: SurveyId,
        step: SurveyEvent,
        event_type: &str,
        now: Timestamp,
    ) -> Result<SurveyView, WorkflowError> {
        actor.require(Permission::ManageSurveys)?;
        // Only the operator stores and exports answers (flows.md, N19).
        if !matches!(actor.role, None | Some(Role::Operator)) {
            return Err(WorkflowError::Denied);
        }
        let mut work = self.begin(actor, now).await?;
        let mut survey = work.open_survey(id).await?;
        work.advance_survey(&mut survey, step).await?;
        let event = work.survey_counted(event_type, &survey);
        let mut about = survey_about(&survey);
        let rate = result::percent(survey.n_answers, survey.n_targets)
            .map(|rate| format!("（回答率{rate:.1}%）"))
            .unwrap_or_default();
        about.values.set(Placeholder::Title, format!("{}{rate}", survey.title));
        about.values.set(Placeholder::Count, survey.n_answers.to_string());
        let office = if step == SurveyEvent::Present { "city" } else { "operator" };
        about.office_link = format!("/staff/{office}/surveys/{}", survey.survey_id);
        work.raise(&event, &about).await?;
        work.commit().await?;
        SurveyView::of(&survey)
    }
}

impl Work<'_> {
    async fn open_survey(&mut self, id: SurveyId) -> Result<Survey, WorkflowError> {
        self.tx.lock_survey(id).await?.ok_or(WorkflowError::NotFound("survey"))
    }

    async fn advance_survey(&mut self, survey: &mut Survey, step: SurveyEvent) -> Result<(), WorkflowError> {
        let Some(next) = survey.state()?.on(step) else { return Err(not_now(survey)?) };
        survey.state = next.as_str().to_owned();
        Ok(self.tx.update_survey(survey).await?)
    }

    async fn close_open_survey(&mut self, survey: &mut Survey) -> Result<(), WorkflowError> {
        self.advance_survey(survey, SurveyEvent::Close).await?;
        self.survey_counted("survey.closed", survey);
        Ok(())
    }

    fn survey_counted(&mut self, event_type: &str, survey: &Survey) -> Event {
        self.event(
            event_type,
            Subject::new("survey", survey.survey_id),
            json!({
                "survey_id": survey.survey_id, "answer_count": survey.n_answers,
            }),
        )
    }
}

fn not_now(survey: &Survey) -> Result<WorkflowError, WorkflowError> {
    Ok(WorkflowError::Conflict(format!("アンケートが「{}」のため、この操作はできません。", survey.state()?.label())))
}

/// What every message about a survey says. The title tells whether answers carry a name.
fn survey_about(survey: &Survey) -> About {
    let named = if survey.anonymous { "無記名" } else { "記名" };
    About {
        subject_kind: "survey",
        subject_id: survey.survey_id.to_string(),
        state: survey.state.clone(),
        values: Placeholders::new()
            .with(Placeholder::Title, format!("{}（{named}）", survey.title))
            .with(Placeholder::Minutes, survey.minutes_needed.to_string())
            .with(Placeholder::Deadline, format::deadline(survey.closes_at.jst())),
        link: format!("/surveys/{}", survey.survey_id),
        office_link: format!("/staff/operator/surveys/{}", survey.survey_id),
        ..About::default()
    }
}
