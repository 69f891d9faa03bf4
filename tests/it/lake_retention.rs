//! `todoke lake retain` with the real binary: what is past its time leaves, everything else stays as it was.

use std::{path::Path, time::Duration};

use serde_json::Value;
use sqlx::{Connection, SqliteConnection};
use todoke_tests::{
    todoke::{DemoOptions, Todoke, cli_over},
    wait::eventually,
};

use crate::{ingest::files_below, scene::Scene};

async fn n_rows(data: &Path, town: &str, table: &str) -> i64 {
    let query = format!("SELECT COUNT(*) FROM events_{table}");
    let printed = cli_over(data, &["sql", &query, "--municipality", town, "--format", "json"]).await.success();
    serde_json::from_str::<Value>(&printed).expect("JSON on standard output")["rows"][0][0].as_i64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_past_their_months_leave_the_lake_and_nothing_else_does() {
    let dir = tempfile::TempDir::with_prefix("todoke-retain-").unwrap();
    let options = DemoOptions { history_days: 70, ..DemoOptions::small() };
    let todoke = Todoke::demo_in(dir.path(), options).await;
    let (data, town) = (todoke.data_dir().to_path_buf(), todoke.municipality());
    let beside = cli_over(&data, &["lake", "retain"]).await;
    assert!(!beside.status.success() && beside.stderr.contains("a server runs on this folder"), "{}", beside.stderr);
    todoke.stop().await;

    let (messages, coupons) = (n_rows(&data, &town, "message").await, n_rows(&data, &town, "coupon").await);
    let nothing = cli_over(&data, &["lake", "retain"]).await.success();
    assert!(!nothing.contains(" rows of "), "{nothing}");
    let config = dir.path().join("todoke.toml");
    std::fs::write(&config, "[lake.retention]\ndelivery_months = 1\n").unwrap();
    let config = config.to_str().unwrap();
    let done = cli_over(&data, &["lake", "retain", "--config", config]).await.success();
    let left: Vec<&str> = done.lines().filter(|line| line.contains(" rows of ")).collect();
    assert!(left.len() == 1 && left[0].starts_with("message: "), "{done}");
    let messages_now = n_rows(&data, &town, "message").await;
    assert!(0 < messages_now && messages_now < messages, "{messages_now} of {messages}");
    assert_eq!(n_rows(&data, &town, "coupon").await, coupons);

    // What left in time is not missed, and what left too early would be.
    cli_over(&data, &["lake", "verify", "--config", config]).await.success();
    let missed = cli_over(&data, &["lake", "verify"]).await;
    assert!(!missed.status.success() && missed.stdout.contains("incomplete: "), "{}", missed.stdout);
    // The record still has these events, and the sink does not bring them again.
    Todoke::demo_in(dir.path(), options).await.stop().await;
    let after = cli_over(&data, &["lake", "verify"]).await;
    assert!(after.stdout.contains("incomplete: ") && !after.stdout.contains("repeated: "), "{}", after.stdout);
    cli_over(&data, &["lake", "verify", "--config", config]).await.success();
}

async fn n_events(record: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM event").fetch_one(record).await.unwrap()
}

/// The record forgets sooner than the lake (events.md §2), and goes on filling it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_past_their_years_leave_the_record_and_the_lake_keeps_them() {
    const OLD: i64 = 300;
    let dir = tempfile::TempDir::with_prefix("todoke-retain-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let (data, town) = (todoke.data_dir().to_path_buf(), todoke.municipality());
    todoke.stop().await;
    let url = format!("sqlite://{}", data.join("record.sqlite").display());
    let mut record = SqliteConnection::connect(&url).await.unwrap();
    // Seven years are more than five fiscal years, whichever day it is.
    let older = "UPDATE event SET recorded_at_us = recorded_at_us - $1
                 WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT $2)";
    sqlx::query(older).bind(7 * 366 * 86_400_000_000_i64).bind(OLD).execute(&mut record).await.unwrap();
    let before = n_events(&mut record).await;
    let coupons = n_rows(&data, &town, "coupon").await;

    let done = cli_over(&data, &["lake", "retain"]).await.success();
    assert!(done.contains(&format!("record: {OLD} events from before ")), "{done}");
    assert_eq!(n_events(&mut record).await, before - OLD);
    let nothing = cli_over(&data, &["lake", "retain"]).await.success();
    assert!(!nothing.contains("record: "), "{nothing}");
    record.close().await.unwrap();
    let sound = cli_over(&data, &["lake", "verify"]).await.success();
    assert!(sound.ends_with("sound\n"), "{sound}");
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    Scene::of(&todoke).await.pay("after", 1).await.expect(201);
    todoke.stop().await;
    assert!(n_rows(&data, &town, "coupon").await > coupons, "what was forgotten is there, and what came since");
    cli_over(&data, &["lake", "verify"]).await.success();
}

/// A night with a restart each does not keep a file that nobody needs on the disk for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_nobody_needs_leave_by_command_and_restarts_do_not_put_the_upkeep_off() {
    let dir = tempfile::TempDir::with_prefix("todoke-vacuum-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let data = todoke.data_dir().to_path_buf();
    let note = data.join("lake/upkeep.json");
    eventually("the upkeep has begun", Duration::from_secs(60), async || note.exists().then_some(())).await;
    let beside = cli_over(&data, &["lake", "vacuum"]).await;
    assert!(!beside.status.success() && beside.stderr.contains("a server runs on this folder"), "{}", beside.stderr);
    todoke.stop().await;
    let begun = std::fs::read_to_string(&note).unwrap();
    Todoke::demo_in(dir.path(), DemoOptions::small()).await.stop().await;
    assert_eq!(std::fs::read_to_string(&note).unwrap(), begun, "the second start waits from the first one on");

    let of_a_day = files_below(&data.join("lake/coupon")).into_iter();
    let mut of_a_day = of_a_day.filter(|path| path.to_string_lossy().contains("/jst_date="));
    let orphan = of_a_day.next().expect("a data file").with_file_name("part-left-by-a-crash.parquet");
    std::fs::write(&orphan, b"no commit names it").unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(&orphan).unwrap().set_modified(long_ago).unwrap();
    let done = cli_over(&data, &["lake", "vacuum"]).await.success();
    assert_eq!(done, "1 files deleted\n");
    assert!(!orphan.exists());
    let noted: Value = serde_json::from_str(&std::fs::read_to_string(&note).unwrap()).unwrap();
    assert_ne!(noted["vacuumed_at"], Value::Null, "{noted}");
    assert_eq!(cli_over(&data, &["lake", "compact"]).await.success(), "compacted\n");
    cli_over(&data, &["lake", "verify"]).await.success();
}
