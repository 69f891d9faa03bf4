//! What happened on this node since the last sample, by municipality.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use todoke_workflow::live_sample::LiveSample;

#[derive(Debug, Default)]
struct Count {
    n_open: u32,
    sample: LiveSample,
}

/// Counts for the samples. A lock of its own, held for a look into the map.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<HashMap<Arc<str>, Count>>);

impl Tally {
    /// A client of this municipality was let in.
    pub(super) fn came(&self, municipality: &Arc<str>) {
        let mut counts = self.lock();
        let count = counts.entry(Arc::clone(municipality)).or_default();
        count.n_open = count.n_open.saturating_add(1);
        count.sample.sessions = count.sample.sessions.max(count.n_open);
    }

    /// A client that had been let in is gone.
    pub(super) fn left(&self, municipality: &str) {
        if let Some(count) = self.lock().get_mut(municipality) {
            count.n_open = count.n_open.saturating_sub(1);
        }
    }

    /// A returning client got a channel back, with what it had missed.
    pub(super) fn recovered(&self, municipality: &Arc<str>, n_publications: usize) {
        let mut counts = self.lock();
        let sample = &mut counts.entry(Arc::clone(municipality)).or_default().sample;
        sample.recovered = sample.recovered.saturating_add(1);
        sample.republished = sample.republished.saturating_add(u32::try_from(n_publications).unwrap_or(u32::MAX));
    }

    /// What there was since the last call, by municipality; where there was nothing is left out. The next
    /// sample begins with the connections that are open now.
    pub(super) fn take(&self) -> Vec<(Arc<str>, LiveSample)> {
        let mut samples = Vec::new();
        self.lock().retain(|municipality, count| {
            let next = LiveSample { sessions: count.n_open, ..LiveSample::default() };
            let taken = std::mem::replace(&mut count.sample, next);
            if taken != LiveSample::default() {
                samples.push((Arc::clone(municipality), taken));
            }
            count.n_open > 0
        });
        samples.sort_by(|a, b| a.0.cmp(&b.0));
        samples
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_holds_the_peak_and_begins_anew_with_who_is_there() {
        let tally = Tally::default();
        let (city, town): (Arc<str>, Arc<str>) = ("990001".into(), "990002".into());
        tally.came(&city);
        tally.came(&city);
        tally.left(&city);
        tally.recovered(&town, 3);
        tally.recovered(&town, 0);
        let sample = |sessions, recovered, republished| LiveSample { sessions, recovered, republished };
        assert_eq!(tally.take(), [(Arc::clone(&city), sample(2, 0, 0)), (town, sample(0, 2, 3))]);
        assert_eq!(tally.take(), [(Arc::clone(&city), sample(1, 0, 0))], "who stays is counted in every sample");
        tally.left(&city);
        assert_eq!(tally.take(), [(city, sample(1, 0, 0))], "it was still there when this sample began");
        assert!(tally.take().is_empty());
    }
}
