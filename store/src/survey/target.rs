//! Whom a survey asks.

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode,
    ids::{AccountId, GuardianId, SurveyId},
};

use crate::{StoreError, Tx, child::child_lives_here, column::DateText};

/// A person of a saved audience, as at the time of extraction.
#[derive(Debug, Clone)]
pub struct SurveyTarget {
    /// Which survey.
    pub survey_id: SurveyId,
    /// Who.
    pub account_id: AccountId,
    /// Ward of the household.
    pub ward_code: String,
    /// Class age of the youngest child.
    pub class_age: Option<i64>,
}

/// A person who has just been picked for a request or a reminder, or who answers.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Addressee {
    /// Who.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// Ward of the household.
    pub ward_code: String,
    /// Class age of the youngest child.
    pub class_age: Option<i64>,
}

const PICK_FOR_REQUEST: &str = "UPDATE survey_target SET requested = TRUE
 WHERE survey_id = $1 AND NOT requested AND account_id IN (
    SELECT account_id FROM survey_target WHERE survey_id = $1 AND NOT requested ORDER BY account_id LIMIT $2)
 RETURNING account_id, ward_code, class_age";

const PICK_FOR_REMINDER: &str = "UPDATE survey_target SET reminded = TRUE
 WHERE survey_id = $1 AND NOT reminded AND account_id IN (
    SELECT account_id FROM survey_target WHERE survey_id = $1 AND requested AND NOT answered AND NOT reminded ORDER BY account_id LIMIT $2)
 RETURNING account_id, ward_code, class_age";

impl Tx {
    /// Households and birth dates of all children that live in the municipality on `today`.
    pub async fn birth_dates(
        &mut self,
        code: &MunicipalityCode,
        today: Date,
    ) -> Result<Vec<(GuardianId, Date)>, StoreError> {
        #[derive(sqlx::FromRow)]
        struct Row {
            #[sqlx(try_from = "String")]
            guardian_id: GuardianId,
            #[sqlx(try_from = "DateText")]
            birth_date: Date,
        }
        let rows: Vec<Row> = fetch_all!(
            self,
            Row,
            concat!(
                "SELECT guardian_id, birth_date FROM child c WHERE municipality_code = $1 AND ",
                child_lives_here!("c", "$2")
            ),
            self.wall.inside(code),
            today.to_string(),
        )?;
        Ok(rows.into_iter().map(|row| (row.guardian_id, row.birth_date)).collect())
    }

    /// Replaces a survey's audience.
    pub async fn replace_survey_targets(&mut self, id: SurveyId, rows: &[SurveyTarget]) -> Result<(), StoreError> {
        execute!(self, "DELETE FROM survey_target WHERE survey_id = $1", id.to_string())?;
        insert_many!(
            self,
            "INSERT INTO survey_target (survey_id, account_id, ward_code, class_age, requested, answered, reminded) ",
            rows,
            "",
            |row| row.survey_id.to_string(),
            row.account_id.to_string(),
            row.ward_code.clone(),
            row.class_age,
            false,
            false,
            false,
        )?;
        Ok(())
    }

    /// Picks up to `n_max` people who have not been asked yet and marks them asked.
    pub async fn pick_for_request(&mut self, id: SurveyId, n_max: i64) -> Result<Vec<Addressee>, StoreError> {
        fetch_all!(self, Addressee, PICK_FOR_REQUEST, id.to_string(), n_max)
    }

    /// Picks up to `n_max` people who were asked, are not marked as having answered and were not reminded,
    /// and marks them reminded.
    pub async fn pick_for_reminder(&mut self, id: SurveyId, n_max: i64) -> Result<Vec<Addressee>, StoreError> {
        fetch_all!(self, Addressee, PICK_FOR_REMINDER, id.to_string(), n_max)
    }

    /// A person of the audience who has been asked.
    pub async fn survey_addressee(
        &mut self,
        id: SurveyId,
        account: AccountId,
    ) -> Result<Option<Addressee>, StoreError> {
        fetch_optional!(
            self, Addressee,
            "SELECT account_id, ward_code, class_age FROM survey_target WHERE survey_id = $1 AND account_id = $2 AND requested AND EXISTS (
                SELECT 1 FROM survey s WHERE s.survey_id = $1 AND (s.municipality_code = $3 OR $3 = ''))",
            id.to_string(), account.to_string(), self.wall.code(),
        )
    }

    /// Number of people in the audience who share ward and class age.
    pub async fn survey_cell(
        &mut self,
        id: SurveyId,
        ward_code: &str,
        class_age: Option<i64>,
    ) -> Result<i64, StoreError> {
        let (n,): (i64,) = fetch_one!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM survey_target WHERE survey_id = $1 AND ward_code = $2 AND COALESCE(class_age, -1) = $3",
            id.to_string(),
            ward_code,
            class_age.unwrap_or(-1),
        )?;
        Ok(n)
    }

    /// Marks that a named answer has come.
    pub async fn mark_answered(&mut self, id: SurveyId, account: AccountId) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE survey_target SET answered = TRUE WHERE survey_id = $1 AND account_id = $2",
            id.to_string(),
            account.to_string(),
        )?;
        Ok(())
    }

    /// Surveys a person was asked to answer, those that close first first.
    pub async fn surveys_of_account(&mut self, account: AccountId) -> Result<Vec<SurveyId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self, (String,),
            "SELECT t.survey_id FROM survey_target t JOIN survey s ON s.survey_id = t.survey_id
             WHERE t.account_id = $1 AND t.requested AND (s.municipality_code = $2 OR $2 = '') ORDER BY s.closes_at_us DESC, t.survey_id",
            account.to_string(), self.wall.code(),
        )?;
        rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "survey id" })).collect()
    }

    /// Number of people whose device or client has confirmed the request of a survey.
    pub async fn survey_delivered(&mut self, id: SurveyId) -> Result<i64, StoreError> {
        let (n,): (i64,) = fetch_one!(
            self, (i64,),
            "SELECT COUNT(DISTINCT account_id) FROM message WHERE subject_kind = 'survey' AND subject_id = $1
             AND message_type = 'survey.requested' AND (delivered_at_us IS NOT NULL OR read_at_us IS NOT NULL)
             AND (municipality_code = $2 OR $2 = '') AND account_id IN (SELECT account_id FROM survey_target WHERE survey_id = $1)",
            id.to_string(), self.wall.code(),
        )?;
        Ok(n)
    }
}
