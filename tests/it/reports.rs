//! Reports from outside: the same figures over HTTP, on the command line and from another engine on the files,
//! and every figure re-added from its rows.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use todoke_tests::{
    http::Client,
    process::workspace_root,
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};

/// Columns that say when and from what a figure was made; they differ between two moments.
const PROVENANCE: [&str; 4] = ["period_from", "period_to", "snapshot_id", "created_at"];

/// A report as rows by column name, without provenance.
pub(crate) fn rows(report: &Value) -> Vec<BTreeMap<String, Value>> {
    let columns: Vec<&str> =
        report["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    let named = |row: &Value| -> BTreeMap<String, Value> {
        let cells = columns.iter().zip(row.as_array().unwrap());
        cells
            .filter(|(name, _)| !PROVENANCE.contains(name))
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    };
    report["rows"].as_array().unwrap().iter().map(named).collect()
}

fn number(row: &BTreeMap<String, Value>, column: &str) -> i64 {
    let value = &row[column];
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{column} is {value}"))
}

async fn over_http(who: &Client, report: &str, period: (&str, &str), rest: &str) -> Value {
    who.get(&format!("/v1/reports/{report}?from={}&to={}{rest}", period.0, period.1)).await.expect(200)
}

async fn on_the_command_line(todoke: &Todoke, report: &str, period: (&str, &str), rest: &[&str]) -> Value {
    let town = todoke.municipality();
    let arguments =
        [&["report", report, "--municipality", &town, "--from", period.0, "--to", period.1, "--format", "json"], rest]
            .concat();
    serde_json::from_str(&todoke.cli(&arguments).await.success()).expect("JSON on standard output")
}

/// The folder that holds the lake's tables.
fn lake_dir(data: &Path) -> PathBuf {
    [data.join("lake"), data.to_path_buf()]
        .into_iter()
        .find(|dir| dir.join("coupon/_delta_log").is_dir())
        .expect("a lake in the data directory")
}

/// The days the demo's history covers, today excluded: nothing more happens to them.
async fn past(todoke: &Todoke) -> (String, String) {
    let clock = todoke.client().with_bearer(todoke.sign_in("analyst").await.bearer().unwrap());
    let now = clock.get("/v1/session").await.expect(200)["server_time"].as_str().unwrap().to_owned();
    let today = now.parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    let day = |back: i64| today.saturating_sub(jiff::Span::new().days(back)).to_string();
    (day(40), day(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_agree_over_http_on_the_command_line_and_in_another_engine() {
    let todoke = Todoke::demo(DemoOptions { families: 80, facilities: 16, ..DemoOptions::small() }).await;
    let city = todoke.sign_in("municipal_staff").await;
    let (from, to) = past(&todoke).await;
    let period = (from.as_str(), to.as_str());
    let other = eventually("the history is in the lake's files", Duration::from_secs(60), async || {
        other_engine(&lake_dir(todoke.data_dir()), &todoke.municipality(), period).await
    })
    .await;

    let simple = rows(&over_http(&city, "statistics_simple", period, "").await);
    assert_eq!(simple, rows(&on_the_command_line(&todoke, "statistics_simple", period, &[]).await));
    assert_eq!(simple.len(), 1);
    for (column, value) in other["statistics_simple"].as_object().unwrap() {
        assert_eq!(number(&simple[0], column), value.as_i64().unwrap(), "R01 {column}");
    }
    assert!(number(&simple[0], "service_uses") > 0, "an empty history shows nothing: {simple:?}");

    let usage = rows(&over_http(&city, "app_usage", period, "&by=day").await);
    assert_eq!(usage, rows(&on_the_command_line(&todoke, "app_usage", period, &["--by", "day"]).await));
    let days = other["app_usage"].as_object().unwrap();
    assert!(days.len() > 20, "{} days with usage", days.len());
    for (day, figures) in days {
        let row = usage.iter().find(|row| row["day"] == day.as_str()).unwrap_or_else(|| panic!("R05 has no {day}"));
        for (column, value) in figures.as_object().unwrap() {
            assert_eq!(number(row, column), value.as_i64().unwrap(), "R05 {day} {column}");
        }
    }
    todoke.stop().await;
}

/// R01 and R05 by DuckDB on the lake's files; none while the files are not there yet.
async fn other_engine(lake: &Path, town: &str, (from, to): (&str, &str)) -> Option<Value> {
    let python = std::env::var("TODOKE_TEST_PYTHON")
        .expect("TODOKE_TEST_PYTHON names a Python with tests/lake/requirements.txt; ./test sets it");
    let script = workspace_root().join("tests/lake/figures.py");
    let run = tokio::process::Command::new(python).arg(script).arg(lake).args([town, from, to]).output().await.unwrap();
    if !run.status.success() {
        let why = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(why.contains("no data"), "{why}");
        return None;
    }
    Some(serde_json::from_slice(&run.stdout).expect("JSON from figures.py"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_figure_is_the_sum_of_its_rows_and_of_its_parts() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let city = todoke.sign_in("municipal_staff").await;
    let (from, to) = past(&todoke).await;
    let period = (from.as_str(), to.as_str());
    let whole = rows(&over_http(&city, "statistics_simple", period, "").await);
    let used = number(&whole[0], "used_yen");
    let underlying = rows(&over_http(&city, "statistics_simple", period, "&rows=true").await);
    let amount = |row: &BTreeMap<String, Value>| match row["event_type"].as_str() {
        Some("coupon.used") => number(row, "amount_yen").abs(),
        Some("coupon.use_reversed") => -number(row, "amount_yen").abs(),
        _ => 0,
    };
    assert_eq!(underlying.iter().map(amount).sum::<i64>(), used, "used_yen is re-added from its rows");
    let parts = rows(&over_http(&city, "statistics_simple", period, "&by=programme_code").await);
    assert_eq!(parts.iter().map(|row| number(row, "used_yen")).sum::<i64>(), used, "programmes add up to the whole");
    let months = rows(&over_http(&city, "statistics_simple", period, "&by=month").await);
    for row in &months {
        let change = number(row, "distributed_yen") + number(row, "adjusted_yen")
            - number(row, "used_yen")
            - number(row, "expired_yen")
            - number(row, "revoked_yen");
        assert_eq!(
            number(row, "balance_start_yen") + change,
            number(row, "balance_end_yen"),
            "check line of {:?}",
            row["month"]
        );
    }
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_format_is_what_it_says() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let city = todoke.sign_in("municipal_staff").await;
    let (from, to) = past(&todoke).await;
    for (report, id) in [("statistics_simple", "R01"), ("survey_aggregate", "R04"), ("app_usage", "R05")] {
        let path = format!("/v1/reports/{report}?from={from}&to={to}");
        let csv = city.get(&format!("{path}&format=csv")).await;
        assert_eq!(csv.status, 200, "{id}: {}", csv.text());
        assert!(csv.header("content-type").starts_with("text/csv"), "{id}");
        assert!(csv.body.starts_with(b"\xEF\xBB\xBF"), "{id}: spreadsheets need the mark to read Japanese");
        assert!(csv.text().contains("\r\n"), "{id}");
        let parquet = city.get(&format!("{path}&format=parquet")).await;
        assert!(parquet.body.starts_with(b"PAR1") && parquet.body.ends_with(b"PAR1"), "{id}");
    }
    todoke.stop().await;
}
