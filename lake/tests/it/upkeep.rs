//! Compaction, vacuum, checkpoints, history.

use std::{sync::Arc, time::Duration};

use datafusion::{
    arrow::{
        array::AsArray,
        compute::cast,
        datatypes::{DataType, TimestampMicrosecondType},
    },
    parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
};
use serde_json::json;
use todoke_domain::Event;
use todoke_lake::{CompactOptions, LakeError, LakeView, Origin, Scope, Upkeep, pin_lake};

use crate::support::*;

fn files(dir: &std::path::Path) -> usize {
    fn walk(dir: &std::path::Path) -> usize {
        std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                if path.is_dir() { walk(&path) } else { usize::from(path.extension().is_some_and(|e| e == "parquet")) }
            })
            .sum()
    }
    walk(&dir.join("app/municipality_code=131016"))
}

#[tokio::test]
async fn compaction_keeps_every_row_sorted_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    for n in 1..=12_u64 {
        let kind = if n % 2 == 0 { "app.screen_viewed" } else { "app.session_ended" };
        let payload = if n % 2 == 0 {
            json!({ "session_id": "s", "screen_id": "G01" })
        } else {
            json!({ "session_id": "s", "duration_ms": 1, "screens": 1, "end_reason": "logout" })
        };
        let yesterday = event(n, kind, CHIYODA, at("2026-11-20T01:00:00Z"), payload);
        lake.append(Origin::new("record", n as i64), &rows(&[yesterday, view(100 + n, CHIYODA)]), now()).await.unwrap();
    }
    let before = lake.view().snapshot();
    let done = lake.compact("app", &CompactOptions::default(), now()).await.unwrap();
    // Yesterday's twelve files became one; today's twelve are not enough yet.
    assert_eq!((done.partitions, done.files_before, done.files_after), (1, 12, 1));
    assert_each_once(&lake, "app", 24).await;
    assert_eq!(lake.stats().iter().find(|t| t.table == "app").unwrap().files, 13);
    let session = session(&lake.view().snapshot(), &Scope::All);
    let types = table(&session, "SELECT event_type FROM events_app WHERE jst_date = DATE '2026-11-20'").await;
    assert!(types.rfind("app.screen_viewed") < types.find("app.session_ended"), "{types}");
    assert_eq!(lake.compact("app", &CompactOptions::default(), now()).await.unwrap().partitions, 0);
    // A picture taken before still has its files.
    assert_eq!(number(&crate::support::session(&before, &Scope::All), "SELECT count(*) FROM events_app").await, 24);
    // Replays are still recognised, also by a process that starts now.
    drop(lake);
    let lake = open(dir.path()).await;
    assert_eq!(lake.append(Origin::new("record", 12), &rows(&[view(112, CHIYODA)]), now()).await.unwrap().rows, 0);
}

/// Forty files of one day, some of whose events are in several of them: joined without holding their rows.
#[tokio::test]
async fn a_compaction_of_many_files_stays_within_its_memory_and_keeps_the_same_rows() {
    const FILES: u64 = 40;
    const FILE_ROWS: u64 = 1_500;
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let options = CompactOptions { memory_bytes_max: 24 << 20, ..CompactOptions::default() };
    let mut decoded_bytes = 0;
    for file in 0..FILES {
        // Interleaved, so that each file has rows from the whole day; and the first of each is in the next one again.
        let mut numbers: Vec<u64> = (0..FILE_ROWS).map(|n| 1 + n * FILES + file).collect();
        numbers.extend((file > 0).then_some(file));
        let yesterday = numbers.into_iter().map(|n| {
            let occurred_at = at("2026-11-20T01:00:00Z").plus(Duration::from_millis(n));
            let seen = json!({ "session_id": "s", "screen_id": "G01", "dwell_ms": n });
            let ended = json!({ "session_id": "s", "duration_ms": n, "screens": 1, "end_reason": "logout" });
            let (kind, payload) = if n % 3 == 0 { ("app.session_ended", ended) } else { ("app.screen_viewed", seen) };
            event(n, kind, CHIYODA, occurred_at, payload)
        });
        let rows = rows(&yesterday.collect::<Vec<_>>());
        decoded_bytes += rows.table("app").unwrap().get_array_memory_size();
        lake.append(Origin::new("record", 1 + file as i64), &rows, now()).await.unwrap();
    }
    assert!(decoded_bytes as u64 > options.memory_bytes_max, "{decoded_bytes} bytes would fit as they are");
    let done = lake.compact("app", &options, now()).await.unwrap();
    assert_eq!((done.files_before, done.files_after), (FILES as usize, 1));
    assert_eq!((done.repetitions, done.conflicts), (FILES as usize - 1, 0));
    assert!(done.held_bytes_max > 0 && done.held_bytes_max as u64 <= options.memory_bytes_max, "{done:?}");
    let n_rows = (FILES * FILE_ROWS) as i64;
    assert_each_once(&lake, "app", n_rows).await;
    let session = session(&lake.view().snapshot(), &Scope::All);
    // What belongs together stayed together: every value of a row comes from its number.
    let whole = "SELECT count(*) FROM events_app WHERE CAST(subject_id AS BIGINT) = COALESCE(dwell_ms, duration_ms) \
                 AND event_type = CASE WHEN dwell_ms IS NULL THEN 'app.session_ended' ELSE 'app.screen_viewed' END";
    assert_eq!(number(&session, whole).await, n_rows);
    // Sorted over the whole file, as it lies there.
    let file = sole_file(&dir.path().join(format!("app/municipality_code={CHIYODA}/jst_date=2026-11-20")));
    let mut last = (String::new(), i64::MIN);
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let types = cast(batch.column_by_name("event_type").unwrap(), &DataType::Utf8View).unwrap();
        let times = batch.column_by_name("occurred_at").unwrap().as_primitive::<TimestampMicrosecondType>();
        for (event_type, time) in types.as_string_view().iter().zip(times.iter()) {
            let key = (event_type.unwrap().to_owned(), time.unwrap());
            assert!(last <= key, "{key:?} after {last:?}");
            last = key;
        }
    }
}

/// The file that a compaction made of a day; what it replaced is there until vacuum.
fn sole_file(day: &std::path::Path) -> std::fs::File {
    let paths = std::fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path());
    let mut joined = paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("once-"));
    let path = joined.next().expect("a joined file");
    assert!(joined.next().is_none(), "more than one in {}", day.display());
    std::fs::File::open(path).unwrap()
}

/// A memory that is too small for several files does not end compaction, and does not make it go round in circles.
#[tokio::test]
async fn files_are_joined_in_pairs_where_the_memory_has_no_room_for_more() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    for n in 1..=5_u64 {
        lake.append(Origin::new("record", n as i64), &rows(&[view(n, CHIYODA)]), now()).await.unwrap();
    }
    let options = CompactOptions { memory_bytes_max: 512 << 10, today_files_min: 2, ..CompactOptions::default() };
    let done = lake.compact("app", &options, now()).await.unwrap();
    assert!(done.partitions < options.partitions_max, "{done:?}");
    assert!(done.files_before > done.files_after, "{done:?}");
    assert_each_once(&lake, "app", 5).await;
}

#[tokio::test]
async fn vacuum_removes_files_without_a_commit_and_refuses_short_retentions() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.append(Origin::new("record", 1), &rows(&[view(1, CHIYODA)]), now()).await.unwrap();
    let orphan = dir.path().join("app/municipality_code=131016/jst_date=2026-11-21/part-orphan.parquet");
    std::fs::write(&orphan, b"left by a crash").unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(&orphan).unwrap().set_modified(long_ago).unwrap();
    assert!(matches!(lake.vacuum("app", Duration::from_secs(1)).await, Err(LakeError::RetentionTooShort { .. })));
    assert_eq!(lake.vacuum("app", Duration::from_secs(7_200)).await.unwrap(), 1);
    assert!(!orphan.exists());
    assert_eq!(files(dir.path()), 1);
    assert_each_once(&lake, "app", 1).await;
    lake.append(Origin::new("record", 2), &rows(&[view(2, CHIYODA)]), now()).await.unwrap();
    assert_each_once(&lake, "app", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_go_on_while_a_vacuum_deletes_file_by_file() {
    const ORPHANS: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.append(Origin::new("record", 1), &rows(&[view(1, CHIYODA)]), now()).await.unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for n in 0..ORPHANS {
        let orphan =
            dir.path().join(format!("app/municipality_code=131016/jst_date=2026-11-21/part-orphan-{n}.parquet"));
        std::fs::File::create(&orphan).unwrap().set_modified(long_ago).unwrap();
    }
    let vacuumed = Arc::clone(&lake);
    let vacuum = tokio::spawn(async move { vacuumed.vacuum("app", Duration::from_secs(7_200)).await });
    while files(dir.path()) > ORPHANS && !vacuum.is_finished() {
        tokio::task::yield_now().await;
    }
    lake.append(Origin::new("record", 2), &rows(&[view(2, CHIYODA)]), now()).await.unwrap();
    assert!(!vacuum.is_finished(), "the commit waited for the vacuum");
    assert_eq!(vacuum.await.unwrap().unwrap(), ORPHANS);
    assert_eq!(files(dir.path()), 2);
    assert_each_once(&lake, "app", 2).await;
    let version = lake.stats().iter().find(|table| table.table == "app").unwrap().version;
    assert_eq!(version, 2, "the log has nothing but the two commits");
}

#[tokio::test]
async fn a_checkpoint_carries_everything() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    for n in 1..=5_u64 {
        lake.append(Origin::new("record", n as i64), &rows(&[view(n, CHIYODA)]), now()).await.unwrap();
    }
    lake.checkpoint("app").await.unwrap();
    let watermark = lake.view().snapshot().watermark();
    drop(lake);
    let lake = open(dir.path()).await;
    assert_eq!(lake.view().snapshot().watermark(), watermark);
    assert_eq!(lake.append(Origin::new("record", 5), &rows(&[view(5, CHIYODA)]), now()).await.unwrap().rows, 0);
    assert_each_once(&lake, "app", 5).await;
    let plan = table(
        &session(&lake.view().snapshot(), &Scope::All),
        "EXPLAIN SELECT * FROM events_app WHERE occurred_at < TIMESTAMP '2026-01-01T00:00:00Z'",
    )
    .await;
    assert!(!plan.contains("/part-"), "bounds were lost in the checkpoint\n{plan}");
}

#[tokio::test]
async fn history_is_loaded_one_file_per_day() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let history: Vec<Event> = (0..400_u64)
        .map(|n| {
            let day = Duration::from_secs(86_400 * (n % 40));
            let payload = json!({ "session_id": "s", "screen_id": "G01" });
            event(
                n + 1,
                "app.screen_viewed",
                if n % 2 == 0 { CHIYODA } else { MINATO },
                at("2026-09-01T01:00:00Z").plus(day),
                payload,
            )
        })
        .collect();
    let report = lake.append_bulk(&rows(&history), now()).await.unwrap();
    assert_eq!((report.rows, report.tables), (400, 1));
    assert_each_once(&lake, "app", 400).await;
    assert_eq!(lake.stats().iter().find(|t| t.table == "app").unwrap().files, 40);
    let reader = LakeView::open_readonly(dir.path()).await.unwrap();
    assert_eq!(reader.snapshot().days("app", &one(CHIYODA)).len(), 20);
}

#[tokio::test]
async fn a_pinned_version_is_whole_while_the_lake_goes_on() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lake = open(dir.path()).await;
    for n in 1..=31_u64 {
        if n == 31 {
            lake.checkpoint("app").await.unwrap();
        }
        lake.append(Origin::new("record", n as i64), &rows(&[view(n, CHIYODA)]), now()).await.unwrap();
    }
    let pinned = pin_lake(dir.path(), copy.path()).await.unwrap();
    let app: Vec<&String> = pinned.log_files.iter().filter(|file| file.starts_with("app/")).collect();
    assert!(app.len() == 3 && app[2].ends_with(".checkpoint.parquet"), "{app:?}");
    // What comes later replaces the files of this version, and is not in it.
    lake.append(Origin::new("record", 32), &rows(&[view(32, CHIYODA)]), now()).await.unwrap();
    assert_eq!(lake.compact("app", &CompactOptions::default(), now()).await.unwrap().partitions, 1);
    assert_eq!(pinned.data_files.len(), 31);
    for file in &pinned.data_files {
        let target = copy.path().join(file);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(dir.path().join(file), target).unwrap();
    }
    let copied = open(copy.path()).await;
    assert_each_once(&copied, "app", 31).await;
    // It knows which batches it has, and takes the next one.
    for (n, taken) in [(31_u64, 0_u64), (32, 1)] {
        let flushed = copied.append(Origin::new("record", n as i64), &rows(&[view(n, CHIYODA)]), now()).await.unwrap();
        assert_eq!(flushed.rows, taken, "batch {n}");
    }
}

#[tokio::test]
async fn when_the_lake_was_vacuumed_is_known_to_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.append(Origin::new("record", 1), &rows(&[view(1, CHIYODA)]), now()).await.unwrap();
    assert_eq!(lake.upkeep().await.unwrap(), Upkeep::default());
    lake.note_upkeep(&Upkeep { looked_at: Some(now()), vacuumed_at: None }).await.unwrap();
    let orphan = dir.path().join("app/municipality_code=131016/jst_date=2026-11-21/part-orphan.parquet");
    std::fs::write(&orphan, b"left by a crash").unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(&orphan).unwrap().set_modified(long_ago).unwrap();
    assert!(lake.vacuum_all(Duration::from_secs(1), now()).await.is_err());
    assert!(lake.upkeep().await.unwrap().vacuum_is_due(now()), "what failed is due as before");
    assert_eq!(lake.vacuum_all(Duration::from_secs(7_200), now()).await.unwrap(), 1);
    assert!(!orphan.exists());
    drop(lake);
    let lake = open(dir.path()).await;
    let noted = lake.upkeep().await.unwrap();
    assert_eq!(noted, Upkeep { looked_at: Some(now()), vacuumed_at: Some(now()) });
    let (hours_later, a_day_later) = (at("2026-11-21T20:00:00Z"), at("2026-11-22T03:00:00Z"));
    assert!(!noted.vacuum_is_due(hours_later) && noted.vacuum_is_due(a_day_later));
    // A note that was cut off says nothing, and keeps nobody from anything.
    std::fs::write(dir.path().join("upkeep.json"), b"{\"looked").unwrap();
    assert_eq!(lake.upkeep().await.unwrap(), Upkeep::default());
    assert_each_once(&lake, "app", 1).await;
}

/// The quarantine is a table like the others: its files are joined as well.
#[tokio::test]
async fn every_table_that_is_listed_can_be_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    for n in 1..=3_u64 {
        let bad = event(n, "app.unheard_of", CHIYODA, at("2026-11-20T01:00:00Z"), json!({}));
        lake.append(Origin::new("record", n as i64), &rows(&[bad]), now()).await.unwrap();
    }
    let files = |table: &str| lake.stats().into_iter().find(|found| found.table == table).map(|found| found.files);
    assert_eq!(files("quarantine"), Some(3));
    for table in lake.stats() {
        lake.compact(&table.table, &CompactOptions::default(), now()).await.unwrap();
    }
    assert_eq!(files("quarantine"), Some(1));
}
