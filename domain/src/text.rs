//! Text from people (N-SEC-14): any valid text is kept unchanged; control and private-use characters are refused.

/// Why a text is refused. The message names no field; the caller adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but white space where something is needed.
    #[error("入力してください。")]
    Empty,
    /// Longer than the field takes.
    #[error("{chars_max}文字以内で入力してください。")]
    TooLong {
        /// The limit in characters.
        chars_max: usize,
    },
    /// A control or private-use character (外字).
    #[error("使用できない文字が含まれています。修正してください。")]
    BadCharacter,
    /// A kana field with something else than kana.
    #[error("全角カタカナで入力してください。")]
    NotKana,
}

fn is_private_use(c: char) -> bool {
    matches!(u32::from(c), 0xE000..=0xF8FF | 0xF_0000..=0xF_FFFD | 0x10_0000..=0x10_FFFD)
}

/// A single line: trimmed, not empty, at most `chars_max` characters.
pub fn line(raw: &str, chars_max: usize) -> Result<String, TextError> {
    let text = raw.trim();
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.chars().any(|c| c.is_control() || is_private_use(c)) {
        return Err(TextError::BadCharacter);
    }
    if text.chars().count() > chars_max {
        return Err(TextError::TooLong { chars_max });
    }
    Ok(text.to_owned())
}

/// Several lines, possibly empty: tabs and line feeds stay, CRLF becomes LF.
pub fn lines(raw: &str, chars_max: usize) -> Result<String, TextError> {
    let text = raw.replace("\r\n", "\n");
    if text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || is_private_use(c)) {
        return Err(TextError::BadCharacter);
    }
    if text.chars().count() > chars_max {
        return Err(TextError::TooLong { chars_max });
    }
    Ok(text)
}

/// A name in kana: half-width and hiragana become full-width katakana; anything else is refused.
pub fn kana(raw: &str, chars_max: usize) -> Result<String, TextError> {
    let text = crate::matching::to_katakana(&line(raw, chars_max)?);
    let fits = |c: char| matches!(c, 'ァ'..='ヺ' | 'ー' | '・' | ' ' | '\u{3000}');
    if text.chars().all(fits) { Ok(text) } else { Err(TextError::NotKana) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_symbol_is_kept() {
        let symbols = "& 、 < > \" ^ ` ¥ ( ) '";
        assert_eq!(line(symbols, 100).as_deref(), Ok(symbols));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        assert_eq!(line("  ", 10), Err(TextError::Empty));
        assert_eq!(line("a\u{7}b", 10), Err(TextError::BadCharacter));
        assert_eq!(line("外字\u{E001}", 10), Err(TextError::BadCharacter));
        assert_eq!(line("長い名前", 3), Err(TextError::TooLong { chars_max: 3 }));
        assert_eq!(kana("やまだ ﾊﾅｺ", 20).as_deref(), Ok("ヤマダ ハナコ"));
        assert_eq!(kana("山田", 20), Err(TextError::NotKana));
        assert_eq!(lines("一行目\r\n二行目", 20).as_deref(), Ok("一行目\n二行目"));
    }
}
