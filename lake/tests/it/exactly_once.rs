//! Whatever is repeated or interrupted, each event is in its table once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use todoke_domain::Event;
use todoke_lake::{LakeView, Origin, Scope};

use crate::support::*;

fn views(range: std::ops::RangeInclusive<u64>) -> Vec<Event> {
    range.map(|n| view(n, CHIYODA)).collect()
}

#[tokio::test]
async fn a_replayed_origin_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let batch = rows(&views(1..=10));
    let first = lake.append(Origin::new("record", 1), &batch, now()).await.unwrap();
    assert_eq!(first.rows, 10);
    let again = lake.append(Origin::new("record", 1), &batch, now()).await.unwrap();
    assert_eq!(again.rows, 0);
    assert_eq!(again.through[&Arc::<str>::from("record")], 1);
    // Another application counts for itself.
    let other: Vec<Event> = views(11..=12);
    assert_eq!(lake.append(Origin::new("usage:a", 1), &rows(&other), now()).await.unwrap().rows, 2);
    assert_each_once(&lake, "app", 12).await;
}

#[tokio::test]
async fn a_crash_before_the_flush_loses_only_what_its_source_still_has() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.stage(Origin::new("record", 1), &rows(&views(1..=5))).await.unwrap();
    assert_each_once(&lake, "app", 5).await;
    drop(lake);
    let lake = open(dir.path()).await;
    assert_eq!(count(&lake, "app").await, 0);
    lake.append(Origin::new("record", 1), &rows(&views(1..=5)), now()).await.unwrap();
    assert_each_once(&lake, "app", 5).await;
}

#[tokio::test]
async fn a_crash_between_two_tables_is_completed_by_the_replay() {
    let dir = tempfile::tempdir().unwrap();
    let both = [view(1, CHIYODA), suspension(2, CHIYODA)];
    {
        // The crash: of batch 1 only the table `app` was committed.
        let lake = open(dir.path()).await;
        lake.append(Origin::new("record", 1), &rows(&both[..1]), now()).await.unwrap();
    }
    let lake = open(dir.path()).await;
    lake.stage(Origin::new("record", 1), &rows(&both)).await.unwrap();
    // Before the flush already: the committed half is not shown a second time.
    assert_each_once(&lake, "app", 1).await;
    assert_each_once(&lake, "coupon", 1).await;
    let flushed = lake.flush(now()).await.unwrap();
    assert_eq!(flushed.rows, 1);
    assert_each_once(&lake, "app", 1).await;
    assert_each_once(&lake, "coupon", 1).await;
}

#[tokio::test]
async fn a_crash_after_the_flush_and_before_the_report_replays_into_nothing() {
    let dir = tempfile::tempdir().unwrap();
    {
        let lake = open(dir.path()).await;
        for batch in 1..=3_u64 {
            lake.stage(Origin::new("record", batch as i64), &rows(&views(batch * 10 + 1..=batch * 10 + 10)))
                .await
                .unwrap();
        }
        let flushed = lake.flush(now()).await.unwrap();
        assert_eq!(flushed.through[&Arc::<str>::from("record")], 3);
        // Three batches, one commit: versions 0 (created) and 1.
        assert_eq!(lake.stats().iter().find(|t| t.table == "app").unwrap().version, 1);
    }
    let lake = open(dir.path()).await;
    for batch in 1..=4_u64 {
        let events = views(batch * 10 + 1..=batch * 10 + 10);
        lake.stage(Origin::new("record", batch as i64), &rows(&events)).await.unwrap();
    }
    assert_each_once(&lake, "app", 40).await;
    assert_eq!(lake.flush(now()).await.unwrap().rows, 10);
    assert_each_once(&lake, "app", 40).await;
}

#[tokio::test]
async fn a_log_entry_torn_by_a_power_cut_is_set_aside_and_its_rows_come_again() {
    for torn in ["", "{\"commitInfo\":{\"timestamp\":17"] {
        let dir = tempfile::tempdir().unwrap();
        let lake = open(dir.path()).await;
        lake.append(Origin::new("record", 1), &rows(&views(1..=3)), now()).await.unwrap();
        lake.append(Origin::new("record", 2), &rows(&views(4..=6)), now()).await.unwrap();
        drop(lake);
        std::fs::write(dir.path().join("app/_delta_log/00000000000000000002.json"), torn).unwrap();
        let lake = open(dir.path()).await;
        assert_each_once(&lake, "app", 3).await;
        assert_eq!(lake.append(Origin::new("record", 2), &rows(&views(4..=6)), now()).await.unwrap().rows, 3);
        assert_each_once(&lake, "app", 6).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_query_sees_a_row_twice_or_misses_one_while_flushing() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let staged = Arc::new(AtomicI64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn({
        let (lake, staged, done) = (Arc::clone(&lake), Arc::clone(&staged), Arc::clone(&done));
        async move {
            for batch in 0..40_u64 {
                let events = views(batch * 25 + 1..=batch * 25 + 25);
                lake.stage(Origin::new("record", batch as i64 + 1), &rows(&events)).await.unwrap();
                staged.fetch_add(25, Ordering::SeqCst);
                if batch % 3 == 2 {
                    lake.flush(now()).await.unwrap();
                }
            }
            lake.flush(now()).await.unwrap();
            done.store(true, Ordering::SeqCst);
        }
    });
    tasks.spawn({
        let (lake, done) = (Arc::clone(&lake), Arc::clone(&done));
        async move {
            while !done.load(Ordering::SeqCst) {
                lake.compact("app", &todoke_lake::CompactOptions { today_files_min: 2, ..Default::default() }, now())
                    .await
                    .unwrap();
                lake.view().refresh().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    let mut n_queries = 0;
    loop {
        let last = done.load(Ordering::SeqCst);
        let before = staged.load(Ordering::SeqCst);
        let session = session(&lake.view().snapshot(), &Scope::All);
        let answer = query(&session, "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events_app").await;
        let cell = |i: usize| {
            datafusion::arrow::array::AsArray::as_primitive::<datafusion::arrow::datatypes::Int64Type>(
                answer[0].column(i),
            )
            .value(0)
        };
        let (n, ids) = (cell(0), cell(1));
        assert_eq!(n, ids, "a row was seen twice");
        assert!(n >= before, "{n} rows seen, {before} were staged before the query");
        assert_eq!(n % 25, 0, "half a batch was seen");
        n_queries += 1;
        // Also when the first query took longer than all the writing.
        if last && n_queries > 3 {
            break;
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_each_once(&lake, "app", 1_000).await;
}

#[tokio::test]
async fn another_process_sees_commits_and_not_what_is_staged() {
    let dir = tempfile::tempdir().unwrap();
    let reader_before = LakeView::open_readonly(&dir.path().join("absent")).await.unwrap();
    assert!(!dir.path().join("absent").exists(), "reading must not create anything");
    assert_eq!(reader_before.snapshot().watermark(), None);
    let lake = open(dir.path()).await;
    lake.append(Origin::new("record", 1), &rows(&views(1..=3)), now()).await.unwrap();
    let reader = LakeView::open_readonly(dir.path()).await.unwrap();
    let seen = reader.snapshot();
    lake.stage(Origin::new("record", 2), &rows(&views(4..=6))).await.unwrap();
    assert!(!reader.refresh().await.unwrap());
    assert_eq!(reader.snapshot().id(), seen.id());
    let own = lake.view().snapshot();
    assert_ne!(own.id(), seen.id());
    assert!(own.watermark() > seen.watermark());
    lake.flush(now()).await.unwrap();
    assert!(reader.refresh().await.unwrap());
    let session = session(&reader.snapshot(), &Scope::All);
    assert_eq!(number(&session, "SELECT count(*) FROM events_app").await, 6);
    // What committed by both is named alike, in whatever process.
    assert_eq!(reader.snapshot().id(), lake.view().snapshot().id());
}

#[tokio::test]
async fn two_processes_that_take_over_from_each_other_write_each_batch_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).await;
    let second = open(dir.path()).await;
    let batch = rows(&views(1..=10));
    // The lease changed hands while batch 1 was staged on the first node.
    first.stage(Origin::new("record", 1), &batch).await.unwrap();
    second.stage(Origin::new("record", 1), &batch).await.unwrap();
    assert_eq!(second.flush(now()).await.unwrap().rows, 10);
    assert_eq!(first.flush(now()).await.unwrap().rows, 0);
    assert_each_once(&first, "app", 10).await;
    // Different origins on both nodes go on side by side.
    first.stage(Origin::new("usage:a", 1), &rows(&views(11..=12))).await.unwrap();
    second.stage(Origin::new("usage:b", 1), &rows(&views(13..=14))).await.unwrap();
    first.flush(now()).await.unwrap();
    second.flush(now()).await.unwrap();
    first.view().refresh().await.unwrap();
    assert_each_once(&first, "app", 14).await;
    assert_each_once(&second, "app", 14).await;
}
