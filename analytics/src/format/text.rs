//! Aligned text for terminals. Japanese characters take two columns there.

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::cell::{Cell, Cells, is_numeric};
use crate::error::FormatError;

pub(crate) fn bytes(header: &[&str], schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, FormatError> {
    let mut lines: Vec<Vec<String>> = vec![header.iter().map(|name| (*name).to_owned()).collect()];
    for batch in batches {
        let cells = Cells::new(batch);
        for row in 0..batch.num_rows() {
            let values = (0..batch.num_columns()).map(|column| cells.get(row, column).map(written));
            let values: Result<Vec<String>, _> = values.collect();
            lines.push(values.map_err(|source| FormatError { format: "table", source: Box::new(source) })?);
        }
    }
    let widths: Vec<usize> =
        (0..header.len()).map(|column| lines.iter().map(|line| width(&line[column])).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (column, value) in line.iter().enumerate() {
            let gap = " ".repeat(widths[column] - width(value));
            let right = at > 0 && is_numeric(schema.field(column).data_type());
            out.push_str(if column > 0 { "  " } else { "" });
            if right {
                out.push_str(&gap);
            }
            out.push_str(value);
            if !right && column + 1 < line.len() {
                out.push_str(&gap);
            }
        }
        out.push('\n');
        if at == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            out.push_str(&rule.join("  "));
            out.push('\n');
        }
    }
    Ok(out.into_bytes())
}

fn written(cell: Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Masked => "*".to_owned(),
        // Control characters would break the lines, or the terminal.
        Cell::Text(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Cell::Whole(number) => number.to_string(),
        Cell::Decimal(number) | Cell::Day(number) => number,
        Cell::Float(number) => number.to_string(),
        Cell::Flag(flag) => u8::from(flag).to_string(),
        Cell::Instant(at) => at.jst().strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Cell::Nested(value) => value.to_string(),
    }
}

/// Terminal columns of a text.
fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// 2 for East Asian wide and fullwidth characters, 0 for combining marks, 1 for the rest.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036F | 0x200B..=0x200F | 0x3099..=0x309A | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3041..=0x33FF
        | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xA000..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::width;

    #[test]
    fn japanese_takes_two_columns_and_halfwidth_kana_one() {
        assert_eq!(width("利用率（％）"), 12);
        assert_eq!(width("ｶﾅ"), 2);
        assert_eq!(width("か\u{3099}"), 2);
        assert_eq!(width("abc"), 3);
    }
}
