//! What becomes of acknowledged events when the disk of the real binary says no, is damaged, or is somebody else's.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use todoke_tests::{
    http::{Answer, Client},
    todoke::{DemoOptions, Todoke, cli_over, recently},
    wait::eventually,
};

use crate::{
    ingest::{agreed, files_below, id, lines, send, view},
    scene::sql,
};

const NDJSON: &str = "application/x-ndjson";
/// Events of one batch, and batches that fill the room given below at the latest.
const WIDE: u32 = 10_000;
const BATCHES_MAX: u32 = 16;
const ROOM_BYTES: u64 = 6 << 20;
/// A file of the log ends after this many bytes, whatever room there is.
const LOG_FILE_BYTES_MAX: u64 = 32 << 20;

/// The n-th batch of events that take much room each.
fn wide(n: u32) -> Vec<u8> {
    let code = |kind: &str| format!("{kind}-{}", "x".repeat(60 - kind.len()));
    let event = |at: u32| {
        json!({"event_id": id(1_000_000 + at), "event_type": "app.screen_viewed",
               "occurred_at": recently(), "session_id": code("wide"), "screen_id": code("screen"),
               "previous_screen_id": code("before"), "facility_id": code("place"), "dwell_ms": at})
    };
    lines((n * WIDE..(n + 1) * WIDE).map(event))
}

async fn receipt(who: &Client, body: Vec<u8>) -> (Value, Value) {
    let answer = send(who, "/v1/usage", NDJSON, None, body).await.expect(202);
    (answer["accepted"].clone(), answer["duplicates"].clone())
}

/// Sends batches until one is refused. Returns how many were taken, and the refusal.
async fn until_refused(who: &Client) -> (u32, Answer) {
    for n in 0..BATCHES_MAX {
        let answer = send(who, "/v1/usage", NDJSON, None, wide(n)).await;
        if answer.status != 202 {
            return (n, answer);
        }
    }
    panic!("{BATCHES_MAX} batches were taken: the limit is not felt");
}

/// The system refuses writes beyond a size, in the middle of a frame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_grow_refuses_the_batch_and_keeps_what_it_acknowledged() {
    let dir = tempfile::TempDir::with_prefix("todoke-full-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let token = agreed(&todoke).await.bearer().unwrap().to_owned();
    let data = todoke.data_dir().to_path_buf();
    todoke.stop().await;
    let largest = files_below(&data).iter().map(|path| std::fs::metadata(path).unwrap().len()).max().unwrap();
    let limit = largest + ROOM_BYTES;
    assert!(limit < LOG_FILE_BYTES_MAX, "a demo with a file of {largest} bytes is too large for this test");

    let todoke = Todoke::demo_with_file_limit(dir.path(), DemoOptions::small(), limit).await;
    let guardian = todoke.client().with_bearer(&token);
    let (n_taken, refused) = until_refused(&guardian).await;
    assert!(n_taken > 0);
    assert_eq!((refused.status, refused.header("retry-after")), (503, "60"), "{}", refused.text());
    assert!(refused.text().contains("disk-full"), "{}", refused.text());
    // The batch was taken back: what is small enough is taken, and nobody has to start the server again.
    assert_eq!(receipt(&guardian, lines([view(1)])).await, (json!(1), json!(0)));
    let operator = todoke.sign_in("operator").await;
    assert_eq!(operator.get("/v1/lake/health").await.expect(200)["log_failure"], Value::Null);
    todoke.kill().await;

    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let guardian = todoke.client().with_bearer(&token);
    assert_eq!(receipt(&guardian, wide(n_taken)).await, (json!(WIDE), json!(0)), "nothing of it was kept");
    assert_eq!(receipt(&guardian, wide(n_taken - 1)).await, (json!(0), json!(WIDE)));
    assert_eq!(receipt(&guardian, lines([view(1)])).await, (json!(0), json!(1)));
    let analyst = todoke.sign_in("analyst").await;
    let n_events = u64::from((n_taken + 1) * WIDE);
    let query = "SELECT COUNT(*), COUNT(DISTINCT event_id) FROM events_app WHERE session_id LIKE 'wide-%'";
    eventually("all of them are in the lake, once", Duration::from_secs(30), async || {
        (sql(&analyst, query).await == [[json!(n_events), json!(n_events)]]).then_some(())
    })
    .await;
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let guardian = agreed(&todoke).await;
    let second = cli_over(todoke.data_dir(), &["serve", "--listen", "127.0.0.1:0"]).await;
    assert!(!second.status.success(), "{}", second.stdout);
    assert!(second.stderr.contains("another process uses the usage log"), "{}", second.stderr);
    assert_eq!(receipt(&guardian, lines([view(1)])).await, (json!(1), json!(0)));
    todoke.stop().await;
}

/// The newest file of the log that holds something.
fn log_file(data: &Path) -> std::path::PathBuf {
    let mut files = files_below(&data.join("ingest"));
    files.retain(|path| path.extension().is_some_and(|kind| kind == "log"));
    files.sort();
    files.pop().expect("a file of the log")
}

/// What was acknowledged and cannot be read any more is named; the server does not start as if it were not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_keeps_the_server_from_starting_until_it_is_restored() {
    let dir = tempfile::TempDir::with_prefix("todoke-damaged-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let guardian = agreed(&todoke).await;
    let token = guardian.bearer().unwrap().to_owned();
    for n in 1..=3 {
        assert_eq!(receipt(&guardian, lines([view(n)])).await, (json!(1), json!(0)));
    }
    let data = todoke.data_dir().to_path_buf();
    todoke.kill().await;
    let path = log_file(&data);
    let whole = std::fs::read(&path).unwrap();
    let frame = whole.windows(4).position(|window| window == b"TDr1").expect("a frame");
    let mut damaged = whole.clone();
    damaged[frame + 40] ^= 0x10;
    std::fs::write(&path, &damaged).unwrap();
    let refused = cli_over(&data, &["serve", "--listen", "127.0.0.1:0"]).await;
    assert!(!refused.status.success(), "{}", refused.stdout);
    let named = format!("{}` is damaged at byte {frame}", path.file_name().unwrap().to_string_lossy());
    assert!(refused.stderr.contains(&named), "{named}: {}", refused.stderr);
    std::fs::remove_file(&path).unwrap();
    let refused = cli_over(&data, &["serve", "--listen", "127.0.0.1:0"]).await;
    assert!(!refused.status.success(), "{}", refused.stdout);
    let named = format!("{}` is missing: restore it", path.file_name().unwrap().to_string_lossy());
    assert!(refused.stderr.contains(&named), "{named}: {}", refused.stderr);
    std::fs::write(&path, &whole).unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let guardian = todoke.client().with_bearer(&token);
    assert_eq!(receipt(&guardian, lines((1..=4).map(view))).await, (json!(1), json!(3)));
    todoke.stop().await;
}

/// Whoever watches the age of what waits sees a backlog also when the server has just come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_age_of_what_waits_is_that_of_the_event_also_after_a_restart() {
    let dir = tempfile::TempDir::with_prefix("todoke-backlog-").unwrap();
    let settings = [("TODOKE_LAKE__FLUSH_AGE_MS_MAX", "86400000".to_owned())];
    let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let guardian = agreed(&todoke).await;
    assert_eq!(receipt(&guardian, lines([view(1)])).await, (json!(1), json!(0)));
    let taken = Instant::now();
    todoke.kill().await;
    let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let analyst = todoke.sign_in("analyst").await;
    let waited = taken.elapsed();
    let health = analyst.get("/v1/lake/health").await.expect(200);
    assert!(health["oldest_waiting_ms"].as_u64().is_some_and(|ms| u128::from(ms) >= waited.as_millis()), "{health}");
    let metrics = todoke.client().get("/metrics").await.text();
    let age = metrics.lines().find_map(|line| line.strip_prefix("todoke_lake_oldest_unflushed_seconds "));
    assert!(age.and_then(|age| age.parse::<f64>().ok()).is_some_and(|s| s >= waited.as_secs_f64()), "{metrics}");
    todoke.stop().await;
}

/// The newest entry of a table's log.
fn last_entry(data: &Path, table: &str) -> std::path::PathBuf {
    let mut entries = files_below(&data.join("lake").join(table).join("_delta_log"));
    entries.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    entries.sort();
    entries.pop().expect("an entry")
}

/// A commit whose rows left their source is not taken for one that a power cut tore.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_commit_that_was_reported_keeps_the_server_from_starting_until_it_is_restored() {
    let dir = tempfile::TempDir::with_prefix("todoke-damaged-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let guardian = agreed(&todoke).await;
    let token = guardian.bearer().unwrap().to_owned();
    assert_eq!(receipt(&guardian, lines((1..=2).map(view))).await, (json!(2), json!(0)));
    let data = todoke.data_dir().to_path_buf();
    // A stop commits what is there and tells the log so.
    todoke.stop().await;
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let guardian = todoke.client().with_bearer(&token);
    assert_eq!(receipt(&guardian, lines([view(3)])).await, (json!(1), json!(0)));
    todoke.stop().await;
    let entry = last_entry(&data, "app");
    let whole = std::fs::read(&entry).unwrap();
    let named = entry.file_name().unwrap().to_string_lossy().into_owned();
    let synced = data.join("lake/app/_delta_log/_last_synced");
    for is_noted in [true, false] {
        // As power loss may leave it: then what the log was told speaks for the entry.
        if !is_noted {
            std::fs::remove_file(&synced).unwrap();
        }
        std::fs::write(&entry, b"").unwrap();
        let refused = cli_over(&data, &["serve", "--listen", "127.0.0.1:0"]).await;
        assert!(!refused.status.success(), "{}", refused.stdout);
        assert!(refused.stderr.contains(&named) && refused.stderr.contains("is damaged"), "{}", refused.stderr);
        std::fs::write(&entry, &whole).unwrap();
    }
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let guardian = todoke.client().with_bearer(&token);
    assert_eq!(receipt(&guardian, lines((1..=4).map(view))).await, (json!(1), json!(3)));
    let analyst = todoke.sign_in("analyst").await;
    let query = "SELECT COUNT(*), COUNT(DISTINCT event_id) FROM events_app WHERE session_id = 'ways-in'";
    eventually("what was reported is there, once", Duration::from_secs(30), async || {
        (sql(&analyst, query).await == [[json!(4), json!(4)]]).then_some(())
    })
    .await;
    todoke.stop().await;
}

/// How many facilities the lake has, once it has as many as wanted, or any.
async fn facilities(todoke: &Todoke, wanted: Option<i64>) -> i64 {
    let analyst = todoke.sign_in("analyst").await;
    eventually("the lake has the facilities", Duration::from_secs(30), async || {
        let n = sql(&analyst, "SELECT COUNT(*) FROM facilities").await[0][0].as_i64().unwrap();
        wanted.map_or(n > 0, |wanted| n == wanted).then_some(n)
    })
    .await
}

/// The lake's reference data are copies of what the record has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_reference_data_keep_no_server_from_starting_and_come_again() {
    let dir = tempfile::TempDir::with_prefix("todoke-damaged-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let n_facilities = facilities(&todoke, None).await;
    let data = todoke.data_dir().to_path_buf();
    todoke.kill().await;
    std::fs::write(last_entry(&data, "dim_facilities"), b"{broken").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    assert_eq!(facilities(&todoke, Some(n_facilities)).await, n_facilities);
    todoke.stop().await;
}
