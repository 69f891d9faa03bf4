//! What every broker must do: one suite, run for each implementation.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Broker, ClientInfo, Durable, DurableError, DurablePage, Ephemeral, HotRead, PresenceStats, Publication, Sink,
    StreamPosition,
};

const DEADLINE: Duration = Duration::from_secs(10);

/// The record's table, in memory.
#[derive(Debug)]
pub(crate) struct StubDurable {
    epoch: Mutex<Arc<str>>,
    tables: Mutex<HashMap<String, Table>>,
}

#[derive(Debug, Default)]
struct Table {
    top: u64,
    rows: Vec<Publication>,
}

impl StubDurable {
    pub(crate) fn new(epoch: &str) -> Self {
        Self { epoch: Mutex::new(epoch.into()), tables: Mutex::default() }
    }

    /// Commits the next publication of a channel and returns it.
    pub(crate) fn commit(&self, channel: &str, data: impl Into<Bytes>) -> Publication {
        let mut tables = self.tables.lock().unwrap();
        let table = tables.entry(channel.to_owned()).or_default();
        table.top += 1;
        let publication = Publication { position: table.top, data: data.into() };
        table.rows.push(publication.clone());
        publication
    }

    /// Deletes everything up to and including `position`.
    pub(crate) fn prune(&self, channel: &str, position: u64) {
        self.tables.lock().unwrap().entry(channel.to_owned()).or_default().rows.retain(|row| row.position > position);
    }

    /// Another database from here on: other epoch, empty channels.
    pub(crate) fn restore_other(&self, epoch: &str) {
        *self.epoch.lock().unwrap() = epoch.into();
        self.tables.lock().unwrap().clear();
    }

    pub(crate) fn page(&self, channel: &str, after: u64, n_max: usize) -> DurablePage {
        let epoch = Arc::clone(&self.epoch.lock().unwrap());
        let tables = self.tables.lock().unwrap();
        let Some(table) = tables.get(channel) else {
            return DurablePage { epoch, top: 0, publications: Vec::new() };
        };
        let rows = table.rows.iter().filter(|row| row.position > after).take(n_max).cloned().collect();
        DurablePage { epoch, top: table.top, publications: rows }
    }
}

impl Durable for StubDurable {
    async fn durable_since(&self, channel: &str, after: u64, n_max: usize) -> Result<DurablePage, DurableError> {
        Ok(self.page(channel, after, n_max))
    }
}

/// Writes down what it gets.
#[derive(Debug, Default)]
pub(crate) struct RecordingSink {
    seen: Mutex<Vec<(String, Seen)>>,
    news: Notify,
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Position(u64),
    Ephemeral(&'static str),
    Lost,
}

impl RecordingSink {
    pub(crate) fn attach(broker: &impl Broker) -> Arc<Self> {
        let sink = Arc::new(Self::default());
        broker.attach(sink.clone());
        sink
    }

    fn note(&self, channel: &str, seen: Seen) {
        self.seen.lock().unwrap().push((channel.to_owned(), seen));
        self.news.notify_one();
    }

    fn of(&self, channel: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|(name, _)| name == channel).map(|(_, seen)| seen.clone()).collect()
    }

    pub(crate) fn positions(&self, channel: &str) -> Vec<u64> {
        let of = self.of(channel);
        of.iter().filter_map(|seen| if let Seen::Position(position) = seen { Some(*position) } else { None }).collect()
    }

    async fn until(&self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_there(self) {
                self.news.notified().await;
            }
        };
        assert!(timeout(DEADLINE, wait).await.is_ok(), "{what}: {:?}", self.seen.lock().unwrap());
    }
}

impl Sink for RecordingSink {
    fn deliver(&self, channel: &Arc<str>, publication: &Publication) {
        self.note(channel, Seen::Position(publication.position));
    }

    fn ephemeral(&self, channel: &str, what: &Ephemeral) {
        let kind = match what {
            Ephemeral::Sample(_) => "sample",
            Ephemeral::Join(_) => "join",
            Ephemeral::Leave(_) => "leave",
        };
        self.note(channel, Seen::Ephemeral(kind));
    }

    fn lost(&self, channel: &str) {
        self.note(channel, Seen::Lost);
    }
}

/// A broker under test, with its record and its sink, running.
struct Rig<B> {
    broker: Arc<B>,
    durable: Arc<StubDurable>,
    sink: Arc<RecordingSink>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl<B: Broker> Rig<B> {
    async fn new<F: Future<Output = B>>(make: &impl Fn(Arc<StubDurable>) -> F) -> Self {
        let durable = Arc::new(StubDurable::new("e1"));
        let broker = Arc::new(make(Arc::clone(&durable)).await);
        let sink = RecordingSink::attach(&*broker);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (running, stopped) = (Arc::clone(&broker), stop.clone());
        tasks.spawn(async move { running.run(stopped).await });
        Self { broker, durable, sink, stop, tasks }
    }

    /// Follows a channel from where the record is now.
    async fn follow(&self, channel: &str) {
        self.broker.follow(&Arc::from(channel)).await.unwrap();
        let page = self.durable.page(channel, 0, 0);
        self.broker.align(channel, &StreamPosition { offset: page.top, epoch: page.epoch });
    }

    async fn publish(&self, channel: &str, publication: &Publication) {
        self.broker.publish(channel, publication.clone()).await.unwrap();
    }

    async fn read(&self, channel: &str, offset: u64, epoch: &str) -> Option<Vec<u64>> {
        let since = StreamPosition { offset, epoch: epoch.into() };
        match self.broker.read(channel, Some(&since)).await.unwrap() {
            HotRead::Complete { publications, .. } => Some(publications.iter().map(|p| p.position).collect()),
            HotRead::Beyond { .. } | HotRead::Unknown => None,
        }
    }

    async fn end(mut self) {
        self.stop.cancel();
        assert!(timeout(DEADLINE, self.tasks.join_next()).await.is_ok(), "run() must end when told to");
    }
}

/// The whole contract. `ring_n` is how many publications the made broker keeps hot (at least 3).
pub(crate) async fn broker_contract<B: Broker, F: Future<Output = B>>(
    ring_n: u64,
    make: impl Fn(Arc<StubDurable>) -> F,
) {
    delivers_in_order_whatever_the_order_of_arrival(Rig::new(&make).await).await;
    ignores_channels_without_followers(Rig::new(&make).await).await;
    waits_for_alignment(Rig::new(&make).await).await;
    fills_a_gap_from_the_record(Rig::new(&make).await).await;
    says_when_a_gap_cannot_be_filled(Rig::new(&make).await).await;
    answers_from_the_ring_only_what_it_can_prove(Rig::new(&make).await, ring_n).await;
    starts_over_with_another_epoch(Rig::new(&make).await).await;
    passes_ephemeral_things_on(Rig::new(&make).await).await;
    knows_who_is_present(Rig::new(&make).await).await;
}

async fn delivers_in_order_whatever_the_order_of_arrival<B: Broker>(rig: Rig<B>) {
    rig.follow("a").await;
    rig.follow("b").await;
    let all: Vec<_> = (0..6).map(|n| rig.durable.commit("a", n.to_string())).collect();
    let other = rig.durable.commit("b", "0");
    for index in [1, 0, 0, 3, 5, 2, 4, 1] {
        rig.publish("a", &all[index]).await;
    }
    rig.publish("b", &other).await;
    rig.sink.until("six in order", |sink| sink.positions("a").len() >= 6).await;
    rig.sink.until("one in the other channel", |sink| sink.positions("b").len() == 1).await;
    assert_eq!(rig.sink.positions("a"), [1, 2, 3, 4, 5, 6]);
    rig.end().await;
}

async fn ignores_channels_without_followers<B: Broker>(rig: Rig<B>) {
    rig.follow("a").await;
    let unheard = rig.durable.commit("nobody", "0");
    rig.publish("nobody", &unheard).await;
    let heard = rig.durable.commit("a", "0");
    rig.publish("a", &heard).await;
    rig.sink.until("the followed one", |sink| sink.positions("a") == [1]).await;
    assert!(rig.sink.of("nobody").is_empty());
    rig.end().await;
}

async fn waits_for_alignment<B: Broker>(rig: Rig<B>) {
    let before = rig.durable.commit("a", "0");
    let channel: Arc<str> = "a".into();
    rig.broker.follow(&channel).await.unwrap();
    let after = rig.durable.commit("a", "1");
    rig.publish("a", &after).await;
    rig.publish("a", &before).await;
    assert!(matches!(rig.broker.read("a", None).await.unwrap(), HotRead::Unknown));
    rig.broker.align("a", &StreamPosition { offset: 1, epoch: "e1".into() });
    rig.sink.until("what came after the alignment", |sink| sink.positions("a") == [2]).await;
    rig.end().await;
}

async fn fills_a_gap_from_the_record<B: Broker>(rig: Rig<B>) {
    rig.follow("a").await;
    let all: Vec<_> = (0..5).map(|n| rig.durable.commit("a", n.to_string())).collect();
    rig.publish("a", &all[0]).await;
    rig.publish("a", &all[4]).await;
    rig.sink.until("the gap closes", |sink| sink.positions("a").len() == 5).await;
    assert_eq!(rig.sink.positions("a"), [1, 2, 3, 4, 5]);
    rig.end().await;
}

async fn says_when_a_gap_cannot_be_filled<B: Broker>(rig: Rig<B>) {
    rig.follow("a").await;
    let all: Vec<_> = (0..4).map(|n| rig.durable.commit("a", n.to_string())).collect();
    rig.durable.prune("a", 2);
    rig.publish("a", &all[3]).await;
    rig.sink.until("the loss is announced", |sink| sink.of("a").contains(&Seen::Lost)).await;
    assert_eq!(rig.sink.positions("a"), Vec::<u64>::new(), "a hole is never delivered across");
    let next = rig.durable.commit("a", "4");
    rig.publish("a", &next).await;
    rig.sink.until("it goes on from the top", |sink| sink.positions("a") == [5]).await;
    rig.end().await;
}

async fn answers_from_the_ring_only_what_it_can_prove<B: Broker>(rig: Rig<B>, ring_n: u64) {
    rig.follow("a").await;
    let n = ring_n + 2;
    for count in 1..=n {
        let publication = rig.durable.commit("a", count.to_string());
        rig.publish("a", &publication).await;
    }
    rig.sink.until("all delivered", |sink| sink.positions("a").len() as u64 == n).await;
    assert_eq!(rig.read("a", n, "e1").await, Some(vec![]));
    assert_eq!(rig.read("a", n - 2, "e1").await, Some(vec![n - 1, n]));
    assert_eq!(rig.read("a", n - ring_n, "e1").await, Some((n - ring_n + 1..=n).collect()));
    assert_eq!(rig.read("a", n - ring_n - 1, "e1").await, None, "evicted by count");
    assert_eq!(rig.read("a", n, "e0").await, None, "another epoch");
    assert_eq!(rig.read("never followed", 0, "e1").await, None);
    rig.broker.unfollow("a");
    let publication = rig.durable.commit("a", "late");
    rig.publish("a", &publication).await;
    assert_eq!(rig.read("a", n, "e1").await, Some(vec![n + 1]), "hot for a while without followers");
    rig.end().await;
}

async fn starts_over_with_another_epoch<B: Broker>(rig: Rig<B>) {
    rig.follow("a").await;
    let publication = rig.durable.commit("a", "0");
    rig.publish("a", &publication).await;
    rig.sink.until("delivered", |sink| sink.positions("a") == [1]).await;
    rig.durable.restore_other("e2");
    rig.follow("a").await;
    rig.sink.until("the loss is announced", |sink| sink.of("a").contains(&Seen::Lost)).await;
    let publication = rig.durable.commit("a", "0");
    rig.publish("a", &publication).await;
    rig.sink.until("the new life", |sink| sink.positions("a") == [1, 1]).await;
    assert_eq!(rig.read("a", 0, "e2").await, Some(vec![1]));
    rig.end().await;
}

async fn passes_ephemeral_things_on<B: Broker>(rig: Rig<B>) {
    rig.follow("a").await;
    rig.broker.publish_ephemeral("a", Ephemeral::Sample("1".into())).await.unwrap();
    rig.broker.publish_ephemeral("a", Ephemeral::Join(client("u", "c"))).await.unwrap();
    rig.broker.publish_ephemeral("a", Ephemeral::Leave(client("u", "c"))).await.unwrap();
    let expected = [Seen::Ephemeral("sample"), Seen::Ephemeral("join"), Seen::Ephemeral("leave")];
    rig.sink.until("three things", |sink| sink.of("a") == expected).await;
    assert_eq!(rig.read("a", 0, "e1").await, Some(vec![]), "no position, no history");
    rig.end().await;
}

async fn knows_who_is_present<B: Broker>(rig: Rig<B>) {
    for (user, id) in [("u1", "c1"), ("u1", "c2"), ("u2", "c3"), ("u2", "c3")] {
        rig.broker.presence_add("a", client(user, id)).await.unwrap();
    }
    assert_eq!(rig.broker.presence_stats("a").await.unwrap(), PresenceStats { n_clients: 3, n_users: 2 });
    rig.broker.presence_remove("a", "c1").await.unwrap();
    rig.broker.presence_remove("a", "never there").await.unwrap();
    let mut clients: Vec<_> =
        rig.broker.presence("a").await.unwrap().iter().map(|info| info.client.to_string()).collect();
    clients.sort();
    assert_eq!(clients, ["c2", "c3"]);
    assert_eq!(rig.broker.presence_stats("b").await.unwrap(), PresenceStats::default());
    rig.end().await;
}

fn client(user: &str, client: &str) -> ClientInfo {
    ClientInfo { user: user.into(), client: client.into(), conn_info: None, chan_info: None }
}
