//! From events to Arrow rows, one batch per table.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Date32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray,
        RecordBatch, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, FieldRef},
    error::ArrowError,
};
use jiff::civil::Date;
use serde_json::Value;
use todoke_domain::{Event, Timestamp, catalogue::events::FieldType, time::fiscal_year};

use crate::{
    LakeError, QUARANTINE,
    schema::{self, GroupSchema},
    slice,
};

/// Why an event cannot be a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFault {
    /// The type is not in the catalogue.
    UnknownType,
    /// The type has no such field, or the field may not enter the lake.
    UnknownField,
    /// The value is not of the catalogued type.
    IllTyped,
}

impl RowFault {
    /// The code of the quarantine's `fault` column.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_type",
            Self::UnknownField => "unknown_field",
            Self::IllTyped => "ill_typed",
        }
    }
}

/// An event that did not become a row, and the field that is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {event_id} ({event_type}), field `{field}`: {}", fault.code())]
pub struct RowError {
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// The field; empty when the type itself is unknown.
    pub field: String,
    /// What is wrong with it.
    pub fault: RowFault,
}

/// Rows of one set of events: a batch per table, sorted by municipality, day, type and time.
#[derive(Clone, Debug, Default)]
pub struct EventRows {
    pub(crate) tables: BTreeMap<String, RecordBatch>,
    pub(crate) rejected: Vec<RowError>,
    pub(crate) n_rows: usize,
}

impl EventRows {
    /// Makes rows of `events`. An event that does not fit its catalogued fields becomes a row of the
    /// quarantine table (id, type and reason, no content) and is listed in [`Self::rejected`].
    pub fn build(events: &[Event], ingested_at: Timestamp) -> Result<Self, LakeError> {
        let mut by_group: BTreeMap<&'static str, Vec<&Event>> = BTreeMap::new();
        let mut rejected = Vec::new();
        let mut bad = Vec::new();
        for event in events {
            match fault_of(event) {
                Ok(schema) => by_group.entry(schema.name.as_str()).or_default().push(event),
                Err(error) => {
                    rejected.push(error);
                    bad.push(event);
                }
            }
        }
        let mut rows = Self { rejected, n_rows: events.len(), ..Self::default() };
        for (name, events) in by_group {
            let schema = schema::group(name).ok_or_else(|| LakeError::UnknownTable(name.to_owned()))?;
            let payload = payload_columns(schema, &events);
            rows.insert(schema, &events, payload, ingested_at)?;
        }
        if !bad.is_empty() {
            let schema = schema::group(QUARANTINE).ok_or_else(|| LakeError::UnknownTable(QUARANTINE.to_owned()))?;
            let faults = rows.rejected.iter().map(|e| Some(e.fault.code()));
            let fields = rows.rejected.iter().map(|e| Some(e.field.as_str()));
            let payload: Vec<ArrayRef> = vec![
                Arc::new(faults.collect::<StringViewArray>()),
                Arc::new(fields.collect::<StringViewArray>()),
                null_column(&DataType::Utf8View, bad.len()),
            ];
            rows.insert(schema, &bad, payload, ingested_at)?;
        }
        Ok(rows)
    }

    fn insert(
        &mut self,
        schema: &GroupSchema,
        events: &[&Event],
        payload: Vec<ArrayRef>,
        ingested_at: Timestamp,
    ) -> Result<(), LakeError> {
        let mut columns = envelope_columns(events, ingested_at);
        columns.extend(payload);
        columns.extend(partition_columns(events));
        let batch = RecordBatch::try_new(Arc::clone(&schema.full), columns)
            .and_then(|batch| slice::sort(&batch))
            .map_err(LakeError::arrow(&schema.name))?;
        self.tables.insert(schema.name.clone(), batch);
        Ok(())
    }

    /// Events that are in the quarantine table instead of their own.
    pub fn rejected(&self) -> &[RowError] {
        &self.rejected
    }

    /// Number of rows over all tables, quarantine included; equals the number of events.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The batch of one table, if any event belongs there.
    pub fn table(&self, name: &str) -> Option<&RecordBatch> {
        self.tables.get(name)
    }

    /// Names of the tables with rows.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }
}

fn fault_of(event: &Event) -> Result<&'static GroupSchema, RowError> {
    let error = |field: &str, fault| RowError {
        event_id: event.event_id.to_string(),
        event_type: event.event_type.clone(),
        field: field.to_owned(),
        fault,
    };
    let schema = schema::group(event.group()).ok_or_else(|| error("", RowFault::UnknownType))?;
    let fields = schema.fields_of.get(&event.event_type).ok_or_else(|| error("", RowFault::UnknownType))?;
    for (name, value) in &event.payload {
        let column = fields.get(name).ok_or_else(|| error(name, RowFault::UnknownField))?;
        if !value.is_null() && !value_fits(&schema.columns[*column].ty, value) {
            return Err(error(name, RowFault::IllTyped));
        }
    }
    Ok(schema)
}

/// Whether a JSON value, not null, is of a catalogue type.
pub fn value_fits(ty: &FieldType, value: &Value) -> bool {
    match ty {
        FieldType::Yen | FieldType::Key | FieldType::I64 | FieldType::U64 | FieldType::Ts => value.as_i64().is_some(),
        FieldType::Units | FieldType::Min | FieldType::N => value.as_i64().is_some_and(|v| i32::try_from(v).is_ok()),
        FieldType::U16 => value.as_i64().is_some_and(|v| u16::try_from(v).is_ok()),
        FieldType::I16 => value.as_i64().is_some_and(|v| i16::try_from(v).is_ok()),
        FieldType::F64 => value.as_f64().is_some(),
        FieldType::Bool => value.is_boolean(),
        FieldType::Date => value.as_str().is_some_and(|text| day_of_text(text).is_some()),
        FieldType::Str | FieldType::Id | FieldType::Text => value.is_string(),
        FieldType::List(item) => {
            value.as_array().is_some_and(|items| items.iter().all(|v| v.is_null() || value_fits(item, v)))
        }
        FieldType::Struct(fields) => value.as_object().is_some_and(|object| {
            object.iter().all(|(name, v)| {
                fields.iter().find(|f| f.name == *name).is_some_and(|f| v.is_null() || value_fits(&f.ty, v))
            })
        }),
    }
}

/// Days since 1970-01-01.
pub(crate) fn day_number(date: Date) -> i32 {
    let days = date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
    i32::try_from(days).unwrap_or(i32::MAX)
}

/// The calendar day of a day number; saturates at the calendar's ends.
pub(crate) fn date_of(day: i32) -> Date {
    Date::constant(1970, 1, 1).saturating_add(jiff::Span::new().days(day.clamp(-4_000_000, 2_900_000)))
}

pub(crate) fn day_of_text(text: &str) -> Option<i32> {
    text.parse::<Date>().ok().map(day_number)
}

fn envelope_columns(events: &[&Event], ingested_at: Timestamp) -> Vec<ArrayRef> {
    fn text<'a>(events: &[&'a Event], of: impl Fn(&'a Event) -> Option<&'a str>) -> ArrayRef {
        Arc::new(events.iter().map(|e| of(e)).collect::<StringViewArray>())
    }
    fn time(values: impl Iterator<Item = Timestamp>) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(values.map(Timestamp::as_micros)).with_timezone("UTC"))
    }
    let ids = events.iter().map(|e| Some(e.event_id.to_string())).collect::<StringViewArray>();
    let seq = events.iter().map(|e| i64::try_from(e.subject_seq).unwrap_or(i64::MAX));
    vec![
        Arc::new(ids),
        text(events, |e| Some(&e.event_type)),
        Arc::new(Int32Array::from_iter_values(events.iter().map(|e| i32::from(e.schema_version)))),
        time(events.iter().map(|e| e.occurred_at)),
        time(events.iter().map(|e| e.recorded_at)),
        time(events.iter().map(|_| ingested_at)),
        Arc::new(Int16Array::from_iter_values(events.iter().map(|e| fiscal_year(e.occurred_at.jst_date())))),
        text(events, |e| Some(&e.actor_role)),
        Arc::new(events.iter().map(|e| e.actor_key).collect::<Int64Array>()),
        text(events, |e| Some(&e.source_channel)),
        text(events, |e| Some(&e.subject_kind)),
        text(events, |e| Some(&e.subject_id)),
        Arc::new(Int64Array::from_iter_values(seq)),
        text(events, |e| e.correlation_id.as_deref()),
        text(events, |e| e.causation_id.as_deref()),
        Arc::new(events.iter().map(|e| Some(e.recorded_offline)).collect::<BooleanArray>()),
        text(events, |e| e.programme_code.as_deref()),
        text(events, |e| e.facility_id.as_deref()),
    ]
}

fn partition_columns(events: &[&Event]) -> Vec<ArrayRef> {
    let codes = events.iter().map(|e| Some(e.municipality_code.as_str())).collect::<StringViewArray>();
    let days = events.iter().map(|e| day_number(e.occurred_at.jst_date()));
    vec![Arc::new(codes), Arc::new(Date32Array::from_iter_values(days))]
}

fn payload_columns(schema: &GroupSchema, events: &[&Event]) -> Vec<ArrayRef> {
    let n_payload = schema.file.fields().len() - schema.n_envelope;
    let mut cells: Vec<Vec<Option<&Value>>> = vec![vec![None; events.len()]; n_payload];
    for (row, event) in events.iter().enumerate() {
        let Some(fields) = schema.fields_of.get(&event.event_type) else { continue };
        for (name, value) in &event.payload {
            if let Some(column) = fields.get(name)
                && !value.is_null()
            {
                cells[column - schema.n_envelope][row] = Some(value);
            }
        }
    }
    let columns = &schema.columns[schema.n_envelope..];
    cells.iter().zip(columns).map(|(cells, column)| top_array(&column.ty, cells)).collect()
}

fn top_array(ty: &FieldType, cells: &[Option<&Value>]) -> ArrayRef {
    match ty {
        FieldType::Str | FieldType::Id | FieldType::Text => {
            Arc::new(cells.iter().map(|c| c.and_then(Value::as_str)).collect::<StringViewArray>())
        }
        other => array(other, cells),
    }
}

/// An array of checked values: a value that does not fit (there is none after [`value_fits`]) becomes null.
pub(crate) fn array(ty: &FieldType, cells: &[Option<&Value>]) -> ArrayRef {
    let int = || cells.iter().map(|c| c.and_then(Value::as_i64));
    match ty {
        FieldType::Yen | FieldType::Key | FieldType::I64 | FieldType::U64 => Arc::new(int().collect::<Int64Array>()),
        FieldType::Units | FieldType::Min | FieldType::N | FieldType::U16 => {
            Arc::new(int().map(|v| v.and_then(|v| i32::try_from(v).ok())).collect::<Int32Array>())
        }
        FieldType::I16 => Arc::new(int().map(|v| v.and_then(|v| i16::try_from(v).ok())).collect::<Int16Array>()),
        FieldType::F64 => Arc::new(cells.iter().map(|c| c.and_then(Value::as_f64)).collect::<Float64Array>()),
        FieldType::Ts => Arc::new(int().collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        FieldType::Date => {
            Arc::new(cells.iter().map(|c| c.and_then(Value::as_str).and_then(day_of_text)).collect::<Date32Array>())
        }
        FieldType::Bool => Arc::new(cells.iter().map(|c| c.and_then(Value::as_bool)).collect::<BooleanArray>()),
        FieldType::Str | FieldType::Id | FieldType::Text => {
            Arc::new(cells.iter().map(|c| c.and_then(Value::as_str)).collect::<StringArray>())
        }
        FieldType::List(item) => list_array(item, cells),
        FieldType::Struct(fields) => {
            let present = NullBuffer::from_iter(cells.iter().map(Option::is_some));
            let children = fields.iter().map(|field| {
                let cells: Vec<Option<&Value>> =
                    cells.iter().map(|c| c.and_then(|v| v.get(&field.name)).filter(|v| !v.is_null())).collect();
                let values = array(&field.ty, &cells);
                (Field::new(&field.name, schema::nested_arrow_type(&field.ty), true).into(), values)
            });
            let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = children.unzip();
            Arc::new(StructArray::new(fields.into(), arrays, Some(present)))
        }
    }
}

fn list_array(item: &FieldType, cells: &[Option<&Value>]) -> ArrayRef {
    let lists: Vec<Option<&Vec<Value>>> = cells.iter().map(|c| c.and_then(Value::as_array)).collect();
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|l| l.map_or(0, Vec::len)));
    let present = NullBuffer::from_iter(lists.iter().map(Option::is_some));
    let items: Vec<Option<&Value>> =
        lists.iter().flatten().flat_map(|l| l.iter()).map(|v| Some(v).filter(|v| !v.is_null())).collect();
    let field = Arc::new(Field::new("element", schema::nested_arrow_type(item), true));
    Arc::new(ListArray::new(field, offsets, array(item, &items), Some(present)))
}

/// Brings a batch of an older file to a table's file schema: columns the file lacks are null, and
/// strings become views.
pub(crate) fn conform(batch: &RecordBatch, schema: &GroupSchema) -> Result<RecordBatch, ArrowError> {
    let columns = schema
        .file
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(found) if found.data_type() == field.data_type() => Ok(Arc::clone(found)),
            Some(found) => datafusion::arrow::compute::cast(found, field.data_type()),
            None => Ok(null_column(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(&schema.file), columns)
}

pub(crate) fn null_column(data_type: &DataType, n_rows: usize) -> ArrayRef {
    datafusion::arrow::array::new_null_array(data_type, n_rows)
}

#[cfg(test)]
mod tests;
