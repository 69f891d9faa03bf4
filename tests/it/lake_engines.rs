//! Other engines read every table of the lake and count what we count.

use std::{collections::BTreeMap, process::Command, time::Duration};

use serde_json::Value;
use todoke_tests::{
    http::Client,
    process::workspace_root,
    todoke::{DemoOptions, Todoke, cli_over},
    wait::eventually,
};

use crate::scene::sql;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_polars_and_pyarrow_read_every_table() {
    let python = std::env::var("TODOKE_TEST_PYTHON")
        .expect("TODOKE_TEST_PYTHON names a Python with tests/lake/requirements.txt; ./test sets it");
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await;
    // The record may hand over another event at any time: what counts is a reading during which nothing came.
    let (ours, answer) =
        eventually("the lake holds still while others read it", Duration::from_secs(240), async || {
            let before = rows_at_rest(&operator).await?;
            let answer = read_by_others(&python, &todoke);
            (rows_at_rest(&operator).await? == before).then_some((before, answer))
        })
        .await;
    assert!(ours.len() > 20 && ours["app"] > 0 && ours["coupon"] > 0, "{ours:?}");
    for engine in ["deltalake_pyarrow", "polars", "duckdb"] {
        let theirs: BTreeMap<String, u64> = serde_json::from_value(answer[engine].clone()).unwrap();
        assert_eq!(theirs, ours, "{engine}");
    }
    let dimensions: BTreeMap<String, [u64; 3]> = serde_json::from_value(answer["dimensions"].clone()).unwrap();
    assert!(dimensions.values().any(|rows| rows[0] > 0), "{dimensions:?}");
    assert!(dimensions.values().all(|[first, second, third]| first == second && second == third), "{dimensions:?}");
    // Values, not only rows: text, instants, integers and a list come out the same.
    let analyst = todoke.sign_in("analyst").await;
    let town = todoke.municipality();
    let query = "SELECT COUNT(DISTINCT event_id), COUNT(DISTINCT screen_id), SUM(dwell_ms) FROM events_app";
    assert_eq!(Value::from(sql(&analyst, query).await.remove(0)), answer["app"][&town]);
    todoke.stop().await;
}

/// Rows of each table, unless some are still on their way into files.
async fn rows_at_rest(operator: &Client) -> Option<BTreeMap<String, u64>> {
    let health = operator.get("/v1/lake/health").await.expect(200);
    if health["staged_rows"] != 0 || health["log_backlog_bytes"] != 0 {
        return None;
    }
    let tables = health["tables"].as_array().unwrap().iter();
    Some(tables.map(|table| (table["table"].as_str().unwrap().to_owned(), table["rows"].as_u64().unwrap())).collect())
}

/// Rows of each table as each of the other engines counts them.
fn read_by_others(python: &str, todoke: &Todoke) -> Value {
    let script = workspace_root().join("tests/lake/engines.py");
    let run = Command::new(python).arg(script).arg(todoke.data_dir().join("lake")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// N-COR-06: what the record handed over is in the lake once, and a file that is not what it was is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_compares_files_with_the_log_and_events_with_the_record() {
    let dir = tempfile::TempDir::with_prefix("todoke-verify-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let data = todoke.data_dir().to_path_buf();
    let guardian = todoke.sign_in("guardian").await;
    guardian.put("/v1/me/consents/usage_analytics", &serde_json::json!({"granted": true})).await;
    todoke.stop().await;
    let sound = cli_over(&data, &["lake", "verify"]).await.success();
    assert!(sound.ends_with("sound\n") && !sound.contains(" 0 events of the record"), "{sound}");
    let app = data.join("lake/account");
    let file = parquet_below(&app).pop().expect("a file");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let cut = cli_over(&data, &["lake", "verify"]).await;
    assert!(!cut.status.success() && cut.stdout.contains("damaged: account/"), "{}", cut.stdout);
    assert!(cut.stdout.contains("incomplete: "), "{}", cut.stdout);
    std::fs::write(&file, &whole).unwrap();
    cli_over(&data, &["lake", "verify"]).await.success();
}

fn parquet_below(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(parquet_below(&path));
        } else if path.extension().is_some_and(|kind| kind == "parquet")
            && !path.to_string_lossy().contains("_delta_log")
        {
            found.push(path);
        }
    }
    found
}
