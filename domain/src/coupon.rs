//! Coupons: sets, cycles and expiry (flows.md C4, MR4).

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    money::Yen,
    time::{add_days, add_months, fiscal_year},
};

/// State of a coupon in the record; suspension belongs to the guardian and is checked beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CouponState {
    /// 利用可
    Active,
    /// 期限切れ
    Expired,
    /// 取消
    Revoked,
}

impl CouponState {
    /// The code in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// From the code in the record.
    pub fn parse(raw: &str) -> Option<Self> {
        [Self::Active, Self::Expired, Self::Revoked].into_iter().find(|state| state.as_str() == raw)
    }
}

/// How often a set distributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistributionCycle {
    /// At approval only.
    Once,
    /// Every month.
    Monthly,
    /// Every three months.
    Quarterly,
    /// Every six months.
    HalfYearly,
    /// Every year.
    Yearly,
}

/// What a cycle counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistributionAnchor {
    /// From the day of approval.
    ApprovalDate,
    /// First lot at approval, then on day 1 of each calendar cycle; `yearly` means the fiscal year.
    Calendar,
}

impl DistributionCycle {
    const fn months(self) -> Option<i32> {
        match self {
            Self::Once => None,
            Self::Monthly => Some(1),
            Self::Quarterly => Some(3),
            Self::HalfYearly => Some(6),
            Self::Yearly => Some(12),
        }
    }

    /// The day distribution number `cycle_no` (1 = at approval) is due; `None` when there is none.
    pub fn due(self, anchor: DistributionAnchor, approved_on: Date, cycle_no: i32) -> Option<Date> {
        if cycle_no <= 1 {
            return (cycle_no == 1).then_some(approved_on);
        }
        let months = self.months()?;
        match anchor {
            DistributionAnchor::ApprovalDate => Some(add_months(approved_on, months * (cycle_no - 1))),
            DistributionAnchor::Calendar => {
                // Calendar cycles count from April, the start of the fiscal year.
                let april = Date::new(fiscal_year(approved_on), 4, 1).ok()?;
                let since =
                    (i32::from(approved_on.year()) - i32::from(april.year())) * 12 + i32::from(approved_on.month()) - 4;
                let begun = since.div_euclid(months);
                Some(add_months(april, (begun + cycle_no - 1) * months))
            }
        }
    }
}

/// When the right to a coupon ends by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryAgeRule {
    /// Last valid day is two days before the birthday.
    TwoDaysBeforeBirthday,
    /// 31 March of the fiscal year in which the age is reached.
    FiscalYearEnd,
}

/// What ended a lot (events.md, `coupon.expired.rule`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryRule {
    /// An age was reached.
    Age,
    /// Moved out.
    MovedOut,
    /// A date set by the municipality.
    Fixed,
}

impl ExpiryRule {
    /// The code in the record and in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::MovedOut => "moved_out",
            Self::Fixed => "fixed",
        }
    }
}

/// The definition of a yen coupon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponTerms {
    /// How often.
    pub distribution_cycle: DistributionCycle,
    /// Counted from.
    pub distribution_anchor: DistributionAnchor,
    /// Yen per cycle.
    pub distribution_amount_yen: Yen,
    /// Age in years at which the right ends.
    pub expiry_age_years: i16,
    /// Last day by age.
    pub expiry_age_rule: ExpiryAgeRule,
    /// Months after moving out.
    pub expiry_after_moveout_months: i32,
    /// A date set by the municipality.
    pub expiry_fixed_date: Option<Date>,
}

impl CouponTerms {
    /// Last usable day of a lot and the rule that sets it: the earliest of fixed date, age date and
    /// move-out plus months (MR4).
    pub fn last_day(&self, birth: Date, moved_out_on: Option<Date>) -> (Date, ExpiryRule) {
        let by_age = (last_day_by_age(birth, self.expiry_age_years, self.expiry_age_rule), ExpiryRule::Age);
        let by_move = moved_out_on.map(|on| (add_months(on, self.expiry_after_moveout_months), ExpiryRule::MovedOut));
        let by_date = self.expiry_fixed_date.map(|on| (on, ExpiryRule::Fixed));
        [by_move, by_date].into_iter().flatten().fold(by_age, |first, next| if next.0 < first.0 { next } else { first })
    }
}

/// Last valid day before `age` years are reached (MR4); a 29 February birthday counts as 1 March in common years.
pub fn last_day_by_age(birth: Date, age: i16, rule: ExpiryAgeRule) -> Date {
    let year = birth.year().saturating_add(age);
    let birthday = Date::new(year, birth.month(), birth.day()).or_else(|_| Date::new(year, 3, 1)).unwrap_or(Date::MAX);
    match rule {
        ExpiryAgeRule::TwoDaysBeforeBirthday => add_days(birthday, -2),
        ExpiryAgeRule::FiscalYearEnd => Date::new(fiscal_year(birthday).saturating_add(1), 3, 31).unwrap_or(Date::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn last_days_of_mr4() {
        let rule = ExpiryAgeRule::TwoDaysBeforeBirthday;
        assert_eq!(last_day_by_age(date(2023, 5, 10), 3, rule), date(2026, 5, 8));
        assert_eq!(last_day_by_age(date(2024, 2, 29), 3, rule), date(2027, 2, 27));
        assert_eq!(last_day_by_age(date(2023, 5, 10), 3, ExpiryAgeRule::FiscalYearEnd), date(2027, 3, 31));
    }

    #[test]
    fn the_earliest_end_wins() {
        let terms = CouponTerms {
            distribution_cycle: DistributionCycle::Yearly,
            distribution_anchor: DistributionAnchor::ApprovalDate,
            distribution_amount_yen: Yen::new(10_000),
            expiry_age_years: 3,
            expiry_age_rule: ExpiryAgeRule::TwoDaysBeforeBirthday,
            expiry_after_moveout_months: 12,
            expiry_fixed_date: None,
        };
        let born = date(2023, 5, 10);
        assert_eq!(terms.last_day(born, None), (date(2026, 5, 8), ExpiryRule::Age));
        assert_eq!(terms.last_day(born, Some(date(2025, 1, 31))), (date(2026, 1, 31), ExpiryRule::MovedOut));
        let fixed = CouponTerms { expiry_fixed_date: Some(date(2025, 3, 31)), ..terms };
        assert_eq!(fixed.last_day(born, Some(date(2025, 1, 31))), (date(2025, 3, 31), ExpiryRule::Fixed));
    }

    #[test]
    fn cycles_fall_on_their_days() {
        use {DistributionAnchor as A, DistributionCycle as C};
        let on = date(2025, 8, 31);
        assert_eq!(C::Once.due(A::ApprovalDate, on, 1), Some(on));
        assert_eq!(C::Once.due(A::ApprovalDate, on, 2), None);
        assert_eq!(C::Monthly.due(A::ApprovalDate, on, 2), Some(date(2025, 9, 30)));
        assert_eq!(C::Monthly.due(A::ApprovalDate, on, 3), Some(date(2025, 10, 31)));
        assert_eq!(C::Monthly.due(A::Calendar, on, 2), Some(date(2025, 9, 1)));
        assert_eq!(C::Quarterly.due(A::Calendar, on, 2), Some(date(2025, 10, 1)));
        assert_eq!(C::Yearly.due(A::Calendar, on, 2), Some(date(2026, 4, 1)));
        assert_eq!(C::Yearly.due(A::Calendar, date(2026, 3, 31), 2), Some(date(2026, 4, 1)));
    }
}
