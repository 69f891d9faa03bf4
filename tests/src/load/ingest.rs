//! App usage over HTTP: durable before the answer, then visible in SQL, beside DuckDB converting the same events.

use std::{
    io::Write,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Record, Stage,
    figures::{Latencies, Usage, head, line},
};
use crate::{http::Client, todoke::Todoke};

/// Connections, each with one batch under way.
const CONNECTIONS: u64 = 16;
/// How long the last rows, too few for a commit of their own, wait for more. Milliseconds. Usually they wait 5 s, which
/// would be half of the time that is measured.
const FLUSH_AGE_MS: u32 = 500;
/// Names the Python that has DuckDB; `./bench` sets it.
const PYTHON_VARIABLE: &str = "TODOKE_TEST_PYTHON";
const PEER: &str = include_str!("to_parquet.py");

/// The `n`th event, as the tracker of the web app sends it; its id was made at 03:00 that day.
fn event(n: u64) -> Value {
    let minute = n / 7 % 60;
    json!({
        "event_id": format!("01a1f6e5-8780-7000-8000-{n:012}"),
        "event_type": "app.screen_viewed",
        "occurred_at": format!("2026-11-20T03:{minute:02}:00.{:06}Z", n % 1_000_000),
        "session_id": format!("load-{:09}", n / 8),
        "screen_id": (["GD03", "GD04", "GD16", "GD18", "GD06", "GD15"][(n % 6) as usize]),
        "dwell_ms": 500 + n % 60_000,
    })
}

/// How batches are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) media_type: &'static str,
    pub(super) events: u64,
}

/// What an app sends, and what a back-fill or another system sends.
const SHAPES: [Shape; 2] = [
    Shape { name: "JSON, batches of 200", media_type: "application/json", events: 200 },
    Shape { name: "NDJSON, batches of 2,000", media_type: "application/x-ndjson", events: 2_000 },
];

impl Shape {
    /// The batch whose first event is `first`.
    pub(super) fn body(self, first: u64) -> Bytes {
        let events = (first..first + self.events).map(event);
        if self.media_type == "application/json" {
            return json!({"device_key": 4_711, "events": events.collect::<Vec<_>>()}).to_string().into();
        }
        let mut lines = String::from("{\"device_key\":4711}\n");
        events.for_each(|event| lines.push_str(&format!("{event}\n")));
        lines.into()
    }
}

/// Sends batches on each connection, one after the other, until `seconds` have passed; bodies are made before.
async fn send(client: &Client, shape: Shape, bodies: Arc<Vec<Bytes>>, seconds: u32) -> Result<(u64, Vec<Duration>)> {
    let next = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let mut senders = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (client, bodies, next) = (client.clone(), bodies.clone(), next.clone());
        senders.spawn(async move {
            let (mut accepted, mut latencies) = (0, Vec::new());
            while Instant::now() < end {
                let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
                let Some(body) = bodies.get(at) else { break };
                let begun = Instant::now();
                let headers = [("content-type", shape.media_type)];
                let answer = client.request("POST", "/v1/usage", &headers, body.clone()).await;
                latencies.push(begun.elapsed());
                ensure!(answer.status == 202, "{}: {}", answer.status, answer.text());
                accepted += answer.json()["accepted"].as_u64().context("a count")?;
            }
            anyhow::Ok((accepted, latencies))
        });
    }
    let (mut accepted, mut latencies) = (0, Vec::new());
    for sent in senders.join_all().await {
        let (n, times) = sent?;
        accepted += n;
        latencies.extend(times);
    }
    Ok((accepted, latencies))
}

/// Usage events that SQL sees. Counted from what the files say of themselves: it is asked again and again, and
/// reading a column each time would be a load of its own.
async fn visible(analyst: &Client) -> u64 {
    let answer = analyst.post("/v1/sql", &json!({"sql": "SELECT COUNT(*) FROM events_app"})).await.expect(200);
    answer["rows"][0][0].as_u64().unwrap_or(0)
}

/// A guardian whose usage may be collected.
pub(super) async fn guardian(todoke: &Todoke) -> Result<Client> {
    let guardian = todoke.sign_in("guardian").await;
    let agreed = guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    ensure!(agreed.status < 300, "no consent: {}", agreed.text());
    Ok(guardian)
}

/// Rows of the lake that are in Parquet files, and their bytes; none while something waits for its commit.
pub(super) async fn in_parquet(analyst: &Client) -> Option<(u64, u64)> {
    let health = analyst.get("/v1/lake/health").await.expect(200);
    let waits = health["staged_rows"].as_u64()? + health["log_backlog_bytes"].as_u64()?;
    let app = health["tables"].as_array()?.iter().find(|table| table["table"] == "app")?;
    (waits == 0).then_some((app["rows"].as_u64()?, app["bytes"].as_u64()?))
}

pub(super) async fn until<T>(mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let mut poll = tokio::time::interval(Duration::from_millis(50));
    loop {
        poll.tick().await;
        if let Some(found) = found().await {
            return found;
        }
    }
}

/// Writes the first `n` events, one per line.
pub(super) fn write_ndjson(path: &Path, n: u64) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for n in 0..n {
        writeln!(file, "{}", event(n))?;
    }
    file.flush()?;
    Ok(())
}

/// Seconds DuckDB needs to turn a file of NDJSON or Parquet into one zstd Parquet file, and that file's length; none without it.
pub(super) fn convert(from: &Path, to: &Path) -> Result<Option<(f64, u64)>> {
    let Ok(python) = std::env::var(PYTHON_VARIABLE) else { return Ok(None) };
    let output = Command::new(python).args(["-c", PEER]).args([from, to]).output()?;
    ensure!(output.status.success(), "DuckDB: {}", String::from_utf8_lossy(&output.stderr));
    let seconds = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    Ok(Some((seconds, std::fs::metadata(to)?.len())))
}

/// What [`convert`] tells of the first `n` events.
fn peer(n: u64) -> Result<Option<(f64, u64)>> {
    let dir = tempfile::TempDir::with_prefix("todoke-load-")?;
    let from = dir.path().join("events.ndjson");
    write_ndjson(&from, n)?;
    convert(&from, &dir.path().join("events.parquet"))
}

/// Runs the load in both shapes and prints the figures. `events_max` bounds the memory of the bodies made before.
pub async fn run(seconds: u32, events_max: u64) -> Result<()> {
    for shape in SHAPES {
        let stage =
            Stage::start_with(Record::Sqlite, vec![("TODOKE_LAKE__FLUSH_AGE_MS_MAX", FLUSH_AGE_MS.to_string())])
                .await?;
        let guardian = guardian(&stage.todoke).await?;
        let analyst = stage.todoke.sign_in("analyst").await;
        let (rows_before, bytes_before) = until(async || in_parquet(&analyst).await).await;
        let visible_before = visible(&analyst).await;
        let bodies = (0..events_max / shape.events).map(|batch| shape.body(batch * shape.events));
        let bodies = Arc::new(bodies.collect::<Vec<_>>());
        head(&format!("Durable ingest, {} on {CONNECTIONS} connections for {seconds} s, SQLite", shape.name));
        let (before, begun) = (Usage::of(stage.todoke.pid()), Instant::now());
        let (accepted, latencies) = send(&guardian, shape, bodies, seconds).await?;
        let durable = begun.elapsed();
        until(async || (visible(&analyst).await >= visible_before + accepted).then_some(())).await;
        let seen = begun.elapsed();
        let (rows, bytes) = until(async || in_parquet(&analyst).await).await;
        let written = begun.elapsed();
        ensure!(rows - rows_before >= accepted, "{} rows in Parquet of {accepted}", rows - rows_before);
        let after = Usage::of(stage.todoke.pid());
        let latencies = Latencies::of(latencies);
        let rate = |time: Duration| accepted as f64 / time.as_secs_f64();
        line("events accepted", format!("{accepted} in {} batches", latencies.n()));
        line("durable (2xx after fsync)", format!("{:.0} events/s", rate(durable)));
        line("batch, sent → answer (closed loop)", latencies.text());
        line("until all are visible in SQL", format!("{:.0} events/s over all", rate(seen)));
        line("until all are in Parquet files", format!("{:.0} events/s over all", rate(written)));
        let cpu = (after.cpu - before.cpu).as_secs_f64();
        line("server CPU per million events, Parquet included", format!("{:.2} s", cpu * 1e6 / accepted as f64));
        line(
            "server memory before / most",
            format!("{} / {} MiB", before.resident_bytes >> 20, after.most_bytes >> 20),
        );
        let ours = (bytes - bytes_before) as f64 / (rows - rows_before) as f64;
        line("bytes per event in the lake, before compaction", format!("{ours:.1}"));
        stage.stop().await;
        if let Some((seconds, bytes)) = peer(accepted)? {
            let theirs = accepted as f64 / seconds;
            line("DuckDB, the same NDJSON → zstd Parquet, offline", format!("{theirs:.0} events/s"));
            line("its bytes per event", format!("{:.1}", bytes as f64 / accepted as f64));
            line("ratio, durable", format!("{:.3}", rate(durable) / theirs));
            line("ratio, in Parquet", format!("{:.3}", rate(written) / theirs));
        }
    }
    Ok(())
}
