//! From outside systems: CloudEvents 1.0 over HTTP, structured, binary and batched.
//!
//! `type` is an event type of the catalogue, `data` its lake fields. The extension attributes
//! `facilityid`, `programmecode`, `subjectkind` and `recordedoffline` fill the envelope. What the
//! receiver knows better, municipality and actor, a sender cannot say.

use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest, Sha256};
use todoke_domain::{
    Event, MunicipalityCode, Timestamp,
    catalogue::{
        code,
        events::{self, PayloadError},
    },
    event_source::SourcePattern,
};
use uuid::Uuid;

use crate::{
    EncodedEvents, IngestError, REJECTED_MAX, RejectReason, Rejected, instant,
    items::{Items, NotAList},
    row::Shared,
};

/// Events in one batch, at most.
pub const EVENTS_MAX: usize = 5_000;
/// Bytes of an event's text, at most: what CloudEvents asks of everybody who takes some.
pub const EVENT_BYTES_MAX: usize = 64 << 10;
/// Characters of an attribute.
const ATTRIBUTE_CHARS_MAX: usize = 200;
const CONTENT_BYTES_MAX: usize = 8_192;
/// Memory of an event's tree for each byte of its text, at most: a list of single digits, while it grows.
const TREE_BYTES_PER_BYTE: usize = 48;

/// Memory that reading a body of `n_bytes` takes beside it, at most: the tree of one event, and the texts of the bad
/// ones that are kept.
pub const fn reading_bytes(n_bytes: usize) -> usize {
    const fn smaller(a: usize, b: usize) -> usize {
        if a < b { a } else { b }
    }
    smaller(n_bytes, EVENT_BYTES_MAX) * TREE_BYTES_PER_BYTE + smaller(n_bytes, REJECTED_MAX * CONTENT_BYTES_MAX)
}

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
    /// Sources it may name; `None` for any.
    pub sources: Option<Vec<SourcePattern>>,
    /// Id of the request.
    pub correlation_id: Option<String>,
    /// When the request arrived.
    pub received_at: Timestamp,
}

/// A batch, event by event.
#[derive(Clone, Debug, Default)]
pub struct ParsedEvents {
    /// Events to store.
    pub events: EncodedEvents,
    /// Events that are not acceptable as they are.
    pub rejected: Vec<Rejected>,
    /// Each of `events` as its sender has it.
    sent: Vec<Sent>,
    /// The event as one object, where the body was only its data.
    whole: Option<String>,
}

/// An event as its sender has it.
#[derive(Clone, Debug)]
struct Sent {
    id: String,
    /// Where it stands in the body: first byte and the one after the last.
    place: (usize, usize),
}

impl ParsedEvents {
    /// Number of events, good or bad.
    pub fn n_events(&self) -> usize {
        self.sent.len() + self.rejected.len()
    }

    /// An event that the log refused, with the id its sender gave it and what was sent. `body` is what was read.
    pub fn as_sent(&self, refused: Rejected, body: &[u8]) -> Rejected {
        let Some(sent) = refused.place.and_then(|at| self.sent.get(at)) else { return refused };
        let text = self.whole.as_ref().map_or(body, |whole| whole.as_bytes());
        let content = text.get(sent.place.0..sent.place.1).filter(|content| content.len() <= CONTENT_BYTES_MAX);
        let content = content.map(|content| String::from_utf8_lossy(content).into_owned());
        let field = refused.field.map(|field| if field == "occurred_at" { "time".to_owned() } else { "id".to_owned() });
        Rejected { event_id: Some(sent.id.clone()), field, content, ..refused }
    }
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

/// Reads a request's events, one after the other: of no more than one is there a tree.
///
/// Errors: [`IngestError::NotABatch`] when the body is not JSON of the mode's form or has more than [`EVENTS_MAX`]
/// events, [`IngestError::TooManyBad`]; both as soon as that is seen.
pub fn parse(raw: &[u8], mode: &Mode, context: &SourceContext) -> Result<ParsedEvents, IngestError> {
    let text = std::str::from_utf8(raw).map_err(|error| not_json(error.valid_up_to()))?;
    let mut batch = Batch { context, parsed: ParsedEvents::default() };
    match mode {
        Mode::Structured => {
            // What is too long is not looked into: the event is refused for its length.
            if text.len() <= EVENT_BYTES_MAX {
                serde_json::from_str::<&RawValue>(text).map_err(|error| not_json(error.column()))?;
            }
            batch.event(text, 0)?;
        }
        Mode::Batched => {
            let broken = |NotAList { at }: NotAList| not_json(at);
            let mut items = Items::of(text).map_err(|_| not_a_batch("not a list".to_owned()))?;
            while let Some(place) = items.next().map_err(broken)? {
                if batch.parsed.n_events() == EVENTS_MAX {
                    return Err(not_a_batch(format!("more than {EVENTS_MAX} events")));
                }
                batch.event(&text[place.clone()], place.start)?;
            }
        }
        Mode::Binary(attributes) if text.len() > EVENT_BYTES_MAX => {
            let id = attributes.iter().find(|(name, _)| name == "id");
            let id = id.map(|(_, id)| id.chars().take(ATTRIBUTE_CHARS_MAX).collect());
            batch.reject(id, (RejectReason::TooLong, "data".to_owned()), text)?;
        }
        Mode::Binary(attributes) => {
            let whole = whole(attributes, text)?;
            batch.event(&whole, 0)?;
            batch.parsed.whole = Some(whole);
        }
    }
    Ok(batch.parsed)
}

fn not_a_batch(reason: String) -> IngestError {
    IngestError::NotABatch { reason }
}

fn not_json(at: usize) -> IngestError {
    not_a_batch(format!("not JSON (byte {at})"))
}

/// The event whose attributes are headers and whose data is the body, as one object.
fn whole(attributes: &[(String, String)], data: &str) -> Result<String, IngestError> {
    serde_json::from_str::<&RawValue>(data).map_err(|error| not_json(error.column()))?;
    let mut whole = String::from("{");
    for (name, value) in attributes {
        whole.push_str(&format!("{}:{},", Value::from(name.as_str()), Value::from(value.as_str())));
    }
    whole.push_str("\"data\":");
    whole.push_str(data);
    whole.push('}');
    Ok(whole)
}

struct Batch<'c> {
    context: &'c SourceContext,
    parsed: ParsedEvents,
}

impl Batch<'_> {
    /// Takes the event that stands at `begin` of the body.
    fn event(&mut self, text: &str, begin: usize) -> Result<(), IngestError> {
        if text.len() > EVENT_BYTES_MAX {
            return self.reject(None, (RejectReason::TooLong, String::new()), text);
        }
        let mut item = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(item)) => item,
            Ok(_) => return self.reject(None, (RejectReason::NotAnObject, String::new()), text),
            Err(_) => return self.reject(None, (RejectReason::NotJson, String::new()), text),
        };
        let outcome = event(&mut item, self.context);
        let id = item.get("id").and_then(Value::as_str);
        let id: Option<String> = id.map(|id| id.chars().take(ATTRIBUTE_CHARS_MAX).collect());
        drop(item);
        let event = match outcome {
            Ok(event) => event,
            Err(fault) => return self.reject(id, fault, text),
        };
        let block = self.parsed.events.block(&Shared {
            municipality_code: event.municipality_code.as_str(),
            actor_role: &event.actor_role,
            actor_key: event.actor_key,
            source_channel: &event.source_channel,
            correlation_id: event.correlation_id.as_deref(),
            recorded_at: event.recorded_at,
        });
        block.push_event(&event)?;
        self.parsed.sent.push(Sent { id: id.unwrap_or_default(), place: (begin, begin + text.len()) });
        Ok(())
    }

    fn reject(&mut self, event_id: Option<String>, fault: Fault, text: &str) -> Result<(), IngestError> {
        if self.parsed.rejected.len() == REJECTED_MAX {
            return Err(IngestError::TooManyBad { n_max: REJECTED_MAX });
        }
        let (reason, field) = fault;
        let content = (text.len() <= CONTENT_BYTES_MAX).then(|| text.to_owned());
        self.parsed.rejected.push(Rejected { event_id, reason, field: Some(field), content, place: None });
        Ok(())
    }
}

type Fault = (RejectReason, String);

/// The event of an object, from which its data is taken.
fn event(item: &mut Map<String, Value>, context: &SourceContext) -> Result<Event, Fault> {
    let data = item.remove("data");
    let item = &*item;
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
    if context.sources.as_ref().is_some_and(|sources| !sources.iter().any(|pattern| pattern.allows(source))) {
        return Err((RejectReason::SourceNotAllowed, "source".to_owned()));
    }
    let event_type = events::get(name).ok_or_else(|| (RejectReason::UnknownType, "type".to_owned()))?;
    if !context.allowed.iter().any(|allowed| *allowed == event_type.name || *allowed == event_type.group) {
        return Err((RejectReason::TypeNotAllowed, "type".to_owned()));
    }
    let time = required("time")?;
    let occurred_at = instant::parse(time).ok_or_else(|| (RejectReason::TimeInvalid, "time".to_owned()))?;
    let payload = match data {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(data)) => data,
        Some(_) => return Err((RejectReason::IllTyped, "data".to_owned())),
    };
    let subject_id = optional("subject")?.map_or_else(|| id.to_owned(), str::to_owned);
    let event = Event {
        event_id: event_id(&context.municipality_code, source, id).into(),
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
    // Before the rest: here these have the names that the sender knows.
    let envelope = [
        ("subject", Some(&event.subject_id)),
        ("subjectkind", Some(&event.subject_kind)),
        ("facilityid", event.facility_id.as_ref()),
        ("programmecode", event.programme_code.as_ref()),
    ];
    for (name, text) in envelope.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        code::check(text).map_err(|why| (why.into(), name.to_owned()))?;
    }
    events::check(&event).map_err(fault)?;
    Ok(event)
}

/// What makes an event one is its source and id, whatever the id looks like, within its municipality: nobody can use
/// up another one's ids (decision 0015). Each part with its length, so that no two of them run together.
fn event_id(code: &MunicipalityCode, source: &str, id: &str) -> Uuid {
    let mut digest = Sha256::new();
    for part in [code.as_str(), source, id] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let bytes = digest.finalize().first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn fault(error: PayloadError) -> Fault {
    let data = |field: &str| format!("data.{field}");
    match error {
        PayloadError::UnknownEventType { .. } => (RejectReason::UnknownType, "type".to_owned()),
        PayloadError::UnknownField { field, .. } => (RejectReason::UnknownField, data(&field)),
        PayloadError::MissingField { field, .. } => (RejectReason::MissingField, data(&field)),
        PayloadError::WrongType { field, .. } => (RejectReason::IllTyped, data(&field)),
        PayloadError::Words { field, why, .. } => (why.into(), data(&field)),
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
            sources: Some(vec!["/call-centre".to_owned().try_into().unwrap()]),
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
        assert_eq!(parsed.events.n_events(), 0, "{change}");
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
        assert_eq!(stored(&structured), stored(&batched));
        assert_eq!(stored(&structured), stored(&binary));
        assert_eq!(batched.rejected[0].reason, RejectReason::NotAnObject);
    }

    /// Ids and marks of what will be stored.
    fn stored(parsed: &ParsedEvents) -> Vec<(u128, u64)> {
        parsed.events.blocks.iter().flat_map(|block| &block.marks).map(|mark| (mark.id, mark.mark)).collect()
    }

    /// Where the log refuses an event, its sender reads its own id, and what was sent is there to be kept.
    #[test]
    fn what_the_log_refuses_is_told_as_it_was_sent() {
        let (item, other) = (replied(), json!({"specversion": "1.0"}));
        let body = json!([other, item]).to_string();
        let attributes = ["specversion", "source", "id", "type", "time", "subject"];
        let headers = attributes.map(|name| (name.to_owned(), item[name].as_str().unwrap().to_owned()));
        let data = item["data"].to_string();
        for (body, mode) in [(body, Mode::Batched), (data, Mode::Binary(headers.to_vec()))] {
            let parsed = parse(body.as_bytes(), &mode, &context()).unwrap();
            let field = Some("event_id".to_owned());
            let refused =
                Rejected { event_id: None, reason: RejectReason::IdReused, field, content: None, place: Some(0) };
            let told = parsed.as_sent(refused, body.as_bytes());
            assert_eq!((told.event_id.as_deref(), told.field.as_deref()), (Some("a-1"), Some("id")), "{mode:?}");
            assert_eq!(serde_json::from_str::<Value>(&told.content.unwrap()).unwrap(), item, "{mode:?}");
        }
    }

    /// A batch is refused where its limit is passed: what follows is no JSON at all, and nobody has looked.
    #[test]
    fn a_batch_is_read_no_further_than_its_limits() {
        let reason = |body: &str| match parse(body.as_bytes(), &Mode::Batched, &context()) {
            Err(error) => error.to_string(),
            Ok(parsed) => panic!("{} good and {} bad", parsed.sent.len(), parsed.rejected.len()),
        };
        let good = format!("{},", replied());
        let many = format!("[{}{{\u{7}", good.repeat(EVENTS_MAX + 1));
        assert!(reason(&many).contains("more than 5000 events"));
        let bad = format!("[{}{{\u{7}", "[],".repeat(REJECTED_MAX + 1));
        assert_eq!(reason(&bad), IngestError::TooManyBad { n_max: REJECTED_MAX }.to_string());
        assert!(reason(&format!("[{}{{\u{7}", good.repeat(2))).contains("not JSON"));
    }

    /// However an event is nested, it costs the others nothing and no more memory than the limit of its text allows.
    #[test]
    fn a_nested_or_endless_event_is_refused_and_the_others_are_taken() {
        let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        let broad = format!("[{}0]", "0,".repeat(1 << 20));
        let within = "[".repeat(EVENT_BYTES_MAX / 2) + &"]".repeat(EVENT_BYTES_MAX / 2);
        let body = format!("[{deep},{within},{broad},{{\"data\":{broad}}},{{\"a\":}},{}]", replied());
        let parsed = parse(body.as_bytes(), &Mode::Batched, &context()).unwrap();
        let reasons: Vec<RejectReason> = parsed.rejected.iter().map(|refused| refused.reason).collect();
        use RejectReason::{NotJson, TooLong};
        assert_eq!(reasons, [TooLong, NotJson, TooLong, TooLong, NotJson]);
        assert_eq!(stored(&parsed).len(), 1);
        let kept: usize = parsed.rejected.iter().filter_map(|refused| refused.content.as_ref()).map(String::len).sum();
        assert!(kept <= REJECTED_MAX * CONTENT_BYTES_MAX);
        let binary = Mode::Binary(Vec::new());
        for (body, mode) in [(&deep, &Mode::Structured), (&broad, &binary)] {
            let parsed = parse(body.as_bytes(), mode, &context()).unwrap();
            assert_eq!(parsed.rejected[0].reason, TooLong);
        }
    }

    #[test]
    fn an_id_is_an_event_once_per_municipality_and_source() {
        let [chiyoda, chuo]: [MunicipalityCode; 2] = ["131016", "131032"].map(|code| code.parse().unwrap());
        assert_eq!(event_id(&chiyoda, "/a", "1"), event_id(&chiyoda, "/a", "1"));
        assert_ne!(event_id(&chiyoda, "/a", "1"), event_id(&chuo, "/a", "1"));
        assert_ne!(event_id(&chiyoda, "/a", "1"), event_id(&chiyoda, "/b", "1"));
        assert_ne!(event_id(&chiyoda, "/a", "b1"), event_id(&chiyoda, "/ab", "1"));
        assert_ne!(event_id(&chiyoda, "/a\0", "b"), event_id(&chiyoda, "/a", "\0b"));
        let own = "01932b5c-0000-7000-8000-000000000001";
        assert_ne!(event_id(&chiyoda, "/a", own), event_id(&chiyoda, "/b", own), "one source's UUID is not another's");
        assert_eq!(event_id(&chiyoda, "/a", own).get_version_num(), 8);
    }

    #[test]
    fn each_fault_has_its_reason() {
        for (change, expected) in [
            (json!({"specversion": "0.3"}), RejectReason::IllTyped),
            (json!({"id": null}), RejectReason::MissingField),
            (json!({"time": "yesterday"}), RejectReason::TimeInvalid),
            (json!({"type": "support.sung"}), RejectReason::UnknownType),
            (json!({"type": "coupon.used"}), RejectReason::TypeNotAllowed),
            (json!({"source": "/call-centre/night"}), RejectReason::SourceNotAllowed),
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
