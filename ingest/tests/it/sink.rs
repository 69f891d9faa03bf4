//! From both sources into the lake: at once to queries, once to disk, through every crash.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use datafusion::{
    arrow::{array::AsArray, datatypes::Int64Type},
    prelude::SessionContext,
};
use todoke_domain::Event;
use todoke_ingest::{FeedError, LakeBatch, LakeSink, RecordFeed, SinkConfig, UsageLog, UsageLogConfig};
use todoke_lake::{Lake, LakeOptions, Scope};
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// The record as its feed shows it: what it forgets at a crash is nothing.
#[derive(Default)]
struct Record {
    unassigned: Vec<Event>,
    batches: BTreeMap<i64, Vec<Event>>,
    finished: i64,
    last: i64,
    refuse_assign: bool,
    refuse_finish: bool,
}

#[derive(Clone, Default)]
struct Feed(Arc<Mutex<Record>>);

impl Feed {
    fn record(&self, events: Vec<Event>) {
        self.0.lock().unwrap().unassigned.extend(events);
    }

    fn finished(&self) -> i64 {
        self.0.lock().unwrap().finished
    }
}

#[async_trait]
impl RecordFeed for Feed {
    async fn assign(&self, after_batch_no: i64, n_max: u32) -> Result<Option<LakeBatch>, FeedError> {
        let mut record = self.0.lock().unwrap();
        if record.refuse_assign {
            return Err(FeedError("the record is away".into()));
        }
        let floor = after_batch_no.max(record.finished);
        if let Some((batch_no, events)) = record.batches.range(floor + 1..).next() {
            return Ok(Some(LakeBatch { batch_no: *batch_no, events: events.clone() }));
        }
        if record.unassigned.is_empty() {
            return Ok(None);
        }
        let n = record.unassigned.len().min(n_max as usize);
        let events: Vec<Event> = record.unassigned.drain(..n).collect();
        record.last += 1;
        let batch_no = record.last;
        record.batches.insert(batch_no, events.clone());
        Ok(Some(LakeBatch { batch_no, events }))
    }

    async fn finish(&self, through_batch_no: i64) -> Result<(), FeedError> {
        let mut record = self.0.lock().unwrap();
        if record.refuse_finish {
            return Err(FeedError("the record is away".into()));
        }
        record.finished = record.finished.max(through_batch_no);
        Ok(())
    }
}

struct Node {
    lake: Arc<Lake>,
    usage: UsageLog,
}

async fn node(dir: &Path) -> Node {
    let lake = Lake::open(&dir.join("lake"), LakeOptions { fsync: false, ..LakeOptions::default() }).await.unwrap();
    let usage = UsageLog::open(&dir.join("ingest"), UsageLogConfig::default()).unwrap();
    Node { lake, usage }
}

impl Node {
    fn sink(&self, feed: &Feed, config: SinkConfig) -> LakeSink {
        LakeSink::new(
            Arc::clone(&self.lake),
            Some(self.usage.clone()),
            Some(Arc::new(feed.clone())),
            Arc::new(now),
            config,
        )
    }

    /// Rows and distinct ids that queries see.
    async fn seen(&self) -> (i64, i64) {
        let session = SessionContext::new();
        let table = self.lake.view().snapshot().table_provider("app", &Scope::All).unwrap();
        session.register_table("app", table).unwrap();
        let answer =
            session.sql("SELECT count(*), count(DISTINCT event_id) FROM app").await.unwrap().collect().await.unwrap();
        let cell = |i: usize| answer[0].column(i).as_primitive::<Int64Type>().value(0);
        (cell(0), cell(1))
    }

    fn committed(&self) -> u64 {
        self.lake.stats().iter().map(|table| table.rows).sum()
    }
}

/// Polls a condition until it holds; the deadline only ends a test that would fail anyway.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        poll.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sources_are_visible_before_they_are_committed_and_committed_at_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let feed = Feed::default();
    // So long an age that nothing is committed before the stop.
    let sink = node.sink(&feed, SinkConfig { flush_age_ms_max: 600_000, ..SinkConfig::default() });
    let (wake, stop, status) = (sink.wake(), CancellationToken::new(), sink.status());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(sink.run(stop.clone()));
    node.usage.append(encoded(&views(1..=10)), now()).await.unwrap();
    feed.record(views(11..=15));
    wake.notify_one();
    eventually("both are visible", async || node.seen().await == (15, 15)).await;
    assert_eq!(node.committed(), 0);
    assert_eq!(feed.finished(), 0);
    assert_eq!(status.borrow().staged_rows, 15);
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(node.committed(), 15);
    assert_eq!(node.seen().await, (15, 15));
    assert_eq!(feed.finished(), 1);
    assert!(node.usage.read(0, 1).await.unwrap().is_empty(), "the log is truncated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_commits_by_size_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let feed = Feed::default();
    let config = SinkConfig { flush_age_ms_max: 50, flush_rows_max: 100, ..SinkConfig::default() };
    let sink = node.sink(&feed, config);
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(sink.run(stop.clone()));
    node.usage.append(encoded(&views(1..=5)), now()).await.unwrap();
    eventually("five are old enough", async || node.committed() == 5).await;
    node.usage.append(encoded(&views(6..=300)), now()).await.unwrap();
    eventually("295 are many enough", async || node.committed() == 300).await;
    assert_eq!(node.seen().await, (300, 300));
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_commits_what_somebody_waits_for_whatever_its_age() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    assert_eq!(node.usage.flushed().await, 0, "nothing is waited for where there is nothing");
    let sink = node.sink(&Feed::default(), SinkConfig { flush_age_ms_max: 600_000, ..SinkConfig::default() });
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(sink.run(stop.clone()));
    for round in 1..=3 {
        node.usage.append(encoded(&views(10 * round..=10 * round + 4)), now()).await.unwrap();
        assert_eq!(node.usage.flushed().await, round, "one commit of the log in each round");
        assert_eq!(node.committed(), 5 * round);
        let app_id = node.usage.app_id("node-1");
        let committed = node.lake.view().committed_version(&app_id).await.unwrap();
        assert_eq!(committed, i64::try_from(round).ok());
        assert_eq!(node.usage.flushed().await, round, "it is there already");
    }
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

/// Room for next to nothing: each part is committed before the next is staged, and none is left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_commits_by_memory() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let feed = Feed::default();
    let config = SinkConfig { flush_age_ms_max: 600_000, staged_bytes_max: 1, poll_ms: 10, ..SinkConfig::default() };
    let mut sink = node.sink(&feed, config);
    node.usage.append(encoded(&views(1..=5)), now()).await.unwrap();
    feed.record(views(6..=10));
    sink.collect_and_flush().await.unwrap();
    assert_eq!((node.committed(), node.lake.staged_bytes()), (10, 0));
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(sink.run(stop.clone()));
    node.usage.append(encoded(&views(11..=15)), now()).await.unwrap();
    feed.record(views(16..=20));
    eventually("all are committed", async || node.committed() == 20).await;
    assert_eq!(node.seen().await, (20, 20));
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_crash_at_any_step_gives_each_event_once() {
    // What the node had done when it died.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Died {
        BeforeStaging,
        AfterStaging,
        AfterTheCommit,
        AfterTheReport,
    }
    for died in [Died::BeforeStaging, Died::AfterStaging, Died::AfterTheCommit, Died::AfterTheReport] {
        let dir = tempfile::tempdir().unwrap();
        let feed = Feed::default();
        {
            let node = node(dir.path()).await;
            node.usage.append(encoded(&views(1..=4)), now()).await.unwrap();
            feed.record(views(5..=7));
            let mut sink = node.sink(&feed, SinkConfig::default());
            // Refusing to hear of the end is what the record looks like to one that dies before telling.
            feed.0.lock().unwrap().refuse_finish = died != Died::AfterTheReport;
            match died {
                Died::BeforeStaging => {
                    feed.assign(0, 100).await.unwrap();
                }
                Died::AfterStaging => {
                    let (stop, mut tasks) = (CancellationToken::new(), tokio::task::JoinSet::new());
                    tasks.spawn(sink.run(stop.clone()));
                    eventually("staged", async || node.seen().await == (7, 7)).await;
                    tasks.abort_all();
                }
                Died::AfterTheCommit => assert!(sink.collect_and_flush().await.is_err()),
                Died::AfterTheReport => sink.collect_and_flush().await.unwrap(),
            }
        }
        feed.0.lock().unwrap().refuse_finish = false;
        let node = node(dir.path()).await;
        node.usage.append(encoded(&views(1..=4)), now()).await.unwrap();
        node.usage.append(encoded(&views(8..=8)), now()).await.unwrap();
        feed.record(views(9..=9));
        node.sink(&feed, SinkConfig::default()).collect_and_flush().await.unwrap();
        assert_eq!(node.seen().await, (9, 9), "{died:?}");
        assert_eq!(node.committed(), 9, "{died:?}");
        assert_eq!(feed.finished(), feed.0.lock().unwrap().last, "{died:?}");
        assert!(node.usage.read(0, 1).await.unwrap().is_empty(), "{died:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_away_is_shown_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let feed = Feed::default();
    feed.record(views(1..=3));
    feed.0.lock().unwrap().refuse_finish = true;
    let sink = node.sink(&feed, SinkConfig { flush_age_ms_max: 10, poll_ms: 10, ..SinkConfig::default() });
    let (stop, status) = (CancellationToken::new(), sink.status());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(sink.run(stop.clone()));
    eventually("the failure is shown", async || status.borrow().failure.as_ref().is_some_and(|f| f.contains("away")))
        .await;
    feed.0.lock().unwrap().refuse_finish = false;
    eventually("it healed", async || feed.finished() == 1 && status.borrow().failure.is_none()).await;
    assert_eq!(node.seen().await, (3, 3));
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

/// An event of the record that cannot be read, or a record that is away, keeps no usage out of the lake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_reaches_the_lake_and_leaves_its_log_while_the_record_fails() {
    for (refuse_assign, refuse_finish) in [(true, false), (false, true)] {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path()).await;
        let feed = Feed::default();
        let refuse = |refuse_assign, refuse_finish| {
            let mut record = feed.0.lock().unwrap();
            (record.refuse_assign, record.refuse_finish) = (refuse_assign, refuse_finish);
        };
        refuse(refuse_assign, refuse_finish);
        feed.record(views(1..=3));
        node.usage.append(encoded(&views(4..=6)), now()).await.unwrap();
        let sink = node.sink(&feed, SinkConfig { flush_age_ms_max: 10, poll_ms: 10, ..SinkConfig::default() });
        let (stop, status) = (CancellationToken::new(), sink.status());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(sink.run(stop.clone()));
        eventually("the log is told of its rows", async || node.usage.done() == 1).await;
        eventually("the failure is shown", async || {
            status.borrow().failure.as_ref().is_some_and(|failure| failure.contains("away"))
        })
        .await;
        refuse(false, false);
        eventually("it healed", async || feed.finished() == 1 && status.borrow().failure.is_none()).await;
        assert_eq!((node.seen().await, node.committed()), ((6, 6), 6));
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_that_takes_nothing_is_shown_until_it_commits_also_while_the_sources_do_well() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let in_the_way = dir.path().join(format!("lake/app/municipality_code={CHIYODA}"));
    std::fs::write(&in_the_way, b"").unwrap();
    let feed = Feed::default();
    feed.record(views(1..=3));
    let sink = node.sink(&feed, SinkConfig { flush_age_ms_max: 10, poll_ms: 10, ..SinkConfig::default() });
    let (stop, status) = (CancellationToken::new(), sink.status());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(sink.run(stop.clone()));
    eventually("the failure is shown", async || status.borrow().failure.is_some()).await;
    feed.record(views(4..=5));
    eventually("the record is heard of", async || node.seen().await == (5, 5)).await;
    assert!(status.borrow().failure.is_some(), "nothing was committed since");
    std::fs::remove_file(&in_the_way).unwrap();
    eventually("it healed", async || feed.finished() == 2 && status.borrow().failure.is_none()).await;
    assert_eq!((node.seen().await, node.committed()), ((5, 5), 5));
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}
