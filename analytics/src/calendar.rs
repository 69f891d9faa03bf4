//! Days with their weekday, week, month, fiscal year and national holiday.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{BooleanArray, Date32Array, Int32Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use jiff::{
    ToSpan,
    civil::{Date, Weekday, date},
};
use todoke_domain::time::fiscal_year;

/// First day of the calendar.
pub(crate) const FIRST_DAY: Date = date(2015, 1, 1);
/// Last day of the calendar.
pub(crate) const LAST_DAY: Date = date(2045, 12, 31);

/// Columns of the table `calendar`.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("jst_date", DataType::Date32, false),
        Field::new("weekday", DataType::Int32, false),
        Field::new("iso_week_start", DataType::Date32, false),
        Field::new("month", DataType::Utf8, false),
        Field::new("fiscal_year", DataType::Int32, false),
        Field::new("is_holiday", DataType::Boolean, false),
        Field::new("holiday_name", DataType::Utf8, true),
    ]))
}

/// Days since 1970-01-01, as Arrow counts them.
pub(crate) fn days_since_epoch(day: Date) -> i32 {
    day.since(date(1970, 1, 1)).map_or(0, |span| span.get_days())
}

/// The day of a number of days since 1970-01-01.
pub(crate) fn day_of(days: i32) -> Date {
    date(1970, 1, 1).saturating_add(i64::from(days).days())
}

/// All days of the calendar, oldest first. The same every time.
pub(crate) fn batch() -> &'static RecordBatch {
    static BATCH: LazyLock<RecordBatch> = LazyLock::new(|| {
        let days: Vec<Date> = FIRST_DAY.series(1.day()).take_while(|day| *day <= LAST_DAY).collect();
        let names: Vec<Option<&str>> = days.iter().map(|day| holiday(*day)).collect();
        let week_start = |day: Date| days_since_epoch(day) - i32::from(day.weekday().to_monday_zero_offset());
        RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(Date32Array::from_iter_values(days.iter().map(|day| days_since_epoch(*day)))),
                Arc::new(Int32Array::from_iter_values(
                    days.iter().map(|day| i32::from(day.weekday().to_monday_one_offset())),
                )),
                Arc::new(Date32Array::from_iter_values(days.iter().map(|day| week_start(*day)))),
                Arc::new(StringArray::from_iter_values(days.iter().map(|day| day.strftime("%Y-%m").to_string()))),
                Arc::new(Int32Array::from_iter_values(days.iter().map(|day| i32::from(fiscal_year(*day))))),
                Arc::new(BooleanArray::from_iter(names.iter().map(|name| Some(name.is_some())))),
                Arc::new(StringArray::from(names)),
            ],
        )
        .unwrap_or_else(|_| RecordBatch::new_empty(schema()))
    });
    &BATCH
}

/// The national holiday of a day under the Act on National Holidays as in force since 2022, with the
/// one-off days of 2019 to 2021.
pub(crate) fn holiday(day: Date) -> Option<&'static str> {
    if let Some(name) = named_holiday(day) {
        return Some(name);
    }
    // Substitute: the first day after a Sunday holiday that is not one itself.
    let mut before = day.saturating_sub(1.day());
    while named_holiday(before).is_some() {
        if before.weekday() == Weekday::Sunday {
            return Some("休日");
        }
        before = before.saturating_sub(1.day());
    }
    // A single day between two holidays.
    let around = [day.saturating_sub(1.day()), day.saturating_add(1.day())];
    (around.into_iter().all(|day| named_holiday(day).is_some()) && day.weekday() != Weekday::Sunday).then_some("休日")
}

fn named_holiday(day: Date) -> Option<&'static str> {
    if let Some(once) = moved(day) {
        return once;
    }
    let nth_monday = |n: i8| day.weekday() == Weekday::Monday && (day.day() - 1) / 7 + 1 == n;
    let year = i32::from(day.year());
    match (day.month(), day.day()) {
        (1, 1) => Some("元日"),
        (1, _) if nth_monday(2) => Some("成人の日"),
        (2, 11) => Some("建国記念の日"),
        (2, 23) if year >= 2020 => Some("天皇誕生日"),
        (12, 23) if year <= 2018 => Some("天皇誕生日"),
        (3, d) if i32::from(d) == equinox(year, 20.8431) => Some("春分の日"),
        (4, 29) => Some("昭和の日"),
        (5, 3) => Some("憲法記念日"),
        (5, 4) => Some("みどりの日"),
        (5, 5) => Some("こどもの日"),
        (7, _) if nth_monday(3) => Some("海の日"),
        (8, 11) if year >= 2016 => Some("山の日"),
        (9, _) if nth_monday(3) => Some("敬老の日"),
        (9, d) if i32::from(d) == equinox(year, 23.2488) => Some("秋分の日"),
        (10, _) if nth_monday(2) => Some(if year >= 2020 { "スポーツの日" } else { "体育の日" }),
        (11, 3) => Some("文化の日"),
        (11, 23) => Some("勤労感謝の日"),
        _ => None,
    }
}

/// Days that single years changed: `Some(None)` is a holiday taken away.
fn moved(day: Date) -> Option<Option<&'static str>> {
    match (day.year(), day.month(), day.day()) {
        (2019, 5, 1) => Some(Some("即位の日")),
        (2019, 10, 22) => Some(Some("即位礼正殿の儀")),
        (2020, 7, 23) | (2021, 7, 22) => Some(Some("海の日")),
        (2020, 7, 24) | (2021, 7, 23) => Some(Some("スポーツの日")),
        (2020, 8, 10) | (2021, 8, 8) => Some(Some("山の日")),
        (2020, 7, 20) | (2021, 7, 19) | (2020, 10, 12) | (2021, 10, 11) | (2020, 8, 11) | (2021, 8, 11) => Some(None),
        _ => None,
    }
}

/// Day of the equinox; the usual approximation, right from 1980 to 2099.
fn equinox(year: i32, base: f64) -> i32 {
    let years = year - 1980;
    (base + 0.242_194 * f64::from(years)).floor() as i32 - years.div_euclid(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holidays_of_known_years() {
        assert_eq!(holiday(date(2025, 5, 6)), Some("休日"), "substitute for Sunday 4 May");
        assert_eq!(holiday(date(2026, 9, 22)), Some("休日"), "between two holidays");
        assert_eq!(holiday(date(2026, 3, 20)), Some("春分の日"));
        assert_eq!(holiday(date(2026, 9, 23)), Some("秋分の日"));
        assert_eq!(holiday(date(2021, 7, 23)), Some("スポーツの日"));
        assert_eq!(holiday(date(2021, 10, 11)), None);
        assert_eq!(holiday(date(2019, 4, 30)), Some("休日"));
        assert_eq!(holiday(date(2026, 11, 23)), Some("勤労感謝の日"));
        assert_eq!(holiday(date(2026, 11, 24)), None);
    }

    #[test]
    fn weeks_begin_on_monday_and_fiscal_years_in_april() {
        let batch = batch();
        assert_eq!(batch.num_rows(), 11_323);
        let row = usize::try_from(days_since_epoch(date(2026, 4, 1)) - days_since_epoch(FIRST_DAY)).unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&[batch.slice(row, 1)]).unwrap().to_string();
        assert!(text.contains("2026-04-01") && text.contains("2026-03-30") && text.contains("2026 "), "{text}");
    }
}
