//! Surveys as people see them.

use serde::Serialize;
use todoke_domain::{
    Role, Timestamp,
    ids::SurveyId,
    role::Permission,
    survey::{AnswerItem, Question, SurveyState},
};
use todoke_store::{
    Tx,
    survey::{Survey, SurveyAnswer},
};

use super::{answer::ticket, audience::Conditions};
use crate::{Actor, Workflow, WorkflowError, revision::Revision};

/// A survey.
#[derive(Debug, Clone, Serialize)]
pub struct SurveyView {
    /// Id.
    pub survey_id: SurveyId,
    /// Heading.
    pub title: String,
    /// What it is about.
    pub text: String,
    /// Code of the state.
    pub state: String,
    /// The state's name.
    pub state_label: &'static str,
    /// Answers do not name who gave them.
    pub anonymous: bool,
    /// When the requests go out.
    pub opens_at: Timestamp,
    /// When the last answer is taken.
    pub closes_at: Timestamp,
    /// What the requests promise.
    pub minutes_needed: i64,
    /// In order.
    pub questions: Vec<Question>,
    /// Goes back with a change of the draft. Only for those who manage surveys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Revision>,
    /// Conditions of the saved audience. Only for those who manage surveys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
    /// People in the saved audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<i64>,
    /// Answers so far, each person's once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<i64>,
}

/// The fingerprint of what the draft's form overwrites.
pub(super) fn survey_revision(survey: &Survey) -> Result<Revision, WorkflowError> {
    let Survey { title, text, anonymous, opens_at, closes_at, minutes_needed, questions, .. } = survey;
    Revision::of(&(title, text, anonymous, opens_at, closes_at, minutes_needed, &questions.0))
}

impl SurveyView {
    pub(super) fn of(survey: &Survey) -> Result<Self, WorkflowError> {
        let conditions = survey.conditions.as_ref().and_then(|conditions| serde_json::from_str(conditions).ok());
        Ok(Self {
            version: Some(survey_revision(survey)?),
            conditions,
            targets: Some(survey.n_targets),
            answers: Some(survey.n_answers),
            ..Self::for_household(survey)?
        })
    }

    fn for_household(survey: &Survey) -> Result<Self, WorkflowError> {
        Ok(Self {
            survey_id: survey.survey_id,
            title: survey.title.clone(),
            text: survey.text.clone(),
            state: survey.state.clone(),
            state_label: survey.state()?.label(),
            anonymous: survey.anonymous,
            opens_at: survey.opens_at,
            closes_at: survey.closes_at,
            minutes_needed: survey.minutes_needed,
            questions: survey.questions.0.clone(),
            version: None,
            conditions: None,
            targets: None,
            answers: None,
        })
    }
}

/// The caller's answer.
#[derive(Debug, Clone, Serialize)]
pub struct OwnAnswer {
    /// By question, blank ones left out.
    pub answers: Vec<AnswerItem>,
    /// 1, 2, … per edit.
    pub revision: i64,
}

impl OwnAnswer {
    pub(super) fn of(row: &SurveyAnswer) -> Result<Self, WorkflowError> {
        Ok(Self { answers: row.items()?, revision: row.revision })
    }
}

/// A survey the caller was asked to answer.
#[derive(Debug, Clone, Serialize)]
pub struct OwnSurvey {
    /// The survey, without audience and count.
    #[serde(flatten)]
    pub survey: SurveyView,
    /// Whether it has been answered.
    pub answered: bool,
    /// Whether it can be answered or edited now.
    pub open: bool,
    /// The answer given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<OwnAnswer>,
}

impl Workflow {
    /// Surveys of the municipality, newest first. Those who may only read results see what was presented.
    pub async fn surveys(&self, actor: &Actor) -> Result<Vec<SurveyView>, WorkflowError> {
        actor.require(Permission::ReadSurveys)?;
        let mut tx = self.read(actor).await?;
        let surveys = tx.surveys(&actor.municipality_code).await?;
        surveys.iter().filter(|survey| may_see(actor, survey)).map(SurveyView::of).collect()
    }

    /// One survey.
    pub async fn survey(&self, actor: &Actor, id: SurveyId) -> Result<SurveyView, WorkflowError> {
        actor.require(Permission::ReadSurveys)?;
        let mut tx = self.read(actor).await?;
        let survey =
            tx.survey(id).await?.filter(|survey| may_see(actor, survey)).ok_or(WorkflowError::NotFound("survey"))?;
        SurveyView::of(&survey)
    }

    /// Surveys the caller may answer now or has answered, those that close last first.
    pub async fn own_surveys(&self, actor: &Actor, now: Timestamp) -> Result<Vec<OwnSurvey>, WorkflowError> {
        let account = actor.account()?;
        let mut tx = self.read(actor).await?;
        let mut own = Vec::new();
        for id in tx.surveys_of_account(account).await? {
            own.extend(own_survey(&mut tx, actor, id, now).await?.filter(|own| own.open || own.answered));
        }
        Ok(own)
    }

    /// One survey the caller was asked to answer, with the answer.
    pub async fn own_survey(&self, actor: &Actor, id: SurveyId, now: Timestamp) -> Result<OwnSurvey, WorkflowError> {
        let account = actor.account()?;
        let mut tx = self.read(actor).await?;
        tx.survey_addressee(id, account).await?.ok_or(WorkflowError::NotFound("survey"))?;
        own_survey(&mut tx, actor, id, now).await?.ok_or(WorkflowError::NotFound("survey"))
    }
}

fn may_see(actor: &Actor, survey: &Survey) -> bool {
    actor.role.is_none_or(|role| role.may(Permission::ManageSurveys)) || survey.state == SurveyState::Presented.as_str()
}

/// Whether the caller may read results: the operator always, the city what was presented to it.
pub(super) fn may_read_results(actor: &Actor, survey: &Survey) -> bool {
    matches!(actor.role, None | Some(Role::Operator)) || survey.state == SurveyState::Presented.as_str()
}

async fn own_survey(
    tx: &mut Tx,
    actor: &Actor,
    id: SurveyId,
    now: Timestamp,
) -> Result<Option<OwnSurvey>, WorkflowError> {
    let account = actor.account()?;
    let Some(survey) = tx.survey(id).await? else { return Ok(None) };
    let answer = if survey.anonymous {
        let instance = tx.instance().await?.ok_or(WorkflowError::Internal("the record has no identity"))?;
        tx.answer_of_ticket(id, &ticket(&instance.token_secret, id, account)).await?
    } else {
        tx.answer_of_account(id, account).await?
    };
    Ok(Some(OwnSurvey {
        open: survey.state()? == SurveyState::Open && now < survey.closes_at,
        survey: SurveyView::for_household(&survey)?,
        answered: answer.is_some(),
        answer: answer.as_ref().map(OwnAnswer::of).transpose()?,
    }))
}
