//! Identity matching (同定, flows.md Part J): names are compared in one normal form.

use jiff::civil::Date;
use unicode_normalization::UnicodeNormalization;

/// Normal form of a name in kana: NFKC, hiragana to katakana, without spaces and middle dots.
/// Small and large kana stay apart.
pub fn normal_kana(raw: &str) -> String {
    to_katakana(raw).chars().filter(|c| !c.is_whitespace() && *c != '・').collect()
}

/// NFKC, then hiragana to katakana.
pub fn to_katakana(raw: &str) -> String {
    raw.nfkc()
        .map(|c| match c {
            'ぁ'..='ゖ' => char::from_u32(u32::from(c) + 0x60).unwrap_or(c),
            other => other,
        })
        .collect()
}

/// What identifies a child: the three facts (3情報).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreeFacts {
    /// Name in kana, in normal form.
    pub name_kana: String,
    /// `male`, `female` or `unknown`, as in the movement data.
    pub sex: String,
    /// Birth date.
    pub birth_date: Date,
}

/// A resident of the movement data as matching sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Resident number.
    pub resident_no: String,
    /// The three facts.
    pub facts: ThreeFacts,
    /// Deleted at the source since.
    pub deleted: bool,
    /// Already linked to a child of the record.
    pub linked: bool,
    /// The applicant occurs in this resident's household relation.
    pub household_has_applicant: bool,
}

/// Outcome of matching one child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matching {
    /// Exactly one free candidate.
    Matched(String),
    /// No link; the code goes into the error CSV.
    Failed {
        /// Why.
        error: MatchingError,
        /// Residents the operator may look at.
        candidates: Vec<String>,
    },
}

/// Error codes of the error CSV (O01).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchingError {
    /// Same name, sex and birth date more than once.
    Multiple,
    /// Nobody fits.
    NoCandidate,
    /// Birth date and sex fit one child of the applicant's household, the name differs.
    NameChanged,
    /// Was known, now deleted at the source.
    DeletedAtSource,
    /// The only candidate belongs to another child of the record.
    AlreadyLinked,
}

impl MatchingError {
    /// The code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Multiple => "E1_multiple",
            Self::NoCandidate => "E2_no_candidate",
            Self::NameChanged => "E3_name_changed",
            Self::DeletedAtSource => "E4_deleted_at_source",
            Self::AlreadyLinked => "E5_already_linked",
        }
    }
}

/// Matches a child against residents that share its birth date.
pub fn match_child(child: &ThreeFacts, same_birth_date: &[Candidate]) -> Matching {
    let fits = |c: &&Candidate| c.facts == *child;
    let numbers = |list: &[&Candidate]| list.iter().map(|c| c.resident_no.clone()).collect::<Vec<_>>();
    let living: Vec<&Candidate> = same_birth_date.iter().filter(|c| !c.deleted).filter(fits).collect();
    let failed = |error, list: &[&Candidate]| Matching::Failed { error, candidates: numbers(list) };
    match living.as_slice() {
        [only] if !only.linked => Matching::Matched(only.resident_no.clone()),
        [linked] => failed(MatchingError::AlreadyLinked, &[linked]),
        [] => {
            let renamed: Vec<&Candidate> = same_birth_date
                .iter()
                .filter(|c| !c.deleted && c.facts.sex == child.sex && c.household_has_applicant)
                .collect();
            let deleted: Vec<&Candidate> = same_birth_date.iter().filter(|c| c.deleted).filter(fits).collect();
            if renamed.len() == 1 {
                failed(MatchingError::NameChanged, &renamed)
            } else if deleted.is_empty() {
                failed(MatchingError::NoCandidate, &[])
            } else {
                failed(MatchingError::DeletedAtSource, &deleted)
            }
        }
        several => failed(MatchingError::Multiple, several),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn facts(kana: &str) -> ThreeFacts {
        ThreeFacts { name_kana: normal_kana(kana), sex: "female".into(), birth_date: date(2025, 1, 2) }
    }

    fn resident(no: &str, kana: &str) -> Candidate {
        Candidate {
            resident_no: no.into(),
            facts: facts(kana),
            deleted: false,
            linked: false,
            household_has_applicant: false,
        }
    }

    #[test]
    fn names_meet_in_their_normal_form() {
        assert_eq!(normal_kana("やまだ　ﾊﾅ・コ"), "ヤマダハナコ");
        assert_ne!(normal_kana("ヨウ"), normal_kana("ョウ"));
    }

    #[test]
    fn each_error_code_has_its_case() {
        let child = facts("ヤマダ ハナ");
        let code = |residents: &[Candidate]| match match_child(&child, residents) {
            Matching::Matched(no) => no,
            Matching::Failed { error, .. } => error.as_str().to_owned(),
        };
        let fitting = resident("1", "ヤマダハナ");
        assert_eq!(code(std::slice::from_ref(&fitting)), "1");
        assert_eq!(code(&[fitting.clone(), resident("2", "ヤマダハナ")]), "E1_multiple");
        assert_eq!(code(&[]), "E2_no_candidate");
        assert_eq!(code(&[resident("3", "スズキハナ")]), "E2_no_candidate");
        assert_eq!(
            code(&[Candidate { household_has_applicant: true, ..resident("3", "スズキハナ") }]),
            "E3_name_changed"
        );
        assert_eq!(code(&[Candidate { deleted: true, ..fitting.clone() }]), "E4_deleted_at_source");
        assert_eq!(code(&[Candidate { linked: true, ..fitting }]), "E5_already_linked");
    }
}
