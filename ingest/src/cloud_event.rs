//! From outside systems: CloudEvents 1.0 over HTTP, structured, binary and batched.
//!
//! `type` is an event type of the catalogue, `data` its lake fields. The extension attributes
//! `facilityid`, `programmecode`, `subjectkind` and `recordedoffline` fill the envelope. What the
//! receiver knows better, municipality and actor, a sender cannot say.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use todoke_domain::{
    Event, MunicipalityCode, Timestamp,
    catalogue::events::{self, PayloadError},
};
use uuid::Uuid;

use crate::{IngestError, RejectReason, Rejected, code, instant};

/// Events in one batch, at most.
pub const EVENTS_MAX: usize = 5_000;
/// Characters of an attribute.
const ATTRIBUTE_CHARS_MAX: usize = 200;
const CONTENT_BYTES_MAX: usize = 8_192;

/// What the server knows about the sender.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// The wall the events stay behind.
    pub municipality_code: MunicipalityCode,
    /// Role of the key's account.
    pub role: String,
    /// Pseudonym of the key's account.
    pub actor_key: Option<i64>,
    /// Groups or types it may send: `support` or `support.replied`.
    pub allowed: Vec<String>,
    /// Id of the request.
    pub correlation_id: Option<String>,
    /// When the request arrived.
    pub received_at: Timestamp,
}

/// A batch, event by event.
#[derive(Clone, Debug, Default)]
pub struct ParsedEvents {
    /// Events to store.
    pub events: Vec<Event>,
    /// Each of them as it was sent, for when the log refuses it.
    pub contents: Vec<String>,
    /// Events that are not acceptable as they are.
    pub rejected: Vec<Rejected>,
}

/// How CloudEvents come in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `application/cloudevents+json`: one object.
    Structured,
    /// `application/cloudevents-batch+json`: a list of them.
    Batched,
    /// Attributes are headers, without their `ce-`; the body is the data.
    Binary(Vec<(String, String)>),
}

/// Reads a request's events.
///
/// Errors: [`IngestError::NotABatch`] when the body is not JSON of the mode's form.
pub fn parse(raw: &[u8], mode: &Mode, context: &SourceContext) -> Result<ParsedEvents, IngestError> {
    let not_a_batch = |reason: String| IngestError::NotABatch { reason };
    let body: Value = serde_json::from_slice(raw).map_err(|error| not_a_batch(format!("not JSON ({error})")))?;
    let items = match (mode, body) {
        (Mode::Structured, item) => vec![item],
        (Mode::Batched, Value::Array(items)) => items,
        (Mode::Batched, _) => return Err(not_a_batch("not a list".to_owned())),
        (Mode::Binary(attributes), data) => {
            let mut item: Map<String, Value> =
                attributes.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
            item.insert("data".to_owned(), data);
            vec![Value::Object(item)]
        }
    };
    if items.len() > EVENTS_MAX {
        return Err(not_a_batch(format!("more than {EVENTS_MAX} events")));
    }
    let mut parsed = ParsedEvents::default();
    for item in items {
        let content = Some(item.to_string()).filter(|text| text.len() <= CONTENT_BYTES_MAX);
        match event(&item, context) {
            Ok(event) => {
                parsed.events.push(event);
                parsed.contents.push(content.unwrap_or_default());
            }
            Err((reason, field)) => {
                let id = item.get("id").and_then(Value::as_str);
                let event_id = id.map(|id| id.chars().take(ATTRIBUTE_CHARS_MAX).collect());
                parsed.rejected.push(Rejected { event_id, reason, field: Some(field), content, place: None });
            }
        }
    }
    Ok(parsed)
}

type Fault = (RejectReason, String);

fn event(item: &Value, context: &SourceContext) -> Result<Event, Fault> {
    let item = item.as_object().ok_or((RejectReason::NotAnObject, String::new()))?;
    let optional = |name: &str| match item.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() > ATTRIBUTE_CHARS_MAX => {
            Err((RejectReason::TooLong, name.to_owned()))
        }
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err((RejectReason::IllTyped, name.to_owned())),
    };
    let required = |name: &str| optional(name)?.ok_or_else(|| (RejectReason::MissingField, name.to_owned()));
    if required("specversion")? != "1.0" {
        return Err((RejectReason::IllTyped, "specversion".to_owned()));
    }
    let (source, id, name) = (required("source")?, required("id")?, required("type")?);
    let event_type = events::get(name).ok_or_else(|| (RejectReason::UnknownType, "type".to_owned()))?;
    if !context.allowed.iter().any(|allowed| *allowed == event_type.name || *allowed == event_type.group) {
        return Err((RejectReason::TypeNotAllowed, "type".to_owned()));
    }
    let time = required("time")?;
    let occurred_at = instant::parse(time).ok_or_else(|| (RejectReason::TimeInvalid, "time".to_owned()))?;
    let payload = match item.get("data") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(data)) => data.clone(),
        Some(_) => return Err((RejectReason::IllTyped, "data".to_owned())),
    };
    let subject_id = optional("subject")?.map_or_else(|| id.to_owned(), str::to_owned);
    let event = Event {
        event_id: event_id(source, id).into(),
        event_type: event_type.name.clone(),
        schema_version: 1,
        occurred_at,
        recorded_at: context.received_at,
        municipality_code: context.municipality_code.clone(),
        actor_role: context.role.clone(),
        actor_key: context.actor_key,
        source_channel: "import".to_owned(),
        subject_kind: optional("subjectkind")?.unwrap_or(&event_type.group).to_owned(),
        subject_id,
        subject_seq: 0,
        correlation_id: context.correlation_id.clone(),
        causation_id: None,
        recorded_offline: matches!(item.get("recordedoffline"), Some(Value::Bool(true)))
            || item.get("recordedoffline").and_then(Value::as_str) == Some("true"),
        programme_code: optional("programmecode")?.map(str::to_owned),
        facility_id: optional("facilityid")?.map(str::to_owned),
        payload,
    };
    events::check(&event).map_err(fault)?;
    for (name, value) in &event.payload {
        code::check_all(value).map_err(|reason| (reason, format!("data.{name}")))?;
    }
    let envelope = [
        ("subject", Some(&event.subject_id)),
        ("subjectkind", Some(&event.subject_kind)),
        ("facilityid", event.facility_id.as_ref()),
        ("programmecode", event.programme_code.as_ref()),
    ];
    for (name, text) in envelope.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        code::check(text).map_err(|reason| (reason, name.to_owned()))?;
    }
    Ok(event)
}

/// A client-made UUID is the id itself; any other id gets one that source and id decide, so that a
/// repetition is recognised.
fn event_id(source: &str, id: &str) -> Uuid {
    if let Ok(id) = Uuid::try_parse(id)
        && !id.is_nil()
    {
        return id;
    }
    let digest = Sha256::new().chain_update(source).chain_update([0]).chain_update(id).finalize();
    let bytes = digest.first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn fault(error: PayloadError) -> Fault {
    let data = |field: &str| format!("data.{field}");
    match error {
        PayloadError::UnknownEventType { .. } => (RejectReason::UnknownType, "type".to_owned()),
        PayloadError::UnknownField { field, .. } => (RejectReason::UnknownField, data(&field)),
        PayloadError::MissingField { field, .. } => (RejectReason::MissingField, data(&field)),
        PayloadError::WrongType { field, .. } => (RejectReason::IllTyped, data(&field)),
        PayloadError::PersonalData { field, .. } | PayloadError::Betrays { field, .. } => {
            (RejectReason::ForbiddenField, data(field))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context() -> SourceContext {
        SourceContext {
            municipality_code: "131016".parse().unwrap(),
            role: "operator".to_owned(),
            actor_key: Some(5),
            allowed: vec!["support".to_owned(), "system.incident_detected".to_owned()],
            correlation_id: None,
            received_at: "2026-11-21T03:00:00Z".parse().unwrap(),
        }
    }

    fn replied() -> Value {
        json!({
            "specversion": "1.0", "source": "/call-centre", "id": "a-1", "type": "support.replied",
            "time": "2026-11-21T02:00:00+00:00", "subject": "inquiry-7",
            "data": {"inquiry_id": "inquiry-7", "topic": "coupon", "channel": "phone", "closed_hours": false},
        })
    }

    fn reason(change: Value) -> RejectReason {
        let mut item = replied();
        item.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let parsed = parse(item.to_string().as_bytes(), &Mode::Structured, &context()).unwrap();
        assert!(parsed.events.is_empty(), "{change}");
        parsed.rejected[0].reason
    }

    #[test]
    fn the_three_modes_say_the_same() {
        let item = replied();
        let structured = parse(item.to_string().as_bytes(), &Mode::Structured, &context()).unwrap();
        assert_eq!(structured.rejected, []);
        let batched = parse(json!([item, 7]).to_string().as_bytes(), &Mode::Batched, &context()).unwrap();
        let attributes = ["specversion", "source", "id", "type", "time", "subject"];
        let headers = attributes.map(|name| (name.to_owned(), item[name].as_str().unwrap().to_owned()));
        let binary = Mode::Binary(headers.to_vec());
        let binary = parse(item["data"].to_string().as_bytes(), &binary, &context()).unwrap();
        assert_eq!(structured.events, batched.events);
        assert_eq!(structured.events, binary.events);
        assert_eq!(batched.rejected[0].reason, RejectReason::NotAnObject);
    }

    #[test]
    fn an_id_is_an_event_once_per_source() {
        assert_eq!(event_id("/a", "1"), event_id("/a", "1"));
        assert_ne!(event_id("/a", "1"), event_id("/b", "1"));
        assert_ne!(event_id("/a", "b1"), event_id("/ab", "1"));
        let own = "01932b5c-0000-7000-8000-000000000001";
        assert_eq!(event_id("/a", own).to_string(), own);
        assert_eq!(event_id("/a", "1").get_version_num(), 8);
    }

    #[test]
    fn each_fault_has_its_reason() {
        for (change, expected) in [
            (json!({"specversion": "0.3"}), RejectReason::IllTyped),
            (json!({"id": null}), RejectReason::MissingField),
            (json!({"time": "yesterday"}), RejectReason::TimeInvalid),
            (json!({"type": "support.sung"}), RejectReason::UnknownType),
            (json!({"type": "coupon.used"}), RejectReason::TypeNotAllowed),
            (json!({"data": []}), RejectReason::IllTyped),
            (json!({"data": {"colour": "red"}}), RejectReason::UnknownField),
            (json!({"subject": "x".repeat(201)}), RejectReason::TooLong),
            (json!({"subject": "hanako@example.jp"}), RejectReason::IllTyped),
            (json!({"facilityid": "ひかり保育園"}), RejectReason::IllTyped),
        ] {
            assert_eq!(reason(change.clone()), expected, "{change}");
        }
        assert!(parse(b"{", &Mode::Structured, &context()).is_err());
        assert!(parse(b"{}", &Mode::Batched, &context()).is_err());
    }
}
