//! No SQL sees another municipality's rows, committed or staged.

use todoke_lake::{Dimension, Lake, Origin, Scope};

use crate::support::*;

async fn two_cities(lake: &Lake) {
    let committed: Vec<_> = (1..=20).map(|n| view(n, if n % 2 == 0 { CHIYODA } else { MINATO })).collect();
    lake.append(Origin::new("record", 1), &rows(&committed), now()).await.unwrap();
    let staged: Vec<_> = (21..=30).map(|n| view(n, if n % 2 == 0 { CHIYODA } else { MINATO })).collect();
    lake.stage(Origin::new("record", 2), &rows(&staged)).await.unwrap();
}

#[tokio::test]
async fn crafted_sql_stays_inside() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    two_cities(&lake).await;
    let session = session(&lake.view().snapshot(), &one(CHIYODA));
    let attempts = [
        "SELECT municipality_code, event_id FROM events_app",
        "SELECT municipality_code FROM events_app WHERE municipality_code = '131016' OR 1 = 1",
        "SELECT municipality_code FROM events_app WHERE municipality_code = '131032'",
        "SELECT municipality_code FROM events_app WHERE municipality_code <> '131016' OR municipality_code IS NULL",
        "SELECT municipality_code FROM events_app UNION ALL SELECT municipality_code FROM events_app WHERE true",
        "SELECT o.municipality_code FROM events_app i RIGHT JOIN events_app o ON i.session_id <> o.session_id",
        "SELECT municipality_code FROM (SELECT * FROM events_app) t WHERE EXISTS (SELECT 1 FROM events_app x WHERE x.municipality_code <> t.municipality_code OR true)",
        "WITH RECURSIVE r AS (SELECT municipality_code, 1 AS n FROM events_app UNION ALL SELECT municipality_code, n + 1 FROM r WHERE n < 2) SELECT municipality_code FROM r",
        "SELECT municipality_code FROM events_app WHERE jst_date = DATE '2026-11-21' OR jst_date IS NOT NULL",
        "SELECT min(municipality_code) FROM events_app UNION SELECT max(municipality_code) FROM events_app",
    ];
    for sql in attempts {
        let answer = table(&session, sql).await;
        assert!(!answer.contains(MINATO), "{sql}\n{answer}");
    }
    assert_eq!(number(&session, "SELECT count(*) FROM events_app").await, 15);
    let sessions = table(&session, "SELECT DISTINCT session_id FROM events_app").await;
    assert!(sessions.contains("s-131016") && !sessions.contains("s-131032"), "{sessions}");
    // Not even a plan names the other city's files.
    let plan = table(&session, "EXPLAIN SELECT * FROM events_app").await;
    assert!(plan.contains("131016") && !plan.contains(MINATO), "{plan}");
}

#[tokio::test]
async fn each_scope_has_its_rows_and_all_has_both() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    two_cities(&lake).await;
    let snapshot = lake.view().snapshot();
    for (scope, n) in [(one(CHIYODA), 15), (one(MINATO), 15), (one("999999"), 0), (Scope::All, 30)] {
        let session = session(&snapshot, &scope);
        assert_eq!(number(&session, "SELECT count(*) FROM events_app").await, n, "{scope:?}");
        let days: u64 = snapshot.days("app", &scope).values().map(|d| d.n_rows).sum();
        assert_eq!(i64::try_from(days).unwrap(), n);
    }
}

#[tokio::test]
async fn dimensions_have_the_same_wall() {
    use datafusion::arrow::{
        array::{ArrayRef, RecordBatch, StringArray},
        util::pretty::pretty_format_batches,
    };
    use std::sync::Arc;
    let facilities = |codes: Vec<Option<&str>>| {
        let names: Vec<String> = (0..codes.len()).map(|n| format!("園{n}")).collect();
        RecordBatch::try_from_iter([
            ("municipality_code", Arc::new(StringArray::from(codes)) as ArrayRef),
            ("name", Arc::new(StringArray::from(names)) as ArrayRef),
        ])
        .unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let batch = facilities(vec![Some(CHIYODA), Some(MINATO), Some(MINATO)]);
    assert!(lake.write_dimension(Dimension::Facilities, &batch).await.unwrap());
    assert!(
        !lake.write_dimension(Dimension::Facilities, &batch).await.unwrap(),
        "unchanged rows are not written again"
    );
    assert!(lake.write_dimension(Dimension::Facilities, &facilities(vec![Some(CHIYODA), None])).await.is_err());
    let lake = open(dir.path()).await;
    let provider = lake.view().snapshot().dimension(Dimension::Facilities, &one(CHIYODA)).unwrap();
    let session = datafusion::prelude::SessionContext::new();
    session.register_table("facilities", provider).unwrap();
    let answer = session.sql("SELECT * FROM facilities").await.unwrap().collect().await.unwrap();
    let answer = pretty_format_batches(&answer).unwrap().to_string();
    assert!(answer.contains("園0") && !answer.contains("園1"), "{answer}");
    assert!(lake.write_dimension(Dimension::Facilities, &facilities(vec![Some(MINATO)])).await.unwrap());
}
