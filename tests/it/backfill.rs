//! `todoke ingest`: historical files into the lake, each event once, whatever is wrong with its neighbours.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_tests::{
    process::{signal, workspace_root},
    todoke::{DemoOptions, Todoke, cli_over, command_over},
    wait::eventually,
};

use crate::scene::sql;

const PATIENCE: Duration = Duration::from_secs(120);

/// A view of long ago: every tenth of them on another day.
fn view(n: u32) -> Value {
    json!({
        "event_id": format!("019a0000-0000-7000-8000-{n:012}"), "event_type": "app.screen_viewed",
        "occurred_at": format!("2019-04-{:02}T03:00:{:02}Z", 1 + n % 10, n % 60), "session_id": "history",
        "screen_id": "G01", "dwell_ms": n, "actor_role": "guardian", "actor_key": 4_711, "source_channel": "app",
    })
}

fn lines(records: impl IntoIterator<Item = Value>) -> Vec<u8> {
    records.into_iter().map(|record| format!("{record}\n")).collect::<String>().into_bytes()
}

fn file(dir: &Path, name: &str, content: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn rows(data: &Path, town: &str, query: &str) -> Vec<Vec<Value>> {
    let printed = cli_over(data, &["sql", query, "--municipality", town, "--format", "json"]).await.success();
    let answer: Value = serde_json::from_str(&printed).expect("JSON on standard output");
    serde_json::from_value(answer["rows"].clone()).expect("rows")
}

fn parquet_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| if path.is_dir() { parquet_files(&path) } else { vec![path] };
    entries.flat_map(of).filter(|path| path.extension().is_some_and(|kind| kind == "parquet")).collect()
}

/// What the tables hold of the history, without when it came.
const ALL: &str = "SELECT event_id, event_type, occurred_at, fiscal_year, actor_role, actor_key, source_channel, \
    subject_kind, subject_id, session_id, screen_id, dwell_ms FROM events_app WHERE session_id = 'history' ORDER BY 1";
const COUNT: &str = "SELECT COUNT(*), COUNT(DISTINCT event_id) FROM events_app WHERE session_id = 'history'";

/// What DuckDB makes of a file of NDJSON: Parquet whose ids are UUIDs.
fn by_duckdb(ndjson: &str) -> String {
    let python = std::env::var("TODOKE_TEST_PYTHON")
        .expect("TODOKE_TEST_PYTHON names a Python with tests/lake/requirements.txt; ./test sets it");
    let parquet = ndjson.replace(".ndjson", ".parquet");
    let script = workspace_root().join("tests/src/load/to_parquet.py");
    let run = Command::new(python).arg(script).args([ndjson, &parquet]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    parquet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_three_formats_give_the_same_rows_also_beside_a_running_server() {
    let dir = TempDir::with_prefix("todoke-backfill-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let (town, neighbour) = (todoke.municipality(), todoke.municipality_at(1));
    let data = todoke.data_dir().to_path_buf();
    let ndjson = file(dir.path(), "history.ndjson", &lines((0..30).map(view)));
    let printed = todoke.cli(&["ingest", &ndjson, "--municipality", &town]).await.success();
    assert_eq!(printed, "history.ndjson: 30 taken, 0 repeated, 0 quarantined\n");
    let analyst = todoke.sign_in("analyst").await;
    assert_eq!(sql(&analyst, COUNT).await, [[json!(30), json!(30)]], "the server sees it at once");
    todoke.stop().await;

    // The lake's own files are history for another municipality.
    let folder = data.join("lake/app").join(format!("municipality_code={town}"));
    let old = parquet_files(&folder).into_iter().filter(|path| path.to_string_lossy().contains("jst_date=2019-04"));
    let old: Vec<String> = old.map(|path| path.to_str().unwrap().to_owned()).collect();
    assert_eq!(old.len(), 10);
    let mut arguments = vec!["ingest", "--municipality", &neighbour];
    arguments.extend(old.iter().map(String::as_str));
    cli_over(&data, &arguments).await.success();
    let expected = rows(&data, &town, ALL).await;
    assert_eq!(expected.len(), 30);
    assert_eq!(rows(&data, &neighbour, ALL).await, expected);

    // What is exported is taken again, and found to be the same: the lake says of none that its id is another's.
    let export = "SELECT * FROM events_app WHERE session_id = 'history'";
    let exported = cli_over(&data, &["sql", export, "--municipality", &town, "--format", "csv"]).await.success();
    let csv = file(dir.path(), "history.csv", exported.as_bytes());
    let printed = cli_over(&data, &["ingest", &csv, "--municipality", &town]).await.success();
    assert_eq!(printed, "history.csv: 30 taken, 0 repeated, 0 quarantined\n");
    let of_duckdb = by_duckdb(&ndjson);
    let printed = cli_over(&data, &["ingest", &of_duckdb, "--municipality", &town]).await.success();
    assert_eq!(printed, "history.parquet: 30 taken, 0 repeated, 0 quarantined\n");
    cli_over(&data, &["lake", "compact"]).await.success();
    assert_eq!(rows(&data, &town, ALL).await, expected);
    let stats = cli_over(&data, &["lake", "stats"]).await.success();
    assert!(!stats.contains("quarantine"), "{stats}");
    cli_over(&data, &["lake", "verify"]).await.success();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_record_is_held_with_its_reason_and_replayed_and_the_rest_is_taken() {
    let dir = TempDir::with_prefix("todoke-backfill-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let (town, data) = (todoke.municipality(), todoke.data_dir().to_path_buf());
    todoke.stop().await;
    let with = |n: u32, field: &str, value: Value| {
        let mut record = view(n);
        record[field] = value;
        record
    };
    // Too far ahead by some seconds: a little later it is not. The time is that of a file that was just written.
    let clock = file(dir.path(), "clock", b"");
    let now = jiff::Timestamp::try_from(std::fs::metadata(clock).unwrap().modified().unwrap()).unwrap();
    let early = now + jiff::SignedDuration::from_secs(86_400 + 30);
    let records = [
        view(1),
        with(2, "screen_id", json!("佐藤花子です")),
        view(1),
        with(3, "municipality_code", json!("999999")),
        with(1, "dwell_ms", json!(99)),
        with(4, "occurred_at", json!(early.to_string())),
        view(5),
    ];
    let text = [lines(records), b"{broken\n".to_vec()].concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&text).unwrap();
    let packed = file(dir.path(), "history.ndjson.gz", &gzip.finish().unwrap());
    let ingest = ["ingest", &packed, "--municipality", &town];
    let printed = cli_over(&data, &ingest).await.success();
    assert_eq!(printed, "history.ndjson.gz: 2 taken, 1 repeated, 5 quarantined\n");
    assert_eq!(cli_over(&data, &ingest).await.success(), "history.ndjson.gz: already taken\n");
    assert_eq!(rows(&data, &town, COUNT).await, [[json!(2), json!(2)]]);

    let list = ["lake", "quarantine", "list", "--municipality", &town];
    let listed = cli_over(&data, &list).await.success();
    for reason in ["ill_typed", "forbidden_field", "id_reused", "in_future", "not_json"] {
        assert_eq!(listed.matches(&format!("\thistory\t{reason}\t")).count(), 1, "{reason} in {listed}");
    }
    assert!(!listed.contains("佐藤"), "contents are not listed");
    let replay = ["lake", "quarantine", "replay", "--municipality", &town];
    eventually("one of them is acceptable", PATIENCE, async || {
        let replayed: Value = serde_json::from_str(&cli_over(&data, &replay).await.success()).unwrap();
        (replayed == json!({"taken": 1, "held": 4, "dropped": 0})).then_some(())
    })
    .await;
    let listed = cli_over(&data, &list).await.success();
    assert!(!listed.contains("in_future") && listed.contains("id_reused"), "{listed}");
    assert_eq!(cli_over(&data, &ingest).await.success(), "history.ndjson.gz: already taken\n");

    let headless = file(dir.path(), "headless.csv", b"1,2,3\n");
    let nameless = file(dir.path(), "history.txt", &text);
    let no_parquet = file(dir.path(), "history.parquet", &text);
    for (name, said) in [
        (headless.as_str(), "no header"),
        (no_parquet.as_str(), "not a readable Parquet file"),
        ("nowhere.ndjson", "cannot be read"),
        (nameless.as_str(), "does not say what it is"),
    ] {
        let refused = cli_over(&data, &["ingest", name, "--municipality", &town]).await;
        assert!(!refused.status.success() && refused.stderr.contains(said), "{name}: {}", refused.stderr);
    }
    let nobody = cli_over(&data, &["ingest", &packed, "--municipality", "999999"]).await;
    assert!(!nobody.status.success() && nobody.stderr.contains("no municipality"), "{}", nobody.stderr);
}

/// Several pieces, so that a kill falls between the first and the last.
const MANY: u32 = 400_000;
const KILLS: usize = 2;

fn log_entries(data: &Path) -> usize {
    let entries = std::fs::read_dir(data.join("lake/app/_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_killed_goes_on_where_it_was() {
    let dir = TempDir::with_prefix("todoke-backfill-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let (town, data) = (todoke.municipality(), todoke.data_dir().to_path_buf());
    todoke.stop().await;
    let path = file(dir.path(), "history.ndjson", &lines((0..MANY).map(view)));
    let ingest = ["ingest", &path, "--municipality", &town];
    for _ in 0..KILLS {
        let before = log_entries(&data);
        let mut run = command_over(&data, &ingest).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("a piece is committed", PATIENCE, async || (log_entries(&data) > before).then_some(())).await;
        signal(run.id().expect("it runs"), "KILL");
        assert!(!run.wait().await.unwrap().success(), "it was killed before its end");
    }
    let printed = cli_over(&data, &ingest).await.success();
    let taken = printed.strip_prefix("history.ndjson: ").and_then(|rest| rest.split_once(" taken"));
    let taken: u32 = taken.expect("a number").0.parse().unwrap();
    assert!((1..MANY).contains(&taken), "{printed}");
    assert_eq!(rows(&data, &town, COUNT).await, [[json!(MANY), json!(MANY)]]);
    assert_eq!(cli_over(&data, &ingest).await.success(), "history.ndjson: already taken\n");
    cli_over(&data, &["lake", "verify"]).await.success();
}
