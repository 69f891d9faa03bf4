//! A file as rows of named cells, with every error found on the way.

use std::collections::HashMap;

use jiff::civil::{Date, Time};
use todoke_domain::{Timestamp, text};

use crate::csv_file::{self, TextFault};

/// A column: its name in the file, and the name people see, which a header may use as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
}

impl Column {
    pub(super) const fn new(name: &'static str, label: &'static str) -> Self {
        Self { name, label }
    }
}

/// An error of a file, where a person finds it: rows count from 1, the header included.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RowError {
    /// Row in the file; 0 when the file as a whole is meant.
    pub row: usize,
    /// Name of the column; empty when the whole row is meant.
    pub column: String,
    /// What to correct, in Japanese.
    pub reason: String,
}

/// What is said about a file: errors, which refuse it, and remarks, which do not.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<RowError>,
    pub(super) remarks: Vec<RowError>,
}

impl Findings {
    pub(super) fn error(&mut self, row: usize, column: &str, reason: impl Into<String>) {
        self.errors.push(RowError { row, column: column.to_owned(), reason: reason.into() });
    }

    pub(super) fn remark(&mut self, row: usize, column: &str, reason: impl Into<String>) {
        self.remarks.push(RowError { row, column: column.to_owned(), reason: reason.into() });
    }

    /// The result file: row number, column, reason.
    pub(super) fn csv(&self) -> String {
        let mut found: Vec<&RowError> = self.errors.iter().chain(&self.remarks).collect();
        found.sort_by_key(|error| error.row);
        csv_file::encode(
            &["行番号", "列", "内容"],
            found.into_iter().map(|error| vec![error.row.to_string(), error.column.clone(), error.reason.clone()]),
        )
    }
}

/// A file's rows.
#[derive(Debug)]
pub(super) struct Table {
    places: Vec<usize>,
    columns: &'static [Column],
    n_cells: usize,
    /// With their row numbers. Blank lines are left out.
    records: Vec<(usize, csv::StringRecord)>,
}

impl Table {
    /// Reads a file whose header names `columns`, in any order and among others.
    pub(super) fn read(bytes: &[u8], columns: &'static [Column], findings: &mut Findings) -> Option<Self> {
        let text = match csv_file::decode(bytes) {
            Ok(text) => text,
            Err(fault) => {
                let row = if let TextFault::Encoding { line } = fault { line } else { 0 };
                findings.error(row, "", fault.to_string());
                return None;
            }
        };
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let mut records = Vec::new();
        let mut lines = Lines { text: text.as_bytes(), at: 0, line: 1 };
        for record in reader.records() {
            // The text is UTF-8 by now and rows may differ in length: nothing else can be wrong with a row.
            let Ok(record) = record else { continue };
            lines.advance_to(&record);
            if record.iter().any(|cell| !cell.trim().is_empty()) {
                records.push((lines.line, record));
            }
        }
        if records.is_empty() {
            findings.error(0, "", "ファイルが空です。");
            return None;
        }
        let (_, header) = records.remove(0);
        let places = places(&header, columns, findings)?;
        Some(Self { places, columns, n_cells: header.len(), records })
    }

    pub(super) fn n_rows(&self) -> usize {
        self.records.len()
    }

    /// The rows that have as many cells as the header; the others are errors.
    pub(super) fn rows<'a>(&'a self, findings: &mut Findings) -> Vec<Row<'a>> {
        let mut rows = Vec::with_capacity(self.records.len());
        for (number, record) in &self.records {
            if record.len() == self.n_cells {
                rows.push(Row { number: *number, table: self, record });
            } else {
                findings.error(
                    *number,
                    "",
                    format!("列の数が見出しと異なります（見出し{}列、この行{}列）。", self.n_cells, record.len()),
                );
            }
        }
        rows
    }
}

/// Counts the lines of a file up to a record. The reader's own count lags behind where lines end with CRLF.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn advance_to(&mut self, record: &csv::StringRecord) {
        let start = record.position().and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(self.at);
        let rest = self.text.get(start..).unwrap_or_default();
        // A record's position is where the one before it ended: blank lines may lie between.
        let begin = start + rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.line += self.text.get(self.at..begin).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
        self.at = begin;
    }
}

fn places(header: &csv::StringRecord, columns: &[Column], findings: &mut Findings) -> Option<Vec<usize>> {
    let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, name) in header.iter().enumerate() {
        named.entry(name.trim()).or_default().push(i);
    }
    let before = findings.errors.len();
    let mut places = Vec::with_capacity(columns.len());
    for column in columns {
        let found: Vec<usize> =
            [column.name, column.label].iter().filter_map(|name| named.get(name)).flatten().copied().collect();
        match found.as_slice() {
            [place] => places.push(*place),
            [] => {
                findings.error(1, column.name, format!("見出しに「{}」（{}）がありません。", column.name, column.label))
            }
            _ => findings.error(1, column.name, format!("見出しに「{}」が複数あります。", column.name)),
        }
    }
    (findings.errors.len() == before).then_some(places)
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) number: usize,
    table: &'a Table,
    record: &'a csv::StringRecord,
}

impl Row<'_> {
    /// A cell, without the white space around it.
    pub(super) fn cell(&self, column: Column) -> &str {
        let place = self.table.columns.iter().position(|known| *known == column).and_then(|i| self.table.places.get(i));
        place.and_then(|place| self.record.get(*place)).unwrap_or_default().trim()
    }

    /// A cell with text that must be there.
    pub(super) fn text(&self, column: Column, chars_max: usize, findings: &mut Findings) -> Option<String> {
        self.checked(column, text::line(self.cell(column), chars_max), findings)
    }

    /// A cell with a name in kana.
    pub(super) fn kana(&self, column: Column, findings: &mut Findings) -> Option<String> {
        self.checked(column, text::kana(self.cell(column), 100), findings)
    }

    /// A cell with a number of a register: letters, digits and hyphens.
    pub(super) fn code(&self, column: Column, findings: &mut Findings) -> Option<String> {
        let cell = self.cell(column);
        let fits = !cell.is_empty()
            && cell.len() <= 40
            && cell.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !fits {
            findings.error(self.number, column.name, "半角の英数字40文字以内で入力してください。");
        }
        fits.then(|| cell.to_owned())
    }

    /// A cell with one of the listed codes.
    pub(super) fn one_of(
        &self,
        column: Column,
        codes: &[&'static str],
        findings: &mut Findings,
    ) -> Option<&'static str> {
        let found = codes.iter().find(|code| **code == self.cell(column)).copied();
        if found.is_none() {
            findings.error(self.number, column.name, format!("{}のいずれかを入力してください。", codes.join("、")));
        }
        found
    }

    /// A cell with a day.
    pub(super) fn day(&self, column: Column, findings: &mut Findings) -> Option<Date> {
        let day = parse_day(self.cell(column));
        if day.is_none() {
            findings.error(self.number, column.name, "日付をYYYY-MM-DDの形式で入力してください。");
        }
        day
    }

    /// A cell with a day and a time, as a clock in Japan shows them.
    pub(super) fn moment(&self, column: Column, findings: &mut Findings) -> Option<Timestamp> {
        let parts = self.cell(column).split_once(' ');
        let moment = parts.and_then(|(day, time)| Some(Timestamp::from_jst(parse_day(day)?, parse_time(time)?)));
        if moment.is_none() {
            findings.error(self.number, column.name, "日時をYYYY-MM-DD HH:MMの形式で入力してください。");
        }
        moment
    }

    fn checked<T>(&self, column: Column, value: Result<T, text::TextError>, findings: &mut Findings) -> Option<T> {
        value.map_err(|error| findings.error(self.number, column.name, error.to_string())).ok()
    }
}

// jiff also takes other ISO 8601 forms; the file format has one only for days and one for times.

fn parse_day(cell: &str) -> Option<Date> {
    let form = cell.len() == 10
        && cell.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    form.then(|| cell.parse().ok()).flatten()
}

fn parse_time(cell: &str) -> Option<Time> {
    let form =
        cell.len() == 5 && cell.bytes().enumerate().all(|(i, b)| if i == 2 { b == b':' } else { b.is_ascii_digit() });
    form.then(|| cell.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: Column = Column::new("resident_no", "住民番号");
    const ON: Column = Column::new("movement_date", "異動日");

    fn read(text: &str) -> (Option<usize>, Vec<RowError>) {
        let mut findings = Findings::default();
        let table = Table::read(text.as_bytes(), &[NO, ON], &mut findings);
        if let Some(table) = &table {
            for row in table.rows(&mut findings) {
                row.code(NO, &mut findings);
                row.day(ON, &mut findings);
            }
        }
        (table.map(|table| table.n_rows()), findings.errors)
    }

    #[test]
    fn headers_may_be_codes_or_labels_in_any_order() {
        assert_eq!(read("異動日,x,resident_no\n2026-01-02,,A1\n\n"), (Some(1), Vec::new()));
        let (rows, errors) = read("resident_no,住民番号\n");
        assert_eq!(rows, None);
        assert_eq!(
            errors.iter().map(|e| (e.row, e.column.as_str())).collect::<Vec<_>>(),
            [(1, "resident_no"), (1, "movement_date")]
        );
    }

    #[test]
    fn rows_are_counted_as_a_text_editor_does() {
        let (rows, errors) = read("resident_no,movement_date\r\n\r\n\"A\r\n1\",2026-01-02\r\n,2026-01-02\r\n");
        assert_eq!(rows, Some(2));
        assert_eq!(errors.iter().map(|e| e.row).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn a_moment_has_one_form_and_is_japanese_time() {
        assert_eq!(parse_time("09:05"), Time::new(9, 5, 0, 0).ok());
        for wrong in ["9:05", "24:00", "09:60", "09:05:00", "T09:05", "0905", "0９:05"] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
        let mut findings = Findings::default();
        let text = "resident_no,movement_date\nA1,2026-06-01 00:30\nA1,2026-06-01\nA1,2026-06-01  00:30\n";
        let table = Table::read(text.as_bytes(), &[NO, ON], &mut findings).unwrap();
        let rows = table.rows(&mut findings);
        let moments: Vec<Option<Timestamp>> = rows.iter().map(|row| row.moment(ON, &mut findings)).collect();
        assert_eq!(moments, ["2026-05-31T15:30:00Z".parse::<Timestamp>().ok(), None, None]);
        assert_eq!(findings.errors.iter().map(|e| e.row).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn every_error_is_found_with_its_row() {
        let (rows, errors) = read("resident_no,movement_date\n,2026-1-2\nA1,20260102\nA2\n\"A 3\",2026-02-30\n");
        assert_eq!(rows, Some(4));
        let found: Vec<(usize, &str)> = errors.iter().map(|e| (e.row, e.column.as_str())).collect();
        assert_eq!(
            found,
            [
                (4, ""),
                (2, "resident_no"),
                (2, "movement_date"),
                (3, "movement_date"),
                (5, "resident_no"),
                (5, "movement_date")
            ]
        );
    }
}
