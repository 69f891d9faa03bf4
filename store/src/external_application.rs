//! Applications that a linked system decided (I08). Imported, never edited here.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    external_application::ExternalState,
    ids::{ApplicationId, ChildId, FacilityId},
};

use crate::{StoreError, Tx};

/// An external application as it was delivered last.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ExternalApplication {
    /// Id, given here.
    #[sqlx(try_from = "String")]
    pub application_id: ApplicationId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Programme; it says which linked system the number is of.
    pub programme_code: String,
    /// Number in the linked system.
    pub external_no: String,
    /// For whom.
    #[sqlx(try_from = "String")]
    pub child_id: ChildId,
    /// Where.
    #[sqlx(try_from = "String")]
    pub facility_id: FacilityId,
    /// Begin of the use.
    #[sqlx(rename = "use_from_us", try_from = "i64")]
    pub use_from: Timestamp,
    /// End of the use.
    #[sqlx(rename = "use_to_us", try_from = "i64")]
    pub use_to: Timestamp,
    /// Code of [`ExternalState`].
    pub state: String,
}

impl ExternalApplication {
    /// The state.
    pub fn state(&self) -> Result<ExternalState, StoreError> {
        ExternalState::parse(&self.state).ok_or(StoreError::Corrupt { what: "external application state" })
    }
}

impl Tx {
    /// The application that a linked system knows by a number; the programme says which system.
    pub async fn external_application(
        &mut self,
        code: &MunicipalityCode,
        programme_code: &str,
        external_no: &str,
    ) -> Result<Option<ExternalApplication>, StoreError> {
        let row = fetch_optional!(
            self,
            ExternalApplication,
            "SELECT application_id, municipality_code, programme_code, external_no, child_id, facility_id, use_from_us,
                use_to_us, state
             FROM external_application WHERE municipality_code = $1 AND programme_code = $2 AND external_no = $3",
            code.as_str(),
            programme_code,
            external_no,
        )?;
        Ok(self.see(row))
    }

    /// Writes applications as delivered; known ones get the new place, times and state. None may occur twice in `rows`.
    pub async fn upsert_external_applications(&mut self, rows: &[ExternalApplication]) -> Result<u64, StoreError> {
        insert_many!(
            self,
            "INSERT INTO external_application (application_id, municipality_code, programme_code, external_no, child_id,
                facility_id, use_from_us, use_to_us, state) ",
            rows,
            " ON CONFLICT (municipality_code, programme_code, external_no) DO UPDATE SET facility_id = excluded.facility_id,
                use_from_us = excluded.use_from_us, use_to_us = excluded.use_to_us, state = excluded.state",
            |row| row.application_id.to_string(),
            row.municipality_code.as_str().to_owned(),
            row.programme_code.clone(),
            row.external_no.clone(),
            row.child_id.to_string(),
            row.facility_id.to_string(),
            row.use_from.as_micros(),
            row.use_to.as_micros(),
            row.state.clone(),
        )
    }
}
