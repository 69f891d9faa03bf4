//! From borrowed rows straight to Arrow columns: the way of app usage, which comes by the hundred
//! thousand a second and never is a tree of JSON values.

use std::{borrow::Cow, ops::Range, sync::Arc};

use datafusion::arrow::{
    array::{
        Array, ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder,
        RecordBatch, StringViewBuilder, TimestampMicrosecondBuilder,
    },
    datatypes::DataType,
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

/// One event, its cells apart.
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
    /// Its part of [`Rows::cells`].
    pub cells: Range<usize>,
}

/// Rows with their cells: column of the type's table, value. Absent cells are null.
#[derive(Clone, Debug, Default)]
pub struct Rows<'a> {
    /// In any order.
    pub rows: Vec<Row<'a>>,
    /// Cells of all rows.
    pub cells: Vec<(u16, Cell<'a>)>,
}

impl EventRows {
    /// Makes a batch per table of borrowed rows. As with [`Self::build`], a row that does not fit its
    /// columns becomes a row of the quarantine table.
    pub fn of(rows: &Rows<'_>, ingested_at: Timestamp) -> Result<Self, LakeError> {
        let mut by_table: Vec<(&'static GroupSchema, Vec<usize>)> = Vec::new();
        let mut made = Self::default();
        let mut bad = Vec::new();
        for (at, row) in rows.rows.iter().enumerate() {
            match fault(row, &rows.cells) {
                None => {
                    // There is one schema per table: comparing addresses is enough, and the last table first is quick.
                    let schema = row.ty.schema;
                    match by_table.iter_mut().rfind(|(known, _)| std::ptr::eq(*known, schema)) {
                        Some((_, places)) => places.push(at),
                        None => by_table.push((schema, vec![at])),
                    }
                }
                Some(error) => {
                    made.rejected.push(error);
                    bad.push(at);
                }
            }
        }
        made.n_rows = rows.rows.len();
        for (schema, mut order) in by_table {
            sort(rows, &mut order);
            let payload = payload_columns(schema, rows, &order);
            made.insert_columns(&schema.name, schema, rows, &order, payload, ingested_at)?;
        }
        if !bad.is_empty() {
            let schema = schema::group(QUARANTINE).ok_or_else(|| LakeError::UnknownTable(QUARANTINE.to_owned()))?;
            let mut texts = [StringViewBuilder::new(), StringViewBuilder::new()];
            let mut faults: Vec<(usize, &RowError)> = bad.iter().copied().zip(&made.rejected).collect();
            let mut order: Vec<usize> = bad.clone();
            sort(rows, &mut order);
            faults.sort_by_key(|(at, _)| order.iter().position(|other| other == at));
            for (_, error) in faults {
                texts[0].append_value(error.fault.code());
                texts[1].append_value(&error.field);
            }
            let mut payload = texts.map(|mut text| Arc::new(text.finish()) as ArrayRef).to_vec();
            payload.push(null_column(&DataType::Utf8View, bad.len()));
            made.insert_columns(QUARANTINE, schema, rows, &order, payload, ingested_at)?;
        }
        Ok(made)
    }

    fn insert_columns(
        &mut self,
        name: &str,
        schema: &GroupSchema,
        rows: &Rows<'_>,
        order: &[usize],
        payload: Vec<ArrayRef>,
        ingested_at: Timestamp,
    ) -> Result<(), LakeError> {
        let mut envelope = Envelope::new(order.len());
        order.iter().for_each(|at| envelope.push(&rows.rows[*at], ingested_at));
        let columns = envelope.finish(payload);
        let batch = RecordBatch::try_new(Arc::clone(&schema.full), columns).map_err(LakeError::arrow(name))?;
        self.tables.insert(name.to_owned(), batch);
        Ok(())
    }
}

/// Asia/Tokyo day of an instant, in days since 1970-01-01.
fn jst_day(at: Timestamp) -> i32 {
    i32::try_from(at.as_micros().saturating_add(JST_OFFSET_US).div_euclid(DAY_US)).unwrap_or(i32::MAX)
}

/// By municipality, day, event type and time, as tables are cut and files sorted.
fn sort(rows: &Rows<'_>, order: &mut Vec<usize>) {
    let municipalities = ranks(order.iter().map(|at| rows.rows[*at].municipality_code));
    let mut keys: Vec<(u32, i32, u16, i64, usize)> = order
        .iter()
        .zip(municipalities)
        .map(|(at, municipality)| {
            let row = &rows.rows[*at];
            (municipality, jst_day(row.occurred_at), row.ty.rank, row.occurred_at.as_micros(), *at)
        })
        .collect();
    // Each sender's events mostly come in order: the stable sort finds such runs and merges them.
    keys.sort();
    order.clear();
    order.extend(keys.iter().map(|key| key.4));
}

fn fault(row: &Row<'_>, cells: &[(u16, Cell<'_>)]) -> Option<RowError> {
    let misfit = cells[row.cells.clone()].iter().find(|(column, cell)| {
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

/// The columns every row has, under construction. Each row is visited once for all of them: a row takes a few hundred
/// bytes, and going through all rows for one column after the other reads them from memory again each time.
struct Envelope {
    event_id: StringViewBuilder,
    event_type: StringViewBuilder,
    schema_version: Int32Builder,
    occurred_at: TimestampMicrosecondBuilder,
    recorded_at: TimestampMicrosecondBuilder,
    ingested_at: TimestampMicrosecondBuilder,
    fiscal_year: Int16Builder,
    actor_role: StringViewBuilder,
    actor_key: Int64Builder,
    source_channel: StringViewBuilder,
    subject_kind: StringViewBuilder,
    subject_id: StringViewBuilder,
    subject_seq: Int64Builder,
    correlation_id: StringViewBuilder,
    causation_id: StringViewBuilder,
    recorded_offline: BooleanBuilder,
    programme_code: StringViewBuilder,
    facility_id: StringViewBuilder,
    municipality_code: StringViewBuilder,
    day: Date32Builder,
    /// The last day with its fiscal year: rows are in the order of days, so it is looked up once for each.
    known_day: (i32, i16),
    id_text: [u8; uuid::fmt::Hyphenated::LENGTH],
}

impl Envelope {
    fn new(n_rows: usize) -> Self {
        let text = || StringViewBuilder::with_capacity(n_rows);
        let instant = || TimestampMicrosecondBuilder::with_capacity(n_rows).with_timezone("UTC");
        Self {
            event_id: text(),
            event_type: text(),
            schema_version: Int32Builder::with_capacity(n_rows),
            occurred_at: instant(),
            recorded_at: instant(),
            ingested_at: instant(),
            fiscal_year: Int16Builder::with_capacity(n_rows),
            actor_role: text(),
            actor_key: Int64Builder::with_capacity(n_rows),
            source_channel: text(),
            subject_kind: text(),
            subject_id: text(),
            subject_seq: Int64Builder::with_capacity(n_rows),
            correlation_id: text(),
            causation_id: text(),
            recorded_offline: BooleanBuilder::with_capacity(n_rows),
            programme_code: text(),
            facility_id: text(),
            municipality_code: text(),
            day: Date32Builder::with_capacity(n_rows),
            known_day: (i32::MIN, 0),
            id_text: [0; uuid::fmt::Hyphenated::LENGTH],
        }
    }

    fn push(&mut self, row: &Row<'_>, ingested_at: Timestamp) {
        let day = jst_day(row.occurred_at);
        if self.known_day.0 != day {
            self.known_day = (day, fiscal_year(date_of(day)));
        }
        self.event_id.append_value(hyphenated(row.event_id, &mut self.id_text));
        self.event_type.append_value(row.ty.name);
        self.schema_version.append_value(i32::from(row.schema_version));
        self.occurred_at.append_value(row.occurred_at.as_micros());
        self.recorded_at.append_value(row.recorded_at.as_micros());
        self.ingested_at.append_value(ingested_at.as_micros());
        self.fiscal_year.append_value(self.known_day.1);
        self.actor_role.append_value(row.actor_role);
        self.actor_key.append_option(row.actor_key);
        self.source_channel.append_value(row.source_channel);
        self.subject_kind.append_value(row.subject_kind);
        self.subject_id.append_value(row.subject_id.as_ref());
        self.subject_seq.append_value(i64::try_from(row.subject_seq).unwrap_or(i64::MAX));
        self.correlation_id.append_option(row.correlation_id);
        self.causation_id.append_option(row.causation_id);
        self.recorded_offline.append_value(row.recorded_offline);
        self.programme_code.append_option(row.programme_code);
        self.facility_id.append_option(row.facility_id);
        self.municipality_code.append_value(row.municipality_code);
        self.day.append_value(day);
    }

    /// The columns of a table's schema, with those of the payload between the envelope's and the partition's.
    fn finish(mut self, payload: Vec<ArrayRef>) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.event_id.finish()),
            Arc::new(self.event_type.finish()),
            Arc::new(self.schema_version.finish()),
            Arc::new(self.occurred_at.finish()),
            Arc::new(self.recorded_at.finish()),
            Arc::new(self.ingested_at.finish()),
            Arc::new(self.fiscal_year.finish()),
            Arc::new(self.actor_role.finish()),
            Arc::new(self.actor_key.finish()),
            Arc::new(self.source_channel.finish()),
            Arc::new(self.subject_kind.finish()),
            Arc::new(self.subject_id.finish()),
            Arc::new(self.subject_seq.finish()),
            Arc::new(self.correlation_id.finish()),
            Arc::new(self.causation_id.finish()),
            Arc::new(self.recorded_offline.finish()),
            Arc::new(self.programme_code.finish()),
            Arc::new(self.facility_id.finish()),
        ];
        columns.extend(payload);
        columns.push(Arc::new(self.municipality_code.finish()));
        columns.push(Arc::new(self.day.finish()));
        columns
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
    Text(StringViewBuilder),
    Tree(Vec<Option<Value>>),
}

macro_rules! pad {
    ($builder:expr, $n_rows:expr) => {{
        let missing = $n_rows - datafusion::arrow::array::ArrayBuilder::len($builder);
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
            FieldType::Str | FieldType::Id | FieldType::Text => Self::Text(StringViewBuilder::with_capacity(n_rows)),
            FieldType::List(_) | FieldType::Struct(_) => Self::Tree(Vec::with_capacity(n_rows)),
        }
    }

    fn pad(&mut self, n_rows: usize) {
        match self {
            Self::Int64(builder) => pad!(builder, n_rows),
            Self::Int32(builder) => pad!(builder, n_rows),
            Self::Int16(builder) => pad!(builder, n_rows),
            Self::Float(builder) => pad!(builder, n_rows),
            Self::Bool(builder) => pad!(builder, n_rows),
            Self::Instant(builder) => pad!(builder, n_rows),
            Self::Day(builder) => pad!(builder, n_rows),
            Self::Text(builder) => pad!(builder, n_rows),
            Self::Tree(values) => values.resize(n_rows, None),
        }
    }

    /// Sets the cell of row `at`, which was found to fit.
    fn set(&mut self, at: usize, cell: &Cell<'_>) {
        self.pad(at);
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
            (Self::Text(builder), Cell::Text(text)) => builder.append_value(text),
            (Self::Tree(values), Cell::Json(value)) => values.push(Some(value.clone())),
            _ => {}
        }
    }

    fn finish(mut self, ty: &FieldType, n_rows: usize) -> ArrayRef {
        self.pad(n_rows);
        match self {
            Self::Int64(mut builder) => Arc::new(builder.finish()),
            Self::Int32(mut builder) => Arc::new(builder.finish()),
            Self::Int16(mut builder) => Arc::new(builder.finish()),
            Self::Float(mut builder) => Arc::new(builder.finish()),
            Self::Bool(mut builder) => Arc::new(builder.finish()),
            Self::Instant(mut builder) => Arc::new(builder.finish()),
            Self::Day(mut builder) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Tree(values) => array(ty, &values.iter().map(Option::as_ref).collect::<Vec<_>>()),
        }
    }
}

fn payload_columns(schema: &GroupSchema, rows: &Rows<'_>, order: &[usize]) -> Vec<ArrayRef> {
    let n_rows = order.len();
    let columns = &schema.columns[schema.n_envelope..schema.file.fields().len()];
    let mut building: Vec<Option<Column>> = columns.iter().map(|_| None).collect();
    for (at, row) in order.iter().map(|at| &rows.rows[*at]).enumerate() {
        for (column, cell) in &rows.cells[row.cells.clone()] {
            let place = usize::from(*column) - schema.n_envelope;
            building[place].get_or_insert_with(|| Column::new(&columns[place].ty, n_rows)).set(at, cell);
        }
    }
    let fields = &schema.file.fields()[schema.n_envelope..];
    // Most columns of a batch have no value: those of one type are one array, rather than zeroed memory each.
    let mut empty: Vec<ArrayRef> = Vec::new();
    building
        .into_iter()
        .zip(columns)
        .zip(fields)
        .map(|((built, column), field)| match built {
            Some(built) => built.finish(&column.ty, n_rows),
            None => match empty.iter().find(|array| array.data_type() == field.data_type()) {
                Some(array) => Arc::clone(array),
                None => {
                    let array = null_column(field.data_type(), n_rows);
                    empty.push(Arc::clone(&array));
                    array
                }
            },
        })
        .collect()
}
