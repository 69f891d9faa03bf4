//! More usage than the server takes: what it refuses, and how much memory it needs at the most.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::{task::JoinSet, time::sleep};

use super::{
    Record, Stage,
    figures::{Latencies, Usage, head, line},
    ingest::{Shape, guardian, in_parquet, until},
};
use crate::http::Client;

/// Bodies of about 2 MB: on 256 connections they are more than those of one account may take (half of 256 MiB).
const SHAPE: Shape = Shape { name: "NDJSON, batches of 10,000", media_type: "application/x-ndjson", events: 10_000 };
/// Pause of a sender that was refused. Far less than `Retry-After` asks for: that is what makes it an overload.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two looks at the server's memory.
const SAMPLE: Duration = Duration::from_millis(50);
/// After the last row is in Parquet: what is still resident then is what the process keeps.
const REST: Duration = Duration::from_secs(5);

/// How hard and how long.
#[derive(Clone, Copy, Debug)]
pub struct Overload {
    /// Connections, each with one batch under way.
    pub connections: u32,
    /// Length, seconds.
    pub seconds: u32,
    /// Events made before, at most; senders that find none left end early.
    pub events_max: u64,
}

/// What the senders were told.
#[derive(Debug, Default)]
struct Answers {
    by_status: BTreeMap<u16, u64>,
    /// Requests that ended without an answer.
    broken: u64,
    accepted: u64,
    latencies: Vec<Duration>,
}

impl Answers {
    fn add(&mut self, other: Self) {
        for (status, n) in other.by_status {
            *self.by_status.entry(status).or_default() += n;
        }
        self.broken += other.broken;
        self.accepted += other.accepted;
        self.latencies.extend(other.latencies);
    }
}

/// Sends one batch after the other until `end`; one that was refused or got no answer again after a short pause.
async fn send(client: Client, bodies: Arc<Vec<Bytes>>, next: Arc<AtomicU64>, end: Instant) -> Result<Answers> {
    let mut answers = Answers::default();
    let headers = [("content-type", SHAPE.media_type)];
    while Instant::now() < end {
        let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
        let Some(body) = bodies.get(at) else { break };
        loop {
            let begun = Instant::now();
            let answer = client.try_request("POST", "/v1/usage", &headers, body.clone()).await;
            match answer {
                Ok(answer) => {
                    *answers.by_status.entry(answer.status).or_default() += 1;
                    if answer.status == 202 {
                        answers.latencies.push(begun.elapsed());
                        answers.accepted += answer.json()["accepted"].as_u64().unwrap_or(0);
                        break;
                    }
                    ensure!(matches!(answer.status, 429 | 503), "{}: {}", answer.status, answer.text());
                }
                Err(_) => answers.broken += 1,
            }
            if Instant::now() >= end {
                break;
            }
            sleep(PAUSE).await;
        }
    }
    Ok(answers)
}

/// Resident bytes of a process, looked at until `end`.
async fn watch(pid: u32, end: Instant) -> Vec<u64> {
    let mut poll = tokio::time::interval(SAMPLE);
    let mut samples = Vec::new();
    while Instant::now() < end {
        poll.tick().await;
        samples.push(Usage::of(pid).resident_bytes);
    }
    samples
}

/// Runs the overload and prints the figures.
pub async fn run(load: Overload) -> Result<()> {
    let stage = Stage::start(Record::Sqlite).await?;
    let pid = stage.todoke.pid();
    let guardian = guardian(&stage.todoke).await?;
    let analyst = stage.todoke.sign_in("analyst").await;
    let (rows_before, _) = until(async || in_parquet(&analyst).await).await;
    let bodies = (0..load.events_max / SHAPE.events).map(|batch| SHAPE.body(batch * SHAPE.events));
    let bodies = Arc::new(bodies.collect::<Vec<_>>());
    head(&format!("Overload, {} on {} connections for {} s, SQLite", SHAPE.name, load.connections, load.seconds));
    let (before, next) = (Usage::of(pid), Arc::new(AtomicU64::new(0)));
    let end = Instant::now() + Duration::from_secs(load.seconds.into());
    let mut senders = JoinSet::new();
    for _ in 0..load.connections {
        senders.spawn(send(guardian.clone(), bodies.clone(), next.clone(), end));
    }
    let mut samples = watch(pid, end).await;
    let mut answers = Answers::default();
    for sent in senders.join_all().await {
        answers.add(sent?);
    }
    let loaded = Usage::of(pid);
    let (rows, _) = until(async || in_parquet(&analyst).await).await;
    ensure!(rows - rows_before >= answers.accepted, "{} rows of {}", rows - rows_before, answers.accepted);
    let most = Usage::of(pid).most_bytes;
    sleep(REST).await;
    let after = Usage::of(pid);
    samples.sort_unstable();
    let mib = |bytes: u64| bytes >> 20;
    let median = samples.get(samples.len() / 2).copied().unwrap_or_default();
    line("events accepted", format!("{} of {} made", answers.accepted, bodies.len() as u64 * SHAPE.events));
    line("answers", told(&answers));
    line("accepted batch, sent → answer", Latencies::of(answers.latencies).text());
    line("server memory before", format!("{} MiB", mib(before.resident_bytes)));
    line("under load, median / most sampled", format!("{} / {} MiB", mib(median), mib(*samples.last().unwrap_or(&0))));
    line("most, by the kernel, until all is in Parquet", format!("{} MiB", mib(most)));
    line("kept 5 s later", format!("{} MiB", mib(after.resident_bytes)));
    line("server CPU", format!("{:.1} s", (loaded.cpu - before.cpu).as_secs_f64()));
    stage.stop().await;
    Ok(())
}

/// Answers by status, and how many connections broke.
fn told(answers: &Answers) -> String {
    let mut parts: Vec<String> = answers.by_status.iter().map(|(status, n)| format!("{n} times {status}")).collect();
    if answers.broken > 0 {
        parts.push(format!("{} without an answer", answers.broken));
    }
    parts.join(", ")
}
