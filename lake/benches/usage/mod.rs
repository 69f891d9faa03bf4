//! The usage events that benches fill a lake with.

use std::time::Duration;

use serde_json::{Map, Value, json};
use todoke_domain::{Event, Timestamp, ids::EventId};

/// A screen that somebody saw for `dwell_ms`, as a phone reports it half a minute later.
pub(crate) fn screen_viewed(at: Timestamp, session: String, screen: &str, dwell_ms: u64) -> Event {
    let payload = json!({
        "session_id": session, "screen_id": screen, "previous_screen_id": null, "dwell_ms": dwell_ms,
    });
    Event {
        event_id: EventId::new(at),
        event_type: "app.screen_viewed".to_owned(),
        schema_version: 1,
        occurred_at: at,
        recorded_at: at.plus(Duration::from_secs(30)),
        municipality_code: "271004".parse().expect("a code"),
        actor_role: "guardian".to_owned(),
        actor_key: Some(4_711),
        source_channel: "app".to_owned(),
        subject_kind: "device_session".to_owned(),
        subject_id: session,
        subject_seq: 0,
        correlation_id: None,
        causation_id: None,
        recorded_offline: false,
        programme_code: None,
        facility_id: None,
        payload: match payload {
            Value::Object(payload) => payload,
            _ => Map::new(),
        },
    }
}
