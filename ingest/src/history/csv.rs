//! CSV with a header: each row as the text of a JSON object.
//!
//! A record is a line. Nothing that may be stored has a line break in it, so that a quotation mark that
//! is never closed spoils its own record and not those that follow.

use std::{borrow::Cow, collections::HashMap};

use todoke_domain::catalogue::events::{self, EventType, FieldType};

use super::{HistoryError, lines::Lines};
use crate::json::Reader;

/// Columns without which no row is an event.
const NEEDED: [&str; 3] = ["event_id", "event_type", "occurred_at"];

/// How the text of a cell becomes JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    /// Numbers, lists and structs, as they stand.
    Literal,
}

impl Kind {
    fn of(ty: &FieldType) -> Self {
        match ty {
            FieldType::Str | FieldType::Id | FieldType::Text | FieldType::Date | FieldType::Ts => Self::Text,
            FieldType::Bool => Self::Flag,
            _ => Self::Literal,
        }
    }
}

/// The first line, and what it says about the others.
#[derive(Debug)]
pub(super) struct Header {
    columns: Vec<String>,
    event_type_at: usize,
    kinds: HashMap<&'static str, Vec<Kind>>,
    unknown: Vec<Kind>,
}

fn kinds(columns: &[String], event_type: Option<&'static EventType>) -> Vec<Kind> {
    let kind = |name: &String| {
        let envelope = events::envelope().iter().find(|field| field.name == *name);
        let field = envelope.or_else(|| event_type?.field(name));
        field.map_or(Kind::Text, |field| Kind::of(&field.ty))
    };
    columns.iter().map(kind).collect()
}

impl Header {
    /// Errors: [`HistoryError::NoHeader`] when it does not name what every event has.
    pub(super) fn parse(line: &str) -> Result<Self, HistoryError> {
        let mut cells = Vec::new();
        split(line, &mut cells);
        let columns: Vec<String> = cells.iter().map(|cell| cell.trim().to_owned()).collect();
        if let Some(missing) = NEEDED.into_iter().find(|needed| !columns.iter().any(|name| name == needed)) {
            return Err(HistoryError::NoHeader { missing });
        }
        let event_type_at = columns.iter().position(|name| name == "event_type").unwrap_or_default();
        Ok(Self { unknown: kinds(&columns, None), columns, event_type_at, kinds: HashMap::new() })
    }

    /// Adds the record of a line to `to`. Empty cells are absent values.
    pub(super) fn read(&mut self, line: &str, to: &mut Lines) {
        let mut cells = Vec::with_capacity(self.columns.len());
        if !split(line, &mut cells) || cells.len() != self.columns.len() {
            to.push_unreadable(line);
            return;
        }
        let kinds = match events::get(&cells[self.event_type_at]) {
            Some(known) => &*self.kinds.entry(&known.name).or_insert_with(|| kinds(&self.columns, Some(known))),
            None => &self.unknown,
        };
        let text = to.text();
        let mut before = '{';
        for ((name, cell), kind) in self.columns.iter().zip(&cells).zip(kinds) {
            if cell.is_empty() {
                continue;
            }
            text.push(before);
            before = ',';
            text.push_str(&quoted(name));
            text.push(':');
            write(text, *kind, cell);
        }
        text.push_str(if before == '{' { "{}" } else { "}" });
        to.end();
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write(to: &mut String, kind: Kind, cell: &str) {
    match kind {
        Kind::Flag if cell == "1" || cell.eq_ignore_ascii_case("true") => to.push_str("true"),
        Kind::Flag if cell == "0" || cell.eq_ignore_ascii_case("false") => to.push_str("false"),
        Kind::Literal if is_literal(cell) => to.push_str(cell),
        _ => to.push_str(&quoted(without_mark(cell))),
    }
}

fn is_literal(cell: &str) -> bool {
    let mut reader = Reader::new(cell);
    reader.value().is_ok_and(|value| value.as_str().is_none()) && reader.end().is_ok()
}

/// The text without the mark that keeps spreadsheets from taking it for a formula.
fn without_mark(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| rest.starts_with(['=', '+', '-', '@'])).unwrap_or(cell)
}

/// Cuts a line into its cells (RFC 4180); `false` if its quotation marks do not fit together.
fn split<'l>(line: &'l str, cells: &mut Vec<Cow<'l, str>>) -> bool {
    let mut rest = line;
    loop {
        let after = match rest.strip_prefix('"') {
            Some(quoted) => {
                let Some((cell, after)) = unquoted(quoted) else { return false };
                cells.push(Cow::Owned(cell));
                after
            }
            None => {
                let (cell, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if cell.contains('"') {
                    return false;
                }
                cells.push(Cow::Borrowed(cell));
                after
            }
        };
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return after.is_empty(),
        }
    }
}

/// The cell that follows a quotation mark, and what comes behind it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut cell = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        cell.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                rest = more;
            }
            None => return Some((cell, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(line: &str) -> Option<Vec<String>> {
        let mut cells = Vec::new();
        split(line, &mut cells).then(|| cells.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn cells_are_cut_as_the_rfc_says() {
        for (line, expected) in [
            ("a,b", Some(vec!["a", "b"])),
            (",", Some(vec!["", ""])),
            ("\"a,b\",\"c \"\"d\"\"\",\"\"", Some(vec!["a,b", "c \"d\"", ""])),
            ("\"a", None),
            ("\"a\"b,c", None),
            ("a\"b,c", None),
        ] {
            let expected = expected.map(|cells| cells.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(cells(line), expected, "{line}");
        }
    }

    #[test]
    fn a_row_is_an_object_of_the_types_of_its_event() {
        let mut header = Header::parse("event_id,event_type,occurred_at,recorded_offline,dwell_ms,session_id").unwrap();
        let mut lines = Lines::default();
        header.read("a,app.screen_viewed,2020-01-01T00:00:00Z,0,12,'-s", &mut lines);
        header.read("a,app.screen_viewed,2020-01-01T00:00:00Z,,soon,", &mut lines);
        header.read("a,app.screen_viewed", &mut lines);
        let found: Vec<(&str, bool)> = lines.iter().collect();
        let begin = r#"{"event_id":"a","event_type":"app.screen_viewed","occurred_at":"2020-01-01T00:00:00Z","#;
        let first = format!("{begin}\"recorded_offline\":false,\"dwell_ms\":12,\"session_id\":\"-s\"}}");
        let second = format!("{begin}\"dwell_ms\":\"soon\"}}");
        assert_eq!(found, [(first.as_str(), true), (second.as_str(), true), ("a,app.screen_viewed", false)]);
    }

    #[test]
    fn a_first_line_that_is_a_record_is_no_header() {
        let refused = Header::parse("019a0000-0000-7000-8000-000000000001,app.screen_viewed,2020-01-01T00:00:00Z");
        assert!(matches!(refused, Err(HistoryError::NoHeader { missing: "event_id" })));
    }
}
