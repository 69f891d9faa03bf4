//! A provider's pace.

use todoke_domain::Timestamp;

/// A token bucket that holds one second's worth.
#[derive(Debug)]
pub struct Bucket {
    per_second: u32,
    // Millionths of a token, so that a microsecond's share is a whole number.
    filled: u64,
    at: Option<Timestamp>,
}

const ONE: u64 = 1_000_000;

impl Bucket {
    /// A full bucket; 0 means without limit.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, filled: u64::from(per_second) * ONE, at: None }
    }

    /// How many may go now.
    pub fn available(&mut self, now: Timestamp) -> usize {
        if self.per_second == 0 {
            return usize::MAX;
        }
        let since = self.at.map_or(0, |at| u64::try_from(now.since(at).as_micros()).unwrap_or(u64::MAX));
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        let rate = u64::from(self.per_second);
        self.filled = self.filled.saturating_add(since.saturating_mul(rate)).min(rate * ONE);
        usize::try_from(self.filled / ONE).unwrap_or(usize::MAX)
    }

    /// Notes that `n` went.
    pub fn take(&mut self, n: usize) {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        self.filled = self.filled.saturating_sub(n.saturating_mul(ONE));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_lets_the_rate_through_and_a_second_of_burst() {
        let start = Timestamp::from_micros(1_000_000);
        let mut bucket = Bucket::new(100);
        assert_eq!(bucket.available(start), 100);
        bucket.take(100);
        assert_eq!(bucket.available(start.plus(Duration::from_millis(250))), 25);
        assert_eq!(bucket.available(start.plus(Duration::from_secs(60))), 100);
        assert_eq!(Bucket::new(0).available(start), usize::MAX);
    }
}
