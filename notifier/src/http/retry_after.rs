//! `Retry-After`: seconds or an HTTP date (RFC 9110).

use std::time::Duration;

use http::{HeaderMap, header::RETRY_AFTER};
use todoke_domain::Timestamp;

/// Longest wait that a provider can ask of us.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The wait that the answer asks for, plus up to a quarter of it and up to a second, so that those who were told
/// the same do not come back in the same instant. `None` when it asks for none.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let asked = asked(headers.get(RETRY_AFTER)?.to_str().ok()?.trim(), now)?.min(WAIT_MAX);
    let spread_ms = u64::try_from(asked.as_millis() / 4).unwrap_or(0).max(1_000);
    Some(asked + Duration::from_millis(rand::random_range(0..=spread_ms)))
}

fn asked(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Timestamp::from_micros(at.as_microsecond()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T06:00:00Z.
    const NOW: Timestamp = Timestamp::from_micros(1_795_240_800_000_000);

    #[test]
    fn both_forms_are_read() {
        assert_eq!(asked("120", NOW), Some(Duration::from_secs(120)));
        assert_eq!(asked("Sat, 21 Nov 2026 06:01:30 GMT", NOW), Some(Duration::from_secs(90)));
        assert_eq!(asked("Sat, 21 Nov 2026 05:00:00 GMT", NOW), Some(Duration::ZERO));
        assert_eq!(asked("soon", NOW), None);
    }

    #[test]
    fn the_wait_is_never_shorter_than_asked_and_never_absurd() {
        let headers = |value: &str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        for _ in 0..100 {
            let wait = retry_after(&headers("120"), NOW).unwrap();
            assert!((120..=150).contains(&wait.as_secs()), "{wait:?}");
        }
        assert!(retry_after(&headers("99999999999"), NOW).unwrap() <= WAIT_MAX + WAIT_MAX / 4);
        assert_eq!(retry_after(&HeaderMap::new(), NOW), None);
    }
}
