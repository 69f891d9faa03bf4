//! When a provider is out: a breaker that stops asking and finds out by itself when it is back.

use std::time::Duration;

use todoke_domain::Timestamp;

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Anything.
    Free,
    /// One, to find out.
    Probe,
    /// Nothing before this instant.
    Nothing {
        /// When to look again.
        until: Timestamp,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Timestamp, pause: Duration },
    HalfOpen { pause: Duration },
}

/// The breaker of one provider. Consecutive failures open it; after a pause one probe decides, and each
/// failed probe doubles the pause.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    failures_max: u32,
    pause_first: Duration,
    pause_max: Duration,
}

impl Breaker {
    /// A closed breaker that opens after `failures_max` failures in a row.
    pub fn new(failures_max: u32, pause_first: Duration, pause_max: Duration) -> Self {
        Self { state: State::Closed { failures: 0 }, failures_max: failures_max.max(1), pause_first, pause_max }
    }

    /// What may be sent now. After the pause it gives [`Allowance::Probe`] once, until that one's outcome is told.
    pub fn allows(&mut self, now: Timestamp) -> Allowance {
        match self.state {
            State::Closed { .. } => Allowance::Free,
            State::Open { until, .. } if now < until => Allowance::Nothing { until },
            State::Open { pause, .. } => {
                self.state = State::HalfOpen { pause };
                Allowance::Probe
            }
            State::HalfOpen { pause } => Allowance::Nothing { until: now.plus(pause) },
        }
    }

    /// There was nothing to probe with: the next look may probe.
    pub fn probe_unused(&mut self, now: Timestamp) {
        if let State::HalfOpen { pause } = self.state {
            self.state = State::Open { until: now, pause };
        }
    }

    /// It answered, about one recipient only: it is there, but what failed before may fail again.
    pub fn answered(&mut self) {
        if self.is_probing() {
            self.succeeded();
        }
    }

    /// The provider answered for itself.
    pub fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// It did not, or sent us away; `asked` is the wait it asked for.
    pub fn failed(&mut self, now: Timestamp, asked: Option<Duration>) {
        let asked = asked.unwrap_or_default().min(self.pause_max);
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < self.failures_max => State::Closed { failures: failures + 1 },
            State::Closed { .. } => {
                let pause = self.pause_first.max(asked);
                State::Open { until: now.plus(pause), pause }
            }
            State::HalfOpen { pause } => {
                let pause = (pause * 2).min(self.pause_max).max(asked);
                State::Open { until: now.plus(pause), pause }
            }
            // What was under way when it opened tells nothing new.
            open @ State::Open { .. } => open,
        };
    }

    /// Whether the one attempt that decides is under way.
    pub fn is_probing(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// Whether it holds sending back.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn it_opens_probes_and_closes_by_itself() {
        let mut breaker = Breaker::new(3, Duration::from_secs(10), Duration::from_secs(60));
        for _ in 0..2 {
            breaker.failed(at(0), None);
            assert_eq!(breaker.allows(at(0)), Allowance::Free);
        }
        breaker.failed(at(0), None);
        assert_eq!(breaker.allows(at(9)), Allowance::Nothing { until: at(10) });
        assert_eq!(breaker.allows(at(10)), Allowance::Probe);
        assert!(matches!(breaker.allows(at(10)), Allowance::Nothing { .. }), "one probe at a time");
        breaker.failed(at(10), None);
        assert_eq!(breaker.allows(at(29)), Allowance::Nothing { until: at(30) });
        assert_eq!(breaker.allows(at(30)), Allowance::Probe);
        breaker.succeeded();
        assert_eq!(breaker.allows(at(30)), Allowance::Free);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_success_in_between_counts_anew_and_the_wait_asked_for_is_kept() {
        let mut breaker = Breaker::new(2, Duration::from_secs(10), Duration::from_secs(60));
        breaker.failed(at(0), None);
        breaker.succeeded();
        breaker.failed(at(0), None);
        assert!(!breaker.is_open());
        breaker.failed(at(0), Some(Duration::from_secs(45)));
        assert_eq!(breaker.allows(at(44)), Allowance::Nothing { until: at(45) });
    }

    #[test]
    fn an_answer_about_one_recipient_neither_counts_nor_clears() {
        let mut breaker = Breaker::new(2, Duration::from_secs(10), Duration::from_secs(60));
        breaker.failed(at(0), None);
        breaker.answered();
        breaker.failed(at(0), None);
        assert!(breaker.is_open(), "what came in between cleared nothing");
        assert_eq!(breaker.allows(at(10)), Allowance::Probe);
        breaker.answered();
        assert!(!breaker.is_open(), "who answers a probe is there");
    }
}
