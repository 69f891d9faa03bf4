//! Layout on disk, types, pruning, widening.

use datafusion::parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;
use todoke_lake::{Lake, LakeError, LakeOptions, Origin, Scope};

use crate::support::*;

#[tokio::test]
async fn a_late_event_lies_in_its_own_day() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    // 15:30 UTC is half past midnight of the next day in Tokyo, and of the next fiscal year.
    let late = event(
        1,
        "app.screen_viewed",
        CHIYODA,
        at("2026-03-31T15:30:00Z"),
        json!({ "session_id": "s", "screen_id": "G01" }),
    );
    let today = view(2, CHIYODA);
    lake.append(Origin::new("record", 1), &rows(&[today, late]), now()).await.unwrap();
    let day = dir.path().join("app/municipality_code=131016/jst_date=2026-04-01");
    assert_eq!(std::fs::read_dir(&day).unwrap().count(), 1, "{day:?}");
    let session = session(&lake.view().snapshot(), &one(CHIYODA));
    let answer =
        table(&session, "SELECT jst_date, fiscal_year, occurred_at FROM events_app ORDER BY occurred_at").await;
    assert!(answer.contains("2026-04-01 | 2026        | 2026-03-31T15:30:00Z"), "{answer}");
}

#[tokio::test]
async fn every_type_of_value_survives_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let used = event(
        1,
        "coupon.used",
        CHIYODA,
        at("2026-11-21T01:02:03.000004Z"),
        json!({
            "use_id": "u", "coupon_id": "c", "child_key": 9_007_199_254_740_993_i64, "guardian_key": 5, "coupon_set_id": "s",
            "coupon_kind": "yen", "purpose": "service", "amount_yen": 1200, "amount_units": 0,
            "lines": [{ "lot_id": "l1", "bucket": null, "amount": 1000 }, { "lot_id": "l2", "bucket": "a", "amount": 200 }],
            "fee_total_yen": null, "application_id": null, "reservation_id": null, "initiated_by": "guardian",
            "device_less": false, "balance_after_yen": 300, "balance_after_units": 0, "ledger_seq": 12, "used_on": "2026-11-21",
        }),
    );
    lake.stage(Origin::new("record", 1), &rows(std::slice::from_ref(&used))).await.unwrap();
    let sql = "SELECT occurred_at, recorded_at, ingested_at, schema_version, child_key, amount_yen, lines, lines[2]['amount'] AS second, \
               device_less, ledger_seq, used_on, fee_total_yen, municipality_code, jst_date, fiscal_year FROM events_coupon";
    let staged = table(&session(&lake.view().snapshot(), &one(CHIYODA)), sql).await;
    lake.flush(now()).await.unwrap();
    let committed = table(&session(&lake.view().snapshot(), &one(CHIYODA)), sql).await;
    assert_eq!(staged, committed);
    for part in [
        "2026-11-21T01:02:03.000004Z",
        "9007199254740993",
        "{lot_id: l1, bucket: , amount: 1000}",
        "| 200 ",
        "| 2026-11-21 |",
    ] {
        assert!(committed.contains(part), "{part} in\n{committed}");
    }
}

#[tokio::test]
async fn a_bad_event_goes_to_the_quarantine_without_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let at = at("2026-11-21T01:00:00Z");
    let bad = [
        event(2, "app.screen_viewed", CHIYODA, at, json!({ "name": "佐藤花子" })),
        event(3, "app.screen_viewed", CHIYODA, at, json!({ "dwell_ms": "佐藤花子" })),
        event(4, "app.unheard_of", CHIYODA, at, json!({})),
        event(5, "nothing.known", CHIYODA, at, json!({})),
    ];
    let batch = rows(&[&[view(1, CHIYODA)], &bad[..]].concat());
    assert_eq!(batch.rejected().len(), 4);
    assert_eq!(batch.rejected()[1].field, "dwell_ms");
    lake.append(Origin::new("record", 1), &batch, now()).await.unwrap();
    assert_eq!(count(&lake, "app").await, 1);
    let session = session(&lake.view().snapshot(), &Scope::All);
    let answer = table(&session, "SELECT event_type, fault, field FROM events_quarantine ORDER BY event_id").await;
    for part in ["unknown_field", "ill_typed", "unknown_type"] {
        assert!(answer.contains(part), "{answer}");
    }
    let whole = table(&session, "SELECT * FROM events_quarantine").await;
    assert!(!whole.contains("佐藤"), "{whole}");
}

#[tokio::test]
async fn filters_skip_files_and_row_groups() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    for day in 1..=9 {
        let occurred_at = at(&format!("2026-11-0{day}T01:00:00Z"));
        let event =
            event(day, "app.screen_viewed", CHIYODA, occurred_at, json!({ "session_id": "s", "screen_id": "G01" }));
        lake.append(Origin::new("record", day as i64), &rows(&[event]), now()).await.unwrap();
    }
    let session = session(&lake.view().snapshot(), &one(CHIYODA));
    for (filter, n_files) in [
        ("jst_date = DATE '2026-11-03'", 1),
        ("jst_date BETWEEN DATE '2026-11-03' AND DATE '2026-11-05'", 3),
        ("jst_date IN (DATE '2026-11-03', DATE '2026-11-09')", 2),
        ("occurred_at >= TIMESTAMP '2026-11-08T00:00:00Z'", 2),
        ("fiscal_year = 2025", 0),
        ("event_type = 'app.session_started'", 0),
        ("municipality_code = '131032'", 0),
        ("screen_id = 'G01'", 9),
    ] {
        let plan = table(&session, &format!("EXPLAIN SELECT count(session_id) FROM events_app WHERE {filter}")).await;
        let plan = plan.split("physical_plan").last().unwrap();
        assert_eq!(plan.matches("/part-").count(), n_files, "{filter}\n{plan}");
    }
    assert_eq!(
        number(
            &session,
            "SELECT count(*) FROM events_app WHERE jst_date >= DATE '2026-11-04' AND event_type = 'app.screen_viewed'"
        )
        .await,
        6
    );
}

#[tokio::test]
async fn new_columns_are_added_to_an_old_table_and_other_types_refused() {
    use deltalake::{
        DeltaTableBuilder, ensure_table_uri,
        kernel::{DataType, PrimitiveType},
    };
    let dir = tempfile::tempdir().unwrap();
    let old = async |table: &str, screen: PrimitiveType| {
        let path = dir.path().join(table);
        let uri = ensure_table_uri(path.join("app").to_str().unwrap()).unwrap();
        let delta = DeltaTableBuilder::from_url(uri).unwrap().build().unwrap();
        delta
            .create()
            .with_column("event_id", DataType::Primitive(PrimitiveType::String), false, None)
            .with_column("screen_id", DataType::Primitive(screen), true, None)
            .with_column("municipality_code", DataType::Primitive(PrimitiveType::String), false, None)
            .with_column("jst_date", DataType::Primitive(PrimitiveType::Date), false, None)
            .with_partition_columns(["municipality_code", "jst_date"])
            .await
            .unwrap();
        path
    };
    let lake = open(&old("wider", PrimitiveType::String).await).await;
    lake.append(Origin::new("record", 1), &rows(&[view(1, CHIYODA)]), now()).await.unwrap();
    assert_each_once(&lake, "app", 1).await;
    let refused =
        todoke_lake::Lake::open(&old("other", PrimitiveType::Long).await, todoke_lake::LakeOptions::default()).await;
    assert!(matches!(refused, Err(LakeError::ColumnType { ref column, .. }) if column == "screen_id"), "{refused:?}");
}

#[tokio::test]
async fn large_and_small_parts_of_a_day_become_one_file_with_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    // Two that are large enough for row groups of their own, and two that share one.
    for (version, numbers) in [(1, 33_001..=66_000), (2, 1..=33_000), (3, 66_001..=66_005), (4, 66_006..=66_010)] {
        let events: Vec<_> = numbers.map(|n| view(n, CHIYODA)).collect();
        lake.stage(Origin::new("record", version), &rows(&events)).await.unwrap();
    }
    assert_eq!(lake.flush(now()).await.unwrap().rows, 66_010);
    let stats = lake.stats().into_iter().find(|table| table.table == "app").unwrap();
    assert_eq!((stats.files, stats.rows), (1, 66_010));
    assert_each_once(&lake, "app", 66_010).await;
    let session = session(&lake.view().snapshot(), &one(CHIYODA));
    // Both ends of the file are found, so its bounds are those of all runs.
    for n in [1, 33_000, 33_001, 66_001, 66_010] {
        let occurred_at = view(n, CHIYODA).occurred_at;
        let sql = format!("SELECT count(*) FROM events_app WHERE occurred_at = TIMESTAMP '{occurred_at}'");
        assert_eq!(number(&session, &sql).await, 1, "{n}");
    }
}

#[tokio::test]
async fn bloom_filters_are_written_where_they_are_asked_for_and_rows_are_found_by_them() {
    // By default sessions are found by one; no table has the last column.
    let default = LakeOptions::default().bloom_columns;
    let elsewhere = vec!["subject_id".to_owned(), "no_such_column".to_owned()];
    for (columns, wanted) in [(vec![], vec![]), (default, vec!["subject_id"]), (elsewhere, vec!["subject_id"])] {
        let dir = tempfile::tempdir().unwrap();
        let options = LakeOptions { fsync: false, bloom_columns: columns, ..LakeOptions::default() };
        let lake = Lake::open(dir.path(), options).await.unwrap();
        lake.append(Origin::new("record", 1), &rows(&[view(1, CHIYODA), view(2, CHIYODA)]), now()).await.unwrap();
        let day = dir.path().join(format!("app/municipality_code={CHIYODA}/jst_date=2026-11-21"));
        let file = std::fs::read_dir(day).unwrap().next().unwrap().unwrap().path();
        let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
        let columns = reader.metadata().row_group(0).columns();
        let with_filter = columns.iter().filter(|column| column.bloom_filter_offset().is_some());
        let with_filter: Vec<String> = with_filter.map(|column| column.column_path().string()).collect();
        assert_eq!(with_filter, wanted);
        let session = session(&lake.view().snapshot(), &Scope::All);
        for (subject, n) in [("1", 1), ("2", 1), ("3", 0)] {
            let counted = format!("SELECT count(dwell_ms) FROM events_app WHERE subject_id = '{subject}'");
            assert_eq!(number(&session, &counted).await, n, "{subject}");
        }
    }
}

#[tokio::test]
async fn days_tell_how_many_of_their_rows_are_only_staged() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let state = || *lake.view().snapshot().days("app", &one(CHIYODA)).values().next().unwrap();
    lake.stage(Origin::new("record", 1), &rows(&[view(1, CHIYODA)])).await.unwrap();
    let staged = state();
    assert_eq!((staged.n_rows, staged.n_staged), (1, 1));
    lake.flush(now()).await.unwrap();
    let committed = state();
    assert_eq!((committed.n_rows, committed.n_staged), (1, 0));
    assert_ne!(committed.fingerprint, staged.fingerprint);
}
