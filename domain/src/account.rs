//! Sign-in rules: addresses, passwords, validity, states (flows.md C1, C2; N-SEC-01..04, 08).

use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Failed sign-ins within [`LOCK_WINDOW`] after which an account is locked (flows.md C1).
pub const FAILURES_MAX: i64 = 10;
/// The window in which failed sign-ins count.
pub const LOCK_WINDOW: Duration = Duration::from_secs(15 * 60);
/// Life of a mailed one-time code (`otp_ttl_min`).
pub const OTP_TTL: Duration = Duration::from_secs(10 * 60);
/// Tries per one-time code (`otp_max_tries`); the next one needs a new code.
pub const OTP_TRIES_MAX: i64 = 5;
/// Life of a mailed link (N-SEC-02).
pub const LINK_TTL: Duration = Duration::from_secs(60 * 60);
/// Life of the link in an invitation that an office sent, which may be read days later.
pub const INVITATION_TTL: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// A session without requests ends after this (N-SEC-06).
pub const SESSION_IDLE: Duration = Duration::from_secs(60 * 60);
/// A session ends after this in any case (N-SEC-06).
pub const SESSION_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// A guardian's trusted device needs no code for this long (flows.md N15).
pub const TRUSTED_DEVICE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Managers per facility (`manager_accounts_max`).
pub const MANAGERS_MAX: i64 = 2;

/// State of an account (glossary, "Account").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// 確認待ち: registered, address not confirmed yet.
    PendingConfirmation,
    /// 発行済: issued by an office, password not set yet.
    Issued,
    /// 有効
    Active,
    /// 一時停止中
    Locked,
    /// 期間終了
    Ended,
    /// 削除済
    Deleted,
}

impl AccountState {
    /// The code in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingConfirmation => "pending_confirmation",
            Self::Issued => "issued",
            Self::Active => "active",
            Self::Locked => "locked",
            Self::Ended => "ended",
            Self::Deleted => "deleted",
        }
    }

    /// From the code in the record.
    pub fn parse(raw: &str) -> Option<Self> {
        [Self::PendingConfirmation, Self::Issued, Self::Active, Self::Locked, Self::Ended, Self::Deleted]
            .into_iter()
            .find(|state| state.as_str() == raw)
    }
}

/// Whether a day lies inside an account's validity, both ends included (N-SEC-04).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Not before this day.
    NotYet(Date),
    /// Inside.
    Valid,
    /// The end date has passed.
    Over,
}

/// Compares `today` (Asia/Tokyo) with an account's first and last valid day.
pub fn validity(from: Date, to: Date, today: Date) -> Validity {
    if today < from {
        Validity::NotYet(from)
    } else if today > to {
        Validity::Over
    } else {
        Validity::Valid
    }
}

/// A password that satisfies N-SEC-01: 10 to 128 characters, at least three of the four classes.
///
/// Not `Debug`-printable in clear text and never serialised.
#[derive(Clone)]
pub struct NewPassword(String);

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewPassword(…)")
    }
}

/// Why a password is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Fewer than 10 characters.
    #[error("パスワードは10文字以上にしてください。")]
    TooShort,
    /// More than 128 characters.
    #[error("パスワードは128文字以内にしてください。")]
    TooLong,
    /// Fewer than three classes.
    #[error("英大文字・英小文字・数字・記号のうち3種類以上を使ってください。")]
    TooUniform,
}

impl NewPassword {
    /// Least number of characters.
    pub const CHARS_MIN: usize = 10;
    /// Greatest number of characters.
    pub const CHARS_MAX: usize = 128;

    /// Checks the rule.
    pub fn parse(raw: String) -> Result<Self, PasswordError> {
        let n_chars = raw.chars().count();
        if n_chars < Self::CHARS_MIN {
            return Err(PasswordError::TooShort);
        }
        if n_chars > Self::CHARS_MAX {
            return Err(PasswordError::TooLong);
        }
        let has = |class: fn(char) -> bool| usize::from(raw.chars().any(class));
        let n_classes = has(|c| c.is_ascii_uppercase())
            + has(|c| c.is_ascii_lowercase())
            + has(|c| c.is_ascii_digit())
            + has(|c| !c.is_ascii_alphanumeric());
        if n_classes < 3 { Err(PasswordError::TooUniform) } else { Ok(Self(raw)) }
    }

    /// The clear text, to be hashed.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// An e-mail address, lower-cased: the sign-in name. At most 254 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(String);

/// A text that is not an e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("メールアドレスの形式が正しくありません。")]
pub struct EmailError;

impl Email {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Email {
    type Error = EmailError;
    fn try_from(raw: String) -> Result<Self, EmailError> {
        let address = raw.trim().to_ascii_lowercase();
        let (local, domain) = address.rsplit_once('@').ok_or(EmailError)?;
        let plain = |c: char| {
            c.is_ascii_graphic()
                && !matches!(c, ' ' | '"' | '<' | '>' | '(' | ')' | ',' | ';' | ':' | '\\' | '[' | ']' | '@')
        };
        let labels_fit = domain.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        });
        let fits = !local.is_empty()
            && local.len() <= 64
            && address.len() <= 254
            && local.chars().all(plain)
            && !local.starts_with('.')
            && domain.contains('.')
            && labels_fit;
        if fits { Ok(Self(address)) } else { Err(EmailError) }
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_rule_of_n_sec_01() {
        let parse = |raw: &str| NewPassword::parse(raw.to_owned()).map(|p| p.expose().len());
        assert_eq!(parse("Abcdefgh1"), Err(PasswordError::TooShort));
        assert_eq!(parse("Abcdefghi1"), Ok(10));
        assert_eq!(parse("abcdefghij"), Err(PasswordError::TooUniform));
        assert_eq!(parse("abcdefghi1"), Err(PasswordError::TooUniform));
        assert!(parse(&format!("Aa1{}", "x".repeat(125))).is_ok());
        assert_eq!(parse(&format!("Aa1{}", "x".repeat(126))), Err(PasswordError::TooLong));
    }

    #[test]
    fn addresses_are_parsed_once() {
        let parse = |raw: &str| Email::try_from(raw.to_owned()).map(String::from);
        assert_eq!(parse(" Hanako@Example.JP ").as_deref(), Ok("hanako@example.jp"));
        // Mobile carriers gave these out; whoever has one reads no other.
        for odd in ["taro.@docomo.ne.jp", "a..b@ezweb.ne.jp"] {
            assert_eq!(parse(odd).as_deref(), Ok(odd));
        }
        for bad in ["", "a", "a@b", "@example.jp", "a b@example.jp", "a@-x.jp", "a@x..jp", "a@b@c.jp", "あ@example.jp"]
        {
            assert_eq!(parse(bad), Err(EmailError), "{bad}");
        }
    }

    #[test]
    fn validity_includes_both_ends() {
        let day = |d| jiff::civil::date(2026, 4, d);
        assert_eq!(validity(day(2), day(3), day(1)), Validity::NotYet(day(2)));
        assert_eq!(validity(day(2), day(3), day(2)), Validity::Valid);
        assert_eq!(validity(day(2), day(3), day(3)), Validity::Valid);
        assert_eq!(validity(day(2), day(3), day(4)), Validity::Over);
    }
}
