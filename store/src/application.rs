//! Coupon applications and their history.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    application::ApplicationState,
    ids::{ApplicationId, ChildId, CouponSetId, GuardianId},
};

use crate::{
    StoreError, Tx,
    column::{OptionalNumber, OptionalText},
};

/// A coupon application.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Application {
    /// Id.
    #[sqlx(try_from = "String")]
    pub application_id: ApplicationId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// 受付番号.
    pub application_no: String,
    /// Code of [`ApplicationState`].
    pub state: String,
    /// For whom.
    #[sqlx(try_from = "String")]
    pub child_id: ChildId,
    /// By which household.
    #[sqlx(try_from = "String")]
    pub guardian_id: GuardianId,
    /// Relation of the applicant to the child.
    pub relation: String,
    /// `online` or `paper_proxy`.
    pub entry: String,
    /// A valid child QR identified the child.
    pub via_child_qr: bool,
    /// `app`, `paper` or `both`.
    pub contact_channel: String,
    /// Set it was approved into.
    #[sqlx(try_from = "OptionalText")]
    pub coupon_set_id: Option<CouponSetId>,
    /// When it came.
    #[sqlx(rename = "submitted_at_us", try_from = "i64")]
    pub submitted_at: Timestamp,
    /// When it was decided.
    #[sqlx(rename = "decided_at_us", try_from = "OptionalNumber")]
    pub decided_at: Option<Timestamp>,
    /// JSON `{items, text}` of the open deficiency.
    pub deficiency: Option<String>,
    /// Text of the last decision's reason.
    pub reason: Option<String>,
    /// Code of the last matching failure.
    pub matching_error: Option<String>,
    /// JSON list of resident numbers.
    pub matching_candidates: Option<String>,
    /// The applicant occurs in the child's household relation.
    pub guardian_confirmed: Option<bool>,
    /// How often it was resubmitted.
    pub round: i64,
    /// Counts changes; a save on an older one is refused.
    pub version: i64,
}

impl Application {
    /// The state.
    pub fn state(&self) -> Result<ApplicationState, StoreError> {
        ApplicationState::parse(&self.state).ok_or(StoreError::Corrupt { what: "application state" })
    }
}

/// One step of an application's life.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ApplicationStep {
    /// State it came into.
    pub state: String,
    /// When.
    #[sqlx(rename = "at_us", try_from = "i64")]
    pub at: Timestamp,
    /// By which role.
    pub by_role: String,
    /// What was said.
    pub note: Option<String>,
}

macro_rules! select_application {
    ($rest:literal) => {
        concat!(
            "SELECT application_id, municipality_code, application_no, state, child_id, guardian_id, relation, entry, ",
            "via_child_qr, contact_channel, coupon_set_id, submitted_at_us, decided_at_us, deficiency, reason, ",
            "matching_error, matching_candidates, guardian_confirmed, round, version FROM application ",
            $rest
        )
    };
}

impl Tx {
    /// Adds an application.
    pub async fn insert_application(&mut self, row: &Application) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO application (application_id, municipality_code, application_no, state, child_id, guardian_id, relation,
                entry, via_child_qr, contact_channel, submitted_at_us, guardian_confirmed, round, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            row.application_id.to_string(), row.municipality_code.as_str(), &row.application_no, &row.state,
            row.child_id.to_string(), row.guardian_id.to_string(), &row.relation, &row.entry, row.via_child_qr,
            &row.contact_channel, row.submitted_at.as_micros(), row.guardian_confirmed, row.round, row.version,
        )?;
        Ok(())
    }

    /// One application.
    pub async fn application(&mut self, id: ApplicationId) -> Result<Option<Application>, StoreError> {
        let row = fetch_optional!(self, Application, select_application!("WHERE application_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Locks an application for the rest of the transaction and counts the change.
    pub async fn lock_application(&mut self, id: ApplicationId) -> Result<Option<Application>, StoreError> {
        execute!(
            self,
            "UPDATE application SET version = version + 1 WHERE application_id = $1 AND ($2 = '' OR municipality_code = $2)",
            id.to_string(),
            self.wall.code()
        )?;
        self.application(id).await
    }

    /// Writes what may change of an application.
    pub async fn update_application(&mut self, row: &Application) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE application SET state = $2, coupon_set_id = $3, decided_at_us = $4, deficiency = $5, reason = $6,
                matching_error = $7, matching_candidates = $8, guardian_confirmed = $9, round = $10 WHERE application_id = $1",
            row.application_id.to_string(), &row.state, row.coupon_set_id.map(|id| id.to_string()),
            row.decided_at.map(Timestamp::as_micros), row.deficiency.as_deref(), row.reason.as_deref(),
            row.matching_error.as_deref(), row.matching_candidates.as_deref(), row.guardian_confirmed, row.round,
        )?;
        Ok(())
    }

    /// Adds a step to an application's history.
    pub async fn add_application_step(&mut self, id: ApplicationId, step: &ApplicationStep) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO application_history (application_id, step, state, at_us, by_role, note)
             SELECT $1, COALESCE(MAX(step), 0) + 1, $2, $3, $4, $5 FROM application_history WHERE application_id = $1",
            id.to_string(),
            &step.state,
            step.at.as_micros(),
            &step.by_role,
            step.note.as_deref(),
        )?;
        Ok(())
    }

    /// An application's history, oldest first.
    pub async fn application_steps(&mut self, id: ApplicationId) -> Result<Vec<ApplicationStep>, StoreError> {
        fetch_all!(
            self, ApplicationStep,
            "SELECT state, at_us, by_role, note FROM application_history
             WHERE application_id = $1 AND ($2 = '' OR EXISTS (SELECT 1 FROM application WHERE application_id = $1 AND municipality_code = $2))
             ORDER BY step",
            id.to_string(), self.wall.code(),
        )
    }

    /// Applications of a household, newest first.
    pub async fn applications_of_guardian(&mut self, id: GuardianId) -> Result<Vec<Application>, StoreError> {
        let rows = fetch_all!(
            self,
            Application,
            select_application!("WHERE guardian_id = $1 ORDER BY application_id DESC"),
            id.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Applications for a child, newest first.
    pub async fn applications_of_child(&mut self, id: ChildId) -> Result<Vec<Application>, StoreError> {
        let rows = fetch_all!(
            self,
            Application,
            select_application!("WHERE child_id = $1 ORDER BY application_id DESC"),
            id.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Applications of a municipality in one state, oldest first, after the application `after`.
    pub async fn applications_in_state(
        &mut self,
        code: &MunicipalityCode,
        state: ApplicationState,
        after: Option<ApplicationId>,
        n_max: i64,
    ) -> Result<Vec<Application>, StoreError> {
        let rows = fetch_all!(
            self,
            Application,
            select_application!(
                "WHERE municipality_code = $1 AND state = $2 AND application_id > $3 ORDER BY application_id LIMIT $4"
            ),
            code.as_str(),
            state.as_str(),
            after.map_or_else(String::new, |id| id.to_string()),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// Applications of a municipality in any state, newest first, before the application `before`.
    pub async fn applications(
        &mut self,
        code: &MunicipalityCode,
        before: Option<ApplicationId>,
        n_max: i64,
    ) -> Result<Vec<Application>, StoreError> {
        let rows = fetch_all!(
            self,
            Application,
            select_application!(
                "WHERE municipality_code = $1 AND application_id < $2 ORDER BY application_id DESC LIMIT $3"
            ),
            code.as_str(),
            before.map_or_else(|| "~".to_owned(), |id| id.to_string()),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// Number of applications per state.
    pub async fn application_counts(&mut self, code: &MunicipalityCode) -> Result<Vec<(String, i64)>, StoreError> {
        fetch_all!(
            self,
            (String, i64),
            "SELECT state, COUNT(*) FROM application WHERE municipality_code = $1 GROUP BY state ORDER BY state",
            self.wall.inside(code),
        )
    }
}
