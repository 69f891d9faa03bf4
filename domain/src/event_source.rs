//! Who an outside system says it is: the `source` of its events, and which of them its key may name.

use serde::{Deserialize, Serialize};

/// What a key may name as `source`: exactly this text or, with `*` at its end, whatever begins with the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourcePattern(String);

/// A text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourcePatternError {
    /// Nothing, or only `*`: a key that may name any source is bound to none.
    #[error("送信元を入力してください。")]
    Empty,
    /// Longer than a source can be.
    #[error("送信元は{}文字以内で入力してください。", SourcePattern::CHARS_MAX)]
    TooLong,
    /// A character that a URI does not have, or `*` before the end.
    #[error("送信元は半角の英数字と記号で入力してください。「*」は末尾にだけ使えます。")]
    BadCharacter,
}

impl SourcePattern {
    /// Characters, at most.
    pub const CHARS_MAX: usize = 200;

    /// Whether a key with this pattern may name `source`.
    pub fn allows(&self, source: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(begin) => source.starts_with(begin),
            None => source == self.0,
        }
    }
}

impl TryFrom<String> for SourcePattern {
    type Error = SourcePatternError;

    fn try_from(raw: String) -> Result<Self, Self::Error> {
        let begin = raw.strip_suffix('*').unwrap_or(&raw);
        if begin.is_empty() {
            return Err(SourcePatternError::Empty);
        }
        if raw.len() > Self::CHARS_MAX {
            return Err(SourcePatternError::TooLong);
        }
        if !begin.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') {
            return Err(SourcePatternError::BadCharacter);
        }
        Ok(Self(raw))
    }
}

impl From<SourcePattern> for String {
    fn from(pattern: SourcePattern) -> Self {
        pattern.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(raw: &str) -> Result<SourcePattern, SourcePatternError> {
        SourcePattern::try_from(raw.to_owned())
    }

    #[test]
    fn a_pattern_is_a_source_or_the_begin_of_one() {
        let exact = pattern("/call-centre").unwrap();
        assert!(exact.allows("/call-centre"));
        assert!(!exact.allows("/call-centre/night") && !exact.allows("/call") && !exact.allows(""));
        let begin = pattern("https://city.example/*").unwrap();
        assert!(begin.allows("https://city.example/desk") && begin.allows("https://city.example/"));
        assert!(!begin.allows("https://city.example.net/") && !begin.allows("https://city.example"));
    }

    #[test]
    fn what_would_bind_nothing_is_no_pattern() {
        assert_eq!(pattern(""), Err(SourcePatternError::Empty));
        assert_eq!(pattern("*"), Err(SourcePatternError::Empty));
        assert_eq!(pattern(&"x".repeat(201)), Err(SourcePatternError::TooLong));
        for bad in ["a*b", "**", "a b", "窓口", "a\0"] {
            assert_eq!(pattern(bad), Err(SourcePatternError::BadCharacter), "{bad}");
        }
    }
}
