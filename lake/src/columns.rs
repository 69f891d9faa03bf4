//! From encoded rows straight to Arrow columns: the way of app usage, which comes by the hundred
//! thousand a second and never is a tree of JSON values.

use std::{borrow::Cow, sync::Arc};

use datafusion::arrow::{
    array::{
        Array, ArrayBuilder, ArrayRef, BooleanBuilder, Date32Array, Date32Builder, Float64Builder, Int16Array,
        Int16Builder, Int32Array, Int32Builder, Int64Array, Int64Builder, RecordBatch, StringViewBuilder,
        TimestampMicrosecondArray, TimestampMicrosecondBuilder,
    },
    datatypes::DataType,
    error::ArrowError,
};
use serde_json::Value;
use todoke_domain::{
    Timestamp,
    catalogue::events::{self, FieldType},
    time::fiscal_year,
};

use crate::{
    EventRows, LakeError, QUARANTINE, RowError, RowFault,
    rows::{array, date_of, day_of_text, null_column, value_fits},
    schema::{self, GroupSchema},
    slice::ranks,
};

const JST_OFFSET_US: i64 = 9 * 3_600 * 1_000_000;
const DAY_US: i64 = 86_400 * 1_000_000;

/// An event type as the lake stores it.
#[derive(Clone, Copy, Debug)]
pub struct RowType {
    name: &'static str,
    schema: &'static GroupSchema,
    /// Place in alphabetical order among all types.
    rank: u16,
}

impl RowType {
    /// The type of a catalogued name.
    pub fn of(event_type: &str) -> Option<Self> {
        let found = events::get(event_type)?;
        let rank = events::all().iter().filter(|other| other.name < found.name).count();
        Some(Self { name: &found.name, schema: schema::group(&found.group)?, rank: u16::try_from(rank).ok()? })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The column of one of its lake fields.
    pub fn column(self, field: &str) -> Option<u16> {
        self.schema.fields_of.get(self.name)?.get(field).and_then(|column| u16::try_from(*column).ok())
    }

    /// The field a column holds.
    pub fn field(self, column: u16) -> Option<&'static str> {
        self.schema.columns.get(usize::from(column)).map(|column| column.name.as_str())
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Any integer, instant or key.
    Int(i64),
    /// A fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// Text, or a day as `YYYY-MM-DD`.
    Text(&'a str),
    /// A list or a struct.
    Json(Value),
}

/// One event without its cells.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// Type.
    pub ty: RowType,
    /// Id.
    pub event_id: uuid::Uuid,
    /// As in the envelope of events, and so are all below.
    pub schema_version: u16,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it was accepted.
    pub recorded_at: Timestamp,
    /// The wall.
    pub municipality_code: &'a str,
    /// Role's code.
    pub actor_role: &'a str,
    /// Pseudonym of the actor.
    pub actor_key: Option<i64>,
    /// Way in.
    pub source_channel: &'a str,
    /// Kind of the aggregate.
    pub subject_kind: &'a str,
    /// Id of the aggregate.
    pub subject_id: Cow<'a, str>,
    /// Number within the aggregate.
    pub subject_seq: u64,
    /// Request.
    pub correlation_id: Option<&'a str>,
    /// Causing event.
    pub causation_id: Option<&'a str>,
    /// Entered after an outage.
    pub recorded_offline: bool,
    /// Programme.
    pub programme_code: Option<&'a str>,
    /// Facility.
    pub facility_id: Option<&'a str>,
}

/// What decides where a row goes.
#[derive(Clone, Copy, Debug)]
pub struct RowPlace<'a> {
    /// Type, which has its table.
    pub ty: RowType,
    /// The wall.
    pub municipality_code: &'a str,
    /// When it happened.
    pub occurred_at: Timestamp,
}

/// Encoded rows in any order. They are decoded one by one, in the order of the table, straight into its columns:
/// decoded and kept until they are sorted they would take ten times the memory of their columns.
pub trait RowSource<'a> {
    /// Why a row cannot be decoded.
    type Error: From<LakeError>;

    /// Number of rows.
    fn n_rows(&self) -> usize;

    /// Where row `at` goes.
    fn place(&self, at: usize) -> RowPlace<'a>;

    /// Decodes row `at`. Its cells are added to `cells`: column of the type's table, value; absent ones are null.
    fn read(&self, at: usize, cells: &mut Vec<(u16, Cell<'a>)>) -> Result<Row<'a>, Self::Error>;
}

impl EventRows {
    /// Makes a batch per table of encoded rows. As with [`Self::build`], a row that does not fit its
    /// columns becomes a row of the quarantine table.
    pub fn of<'a, S: RowSource<'a>>(source: &S, ingested_at: Timestamp) -> Result<Self, S::Error> {
        let mut by_table: Vec<(&'static GroupSchema, Vec<usize>)> = Vec::new();
        for at in 0..source.n_rows() {
            // There is one schema per table: comparing addresses is enough, and the last table first is quick.
            let schema = source.place(at).ty.schema;
            match by_table.iter_mut().rfind(|(known, _)| std::ptr::eq(*known, schema)) {
                Some((_, places)) => places.push(at),
                None => by_table.push((schema, vec![at])),
            }
        }
        let mut made = Self { n_rows: source.n_rows(), ..Self::default() };
        let mut bad: Vec<(usize, RowError)> = Vec::new();
        let mut cells = Vec::new();
        for (schema, places) in by_table {
            let mut table = Table::new(schema, places.len());
            for at in sorted(source, &places) {
                cells.clear();
                let row = source.read(at, &mut cells)?;
                match fault(&row, &cells) {
                    None => table.push(&row, &cells, ingested_at).map_err(LakeError::arrow(&schema.name))?,
                    Some(error) => bad.push((at, error)),
                }
            }
            if table.n_rows > 0 {
                made.tables.insert(schema.name.clone(), table.finish().map_err(LakeError::arrow(&schema.name))?);
            }
        }
        if !bad.is_empty() {
            bad.sort_by_key(|(at, _)| *at);
            made.tables.insert(QUARANTINE.to_owned(), quarantine(source, &bad, ingested_at)?);
            made.rejected = bad.into_iter().map(|(_, error)| error).collect();
        }
        Ok(made)
    }
}

fn quarantine<'a, S: RowSource<'a>>(
    source: &S,
    bad: &[(usize, RowError)],
    ingested_at: Timestamp,
) -> Result<RecordBatch, S::Error> {
    let schema = schema::group(QUARANTINE).ok_or_else(|| LakeError::UnknownTable(QUARANTINE.to_owned()))?;
    let mut envelope = Envelope::new(bad.len());
    let (mut faults, mut fields) = (StringViewBuilder::new(), StringViewBuilder::new());
    let places: Vec<usize> = bad.iter().map(|(at, _)| *at).collect();
    for at in sorted(source, &places) {
        let row = source.read(at, &mut Vec::new())?;
        envelope.push(&row, ingested_at).map_err(LakeError::arrow(QUARANTINE))?;
        let error = bad.binary_search_by_key(&at, |(at, _)| *at).ok().map(|found| &bad[found].1);
        faults.append_option(error.map(|error| error.fault.code()));
        fields.append_option(error.map(|error| error.field.as_str()));
    }
    let contents = null_column(&DataType::Utf8View, bad.len());
    let columns = envelope.finish(vec![Arc::new(faults.finish()), Arc::new(fields.finish()), contents]);
    let batch = columns.and_then(|columns| RecordBatch::try_new(Arc::clone(&schema.full), columns));
    Ok(batch.map_err(LakeError::arrow(QUARANTINE))?)
}

/// Asia/Tokyo day of an instant, in days since 1970-01-01.
fn jst_day(at: Timestamp) -> i32 {
    i32::try_from(at.as_micros().saturating_add(JST_OFFSET_US).div_euclid(DAY_US)).unwrap_or(i32::MAX)
}

/// By municipality, day, event type and time, as tables are cut and files sorted.
fn sorted<'a>(source: &impl RowSource<'a>, places: &[usize]) -> impl Iterator<Item = usize> {
    let municipalities = ranks(places.iter().map(|at| source.place(*at).municipality_code));
    let mut keys: Vec<(u128, usize)> = places
        .iter()
        .zip(municipalities)
        .map(|(at, municipality)| {
            let RowPlace { ty, occurred_at, .. } = source.place(*at);
            // One number is compared faster than four: municipality, day with its sign turned, type, time of day.
            let day = jst_day(occurred_at).cast_unsigned() ^ (1 << 31);
            let time = occurred_at.as_micros().saturating_add(JST_OFFSET_US).rem_euclid(DAY_US).unsigned_abs();
            let key = u128::from(municipality) << 96 | u128::from(day) << 64 | u128::from(ty.rank) << 48;
            (key | u128::from(time), *at)
        })
        .collect();
    // Each sender's events mostly come in order: the stable sort finds such runs and merges them.
    keys.sort();
    keys.into_iter().map(|(_, at)| at)
}

fn fault(row: &Row<'_>, cells: &[(u16, Cell<'_>)]) -> Option<RowError> {
    let misfit = cells.iter().find(|(column, cell)| {
        row.ty.schema.columns.get(usize::from(*column)).is_none_or(|column| !fits(&column.ty, cell))
    })?;
    Some(RowError {
        event_id: row.event_id.to_string(),
        event_type: row.ty.name.to_owned(),
        field: row.ty.field(misfit.0).unwrap_or_default().to_owned(),
        fault: RowFault::IllTyped,
    })
}

fn fits(ty: &FieldType, cell: &Cell<'_>) -> bool {
    match (ty, cell) {
        (FieldType::Yen | FieldType::Key | FieldType::I64 | FieldType::U64 | FieldType::Ts, Cell::Int(_)) => true,
        (FieldType::Units | FieldType::Min | FieldType::N, Cell::Int(v)) => i32::try_from(*v).is_ok(),
        (FieldType::U16, Cell::Int(v)) => u16::try_from(*v).is_ok(),
        (FieldType::I16, Cell::Int(v)) => i16::try_from(*v).is_ok(),
        (FieldType::F64, Cell::Int(_) | Cell::Float(_)) | (FieldType::Bool, Cell::Bool(_)) => true,
        (FieldType::Str | FieldType::Id | FieldType::Text, Cell::Text(_)) => true,
        (FieldType::Date, Cell::Text(text)) => day_of_text(text).is_some(),
        (FieldType::List(_) | FieldType::Struct(_), Cell::Json(value)) => value_fits(ty, value),
        _ => false,
    }
}

/// Texts under construction. Neighbours mostly say the same, because rows are sorted: what repeats is stored once and
/// costs a comparison.
struct Texts {
    builder: StringViewBuilder,
    last: String,
    /// How many times `last` came and is not in the builder yet.
    n_last: usize,
}

impl Texts {
    fn new(n_rows: usize) -> Self {
        Self { builder: StringViewBuilder::with_capacity(n_rows), last: String::new(), n_last: 0 }
    }

    fn push(&mut self, text: &str) -> Result<(), ArrowError> {
        if self.n_last == 0 || self.last != text {
            self.settle()?;
            self.last.clear();
            self.last.push_str(text);
        }
        self.n_last += 1;
        Ok(())
    }

    fn push_option(&mut self, text: Option<&str>) -> Result<(), ArrowError> {
        match text {
            Some(text) => self.push(text),
            None => self.push_nulls(1),
        }
    }

    fn push_nulls(&mut self, n: usize) -> Result<(), ArrowError> {
        self.settle()?;
        for _ in 0..n {
            self.builder.append_null();
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), ArrowError> {
        self.builder.try_append_value_n(&self.last, std::mem::take(&mut self.n_last))
    }

    fn n_rows(&self) -> usize {
        self.builder.len() + self.n_last
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        self.settle()?;
        Ok(Arc::new(self.builder.finish()))
    }
}

/// The columns every row has, under construction.
struct Envelope {
    event_id: StringViewBuilder,
    event_type: Texts,
    schema_version: Vec<i32>,
    occurred_at: Vec<i64>,
    recorded_at: Vec<i64>,
    ingested_at: Vec<i64>,
    fiscal_year: Vec<i16>,
    actor_role: Texts,
    actor_key: Int64Builder,
    source_channel: Texts,
    subject_kind: Texts,
    subject_id: Texts,
    subject_seq: Vec<i64>,
    correlation_id: Texts,
    causation_id: Texts,
    recorded_offline: BooleanBuilder,
    programme_code: Texts,
    facility_id: Texts,
    municipality_code: Texts,
    day: Vec<i32>,
    /// The last day with its fiscal year: rows are in the order of days, so it is looked up once for each.
    known_day: (i32, i16),
    id_text: [u8; uuid::fmt::Hyphenated::LENGTH],
}

impl Envelope {
    fn new(n_rows: usize) -> Self {
        let text = || Texts::new(n_rows);
        Self {
            event_id: StringViewBuilder::with_capacity(n_rows),
            event_type: text(),
            schema_version: Vec::with_capacity(n_rows),
            occurred_at: Vec::with_capacity(n_rows),
            recorded_at: Vec::with_capacity(n_rows),
            ingested_at: Vec::with_capacity(n_rows),
            fiscal_year: Vec::with_capacity(n_rows),
            actor_role: text(),
            actor_key: Int64Builder::with_capacity(n_rows),
            source_channel: text(),
            subject_kind: text(),
            subject_id: text(),
            subject_seq: Vec::with_capacity(n_rows),
            correlation_id: text(),
            causation_id: text(),
            recorded_offline: BooleanBuilder::with_capacity(n_rows),
            programme_code: text(),
            facility_id: text(),
            municipality_code: text(),
            day: Vec::with_capacity(n_rows),
            known_day: (i32::MIN, 0),
            id_text: [0; uuid::fmt::Hyphenated::LENGTH],
        }
    }

    fn push(&mut self, row: &Row<'_>, ingested_at: Timestamp) -> Result<(), ArrowError> {
        let day = jst_day(row.occurred_at);
        if self.known_day.0 != day {
            self.known_day = (day, fiscal_year(date_of(day)));
        }
        self.event_id.append_value(hyphenated(row.event_id, &mut self.id_text));
        self.event_type.push(row.ty.name)?;
        self.schema_version.push(i32::from(row.schema_version));
        self.occurred_at.push(row.occurred_at.as_micros());
        self.recorded_at.push(row.recorded_at.as_micros());
        self.ingested_at.push(ingested_at.as_micros());
        self.fiscal_year.push(self.known_day.1);
        self.actor_role.push(row.actor_role)?;
        self.actor_key.append_option(row.actor_key);
        self.source_channel.push(row.source_channel)?;
        self.subject_kind.push(row.subject_kind)?;
        self.subject_id.push(row.subject_id.as_ref())?;
        self.subject_seq.push(i64::try_from(row.subject_seq).unwrap_or(i64::MAX));
        self.correlation_id.push_option(row.correlation_id)?;
        self.causation_id.push_option(row.causation_id)?;
        self.recorded_offline.append_value(row.recorded_offline);
        self.programme_code.push_option(row.programme_code)?;
        self.facility_id.push_option(row.facility_id)?;
        self.municipality_code.push(row.municipality_code)?;
        self.day.push(day);
        Ok(())
    }

    /// The columns of a table's schema, with those of the payload between the envelope's and the partition's.
    fn finish(mut self, payload: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, ArrowError> {
        let instants = |micros: Vec<i64>| TimestampMicrosecondArray::from(micros).with_timezone("UTC");
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.event_id.finish()),
            self.event_type.finish()?,
            Arc::new(Int32Array::from(self.schema_version)),
            Arc::new(instants(self.occurred_at)),
            Arc::new(instants(self.recorded_at)),
            Arc::new(instants(self.ingested_at)),
            Arc::new(Int16Array::from(self.fiscal_year)),
            self.actor_role.finish()?,
            Arc::new(self.actor_key.finish()),
            self.source_channel.finish()?,
            self.subject_kind.finish()?,
            self.subject_id.finish()?,
            Arc::new(Int64Array::from(self.subject_seq)),
            self.correlation_id.finish()?,
            self.causation_id.finish()?,
            Arc::new(self.recorded_offline.finish()),
            self.programme_code.finish()?,
            self.facility_id.finish()?,
        ];
        columns.extend(payload);
        columns.push(self.municipality_code.finish()?);
        columns.push(Arc::new(Date32Array::from(self.day)));
        Ok(columns)
    }
}

/// The id's text, written into `text`.
fn hyphenated(id: uuid::Uuid, text: &mut [u8; uuid::fmt::Hyphenated::LENGTH]) -> &str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut at = 0;
    for (n, byte) in id.as_bytes().iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            text[at] = b'-';
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    std::str::from_utf8(text).unwrap_or_default()
}

/// A payload column under construction: as long as the rows before the present one, or shorter by
/// those that have no value at its end.
enum Column {
    Int64(Int64Builder),
    Int32(Int32Builder),
    Int16(Int16Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Instant(TimestampMicrosecondBuilder),
    Day(Date32Builder),
    Text(Texts),
    Tree(Vec<Option<Value>>),
}

macro_rules! pad {
    ($builder:expr, $n_rows:expr) => {{
        let missing = $n_rows - ArrayBuilder::len($builder);
        for _ in 0..missing {
            $builder.append_null();
        }
    }};
}

impl Column {
    fn new(ty: &FieldType, n_rows: usize) -> Self {
        match ty {
            FieldType::Yen | FieldType::Key | FieldType::I64 | FieldType::U64 => {
                Self::Int64(Int64Builder::with_capacity(n_rows))
            }
            FieldType::Units | FieldType::Min | FieldType::N | FieldType::U16 => {
                Self::Int32(Int32Builder::with_capacity(n_rows))
            }
            FieldType::I16 => Self::Int16(Int16Builder::with_capacity(n_rows)),
            FieldType::F64 => Self::Float(Float64Builder::with_capacity(n_rows)),
            FieldType::Ts => Self::Instant(TimestampMicrosecondBuilder::with_capacity(n_rows).with_timezone("UTC")),
            FieldType::Date => Self::Day(Date32Builder::with_capacity(n_rows)),
            FieldType::Bool => Self::Bool(BooleanBuilder::with_capacity(n_rows)),
            FieldType::Str | FieldType::Id | FieldType::Text => Self::Text(Texts::new(n_rows)),
            FieldType::List(_) | FieldType::Struct(_) => Self::Tree(Vec::with_capacity(n_rows)),
        }
    }

    fn pad(&mut self, n_rows: usize) -> Result<(), ArrowError> {
        match self {
            Self::Int64(builder) => pad!(builder, n_rows),
            Self::Int32(builder) => pad!(builder, n_rows),
            Self::Int16(builder) => pad!(builder, n_rows),
            Self::Float(builder) => pad!(builder, n_rows),
            Self::Bool(builder) => pad!(builder, n_rows),
            Self::Instant(builder) => pad!(builder, n_rows),
            Self::Day(builder) => pad!(builder, n_rows),
            Self::Text(texts) => texts.push_nulls(n_rows - texts.n_rows())?,
            Self::Tree(values) => values.resize(n_rows, None),
        }
        Ok(())
    }

    /// Sets the cell of row `at`, which was found to fit.
    fn set(&mut self, at: usize, cell: &Cell<'_>) -> Result<(), ArrowError> {
        self.pad(at)?;
        match (self, cell) {
            (Self::Int64(builder), Cell::Int(value)) => builder.append_value(*value),
            (Self::Int32(builder), Cell::Int(value)) => builder.append_option(i32::try_from(*value).ok()),
            (Self::Int16(builder), Cell::Int(value)) => builder.append_option(i16::try_from(*value).ok()),
            #[expect(clippy::cast_precision_loss, reason = "an integer where a fraction is catalogued")]
            (Self::Float(builder), Cell::Int(value)) => builder.append_value(*value as f64),
            (Self::Float(builder), Cell::Float(value)) => builder.append_value(*value),
            (Self::Bool(builder), Cell::Bool(value)) => builder.append_value(*value),
            (Self::Instant(builder), Cell::Int(value)) => builder.append_value(*value),
            (Self::Day(builder), Cell::Text(text)) => builder.append_option(day_of_text(text)),
            (Self::Text(texts), Cell::Text(text)) => texts.push(text)?,
            (Self::Tree(values), Cell::Json(value)) => values.push(Some(value.clone())),
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self, ty: &FieldType, n_rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(n_rows)?;
        Ok(match self {
            Self::Int64(mut builder) => Arc::new(builder.finish()),
            Self::Int32(mut builder) => Arc::new(builder.finish()),
            Self::Int16(mut builder) => Arc::new(builder.finish()),
            Self::Float(mut builder) => Arc::new(builder.finish()),
            Self::Bool(mut builder) => Arc::new(builder.finish()),
            Self::Instant(mut builder) => Arc::new(builder.finish()),
            Self::Day(mut builder) => Arc::new(builder.finish()),
            Self::Text(texts) => texts.finish()?,
            Self::Tree(values) => array(ty, &values.iter().map(Option::as_ref).collect::<Vec<_>>()),
        })
    }
}

/// All columns of a table under construction.
struct Table {
    schema: &'static GroupSchema,
    envelope: Envelope,
    payload: Vec<Option<Column>>,
    n_rows: usize,
    n_rows_max: usize,
}

impl Table {
    fn new(schema: &'static GroupSchema, n_rows_max: usize) -> Self {
        let n_payload = schema.file.fields().len() - schema.n_envelope;
        let payload = std::iter::repeat_with(|| None).take(n_payload).collect();
        Self { schema, envelope: Envelope::new(n_rows_max), payload, n_rows: 0, n_rows_max }
    }

    /// Adds a row, whose cells were found to fit.
    fn push(&mut self, row: &Row<'_>, cells: &[(u16, Cell<'_>)], ingested_at: Timestamp) -> Result<(), ArrowError> {
        self.envelope.push(row, ingested_at)?;
        for (column, cell) in cells {
            let ty = &self.schema.columns[usize::from(*column)].ty;
            let payload = &mut self.payload[usize::from(*column) - self.schema.n_envelope];
            payload.get_or_insert_with(|| Column::new(ty, self.n_rows_max)).set(self.n_rows, cell)?;
        }
        self.n_rows += 1;
        Ok(())
    }

    fn finish(self) -> Result<RecordBatch, ArrowError> {
        let Self { schema, envelope, payload, n_rows, .. } = self;
        // Most columns of a batch have no value: those of one type are one array, rather than zeroed memory each.
        let mut empty: Vec<ArrayRef> = Vec::new();
        let mut arrays = Vec::with_capacity(payload.len());
        let described = schema.columns[schema.n_envelope..].iter().zip(&schema.file.fields()[schema.n_envelope..]);
        for (built, (column, field)) in payload.into_iter().zip(described) {
            let known = || empty.iter().find(|array| array.data_type() == field.data_type()).map(Arc::clone);
            arrays.push(match (built, known()) {
                (Some(built), _) => built.finish(&column.ty, n_rows)?,
                (None, Some(array)) => array,
                (None, None) => {
                    let array = null_column(field.data_type(), n_rows);
                    empty.push(Arc::clone(&array));
                    array
                }
            });
        }
        RecordBatch::try_new(Arc::clone(&schema.full), envelope.finish(arrays)?)
    }
}
