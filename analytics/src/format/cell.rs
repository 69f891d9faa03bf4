//! One value, as every text format sees it.

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
    error::ArrowError,
    json::writer::{JsonArray, WriterBuilder},
    util::display::{ArrayFormatter, FormatOptions},
};
use todoke_domain::Timestamp;

use crate::calendar;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// Nothing.
    Null,
    /// Hidden because too few people are behind it.
    Masked,
    /// Text of people or codes.
    Text(String),
    /// A whole number.
    Whole(i128),
    /// A decimal number as written.
    Decimal(String),
    /// A binary floating-point number.
    Float(f64),
    /// Yes or no.
    Flag(bool),
    /// A day, `YYYY-MM-DD`.
    Day(String),
    /// An instant.
    Instant(Timestamp),
    /// Anything nested, as JSON.
    Nested(serde_json::Value),
}

/// Whether a column's values sit at the right edge of a table.
pub(crate) fn is_numeric(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// The cells of one batch.
pub(crate) struct Cells<'a> {
    batch: &'a RecordBatch,
    masks: Option<&'a ArrayRef>,
}

/// Columns whose empty cells are shown as `*` in masked rows (reports.md R04).
const MASKED_COLUMNS: &[&str] = &["count", "share", "base"];

impl<'a> Cells<'a> {
    pub(crate) fn new(batch: &'a RecordBatch) -> Self {
        let masks = batch.column_by_name("masked").filter(|column| column.data_type() == &DataType::Boolean);
        Self { batch, masks }
    }

    pub(crate) fn get(&self, row: usize, column: usize) -> Result<Cell, ArrowError> {
        let array = self.batch.column(column);
        if array.is_null(row) {
            let masked = self.masks.is_some_and(|masks| masks.is_valid(row) && masks.as_boolean().value(row))
                && MASKED_COLUMNS.contains(&self.batch.schema_ref().field(column).name().as_str());
            return Ok(if masked { Cell::Masked } else { Cell::Null });
        }
        value(array, row)
    }
}

fn value(array: &ArrayRef, row: usize) -> Result<Cell, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => Cell::Null,
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row).to_owned()),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row).to_owned()),
        DataType::Int8 => Cell::Whole(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Cell::Whole(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Cell::Whole(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Whole(array.as_primitive::<Int64Type>().value(row).into()),
        DataType::UInt8 => Cell::Whole(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => Cell::Whole(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => Cell::Whole(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Cell::Whole(array.as_primitive::<UInt64Type>().value(row).into()),
        DataType::Float32 => Cell::Float(array.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => Cell::Float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => Cell::Decimal(array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Boolean => Cell::Flag(array.as_boolean().value(row)),
        DataType::Date32 => Cell::Day(day(array.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            Cell::Instant(Timestamp::from_micros(array.as_primitive::<TimestampMicrosecondType>().value(row)))
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::Struct(_) | DataType::Map(..) => {
            Cell::Nested(nested(array, row)?)
        }
        _ => {
            let options = FormatOptions::default();
            Cell::Text(ArrayFormatter::try_new(array.as_ref(), &options)?.value(row).to_string())
        }
    })
}

fn day(days: i32) -> String {
    calendar::day_of(days).to_string()
}

/// A nested value through Arrow's own JSON writer.
fn nested(array: &ArrayRef, row: usize) -> Result<serde_json::Value, ArrowError> {
    let one = RecordBatch::try_from_iter([("v", array.slice(row, 1))])?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    writer.write(&one)?;
    writer.finish()?;
    let mut rows: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_slice(&writer.into_inner()).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    Ok(rows.pop().and_then(|mut row| row.remove("v")).unwrap_or_default())
}
