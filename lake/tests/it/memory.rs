//! Compactions of far more than their memory: it is kept, and the rows are those that should be there.

use std::time::Duration;

use todoke_domain::{Event, Timestamp};
use todoke_lake::{CompactOptions, Compacted, EventRows, Lake, LakeOptions, Origin, QUARANTINE, Scope, TableStats};

use crate::support::*;

const MEMORY: u64 = 24 << 20;

fn options() -> CompactOptions {
    CompactOptions { memory_bytes_max: MEMORY, ..CompactOptions::default() }
}

fn tomorrow() -> Timestamp {
    at("2026-11-22T03:00:00Z")
}

fn app(lake: &Lake) -> TableStats {
    lake.stats().into_iter().find(|table| table.table == "app").unwrap()
}

fn decoded_bytes(rows: &EventRows) -> u64 {
    rows.table("app").unwrap().get_array_memory_size() as u64
}

fn assert_kept(done: &Compacted, memory: u64) {
    assert!(done.held_bytes_max > 0 && done.held_bytes_max as u64 <= memory, "{done:?}");
    assert_eq!(done.files_too_large, 0, "{done:?}");
}

/// Every row is whole: what a view shows twice is the same.
async fn assert_whole(lake: &Lake, n: i64) {
    assert_each_once(lake, "app", n).await;
    let session = session(&lake.view().snapshot(), &Scope::All);
    let whole = "SELECT count(*) FROM events_app WHERE CAST(subject_id AS BIGINT) = dwell_ms";
    assert_eq!(number(&session, whole).await, n);
}

/// What the same id says that is no repetition: it was an hour later.
fn forged(event: Event) -> Event {
    Event { occurred_at: event.occurred_at.plus(Duration::from_secs(3_600)), ..event }
}

#[tokio::test]
async fn any_number_of_repetitions_has_room() {
    const FILES: u64 = 32;
    const EVENTS: u64 = 5_000;
    const FORGED: u64 = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let same = rows(&(1..=EVENTS).map(|n| view(n, CHIYODA)).collect::<Vec<_>>());
    assert!(FILES * decoded_bytes(&same) > 3 * MEMORY, "{} bytes a file", decoded_bytes(&same));
    for file in 1..=FILES {
        lake.append(Origin::new("usage:a", file as i64), &same, now()).await.unwrap();
    }
    let other: Vec<Event> = (1..=FORGED).map(|n| forged(view(n, CHIYODA))).collect();
    let other = EventRows::build(&other, at("2026-11-21T09:00:00Z")).unwrap();
    lake.append(Origin::new("usage:b", 1), &other, now()).await.unwrap();
    let done = lake.compact("app", &options(), tomorrow()).await.unwrap();
    assert_kept(&done, MEMORY);
    assert_eq!((done.repetitions as u64, done.conflicts as u64), ((FILES - 1) * EVENTS, FORGED), "{done:?}");
    assert_whole(&lake, EVENTS as i64).await;
    assert_eq!(count(&lake, QUARANTINE).await, FORGED as i64);
    assert_eq!((app(&lake).new_files, app(&lake).files), (0, 1));
}

/// 96 digits that no dictionary and no compression makes much less of.
fn noise(n: u64) -> String {
    // Six steps apart, or the texts of neighbours would have most of their words in common.
    let mut state = n.wrapping_mul(6).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut text = String::new();
    for _ in 0..6 {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        text.push_str(&format!("{:016x}", mixed ^ (mixed >> 31)));
    }
    text
}

#[tokio::test]
async fn a_file_larger_than_the_memory_becomes_several() {
    const EVENTS: u64 = 80_000;
    const REPEATED: u64 = 40_000;
    const FORGED: u64 = 700;
    let dir = tempfile::tempdir().unwrap();
    let small_row_groups = LakeOptions { fsync: false, row_group_rows_max: 8_192, ..LakeOptions::default() };
    let lake = Lake::open(dir.path(), small_row_groups).await.unwrap();
    let noisy = |n: u64| {
        let mut event = view(n, CHIYODA);
        event.payload.insert("session_id".to_owned(), noise(n).into());
        event
    };
    let mut events: Vec<Event> = (1..=EVENTS).chain(1..=REPEATED).map(noisy).collect();
    events.extend((1..=FORGED).map(|n| forged(noisy(n))));
    let one = rows(&events);
    drop(events);
    assert!(decoded_bytes(&one) > 3 * MEMORY, "{} bytes", decoded_bytes(&one));
    lake.append(Origin::new("usage:a", 1), &one, now()).await.unwrap();
    drop(one);
    let before = app(&lake);
    assert_eq!(before.files, 1);
    assert!(before.bytes > MEMORY / 8, "{} bytes would be held as they are stored", before.bytes);
    let done = lake.compact("app", &options(), tomorrow()).await.unwrap();
    assert_kept(&done, MEMORY);
    assert_eq!((done.repetitions as u64, done.conflicts as u64), (REPEATED, FORGED), "{done:?}");
    assert_eq!(done.files_before, 1);
    assert!(done.files_after > 1, "{done:?}");
    assert_whole(&lake, EVENTS as i64).await;
    assert_eq!(count(&lake, QUARANTINE).await, FORGED as i64);
    // What became of it needs nothing more.
    assert_eq!(app(&lake).new_files, 0);
    assert_eq!(lake.compact("app", &options(), tomorrow()).await.unwrap().partitions, 0);
}

#[tokio::test]
async fn a_file_without_any_room_is_named_and_the_others_are_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let large: Vec<Event> = (1..=10_000).map(|n| view(n, CHIYODA)).collect();
    lake.append(Origin::new("usage:a", 1), &rows(&large), now()).await.unwrap();
    for n in 10_001..=10_002_u64 {
        lake.append(Origin::new("usage:a", n as i64), &rows(&[view(n, MINATO)]), now()).await.unwrap();
    }
    let tiny = CompactOptions { memory_bytes_max: 512 << 10, ..CompactOptions::default() };
    for _ in 0..2 {
        let done = lake.compact("app", &tiny, tomorrow()).await.unwrap();
        assert_eq!(done.files_too_large, 1, "{done:?}");
        assert_eq!((app(&lake).too_large_files, app(&lake).new_files), (1, 1), "{:?}", app(&lake));
        assert_whole(&lake, 10_002).await;
    }
    let done = lake.compact("app", &options(), tomorrow()).await.unwrap();
    assert_eq!((done.files_before, done.files_after, done.files_too_large), (1, 1, 0), "{done:?}");
    assert_eq!((app(&lake).too_large_files, app(&lake).new_files), (0, 0));
    assert_whole(&lake, 10_002).await;
}
