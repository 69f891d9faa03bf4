//! Texts that may go to the lake: codes and ids, never words.
//!
//! Whether a text is a code cannot be decided for certain. What no code needs is refused: other alphabets, the `@` of an
//! e-mail address, words side by side, telephone numbers and numbers as long as an Individual Number (docs/ingest.md).

use serde_json::Value;

/// Characters of a code, such as a version or a screen id.
pub const CHARS_MAX: usize = 64;

/// Why a text is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACode {
    /// It has more than [`CHARS_MAX`] characters.
    #[error("longer than a code")]
    TooLong,
    /// It is empty, or could be words or a number of a person.
    #[error("no code")]
    Words,
}

/// Kinds of characters, so that one pass over a text tells which of them it has.
const FOREIGN: u8 = 1;
const LETTER: u8 = 2;
const DIGIT: u8 = 4;
const SPACE: u8 = 8;
/// Ends a number, as the space does.
const MARK: u8 = 16;

const KINDS: [u8; 256] = {
    let mut kinds = [FOREIGN; 256];
    let mut c: u8 = 0;
    while c < 128 {
        kinds[c as usize] = match c {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b' ' => SPACE,
            b'.' | b'_' | b':' | b'/' | b'+' | b'(' | b')' | b';' | b',' => MARK,
            b'-' => 0,
            _ => FOREIGN,
        };
        c += 1;
    }
    kinds
};

/// Digits of a telephone number of Japan, which begins with 0.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 10..=11;
/// Digits of an Individual Number (マイナンバー).
const INDIVIDUAL_NUMBER_DIGITS: usize = 12;
/// Systems whose names are words side by side, before the number of their version.
const SYSTEMS: [&str; 5] = ["Windows NT ", "Windows Phone ", "Mac OS X ", "Chrome OS ", "iPhone OS "];

/// A code has no characters with which a name, an address or a sentence could be written in Japanese,
/// nor the one that makes an e-mail address, and does not look like a name, a telephone number or an Individual Number.
///
/// # Errors
/// See [`NotACode`].
#[inline]
pub fn check(text: &str) -> Result<(), NotACode> {
    if text.len() > CHARS_MAX {
        return Err(NotACode::TooLong);
    }
    let kinds = text.bytes().fold(0, |kinds, byte| kinds | KINDS[usize::from(byte)]);
    if text.is_empty() || kinds & FOREIGN != 0 {
        return Err(NotACode::Words);
    }
    // Letters beside digits with nothing between them are an id, such as the session's in each event of the app.
    let may_be_number = kinds & DIGIT != 0 && (kinds & LETTER == 0 || kinds & (SPACE | MARK) != 0);
    if (kinds & SPACE != 0 && has_words(text)) || (may_be_number && has_persons_number(text)) {
        return Err(NotACode::Words);
    }
    Ok(())
}

/// Whether a word follows another one, as in a name.
fn has_words(text: &str) -> bool {
    let version = SYSTEMS.iter().find_map(|system| text.strip_prefix(system));
    let rest = version.filter(|version| version.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(text);
    let parts = rest.split([' ', ',', ';', '(', ')']).filter(|part| !part.is_empty());
    let (mut after_word, mut found) = (false, false);
    for part in parts {
        found |= after_word && part.starts_with(|c: char| c.is_ascii_alphabetic());
        after_word = part.ends_with(|c: char| c.is_ascii_alphabetic());
    }
    found
}

/// Whether a number that stands alone has the length of one that belongs to a person, or begins with Japan's own code.
fn has_persons_number(text: &str) -> bool {
    let any_alone = |joints: &[char]| {
        text.split(|c: char| !c.is_ascii_alphanumeric() && !joints.contains(&c)).any(is_persons_number)
    };
    text.contains("+81") || any_alone(&['-']) || any_alone(&['-', ' ', '(', ')'])
}

fn is_persons_number(number: &str) -> bool {
    if number.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return false;
    }
    let digits = number.bytes().filter(u8::is_ascii_digit);
    let (first, n) = (digits.clone().next(), digits.count());
    n == INDIVIDUAL_NUMBER_DIGITS || (first == Some(b'0') && PHONE_DIGITS.contains(&n))
}

/// Checks every text in a value, however deep.
///
/// # Errors
/// The first one that is no code.
pub fn check_all(value: &Value) -> Result<(), NotACode> {
    match value {
        Value::String(text) => check(text),
        Value::Array(items) => items.iter().try_for_each(check_all),
        Value::Object(members) => members.values().try_for_each(check_all),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Separated by bars.
    const OF_APPS: &str = "GD03|background_30min|http_5xx|404|1.3.1|17.4|unknown|s-1|open_now|timeout|Android 14|\
        OS 17.4.1|Windows NT 10.0|Mac OS X 10.15.7|iPhone OS 17.4|17.4 (21E219)|14 (UP1A.231005.007)|\
        01a1fb9f-e6f8-7000-8000-000000000001|01900000-0000-7000-8000-000000000001|load-000000012|session:1795000000|\
        1795000000000|2026-11-21|2026-11-21T10:02:03.250+09:00";
    const OF_PERSONS: &str = "佐藤花子|hanako@example.jp|Sato Hanako|Sato, Hanako|Sato  Hanako 3|Mac OS X Sato Hanako|\
        Windows NT Sato|Mac OS X 10 Sato Hanako|090-1234-5678|09012345678|0312345678|03-1234-5678|090 1234 5678|\
        (03)1234-5678|+81-3-1234-5678|tel:090-1234-5678|Android 09012345678|123456789012|1234-5678-9012|\
        1234 5678 9012|id 123456789012|";

    #[test]
    fn codes_and_ids_of_apps_pass() {
        for text in OF_APPS.split('|') {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_looks_like_a_person_does_not() {
        for text in OF_PERSONS.split('|') {
            assert_eq!(check(text), Err(NotACode::Words), "{text}");
        }
        assert_eq!(check(&"x".repeat(CHARS_MAX + 1)), Err(NotACode::TooLong));
    }

    #[test]
    fn texts_are_looked_at_however_deep_they_lie() {
        assert_eq!(check_all(&serde_json::json!([{"a": ["b", 1, null]}, true])), Ok(()));
        assert_eq!(check_all(&serde_json::json!([{"a": ["Sato Hanako"]}])), Err(NotACode::Words));
    }
}
