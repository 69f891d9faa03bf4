//! Events as the log keeps them: a few dozen bytes each, written once while the batch is read and
//! never made into a tree.
//!
//! A block is one request's rows behind what they share. Types and fields are numbers; a log file
//! begins with the [`Dictionary`] that says which, so a later catalogue reads it.

mod decode;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use todoke_domain::{
    Event, Timestamp,
    catalogue::events::{self, EventType},
};
use todoke_lake::{EventRows, RowType};
use uuid::Uuid;

pub(crate) use self::decode::{LogRows, each_key, read_marks, recorded_at};
use crate::IngestError;

const OFFLINE: u8 = 1;
const VERSION: u8 = 2;
const FACILITY: u8 = 4;
const PROGRAMME: u8 = 8;
const CAUSATION: u8 = 16;
const SEQ: u8 = 32;
/// What a row begins with: id and mark of the content.
const ID_AND_MARK_BYTES: usize = 16 + 8;

/// Where the subject's id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    /// In the row.
    Named { kind: &'a str, id: &'a str },
    /// The session of this text field.
    Session(u8),
    /// The device of this key field.
    Device(u8),
    /// The event itself.
    Event,
}

/// What one block's rows share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shared<'a> {
    pub(crate) municipality_code: &'a str,
    pub(crate) actor_role: &'a str,
    pub(crate) actor_key: Option<i64>,
    pub(crate) source_channel: &'a str,
    pub(crate) correlation_id: Option<&'a str>,
    pub(crate) recorded_at: Timestamp,
}

/// What a row has besides its cells.
#[derive(Clone, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) event_id: Uuid,
    pub(crate) occurred_at: Timestamp,
    /// Place in the catalogue.
    pub(crate) event_type: u16,
    pub(crate) schema_version: u16,
    pub(crate) recorded_offline: bool,
    pub(crate) facility_id: Option<&'a str>,
    pub(crate) programme_code: Option<&'a str>,
    pub(crate) causation_id: Option<&'a str>,
    pub(crate) subject_seq: u64,
    pub(crate) subject: Subject<'a>,
}

/// A row's place in its block, and what tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowMark {
    pub(crate) id: u128,
    /// Mark of the content: what the sender said, not when it arrived.
    pub(crate) mark: u64,
    /// End of the row in the block's bytes.
    pub(crate) end: usize,
    pub(crate) occurred_at: Timestamp,
}

/// Encoded rows of one sender.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    shared: Vec<u8>,
    shared_mark: u64,
    wall: u128,
    pub(crate) rows: Vec<u8>,
    pub(crate) marks: Vec<RowMark>,
}

/// Encoded events on their way into the log: in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct EncodedEvents {
    pub(crate) blocks: Vec<Block>,
}

impl EncodedEvents {
    /// Number of events.
    pub fn n_events(&self) -> usize {
        self.blocks.iter().map(|block| block.marks.len()).sum()
    }

    /// Memory they take, bytes; about half of it is what goes into the log.
    pub fn n_bytes(&self) -> usize {
        let marks = |block: &Block| block.marks.capacity() * size_of::<RowMark>();
        self.blocks.iter().map(|block| block.rows.capacity() + block.shared.capacity() + marks(block)).sum()
    }

    /// Encodes events of any group. `Err` with the first that the catalogue does not know.
    pub fn of(events: &[Event]) -> Result<Self, UnknownEvent> {
        let mut encoded = Self::default();
        let mut last: Option<Shared<'_>> = None;
        for event in events {
            let shared = Shared {
                municipality_code: event.municipality_code.as_str(),
                actor_role: &event.actor_role,
                actor_key: event.actor_key,
                source_channel: &event.source_channel,
                correlation_id: event.correlation_id.as_deref(),
                recorded_at: event.recorded_at,
            };
            if last.as_ref() != Some(&shared) {
                encoded.blocks.push(Block::new(&shared));
                last = Some(shared);
            }
            if let Some(block) = encoded.blocks.last_mut() {
                block.push_event(event)?;
            }
        }
        Ok(encoded)
    }

    /// The block for rows that share this: the last one, if it does, else a new one.
    pub(crate) fn block(&mut self, shared: &Shared<'_>) -> &mut Block {
        let made = Block::new(shared);
        if self.blocks.last().is_none_or(|last| last.shared != made.shared) {
            self.blocks.push(made);
        }
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    /// The events as rows of the lake.
    pub fn lake_rows(&self, ingested_at: Timestamp) -> Result<EventRows, IngestError> {
        let n_bytes = self.blocks.iter().map(|block| block.shared.len() + block.rows.len() + 8).sum();
        let mut bytes = Vec::with_capacity(n_bytes);
        self.blocks.iter().for_each(|block| block.write(None, &mut bytes));
        let meanings = Dictionary::present().meanings()?;
        let mut rows = LogRows::with_capacity(self.n_events());
        rows.add(&bytes, &meanings).map_err(IngestError::log("decoding rows"))?;
        EventRows::of(&rows, ingested_at)
    }
}

/// An event whose type or field is not in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue has no `{0}`")]
pub struct UnknownEvent(pub String);

fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

pub(crate) fn put_signed(to: &mut Vec<u8>, number: i64) {
    put_number(to, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    put_number(to, text.len() as u64);
    to.extend_from_slice(text.as_bytes());
}

fn put_optional(to: &mut Vec<u8>, text: Option<&str>) {
    to.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(to, text);
    }
}

/// Marks content. The same on every machine and in every version, because marks are kept in files;
/// not for security: who forges a mark only hides an event of their own.
#[derive(Clone, Copy, Debug)]
struct Marker(u64);

impl Marker {
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        let bytes = product.to_le_bytes();
        let (low, high) = bytes.split_at(8);
        self.0 = word_of(low) ^ word_of(high).rotate_left(23) ^ 0x2545_f491_4f6c_dd1d;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(word_of(word));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }
}

fn word_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// Places of the types and marks of their names and fields, made once.
struct Names {
    types: Vec<TypeNames>,
}

struct TypeNames {
    mark: u64,
    fields: Vec<u64>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let mark = |name: &str| {
        let mut marker = Marker(0);
        marker.bytes(name.as_bytes());
        marker.0
    };
    let types = events::all().iter().map(|event_type| TypeNames {
        mark: mark(&event_type.name),
        fields: event_type.fields.iter().map(|field| mark(&field.name)).collect(),
    });
    Names { types: types.collect() }
});

/// A type's place in the catalogue.
pub(crate) fn place_of(event_type: &EventType) -> Option<u16> {
    events::all().iter().position(|other| other.name == event_type.name).and_then(|at| u16::try_from(at).ok())
}

/// What tells the ids of one municipality from those of another in the hot window. Within a municipality different
/// ids stay different. The ids of two would meet only if they differed by just these bits, which no sender can bring
/// about: those of outside systems are made here, and a device's carry the time and version of a UUIDv7.
fn wall(municipality_code: &str) -> u128 {
    let [high, low] = [1, 2].map(|begin| {
        let mut marker = Marker(begin);
        marker.bytes(municipality_code.as_bytes());
        u128::from(marker.0)
    });
    high << 64 | low
}

impl Block {
    pub(crate) fn new(shared: &Shared<'_>) -> Self {
        let mut bytes = Vec::with_capacity(64);
        put_text(&mut bytes, shared.municipality_code);
        put_text(&mut bytes, shared.actor_role);
        put_text(&mut bytes, shared.source_channel);
        bytes.push(u8::from(shared.actor_key.is_some()));
        put_signed(&mut bytes, shared.actor_key.unwrap_or_default());
        put_optional(&mut bytes, shared.correlation_id);
        put_signed(&mut bytes, shared.recorded_at.as_micros());
        let mut marker = Marker(0);
        marker.bytes(shared.municipality_code.as_bytes());
        let wall = wall(shared.municipality_code);
        Self { shared: bytes, shared_mark: marker.0, wall, rows: Vec::new(), marks: Vec::new() }
    }

    /// By what the hot window knows an event of this block: its id within its municipality.
    pub(crate) fn key(&self, id: u128) -> u128 {
        id ^ self.wall
    }

    /// Begins a row; cells go into it, then [`RowWriter::end`].
    pub(crate) fn row<'b>(&'b mut self, head: &Head<'_>) -> RowWriter<'b> {
        let to = &mut self.rows;
        to.extend_from_slice(&[0; 4]);
        let begin = to.len();
        to.extend_from_slice(&head.event_id.as_u128().to_le_bytes());
        to.extend_from_slice(&[0; 8]);
        to.extend_from_slice(&head.occurred_at.as_micros().to_le_bytes());
        to.extend_from_slice(&head.event_type.to_le_bytes());
        let optional = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = optional(head.recorded_offline, OFFLINE)
            | optional(head.schema_version != 1, VERSION)
            | optional(head.facility_id.is_some(), FACILITY)
            | optional(head.programme_code.is_some(), PROGRAMME)
            | optional(head.causation_id.is_some(), CAUSATION)
            | optional(head.subject_seq != 0, SEQ);
        to.push(flags);
        if head.schema_version != 1 {
            put_number(to, u64::from(head.schema_version));
        }
        let mut marker = Marker(self.shared_mark);
        marker.word(NAMES.types[usize::from(head.event_type)].mark);
        marker.word(head.occurred_at.as_micros().cast_unsigned());
        for text in [head.facility_id, head.programme_code, head.causation_id] {
            if let Some(text) = text {
                put_text(to, text);
            }
        }
        marker.bytes(head.facility_id.unwrap_or_default().as_bytes());
        marker.bytes(head.programme_code.unwrap_or_default().as_bytes());
        if head.subject_seq != 0 {
            put_number(to, head.subject_seq);
        }
        match head.subject {
            Subject::Named { kind, id } => {
                to.push(0);
                put_text(to, kind);
                put_text(to, id);
            }
            Subject::Session(field) => to.extend_from_slice(&[1, field]),
            Subject::Device(field) => to.extend_from_slice(&[2, field]),
            Subject::Event => to.push(3),
        }
        RowWriter { begin, marker, head: (head.event_type, head.event_id, head.occurred_at), block: self }
    }

    pub(crate) fn push_event(&mut self, event: &Event) -> Result<(), UnknownEvent> {
        let unknown = |name: &str| UnknownEvent(format!("{} {name}", event.event_type).trim_end().to_owned());
        let event_type = events::get(&event.event_type).ok_or_else(|| unknown(""))?;
        let mut cells = Vec::with_capacity(event.payload.len());
        for (name, value) in event.payload.iter().filter(|(_, value)| !value.is_null()) {
            let field = event_type.fields.iter().position(|field| field.name == *name).ok_or_else(|| unknown(name))?;
            cells.push((u8::try_from(field).map_err(|_| unknown(name))?, value));
        }
        cells.sort_by_key(|(field, _)| *field);
        let mut row = self.row(&Head {
            event_id: event.event_id.as_uuid(),
            occurred_at: event.occurred_at,
            event_type: place_of(event_type).ok_or_else(|| unknown(""))?,
            schema_version: event.schema_version,
            recorded_offline: event.recorded_offline,
            facility_id: event.facility_id.as_deref(),
            programme_code: event.programme_code.as_deref(),
            causation_id: event.causation_id.as_deref(),
            subject_seq: event.subject_seq,
            subject: Subject::Named { kind: &event.subject_kind, id: &event.subject_id },
        });
        for (field, value) in cells {
            row.value(field, value);
        }
        row.end();
        Ok(())
    }

    /// Takes the last row out again.
    pub(crate) fn take_back(&mut self) {
        self.marks.pop();
        self.rows.truncate(self.marks.last().map_or(0, |mark| mark.end));
    }

    /// The block as a frame holds it, with all rows or those of `kept`.
    pub(crate) fn write(&self, kept: Option<&[bool]>, to: &mut Vec<u8>) {
        let n_rows = kept.map_or(self.marks.len(), |kept| kept.iter().filter(|kept| **kept).count());
        if n_rows == 0 {
            return;
        }
        put_number(to, self.shared.len() as u64);
        to.extend_from_slice(&self.shared);
        put_number(to, n_rows as u64);
        match kept {
            None => to.extend_from_slice(&self.rows),
            Some(kept) => {
                let begins = std::iter::once(0).chain(self.marks.iter().map(|mark| mark.end));
                for ((begin, mark), kept) in begins.zip(&self.marks).zip(kept) {
                    if *kept {
                        to.extend_from_slice(&self.rows[begin..mark.end]);
                    }
                }
            }
        }
    }
}

/// A row under construction. Cells come in the order of the catalogue, so that the same content has
/// the same mark however it was written down.
pub(crate) struct RowWriter<'b> {
    block: &'b mut Block,
    begin: usize,
    marker: Marker,
    head: (u16, Uuid, Timestamp),
}

const INT: u8 = 0;
const FLOAT: u8 = 1;
const NO: u8 = 2;
const YES: u8 = 3;
const TEXT: u8 = 4;
const TREE: u8 = 5;

impl RowWriter<'_> {
    fn cell(&mut self, field: u8, kind: u8) {
        self.block.rows.extend_from_slice(&[field, kind]);
        let name = NAMES.types[usize::from(self.head.0)].fields[usize::from(field)];
        self.marker.word(name ^ u64::from(kind));
    }

    pub(crate) fn int(&mut self, field: u8, value: i64) {
        self.cell(field, INT);
        put_signed(&mut self.block.rows, value);
        self.marker.word(value.cast_unsigned());
    }

    pub(crate) fn float(&mut self, field: u8, value: f64) {
        self.cell(field, FLOAT);
        self.block.rows.extend_from_slice(&value.to_le_bytes());
        self.marker.word(value.to_bits());
    }

    pub(crate) fn bool(&mut self, field: u8, value: bool) {
        self.cell(field, if value { YES } else { NO });
    }

    pub(crate) fn text(&mut self, field: u8, value: &str) {
        self.cell(field, TEXT);
        put_text(&mut self.block.rows, value);
        self.marker.bytes(value.as_bytes());
    }

    pub(crate) fn value(&mut self, field: u8, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(value) => self.bool(field, *value),
            Value::String(text) => self.text(field, text),
            Value::Number(number) => match number.as_i64() {
                Some(value) => self.int(field, value),
                None => self.float(field, number.as_f64().unwrap_or_default()),
            },
            Value::Array(_) | Value::Object(_) => {
                let text = value.to_string();
                self.cell(field, TREE);
                put_text(&mut self.block.rows, &text);
                self.marker.bytes(text.as_bytes());
            }
        }
    }

    pub(crate) fn end(self) {
        let rows = &mut self.block.rows;
        let n_bytes = u32::try_from(rows.len() - self.begin).unwrap_or(u32::MAX);
        rows[self.begin - 4..self.begin].copy_from_slice(&n_bytes.to_le_bytes());
        rows[self.begin + 16..self.begin + 24].copy_from_slice(&self.marker.0.to_le_bytes());
        let (_, id, occurred_at) = self.head;
        self.block.marks.push(RowMark { id: id.as_u128(), mark: self.marker.0, end: rows.len(), occurred_at });
    }
}

/// Which numbers stand for which types and fields in a log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dictionary {
    types: Vec<(String, Vec<String>)>,
}

/// A dictionary in terms of the present catalogue.
#[derive(Clone, Debug)]
pub(crate) struct Meanings {
    types: Vec<Meaning>,
}

#[derive(Clone, Debug)]
struct Meaning {
    ty: RowType,
    columns: Vec<Option<u16>>,
}

impl Dictionary {
    /// Of the present catalogue.
    pub(crate) fn present() -> Self {
        let types = events::all().iter().map(|event_type| {
            (event_type.name.clone(), event_type.fields.iter().map(|field| field.name.clone()).collect())
        });
        Self { types: types.collect() }
    }

    /// Types and fields are only ever added: `Err` with a type that this catalogue does not know,
    /// because a newer version wrote the log.
    pub(crate) fn meanings(&self) -> Result<Meanings, UnknownEvent> {
        let types = self.types.iter().map(|(name, fields)| {
            let ty = RowType::of(name).ok_or_else(|| UnknownEvent(name.clone()))?;
            Ok(Meaning { ty, columns: fields.iter().map(|field| ty.column(field)).collect() })
        });
        Ok(Meanings { types: types.collect::<Result<_, UnknownEvent>>()? })
    }
}
