//! The account a facility is paid to, in the form of a bank's transfer file (flows.md Part I, O07).

use crate::matching::to_katakana;

/// Longest holder: what a transfer file has room for.
const HOLDER_CHARS_MAX: usize = 30;

/// Kind of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountType {
    /// 普通
    Ordinary,
    /// 当座
    Current,
}

impl AccountType {
    const ALL: [Self; 2] = [Self::Ordinary, Self::Current];

    /// The code in the record, the API and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Current => "current",
        }
    }
}

/// Why a part of an account is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Not that many digits.
    #[error("半角数字{n}桁で入力してください。")]
    Digits {
        /// How many there must be.
        n: usize,
    },
    /// No such kind of account.
    #[error("預金種目を選んでください。")]
    Type,
    /// Not what a bank takes as a holder.
    #[error("口座名義は、カナ・英大文字・数字・記号（（）．－／と空白）30文字以内で入力してください。")]
    Holder,
}

/// Exactly `n` digits.
pub fn digits(raw: &str, n: usize) -> Result<String, AccountError> {
    let text = raw.trim();
    if text.len() == n && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err(AccountError::Digits { n })
    }
}

/// The kind of an account from its code.
pub fn account_type(raw: &str) -> Result<AccountType, AccountError> {
    AccountType::ALL.into_iter().find(|kind| kind.as_str() == raw.trim()).ok_or(AccountError::Type)
}

/// A holder in kana, as banks write them: hiragana and half-width kana become full-width katakana, and the letters,
/// digits and signs a transfer file knows become half-width.
pub fn holder(raw: &str) -> Result<String, AccountError> {
    let text = to_katakana(raw.trim()).to_ascii_uppercase();
    let fits = |c: char| {
        matches!(c, 'ァ'..='ヺ' | 'ー' | ' ' | '(' | ')' | '.' | '-' | '/')
            || c.is_ascii_digit()
            || c.is_ascii_uppercase()
    };
    let long = text.chars().count() > HOLDER_CHARS_MAX;
    if text.is_empty() || long || !text.chars().all(fits) { Err(AccountError::Holder) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_length() {
        assert_eq!(digits(" 0001 ", 4).as_deref(), Ok("0001"));
        for wrong in ["001", "00001", "００１", "00a1", "", "-001"] {
            assert_eq!(digits(wrong, 4), Err(AccountError::Digits { n: 4 }), "{wrong}");
        }
    }

    #[test]
    fn a_holder_is_written_as_banks_write_it() {
        assert_eq!(holder("ﾌｸ)ﾐﾄﾞﾘｶｲ").as_deref(), Ok("フク)ミドリカイ"));
        assert_eq!(holder("カ）みどり　ａｂｃ　１２").as_deref(), Ok("カ)ミドリ ABC 12"));
        assert_eq!(holder("緑会"), Err(AccountError::Holder));
        assert_eq!(holder("  "), Err(AccountError::Holder));
        assert_eq!(holder(&"ア".repeat(31)), Err(AccountError::Holder));
        assert!(holder(&"ア".repeat(30)).is_ok());
    }

    #[test]
    fn kinds_are_known_by_their_code() {
        assert!(AccountType::ALL.iter().all(|kind| account_type(kind.as_str()) == Ok(*kind)));
        assert_eq!(account_type("普通"), Err(AccountError::Type));
    }
}
