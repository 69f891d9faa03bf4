//! What the city asks the operator to do.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    city_request::{RequestKind, RequestState},
    ids::{AccountId, CityRequestId},
};

use crate::{StoreError, Tx, column::OptionalNumber};

/// A request.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct CityRequest {
    /// Id.
    #[sqlx(try_from = "String")]
    pub request_id: CityRequestId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Code of [`RequestKind`].
    pub kind: String,
    /// Id of the application or household, by kind.
    pub subject_id: String,
    /// Its number people see.
    pub subject_no: String,
    /// Code of the reason.
    pub reason_code: String,
    /// Words of the reason.
    pub reason_text: Option<String>,
    /// Code of [`RequestState`].
    pub state: String,
    /// Who asked.
    #[sqlx(try_from = "String")]
    pub requested_by: AccountId,
    /// Their name at that time.
    pub requested_by_name: String,
    /// When.
    #[sqlx(rename = "requested_at_us", try_from = "i64")]
    pub requested_at: Timestamp,
    /// When it was carried out, declined or taken back.
    #[sqlx(rename = "settled_at_us", try_from = "OptionalNumber")]
    pub settled_at: Option<Timestamp>,
    /// What the operator said.
    pub note: Option<String>,
}

impl CityRequest {
    /// The kind.
    pub fn kind(&self) -> Result<RequestKind, StoreError> {
        RequestKind::parse(&self.kind).ok_or(StoreError::Corrupt { what: "kind of a request" })
    }

    /// The state.
    pub fn state(&self) -> Result<RequestState, StoreError> {
        RequestState::parse(&self.state).ok_or(StoreError::Corrupt { what: "state of a request" })
    }
}

macro_rules! select_request {
    ($rest:literal) => {
        concat!(
            "SELECT request_id, municipality_code, kind, subject_id, subject_no, reason_code, reason_text, state, requested_by, ",
            "requested_by_name, requested_at_us, settled_at_us, note FROM city_request ", $rest
        )
    };
}

impl Tx {
    /// Adds a request.
    ///
    /// Errors: [`StoreError::Conflict`] when the same thing is asked for already.
    pub async fn insert_city_request(&mut self, row: &CityRequest) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO city_request (request_id, municipality_code, kind, subject_id, subject_no, reason_code, reason_text, state,
                requested_by, requested_by_name, requested_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            row.request_id.to_string(), row.municipality_code.as_str(), &row.kind, &row.subject_id, &row.subject_no,
            &row.reason_code, row.reason_text.as_deref(), &row.state, row.requested_by.to_string(), &row.requested_by_name,
            row.requested_at.as_micros(),
        )?;
        Ok(())
    }

    /// One request.
    pub async fn city_request(&mut self, id: CityRequestId) -> Result<Option<CityRequest>, StoreError> {
        let row = fetch_optional!(self, CityRequest, select_request!("WHERE request_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Locks a request for the rest of the transaction and reads it.
    pub async fn lock_city_request(&mut self, id: CityRequestId) -> Result<Option<CityRequest>, StoreError> {
        execute!(self, "UPDATE city_request SET state = state WHERE request_id = $1", id.to_string())?;
        self.city_request(id).await
    }

    /// Settles a request.
    pub async fn settle_city_request(&mut self, row: &CityRequest) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE city_request SET state = $2, settled_at_us = $3, note = $4 WHERE request_id = $1",
            row.request_id.to_string(),
            &row.state,
            row.settled_at.map(Timestamp::as_micros),
            row.note.as_deref(),
        )?;
        Ok(())
    }

    /// Requests of a municipality, open ones first, then newest first.
    pub async fn city_requests(&mut self, code: &MunicipalityCode, n_max: i64) -> Result<Vec<CityRequest>, StoreError> {
        let rows = fetch_all!(
            self,
            CityRequest,
            select_request!(
                "WHERE municipality_code = $1
                 ORDER BY CASE WHEN state = 'open' THEN 0 ELSE 1 END, requested_at_us DESC, request_id DESC LIMIT $2"
            ),
            code.as_str(),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }
}
