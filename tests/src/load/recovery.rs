//! Recovery: how long a server that was killed needs until it answers, by the size of the log it finds.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    CITY,
    figures::{Usage, head, line},
    ingest::{Shape, guardian, until},
    limits,
};
use crate::{http::Client, todoke::Todoke};

const SHAPE: Shape = Shape { name: "NDJSON, batches of 2,000", media_type: "application/x-ndjson", events: 2_000 };
/// Batches sent between two looks at the log.
const AT_ONCE: u64 = 8;

/// Settings under which nothing goes to the lake: the sink stops at its limit of rows, and the log keeps the rest.
fn settings() -> Vec<(&'static str, String)> {
    let mut settings = limits();
    settings.extend(
        [
            ("TODOKE_LAKE__FLUSH_AGE_MS_MAX", "86400000"),
            ("TODOKE_LAKE__FLUSH_ROWS_MAX", "1000000000"),
            ("TODOKE_LAKE__STAGED_MIB_MAX", "1048576"),
            ("TODOKE_LOG__JSON", "true"),
        ]
        .map(|(name, value)| (name, value.to_owned())),
    );
    settings
}

async fn backlog(analyst: &Client) -> Result<u64> {
    let health = analyst.get("/v1/lake/health").await.expect(200);
    health["log_backlog_bytes"].as_u64().context("the length of the log")
}

/// Sends usage until the log holds `bytes` that the lake does not have.
async fn fill(todoke: &Todoke, bytes: u64) -> Result<u64> {
    let (guardian, analyst) = (guardian(todoke).await?, todoke.sign_in("analyst").await);
    let mut batch = 0;
    loop {
        let held = backlog(&analyst).await?;
        if held >= bytes {
            return Ok(held);
        }
        let mut senders = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (client, body) = (guardian.clone(), SHAPE.body(batch * SHAPE.events));
            senders.spawn(async move {
                let answer = client.request("POST", "/v1/usage", &[("content-type", SHAPE.media_type)], body).await;
                ensure!(answer.status == 202, "{}: {}", answer.status, answer.text());
                anyhow::Ok(())
            });
            batch += 1;
        }
        senders.join_all().await.into_iter().collect::<Result<()>>()?;
    }
}

/// What a start took.
struct Start {
    ready: Duration,
    log_open_ms: u64,
    memory: Usage,
}

/// Starts the server and waits until `/readyz` says so; then kills it again.
async fn start(dir: &Path) -> Result<Start> {
    let begun = Instant::now();
    let todoke = Todoke::demo_in_with(dir, CITY, &settings()).await;
    let client = todoke.client();
    until(async || {
        let answer = client.try_request("GET", "/readyz", &[], "").await;
        answer.is_ok_and(|answer| answer.status == 200).then_some(())
    })
    .await;
    let ready = begun.elapsed();
    let memory = Usage::of(todoke.pid());
    let events = todoke.log();
    let events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let log_open_ms = events.rev().find_map(|event| event["log.open_ms"].as_u64());
    todoke.kill().await;
    Ok(Start { ready, log_open_ms: log_open_ms.context("how long the log took to open")?, memory })
}

/// Measures each size, MiB, in a city of its own, after a start with an empty log.
pub async fn run(sizes_mib: &[u32]) -> Result<()> {
    for mib in sizes_mib {
        let dir = tempfile::TempDir::with_prefix("todoke-load-")?;
        head(&format!("Recovery with {mib} MiB of log that the lake does not have, SQLite"));
        let todoke = Todoke::demo_in_with(dir.path(), CITY, &settings()).await;
        todoke.stop().await;
        let empty = start(dir.path()).await?;
        let todoke = Todoke::demo_in_with(dir.path(), CITY, &settings()).await;
        let held = fill(&todoke, u64::from(*mib) << 20).await?;
        todoke.kill().await;
        let full = start(dir.path()).await?;
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let open = |start: &Start| format!("{} ms", start.log_open_ms);
        line("log", format!("{} MiB, in the page cache", held >> 20));
        line("started → /readyz, empty log", seconds(empty.ready));
        line("started → /readyz", seconds(full.ready));
        line("log opened, empty", open(&empty));
        line("log opened", open(&full));
        let rate = held as f64 / 1_048_576.0 / (full.log_open_ms.max(1) as f64 / 1e3);
        line("read and checked", format!("{rate:.0} MiB/s"));
        line("memory when ready, empty log", format!("{} MiB", empty.memory.resident_bytes >> 20));
        line("memory when ready / most", memory(full.memory));
    }
    Ok(())
}

fn memory(usage: Usage) -> String {
    format!("{} / {} MiB", usage.resident_bytes >> 20, usage.most_bytes >> 20)
}
