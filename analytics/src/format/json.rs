//! JSON of the HTTP API: columns, and rows as arrays.

use arrow::array::RecordBatch;
use serde_json::{Number, Value, json};

use super::cell::{Cell, Cells};
use crate::{error::FormatError, report::ReportTable, sql::SqlAnswer};

/// A report: `{report_id, title, columns, rows, provenance}`.
pub fn report_json(table: &ReportTable) -> Value {
    json!({
        "report_id": table.report.as_str(),
        "title": table.title,
        "columns": table.columns,
        "rows": rows(&table.batches),
        "provenance": table.provenance,
    })
}

/// An answer: `{columns, rows, truncated, n_rows, snapshot_id, watermark}`.
pub fn answer_json(answer: &SqlAnswer) -> Value {
    json!({
        "columns": answer.columns,
        "rows": rows(&answer.batches),
        "truncated": answer.truncated,
        "n_rows": answer.n_rows,
        "snapshot_id": answer.snapshot_id,
        "watermark": answer.watermark,
    })
}

pub(crate) fn bytes(value: &Value) -> Result<Vec<u8>, FormatError> {
    serde_json::to_vec(value).map_err(|source| FormatError { format: "json", source: Box::new(source) })
}

fn rows(batches: &[RecordBatch]) -> Vec<Value> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let cells = Cells::new(batch);
        for row in 0..batch.num_rows() {
            rows.push(Value::Array(
                // A value Arrow cannot print is of a type no table here has; an empty cell is the safe answer.
                (0..batch.num_columns()).map(|column| value_of(cells.get(row, column).unwrap_or(Cell::Null))).collect(),
            ));
        }
    }
    rows
}

/// The largest whole number JavaScript keeps exactly.
const EXACT_MAX: i128 = (1 << 53) - 1;

/// A value as JSON has it.
pub(crate) fn value_of(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Masked => "*".into(),
        Cell::Text(text) | Cell::Day(text) => text.into(),
        // Keys of people are 63 bits: as a number a browser would round them.
        Cell::Whole(number) if number.abs() > EXACT_MAX => number.to_string().into(),
        Cell::Whole(number) => i64::try_from(number).map_or(Value::Null, Value::from),
        Cell::Decimal(number) => {
            let parsed = number.parse().ok().and_then(Number::from_f64);
            parsed.map_or(Value::String(number), Value::Number)
        }
        Cell::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Cell::Flag(flag) => flag.into(),
        Cell::Instant(at) => at.to_string().into(),
        Cell::Nested(value) => value,
    }
}
