//! The immutable event: what every state change leaves behind (events.md §1).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ids::EventId, municipality::MunicipalityCode, time::Timestamp};

/// One event with its envelope. The payload holds the catalogued fields of its type that may enter
/// the lake: persons as `*_key`, class C generalised, classes B, D and E absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique; consumers drop a second event with the same id.
    pub event_id: EventId,
    /// A name of the event catalogue, such as `coupon.used`.
    pub event_type: String,
    /// Version of the fields; fields are only ever added.
    pub schema_version: u16,
    /// When it happened; for offline records the noted time.
    pub occurred_at: Timestamp,
    /// When Todoke accepted it.
    pub recorded_at: Timestamp,
    /// The wall it stays behind.
    pub municipality_code: MunicipalityCode,
    /// A role's code, or `system`.
    pub actor_role: String,
    /// Pseudonym of the actor; `None` for the system and for devices without sign-in.
    pub actor_key: Option<i64>,
    /// `app`, `web`, `dashboard`, `console`, `paper`, `import`, `batch` or `timer`.
    pub source_channel: String,
    /// Kind of the aggregate, such as `coupon`.
    pub subject_kind: String,
    /// Id of the aggregate; for a person its key as decimal text.
    pub subject_id: String,
    /// Gap-free number per subject, from 1; 0 where the type has none (app usage).
    pub subject_seq: u64,
    /// The request that began the chain.
    pub correlation_id: Option<String>,
    /// The event that caused this one.
    pub causation_id: Option<String>,
    /// Entered after an outage.
    pub recorded_offline: bool,
    /// Where relevant.
    pub programme_code: Option<String>,
    /// Where relevant.
    pub facility_id: Option<String>,
    /// Catalogued fields of the type.
    pub payload: Map<String, Value>,
}

impl Event {
    /// The part of the type before the first dot; each group is one lake table.
    pub fn group(&self) -> &str {
        self.event_type.split('.').next().unwrap_or(&self.event_type)
    }
}
