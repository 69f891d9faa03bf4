//! Records as lines of JSON, and the lines of a file.

use std::{
    borrow::Cow,
    fmt,
    io::{self, BufRead, Read},
};

use crate::usage::CONTENT_BYTES_MAX;

/// Bytes of one line, at most; of a longer one only the beginning is kept, as a record that cannot be read.
const LINE_BYTES_MAX: usize = 1 << 20;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Records, a JSON object each, and such that cannot be read.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    text: String,
    /// End of each record in the text, and whether it is what the file says.
    ends: Vec<(usize, bool)>,
}

impl Lines {
    /// Number of records.
    pub fn n_records(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all records.
    pub fn n_bytes(&self) -> usize {
        self.text.len()
    }

    pub(super) fn push(&mut self, record: &str) {
        self.text.push_str(record);
        self.end();
    }

    /// A record of which this is what can be shown.
    pub(super) fn push_unreadable(&mut self, shown: &str) {
        self.text.push_str(&shown[..shown.floor_char_boundary(CONTENT_BYTES_MAX)]);
        self.ends.push((self.text.len(), false));
    }

    /// The text, for writing a record to its end; [`Self::end`] closes it.
    pub(super) fn text(&mut self) -> &mut String {
        &mut self.text
    }

    pub(super) fn end(&mut self) {
        self.ends.push((self.text.len(), true));
    }

    /// Records with whether they can be read.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        begins.zip(&self.ends).map(move |(begin, (end, is_readable))| (&self.text[begin..*end], *is_readable))
    }
}

/// A line of a file.
pub(super) enum Line<'l> {
    Text(&'l str),
    /// Not UTF-8, or too long: about what is there.
    Unreadable(Cow<'l, str>),
}

/// Reads a file line by line, never more of it than a line may have.
pub(super) struct LineReader {
    from: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    is_begun: bool,
}

impl fmt::Debug for LineReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineReader").field("is_begun", &self.is_begun).finish_non_exhaustive()
    }
}

impl LineReader {
    pub(super) fn new(from: Box<dyn BufRead + Send>) -> Self {
        Self { from, line: Vec::new(), is_begun: false }
    }

    /// The next line that is not blank, without its end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut is_cut = false;
        loop {
            self.line.clear();
            let room = LINE_BYTES_MAX as u64 + 1;
            if self.from.by_ref().take(room).read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            if self.line.len() > LINE_BYTES_MAX && !self.line.ends_with(b"\n") {
                is_cut = true;
                self.skip_line()?;
            }
            if !self.is_begun && self.line.starts_with(BOM) {
                self.line.drain(..BOM.len());
            }
            self.is_begun = true;
            if is_cut || !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self.line.trim_ascii_end();
        match std::str::from_utf8(line) {
            Ok(text) if !is_cut => Ok(Some(Line::Text(text))),
            _ => Ok(Some(Line::Unreadable(String::from_utf8_lossy(&line[..line.len().min(CONTENT_BYTES_MAX)])))),
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let piece = self.from.fill_buf()?;
            let end = piece.iter().position(|byte| *byte == b'\n');
            let n_bytes = end.map_or(piece.len(), |at| at + 1);
            let is_done = end.is_some() || piece.is_empty();
            self.from.consume(n_bytes);
            if is_done {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Vec<(String, bool)> {
        let mut reader = LineReader::new(Box::new(bytes));
        let mut found = Vec::new();
        while let Some(line) = reader.next().unwrap() {
            found.push(match line {
                Line::Text(text) => (text.to_owned(), true),
                Line::Unreadable(shown) => (shown.into_owned(), false),
            });
        }
        found
    }

    #[test]
    fn lines_end_as_they_do_everywhere_and_blank_ones_are_none() {
        let found = read(b"\xEF\xBB\xBF{\"a\":1}\r\n\n  \nsecond\n\xFF\nlast");
        let expected = [("{\"a\":1}", true), ("second", true), ("\u{fffd}", false), ("last", true)];
        assert_eq!(found, expected.map(|(text, is_readable)| (text.to_owned(), is_readable)));
    }

    #[test]
    fn a_line_without_end_costs_no_more_than_one_may_have() {
        let long: &'static [u8] = [vec![b'x'; 3 * LINE_BYTES_MAX], b"\nnext\n".to_vec()].concat().leak();
        let found = read(long);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].0.len(), found[0].1), (CONTENT_BYTES_MAX, false));
        assert_eq!(found[1], ("next".to_owned(), true));
    }
}
