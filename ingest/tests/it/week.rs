//! A week of traffic with late and repeated events, on two nodes that restart and compact: the lake
//! holds what the generator made, each once, in the partition of its own day.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use datafusion::{
    arrow::{
        array::AsArray,
        datatypes::{Date32Type, Int64Type},
    },
    prelude::SessionContext,
};
use todoke_domain::{Event, Timestamp};
use todoke_ingest::{LakeSink, SinkConfig, UsageLog, UsageLogConfig};
use todoke_lake::{CompactOptions, Lake, LakeOptions, Scope};

use crate::support::*;

const DAYS: u64 = 7;
const HOURS: u64 = DAYS * 24;
const EVENTS_PER_HOUR: u64 = 40;

/// A sequence that looks random and is the same in every run (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn start() -> Timestamp {
    at("2026-11-14T15:00:00Z")
}

fn hour(n: u64) -> Timestamp {
    start().plus(Duration::from_secs(n * 3_600))
}

struct Node {
    lake: Arc<Lake>,
    log: UsageLog,
    sink: LakeSink,
}

/// A node over the common lake with a log of its own; few ids are remembered, so that repetitions get through.
async fn node(dir: &Path, name: &str, now: Timestamp) -> Node {
    let lake = Lake::open(&dir.join("lake"), LakeOptions { fsync: false, ..LakeOptions::default() }).await.unwrap();
    let config = UsageLogConfig { ids_max: 200, file_bytes_max: 4_096, ..UsageLogConfig::default() };
    let log = UsageLog::open(&dir.join(name), config).unwrap();
    let config = SinkConfig { node: name.to_owned(), ..SinkConfig::default() };
    let sink = LakeSink::new(lake.clone(), Some(log.clone()), None, Arc::new(move || now), config);
    Node { lake, log, sink }
}

/// Rows by day, and how many ids they have.
async fn rows_by_day(lake: &Lake) -> (BTreeMap<i32, i64>, i64) {
    lake.view().refresh().await.unwrap();
    let session = SessionContext::new();
    session.register_table("app", lake.view().snapshot().table_provider("app", &Scope::All).unwrap()).unwrap();
    let query = "SELECT jst_date, count(*), count(DISTINCT event_id) FROM app GROUP BY jst_date";
    let mut days = BTreeMap::new();
    let mut n_ids = 0;
    for batch in session.sql(query).await.unwrap().collect().await.unwrap() {
        for row in 0..batch.num_rows() {
            let count = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
            days.insert(batch.column(0).as_primitive::<Date32Type>().value(row), count(1));
            n_ids += count(2);
        }
    }
    (days, n_ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_week_with_late_and_repeated_events_equals_what_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(7);
    let mut made: Vec<Event> = Vec::new();
    let mut waiting: Vec<(u64, Event)> = Vec::new();
    let mut truth: BTreeMap<i32, i64> = BTreeMap::new();
    let mut nodes = [node(dir.path(), "a", start()).await, node(dir.path(), "b", start()).await];
    for n in 0..HOURS {
        for _ in 0..EVENTS_PER_HOUR {
            let mut event = view(made.len() as u64 + 1);
            event.occurred_at = hour(n).plus(Duration::from_micros(dice.below(3_600_000_000)));
            let day = (event.occurred_at.as_seconds() + 9 * 3_600).div_euclid(86_400);
            *truth.entry(i32::try_from(day).unwrap()).or_default() += 1;
            // One in ten comes late, by hours or days; one in eight is sent again some time later.
            let late = if dice.below(10) == 0 { dice.below(60) } else { 0 };
            waiting.push((n + late, event.clone()));
            if dice.below(8) == 0 {
                waiting.push((n + late + dice.below(48), event.clone()));
            }
            made.push(event);
        }
        let now = hour(n + 1);
        let (due, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(at, _)| *at <= n);
        waiting = rest;
        for (_, mut event) in due {
            event.recorded_at = now;
            let node = &nodes[usize::try_from(dice.below(2)).unwrap()];
            assert_eq!(node.log.append(encoded(&[event]), now).await.unwrap().rejected, []);
        }
        let at = usize::try_from(dice.below(2)).unwrap();
        if dice.below(6) == 0 {
            // It dies with what it has staged and not committed.
            let name = ["a", "b"][at];
            let others = nodes.into_iter().enumerate().filter(|(n, _)| *n != at).map(|(_, node)| node).next().unwrap();
            let again = node(dir.path(), name, now).await;
            nodes = if at == 0 { [again, others] } else { [others, again] };
        }
        nodes[at].sink.collect_and_flush().await.unwrap();
        if n % 24 == 23 {
            let lake = nodes[at].lake.clone();
            lake.view().refresh().await.unwrap();
            lake.compact("app", &CompactOptions::default(), now).await.unwrap();
        }
    }
    let end = hour(HOURS + 200);
    for (_, mut event) in waiting {
        event.recorded_at = end;
        nodes[0].log.append(encoded(&[event]), end).await.unwrap();
    }
    for node in &mut nodes {
        node.sink.collect_and_flush().await.unwrap();
    }
    let (before, ids_before) = rows_by_day(&nodes[0].lake).await;
    assert_eq!(ids_before, made.len() as i64, "nothing is missing");
    assert!(before.values().sum::<i64>() > ids_before, "repetitions got through the doors, or nothing is shown");
    nodes[0].lake.compact("app", &CompactOptions::default(), end).await.unwrap();
    let (days, n_ids) = rows_by_day(&nodes[0].lake).await;
    assert_eq!(days, truth);
    assert_eq!(n_ids, made.len() as i64);
}
