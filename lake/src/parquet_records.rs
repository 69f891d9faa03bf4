//! Parquet files of others: each row as the text of a JSON object, for who reads records as JSON.

use std::{fmt, fs::File, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray},
        compute::cast,
        datatypes::{
            DataType, Date32Type, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
            Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
            TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
        },
    },
    parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
};
use todoke_domain::Timestamp;
use uuid::Uuid;

use crate::{LakeError, rows::date_of};

/// Rows decoded at a time: bounds the memory.
const BATCH_ROWS: usize = 8_192;
/// Bytes of a UUID.
const UUID_BYTES: i32 = 16;

/// The rows of one Parquet file, in its order.
pub struct ParquetRecords {
    reader: ParquetRecordBatchReader,
    /// Names of the columns as JSON, each with its colon.
    names: Vec<String>,
    batch: Option<RecordBatch>,
    next: usize,
    n_rows: u64,
}

impl fmt::Debug for ParquetRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetRecords").field("n_rows", &self.n_rows).finish_non_exhaustive()
    }
}

impl ParquetRecords {
    /// Reads the file's footer.
    ///
    /// Errors: [`LakeError::NotRecords`] when it is no Parquet file, or has a column of a type that no
    /// field of an event has.
    pub fn open(file: File) -> Result<Self, LakeError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(not_records)?;
        let n_rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let names = names(builder.schema())?;
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(not_records)?;
        Ok(Self { reader, names, batch: None, next: 0, n_rows })
    }

    /// Number of rows in the file.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Writes the next row to the end of `out`; `false` if there is none. Absent values are left out, instants are
    /// RFC 3339 texts, days `YYYY-MM-DD` and UUIDs hyphenated; inside lists and structs instants are microseconds.
    ///
    /// Errors: [`LakeError::NotRecords`] when the file is damaged.
    pub fn next_into(&mut self, out: &mut String) -> Result<bool, LakeError> {
        while self.batch.as_ref().is_none_or(|batch| self.next >= batch.num_rows()) {
            let Some(batch) = self.reader.next() else { return Ok(false) };
            self.batch = Some(batch.and_then(|batch| plain(&batch)).map_err(not_records)?);
            self.next = 0;
        }
        let Some(batch) = &self.batch else { return Ok(false) };
        push_object(out, &self.names, batch.columns(), self.next);
        self.next += 1;
        Ok(true)
    }
}

/// Rows as texts of JSON objects, as [`ParquetRecords::next_into`] writes them.
pub(crate) fn objects(rows: &RecordBatch) -> Result<StringViewArray, LakeError> {
    let names = names(rows.schema_ref())?;
    let object = |row| {
        let mut text = String::new();
        push_object(&mut text, &names, rows.columns(), row);
        text
    };
    Ok(StringViewArray::from_iter_values((0..rows.num_rows()).map(object)))
}

fn push_object(out: &mut String, names: &[String], columns: &[ArrayRef], row: usize) {
    out.push('{');
    let begin = out.len();
    for (name, column) in names.iter().zip(columns) {
        if column.is_null(row) || *column.data_type() == DataType::Null {
            continue;
        }
        if out.len() > begin {
            out.push(',');
        }
        out.push_str(name);
        match instant(column, row) {
            Some(at) => push_text(out, &at.to_string()),
            None => push(out, column, row),
        }
    }
    out.push('}');
}

fn not_records<E: std::error::Error + Send + Sync + 'static>(error: E) -> LakeError {
    LakeError::NotRecords { source: Box::new(error) }
}

fn names(schema: &Schema) -> Result<Vec<String>, LakeError> {
    let name = |field: &FieldRef| {
        if !is_readable(field.data_type()) {
            let text = format!("column {} is of type {}", field.name(), field.data_type());
            return Err(LakeError::NotRecords { source: text.into() });
        }
        let mut name = String::new();
        push_text(&mut name, field.name());
        name.push(':');
        Ok(name)
    };
    schema.fields().iter().map(name).collect()
}

fn is_readable(ty: &DataType) -> bool {
    match ty {
        DataType::List(item) => is_readable(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_readable(field.data_type())),
        DataType::Dictionary(_, values) => {
            matches!(**values, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        }
        other => {
            other.is_integer()
                || matches!(
                    other,
                    DataType::Null
                        | DataType::Boolean
                        | DataType::Float32
                        | DataType::Float64
                        | DataType::Date32
                        | DataType::Timestamp(..)
                        | DataType::Utf8
                        | DataType::LargeUtf8
                        | DataType::Utf8View
                        | DataType::FixedSizeBinary(UUID_BYTES)
                )
        }
    }
}

/// The batch with its dictionaries written out.
fn plain(batch: &RecordBatch) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
    if !batch.columns().iter().any(|column| matches!(column.data_type(), DataType::Dictionary(..))) {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Dictionary(..) => cast(column, &DataType::Utf8),
        _ => Ok(Arc::clone(column)),
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    let named = batch.schema_ref().fields().iter().map(|field| field.name().clone()).zip(columns);
    RecordBatch::try_from_iter_with_nullable(named.map(|(name, column)| (name, column, true)))
}

/// The instant of a value of a timestamp column. What no microseconds can hold is the end of time.
fn instant(array: &dyn Array, row: usize) -> Option<Timestamp> {
    let DataType::Timestamp(unit, _) = array.data_type() else { return None };
    let micros = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1_000_000),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row).saturating_mul(1_000),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000),
    };
    Some(Timestamp::from_micros(micros))
}

/// Writes a value as JSON.
fn push(out: &mut String, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        out.push_str("null");
        return;
    }
    if let Some(at) = instant(array, row) {
        out.push_str(&at.as_micros().to_string());
        return;
    }
    match array.data_type() {
        DataType::Utf8 => push_text(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => push_text(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => push_text(out, array.as_string_view().value(row)),
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int8 => out.push_str(&array.as_primitive::<Int8Type>().value(row).to_string()),
        DataType::Int16 => out.push_str(&array.as_primitive::<Int16Type>().value(row).to_string()),
        DataType::Int32 => out.push_str(&array.as_primitive::<Int32Type>().value(row).to_string()),
        DataType::Int64 => out.push_str(&array.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::UInt8 => out.push_str(&array.as_primitive::<UInt8Type>().value(row).to_string()),
        DataType::UInt16 => out.push_str(&array.as_primitive::<UInt16Type>().value(row).to_string()),
        DataType::UInt32 => out.push_str(&array.as_primitive::<UInt32Type>().value(row).to_string()),
        DataType::UInt64 => out.push_str(&array.as_primitive::<UInt64Type>().value(row).to_string()),
        DataType::Float32 => push_float(out, f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => push_float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Date32 => push_text(out, &date_of(array.as_primitive::<Date32Type>().value(row)).to_string()),
        DataType::FixedSizeBinary(UUID_BYTES) => {
            let id = Uuid::from_slice(array.as_fixed_size_binary().value(row)).unwrap_or_default();
            push_text(out, id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for item in 0..items.len() {
                if item > 0 {
                    out.push(',');
                }
                push(out, &items, item);
            }
            out.push(']');
        }
        DataType::Struct(fields) => {
            out.push('{');
            for (at, (field, column)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push_text(out, field.name());
                out.push(':');
                push(out, column, row);
            }
            out.push('}');
        }
        // No other type is readable.
        _ => out.push_str("null"),
    }
}

/// What is no number in JSON is written as text, so that it is found to be none.
fn push_float(out: &mut String, value: f64) {
    if value.is_finite() { out.push_str(&value.to_string()) } else { push_text(out, &value.to_string()) }
}

fn push_text(out: &mut String, text: &str) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::{
            array::{BooleanArray, FixedSizeBinaryArray, Int32Array, Int64Array, ListArray, TimestampMicrosecondArray},
            datatypes::Int32Type,
        },
        parquet::arrow::ArrowWriter,
    };

    use super::*;

    #[test]
    fn rows_are_json_objects_without_what_is_null() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let id: Uuid = "01a1f6e5-8780-7000-8000-000000000001".parse().unwrap();
        let ids = [Some(id.into_bytes()), None];
        let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.into_iter(), UUID_BYTES).unwrap();
        let columns: [(&str, ArrayRef); 7] = [
            ("id", Arc::new(ids)),
            ("name", Arc::new(StringViewArray::from(vec![Some("a\"b"), Some("plain")]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]).with_timezone("UTC"))),
            ("key", Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(-1)]))),
            ("n", Arc::new(Int32Array::from(vec![None, Some(3)]))),
            ("yes", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("list", Arc::new(lists)),
        ];
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
                .unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = ArrowWriter::try_new(file.try_clone().unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut records = ParquetRecords::open(file).unwrap();
        let mut text = String::new();
        while records.next_into(&mut text).unwrap() {
            text.push('\n');
        }
        assert_eq!(records.n_rows(), 2);
        let expected = concat!(
            r#"{"id":"01a1f6e5-8780-7000-8000-000000000001","#,
            r#""name":"a\"b","at":"1970-01-01T00:00:00.000001Z","key":9223372036854775807,"yes":true,"list":[1,null]}"#,
            "\n",
            r#"{"name":"plain","key":-1,"n":3}"#,
            "\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_no_parquet_file_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"event_id,event_type\n").unwrap();
        assert!(matches!(ParquetRecords::open(file), Err(LakeError::NotRecords { .. })));
    }
}
