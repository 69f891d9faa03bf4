//! The broker of a single node: everything in this process.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::stream::{Stream, StreamLimits};
use super::{
    Broker, BrokerError, ClientInfo, Durable, DurableError, Ephemeral, HotRead, PresenceStats, Publication, Sink,
    StreamPosition,
};

const N_SHARDS: usize = 32;
/// Publications per durable read while a gap is repaired.
const REPAIR_PAGE_N: usize = 256;
/// How often old history is thrown away.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Bounds of the hot history. Whatever does not fit is read from the record instead; nothing is lost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerConfig {
    /// Publications kept hot per channel.
    pub ring_n_max: usize,
    /// Bytes of publication data kept hot per channel.
    pub ring_bytes_max: usize,
    /// Bytes of publication data kept hot in all channels together.
    pub rings_bytes_max: usize,
    /// How long a publication stays hot, and a channel that nobody follows is remembered. Seconds.
    pub ring_age_s: u64,
    /// How long a missing publication is waited for before the record is asked. Milliseconds.
    pub gap_wait_ms: u64,
    /// Publications per channel that may wait for a missing one.
    pub early_n_max: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            ring_n_max: 100,
            ring_bytes_max: 64 * 1024,
            rings_bytes_max: 256 * 1024 * 1024,
            ring_age_s: 300,
            gap_wait_ms: 50,
            early_n_max: 64,
        }
    }
}

type Streams = HashMap<Arc<str>, Arc<Mutex<Stream>>>;
type Present = HashMap<Box<str>, HashMap<Arc<str>, ClientInfo>>;

/// Ordering, hot history and presence in the memory of one process.
pub struct MemoryBroker<D> {
    config: BrokerConfig,
    durable: Arc<D>,
    sink: OnceLock<Arc<dyn Sink>>,
    hasher: RandomState,
    shards: [Mutex<Streams>; N_SHARDS],
    rings_bytes: AtomicUsize,
    present: Mutex<Present>,
    /// Channels in which something waits for an earlier publication.
    gaps: Mutex<Vec<Arc<str>>>,
    gap_seen: Notify,
}

impl<D> fmt::Debug for MemoryBroker<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What became of one attempt to close a gap.
enum Repair {
    Done,
    Again,
}

impl<D: Durable> MemoryBroker<D> {
    /// An empty broker that repairs gaps from `durable`.
    pub fn new(config: BrokerConfig, durable: Arc<D>) -> Self {
        Self {
            config,
            durable,
            sink: OnceLock::new(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(HashMap::new())),
            rings_bytes: AtomicUsize::new(0),
            present: Mutex::new(HashMap::new()),
            gaps: Mutex::new(Vec::new()),
            gap_seen: Notify::new(),
        }
    }

    fn shard(&self, channel: &str) -> &Mutex<Streams> {
        let hash = usize::try_from(self.hasher.hash_one(channel) % N_SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }

    fn stream(&self, channel: &str) -> Option<(Arc<str>, Arc<Mutex<Stream>>)> {
        let streams = lock(self.shard(channel));
        streams.get_key_value(channel).map(|(name, stream)| (Arc::clone(name), Arc::clone(stream)))
    }

    fn limits(&self) -> StreamLimits {
        let full = self.rings_bytes.load(Ordering::Relaxed) > self.config.rings_bytes_max;
        StreamLimits {
            ring_n_max: if full { 0 } else { self.config.ring_n_max },
            ring_bytes_max: self.config.ring_bytes_max,
            early_n_max: self.config.early_n_max,
        }
    }

    /// Runs `change` on the stream with what it needs, and keeps the books about the ring's size.
    fn with<T>(
        &self,
        channel: &Arc<str>,
        stream: &Mutex<Stream>,
        change: impl FnOnce(&mut Stream, Instant, &StreamLimits, &mut dyn FnMut(&Publication)) -> T,
    ) -> T {
        let limits = self.limits();
        let sink = self.sink.get();
        let mut deliver = |publication: &Publication| {
            if let Some(sink) = sink {
                sink.deliver(channel, publication);
            }
        };
        let mut stream = lock(stream);
        let (bytes_before, gap_before) = (stream.ring_bytes(), stream.gap_since());
        let result = change(&mut stream, Instant::now(), &limits, &mut deliver);
        let bytes_after = stream.ring_bytes();
        let gap_opened = gap_before.is_none() && stream.gap_since().is_some();
        drop(stream);
        if bytes_after >= bytes_before {
            self.rings_bytes.fetch_add(bytes_after - bytes_before, Ordering::Relaxed);
        } else {
            self.rings_bytes.fetch_sub(bytes_before - bytes_after, Ordering::Relaxed);
        }
        if gap_opened {
            lock(&self.gaps).push(Arc::clone(channel));
            self.gap_seen.notify_one();
        }
        result
    }

    /// Closes the gaps that are old enough. Returns when the next one will be.
    async fn repair_due(&self) -> Option<Instant> {
        let channels = std::mem::take(&mut *lock(&self.gaps));
        let wait = Duration::from_millis(self.config.gap_wait_ms);
        let mut next_due: Option<Instant> = None;
        for channel in channels {
            let Some((_, stream)) = self.stream(&channel) else {
                continue;
            };
            let Some(since) = lock(&stream).gap_since() else {
                continue;
            };
            let due = since + wait;
            let again = due > Instant::now()
                || match self.repair(&channel, &stream).await {
                    Ok(Repair::Done) => false,
                    Ok(Repair::Again) => true,
                    Err(error) => {
                        tracing::warn!(channel.name = %channel, error = %error, "a gap could not be repaired yet");
                        true
                    }
                };
            if again {
                lock(&self.gaps).push(channel);
                let due = due.max(Instant::now() + wait);
                next_due = Some(next_due.map_or(due, |next| next.min(due)));
            }
        }
        next_due
    }

    async fn repair(&self, channel: &Arc<str>, stream: &Mutex<Stream>) -> Result<Repair, DurableError> {
        let (last, gap_since) = {
            let stream = lock(stream);
            (stream.last(), stream.gap_since())
        };
        let (Some(last), Some(_)) = (last, gap_since) else {
            return Ok(Repair::Done);
        };
        let page = self.durable.durable_since(channel, last, REPAIR_PAGE_N).await?;
        let top = StreamPosition { offset: page.top, epoch: page.epoch };
        let is_whole = page.publications.first().is_some_and(|first| first.position == last + 1);
        let (kept, open) = self.with(channel, stream, |stream, now, limits, deliver| {
            let mut kept = stream.align(&top, now, limits, &mut *deliver);
            for publication in page.publications {
                stream.accept(publication, now, limits, &mut *deliver);
            }
            // What is missing was pruned, or its author lied about having committed it.
            if kept && !is_whole && stream.last() == Some(last) && stream.gap_since().is_some() {
                stream.restart(&top, now);
                kept = false;
            }
            (kept, stream.gap_since().is_some())
        });
        if !kept && let Some(sink) = self.sink.get() {
            tracing::warn!(channel.name = %channel, "publications are gone; subscribers start over");
            sink.lost(channel);
        }
        metrics::counter!(crate::realtime::metric::GAPS_REPAIRED).increment(1);
        Ok(if open { Repair::Again } else { Repair::Done })
    }

    /// Throws away what has been hot for long enough.
    fn sweep(&self) {
        let Some(oldest) = Instant::now().checked_sub(Duration::from_secs(self.config.ring_age_s)) else {
            return;
        };
        let mut freed = 0;
        for shard in &self.shards {
            lock(shard).retain(|_, shared| {
                let mut stream = lock(shared);
                freed += stream.evict(oldest);
                let is_idle = stream.idle_since().is_some_and(|since| since < oldest);
                drop(stream);
                // The map holds one reference; whoever holds another is about to use the stream.
                !is_idle || Arc::strong_count(shared) > 1
            });
        }
        self.rings_bytes.fetch_sub(freed, Ordering::Relaxed);
    }
}

impl<D: Durable> Broker for MemoryBroker<D> {
    fn attach(&self, sink: Arc<dyn Sink>) {
        // A second sink would be a second hub on one broker; the first stays.
        let _ = self.sink.set(sink);
    }

    async fn run(&self, stop: CancellationToken) {
        let mut sweeps = interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut repair_at: Option<Instant> = None;
        loop {
            let due = repair_at.unwrap_or_else(|| Instant::now() + SWEEP_INTERVAL);
            tokio::select! {
                () = stop.cancelled() => return,
                _ = sweeps.tick() => self.sweep(),
                () = self.gap_seen.notified() => repair_at = self.repair_due().await,
                () = sleep_until(due), if repair_at.is_some() => repair_at = self.repair_due().await,
            }
        }
    }

    async fn publish(&self, channel: &str, publication: Publication) -> Result<(), BrokerError> {
        if let Some((channel, stream)) = self.stream(channel) {
            self.with(&channel, &stream, |stream, now, limits, deliver| {
                stream.accept(publication, now, limits, deliver)
            });
        }
        Ok(())
    }

    async fn publish_ephemeral(&self, channel: &str, what: Ephemeral) -> Result<(), BrokerError> {
        if let Some(sink) = self.sink.get() {
            sink.ephemeral(channel, &what);
        }
        Ok(())
    }

    async fn follow(&self, channel: &Arc<str>) -> Result<(), BrokerError> {
        let mut streams = lock(self.shard(channel));
        let stream =
            streams.entry(Arc::clone(channel)).or_insert_with(|| Arc::new(Mutex::new(Stream::new(Instant::now()))));
        lock(stream).follow();
        Ok(())
    }

    fn unfollow(&self, channel: &str) {
        if let Some((_, stream)) = self.stream(channel) {
            lock(&stream).unfollow(Instant::now());
        }
    }

    async fn read(&self, channel: &str, since: Option<&StreamPosition>) -> Result<HotRead, BrokerError> {
        Ok(self.stream(channel).map_or(HotRead::Unknown, |(_, stream)| lock(&stream).read(since)))
    }

    fn align(&self, channel: &str, top: &StreamPosition) {
        let Some((channel, stream)) = self.stream(channel) else {
            return;
        };
        let kept = self.with(&channel, &stream, |stream, now, limits, deliver| stream.align(top, now, limits, deliver));
        if !kept && let Some(sink) = self.sink.get() {
            tracing::warn!(channel.name = %channel, "the record has another epoch; subscribers start over");
            sink.lost(&channel);
        }
    }

    async fn presence_add(&self, channel: &str, info: ClientInfo) -> Result<(), BrokerError> {
        lock(&self.present).entry(channel.into()).or_default().insert(Arc::clone(&info.client), info);
        Ok(())
    }

    async fn presence_remove(&self, channel: &str, client: &str) -> Result<(), BrokerError> {
        if let Entry::Occupied(mut members) = lock(&self.present).entry(channel.into()) {
            members.get_mut().remove(client);
            if members.get().is_empty() {
                members.remove();
            }
        }
        Ok(())
    }

    async fn presence(&self, channel: &str) -> Result<Vec<ClientInfo>, BrokerError> {
        Ok(lock(&self.present).get(channel).map(|members| members.values().cloned().collect()).unwrap_or_default())
    }

    async fn presence_stats(&self, channel: &str) -> Result<PresenceStats, BrokerError> {
        Ok(lock(&self.present).get(channel).map_or_else(PresenceStats::default, |members| {
            let users: std::collections::HashSet<&Arc<str>> = members.values().map(|info| &info.user).collect();
            PresenceStats { n_clients: members.len(), n_users: users.len() }
        }))
    }
}

/// A poisoned lock means that another thread panicked between two consistent states of a map; going
/// on is better than taking every other connection down with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::contract::{self, StubDurable};
    use super::*;

    fn small() -> BrokerConfig {
        BrokerConfig { ring_n_max: 5, gap_wait_ms: 5, ..BrokerConfig::default() }
    }

    #[tokio::test]
    async fn memory_broker_keeps_the_contract() {
        contract::broker_contract(5, |durable: Arc<StubDurable>| async move { MemoryBroker::new(small(), durable) })
            .await;
    }

    #[tokio::test]
    async fn a_full_house_keeps_no_history_but_still_delivers() {
        let durable = Arc::new(StubDurable::new("e"));
        let config = BrokerConfig { rings_bytes_max: 0, ..small() };
        let broker = Arc::new(MemoryBroker::new(config, durable));
        let sink = contract::RecordingSink::attach(&*broker);
        let channel: Arc<str> = "a".into();
        broker.follow(&channel).await.unwrap();
        broker.align("a", &StreamPosition { offset: 0, epoch: "e".into() });
        for position in 1..=3 {
            broker.publish("a", Publication { position, data: "1".into() }).await.unwrap();
        }
        assert_eq!(sink.positions("a"), [1, 2, 3]);
        let since = StreamPosition { offset: 0, epoch: "e".into() };
        assert!(matches!(broker.read("a", Some(&since)).await.unwrap(), HotRead::Beyond { .. }));
    }

    #[tokio::test]
    async fn an_idle_channel_is_forgotten_after_its_time() {
        let config = BrokerConfig { ring_age_s: 0, ..small() };
        let broker = MemoryBroker::new(config, Arc::new(StubDurable::new("e")));
        let channel: Arc<str> = "a".into();
        broker.follow(&channel).await.unwrap();
        broker.align("a", &StreamPosition { offset: 0, epoch: "e".into() });
        broker.sweep();
        assert!(matches!(broker.read("a", None).await.unwrap(), HotRead::Complete { .. }), "it is followed");
        broker.unfollow("a");
        // The age is 0: the next instant is late enough.
        while matches!(broker.read("a", None).await.unwrap(), HotRead::Complete { .. }) {
            broker.sweep();
        }
    }
}
