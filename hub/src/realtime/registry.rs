//! Which connections of this node hear which channel, and the fan-out to them.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use crate::broker::{Ephemeral, Publication, Sink};

use super::connection::{Connection, Notice};
use super::{metric, wire};

const N_SHARDS: usize = 64;

/// Where a subscriber sits in its channel.
pub(super) type Seat = u32;

struct Subscriber {
    connection: Arc<Connection>,
    /// The client has everything up to and including this position from its reply.
    from: u64,
    wants_join_leave: bool,
}

/// Subscribers of one channel. Seats are reused and never move, so leaving is cheap in a big channel.
#[derive(Default)]
struct Hall {
    seats: Vec<Option<Subscriber>>,
    free: Vec<Seat>,
}

type Halls = HashMap<Arc<str>, Arc<Mutex<Hall>>>;

/// Channels with at least one subscriber here.
pub(super) struct Registry {
    hasher: RandomState,
    shards: [Mutex<Halls>; N_SHARDS],
}

impl Registry {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// From here on the connection hears the channel.
    pub(super) fn enter(&self, channel: &Arc<str>, connection: &Arc<Connection>, wants_join_leave: bool) -> Seat {
        let subscriber = Subscriber { connection: Arc::clone(connection), from: 0, wants_join_leave };
        let mut halls = lock(self.shard(channel));
        let mut hall = lock(halls.entry(Arc::clone(channel)).or_default());
        if let Some(seat) = hall.free.pop() {
            hall.seats[seat as usize] = Some(subscriber);
            return seat;
        }
        if hall.seats.is_empty() {
            // Most channels belong to one person with one device.
            hall.seats.reserve_exact(1);
        }
        hall.seats.push(Some(subscriber));
        Seat::try_from(hall.seats.len() - 1).unwrap_or(Seat::MAX)
    }

    /// What the client's reply contained is not sent again.
    pub(super) fn skip_to(&self, channel: &str, seat: Seat, from: u64) {
        let Some((_, hall)) = self.hall(channel) else {
            return;
        };
        if let Some(Some(subscriber)) = lock(&hall).seats.get_mut(seat as usize) {
            subscriber.from = from;
        }
    }

    pub(super) fn leave(&self, channel: &str, seat: Seat) {
        let mut halls = lock(self.shard(channel));
        let Some(shared) = halls.get(channel) else {
            return;
        };
        let mut hall = lock(shared);
        if hall.seats.get_mut(seat as usize).is_some_and(|taken| taken.take().is_some()) {
            hall.free.push(seat);
        }
        let is_empty = hall.free.len() == hall.seats.len();
        drop(hall);
        if is_empty {
            halls.remove(channel);
        }
    }

    fn shard(&self, channel: &str) -> &Mutex<Halls> {
        &self.shards[usize::try_from(self.hasher.hash_one(channel) % N_SHARDS as u64).unwrap_or(0)]
    }

    fn hall(&self, channel: &str) -> Option<(Arc<str>, Arc<Mutex<Hall>>)> {
        let halls = lock(self.shard(channel));
        halls.get_key_value(channel).map(|(name, hall)| (Arc::clone(name), Arc::clone(hall)))
    }

    /// Puts one frame into the queue of every subscriber that `wants` it.
    fn fan_out(
        &self,
        channel: &str,
        position: Option<u64>,
        frame: impl FnOnce(&str) -> Bytes,
        wants: impl Fn(&Subscriber) -> bool,
    ) {
        let Some((channel, hall)) = self.hall(channel) else {
            return;
        };
        let started = Instant::now();
        let frame = frame(&channel);
        let mut n = 0;
        for subscriber in lock(&hall).seats.iter().flatten().filter(|subscriber| wants(subscriber)) {
            subscriber.connection.push(&channel, position, &frame);
            n += 1;
        }
        metrics::counter!(metric::PUBLICATIONS).increment(1);
        metrics::counter!(metric::DELIVERIES).increment(n);
        metrics::histogram!(metric::FANOUT_SECONDS).record(started.elapsed().as_secs_f64());
    }
}

impl Sink for Registry {
    fn deliver(&self, channel: &Arc<str>, publication: &Publication) {
        let position = publication.position;
        let frame = |channel: &str| wire::publication_frame(channel, &publication.data, Some(position));
        self.fan_out(channel, Some(position), frame, |subscriber| position > subscriber.from);
    }

    fn ephemeral(&self, channel: &str, what: &Ephemeral) {
        match what {
            Ephemeral::Sample(data) => {
                self.fan_out(channel, None, |name| wire::publication_frame(name, data, None), |_| true)
            }
            Ephemeral::Join(info) => {
                self.fan_out(channel, None, |name| wire::presence_frame(name, "join", info), |s| s.wants_join_leave);
            }
            Ephemeral::Leave(info) => {
                self.fan_out(channel, None, |name| wire::presence_frame(name, "leave", info), |s| s.wants_join_leave);
            }
        }
    }

    fn lost(&self, channel: &str) {
        let Some((channel, hall)) = self.hall(channel) else {
            return;
        };
        for subscriber in lock(&hall).seats.iter().flatten() {
            subscriber.connection.notify(Notice::Lost(Arc::clone(&channel)));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::config::RealtimeConfig;

    #[test]
    fn seats_are_reused_and_empty_channels_vanish() {
        let registry = Registry::new();
        let channel: Arc<str> = "a".into();
        let make = |id| Arc::new(Connection::new(id, &RealtimeConfig::default(), 0));
        let (first, second) = (make(1), make(2));
        let seat = registry.enter(&channel, &first, false);
        let other = registry.enter(&channel, &second, false);
        registry.leave("a", seat);
        registry.leave("a", seat);
        assert_eq!(registry.enter(&channel, &first, false), seat);
        registry.skip_to("a", other, 5);
        registry.deliver(&channel, &Publication { position: 5, data: "1".into() });
        assert_eq!((first.take(0, true).frames.len(), second.take(0, true).frames.len()), (1, 0));
        registry.leave("a", seat);
        registry.leave("a", other);
        assert!(registry.hall("a").is_none());
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
    }
}
