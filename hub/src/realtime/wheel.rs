//! One coarse clock for all connections, instead of timers in each of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;

/// Ticks since the hub was made.
pub(super) type Tick = u64;

/// Which visit this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// The one every connection always has; goes on with the next one.
    Regular,
    /// An earlier look, because something may be overdue then.
    Extra,
}

/// Connections that may be gone by then.
type Visits = Vec<(Weak<Connection>, Visit)>;

/// Connections by the tick at which to look at them.
#[derive(Debug)]
pub(super) struct Wheel {
    start: Instant,
    tick: Duration,
    due: Mutex<BTreeMap<Tick, Visits>>,
}

impl Wheel {
    pub(super) fn new(tick: Duration) -> Self {
        Self { start: Instant::now(), tick, due: Mutex::default() }
    }

    pub(super) fn now(&self) -> Tick {
        self.start.elapsed().as_millis() as Tick / self.tick.as_millis().max(1) as Tick
    }

    /// Ticks that take at least `seconds`.
    pub(super) fn ticks(&self, seconds: u64) -> Tick {
        (seconds * 1_000).div_ceil(self.tick.as_millis().max(1) as Tick)
    }

    pub(super) fn look_at(&self, connection: Weak<Connection>, at: Tick, visit: Visit) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).entry(at).or_default().push((connection, visit));
    }

    /// Everything due up to `now`.
    pub(super) fn take_due(&self, now: Tick) -> Visits {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let later = due.split_off(&(now + 1));
        let now_due = std::mem::replace(&mut *due, later);
        drop(due);
        now_due.into_values().flatten().collect()
    }
}
