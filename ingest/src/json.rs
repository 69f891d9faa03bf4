//! Reads JSON text in one pass and copies nothing it need not copy.
//!
//! Batches are objects of a few scalars each, by the hundred thousand a second; a tree of values for
//! each of them cost more than everything else together. What is nested, or escaped, goes to
//! `serde_json`, so that there is one truth about what JSON is.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

/// Members of an object that are kept; no event has as many. A body of nothing but members would otherwise take a
/// dozen times its own memory.
pub(crate) const MEMBERS_MAX: usize = 64;

/// Digits that a finite float may have before its point, fewer by a few.
const DIGITS_OF_FLOAT: usize = 300;

/// The text is not JSON from about this byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) at: usize,
}

/// A value as it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scan<'a> {
    Null,
    Bool(bool),
    /// A number's text, well-formed.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// The text of a list or an object, well-formed.
    Nested(&'a str),
}

impl Scan<'_> {
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    pub(crate) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(text) => integer(text),
            _ => None,
        }
    }

    /// The value as a tree.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(text) | Self::Nested(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            Self::Text(text) => Value::String(text.clone().into_owned()),
        }
    }
}

fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let mut sum: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Downwards: the smallest number has no positive twin.
        sum = sum.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(sum) } else { sum.checked_neg() }
}

const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Marks what a string cannot hold as it is: quotes, backslashes and control characters. The lowest mark is exact,
/// those above it may not be.
fn string_ends(word: u64) -> u64 {
    let zeros = |word: u64| word.wrapping_sub(each(1)) & !word;
    let control = word.wrapping_sub(each(0x20)) & !word;
    (zeros(word ^ each(b'"')) | zeros(word ^ each(b'\\')) | control) & each(0x80)
}

/// A value that is JSON and is not kept. Not serde's own: that one takes numbers that are too large to be any.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// A place in JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The text since an earlier place.
    pub(crate) fn since(&self, at: usize) -> &'a str {
        &self.text[at..self.at]
    }

    fn malformed<T>(&self) -> Result<T, Malformed> {
        Err(Malformed { at: self.at })
    }

    /// The next byte that is not white space; stays before it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                other => return Some(*other),
            }
        }
        None
    }

    /// Takes `byte` if it comes next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.take(byte) { Ok(()) } else { self.malformed() }
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_none() { Ok(()) } else { self.malformed() }
    }

    /// A string, after its opening quote was seen by [`Self::peek`].
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let begin = self.at;
        let mut at = begin;
        // Most of a batch is inside strings: eight bytes at a time.
        while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let ends = string_ends(u64::from_le_bytes(*word));
            at += (ends.trailing_zeros() / 8) as usize;
            if ends != 0 {
                break;
            }
        }
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    self.at = at + 1;
                    return Ok(Cow::Borrowed(&self.text[begin..at]));
                }
                b'\\' => return self.escaped(begin),
                0..0x20 => break,
                _ => at += 1,
            }
        }
        self.at = at;
        self.malformed()
    }

    fn escaped(&mut self, begin: usize) -> Result<Cow<'a, str>, Malformed> {
        let bytes = self.text.as_bytes();
        let mut at = begin;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    let text = serde_json::from_str(&self.text[begin - 1..=at]);
                    self.at = at + 1;
                    return text.map(Cow::Owned).map_err(|_| Malformed { at: begin });
                }
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.at = begin;
        self.malformed()
    }

    fn word(&mut self, word: &str, value: Scan<'a>) -> Result<Scan<'a>, Malformed> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        self.malformed()
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let begin = self.at;
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at > begin { Ok(()) } else { self.malformed() }
    }

    fn number(&mut self) -> Result<Scan<'a>, Malformed> {
        let bytes = self.text.as_bytes();
        let begin = self.at;
        self.at += usize::from(bytes[begin] == b'-');
        match bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = &self.text[begin..self.at];
        // Only these can be too large for a float, which `serde_json` refuses.
        let may_overflow = text.len() > DIGITS_OF_FLOAT || text.contains(['e', 'E']);
        if may_overflow && !text.parse::<f64>().is_ok_and(f64::is_finite) {
            return self.malformed();
        }
        Ok(Scan::Number(text))
    }

    /// The value that comes next.
    pub(crate) fn value(&mut self) -> Result<Scan<'a>, Malformed> {
        match self.peek() {
            Some(b'"') => self.string().map(Scan::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Scan::Bool(true)),
            Some(b'f') => self.word("false", Scan::Bool(false)),
            Some(b'n') => self.word("null", Scan::Null),
            Some(b'{' | b'[') => {
                let begin = self.at;
                let mut nested = serde_json::Deserializer::from_str(&self.text[begin..]).into_iter::<Checked>();
                let Some(Ok(_)) = nested.next() else { return self.malformed() };
                self.at += nested.byte_offset();
                Ok(Scan::Nested(&self.text[begin..self.at]))
            }
            _ => self.malformed(),
        }
    }

    /// The members of the object that comes next, in the order of the text; a name may come twice. Returns whether
    /// these are all: beyond [`MEMBERS_MAX`] they are read and dropped.
    pub(crate) fn object(&mut self, members: &mut Vec<(Cow<'a, str>, Scan<'a>)>) -> Result<bool, Malformed> {
        members.clear();
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(true);
        }
        let mut is_whole = true;
        loop {
            if self.peek() != Some(b'"') {
                return self.malformed();
            }
            let name = self.string()?;
            self.expect(b':')?;
            let value = self.value()?;
            if members.len() < MEMBERS_MAX {
                members.push((name, value));
            } else {
                is_whole = false;
            }
            if self.take(b'}') {
                return Ok(is_whole);
            }
            self.expect(b',')?;
        }
    }
}

#[cfg(test)]
mod tests;
