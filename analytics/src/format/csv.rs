//! CSV as flows.md Part I wants it: UTF-8 with BOM, CRLF, RFC 4180 quoting, a header of names,
//! booleans 0/1, and an apostrophe before text that a spreadsheet would take for a formula.

use std::borrow::Cow;

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::cell::{Cell, Cells};
use crate::error::FormatError;

const BOM: &[u8] = b"\xEF\xBB\xBF";

pub(crate) fn bytes(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, FormatError> {
    let mut out = BOM.to_vec();
    let header = schema.fields().iter().map(|field| harmless(field.name()).into_owned());
    line(&mut out, header);
    for batch in batches {
        let cells = Cells::new(batch);
        for row in 0..batch.num_rows() {
            let values = (0..batch.num_columns()).map(|column| cells.get(row, column).map(written));
            let values: Vec<String> = values
                .collect::<Result<_, _>>()
                .map_err(|source| FormatError { format: "csv", source: Box::new(source) })?;
            line(&mut out, values.into_iter());
        }
    }
    Ok(out)
}

fn line(out: &mut Vec<u8>, values: impl Iterator<Item = String>) {
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(quoted(&value).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn quoted(value: &str) -> Cow<'_, str> {
    if value.contains([',', '"', '\r', '\n']) {
        Cow::Owned(format!("\"{}\"", value.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(value)
    }
}

/// Text that a spreadsheet would run is made text for it too. Numbers are left alone: -5 is a number.
fn harmless(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@']) { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

fn written(cell: Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Masked => "*".to_owned(),
        Cell::Text(text) => harmless(&text).into_owned(),
        Cell::Whole(number) => number.to_string(),
        Cell::Decimal(number) | Cell::Day(number) => number,
        Cell::Float(number) => number.to_string(),
        Cell::Flag(flag) => u8::from(flag).to_string(),
        Cell::Instant(at) => format!("{}+09:00", at.jst().strftime("%Y-%m-%dT%H:%M:%S")),
        Cell::Nested(value) => value.to_string(),
    }
}
