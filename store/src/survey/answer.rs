//! Answers to surveys.

use todoke_domain::{
    Timestamp,
    ids::{AccountId, AnswerId, SurveyId},
    survey::AnswerItem,
};

use crate::{StoreError, Tx, column::OptionalText};

/// An answer. Either the account is set or the ticket, never both.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SurveyAnswer {
    /// Id. Its time part says nothing finer than `at`.
    #[sqlx(try_from = "String")]
    pub answer_id: AnswerId,
    /// Which survey.
    #[sqlx(try_from = "String")]
    pub survey_id: SurveyId,
    /// Who answered a named survey.
    #[sqlx(try_from = "OptionalText")]
    pub account_id: Option<AccountId>,
    /// One-time ticket of an anonymous answer.
    pub ticket: Option<String>,
    /// 1, 2, … per edit.
    pub revision: i64,
    /// JSON list of answers, words included.
    pub answers: String,
    /// Ward, where it does not single anybody out.
    pub ward_code: Option<String>,
    /// Class age of the youngest child, where it does not single anybody out.
    pub class_age: Option<i64>,
    /// When; for an anonymous answer the hour.
    #[sqlx(rename = "at_us", try_from = "i64")]
    pub at: Timestamp,
}

impl SurveyAnswer {
    /// The answers by question.
    pub fn items(&self) -> Result<Vec<AnswerItem>, StoreError> {
        serde_json::from_str(&self.answers).map_err(|_| StoreError::Corrupt { what: "survey answer" })
    }
}

macro_rules! select_answer {
    ($rest:literal) => {
        concat!(
            "SELECT answer_id, survey_id, account_id, ticket, revision, answers, ward_code, class_age, at_us FROM survey_answer ", $rest
        )
    };
}

impl Tx {
    /// Adds a first answer. Errors: [`StoreError::Conflict`] when the person or the ticket has answered.
    pub async fn insert_survey_answer(&mut self, row: &SurveyAnswer) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO survey_answer (answer_id, survey_id, account_id, ticket, revision, answers, ward_code, class_age, at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            row.answer_id.to_string(), row.survey_id.to_string(), row.account_id.map(|id| id.to_string()), row.ticket.as_deref(),
            row.revision, &row.answers, row.ward_code.as_deref(), row.class_age, row.at.as_micros(),
        )?;
        Ok(())
    }

    /// Replaces the content of an answer.
    pub async fn update_survey_answer(&mut self, row: &SurveyAnswer) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE survey_answer SET revision = $2, answers = $3, at_us = $4 WHERE answer_id = $1",
            row.answer_id.to_string(),
            row.revision,
            &row.answers,
            row.at.as_micros(),
        )?;
        Ok(())
    }

    /// The named answer of a person.
    pub async fn answer_of_account(
        &mut self,
        id: SurveyId,
        account: AccountId,
    ) -> Result<Option<SurveyAnswer>, StoreError> {
        fetch_optional!(
            self,
            SurveyAnswer,
            select_answer!("WHERE survey_id = $1 AND account_id = $2"),
            id.to_string(),
            account.to_string(),
        )
    }

    /// The anonymous answer given with a ticket.
    pub async fn answer_of_ticket(&mut self, id: SurveyId, ticket: &str) -> Result<Option<SurveyAnswer>, StoreError> {
        fetch_optional!(
            self,
            SurveyAnswer,
            select_answer!("WHERE survey_id = $1 AND ticket = $2"),
            id.to_string(),
            ticket
        )
    }

    /// Every answer of a survey, in an order that tells nothing about who came when.
    pub async fn survey_answers(&mut self, id: SurveyId) -> Result<Vec<SurveyAnswer>, StoreError> {
        fetch_all!(
            self,
            SurveyAnswer,
            select_answer!(
                "WHERE survey_id = $1 AND survey_id IN (SELECT s.survey_id FROM survey s WHERE s.municipality_code = $2 OR $2 = '') ORDER BY ticket, answer_id"
            ),
            id.to_string(),
            self.wall.code(),
        )
    }

    /// The tickets that have been used.
    pub async fn used_tickets(&mut self, id: SurveyId) -> Result<Vec<String>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT ticket FROM survey_answer WHERE survey_id = $1 AND ticket IS NOT NULL",
            id.to_string()
        )?;
        Ok(rows.into_iter().map(|(ticket,)| ticket).collect())
    }

    /// Counts a first answer.
    pub async fn count_answer(&mut self, id: SurveyId) -> Result<(), StoreError> {
        execute!(self, "UPDATE survey SET n_answers = n_answers + 1 WHERE survey_id = $1", id.to_string())?;
        Ok(())
    }
}
