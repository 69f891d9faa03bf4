//! Code lists with the texts people see (flows.md C3, C5; screens.md §7).

use crate::text::{self, TextError};

/// Why a coupon use is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UseRefusal {
    /// 残高不足
    InsufficientBalance,
    /// 利用停止中
    GuardianSuspended,
    /// 使用期限切れ
    CouponExpired,
    /// 承認取消済
    CouponRevoked,
    /// 対象外の施設
    FacilityNotEligible,
    /// 対象外の事業
    ProgrammeNotEligible,
    /// 二重の利用
    Duplicate,
    /// 金額の誤り
    AmountInvalid,
}

impl UseRefusal {
    /// Every reason of a yen coupon.
    pub const ALL: [Self; 8] = [
        Self::InsufficientBalance,
        Self::GuardianSuspended,
        Self::CouponExpired,
        Self::CouponRevoked,
        Self::FacilityNotEligible,
        Self::ProgrammeNotEligible,
        Self::Duplicate,
        Self::AmountInvalid,
    ];

    /// The code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InsufficientBalance => "insufficient_balance",
            Self::GuardianSuspended => "guardian_suspended",
            Self::CouponExpired => "coupon_expired",
            Self::CouponRevoked => "coupon_revoked",
            Self::FacilityNotEligible => "facility_not_eligible",
            Self::ProgrammeNotEligible => "programme_not_eligible",
            Self::Duplicate => "duplicate",
            Self::AmountInvalid => "amount_invalid",
        }
    }

    /// The text of screens.md §7.
    pub const fn text(self) -> &'static str {
        match self {
            Self::InsufficientBalance => "残高不足",
            Self::GuardianSuspended => "利用停止中",
            Self::CouponExpired => "使用期限切れ",
            Self::CouponRevoked => "承認取消済",
            Self::FacilityNotEligible => "対象外の施設",
            Self::ProgrammeNotEligible => "対象外の事業",
            Self::Duplicate => "二重の利用",
            Self::AmountInvalid => "金額または時間数の誤り",
        }
    }
}

/// A list of codes with texts; `other` needs free text.
#[derive(Clone, Copy, Debug)]
pub struct CodeList(&'static [(&'static str, &'static str)]);

/// What may be missing from an application.
pub const DEFICIENCY: CodeList = CodeList(&[
    ("document_missing", "書類が添付されていません"),
    ("document_unreadable", "書類の画像が読み取れません"),
    ("document_expired", "書類の有効期限が切れています"),
    ("content_missing", "記入漏れがあります"),
    ("content_mismatch", "記入内容と書類が一致しません"),
    ("other", "その他"),
]);

/// Why an application is rejected.
pub const REJECTION: CodeList = CodeList(&[
    ("not_resident", "市内に住民登録がありません"),
    ("out_of_age", "対象年齢ではありません"),
    ("not_guardian", "保護者であることを確認できません"),
    ("duplicate", "すでに申請されています"),
    ("other", "その他"),
]);

/// Why a use is reversed, an approval revoked, a guardian suspended, a balance adjusted.
pub const INTERVENTION: CodeList = CodeList(&[
    ("input_error", "入力誤り"),
    ("city_request", "市からの依頼"),
    ("misuse", "不正な利用"),
    ("duplicate", "重複"),
    ("other", "その他"),
]);

/// Why a claim is sent back to the facility.
pub const CLAIM_RETURN: CodeList = CodeList(&[
    ("amount_mismatch", "請求額が利用の記録と合いません"),
    ("content_mismatch", "請求の内容に誤りがあります"),
    ("city_request", "市からの依頼"),
    ("other", "その他"),
]);

/// Longest text beside a code, characters.
pub const TEXT_CHARS_MAX: usize = 500;

/// A code outside the list, `other` without text, or a text that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReasonError {
    /// No such code.
    #[error("理由を選んでください。")]
    Unknown,
    /// `other` needs words.
    #[error("「その他」の内容を入力してください。")]
    TextMissing,
    /// The words are too long or have characters that cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
}

impl CodeList {
    /// The codes with their texts.
    pub fn entries(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.0.iter().copied()
    }

    /// The text of a code; for `other` the free text itself.
    pub fn text(self, code: &str, free: Option<&str>) -> Result<String, ReasonError> {
        let (_, label) = self.0.iter().find(|(known, _)| *known == code).ok_or(ReasonError::Unknown)?;
        let free = free.map(str::trim).filter(|words| !words.is_empty());
        let free = free.map(|words| text::lines(words, TEXT_CHARS_MAX)).transpose()?;
        match (code, free) {
            ("other", None) => Err(ReasonError::TextMissing),
            ("other", Some(words)) => Ok(words),
            (_, Some(words)) => Ok(format!("{label}（{words}）")),
            (_, None) => Ok((*label).to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_beside_a_code_are_text_that_can_be_printed() {
        assert_eq!(
            REJECTION
                .text("not_guardian", Some(" 続柄が 違います & "))
                .map(|text| text.ends_with("（続柄が 違います &）")),
            Ok(true)
        );
        assert_eq!(INTERVENTION.text("other", Some("一行目\r\n二行目")).as_deref(), Ok("一行目\n二行目"));
        assert_eq!(INTERVENTION.text("other", Some("  ")), Err(ReasonError::TextMissing));
        for bad in ["外字\u{e000}", "制御\u{7}"] {
            assert_eq!(
                INTERVENTION.text("misuse", Some(bad)),
                Err(ReasonError::Text(TextError::BadCharacter)),
                "{bad}"
            );
        }
        let long = "あ".repeat(TEXT_CHARS_MAX + 1);
        assert!(INTERVENTION.text("other", Some(&long)).is_err());
    }
}
