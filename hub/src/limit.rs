//! Rate limits: fixed windows of a minute, in memory, bounded.

use std::{collections::HashMap, sync::Mutex};

use todoke_domain::Timestamp;

/// Length of a window, seconds.
const WINDOW_S: i64 = 60;
/// Keys kept before old windows are swept out.
const KEYS_MAX: usize = 100_000;

/// Counts per key and minute.
#[derive(Debug, Default)]
pub struct Limiter {
    // std Mutex: the section is a map lookup and never crosses an await.
    windows: Mutex<HashMap<String, (i64, u32)>>,
}

impl Limiter {
    /// Counts one more for `key`; `Err` with the seconds to wait when it is beyond `per_min`.
    pub fn count(&self, key: String, per_min: u32, now: Timestamp) -> Result<(), u32> {
        self.count_many(key, 1, per_min, now)
    }

    /// Counts `n` more, as [`Self::count`] does one. What is beyond the limit counts as well.
    pub fn count_many(&self, key: String, n: u32, per_min: u32, now: Timestamp) -> Result<(), u32> {
        let window = now.as_seconds().div_euclid(WINDOW_S);
        let Ok(mut windows) = self.windows.lock() else { return Ok(()) };
        if windows.len() >= KEYS_MAX {
            windows.retain(|_, (begun, _)| *begun == window);
        }
        let entry = windows.entry(key).or_insert((window, 0));
        if entry.0 != window {
            *entry = (window, 0);
        }
        entry.1 = entry.1.saturating_add(n);
        if entry.1 <= per_min {
            return Ok(());
        }
        let left = WINDOW_S - now.as_seconds().rem_euclid(WINDOW_S);
        Err(u32::try_from(left).unwrap_or(1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_with_its_minute() {
        let limiter = Limiter::default();
        let at = |s: i64| Timestamp::from_micros(s * 1_000_000);
        assert_eq!(limiter.count("a".into(), 2, at(0)), Ok(()));
        assert_eq!(limiter.count("a".into(), 2, at(10)), Ok(()));
        assert_eq!(limiter.count("a".into(), 2, at(20)), Err(40));
        assert_eq!(limiter.count("b".into(), 2, at(20)), Ok(()));
        assert_eq!(limiter.count("a".into(), 2, at(60)), Ok(()));
    }
}
