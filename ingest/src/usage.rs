//! From what a client sent to rows of the log: app usage (events.md 5.9).
//!
//! The client says what happened on its device. Who it is and which municipality it belongs to is
//! the server's knowledge; a client that tries to say so is refused, event by event. One bad event
//! never costs the others.

mod shape;

use std::borrow::Cow;

use serde_json::Value;
use todoke_domain::{
    MunicipalityCode, Timestamp,
    catalogue::{
        code,
        events::{DataClass, Field, FieldType, LakeUse},
    },
};
use uuid::Uuid;

use self::shape::{Part, Shape};
use crate::{
    IngestError, RejectReason, Rejected, instant,
    json::{Malformed, Reader, Scan},
    plan::Plan,
    row::{Block, EncodedEvents, Head, RowWriter, Shared},
};

/// Events in one JSON batch, at most.
pub const EVENTS_MAX: usize = 500;
/// Lines of one NDJSON batch, at most.
pub const LINES_MAX: usize = 20_000;
/// Milliseconds between the time in an event's id and the event, at most.
const ID_TIME_OFF_MAX_MS: u64 = 86_400_000;
/// Bytes of an event's text, usually.
const EVENT_BYTES_USUAL: usize = 160;
/// Length of a list or an object in a field: one of codes fits, and a tree made of it is small.
const NESTED_BYTES_MAX: usize = 16_384;
/// Items of a list of codes.
const LIST_ITEMS_MAX: usize = 32;
/// Characters counted of text that itself is not kept.
const TEXT_CHARS_MAX: usize = 1_000;
/// Bytes of a refused event that are kept for whoever looks at it.
pub(crate) const CONTENT_BYTES_MAX: usize = 8_192;

/// What the server knows about the sender.
#[derive(Clone, Debug)]
pub struct UsageContext {
    /// The wall the events stay behind.
    pub municipality_code: MunicipalityCode,
    /// The role's code; `guardian` for a device without sign-in in the guardians' app.
    pub role: String,
    /// Pseudonym of the signed-in person.
    pub actor_key: Option<i64>,
    /// The same, when the person is a guardian or proxy guardian; fills `guardian_key`.
    pub guardian_key: Option<i64>,
    /// `app`, `web`, `dashboard` or `console`.
    pub source_channel: String,
    /// The person agrees to the collection of what happened from then on; what happened before is dropped.
    pub agreed_since: Option<Timestamp>,
    /// Id of the request.
    pub correlation_id: Option<String>,
    /// When the request arrived.
    pub received_at: Timestamp,
}

/// A batch, event by event.
#[derive(Clone, Debug, Default)]
pub struct ParsedUsage {
    /// Events to store.
    pub events: EncodedEvents,
    /// Events that are not acceptable as they are.
    pub rejected: Vec<Rejected>,
    /// Where each of `events` stands in the body: first byte and the one after the last.
    pub places: Vec<(usize, usize)>,
    /// The pseudonym of the device, if the batch named it.
    pub device_key: Option<i64>,
    /// Events from before the consent. Nothing else is known of them any more.
    pub n_not_agreed: u32,
}

/// Reads `{"device_key"?: number or text, "events": [{"event_id", "event_type", "occurred_at", …fields}]}`.
///
/// Errors: [`IngestError::NotABatch`] when the body is not of this form or has more than [`EVENTS_MAX`] events.
pub fn parse(raw: &[u8], context: &UsageContext) -> Result<ParsedUsage, IngestError> {
    let text = text(raw)?;
    let mut batch = Batch::new(context, raw.len());
    let mut reader = Reader::new(text);
    let (mut has_key, mut events_at) = (false, None::<Reader<'_>>);
    let not_json = |Malformed { at }: Malformed| not_a_batch(&format!("not JSON (byte {at})"));
    if reader.peek() != Some(b'{') {
        return Err(not_a_batch("not an object"));
    }
    reader.expect(b'{').map_err(not_json)?;
    let mut more = !reader.take(b'}');
    while more {
        let name = reader.string().map_err(not_json)?;
        reader.expect(b':').map_err(not_json)?;
        match name.as_ref() {
            // Once: each time the events would be read again.
            "device_key" if has_key => return Err(not_a_batch("`device_key` twice")),
            "device_key" => {
                has_key = true;
                batch.device_key = device_key(&reader.value().map_err(not_json)?)?;
                // The key came after its events: they are read once more, knowing it.
                if let Some(mut again) = events_at.clone().filter(|_| batch.device_key.is_some()) {
                    batch.clear();
                    batch.list(&mut again)?;
                }
            }
            "events" if events_at.is_some() => return Err(not_a_batch("`events` twice")),
            "events" => {
                if reader.peek() != Some(b'[') {
                    reader.value().map_err(not_json)?;
                    return Err(not_a_batch("`events` is not a list"));
                }
                events_at = Some(reader.clone());
                batch.list(&mut reader)?;
            }
            _ => return Err(not_a_batch("only `device_key` and `events` are known")),
        }
        more = !reader.take(b'}');
        if more {
            reader.expect(b',').map_err(not_json)?;
        }
    }
    reader.end().map_err(not_json)?;
    if events_at.is_none() {
        return Err(not_a_batch("`events` is not a list"));
    }
    Ok(batch.finish())
}

/// Reads NDJSON: an event per line, with the fields it has in [`parse`]. A line of only a
/// `device_key` holds for the lines after it; empty lines are skipped. A line that cannot be read is
/// one bad event.
///
/// Errors: [`IngestError::NotABatch`] when the body is no text or has more than [`LINES_MAX`] lines.
pub fn parse_lines(raw: &[u8], context: &UsageContext) -> Result<ParsedUsage, IngestError> {
    let text = text(raw)?;
    let mut batch = Batch::new(context, raw.len());
    for (n, line) in text.lines().enumerate() {
        if n >= LINES_MAX {
            return Err(not_a_batch(&format!("more than {LINES_MAX} lines")));
        }
        let mut reader = Reader::new(line);
        match reader.peek() {
            None => continue,
            Some(b'{') => {}
            Some(_) => {
                batch.reject(None, RejectReason::NotAnObject, None, line);
                continue;
            }
        }
        let read = reader.object(&mut batch.members).and_then(|is_whole| reader.end().map(|()| is_whole));
        if let Ok(is_whole) = read {
            match batch.members.as_slice() {
                [(name, value)] if name == "device_key" => batch.device_key = device_key(value)?,
                _ => batch.event(line, line.as_ptr().addr() - text.as_ptr().addr(), is_whole),
            }
        } else {
            batch.reject(None, RejectReason::NotJson, None, line);
        }
    }
    Ok(batch.finish())
}

fn not_a_batch(reason: &str) -> IngestError {
    IngestError::NotABatch { reason: reason.to_owned() }
}

fn text(raw: &[u8]) -> Result<&str, IngestError> {
    std::str::from_utf8(raw).map_err(|error| not_a_batch(&format!("not UTF-8 (byte {})", error.valid_up_to())))
}

/// A pseudonym of a device: a number, or its decimal text for languages whose numbers are inexact.
fn device_key(value: &Scan<'_>) -> Result<Option<i64>, IngestError> {
    let key = match value {
        Scan::Null => return Ok(None),
        Scan::Text(text) => text.parse().ok(),
        other => other.as_i64(),
    };
    match key.filter(|key| *key > 0) {
        Some(key) => Ok(Some(key)),
        None => Err(not_a_batch("`device_key` is not a positive integer")),
    }
}

/// What is wrong with an event.
pub(crate) struct Fault {
    pub(crate) reason: RejectReason,
    pub(crate) field: Option<String>,
}

impl Fault {
    pub(crate) fn new(reason: RejectReason, field: &str) -> Self {
        // A field's name comes from the client: shown back shortened, never as long as it likes.
        Self { reason, field: Some(field.chars().take(code::CHARS_MAX).collect()) }
    }
}

/// The value of a field that will be stored.
pub(crate) enum Slot<'a> {
    Sent(Scan<'a>),
    Int(i64),
    Code(&'static str),
}

/// Envelope fields a client may give besides id, type and time.
struct Envelope<'m> {
    event_id: Uuid,
    occurred_at: Timestamp,
    plan: &'static Plan,
    schema_version: u16,
    facility_id: Option<&'m str>,
    programme_code: Option<&'m str>,
}

struct Batch<'c, 't> {
    context: &'c UsageContext,
    device_key: Option<i64>,
    block: Block,
    rejected: Vec<Rejected>,
    places: Vec<(usize, usize)>,
    n_not_agreed: u32,
    // Kept from event to event: their memory is.
    members: Vec<(Cow<'t, str>, Scan<'t>)>,
    shape: Shape,
    slots: Vec<Option<Slot<'t>>>,
}

impl<'c, 't> Batch<'c, 't> {
    fn new(context: &'c UsageContext, body_bytes: usize) -> Self {
        let mut block = Block::new(&Shared {
            municipality_code: context.municipality_code.as_str(),
            actor_role: &context.role,
            actor_key: context.actor_key,
            source_channel: &context.source_channel,
            correlation_id: context.correlation_id.as_deref(),
            recorded_at: context.received_at,
        });
        // An event takes less than half of its text. Room for all at once: growing by doubling would copy every
        // row twice and leave up to half of the memory unused while the batch waits for its commit.
        block.rows.reserve(body_bytes / 2);
        block.marks.reserve(body_bytes / EVENT_BYTES_USUAL);
        Self {
            context,
            device_key: None,
            block,
            rejected: Vec::new(),
            places: Vec::new(),
            n_not_agreed: 0,
            members: Vec::new(),
            shape: Shape::default(),
            slots: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.block.rows.clear();
        self.block.marks.clear();
        self.rejected.clear();
        self.places.clear();
        self.n_not_agreed = 0;
    }

    fn finish(self) -> ParsedUsage {
        let blocks = if self.block.marks.is_empty() { Vec::new() } else { vec![self.block] };
        ParsedUsage {
            events: EncodedEvents { blocks },
            rejected: self.rejected,
            places: self.places,
            device_key: self.device_key,
            n_not_agreed: self.n_not_agreed,
        }
    }

    fn list(&mut self, reader: &mut Reader<'t>) -> Result<(), IngestError> {
        let not_json = |Malformed { at }: Malformed| not_a_batch(&format!("not JSON (byte {at})"));
        reader.expect(b'[').map_err(not_json)?;
        if reader.take(b']') {
            return Ok(());
        }
        for _ in 0..EVENTS_MAX {
            let is_object = reader.peek() == Some(b'{');
            let begin = reader.at();
            if is_object {
                let is_whole = reader.object(&mut self.members).map_err(not_json)?;
                self.event(reader.since(begin), begin, is_whole);
            } else {
                reader.value().map_err(not_json)?;
                self.reject(None, RejectReason::NotAnObject, None, reader.since(begin));
            }
            if reader.take(b']') {
                return Ok(());
            }
            reader.expect(b',').map_err(not_json)?;
        }
        Err(not_a_batch(&format!("more than {EVENTS_MAX} events")))
    }

    fn reject(&mut self, event_id: Option<String>, reason: RejectReason, field: Option<String>, content: &str) {
        let content = (content.len() <= CONTENT_BYTES_MAX).then(|| content.to_owned());
        self.rejected.push(Rejected { event_id, reason, field, content, place: None });
    }

    /// Takes the event whose members were just read, if these are all.
    fn event(&mut self, content: &str, begin: usize, is_whole: bool) {
        if !is_whole {
            return self.reject(None, RejectReason::TooLong, None, content);
        }
        let members = std::mem::take(&mut self.members);
        let mut shape = std::mem::take(&mut self.shape);
        shape.fit(&members);
        if self.is_before_consent(&members, &shape) {
            self.n_not_agreed += 1;
            (self.shape, self.members) = (shape, members);
            return;
        }
        let encoded = self.encode(&members, &shape);
        self.shape = shape;
        if encoded.is_ok() {
            self.places.push((begin, begin + content.len()));
        }
        if let Err(Fault { reason, field }) = encoded {
            let id = members.iter().rfind(|(name, _)| name == "event_id").and_then(|(_, value)| value.as_str());
            let id = id.filter(|id| id.len() <= 36).map(str::to_owned);
            self.reject(id, reason, field, content);
        }
        self.members = members;
    }

    /// Also one that is bad: it would be held with its content.
    fn is_before_consent(&self, members: &[(Cow<'t, str>, Scan<'t>)], shape: &Shape) -> bool {
        self.context.agreed_since.is_some_and(|since| {
            let occurred_at = shape.occurred_at.and_then(|at| instant::parse(members[at].1.as_str()?));
            occurred_at.is_some_and(|occurred_at| occurred_at < since)
        })
    }

    fn encode(&mut self, members: &[(Cow<'t, str>, Scan<'t>)], shape: &Shape) -> Result<(), Fault> {
        let envelope = envelope(members, shape)?;
        let plan = envelope.plan;
        self.slots.clear();
        self.slots.resize_with(plan.fields.len(), || None);
        fill(&mut self.slots, members, &shape.parts, plan)?;
        let mut server = |field: Option<usize>, value: Option<Slot<'t>>| {
            if let (Some(field), Some(value)) = (field, value) {
                self.slots[field] = Some(value);
            }
        };
        server(plan.guardian_key, self.context.guardian_key.map(Slot::Int));
        server(plan.device_key, self.device_key.map(Slot::Int));
        let household = matches!(self.context.role.as_str(), "guardian" | "proxy_guardian");
        server(plan.platform, (!household).then_some(Slot::Code("dashboard")));
        let missing = plan.fields.iter().zip(&self.slots);
        let missing = missing.into_iter().find(|(f, slot)| f.lake == LakeUse::Yes && !f.nullable && slot.is_none());
        if let Some((field, _)) = missing {
            return Err(Fault::new(RejectReason::MissingField, &field.name));
        }
        let head = Head {
            event_id: envelope.event_id,
            occurred_at: envelope.occurred_at,
            event_type: plan.place,
            schema_version: envelope.schema_version,
            recorded_offline: false,
            facility_id: envelope.facility_id,
            programme_code: envelope.programme_code,
            causation_id: None,
            subject_seq: 0,
            subject: plan.app_subject(&self.slots),
        };
        plan.check_where(&head)?;
        let mut row = self.block.row(&head);
        for (field, slot) in self.slots.iter().enumerate() {
            if let (Some(slot), Ok(field)) = (slot, u8::try_from(field)) {
                slot.write(field, &mut row);
            }
        }
        row.end();
        Ok(())
    }
}

impl Slot<'_> {
    pub(crate) fn write(&self, field: u8, row: &mut RowWriter<'_>) {
        match self {
            Self::Int(value) => row.int(field, *value),
            Self::Code(code) => row.text(field, code),
            Self::Sent(Scan::Text(text)) => row.text(field, text),
            Self::Sent(Scan::Bool(value)) => row.bool(field, *value),
            Self::Sent(Scan::Null) => {}
            Self::Sent(scan @ (Scan::Number(_) | Scan::Nested(_))) => match scan.as_i64() {
                Some(value) => row.int(field, value),
                None => row.value(field, &scan.to_value()),
            },
        }
    }
}

fn envelope<'m>(members: &'m [(Cow<'_, str>, Scan<'_>)], shape: &Shape) -> Result<Envelope<'m>, Fault> {
    let of = |place: Option<usize>| place.map(|at| &members[at].1);
    let event_id = of(shape.event_id)
        .and_then(|value| uuid_of(value.as_str()?))
        .filter(|id| !id.is_nil())
        .ok_or_else(|| Fault::new(RejectReason::IdInvalid, "event_id"))?;
    let plan = shape.plan.ok_or_else(|| Fault::new(RejectReason::UnknownType, "event_type"))?;
    let occurred_at = of(shape.occurred_at)
        .and_then(|value| instant::parse(value.as_str()?))
        .ok_or_else(|| Fault::new(RejectReason::TimeInvalid, "occurred_at"))?;
    let schema_version = match of(shape.schema_version) {
        None | Some(Scan::Null) => 1,
        Some(value) => value
            .as_i64()
            .and_then(|v| u16::try_from(v).ok())
            .ok_or_else(|| Fault::new(RejectReason::IllTyped, "schema_version"))?,
    };
    let facility_id = optional_code("facility_id", of(shape.facility_id))?;
    let programme_code = optional_code("programme_code", of(shape.programme_code))?;
    if !carries_its_time(event_id, occurred_at) {
        return Err(Fault::new(RejectReason::IdInvalid, "event_id"));
    }
    Ok(Envelope { event_id, occurred_at, plan, schema_version, facility_id, programme_code })
}

/// Whether an id is a UUIDv7 that was made about when its event happened. Whoever looks for an id knows then which
/// days it can be in (decision 0015).
fn carries_its_time(id: Uuid, occurred_at: Timestamp) -> bool {
    let made_ms = (id.as_u128() >> 80) as i64;
    id.get_version_num() == 7 && made_ms.abs_diff(occurred_at.as_micros().div_euclid(1_000)) <= ID_TIME_OFF_MAX_MS
}

/// Where the bytes of an id begin in its hyphenated text.
const BYTES_OF_TEXT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// The value of each hexadecimal digit; of any other byte, one that no digit has.
const DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut n: u8 = 0;
    while n < 16 {
        digits[b"0123456789abcdef"[n as usize] as usize] = n;
        digits[b"0123456789ABCDEF"[n as usize] as usize] = n;
        n += 1;
    }
    digits
};

/// The hyphenated form is read here, what else may be an id by the library.
pub(crate) fn uuid_of(text: &str) -> Option<Uuid> {
    let text_bytes: &[u8; 36] = match text.as_bytes().try_into() {
        Ok(bytes) => bytes,
        Err(_) => return Uuid::try_parse(text).ok(),
    };
    let (mut id, mut all) = ([0; 16], 0);
    for (byte, at) in id.iter_mut().zip(BYTES_OF_TEXT) {
        let (high, low) = (DIGITS[usize::from(text_bytes[at])], DIGITS[usize::from(text_bytes[at + 1])]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    let hyphens = [8, 13, 18, 23].iter().all(|at| text_bytes[*at] == b'-');
    (hyphens && all < 16).then(|| Uuid::from_bytes(id))
}

/// Checks what was sent against the catalogue and puts it into the type's slots.
fn fill<'t>(
    slots: &mut [Option<Slot<'t>>],
    members: &[(Cow<'t, str>, Scan<'t>)],
    parts: &[Part],
    plan: &'static Plan,
) -> Result<(), Fault> {
    for ((name, value), part) in members.iter().zip(parts) {
        let at = match part {
            Part::Envelope => continue,
            Part::Refused(reason) => return Err(Fault::new(*reason, name)),
            Part::Field(at) => *at,
        };
        let field = &plan.fields[at];
        if *value == Scan::Null {
            continue;
        }
        if field.lake == LakeUse::Yes {
            check_value(field, value)?;
            slots[at] = Some(Slot::Sent(value.clone()));
        } else if field.class == DataClass::E
            && let Some(at) = plan.text_length
        {
            // Words somebody typed stay out; how many characters they had may be known.
            let n_chars = value.as_str().map_or(0, |text| text.chars().take(TEXT_CHARS_MAX).count());
            slots[at] = Some(Slot::Int(i64::try_from(n_chars).unwrap_or(i64::MAX)));
        }
    }
    Ok(())
}

fn check_value(field: &Field, value: &Scan<'_>) -> Result<(), Fault> {
    let ill_typed = || Fault::new(RejectReason::IllTyped, &field.name);
    if matches!(value, Scan::Nested(text) if text.len() > NESTED_BYTES_MAX) {
        return Err(Fault::new(RejectReason::TooLong, &field.name));
    }
    match &field.ty {
        FieldType::Str | FieldType::Id | FieldType::Text => check_text(field, value.as_str().ok_or_else(ill_typed)?),
        FieldType::List(item) if matches!(**item, FieldType::Str | FieldType::Id) => {
            let Value::Array(items) = value.to_value() else { return Err(ill_typed()) };
            if items.len() > LIST_ITEMS_MAX {
                return Err(Fault::new(RejectReason::TooLong, &field.name));
            }
            items.iter().try_for_each(|item| check_code(&field.name, item.as_str().ok_or_else(ill_typed)?))
        }
        ty => {
            let number = value.as_i64();
            if number.is_some_and(|number| number < 0) && !field.signed {
                return Err(ill_typed());
            }
            let fits = match (ty, number) {
                (FieldType::I64 | FieldType::Yen | FieldType::Ts, Some(_)) => true,
                (FieldType::N | FieldType::Min | FieldType::Units, Some(number)) => i32::try_from(number).is_ok(),
                (FieldType::Bool, None) => matches!(value, Scan::Bool(_)),
                _ => todoke_lake::value_fits(ty, &value.to_value()),
            };
            if fits { Ok(()) } else { Err(ill_typed()) }
        }
    }
}

pub(crate) fn optional_code<'m>(name: &str, value: Option<&'m Scan<'_>>) -> Result<Option<&'m str>, Fault> {
    match value {
        None | Some(Scan::Null) => Ok(None),
        Some(value) => {
            let text = value.as_str().ok_or_else(|| Fault::new(RejectReason::IllTyped, name))?;
            check_code(name, text).map(|()| Some(text))
        }
    }
}

/// A text of a field: one of its codes, if the catalogue knows them.
pub(crate) fn check_text(field: &Field, text: &str) -> Result<(), Fault> {
    match field.codes.as_slice() {
        [] => check_code(&field.name, text),
        codes if codes.iter().any(|code| code == text) => Ok(()),
        _ => Err(Fault::new(RejectReason::IllTyped, &field.name)),
    }
}

fn check_code(name: &str, text: &str) -> Result<(), Fault> {
    code::check(text).map_err(|why| Fault::new(why.into(), name))
}

#[cfg(test)]
mod tests;
