//! What storage can do to the lake: nothing is lost by a refusal, and nothing is answered from half a table.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use todoke_lake::{
    CompactOptions, Dimension, Lake, LakeError, LakeOptions, LakeView, Origin, Recorded, Scope, Told, pin_lake,
};

use crate::support::*;

fn tomorrow() -> todoke_domain::Timestamp {
    at("2026-11-22T03:00:00Z")
}

/// Two commits, each with a file of one day.
async fn filled(dir: &Path) {
    let lake = open(dir).await;
    for n in 1..=2_u64 {
        lake.append(Origin::new("record", n as i64), &rows(&[view(n, CHIYODA)]), now()).await.unwrap();
    }
}

fn data_files(dir: &Path) -> Vec<PathBuf> {
    let day = dir.join(format!("app/municipality_code={CHIYODA}/jst_date=2026-11-21"));
    std::fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path()).collect()
}

async fn can_be_read(lake: &Lake) -> bool {
    let session = session(&lake.view().snapshot(), &Scope::All);
    match session.sql("SELECT session_id FROM events_app").await {
        Ok(frame) => frame.collect().await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn what_storage_refuses_stays_staged_and_is_committed_when_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    // A file where a folder belongs refuses everybody, whatever rights they have.
    let in_the_way = dir.path().join(format!("app/municipality_code={CHIYODA}"));
    std::fs::write(&in_the_way, b"").unwrap();
    let batch = rows(&[view(1, CHIYODA), view(2, MINATO), suspension(3, CHIYODA)]);
    lake.stage(Origin::new("record", 1), &batch).await.unwrap();
    for _ in 0..2 {
        let refused = lake.flush(now()).await;
        assert!(matches!(refused, Err(LakeError::Storage { .. })), "{refused:?}");
        assert_eq!(lake.staged_rows(), 3);
        assert_each_once(&lake, "app", 2).await;
        assert_each_once(&lake, "coupon", 1).await;
    }
    std::fs::remove_file(&in_the_way).unwrap();
    let flushed = lake.flush(now()).await.unwrap();
    assert_eq!((flushed.rows, flushed.through.values().copied().collect::<Vec<_>>()), (2, vec![1]));
    drop(lake);
    let lake = open(dir.path()).await;
    assert_each_once(&lake, "app", 2).await;
    assert_each_once(&lake, "coupon", 1).await;
}

/// Rows that cannot be read are an error to whoever asks for them, never fewer rows.
#[tokio::test]
async fn a_data_file_that_is_cut_off_or_missing_is_named_and_never_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let lake = open(dir.path()).await;
    let version = |lake: &Lake| lake.stats().iter().find(|table| table.table == "app").unwrap().version;
    let before = version(&lake);
    let file = data_files(dir.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    for cut in [Some(whole.len() - 1), Some(whole.len() / 2), Some(0), None] {
        match cut {
            Some(n_bytes) => std::fs::write(&file, &whole[..n_bytes]).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        assert!(!can_be_read(&lake).await, "{cut:?}");
        assert!(lake.compact("app", &CompactOptions::default(), tomorrow()).await.is_err(), "{cut:?}");
        assert_eq!(version(&lake), before, "a compaction that cannot read commits nothing");
        let check = lake.view().verify(&Recorded::default()).await;
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(check.faults.len() == 1 && check.faults[0].contains(name), "{cut:?}: {:?}", check.faults);
        std::fs::write(&file, &whole).unwrap();
    }
    assert_eq!(lake.compact("app", &CompactOptions::default(), tomorrow()).await.unwrap().files_before, 2);
    assert_each_once(&lake, "app", 2).await;
}

/// Only the last entry of a table's log can be torn by a crash; anything else is damage, and nobody goes on.
#[tokio::test]
async fn a_log_with_a_damaged_or_missing_middle_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let entry = dir.path().join("app/_delta_log/00000000000000000001.json");
    let whole = std::fs::read(&entry).unwrap();
    for damaged in [Some(&b"{broken"[..]), None] {
        match damaged {
            Some(bytes) => std::fs::write(&entry, bytes).unwrap(),
            None => std::fs::remove_file(&entry).unwrap(),
        }
        let refused = Lake::open(dir.path(), LakeOptions { fsync: false, ..LakeOptions::default() }).await;
        assert!(matches!(refused, Err(LakeError::Delta { .. })), "{damaged:?}: {refused:?}");
        std::fs::write(&entry, &whole).unwrap();
    }
    let lake = open(dir.path()).await;
    assert_each_once(&lake, "app", 2).await;
}

const MIDDLE: &str = "app/_delta_log/00000000000000000001.json";

/// The log library takes an empty entry for one that did nothing: its rows would be gone without a word.
#[tokio::test]
async fn an_empty_entry_before_the_last_is_refused_by_everybody_who_would_read_it() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let entry = dir.path().join(MIDDLE);
    let whole = std::fs::read(&entry).unwrap();
    std::fs::write(&entry, b"").unwrap();
    let names_it =
        |refused: &LakeError| matches!(refused, LakeError::DamagedEntry { path, .. } if path.ends_with(MIDDLE));
    for told in [0, 2] {
        let refused = opened(dir.path(), told).await.unwrap_err();
        assert!(names_it(&refused), "{refused:?}");
    }
    let copy = tempfile::tempdir().unwrap();
    let refused = pin_lake(dir.path(), copy.path()).await.unwrap_err();
    assert!(refused.to_string().contains("00000000000000000001.json"), "{refused:?}");
    let refused = LakeView::open_readonly(dir.path()).await.unwrap_err();
    assert!(names_it(&refused), "{refused:?}");
    std::fs::write(&entry, whole).unwrap();
    let lake = opened(dir.path(), 2).await.unwrap();
    assert_each_once(&lake, "app", 2).await;
    // Behind a checkpoint nobody reads it.
    lake.checkpoint("app").await.unwrap();
    drop(lake);
    std::fs::write(&entry, b"").unwrap();
    assert_each_once(&opened(dir.path(), 2).await.unwrap(), "app", 2).await;
}

/// As [`filled`], with checkpoints at some of the versions.
async fn with_checkpoints(dir: &Path, at: &[u64]) {
    let lake = open(dir).await;
    for n in 1..=2_u64 {
        lake.append(Origin::new("record", n as i64), &rows(&[view(n, CHIYODA)]), now()).await.unwrap();
        if at.contains(&n) {
            lake.checkpoint("app").await.unwrap();
        }
    }
}

const CHECKPOINT: &str = "app/_delta_log/00000000000000000002.checkpoint.parquet";
const HINT: &str = "app/_delta_log/_last_checkpoint";

/// What of a checkpoint is on the disk after a power cut; `None` if not even its name.
type Torn = fn(Vec<u8>) -> Option<Vec<u8>>;

const TORN: [(&str, Torn); 5] = [
    ("missing", |_| None),
    ("empty", |_| Some(Vec::new())),
    ("cut off", |whole| Some(whole[..whole.len() / 2].to_vec())),
    ("zeros", |whole| Some(vec![0; whole.len()])),
    ("zeros in the middle", |mut whole| {
        let half = whole.len() / 2;
        whole[4..half].fill(0);
        Some(whole)
    }),
];

/// Nothing of a table is lost with a checkpoint, as long as there is what it repeats.
#[tokio::test]
async fn a_checkpoint_that_power_loss_tore_is_deleted_and_the_table_opens() {
    for (what, torn) in TORN {
        for at in [&[2][..], &[1, 2]] {
            let dir = tempfile::tempdir().unwrap();
            with_checkpoints(dir.path(), at).await;
            let checkpoint = dir.path().join(CHECKPOINT);
            match torn(std::fs::read(&checkpoint).unwrap()) {
                Some(left) => std::fs::write(&checkpoint, left).unwrap(),
                None => std::fs::remove_file(&checkpoint).unwrap(),
            }
            let lake = opened(dir.path(), 2).await.unwrap_or_else(|refused| panic!("{what}, {at:?}: {refused:?}"));
            assert!(!checkpoint.exists() && !dir.path().join(HINT).exists(), "{what}, {at:?}");
            assert_each_once(&lake, "app", 2).await;
            lake.append(Origin::new("record", 3), &rows(&[view(3, CHIYODA)]), now()).await.unwrap();
            lake.checkpoint("app").await.unwrap();
            drop(lake);
            let lake = opened(dir.path(), 3).await.unwrap();
            assert_each_once(&lake, "app", 3).await;
            assert!(dir.path().join(HINT).exists(), "a checkpoint that can be read stays");
        }
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_stays_where_entries_that_it_stands_for_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    with_checkpoints(dir.path(), &[2]).await;
    for version in 0..2 {
        std::fs::remove_file(dir.path().join(format!("app/_delta_log/{version:020}.json"))).unwrap();
    }
    let checkpoint = dir.path().join(CHECKPOINT);
    let whole = std::fs::read(&checkpoint).unwrap();
    std::fs::write(&checkpoint, &whole[..whole.len() / 2]).unwrap();
    let refused = opened(dir.path(), 2).await.unwrap_err();
    let names_it = matches!(&refused, LakeError::DamagedEntry { path, .. } if path.ends_with(CHECKPOINT));
    assert!(names_it && checkpoint.is_file(), "{refused:?}");
    std::fs::write(&checkpoint, whole).unwrap();
    assert_each_once(&opened(dir.path(), 2).await.unwrap(), "app", 2).await;
}

/// The newest entry of `app` of which is known that it and all before it are on the disk.
fn synced(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("app/_delta_log/_last_synced")).unwrap()
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_is_nothing_to_the_commit_and_comes_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let every_second = LakeOptions { checkpoint_every: 2, ..options(true) };
    let lake = Lake::open(dir.path(), every_second).await.unwrap();
    // A folder where the file belongs refuses everybody, whatever rights they have.
    let in_the_way = dir.path().join("app/_delta_log/00000000000000000001.checkpoint.parquet");
    std::fs::create_dir(&in_the_way).unwrap();
    let (origin, first) = (Origin::new("record", 1), rows(&[view(1, CHIYODA)]));
    assert_eq!(lake.append(origin.clone(), &first, now()).await.unwrap().rows, 1);
    assert_eq!((lake.staged_rows(), synced(dir.path()).as_str()), (0, "1"));
    assert_eq!(lake.append(origin, &first, now()).await.unwrap().rows, 0);
    std::fs::remove_dir(&in_the_way).unwrap();
    lake.append(Origin::new("record", 2), &rows(&[view(2, CHIYODA)]), now()).await.unwrap();
    assert!(dir.path().join(CHECKPOINT).is_file());
    drop(lake);
    assert_each_once(&opened(dir.path(), 2).await.unwrap(), "app", 2).await;
}

/// Who was killed between writing an entry and syncing it leaves it to the others.
#[tokio::test]
async fn an_entry_of_another_process_is_synced_before_its_rows_count_as_committed() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path(), options(true)).await.unwrap();
    let other = Lake::open(dir.path(), options(false)).await.unwrap();
    let (origin, batch) = (Origin::new("record", 1), rows(&[view(1, CHIYODA)]));
    assert_eq!(other.append(origin.clone(), &batch, now()).await.unwrap().rows, 1);
    assert_eq!(synced(dir.path()), "0", "the other one syncs nothing");
    let flushed = lake.append(origin, &batch, now()).await.unwrap();
    assert_eq!((flushed.rows, flushed.through.get("record")), (0, Some(&1)));
    assert_eq!(synced(dir.path()), "1");
}

/// Reference data is a copy of what the record has: no start fails of it.
#[tokio::test]
async fn a_dimension_that_cannot_be_read_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let facilities = RecordBatch::try_from_iter([
        ("municipality_code", Arc::new(StringArray::from(vec![CHIYODA])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec!["園"])) as ArrayRef),
    ])
    .unwrap();
    let lake = Lake::open(dir.path(), options(true)).await.unwrap();
    assert!(lake.write_dimension(Dimension::Facilities, &facilities).await.unwrap());
    drop(lake);
    let table = dir.path().join("dim_facilities");
    for (folder, ending, left) in [(table.join("_delta_log"), "json", "{broken"), (table, "parquet", "")] {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|found| found == ending));
        assert!(!files.is_empty(), "{ending}");
        for file in files {
            std::fs::write(file, left).unwrap();
        }
        for (is_written, what) in [(true, "it is gone, and comes again"), (false, "it is there")] {
            let lake = Lake::open(dir.path(), options(true)).await.unwrap();
            let written = lake.write_dimension(Dimension::Facilities, &facilities).await.unwrap();
            assert_eq!(written, is_written, "{ending}: {what}");
        }
    }
}

/// The last entry of the log that [`filled`] leaves.
const LAST: &str = "app/_delta_log/00000000000000000002.json";

fn options(fsync: bool) -> LakeOptions {
    LakeOptions { fsync, ..LakeOptions::default() }
}

async fn opened(dir: &Path, record_told: i64) -> Result<Arc<Lake>, LakeError> {
    let told = Told::Through(BTreeMap::from([("record".to_owned(), record_told)]));
    Lake::open_told(dir, options(false), &told).await
}

fn is_refused(opened: &Result<Arc<Lake>, LakeError>, entry: &Path) -> bool {
    matches!(opened, Err(LakeError::DamagedEntry { path, .. }) if path.ends_with(LAST)) && entry.is_file()
}

/// Who cannot read an entry does not know what it holds.
#[tokio::test]
async fn a_last_entry_that_cannot_be_read_is_refused_by_name_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let entry = dir.path().join(LAST);
    let whole = std::fs::read(&entry).unwrap();
    // A folder cannot be read as a file, whatever rights one has.
    std::fs::remove_file(&entry).unwrap();
    std::fs::create_dir(&entry).unwrap();
    let refused = opened(dir.path(), 1).await;
    assert!(matches!(&refused, Err(LakeError::UnreadableEntry { path, .. }) if path.ends_with(LAST)), "{refused:?}");
    std::fs::remove_dir(&entry).unwrap();
    std::fs::write(&entry, whole).unwrap();
    assert_each_once(&opened(dir.path(), 2).await.unwrap(), "app", 2).await;
}

#[tokio::test]
async fn a_damaged_entry_is_set_aside_only_if_its_source_was_not_told_of_it() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let entry = dir.path().join(LAST);
    let whole = std::fs::read(&entry).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let without_txn: Vec<&str> = text.lines().filter(|line| !line.contains("\"txn\"")).collect();
    let broken = |lines: String| [lines.as_bytes(), b"\n{\"add\":\xff"].concat();
    for (damaged, what) in [
        (Vec::new(), "empty"),
        (broken(text.clone()), "its version can be read"),
        (broken(without_txn.join("\n")), "its version cannot be read, and bytes are no text"),
    ] {
        std::fs::write(&entry, &damaged).unwrap();
        assert!(is_refused(&opened(dir.path(), 2).await, &entry), "{what}: the second batch was acknowledged");
        let unknown = Lake::open_told(dir.path(), options(false), &Told::Unknown).await;
        assert!(is_refused(&unknown, &entry), "{what}: {unknown:?}");
        let copy = tempfile::tempdir().unwrap();
        let pinned = pin_lake(dir.path(), copy.path()).await;
        assert!(
            matches!(pinned, Err(LakeError::DamagedEntry { .. })),
            "{what}: no backup without its rows: {pinned:?}"
        );
    }
    // Only the first one was acknowledged: the second comes again.
    let lake = opened(dir.path(), 1).await.unwrap();
    assert!(!entry.exists() && entry.with_extension("json.torn").is_file());
    assert_each_once(&lake, "app", 1).await;
    assert_eq!(lake.append(Origin::new("record", 2), &rows(&[view(2, CHIYODA)]), now()).await.unwrap().rows, 1);
    assert_each_once(&lake, "app", 2).await;
}

/// What power loss cannot tear any more is damage, also where no source can tell: of a compaction, or of history.
#[tokio::test]
async fn an_entry_that_was_synced_is_never_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path(), options(true)).await.unwrap();
    lake.append_bulk(&rows(&[view(1, CHIYODA)]), now()).await.unwrap();
    lake.append_bulk(&rows(&[view(2, CHIYODA)]), now()).await.unwrap();
    drop(lake);
    let entry = dir.path().join(LAST);
    let whole = std::fs::read(&entry).unwrap();
    std::fs::write(&entry, b"").unwrap();
    for _ in 0..2 {
        let refused = Lake::open(dir.path(), options(true)).await;
        assert!(is_refused(&refused, &entry), "{refused:?}");
    }
    std::fs::write(&entry, whole).unwrap();
    let lake = Lake::open(dir.path(), options(true)).await.unwrap();
    assert_each_once(&lake, "app", 2).await;
}
