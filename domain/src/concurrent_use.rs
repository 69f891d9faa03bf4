//! One account in use twice at the same time: the sign of an account that people share (N-SEC-09).

use crate::time::Timestamp;

/// From the beginning of a session to its last use. Every browser and device has a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Beginning.
    pub from: Timestamp,
    /// Last use.
    pub to: Timestamp,
}

/// How an account was in use more than once at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrentUse {
    /// Sessions that were not alone.
    pub sessions: usize,
    /// Most of them at the same time.
    pub at_once_max: usize,
    /// When two were last in use together.
    pub last_at: Timestamp,
}

/// What the sessions of one account show; `None` when each was over before the next began.
pub fn concurrent_use(spans: &[Span]) -> Option<ConcurrentUse> {
    let mut found: Option<ConcurrentUse> = None;
    for (i, span) in spans.iter().enumerate() {
        let (mut at_once, mut last_at) = (1, None);
        for (j, other) in spans.iter().enumerate() {
            if i != j && other.from <= span.to && span.from <= other.to {
                // Where most overlap, one of them begins.
                at_once += usize::from(other.from <= span.from);
                last_at = last_at.max(Some(other.to.min(span.to)));
            }
        }
        let Some(last_at) = last_at else { continue };
        let all = found.get_or_insert(ConcurrentUse { sessions: 0, at_once_max: 0, last_at });
        all.sessions += 1;
        all.at_once_max = all.at_once_max.max(at_once);
        all.last_at = all.last_at.max(last_at);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(of: &[(i64, i64)]) -> Vec<Span> {
        of.iter()
            .map(|(from, to)| Span { from: Timestamp::from_micros(*from), to: Timestamp::from_micros(*to) })
            .collect()
    }

    #[test]
    fn one_after_the_other_is_one_person() {
        assert_eq!(concurrent_use(&[]), None);
        assert_eq!(concurrent_use(&spans(&[(0, 10), (11, 20), (21, 21)])), None);
    }

    #[test]
    fn what_overlaps_is_counted_once_each_with_the_most_at_a_time() {
        let found = concurrent_use(&spans(&[(0, 10), (5, 30), (8, 9), (29, 40), (50, 60)]));
        let last_at = Timestamp::from_micros(30);
        assert_eq!(found, Some(ConcurrentUse { sessions: 4, at_once_max: 3, last_at }));
        let same = concurrent_use(&spans(&[(0, 10), (0, 10)]));
        assert_eq!(same.map(|found| (found.sessions, found.at_once_max)), Some((2, 2)));
    }
}
