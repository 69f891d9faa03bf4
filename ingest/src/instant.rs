//! RFC 3339 instants, read quickly in the form that machines write.

use todoke_domain::Timestamp;

const DAY_S: i64 = 86_400;

/// The instant of an RFC 3339 text. The usual form is read here, anything else by the domain's reader.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    usual(text.as_bytes()).map_or_else(|| text.parse().ok(), |micros| Some(Timestamp::from_micros(micros)))
}

/// `YYYY-MM-DDTHH:MM:SS[.f…](Z|±HH:MM)`, with up to six digits of a second; `None` for whatever is
/// not quite that.
fn usual(text: &[u8]) -> Option<i64> {
    let date_time: &[u8; 19] = text.first_chunk()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| date_time[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..10])?);
    let (hour, minute, second) = (number(&text[11..13])?, number(&text[14..16])?, number(&text[17..19])?);
    if year < 1 || !(1..=12).contains(&month) || day < 1 || day > month_days(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &text[19..];
    let mut micros = 0;
    if let [b'.', fraction @ ..] = rest {
        let n_digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=6).contains(&n_digits) {
            return None;
        }
        micros = number(&fraction[..n_digits])? * [100_000, 10_000, 1_000, 100, 10, 1][n_digits - 1];
        rest = &fraction[n_digits..];
    }
    let offset_s = match rest {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), hours @ .., b':', _, _] if hours.len() == 2 => {
            let (hours, minutes) = (number(hours)?, number(&rest[4..])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3_600 + minutes * 60) * if *sign == b'+' { 1 } else { -1 }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * DAY_S + hour * 3_600 + minute * 60 + second - offset_s;
    Some(seconds * 1_000_000 + micros)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar. Years are counted from March, so that the
/// leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_is_what_the_domain_reads() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2026-11-21T01:02:03Z",
            "2026-11-21T10:02:03+09:00",
            "2026-11-21T10:02:03.5-00:30",
            "2024-02-29T23:59:59.999999Z",
            "2000-02-29T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "2026-11-21 01:02:03Z",
            "2026-11-21t01:02:03z",
            "2026-11-21T01:02:03.123456789Z",
            "2026-11-21T01:02:03+0900",
            "1900-02-29T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T01:02:03",
            "2026-11-21T01:02:03.Z",
            "2026-11-21T01:02:03+09:0",
            "yesterday",
            "",
        ] {
            assert_eq!(parse(text), text.parse().ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_instant_is_read_back(micros in -62_000_000_000_000_000_i64..250_000_000_000_000_000) {
            let at = Timestamp::from_micros(micros);
            prop_assert_eq!(usual(at.to_string().as_bytes()), Some(micros));
        }
    }
}
