//! Rows of the log read again.

use std::borrow::Cow;

use serde_json::{Map, Value};
use todoke_domain::{Event, Timestamp};
use todoke_lake::{Cell, Row, RowPlace, RowSource};
use uuid::Uuid;

use super::{
    CAUSATION, FACILITY, FLOAT, Head, ID_AND_MARK_BYTES, INT, Meanings, NO, OFFLINE, PROGRAMME, SEQ, Shared, Subject,
    TEXT, TREE, VERSION, YES, wall,
};
use crate::IngestError;

/// Bytes that were checked by their sum and still are no rows: a fault of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not rows, at byte {at}")]
pub(crate) struct BadRows {
    at: usize,
}

struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn bad<T>(&self) -> Result<T, BadRows> {
        Err(BadRows { at: self.at })
    }

    fn some(&mut self, n: usize) -> Result<&'a [u8], BadRows> {
        let Some(found) = self.at.checked_add(n).and_then(|end| self.all.get(self.at..end)) else { return self.bad() };
        self.at += n;
        Ok(found)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], BadRows> {
        let at = self.at;
        self.some(N)?.first_chunk().copied().ok_or(BadRows { at })
    }

    fn byte(&mut self) -> Result<u8, BadRows> {
        Ok(self.fixed::<1>()?[0])
    }

    fn number(&mut self) -> Result<u64, BadRows> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        self.bad()
    }

    fn length(&mut self) -> Result<usize, BadRows> {
        let at = self.at;
        usize::try_from(self.number()?).map_err(|_| BadRows { at })
    }

    fn signed(&mut self) -> Result<i64, BadRows> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn text(&mut self) -> Result<&'a str, BadRows> {
        let n = self.length()?;
        let at = self.at;
        std::str::from_utf8(self.some(n)?).map_err(|_| BadRows { at })
    }

    fn optional(&mut self, set: bool) -> Result<Option<&'a str>, BadRows> {
        if set { self.text().map(Some) } else { Ok(None) }
    }
}

fn shared<'a>(bytes: &mut Bytes<'a>) -> Result<Shared<'a>, BadRows> {
    bytes.length()?;
    let (municipality_code, actor_role, source_channel) = (bytes.text()?, bytes.text()?, bytes.text()?);
    let has_key = bytes.byte()? != 0;
    let key = bytes.signed()?;
    let has_correlation = bytes.byte()? != 0;
    Ok(Shared {
        municipality_code,
        actor_role,
        source_channel,
        actor_key: has_key.then_some(key),
        correlation_id: bytes.optional(has_correlation)?,
        recorded_at: Timestamp::from_micros(bytes.signed()?),
    })
}

/// When the first block of a frame came in.
pub(crate) fn recorded_at(blocks: &[u8]) -> Result<Timestamp, BadRows> {
    Ok(shared(&mut Bytes { all: blocks, at: 0 })?.recorded_at)
}

/// What a row has before its cells, which are what is left of `bytes` then.
fn head<'a>(bytes: &mut Bytes<'a>) -> Result<Head<'a>, BadRows> {
    let event_id = Uuid::from_u128(u128::from_le_bytes(bytes.fixed()?));
    bytes.at = ID_AND_MARK_BYTES;
    let occurred_at = Timestamp::from_micros(i64::from_le_bytes(bytes.fixed()?));
    let event_type = u16::from_le_bytes(bytes.fixed()?);
    let flags = bytes.byte()?;
    let has = |flag: u8| flags & flag != 0;
    Ok(Head {
        event_id,
        occurred_at,
        event_type,
        schema_version: if has(VERSION) { u16::try_from(bytes.number()?).unwrap_or(u16::MAX) } else { 1 },
        recorded_offline: has(OFFLINE),
        facility_id: bytes.optional(has(FACILITY))?,
        programme_code: bytes.optional(has(PROGRAMME))?,
        causation_id: bytes.optional(has(CAUSATION))?,
        subject_seq: if has(SEQ) { bytes.number()? } else { 0 },
        subject: match bytes.byte()? {
            0 => Subject::Named { kind: bytes.text()?, id: bytes.text()? },
            1 => Subject::Session(bytes.byte()?),
            2 => Subject::Device(bytes.byte()?),
            _ => Subject::Event,
        },
    })
}

/// The next cell, with its field's place in the type.
fn cell<'a>(bytes: &mut Bytes<'a>) -> Result<(u8, Cell<'a>), BadRows> {
    let field = bytes.byte()?;
    let cell = match bytes.byte()? {
        INT => Cell::Int(bytes.signed()?),
        FLOAT => Cell::Float(f64::from_le_bytes(bytes.fixed()?)),
        NO => Cell::Bool(false),
        YES => Cell::Bool(true),
        TEXT => Cell::Text(bytes.text()?),
        TREE => Cell::Json(serde_json::from_str(bytes.text()?).unwrap_or_default()),
        _ => return bytes.bad(),
    };
    Ok((field, cell))
}

/// Rows of frames, each decoded when it is asked for.
#[derive(Debug, Default)]
pub(crate) struct LogRows<'a> {
    blocks: Vec<(Shared<'a>, &'a Meanings)>,
    rows: Vec<EncodedRow<'a>>,
}

/// A row as it stands in its block, and what sorts it.
#[derive(Clone, Copy, Debug)]
struct EncodedRow<'a> {
    bytes: &'a [u8],
    occurred_at: Timestamp,
    block: u32,
    event_type: u16,
}

impl<'a> LogRows<'a> {
    pub(crate) fn with_capacity(n_rows: usize) -> Self {
        Self { blocks: Vec::new(), rows: Vec::with_capacity(n_rows) }
    }

    /// Adds the rows of a frame's blocks.
    pub(crate) fn add(&mut self, blocks: &'a [u8], meanings: &'a Meanings) -> Result<(), BadRows> {
        let mut bytes = Bytes { all: blocks, at: 0 };
        while bytes.at < blocks.len() {
            let shared = shared(&mut bytes)?;
            let block = u32::try_from(self.blocks.len()).map_err(|_| BadRows { at: bytes.at })?;
            self.blocks.push((shared, meanings));
            for _ in 0..bytes.length()? {
                let n_bytes = u32::from_le_bytes(bytes.fixed()?) as usize;
                let row = bytes.some(n_bytes)?;
                let mut head = Bytes { all: row, at: ID_AND_MARK_BYTES };
                let occurred_at = Timestamp::from_micros(i64::from_le_bytes(head.fixed()?));
                let event_type = u16::from_le_bytes(head.fixed()?);
                if usize::from(event_type) >= meanings.types.len() {
                    return bytes.bad();
                }
                self.rows.push(EncodedRow { bytes: row, occurred_at, block, event_type });
            }
        }
        Ok(())
    }

    /// The rows as events again. A municipality that is none gives no event.
    pub(crate) fn to_events(&self) -> Result<Vec<Event>, IngestError> {
        let mut events = Vec::with_capacity(self.rows.len());
        let mut cells = Vec::new();
        for at in 0..self.rows.len() {
            cells.clear();
            let row = self.read(at, &mut cells)?;
            events.extend(to_event(&row, &cells));
        }
        Ok(events)
    }

    fn decode(&self, at: usize, cells: &mut Vec<(u16, Cell<'a>)>) -> Result<Row<'a>, BadRows> {
        let EncodedRow { bytes, occurred_at, block, event_type } = self.rows[at];
        let (shared, meanings) = &self.blocks[block as usize];
        let meaning = &meanings.types[usize::from(event_type)];
        let mut bytes = Bytes { all: bytes, at: 0 };
        let head = head(&mut bytes)?;
        let event_id = head.event_id;
        let (mut subject_kind, mut subject_id, mut subject_field) = ("app_event", Cow::Borrowed(""), None);
        match head.subject {
            Subject::Named { kind, id } => (subject_kind, subject_id) = (kind, Cow::Borrowed(id)),
            Subject::Session(field) => (subject_kind, subject_field) = ("device_session", Some(field)),
            Subject::Device(field) => (subject_kind, subject_field) = ("device", Some(field)),
            Subject::Event => subject_id = Cow::Owned(event_id.to_string()),
        }
        while bytes.at < bytes.all.len() {
            let (field, cell) = cell(&mut bytes)?;
            if subject_field == Some(field) {
                match &cell {
                    Cell::Text(text) => subject_id = Cow::Borrowed(text),
                    Cell::Int(key) => subject_id = Cow::Owned(key.to_string()),
                    _ => {}
                }
            }
            // A field that may not enter the lake has no column; nobody writes one.
            if let Some(column) = meaning.columns.get(usize::from(field)).copied().flatten() {
                cells.push((column, cell));
            }
        }
        Ok(Row {
            ty: meaning.ty,
            event_id,
            schema_version: head.schema_version,
            occurred_at,
            recorded_at: shared.recorded_at,
            municipality_code: shared.municipality_code,
            actor_role: shared.actor_role,
            actor_key: shared.actor_key,
            source_channel: shared.source_channel,
            subject_kind,
            subject_id,
            subject_seq: head.subject_seq,
            correlation_id: shared.correlation_id,
            causation_id: head.causation_id,
            recorded_offline: head.recorded_offline,
            programme_code: head.programme_code,
            facility_id: head.facility_id,
        })
    }
}

impl<'a> RowSource<'a> for LogRows<'a> {
    type Error = IngestError;

    fn n_rows(&self) -> usize {
        self.rows.len()
    }

    fn place(&self, at: usize) -> RowPlace<'a> {
        let row = &self.rows[at];
        let (shared, meanings) = &self.blocks[row.block as usize];
        RowPlace {
            ty: meanings.types[usize::from(row.event_type)].ty,
            municipality_code: shared.municipality_code,
            occurred_at: row.occurred_at,
        }
    }

    fn read(&self, at: usize, cells: &mut Vec<(u16, Cell<'a>)>) -> Result<Row<'a>, IngestError> {
        self.decode(at, cells).map_err(IngestError::log("decoding a row"))
    }
}

/// Keys and marks of a frame's rows, without the rest.
pub(crate) fn read_marks(blocks: &[u8]) -> Result<Vec<(u128, u64)>, BadRows> {
    let mut bytes = Bytes { all: blocks, at: 0 };
    let mut marks = Vec::new();
    while bytes.at < blocks.len() {
        let wall = wall(shared(&mut bytes)?.municipality_code);
        for _ in 0..bytes.length()? {
            let n_bytes = u32::from_le_bytes(bytes.fixed()?) as usize;
            let mut row = Bytes { all: bytes.some(n_bytes)?, at: 0 };
            marks.push((u128::from_le_bytes(row.fixed()?) ^ wall, u64::from_le_bytes(row.fixed()?)));
        }
    }
    Ok(marks)
}

/// Shows every number that may be a key, in whatever column. Returns how many rows there are.
pub(crate) fn each_key(blocks: &[u8], mut each: impl FnMut(i64)) -> Result<u64, BadRows> {
    let mut bytes = Bytes { all: blocks, at: 0 };
    let mut n_rows = 0;
    while bytes.at < blocks.len() {
        shared(&mut bytes)?.actor_key.into_iter().for_each(&mut each);
        for _ in 0..bytes.length()? {
            let n_bytes = u32::from_le_bytes(bytes.fixed()?) as usize;
            let mut row = Bytes { all: bytes.some(n_bytes)?, at: 0 };
            head(&mut row)?;
            while row.at < row.all.len() {
                if let (_, Cell::Int(number)) = cell(&mut row)? {
                    each(number);
                }
            }
            n_rows += 1;
        }
    }
    Ok(n_rows)
}

fn to_event(row: &Row<'_>, cells: &[(u16, Cell<'_>)]) -> Option<Event> {
    let payload: Map<String, Value> = cells
        .iter()
        .filter_map(|(column, cell)| {
            let value = match cell {
                Cell::Int(value) => Value::from(*value),
                Cell::Float(value) => Value::from(*value),
                Cell::Bool(value) => Value::from(*value),
                Cell::Text(text) => Value::from(*text),
                Cell::Json(value) => value.clone(),
            };
            Some((row.ty.field(*column)?.to_owned(), value))
        })
        .collect();
    Some(Event {
        event_id: row.event_id.into(),
        event_type: row.ty.name().to_owned(),
        schema_version: row.schema_version,
        occurred_at: row.occurred_at,
        recorded_at: row.recorded_at,
        municipality_code: row.municipality_code.parse().ok()?,
        actor_role: row.actor_role.to_owned(),
        actor_key: row.actor_key,
        source_channel: row.source_channel.to_owned(),
        subject_kind: row.subject_kind.to_owned(),
        subject_id: row.subject_id.clone().into_owned(),
        subject_seq: row.subject_seq,
        correlation_id: row.correlation_id.map(str::to_owned),
        causation_id: row.causation_id.map(str::to_owned),
        recorded_offline: row.recorded_offline,
        programme_code: row.programme_code.map(str::to_owned),
        facility_id: row.facility_id.map(str::to_owned),
        payload,
    })
}
