//! Historical events, from files: each record is one event of the catalogue with its envelope, as a
//! row of the lake has them.
//!
//! Whatever the format, records become lines of JSON ([`Lines`]) and are read by the same rules. They
//! are those of the doors but for age: years late is the point of history.

mod csv;
mod file;
mod lines;

use std::{borrow::Cow, time::Duration};

use serde_json::Value;
use todoke_domain::{
    MunicipalityCode, Timestamp,
    catalogue::{
        code,
        events::{self, Field, FieldType, LakeUse},
    },
};
use uuid::Uuid;

pub use self::{
    file::{HistoryError, HistoryFile, HistoryFormat},
    lines::Lines,
};
use crate::{
    EncodedEvents, RejectReason, Rejected, instant,
    json::{Reader, Scan},
    plan::Plan,
    row::{Head, Shared, Subject},
    usage::{CONTENT_BYTES_MAX, Fault, Slot, check_text, optional_code, uuid_of},
    window::{Known, Window},
};

/// How far in the future an event may lie, for clocks that are wrong.
const FUTURE_MAX: Duration = Duration::from_secs(86_400);
/// The year 1: who reads the lake knows no days before.
const FIRST: Timestamp = Timestamp::from_micros(-62_135_596_800_000_000);
/// Ids remembered within a run, about 50 bytes of memory each; older repetitions are found at compaction.
const IDS_MAX: usize = 3_600_000;

/// The records of a piece of a file, one by one.
#[derive(Clone, Debug, Default)]
pub struct ParsedHistory {
    /// Events to store.
    pub events: EncodedEvents,
    /// Events that came before in this run.
    pub repeated: u64,
    /// Records that are not acceptable as they are, each with its place in the piece.
    pub rejected: Vec<(usize, Rejected)>,
}

/// Reads the records of one run: what came before in it is a repetition.
#[derive(Debug)]
pub struct HistoryReader {
    municipality_code: MunicipalityCode,
    window: Window,
}

impl HistoryReader {
    /// A reader of events of this municipality; a record that names another one is a bad record.
    pub fn new(municipality_code: MunicipalityCode) -> Self {
        Self { municipality_code, window: Window::new(IDS_MAX) }
    }

    /// Reads records; one bad record never costs the others.
    pub fn read(&mut self, lines: &Lines, now: Timestamp) -> ParsedHistory {
        let mut parsed = ParsedHistory::default();
        // Kept from record to record: their memory is.
        let (mut members, mut slots) = (Vec::new(), Vec::new());
        for (place, (line, is_readable)) in lines.iter().enumerate() {
            members.clear();
            let read = if is_readable { object(line, &mut members) } else { Err(RejectReason::NotJson) };
            let outcome = read.map_err(|reason| Fault { reason, field: None }).and_then(|()| {
                encode(&self.municipality_code, &members, &mut slots, now, &mut parsed.events)?;
                self.meet(&mut parsed)
            });
            if let Err(Fault { reason, field }) = outcome {
                let id = members.iter().rfind(|(name, _)| name == "event_id").and_then(|(_, value)| value.as_str());
                let event_id = id.filter(|id| id.len() <= 36).map(str::to_owned);
                let content = (line.len() <= CONTENT_BYTES_MAX).then(|| line.to_owned());
                parsed.rejected.push((place, Rejected { event_id, reason, field, content, place: None }));
            }
        }
        self.window.age();
        parsed
    }

    /// Takes the last event out again if its id came before.
    fn meet(&mut self, parsed: &mut ParsedHistory) -> Result<(), Fault> {
        let Some(block) = parsed.events.blocks.last_mut() else { return Ok(()) };
        let Some(mark) = block.marks.last() else { return Ok(()) };
        match self.window.meet(mark.id, mark.mark) {
            Known::New => Ok(()),
            Known::Same => {
                block.take_back();
                parsed.repeated += 1;
                Ok(())
            }
            Known::Other => {
                block.take_back();
                Err(Fault::new(RejectReason::IdReused, "event_id"))
            }
        }
    }
}

/// The event of one record that was kept as JSON, if it is acceptable now.
pub fn read_again(record: &str, code: &MunicipalityCode, now: Timestamp) -> Option<EncodedEvents> {
    let mut lines = Lines::default();
    lines.push(record);
    let parsed = HistoryReader::new(code.clone()).read(&lines, now);
    (parsed.events.n_events() == 1).then_some(parsed.events)
}

fn object<'t>(line: &'t str, members: &mut Vec<(Cow<'t, str>, Scan<'t>)>) -> Result<(), RejectReason> {
    let mut reader = Reader::new(line);
    if reader.peek() != Some(b'{') {
        // Any other value is JSON all the same.
        let is_json = reader.value().and_then(|_| reader.end()).is_ok();
        return Err(if is_json { RejectReason::NotAnObject } else { RejectReason::NotJson });
    }
    let is_whole = reader.object(members).map_err(|_| RejectReason::NotJson)?;
    reader.end().map_err(|_| RejectReason::NotJson)?;
    if is_whole { Ok(()) } else { Err(RejectReason::TooLong) }
}

/// The envelope's members as they stand in a record.
#[derive(Default)]
struct Named<'m, 't> {
    event_id: Option<&'m Scan<'t>>,
    event_type: Option<&'m Scan<'t>>,
    schema_version: Option<&'m Scan<'t>>,
    occurred_at: Option<&'m Scan<'t>>,
    recorded_at: Option<&'m Scan<'t>>,
    municipality_code: Option<&'m Scan<'t>>,
    actor_role: Option<&'m Scan<'t>>,
    actor_key: Option<&'m Scan<'t>>,
    source_channel: Option<&'m Scan<'t>>,
    subject_kind: Option<&'m Scan<'t>>,
    subject_id: Option<&'m Scan<'t>>,
    subject_seq: Option<&'m Scan<'t>>,
    correlation_id: Option<&'m Scan<'t>>,
    causation_id: Option<&'m Scan<'t>>,
    recorded_offline: Option<&'m Scan<'t>>,
    programme_code: Option<&'m Scan<'t>>,
    facility_id: Option<&'m Scan<'t>>,
}

impl<'m, 't> Named<'m, 't> {
    fn of(members: &'m [(Cow<'t, str>, Scan<'t>)]) -> Self {
        let mut named = Self::default();
        for (name, value) in members.iter().filter(|(_, value)| *value != Scan::Null) {
            let place = match name.as_ref() {
                "event_id" => &mut named.event_id,
                "event_type" => &mut named.event_type,
                "schema_version" => &mut named.schema_version,
                "occurred_at" => &mut named.occurred_at,
                "recorded_at" => &mut named.recorded_at,
                "municipality_code" => &mut named.municipality_code,
                "actor_role" => &mut named.actor_role,
                "actor_key" => &mut named.actor_key,
                "source_channel" => &mut named.source_channel,
                "subject_kind" => &mut named.subject_kind,
                "subject_id" => &mut named.subject_id,
                "subject_seq" => &mut named.subject_seq,
                "correlation_id" => &mut named.correlation_id,
                "causation_id" => &mut named.causation_id,
                "recorded_offline" => &mut named.recorded_offline,
                "programme_code" => &mut named.programme_code,
                "facility_id" => &mut named.facility_id,
                _ => continue,
            };
            *place = Some(value);
        }
        named
    }
}

/// Names of the envelope's columns. The last three are made from the others.
fn is_envelope(name: &str) -> bool {
    matches!(
        name,
        "event_id"
            | "event_type"
            | "schema_version"
            | "occurred_at"
            | "recorded_at"
            | "municipality_code"
            | "actor_role"
            | "actor_key"
            | "source_channel"
            | "subject_kind"
            | "subject_id"
            | "subject_seq"
            | "correlation_id"
            | "causation_id"
            | "recorded_offline"
            | "programme_code"
            | "facility_id"
            | "ingested_at"
            | "fiscal_year"
            | "jst_date"
    )
}

struct Envelope<'m> {
    event_id: Uuid,
    plan: &'static Plan,
    schema_version: u16,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    actor_role: &'m str,
    actor_key: Option<i64>,
    source_channel: &'m str,
    /// Kind and id.
    subject: Option<(&'m str, &'m str)>,
    subject_seq: u64,
    correlation_id: Option<&'m str>,
    causation_id: Option<&'m str>,
    recorded_offline: bool,
    programme_code: Option<&'m str>,
    facility_id: Option<&'m str>,
}

fn envelope<'m>(named: &Named<'m, '_>, code: &MunicipalityCode, now: Timestamp) -> Result<Envelope<'m>, Fault> {
    let event_id = named
        .event_id
        .and_then(|value| uuid_of(value.as_str()?))
        .filter(|id| !id.is_nil())
        .ok_or_else(|| Fault::new(RejectReason::IdInvalid, "event_id"))?;
    let plan = named
        .event_type
        .and_then(|value| Plan::of(value.as_str()?))
        .ok_or_else(|| Fault::new(RejectReason::UnknownType, "event_type"))?;
    if named.municipality_code.is_some_and(|value| value.as_str() != Some(code.as_str())) {
        return Err(Fault::new(RejectReason::ForbiddenField, "municipality_code"));
    }
    let occurred_at = time("occurred_at", named.occurred_at, now)?
        .ok_or_else(|| Fault::new(RejectReason::TimeInvalid, "occurred_at"))?;
    let subject_kind = optional_code("subject_kind", named.subject_kind)?;
    let subject_id = optional_code("subject_id", named.subject_id)?;
    let subject = match (subject_kind, subject_id) {
        (Some(kind), Some(id)) => Some((kind, id)),
        (None, None) => None,
        (None, Some(_)) => return Err(Fault::new(RejectReason::MissingField, "subject_kind")),
        (Some(_), None) => return Err(Fault::new(RejectReason::MissingField, "subject_id")),
    };
    Ok(Envelope {
        event_id,
        plan,
        schema_version: number("schema_version", named.schema_version)?.unwrap_or(1),
        occurred_at,
        recorded_at: time("recorded_at", named.recorded_at, now)?.unwrap_or(occurred_at),
        actor_role: optional_code("actor_role", named.actor_role)?.unwrap_or("system"),
        actor_key: key("actor_key", named.actor_key)?,
        source_channel: optional_code("source_channel", named.source_channel)?.unwrap_or("import"),
        subject,
        subject_seq: number("subject_seq", named.subject_seq)?.unwrap_or(0),
        correlation_id: optional_code("correlation_id", named.correlation_id)?,
        causation_id: optional_code("causation_id", named.causation_id)?,
        recorded_offline: match named.recorded_offline {
            None => false,
            Some(Scan::Bool(value)) => *value,
            Some(_) => return Err(Fault::new(RejectReason::IllTyped, "recorded_offline")),
        },
        programme_code: optional_code("programme_code", named.programme_code)?,
        facility_id: optional_code("facility_id", named.facility_id)?,
    })
}

fn time(name: &str, value: Option<&Scan<'_>>, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
    let Some(value) = value else { return Ok(None) };
    let at = value.as_str().and_then(instant::parse).filter(|at| *at >= FIRST);
    let at = at.ok_or_else(|| Fault::new(RejectReason::TimeInvalid, name))?;
    if at > now.plus(FUTURE_MAX) {
        return Err(Fault::new(RejectReason::InFuture, name));
    }
    Ok(Some(at))
}

/// A number of the envelope; none of them is negative.
fn number<N: TryFrom<i64>>(name: &str, value: Option<&Scan<'_>>) -> Result<Option<N>, Fault> {
    let Some(value) = value else { return Ok(None) };
    let number = value.as_i64().and_then(|number| N::try_from(number).ok());
    number.map(Some).ok_or_else(|| Fault::new(RejectReason::IllTyped, name))
}

fn key(name: &str, value: Option<&Scan<'_>>) -> Result<Option<i64>, Fault> {
    let Some(value) = value else { return Ok(None) };
    let key = value.as_i64().filter(|key| *key > 0);
    key.map(Some).ok_or_else(|| Fault::new(RejectReason::IllTyped, name))
}

/// Adds the event of a record to `events`.
fn encode<'t>(
    code: &MunicipalityCode,
    members: &[(Cow<'t, str>, Scan<'t>)],
    slots: &mut Vec<Option<Slot<'t>>>,
    now: Timestamp,
    events: &mut EncodedEvents,
) -> Result<(), Fault> {
    let envelope = envelope(&Named::of(members), code, now)?;
    let plan = envelope.plan;
    slots.clear();
    slots.resize_with(plan.fields.len(), || None);
    fill(slots, members, plan)?;
    check_whole(slots, plan)?;
    let own_id;
    let subject = match envelope.subject {
        Some((kind, id)) => Subject::Named { kind, id },
        None if plan.is_app() => plan.app_subject(slots),
        None => {
            own_id = envelope.event_id.to_string();
            Subject::Named { kind: plan.group, id: &own_id }
        }
    };
    let head = Head {
        event_id: envelope.event_id,
        occurred_at: envelope.occurred_at,
        event_type: plan.place,
        schema_version: envelope.schema_version,
        recorded_offline: envelope.recorded_offline,
        facility_id: envelope.facility_id,
        programme_code: envelope.programme_code,
        causation_id: envelope.causation_id,
        subject_seq: envelope.subject_seq,
        subject,
    };
    plan.check_where(&head)?;
    let block = events.block(&Shared {
        municipality_code: code.as_str(),
        actor_role: envelope.actor_role,
        actor_key: envelope.actor_key,
        source_channel: envelope.source_channel,
        correlation_id: envelope.correlation_id,
        recorded_at: envelope.recorded_at,
    });
    let mut row = block.row(&head);
    for (field, slot) in slots.iter().enumerate() {
        if let (Some(slot), Ok(field)) = (slot, u8::try_from(field)) {
            slot.write(field, &mut row);
        }
    }
    row.end();
    Ok(())
}

/// Checks the members that are not the envelope's and puts them into the type's slots. What is null is
/// absent: an exported row has the columns of all types of its group.
fn fill<'t>(
    slots: &mut [Option<Slot<'t>>],
    members: &[(Cow<'t, str>, Scan<'t>)],
    plan: &'static Plan,
) -> Result<(), Fault> {
    for (name, value) in members {
        if *value == Scan::Null || is_envelope(name) {
            continue;
        }
        let Some((at, field)) = plan.fields.iter().enumerate().find(|(_, field)| field.name == name.as_ref()) else {
            return Err(Fault::new(RejectReason::UnknownField, name));
        };
        if field.lake != LakeUse::Yes {
            return Err(Fault::new(RejectReason::ForbiddenField, name));
        }
        slots[at] = Some(checked(field, value)?);
    }
    Ok(())
}

fn checked<'t>(field: &Field, value: &Scan<'t>) -> Result<Slot<'t>, Fault> {
    let ill_typed = || Fault::new(RejectReason::IllTyped, &field.name);
    match (&field.ty, value) {
        (FieldType::Str | FieldType::Id | FieldType::Text, value) => {
            check_text(field, value.as_str().ok_or_else(ill_typed)?)?;
        }
        // As exports write instants.
        (FieldType::Ts, Scan::Text(text)) => {
            return instant::parse(text).map(|at| Slot::Int(at.as_micros())).ok_or_else(ill_typed);
        }
        (ty, value) => {
            let number = value.as_i64();
            let tree = number.map_or_else(|| value.to_value(), Value::from);
            // The catalogue's largest numbers are larger than a column of the lake holds.
            let is_too_large = *ty == FieldType::U64 && number.is_none();
            if is_too_large || !events::fits(field, &tree) {
                return Err(ill_typed());
            }
            code::check_all(&tree).map_err(|why| Fault::new(why.into(), &field.name))?;
        }
    }
    Ok(Slot::Sent(value.clone()))
}

/// What is right or wrong only beside the event's other fields.
fn check_whole(slots: &[Option<Slot<'_>>], plan: &Plan) -> Result<(), Fault> {
    let is_set = |name: &str| plan.fields.iter().zip(slots).any(|(field, slot)| field.name == name && slot.is_some());
    for (field, slot) in plan.fields.iter().zip(slots).filter(|(field, _)| field.lake == LakeUse::Yes) {
        if slot.is_none() && !field.nullable {
            return Err(Fault::new(RejectReason::MissingField, &field.name));
        }
        // A field that would betray something about a person beside another one.
        if slot.is_some() && field.null_with.as_deref().is_some_and(is_set) {
            return Err(Fault::new(RejectReason::ForbiddenField, &field.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
