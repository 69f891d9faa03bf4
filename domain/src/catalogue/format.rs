//! How values read inside message texts (messages.md §1, "Placeholders").

use jiff::civil::{Date, DateTime, Time, Weekday};

use crate::money::Yen;

/// A person's name as a message addresses them: `佐藤 花子様`.
pub fn person(name: &str) -> String {
    format!("{name}様")
}

/// A day with its weekday: `2025年6月10日（火）`.
pub fn day(date: Date) -> String {
    let weekday = match date.weekday() {
        Weekday::Monday => '月',
        Weekday::Tuesday => '火',
        Weekday::Wednesday => '水',
        Weekday::Thursday => '木',
        Weekday::Friday => '金',
        Weekday::Saturday => '土',
        Weekday::Sunday => '日',
    };
    format!("{}年{}月{}日（{weekday}）", date.year(), date.month(), date.day())
}

/// A time of day, to the minute: `10:02`, `9:05`.
pub fn clock(time: Time) -> String {
    format!("{}:{:02}", time.hour(), time.minute())
}

/// From one time of day to another: `10:00〜12:30`.
pub fn clock_range(from: Time, to: Time) -> String {
    format!("{}〜{}", clock(from), clock(to))
}

/// Day and time: `2025年6月10日（火） 18:00`.
pub fn deadline(at: DateTime) -> String {
    format!("{} {}", day(at.date()), clock(at.time()))
}

/// An amount: `1,200円`.
pub fn yen(amount: i64) -> String {
    Yen::new(amount).to_string()
}

/// A change of an amount, always with its sign: `+1,200円`, `-300円`.
pub fn yen_change(delta: i64) -> String {
    let sign = if delta < 0 { "" } else { "+" };
    format!("{sign}{}", yen(delta))
}

/// Units of an hours coupon: `3時間（3回）`.
pub fn units(units: i32) -> String {
    format!("{units}時間（{units}回）")
}

/// A change of units, always with its sign: `+3時間（3回）`, `-1時間（1回）`.
pub fn units_change(delta: i32) -> String {
    let size = delta.unsigned_abs();
    let sign = if delta < 0 { "-" } else { "+" };
    format!("{sign}{size}時間（{size}回）")
}

/// Minutes of quota: `6時間30分`, `2時間`, `45分`, `0分`.
pub fn quota(minutes: i32) -> String {
    let sign = if minutes < 0 { "-" } else { "" };
    let size = minutes.unsigned_abs();
    match (size / 60, size % 60) {
        (0, rest) => format!("{sign}{rest}分"),
        (hours, 0) => format!("{sign}{hours}時間"),
        (hours, rest) => format!("{sign}{hours}時間{rest}分"),
    }
}

/// The month of a day: `2025年5月`.
pub fn month(of: Date) -> String {
    format!("{}年{}月", of.year(), of.month())
}

/// Names of the buckets drawn: `ホームヘルパー・産後ドゥーラ`.
pub fn buckets(names: &[&str]) -> String {
    names.join("・")
}

/// Start to end of a time span; the day is not repeated: `2025年6月10日（火） 22:00〜23:30`.
pub fn window(from: DateTime, to: DateTime) -> String {
    let end = if from.date() == to.date() { clock(to.time()) } else { deadline(to) };
    format!("{}〜{end}", deadline(from))
}

/// First to last day: `2025年4月1日（火）〜2025年4月30日（水）`.
pub fn period(first: Date, last: Date) -> String {
    format!("{}〜{}", day(first), day(last))
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};

    use super::*;

    #[test]
    fn forms_are_those_of_messages_md() {
        let tuesday = date(2025, 6, 10);
        assert_eq!(person("佐藤 花子"), "佐藤 花子様");
        assert_eq!(day(tuesday), "2025年6月10日（火）");
        assert_eq!(clock_range(time(10, 0, 0, 0), time(12, 30, 0, 0)), "10:00〜12:30");
        assert_eq!(clock(time(10, 2, 59, 0)), "10:02");
        assert_eq!(clock(time(9, 5, 0, 0)), "9:05");
        assert_eq!(deadline(tuesday.at(18, 0, 0, 0)), "2025年6月10日（火） 18:00");
        assert_eq!(yen(1_200), "1,200円");
        assert_eq!(yen_change(1_200), "+1,200円");
        assert_eq!(yen_change(-12_300), "-12,300円");
        assert_eq!(units(3), "3時間（3回）");
        assert_eq!(units_change(-1), "-1時間（1回）");
        assert_eq!(quota(390), "6時間30分");
        assert_eq!(quota(120), "2時間");
        assert_eq!(quota(0), "0分");
        assert_eq!(quota(-45), "-45分");
        assert_eq!(month(date(2025, 5, 1)), "2025年5月");
        assert_eq!(buckets(&["ホームヘルパー", "産後ドゥーラ"]), "ホームヘルパー・産後ドゥーラ");
        assert_eq!(window(tuesday.at(22, 0, 0, 0), tuesday.at(23, 30, 0, 0)), "2025年6月10日（火） 22:00〜23:30");
        assert_eq!(
            window(tuesday.at(22, 0, 0, 0), date(2025, 6, 11).at(5, 0, 0, 0)),
            "2025年6月10日（火） 22:00〜2025年6月11日（水） 5:00"
        );
        assert_eq!(period(date(2025, 4, 1), date(2025, 4, 30)), "2025年4月1日（火）〜2025年4月30日（水）");
    }
}
