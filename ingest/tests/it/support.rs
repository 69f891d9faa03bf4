//! Events and clocks.

use serde_json::json;
use todoke_domain::{Event, Timestamp, ids::EventId};
use todoke_ingest::EncodedEvents;

pub(crate) const CHIYODA: &str = "131016";

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn now() -> Timestamp {
    at("2026-11-21T03:00:00Z")
}

/// The n-th screen view; `n` decides its id and content.
pub(crate) fn view(n: u64) -> Event {
    let id = uuid::Uuid::from_u128(0x0193_2b5c_0000_7000_8000_0000_0000_0000 + u128::from(n));
    Event {
        event_id: EventId::from(id),
        event_type: "app.screen_viewed".to_owned(),
        schema_version: 1,
        occurred_at: at("2026-11-21T01:00:00Z"),
        recorded_at: now(),
        municipality_code: CHIYODA.parse().unwrap(),
        actor_role: "guardian".to_owned(),
        actor_key: None,
        source_channel: "web".to_owned(),
        subject_kind: "device_session".to_owned(),
        subject_id: "s".to_owned(),
        subject_seq: 0,
        correlation_id: None,
        causation_id: None,
        recorded_offline: false,
        programme_code: None,
        facility_id: None,
        payload: json!({ "session_id": "s", "screen_id": "G01", "dwell_ms": n }).as_object().unwrap().clone(),
    }
}

pub(crate) fn encoded(events: &[Event]) -> EncodedEvents {
    EncodedEvents::of(events).unwrap()
}

pub(crate) fn views(range: std::ops::RangeInclusive<u64>) -> Vec<Event> {
    range.map(view).collect()
}
