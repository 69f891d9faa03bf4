//! Integer yen. There is no floating point in money.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Neg, Sub},
};

use serde::{Deserialize, Serialize};

/// An amount of yen; signed, since ledger lines are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Yen(i64);

impl Yen {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Largest amount of one payment or distribution: far above any coupon, far below overflow.
    pub const SINGLE_MAX: Self = Self(100_000_000);

    /// From whole yen.
    pub const fn new(yen: i64) -> Self {
        Self(yen)
    }

    /// Whole yen.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// More than nothing.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl Add for Yen {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Yen {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Yen {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for Yen {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for Yen {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl From<i64> for Yen {
    fn from(yen: i64) -> Self {
        Self(yen)
    }
}

/// Shown with thousands separators and 円, as in `1,200円`.
impl fmt::Display for Yen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.unsigned_abs().to_string();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i) % 3 == 0 {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        f.write_str("円")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yen_reads_as_people_write_it() {
        assert_eq!(Yen::new(0).to_string(), "0円");
        assert_eq!(Yen::new(1_200).to_string(), "1,200円");
        assert_eq!(Yen::new(-12_345_678).to_string(), "-12,345,678円");
    }
}
