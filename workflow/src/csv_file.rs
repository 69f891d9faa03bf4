//! The form of every CSV file (flows.md, Part I "Common"): out UTF-8 with byte order mark, CRLF, RFC 4180;
//! in also without the mark, and Windows-31J.

use encoding_rs::{DecoderResult, SHIFT_JIS};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// A file that cannot be read as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    /// Nothing in it.
    #[error("ファイルが空です。")]
    Empty,
    /// Neither UTF-8 nor Windows-31J.
    #[error("文字コードを読み取れません。UTF-8またはWindows-31J（Shift_JIS）で保存してください。")]
    Encoding {
        /// Line of the first byte that cannot be read, from 1.
        line: usize,
    },
}

/// Reads the bytes of a file as text, without its byte order mark.
pub fn decode(bytes: &[u8]) -> Result<String, TextFault> {
    if bytes.is_empty() {
        return Err(TextFault::Empty);
    }
    let marked = bytes.strip_prefix(b"\xEF\xBB\xBF");
    match std::str::from_utf8(marked.unwrap_or(bytes)) {
        Ok(text) if marked.is_some() || !is_half_width_kana(text) => Ok(text.to_owned()),
        Ok(text) => Ok(windows_31j(bytes).unwrap_or_else(|_| text.to_owned())),
        Err(fault) if marked.is_some() => Err(TextFault::Encoding { line: line_of(bytes, 3 + fault.valid_up_to()) }),
        Err(_) => windows_31j(bytes),
    }
}

/// Japanese takes three bytes per character in UTF-8. A text whose every foreign character takes two is
/// half-width kana in Windows-31J that happens to be valid UTF-8 as well.
fn is_half_width_kana(text: &str) -> bool {
    let mut foreign = text.chars().filter(|c| !c.is_ascii()).peekable();
    foreign.peek().is_some() && foreign.all(|c| c.len_utf8() == 2)
}

fn windows_31j(bytes: &[u8]) -> Result<String, TextFault> {
    let mut decoder = SHIFT_JIS.new_decoder_without_bom_handling();
    let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len()).unwrap_or(bytes.len() * 3);
    let mut text = String::with_capacity(room);
    match decoder.decode_to_string_without_replacement(bytes, &mut text, true) {
        (DecoderResult::InputEmpty, _) => Ok(text),
        (_, read) => Err(TextFault::Encoding { line: line_of(bytes, read) }),
    }
}

fn line_of(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// Writes a file. A text cell that a spreadsheet would take for a formula gets a leading apostrophe.
pub fn encode(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut file = String::from(BYTE_ORDER_MARK);
    line(&mut file, header.iter().map(|cell| (*cell).to_owned()));
    for row in rows {
        line(&mut file, row.into_iter());
    }
    file
}

fn line(file: &mut String, cells: impl Iterator<Item = String>) {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            file.push(',');
        }
        let formula = cell.starts_with(['=', '+', '-', '@']) && cell.parse::<i64>().is_err();
        let cell = if formula { format!("'{cell}") } else { cell };
        if cell.contains([',', '"', '\r', '\n']) {
            file.push('"');
            file.push_str(&cell.replace('"', "\"\""));
            file.push('"');
        } else {
            file.push_str(&cell);
        }
    }
    file.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_accepted_encodings_read_alike() {
        let text = "氏名,カナ\r\n髙橋 ①花,ﾀｶﾊｼ ﾊﾅ\r\n";
        // 髙 and ① are the letters that Windows-31J has and JIS X 0208 lacks.
        let (windows, _, lossy) = SHIFT_JIS.encode(text);
        assert!(!lossy);
        assert_eq!(decode(&windows).as_deref(), Ok(text));
        assert_eq!(decode(text.as_bytes()).as_deref(), Ok(text));
        assert_eq!(decode(format!("\u{feff}{text}").as_bytes()).as_deref(), Ok(text));
    }

    #[test]
    fn half_width_kana_alone_is_not_taken_for_cyrillic() {
        let (windows, _, _) = SHIFT_JIS.encode("ﾐｶ");
        assert!(std::str::from_utf8(&windows).is_ok());
        assert_eq!(decode(&windows).as_deref(), Ok("ﾐｶ"));
    }

    #[test]
    fn unreadable_bytes_are_found_with_their_line() {
        assert_eq!(decode(b""), Err(TextFault::Empty));
        assert_eq!(decode(b"a,b\r\nc,\xFF\xFF\r\n"), Err(TextFault::Encoding { line: 2 }));
        assert_eq!(decode(b"\xEF\xBB\xBFa\n\nb\x83\x65\n"), Err(TextFault::Encoding { line: 3 }));
    }

    #[test]
    fn cells_are_quoted_and_formulas_disarmed() {
        let rows = vec![vec!["=1+1".to_owned(), "a,\"b\"".to_owned(), "-5".to_owned()]];
        assert_eq!(encode(&["一", "二", "三"], rows), "\u{feff}一,二,三\r\n'=1+1,\"a,\"\"b\"\"\",-5\r\n");
    }
}
