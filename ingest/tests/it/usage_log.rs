//! Durable before it is acknowledged, once, and never more than there is room for.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use todoke_ingest::{IngestError, PinnedLog, RejectReason, UsageLog, UsageLogConfig, search_log};

use crate::support::*;

fn open(dir: &std::path::Path) -> UsageLog {
    UsageLog::open(dir, UsageLogConfig::default()).unwrap()
}

async fn stored(log: &UsageLog) -> Vec<todoke_domain::Event> {
    log.read(0, usize::MAX).await.unwrap().iter().flat_map(|entry| entry.events().unwrap()).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening_and_duplicates_die() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let receipt = log.append(encoded(&views(1..=3)), now()).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (3, 0));
    let app_id = log.app_id("a");
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.app_id("a"), app_id);
    assert_eq!(stored(&log).await, views(1..=3));
    // The client did not hear the answer and sends again, with one more.
    let receipt = log.append(encoded(&views(2..=4)), now()).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (1, 2));
    // Also twice in one batch, and after the lake has them and the log forgot them.
    log.truncate(u64::MAX).await.unwrap();
    assert_eq!(log.backlog_bytes(), 0);
    let receipt = log.append(encoded(&[views(4..=5), views(5..=5)].concat()), now()).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (1, 2));
    assert_eq!(stored(&log).await, views(5..=5));
    // Positions go on after a truncation: they are the lake's transaction versions.
    assert_eq!(log.read(0, 10).await.unwrap()[0].position, 3);
}

#[tokio::test]
async fn the_same_id_with_other_content_is_refused_and_a_new_arrival_time_is_not_other_content() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(encoded(&views(1..=1)), now()).await.unwrap();
    let mut again = view(1);
    again.recorded_at = now().plus(Duration::from_secs(60));
    again.correlation_id = Some("another request".to_owned());
    assert_eq!(log.append(encoded(&[again]), now()).await.unwrap().duplicates, 1);
    let mut other = view(1);
    other.payload.insert("dwell_ms".to_owned(), 999.into());
    let receipt = log.append(encoded(&[other]), now()).await.unwrap();
    assert_eq!(receipt.rejected[0].reason, RejectReason::IdReused);
    assert_eq!(stored(&log).await.len(), 1);
}

#[tokio::test]
async fn events_out_of_time_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut old = view(1);
    old.occurred_at = now().minus(Duration::from_secs(36 * 86_400));
    let mut late = view(2);
    late.occurred_at = now().minus(Duration::from_secs(34 * 86_400));
    let mut fast_clock = view(3);
    fast_clock.occurred_at = now().plus(Duration::from_secs(3_600));
    let mut future = view(4);
    future.occurred_at = now().plus(Duration::from_secs(2 * 86_400));
    let receipt = log.append(encoded(&[old, late, fast_clock, future]), now()).await.unwrap();
    assert_eq!(receipt.accepted, 2);
    let reasons: Vec<RejectReason> = receipt.rejected.iter().map(|r| r.reason).collect();
    assert_eq!(reasons, [RejectReason::TooOld, RejectReason::InFuture]);
}

#[tokio::test]
async fn ids_are_forgotten_only_when_their_events_would_be_too_old_anyway() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(encoded(&views(1..=1)), now()).await.unwrap();
    let later = now().plus(Duration::from_secs(34 * 86_400));
    log.truncate(u64::MAX).await.unwrap();
    assert_eq!(log.append(encoded(&views(1..=1)), later).await.unwrap().duplicates, 1);
    let much_later = now().plus(Duration::from_secs(37 * 86_400));
    log.truncate(u64::MAX).await.unwrap();
    assert_eq!(log.append(encoded(&views(1..=1)), much_later).await.unwrap().rejected[0].reason, RejectReason::TooOld);
}

#[tokio::test]
async fn a_second_opener_is_told_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let _log = open(dir.path());
    let second = UsageLog::open(dir.path(), UsageLogConfig::default());
    assert!(matches!(second, Err(IngestError::LogInUse { .. })), "{second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut requests = tokio::task::JoinSet::new();
    for n in 1..=400 {
        let log = log.clone();
        requests.spawn(async move { log.append(encoded(&views(n..=n)), now()).await.unwrap().accepted });
    }
    let accepted: u32 = requests.join_all().await.into_iter().sum();
    assert_eq!(accepted, 400);
    let entries = log.read(0, usize::MAX).await.unwrap();
    assert!(entries.len() < 400, "{} commits for 400 requests", entries.len());
    let mut ids: Vec<String> =
        entries.iter().flat_map(|e| e.events().unwrap()).map(|e| e.event_id.to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 400);
}

#[tokio::test]
async fn a_full_log_says_busy_and_takes_more_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let config = UsageLogConfig { backlog_bytes_max: 500, ..UsageLogConfig::default() };
    let log = UsageLog::open(dir.path(), config).unwrap();
    log.append(encoded(&views(1..=10)), now()).await.unwrap();
    assert!(matches!(log.append(encoded(&views(11..=11)), now()).await, Err(IngestError::Busy { retry_after_s: 1.. })));
    log.truncate(u64::MAX).await.unwrap();
    assert_eq!(log.append(encoded(&views(11..=11)), now()).await.unwrap().accepted, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is sent in whatever batches, with reopenings in between: each id is stored once.
    #[test]
    fn any_mixture_of_batches_stores_each_event_once(batches in prop::collection::vec((prop::collection::vec(1_u64..30, 0..12), any::<bool>()), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut log = Some(open(dir.path()));
            let mut sent = std::collections::BTreeSet::new();
            for (numbers, reopen) in &batches {
                let receipt = log.as_ref().unwrap().append(encoded(&numbers.iter().copied().map(view).collect::<Vec<_>>()), now()).await.unwrap();
                let before = sent.len();
                sent.extend(numbers.iter().copied());
                assert_eq!(receipt.accepted as usize, sent.len() - before);
                assert_eq!((receipt.accepted + receipt.duplicates) as usize, numbers.len());
                if *reopen {
                    log = None;
                    log = log.or_else(|| Some(open(dir.path())));
                }
            }
            let mut ids: Vec<String> = stored(log.as_ref().unwrap()).await.iter().map(|e| e.event_id.to_string()).collect();
            ids.sort();
            let expected: Vec<String> = sent.iter().map(|n| view(*n).event_id.to_string()).collect();
            assert_eq!(ids, expected);
        });
    }
}

/// A log whose every commit fills a file.
fn open_short(dir: &std::path::Path) -> UsageLog {
    UsageLog::open(dir, UsageLogConfig { file_bytes_max: 1, ..UsageLogConfig::default() }).unwrap()
}

#[tokio::test]
async fn a_pinned_log_keeps_what_the_lake_takes_meanwhile() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open_short(dir.path());
    log.append(encoded(&views(1..=2)), now()).await.unwrap();
    let mut pinned = PinnedLog::begin(dir.path()).unwrap();
    assert!(!pinned.is_alone());
    for n in 3..=6 {
        log.append(encoded(&views(n..=n)), now()).await.unwrap();
        pinned.follow().unwrap();
    }
    log.truncate(5).await.unwrap();
    log.append(encoded(&views(7..=7)), now()).await.unwrap();
    assert_eq!(pinned.log_id().unwrap().as_deref(), Some(log.id()));
    assert_eq!(pinned.write(copy.path()).unwrap().through, 6);
    let copied = open(copy.path());
    assert_eq!(copied.app_id("a"), log.app_id("a"), "the lake knows it");
    assert_eq!(stored(&copied).await, views(1..=7));
    let receipt = copied.append(encoded(&views(1..=8)), now()).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (1, 7));
    let last = copied.read(0, usize::MAX).await.unwrap().last().map(|entry| entry.position);
    assert_eq!(last, Some(7), "positions go on");
}

#[tokio::test]
async fn a_pinned_log_notices_what_it_missed_and_keeps_writers_out() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open_short(dir.path());
    log.append(encoded(&views(1..=1)), now()).await.unwrap();
    let pinned = PinnedLog::begin(dir.path()).unwrap();
    for n in 2..=3 {
        log.append(encoded(&views(n..=n)), now()).await.unwrap();
    }
    log.truncate(3).await.unwrap();
    log.append(encoded(&views(4..=4)), now()).await.unwrap();
    assert!(matches!(pinned.write(copy.path()), Err(IngestError::Log { .. })));
    drop(log);
    let pinned = PinnedLog::begin(dir.path()).unwrap();
    assert!(pinned.is_alone() && pinned.log_id().unwrap().is_some());
    assert!(matches!(UsageLog::open(dir.path(), UsageLogConfig::default()), Err(IngestError::LogInUse { .. })));
    drop(pinned);
    assert_eq!(stored(&open(dir.path())).await, views(4..=4));
}

/// A backup beside a log that goes on, and one of a log that was stopped, open where they were taken.
#[tokio::test]
async fn a_copy_of_a_log_that_forgot_files_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_short(dir.path());
    for n in 1..=4 {
        log.append(encoded(&views(n..=n)), now()).await.unwrap();
    }
    log.truncate(2).await.unwrap();
    let beside = tempfile::tempdir().unwrap();
    PinnedLog::begin(dir.path()).unwrap().write(beside.path()).unwrap();
    assert_eq!(stored(&open(beside.path())).await, views(3..=4));
    log.truncate(4).await.unwrap();
    drop(log);
    let alone = tempfile::tempdir().unwrap();
    PinnedLog::begin(dir.path()).unwrap().write(alone.path()).unwrap();
    let copied = open(alone.path());
    assert!(stored(&copied).await.is_empty());
    copied.append(encoded(&views(4..=5)), now()).await.unwrap();
    assert_eq!(copied.read(0, 10).await.unwrap()[0].position, 5);
}

const FORGOTTEN: i64 = 0x1234_5678_9abc_def1;

/// The events that name a person, each in another way.
fn naming() -> Vec<Vec<todoke_domain::Event>> {
    let (mut by, mut about, mut device, mut text) = (view(1), view(2), view(3), view(4));
    by.actor_key = Some(FORGOTTEN);
    about.subject_kind = "guardian".to_owned();
    about.subject_id = FORGOTTEN.to_string();
    device.payload.insert("dwell_ms".to_owned(), FORGOTTEN.into());
    text.payload.insert("screen_id".to_owned(), format!("G-{FORGOTTEN}").into());
    vec![vec![by], vec![about], vec![device], vec![text]]
}

#[tokio::test]
async fn a_person_is_found_in_a_log_however_they_are_named_until_the_log_forgets_them() {
    let keys = BTreeSet::from([FORGOTTEN]);
    for events in naming() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        log.append(encoded(&views(10..=12)), now()).await.unwrap();
        assert_eq!(search_log(dir.path(), &keys).unwrap().found, [""; 0]);
        log.append(encoded(&events), now()).await.unwrap();
        let searched = search_log(dir.path(), &keys).unwrap();
        assert_eq!((searched.found.len(), searched.rows), (1, 4), "{events:?}");
        assert!(searched.found[0].ends_with(".log"), "{searched:?}");
        assert_eq!(search_log(dir.path(), &BTreeSet::from([FORGOTTEN + 1])).unwrap().found, [""; 0]);
        // What is left of a frame, in a file of any name.
        let path = std::path::Path::new(&searched.found[0]);
        let whole = std::fs::read(path).unwrap();
        let last = whole.windows(4).rposition(|window| window == b"TDr1").unwrap();
        let rest = dir.path().join("rest");
        std::fs::write(&rest, &whole[last + 1..]).unwrap();
        assert_eq!(search_log(dir.path(), &keys).unwrap().found.len(), 2);
        std::fs::remove_file(&rest).unwrap();
        log.truncate(u64::MAX).await.unwrap();
        log.close().await.unwrap();
        let searched = search_log(dir.path(), &keys).unwrap();
        assert_eq!((searched.found, searched.rows), (Vec::new(), 0));
        assert!(searched.files >= 3, "what is left was read");
    }
}
