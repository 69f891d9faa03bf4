//! `todoke lake retain` with the real binary: what is past its time leaves, everything else stays as it was.

use std::path::Path;

use serde_json::Value;
use todoke_tests::todoke::{DemoOptions, Todoke, cli_over};

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
    assert!(!nothing.contains("rows in"), "{nothing}");
    let config = dir.path().join("todoke.toml");
    std::fs::write(&config, "[lake.retention]\ndelivery_months = 1\n").unwrap();
    let config = config.to_str().unwrap();
    let done = cli_over(&data, &["lake", "retain", "--config", config]).await.success();
    let left: Vec<&str> = done.lines().filter(|line| line.contains(" rows in ")).collect();
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
