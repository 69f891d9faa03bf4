//! Instants and Japanese calendar days. Business days are Asia/Tokyo, a fixed UTC+9.

use std::{fmt, time::Duration};

use jiff::{
    civil::{Date, DateTime, Time},
    tz::{Offset, TimeZone},
};
use serde::{Deserialize, Serialize};

const JST: Offset = jiff::tz::offset(9);
const MICROS_PER_SECOND: i64 = 1_000_000;

/// An instant in microseconds since 1970-01-01T00:00:00Z. Its text form is RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// The Asia/Tokyo wall-clock time.
    pub fn jst(self) -> DateTime {
        JST.to_datetime(self.to_jiff())
    }

    /// The Asia/Tokyo calendar day.
    pub fn jst_date(self) -> Date {
        self.jst().date()
    }

    /// The instant of a wall-clock time on a day in Asia/Tokyo. Saturates at the calendar's ends.
    pub fn from_jst(date: Date, time: Time) -> Self {
        JST.to_timestamp(date.to_datetime(time)).map_or(Self(i64::MAX), |t| Self(t.as_microsecond()))
    }

    /// 00:00 of a day in Asia/Tokyo.
    pub fn jst_midnight(date: Date) -> Self {
        Self::from_jst(date, Time::midnight())
    }

    /// This instant plus a duration; saturates.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This instant minus a duration; saturates.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// A text below every id made at this instant or later and above every id made a millisecond or more before:
    /// ids begin with their time.
    pub fn id_bound(self) -> String {
        let millis = u64::try_from(self.0.div_euclid(1_000)).unwrap_or(0) & 0xffff_ffff_ffff;
        format!("{:08x}-{:04x}", millis >> 16, millis & 0xffff)
    }

    fn to_jiff(self) -> jiff::Timestamp {
        // Out of jiff's range means outside the years -9999..9999: nothing we accept from outside.
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.to_jiff().to_zoned(TimeZone::UTC).datetime();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            self.0.rem_euclid(MICROS_PER_SECOND),
        )
    }
}

impl From<i64> for Timestamp {
    /// From microseconds since the Unix epoch, the record's form.
    fn from(micros: i64) -> Self {
        Self(micros)
    }
}

/// A text that is not an RFC 3339 instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 instant")]
pub struct TimestampError;

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(raw: &str) -> Result<Self, TimestampError> {
        let parsed: jiff::Timestamp = raw.parse().map_err(|_| TimestampError)?;
        Ok(Self(parsed.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        raw.parse().map_err(serde::de::Error::custom)
    }
}

/// The fiscal year (年度, 1 April to 31 March) a day belongs to.
pub fn fiscal_year(date: Date) -> i16 {
    if date.month() >= 4 { date.year() } else { date.year() - 1 }
}

/// 1 April of the fiscal year that is `years` before the one a day belongs to.
pub fn fiscal_year_start(date: Date, years: u16) -> Date {
    let year = i16::try_from(i32::from(fiscal_year(date)) - i32::from(years)).ok();
    year.and_then(|year| Date::new(year, 4, 1).ok()).unwrap_or(Date::MIN)
}

/// First day of the month of `date`.
pub fn month_start(date: Date) -> Date {
    date.first_of_month()
}

/// `date` plus calendar months; a day the month lacks becomes its last day (flows.md, `distribution_anchor`).
pub fn add_months(date: Date, months: i32) -> Date {
    date.saturating_add(jiff::Span::new().months(months))
}

/// `date` plus days.
pub fn add_days(date: Date, days: i32) -> Date {
    date.saturating_add(jiff::Span::new().days(days))
}

/// Full years of age on `on`; a 29 February birthday counts as 1 March in common years (MR4).
pub fn age_years(birth: Date, on: Date) -> i16 {
    let had_birthday = (on.month(), on.day()) >= (birth.month(), birth.day());
    on.year() - birth.year() - i16::from(!had_birthday)
}

/// Full months of age on `on`.
pub fn age_months(birth: Date, on: Date) -> i16 {
    let months = (i32::from(on.year()) - i32::from(birth.year())) * 12 + i32::from(on.month())
        - i32::from(birth.month())
        - i32::from(on.day() < birth.day());
    i16::try_from(months.max(0)).unwrap_or(i16::MAX)
}

/// Class age (MR9): full years on 1 April of the fiscal year of `on`.
///
/// By the law on counting ages a year is complete on the eve of the birthday, and the class is cut so
/// that a child born on 1 April belongs with the older ones: born 1 April 2023 is 2 in FY2025, born
/// 2 April 2023 is 1.
pub fn class_age(birth: Date, on: Date) -> i16 {
    let april_first = Date::new(fiscal_year(on), 4, 1).unwrap_or(on);
    age_years(birth, april_first).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_jst_day_begins_at_15_utc() {
        let last = "2026-03-31T14:59:59.999999Z".parse::<Timestamp>().unwrap();
        assert_eq!(last.jst_date(), date(2026, 3, 31));
        assert_eq!(fiscal_year(last.jst_date()), 2025);
        let next = last.plus(Duration::from_micros(1));
        assert_eq!(next.jst_date(), date(2026, 4, 1));
        assert_eq!(fiscal_year(next.jst_date()), 2026);
        assert_eq!(Timestamp::jst_midnight(date(2026, 4, 1)), next);
        assert_eq!(next.to_string(), "2026-03-31T15:00:00.000000Z");
    }

    #[test]
    fn fiscal_years_begin_in_april() {
        assert_eq!(fiscal_year_start(date(2026, 3, 31), 0), date(2025, 4, 1));
        assert_eq!(fiscal_year_start(date(2026, 4, 1), 5), date(2021, 4, 1));
        assert_eq!(fiscal_year_start(date(2026, 4, 1), u16::MAX), Date::MIN);
    }

    #[test]
    fn ages_follow_the_samples() {
        assert_eq!(class_age(date(2023, 4, 1), date(2025, 6, 1)), 2);
        assert_eq!(class_age(date(2023, 4, 2), date(2025, 6, 1)), 1);
        assert_eq!(age_years(date(2024, 2, 29), date(2027, 2, 28)), 2);
        assert_eq!(age_years(date(2024, 2, 29), date(2027, 3, 1)), 3);
        assert_eq!(age_months(date(2025, 1, 31), date(2025, 2, 28)), 0);
        assert_eq!(add_months(date(2025, 1, 31), 1), date(2025, 2, 28));
    }
}
