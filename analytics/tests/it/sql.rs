//! SQL of people: what works, what is refused, what never leaks.

use std::time::Duration;

use serde_json::json;
use todoke_analytics::{ErrorKind, Format, SqlError, SqlLimits, SqlRequest, format};

use crate::{
    city::{City, Fixture, OSAKA, at, code},
    ledger::Coupon,
};

async fn two_cities() -> Fixture {
    let mut osaka = City::new(OSAKA);
    let mut coupon = Coupon::new("c-osaka", 10, "set-1");
    coupon.distribute(&mut osaka, at("2026-06-01", "10:00"), 10_000);
    coupon.spend(&mut osaka, at("2026-06-02", "10:00"), "u-1", 1_200, "service", ("short_stay", "f-1"));
    let mut sakai = City::new("271403");
    Coupon::new("c-sakai", 20, "set-2").distribute(&mut sakai, at("2026-06-01", "10:00"), 5_000);
    Fixture::new(&[&osaka, &sakai]).await
}

async fn text(lake: &Fixture, sql: &str) -> String {
    let answer = lake.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    String::from_utf8(format::answer_bytes(&answer, Format::Table).unwrap()).unwrap()
}

#[tokio::test]
async fn reading_statements_work() {
    let lake = two_cities().await;
    let answer = lake
        .sql("WITH l AS (SELECT * FROM coupon_ledger) SELECT coupon_id, SUM(delta_yen) AS yen FROM l GROUP BY 1")
        .await
        .unwrap();
    let json = format::answer_json(&answer);
    assert_eq!(json["rows"], json!([["c-osaka", 8_800]]));
    assert_eq!(json["columns"], json!([{"name": "coupon_id", "type": "VARCHAR"}, {"name": "yen", "type": "BIGINT"}]));
    assert!(!answer.truncated && !answer.snapshot_id.is_empty());
    assert!(text(&lake, "SHOW TABLES").await.contains("events_coupon"));
    assert!(text(&lake, "SHOW COLUMNS FROM coupon_uses").await.contains("net_yen"));
    assert!(text(&lake, "DESCRIBE persons").await.contains("ward_code"));
    assert!(text(&lake, "EXPLAIN SELECT * FROM coupon_uses WHERE net_yen > 0").await.contains("Filter"));
    assert!(text(&lake, "SELECT table_name FROM information_schema.tables").await.contains("sessions"));
    assert!(text(&lake, "SELECT percent(1, 3) AS p, round(2.5) AS r").await.contains("33.3"));
    let recursive =
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT SUM(i) AS s FROM n";
    assert!(text(&lake, recursive).await.contains("15"));
}

#[tokio::test]
async fn every_view_and_table_can_be_read_whole() {
    let lake = two_cities().await;
    for table in lake.engine.schema(&code(OSAKA)).await.unwrap() {
        let answer = lake.sql(&format!("SELECT * FROM {}", table.name)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error:?}", table.name));
        assert_eq!(answer.columns.len(), table.columns.len(), "{}", table.name);
        for column in &table.columns {
            assert!(
                matches!(column.class, "A" | "C" | "F"),
                "{}.{} is class {}",
                table.name,
                column.name,
                column.class
            );
        }
        assert!(!table.description.is_empty(), "{}", table.name);
    }
}

#[tokio::test]
async fn nothing_of_another_municipality_is_ever_seen() {
    let lake = two_cities().await;
    for table in lake.engine.schema(&code(OSAKA)).await.unwrap() {
        let seen = text(&lake, &format!("SELECT * FROM {}", table.name)).await;
        assert!(!seen.contains("271403") && !seen.contains("sakai"), "{}", table.name);
    }
    let crafted = [
        "SELECT * FROM events_coupon WHERE municipality_code = '271403'",
        "SELECT * FROM events_coupon WHERE TRUE OR municipality_code = '271403'",
        "SELECT * FROM events_coupon e FULL JOIN events_coupon f ON e.municipality_code <> f.municipality_code",
        "SELECT * FROM coupon_ledger UNION ALL SELECT * FROM coupon_ledger",
        "SELECT (SELECT MAX(coupon_id) FROM events_coupon WHERE municipality_code <> '271004') AS c",
    ];
    for sql in crafted {
        let seen = text(&lake, sql).await;
        assert!(!seen.contains("c-sakai"), "{sql}");
    }
}

#[tokio::test]
async fn writing_files_settings_and_other_ways_out_are_refused() {
    let lake = two_cities().await;
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("secret.csv");
    std::fs::write(&file, "secret\n1\n").unwrap();
    let file = file.display();
    let refused = [
        format!("SELECT * FROM '{file}'"),
        format!("SELECT * FROM \"{file}\""),
        format!("SELECT * FROM read_csv('{file}')"),
        format!("SELECT * FROM read_parquet('{file}')"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{file}'"),
        format!("COPY (SELECT 1) TO '{file}.out'"),
        format!("COPY events_coupon TO '{file}.out' STORED AS PARQUET"),
        format!("EXPLAIN COPY (SELECT 1) TO '{file}.out'"),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "CREATE VIEW v AS SELECT 1".to_owned(),
        "CREATE SCHEMA s".to_owned(),
        "CREATE FUNCTION f() RETURNS INT RETURN 1".to_owned(),
        "SELECT * INTO t FROM events_coupon".to_owned(),
        "INSERT INTO programmes VALUES ('a', 'b')".to_owned(),
        "WITH x AS (INSERT INTO programmes VALUES ('a', 'b') RETURNING *) SELECT * FROM x".to_owned(),
        "UPDATE programmes SET name = 'x'".to_owned(),
        "DELETE FROM programmes".to_owned(),
        "TRUNCATE programmes".to_owned(),
        "DROP TABLE events_coupon".to_owned(),
        "DROP VIEW persons".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "RESET datafusion.execution.batch_size".to_owned(),
        "SHOW ALL".to_owned(),
        "SHOW datafusion.runtime.temp_directory".to_owned(),
        "SHOW FUNCTIONS".to_owned(),
        "SELECT * FROM information_schema.df_settings".to_owned(),
        "SELECT * FROM information_schema.routines".to_owned(),
        "PREPARE p AS SELECT 1".to_owned(),
        "EXECUTE p".to_owned(),
        "BEGIN".to_owned(),
        "EXPLAIN ANALYZE SELECT * FROM events_coupon".to_owned(),
        "EXPLAIN FORMAT TREE SELECT * FROM events_coupon".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        "SELECT * FROM events_quarantine".to_owned(),
        "SELECT * FROM quarantine".to_owned(),
        "SELECT * FROM generate_series(1, 1000000000)".to_owned(),
        "SELECT array_length(range(0, 100000000000))".to_owned(),
        "SELECT repeat('x', 2000000000)".to_owned(),
        "SELECT 1 +".to_owned(),
        String::new(),
    ];
    for sql in &refused {
        let error = lake.sql(sql).await.err().unwrap_or_else(|| panic!("worked: {sql}"));
        assert_eq!(error.kind(), ErrorKind::BadRequest, "{sql}: {error:?}");
        assert!(!error.detail_ja().contains("secret\n"), "{sql}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["secret.csv"], "nothing was written");
    let explained = text(&lake, "EXPLAIN VERBOSE SELECT * FROM events_coupon WHERE amount_yen > 1").await;
    assert!(!explained.contains(".parquet") && !explained.contains("/tmp"), "{explained}");
}

#[tokio::test]
async fn rows_time_and_memory_have_limits() {
    let lake = two_cities().await;
    let ask = |sql: &str, rows_max, timeout| {
        let limits = SqlLimits { rows_max, timeout };
        let request = SqlRequest { municipality: code(OSAKA), text: sql.to_owned(), limits };
        let engine = lake.engine.clone();
        async move { engine.sql(&request).await }
    };
    let minute = Duration::from_secs(60);
    let cut = ask("SELECT * FROM calendar", 10, minute).await.unwrap();
    assert!(cut.truncated && cut.n_rows == 10);
    let whole = ask("SELECT * FROM calendar", 11_323, minute).await.unwrap();
    assert!(!whole.truncated && whole.n_rows == 11_323);
    let endless = "SELECT SUM(a.weekday * b.weekday + c.weekday) AS s FROM calendar a CROSS JOIN calendar b CROSS JOIN calendar c";
    let late = ask(endless, 10, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(late, SqlError::Timeout), "{late:?}");

    let config = todoke_analytics::EngineConfig { memory_bytes_max: 4 << 20, ..Default::default() };
    let source = std::sync::Arc::new(todoke_analytics::LakeSource::new(lake.lake.view()));
    let small = todoke_analytics::Engine::new(source, config).unwrap();
    let hungry = "SELECT a.jst_date, b.holiday_name, a.month || b.month || CAST(a.jst_date AS VARCHAR) AS t FROM calendar a CROSS JOIN calendar b LIMIT 1000000";
    let request = SqlRequest { municipality: code(OSAKA), text: hungry.to_owned(), limits: SqlLimits::export() };
    let error = small.sql(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
}

#[tokio::test]
async fn queries_run_on_the_runtime_they_are_given() {
    let lake = two_cities().await;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = todoke_analytics::EngineConfig { runtime: Some(runtime.handle().clone()), ..Default::default() };
    let source = std::sync::Arc::new(todoke_analytics::LakeSource::new(lake.lake.view()));
    let engine = todoke_analytics::Engine::new(source, config).unwrap();
    let request = SqlRequest {
        municipality: code(OSAKA),
        text: "SELECT COUNT(*) AS n FROM coupon_ledger".to_owned(),
        limits: SqlLimits::shown(),
    };
    assert_eq!(format::answer_json(&engine.sql(&request).await.unwrap())["rows"], json!([[2]]));
    runtime.shutdown_background();
}

#[tokio::test]
async fn formats_agree() {
    let lake = two_cities().await;
    let answer = lake
        .sql("SELECT '=1+1' AS formula, -5 AS minus, 'a\"b,c' AS quoted, TRUE AS flag, DATE '2026-06-01' AS d, CAST(9007199254740993 AS BIGINT) AS k, NULL AS nothing, make_array(1, 2) AS list")
        .await
        .unwrap();
    let csv = String::from_utf8(format::answer_bytes(&answer, Format::Csv).unwrap()).unwrap();
    assert_eq!(
        csv,
        "\u{feff}formula,minus,quoted,flag,d,k,nothing,list\r\n'=1+1,-5,\"a\"\"b,c\",1,2026-06-01,9007199254740993,,\"[1,2]\"\r\n"
    );
    let json = format::answer_json(&answer);
    assert_eq!(json["rows"], json!([["=1+1", -5, "a\"b,c", true, "2026-06-01", "9007199254740993", null, [1, 2]]]));
    let parquet = format::answer_bytes(&answer, Format::Parquet).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    let arrow = format::answer_bytes(&answer, Format::Arrow).unwrap();
    assert!(!arrow.is_empty());
    let wide = lake.sql("SELECT '利用' AS \"名前\", 1 AS n UNION ALL SELECT 'ab', 20 ORDER BY n").await.unwrap();
    let table = String::from_utf8(format::answer_bytes(&wide, Format::Table).unwrap()).unwrap();
    assert_eq!(table, "名前  n \n----  --\n利用   1\nab    20\n".replace("n \n", "n\n"));
}
