//! The numbers people see, such as `A25-0000123` (glossary, "Record id and number").

use std::fmt;

/// Kind letter of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberKind {
    /// 受付番号
    Application,
    /// クーポン利用
    Use,
    /// クーポン
    Coupon,
    /// 利用者
    Guardian,
    /// 児童
    Child,
    /// 手紙
    Letter,
    /// 請求
    Claim,
}

impl NumberKind {
    /// The letter.
    pub const fn letter(self) -> char {
        match self {
            Self::Application => 'A',
            Self::Use => 'U',
            Self::Coupon => 'C',
            Self::Guardian => 'G',
            Self::Child => 'K',
            Self::Letter => 'X',
            Self::Claim => 'L',
        }
    }
}

/// A number: kind letter, two-digit fiscal year, serial of at least seven digits per municipality, kind and year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    /// What is numbered.
    pub kind: NumberKind,
    /// Fiscal year, four digits.
    pub fiscal_year: i16,
    /// Serial, from 1, never reused.
    pub serial: i64,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:02}-{:07}", self.kind.letter(), self.fiscal_year.rem_euclid(100), self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_as_in_the_glossary() {
        let number = Number { kind: NumberKind::Application, fiscal_year: 2025, serial: 123 };
        assert_eq!(number.to_string(), "A25-0000123");
    }
}
