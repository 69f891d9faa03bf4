//! One channel as this node sees it: what was delivered last, what came too early, what is still hot.
//! No I/O and no clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::{HotRead, Publication, StreamPosition};

/// Bounds of one channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamLimits {
    /// Publications in the ring.
    pub(super) ring_n_max: usize,
    /// Bytes of data in the ring.
    pub(super) ring_bytes_max: usize,
    /// Publications that wait for an earlier one.
    pub(super) early_n_max: usize,
}

struct Entry {
    publication: Publication,
    at: Instant,
}

/// Order and hot history of one channel.
///
/// `last` is the position delivered last, `None` until the channel is aligned with the durable
/// history. The ring holds a gap-free tail that ends at `last`.
pub(super) struct Stream {
    last: Option<u64>,
    epoch: Option<Arc<str>>,
    ring: VecDeque<Entry>,
    ring_bytes: usize,
    early: BTreeMap<u64, Publication>,
    /// The highest position that came, kept or not: below it nothing may be missing.
    highest: u64,
    /// Since when `last` is behind `highest`.
    gap_since: Option<Instant>,
    n_followers: usize,
    /// Since when nobody follows.
    idle_since: Instant,
}

impl Stream {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: None,
            epoch: None,
            ring: VecDeque::new(),
            ring_bytes: 0,
            early: BTreeMap::new(),
            highest: 0,
            gap_since: None,
            n_followers: 0,
            idle_since: now,
        }
    }

    pub(super) fn follow(&mut self) {
        self.n_followers += 1;
    }

    pub(super) fn unfollow(&mut self, now: Instant) {
        self.n_followers = self.n_followers.saturating_sub(1);
        if self.n_followers == 0 {
            self.idle_since = now;
        }
    }

    /// Since when nobody follows this channel.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.n_followers == 0).then_some(self.idle_since)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    pub(super) fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    pub(super) fn gap_since(&self) -> Option<Instant> {
        self.gap_since
    }

    /// Takes a publication; whatever is now due is given to `deliver`, in order.
    pub(super) fn accept(
        &mut self,
        publication: Publication,
        now: Instant,
        limits: &StreamLimits,
        mut deliver: impl FnMut(&Publication),
    ) {
        let position = publication.position;
        self.highest = self.highest.max(position);
        match self.last {
            Some(last) if position <= last => {}
            Some(last) if position == last + 1 => {
                self.advance(publication, now, limits, &mut deliver);
                self.drain_early(now, limits, &mut deliver);
            }
            _ => {
                self.early.insert(position, publication);
                // The record still has what is dropped here, and the gap up to `highest` is repaired from there.
                while self.early.len() > limits.early_n_max {
                    self.early.pop_last();
                }
                if self.last.is_some() {
                    self.gap_since.get_or_insert(now);
                }
            }
        }
    }

    /// Sets the position of a channel that has none yet. False: the channel lived in another epoch.
    pub(super) fn align(
        &mut self,
        top: &StreamPosition,
        now: Instant,
        limits: &StreamLimits,
        mut deliver: impl FnMut(&Publication),
    ) -> bool {
        if self.epoch.as_ref().is_some_and(|epoch| *epoch != top.epoch) {
            self.restart(top, now);
            return false;
        }
        if self.last.is_none() {
            self.epoch = Some(Arc::clone(&top.epoch));
            self.last = Some(top.offset);
            self.drain_early(now, limits, &mut deliver);
        }
        true
    }

    /// Forgets everything but its followers and goes on from `top`.
    pub(super) fn restart(&mut self, top: &StreamPosition, now: Instant) {
        let (n_followers, idle_since) = (self.n_followers, self.idle_since);
        *self = Self { n_followers, idle_since, ..Self::new(now) };
        self.epoch = Some(Arc::clone(&top.epoch));
        self.last = Some(top.offset);
    }

    /// What a client at `since` missed, as far as the ring can prove it.
    pub(super) fn read(&self, since: Option<&StreamPosition>) -> HotRead {
        let (Some(last), Some(epoch)) = (self.last, self.epoch.as_ref()) else {
            return HotRead::Unknown;
        };
        let top = StreamPosition { offset: last, epoch: Arc::clone(epoch) };
        let Some(since) = since else {
            return HotRead::Complete { publications: Vec::new(), top };
        };
        // An empty epoch means that the client does not know it (it never got one).
        let same_epoch = since.epoch.is_empty() || since.epoch == *epoch;
        let first_hot = last + 1 - self.ring.len() as u64;
        if !same_epoch || since.offset > last || since.offset + 1 < first_hot {
            return HotRead::Beyond { top };
        }
        let skip = usize::try_from(since.offset + 1 - first_hot).unwrap_or(usize::MAX);
        let publications = self.ring.iter().skip(skip).map(|entry| entry.publication.clone()).collect();
        HotRead::Complete { publications, top }
    }

    /// Forgets what is older than `oldest`. Returns the bytes given back.
    pub(super) fn evict(&mut self, oldest: Instant) -> usize {
        let before = self.ring_bytes;
        while self.ring.front().is_some_and(|entry| entry.at < oldest) {
            self.pop_front();
        }
        if self.ring.is_empty() {
            self.ring = VecDeque::new();
        }
        before - self.ring_bytes
    }

    fn drain_early(&mut self, now: Instant, limits: &StreamLimits, deliver: &mut impl FnMut(&Publication)) {
        let Some(mut last) = self.last else { return };
        while let Some(first) = self.early.first_entry() {
            if *first.key() > last + 1 {
                break;
            }
            let publication = first.remove();
            if publication.position == last + 1 {
                last += 1;
                self.advance(publication, now, limits, deliver);
            }
        }
        self.gap_since = (self.highest > last).then_some(now);
    }

    fn advance(
        &mut self,
        publication: Publication,
        now: Instant,
        limits: &StreamLimits,
        deliver: &mut impl FnMut(&Publication),
    ) {
        deliver(&publication);
        self.last = Some(publication.position);
        self.ring_bytes += publication.data.len();
        self.ring.push_back(Entry { publication, at: now });
        while self.ring.len() > limits.ring_n_max || self.ring_bytes > limits.ring_bytes_max {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.ring.pop_front() {
            self.ring_bytes -= entry.publication.data.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    const LIMITS: StreamLimits = StreamLimits { ring_n_max: 4, ring_bytes_max: 1_000, early_n_max: 8 };

    fn publication(position: u64) -> Publication {
        Publication { position, data: Bytes::from(position.to_string()) }
    }

    fn position(offset: u64) -> StreamPosition {
        StreamPosition { offset, epoch: Arc::from("e") }
    }

    fn aligned(offset: u64, now: Instant) -> Stream {
        let mut stream = Stream::new(now);
        assert!(stream.align(&position(offset), now, &LIMITS, |_| {}));
        stream
    }

    #[test]
    fn an_unaligned_channel_waits_and_then_drops_what_the_record_already_covers() {
        let now = Instant::now();
        let mut stream = Stream::new(now);
        let mut seen = Vec::new();
        for n in [7, 5, 6] {
            stream.accept(publication(n), now, &LIMITS, |p| seen.push(p.position));
        }
        assert!(seen.is_empty() && stream.gap_since().is_none());
        assert!(matches!(stream.read(None), HotRead::Unknown));
        stream.align(&position(5), now, &LIMITS, |p| seen.push(p.position));
        assert_eq!(seen, [6, 7]);
    }

    #[test]
    fn a_ring_answers_only_what_it_can_prove() {
        let now = Instant::now();
        let mut stream = aligned(10, now);
        for n in 11..=16 {
            stream.accept(publication(n), now, &LIMITS, |_| {});
        }
        let read = |offset| match stream.read(Some(&position(offset))) {
            HotRead::Complete { publications, top } => {
                assert_eq!(top.offset, 16);
                Some(publications.iter().map(|p| p.position).collect::<Vec<_>>())
            }
            HotRead::Beyond { .. } | HotRead::Unknown => None,
        };
        assert_eq!(read(16), Some(vec![]));
        assert_eq!(read(14), Some(vec![15, 16]));
        assert_eq!(read(12), Some(vec![13, 14, 15, 16]));
        assert_eq!(read(11), None, "evicted");
        assert_eq!(read(17), None, "ahead of us");
        let foreign = StreamPosition { offset: 16, epoch: Arc::from("other") };
        assert!(matches!(stream.read(Some(&foreign)), HotRead::Beyond { .. }));
    }

    #[test]
    fn what_there_was_no_room_for_is_still_missing_when_the_hole_before_it_closes() {
        let now = Instant::now();
        let mut stream = aligned(0, now);
        let mut seen = Vec::new();
        for n in (2..=12).chain([1]) {
            stream.accept(publication(n), now, &LIMITS, |p| seen.push(p.position));
        }
        assert_eq!(seen, (1..=9).collect::<Vec<_>>(), "there is room for eight");
        assert!(stream.gap_since().is_some(), "the record has to be asked for the rest");
        for n in 10..=12 {
            stream.accept(publication(n), now, &LIMITS, |p| seen.push(p.position));
        }
        assert_eq!(seen, (1..=12).collect::<Vec<_>>());
        assert!(stream.gap_since().is_none());
    }

    #[test]
    fn an_aged_ring_is_empty_but_still_knows_its_position() {
        let now = Instant::now();
        let mut stream = aligned(0, now);
        stream.accept(publication(1), now, &LIMITS, |_| {});
        assert_eq!(stream.evict(now + std::time::Duration::from_secs(1)), 1);
        assert!(
            matches!(stream.read(Some(&position(1))), HotRead::Complete { publications, .. } if publications.is_empty())
        );
        assert!(matches!(stream.read(Some(&position(0))), HotRead::Beyond { .. }));
    }

    #[test]
    fn another_epoch_starts_the_channel_over() {
        let now = Instant::now();
        let mut stream = aligned(3, now);
        assert!(stream.align(&position(9), now, &LIMITS, |_| {}));
        assert_eq!(stream.last(), Some(3), "a channel that knows its position ignores a second alignment");
        let other = StreamPosition { offset: 1, epoch: Arc::from("f") };
        assert!(!stream.align(&other, now, &LIMITS, |_| {}));
        assert_eq!(stream.last(), Some(1));
    }

    proptest! {
        #[test]
        fn any_order_with_repeats_is_delivered_once_and_in_order(
            order in Just((1..=8u64).chain(1..=8).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let now = Instant::now();
            let mut stream = aligned(0, now);
            let mut seen = Vec::new();
            for n in order {
                stream.accept(publication(n), now, &LIMITS, |p| seen.push(p.position));
            }
            prop_assert_eq!(seen, (1..=8).collect::<Vec<_>>());
            prop_assert!(stream.gap_since().is_none());
        }
    }
}
