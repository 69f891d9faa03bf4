//! Surveys, whom they ask, and the answers (flows.md C17).

mod answer;
mod target;

pub use answer::SurveyAnswer;
pub use target::{Addressee, SurveyTarget};

use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::SurveyId,
    survey::{Question, SurveyState},
};

use crate::{StoreError, Tx};

/// The questions of a survey, kept as JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Questions(pub Vec<Question>);

impl std::ops::Deref for Questions {
    type Target = [Question];
    fn deref(&self) -> &[Question] {
        &self.0
    }
}

impl TryFrom<String> for Questions {
    type Error = serde_json::Error;
    fn try_from(raw: String) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&raw).map(Self)
    }
}

impl Questions {
    fn to_json(&self) -> Result<String, StoreError> {
        serde_json::to_string(&self.0).map_err(|_| StoreError::Corrupt { what: "survey questions" })
    }
}

/// A survey.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Survey {
    /// Id.
    #[sqlx(try_from = "String")]
    pub survey_id: SurveyId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Heading.
    pub title: String,
    /// What it is about.
    pub text: String,
    /// Code of [`SurveyState`].
    pub state: String,
    /// Answers do not name who gave them.
    pub anonymous: bool,
    /// When the requests go out.
    #[sqlx(rename = "opens_at_us", try_from = "i64")]
    pub opens_at: Timestamp,
    /// When the last answer is taken.
    #[sqlx(rename = "closes_at_us", try_from = "i64")]
    pub closes_at: Timestamp,
    /// What the requests promise.
    pub minutes_needed: i64,
    /// In order.
    #[sqlx(try_from = "String")]
    pub questions: Questions,
    /// JSON of the saved audience's conditions.
    pub conditions: Option<String>,
    /// People in the saved audience.
    pub n_targets: i64,
    /// Answers so far, each person's once.
    pub n_answers: i64,
    /// Role that made it.
    pub author_role: String,
    /// When it was made.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
}

impl Survey {
    /// The state.
    pub fn state(&self) -> Result<SurveyState, StoreError> {
        SurveyState::parse(&self.state).ok_or(StoreError::Corrupt { what: "survey state" })
    }
}

macro_rules! select_survey {
    ($rest:literal) => {
        concat!(
            "SELECT survey_id, municipality_code, title, text, state, anonymous, opens_at_us, closes_at_us, minutes_needed, questions, ",
            "conditions, n_targets, n_answers, author_role, created_at_us FROM survey ", $rest
        )
    };
}

impl Tx {
    /// Adds a survey.
    pub async fn insert_survey(&mut self, row: &Survey) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO survey (survey_id, municipality_code, title, text, state, anonymous, opens_at_us, closes_at_us, minutes_needed,
                questions, conditions, n_targets, n_answers, author_role, created_at_us, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 1)",
            row.survey_id.to_string(), row.municipality_code.as_str(), &row.title, &row.text, &row.state, row.anonymous,
            row.opens_at.as_micros(), row.closes_at.as_micros(), row.minutes_needed, row.questions.to_json()?, row.conditions.as_deref(),
            row.n_targets, row.n_answers, &row.author_role, row.created_at.as_micros(),
        )?;
        Ok(())
    }

    /// One survey.
    pub async fn survey(&mut self, id: SurveyId) -> Result<Option<Survey>, StoreError> {
        let row = fetch_optional!(self, Survey, select_survey!("WHERE survey_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Locks a survey for the rest of the transaction and reads it.
    pub async fn lock_survey(&mut self, id: SurveyId) -> Result<Option<Survey>, StoreError> {
        execute!(self, "UPDATE survey SET version = version + 1 WHERE survey_id = $1", id.to_string())?;
        self.survey(id).await
    }

    /// Writes what may change of a survey; the count of answers is [`Tx::count_answer`]'s.
    pub async fn update_survey(&mut self, row: &Survey) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE survey SET title = $2, text = $3, state = $4, anonymous = $5, opens_at_us = $6, closes_at_us = $7, minutes_needed = $8,
                questions = $9, conditions = $10, n_targets = $11 WHERE survey_id = $1",
            row.survey_id.to_string(), &row.title, &row.text, &row.state, row.anonymous, row.opens_at.as_micros(),
            row.closes_at.as_micros(), row.minutes_needed, row.questions.to_json()?, row.conditions.as_deref(), row.n_targets,
        )?;
        Ok(())
    }

    /// Surveys of a municipality, newest first.
    pub async fn surveys(&mut self, code: &MunicipalityCode) -> Result<Vec<Survey>, StoreError> {
        let rows = fetch_all!(
            self,
            Survey,
            select_survey!("WHERE municipality_code = $1 ORDER BY created_at_us DESC, survey_id DESC"),
            code.as_str(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Surveys that the timer has to look at: to be opened at `now`, or open.
    pub async fn surveys_under_way(
        &mut self,
        code: &MunicipalityCode,
        now: Timestamp,
    ) -> Result<Vec<Survey>, StoreError> {
        let rows = fetch_all!(
            self,
            Survey,
            select_survey!(
                "WHERE municipality_code = $1 AND (state = 'open' OR (state = 'scheduled' AND opens_at_us <= $2)) ORDER BY opens_at_us, survey_id"
            ),
            code.as_str(),
            now.as_micros(),
        )?;
        Ok(self.see_all(rows))
    }
}
