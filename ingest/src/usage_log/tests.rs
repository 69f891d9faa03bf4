//! What a disk can do to the log, and what becomes of it: refuse rather than guess.

use std::{
    io,
    sync::atomic::{AtomicU32, AtomicUsize},
};

use serde_json::json;

use super::*;
use crate::LogFault;

fn now() -> Timestamp {
    "2026-11-21T03:00:00Z".parse().unwrap()
}

fn view(n: u64) -> Event {
    let payload = json!({ "session_id": "s", "screen_id": "G01", "dwell_ms": n });
    Event {
        event_id: uuid::Uuid::from_u128(0x0193_2b5c_0000_7000_8000_0000_0000_0000 + u128::from(n)).into(),
        event_type: "app.screen_viewed".to_owned(),
        schema_version: 1,
        occurred_at: now(),
        recorded_at: now(),
        municipality_code: "131016".parse().unwrap(),
        actor_role: "guardian".to_owned(),
        actor_key: Some(7),
        source_channel: "web".to_owned(),
        subject_kind: "device_session".to_owned(),
        subject_id: "s".to_owned(),
        subject_seq: 0,
        correlation_id: None,
        causation_id: None,
        recorded_offline: false,
        programme_code: None,
        facility_id: Some("f-1".to_owned()),
        payload: payload.as_object().unwrap().clone(),
    }
}

async fn append(log: &UsageLog, n: u64) -> Result<u32, IngestError> {
    let receipt = log.append(EncodedEvents::of(&[view(n)]).unwrap(), now()).await?;
    Ok(receipt.accepted)
}

async fn stored(log: &UsageLog) -> Vec<Event> {
    log.read(0, usize::MAX).await.unwrap().iter().flat_map(|entry| entry.events().unwrap()).collect()
}

fn log_files(dir: &Path) -> Vec<PathBuf> {
    segment::list(dir, "log").unwrap().into_iter().map(|first| segment::log_path(dir, first)).collect()
}

/// A log of `n` commits that nobody has open.
async fn written(dir: &Path, n: u64, config: UsageLogConfig) {
    let log = UsageLog::open(dir, config).unwrap();
    for at in 1..=n {
        assert_eq!(append(&log, at).await.unwrap(), 1);
    }
}

/// How the disk fails.
#[derive(Clone, Default)]
struct Faults {
    /// Bytes that may still be written; what is beyond is cut off in the middle.
    room: Arc<AtomicUsize>,
    /// Error number of a write beyond the room.
    beyond: Arc<AtomicU32>,
    /// Syncs that fail from now on.
    bad_syncs: Arc<AtomicU32>,
    bad_cuts: Arc<AtomicU32>,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

struct FaultyDisk {
    file: File,
    faults: Faults,
}

fn countdown(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl Disk for FaultyDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.faults.room.load(Ordering::SeqCst);
        let fits = room.min(bytes.len());
        self.file.append(&bytes[..fits])?;
        self.faults.room.fetch_sub(fits, Ordering::SeqCst);
        if fits < bytes.len() {
            return Err(io::Error::from_raw_os_error(self.faults.beyond.load(Ordering::SeqCst).cast_signed()));
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if countdown(&self.faults.bad_syncs) { Err(io::Error::from_raw_os_error(EIO)) } else { self.file.sync() }
    }

    fn cut(&mut self, n_bytes: u64) -> io::Result<()> {
        if countdown(&self.faults.bad_cuts) { Err(io::Error::from_raw_os_error(EIO)) } else { self.file.cut(n_bytes) }
    }
}

fn open_faulty(dir: &Path, faults: &Faults, config: UsageLogConfig) -> Result<UsageLog, IngestError> {
    let faults = faults.clone();
    let open = move |path: &Path| {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Box::new(FaultyDisk { file, faults: faults.clone() }) as Box<dyn Disk>)
    };
    UsageLog::open_with(dir, config, Box::new(open))
}

fn sound() -> Faults {
    let faults = Faults::default();
    faults.room.store(usize::MAX / 2, Ordering::SeqCst);
    faults
}

/// Wherever a crash cuts the last frame, what was acknowledged before is there and the log goes on.
#[tokio::test]
async fn a_torn_tail_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, UsageLogConfig::default()).await;
    let path = log_files(dir.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let last = whole.windows(4).rposition(|window| window == b"TDr1").unwrap();
    for keep in last + 1..whole.len() {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(path.file_name().unwrap()), &whole[..keep]).unwrap();
        let log = UsageLog::open(copy.path(), UsageLogConfig::default()).unwrap();
        assert_eq!(stored(&log).await, [view(1), view(2)], "cut at {keep} of {}", whole.len());
        // The torn one was promised to nobody: it is new when it is sent again.
        assert_eq!((append(&log, 2).await.unwrap(), append(&log, 3).await.unwrap()), (0, 1));
        drop(log);
        let log = UsageLog::open(copy.path(), UsageLogConfig::default()).unwrap();
        assert_eq!(stored(&log).await, [view(1), view(2), view(3)]);
    }
}

/// A flipped bit in what was acknowledged: nobody goes on as if it were not gone.
#[tokio::test]
async fn a_corrupt_middle_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, UsageLogConfig::default()).await;
    let path = log_files(dir.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let frames: Vec<usize> = whole.windows(4).enumerate().filter(|(_, w)| w == b"TDr1").map(|(at, _)| at).collect();
    for at in [0, 30, frames[0], frames[0] + 5, frames[0] + 17, frames[0] + 40, frames[1] - 1, frames[1] + 9] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let opened = UsageLog::open(dir.path(), UsageLogConfig::default());
        assert!(matches!(opened, Err(IngestError::Damaged { .. })), "byte {at}: {opened:?}");
    }
    std::fs::write(&path, &whole).unwrap();
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    assert_eq!(stored(&log).await.len(), 3);
}

/// Damage that comes while the log is open is seen when the sink reads, not passed on.
#[tokio::test]
async fn damage_under_an_open_log_is_seen_by_readers() {
    let dir = tempfile::tempdir().unwrap();
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    append(&log, 1).await.unwrap();
    let path = log_files(dir.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(log.read(0, 10).await, Err(IngestError::Damaged { .. })));
}

#[tokio::test]
async fn a_missing_file_in_the_middle_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 4, UsageLogConfig { file_bytes_max: 1, ..UsageLogConfig::default() }).await;
    let files = log_files(dir.path());
    assert!(files.len() >= 4, "a file per commit");
    std::fs::remove_file(&files[1]).unwrap();
    assert_eq!(refused(dir.path()), (files[1].clone(), LogFault::Missing));
    // Without the ids beside it the next file tells.
    std::fs::remove_file(segment::ids_path(dir.path(), 2)).unwrap();
    assert_eq!(refused(dir.path()), (files[1].clone(), LogFault::Missing));
}

/// Why a log is not opened.
fn refused(dir: &Path) -> (PathBuf, LogFault) {
    match UsageLog::open(dir, UsageLogConfig::default()) {
        Err(IngestError::Incomplete { path, fault }) => (path, fault),
        opened => panic!("{opened:?}"),
    }
}

fn short() -> UsageLogConfig {
    UsageLogConfig { file_bytes_max: 1, ..UsageLogConfig::default() }
}

/// What was known of a log is what the next start finds, or it finds out.
#[tokio::test]
async fn a_missing_oldest_file_is_refused_until_somebody_says_that_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 4, short()).await;
    let files = log_files(dir.path());
    std::fs::remove_file(&files[0]).unwrap();
    assert_eq!(refused(dir.path()), (files[1].clone(), LogFault::OldestMissing { from: 1, through: 1 }));
    // As the error says; also the form of earlier versions.
    std::fs::write(Known::path(dir.path()), "1\n").unwrap();
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    assert_eq!(stored(&log).await, [view(2), view(3), view(4)]);
}

#[tokio::test]
async fn a_missing_newest_file_is_refused_rather_than_its_positions_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    append(&log, 1).await.unwrap();
    drop(log);
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    append(&log, 2).await.unwrap();
    append(&log, 3).await.unwrap();
    // As it is after a crash: nothing was noted since the file began.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let newest = log_files(copy.path()).pop().unwrap();
    let whole = std::fs::read(&newest).unwrap();
    std::fs::remove_file(&newest).unwrap();
    assert_eq!(refused(copy.path()), (newest.clone(), LogFault::Missing));
    std::fs::write(&newest, whole).unwrap();
    let found = UsageLog::open(copy.path(), UsageLogConfig::default()).unwrap();
    assert_eq!(stored(&found).await, [view(1), view(2), view(3)]);
    // Without any file, and with a number alone, as earlier versions wrote it.
    drop(found);
    let files = log_files(copy.path());
    files.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(refused(copy.path()), (files[0].clone(), LogFault::Missing));
    let bare = tempfile::tempdir().unwrap();
    std::fs::write(Known::path(bare.path()), "7").unwrap();
    let fault = LogFault::Short { acknowledged: 7, found: 0 };
    assert_eq!(refused(bare.path()), (Known::path(bare.path()), fault));
}

#[tokio::test]
async fn a_file_whose_ids_are_there_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 2, short()).await;
    for file in log_files(dir.path()) {
        std::fs::remove_file(file).unwrap();
    }
    std::fs::remove_file(Known::path(dir.path())).unwrap();
    assert_eq!(refused(dir.path()), (segment::log_path(dir.path(), 1), LogFault::Missing));
}

#[tokio::test]
async fn what_is_known_of_another_log_is_not_believed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    written(dir.path(), 2, UsageLogConfig::default()).await;
    written(other.path(), 1, UsageLogConfig::default()).await;
    std::fs::copy(Known::path(other.path()), Known::path(dir.path())).unwrap();
    assert_eq!(refused(dir.path()), (segment::log_path(dir.path(), 1), LogFault::Foreign));
    std::fs::write(Known::path(dir.path()), "{\"log").unwrap();
    let opened = UsageLog::open(dir.path(), UsageLogConfig::default());
    let known = Known::path(dir.path());
    assert!(matches!(&opened, Err(IngestError::Damaged { path, .. }) if *path == known), "{opened:?}");
}

/// After a clean stop every frame was acknowledged: whatever is wrong with the last one is damage.
#[tokio::test]
async fn a_damaged_or_shortened_end_is_refused_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, UsageLogConfig::default()).await;
    let path = log_files(dir.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let last = whole.windows(4).rposition(|window| window == b"TDr1").unwrap();
    for at in last..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let opened = UsageLog::open(dir.path(), UsageLogConfig::default());
        assert!(matches!(opened, Err(IngestError::Damaged { at, .. }) if at == last as u64), "byte {at}: {opened:?}");
    }
    std::fs::write(&path, &whole[..last + 30]).unwrap();
    let opened = UsageLog::open(dir.path(), UsageLogConfig::default());
    assert!(matches!(opened, Err(IngestError::Damaged { at, .. }) if at == last as u64), "{opened:?}");
    std::fs::write(&path, &whole[..last]).unwrap();
    assert_eq!(refused(dir.path()), (path.clone(), LogFault::Short { acknowledged: 3, found: 2 }));
    std::fs::write(&path, &whole).unwrap();
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    assert_eq!(stored(&log).await.len(), 3, "nothing was cut off by a start that was refused");
}

/// After a crash a last frame that is all there and wrong is damage; one that lacks its end or a sector is torn.
#[tokio::test]
async fn after_a_crash_a_flipped_bit_is_told_from_a_torn_frame() {
    let dir = tempfile::tempdir().unwrap();
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    append(&log, 1).await.unwrap();
    let wide: Vec<Event> = (2..=40).map(view).collect();
    log.append(EncodedEvents::of(&wide).unwrap(), now()).await.unwrap();
    let path = log_files(dir.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let last = whole.windows(4).rposition(|window| window == b"TDr1").unwrap();
    assert!(whole.len() - last > 4 * 512);
    let opened = |bytes: &[u8]| {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
        (UsageLog::open(copy.path(), UsageLogConfig::default()), copy)
    };
    // A length that grew looks like a frame that lacks its end, but its sum tells.
    for at in (last..last + 24).chain((last + 24..whole.len()).step_by(97)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        let (found, _copy) = opened(&damaged);
        assert!(matches!(found, Err(IngestError::Damaged { at, .. }) if at == last as u64), "byte {at}: {found:?}");
    }
    let sector = (last / 512 + 2) * 512;
    for lost in [last..(last / 512 + 1) * 512, sector..sector + 512, sector..whole.len(), last..whole.len()] {
        let mut torn = whole.clone();
        torn[lost.clone()].fill(0);
        let (found, _copy) = opened(&torn);
        assert_eq!(stored(&found.unwrap()).await, [view(1)], "{lost:?}");
    }
    // Something was written after it, so it was synced.
    let mut followed = whole.clone();
    followed[sector..sector + 512].fill(0);
    followed.extend_from_slice(b"TDr1");
    assert!(matches!(opened(&followed).0, Err(IngestError::Damaged { .. })));
}

/// Nothing that the lake has outlives a clean stop; what it lacks does.
#[tokio::test]
async fn a_clean_stop_deletes_what_the_lake_has() {
    let dir = tempfile::tempdir().unwrap();
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    append(&log, 1).await.unwrap();
    append(&log, 2).await.unwrap();
    log.truncate(2).await.unwrap();
    assert!(!rows_of(dir.path()).is_empty(), "the file is still written");
    log.close().await.unwrap();
    assert!(rows_of(dir.path()).is_empty(), "no file has rows");
    assert!(matches!(append(&log, 3).await, Err(IngestError::Closed)));
    let id = log.id().to_owned();
    drop(log);
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    assert_eq!((log.id(), append(&log, 2).await.unwrap(), append(&log, 3).await.unwrap()), (id.as_str(), 0, 1));
    assert_eq!(log.read(0, 10).await.unwrap()[0].position, 3, "name, ids and positions stay");
    drop(log);
    assert_eq!(rows_of(dir.path()).len(), 1);
}

/// Files of an earlier version stay after its stop, and after a crash: they go at the start.
#[tokio::test]
async fn a_start_deletes_what_the_lake_has_also_by_the_words_of_an_earlier_version() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, short()).await;
    std::fs::write(Known::path(dir.path()), "2").unwrap();
    let log = UsageLog::open(dir.path(), short()).unwrap();
    assert_eq!(rows_of(dir.path()), [segment::log_path(dir.path(), 3)]);
    assert_eq!((append(&log, 1).await.unwrap(), append(&log, 4).await.unwrap()), (0, 1));
    assert_eq!(stored(&log).await, [view(3), view(4)]);
}

/// Files of the log that have rows.
fn rows_of(dir: &Path) -> Vec<PathBuf> {
    let mut files = log_files(dir);
    files.retain(|path| std::fs::read(path).unwrap().windows(4).any(|window| window == b"TDr1"));
    files
}

#[tokio::test]
async fn a_file_that_cannot_be_deleted_is_deleted_later() {
    let dir = tempfile::tempdir().unwrap();
    let log = UsageLog::open(dir.path(), short()).unwrap();
    for n in 1..=3 {
        append(&log, n).await.unwrap();
    }
    let files = log_files(dir.path());
    let aside = dir.path().join("aside");
    std::fs::rename(&files[1], &aside).unwrap();
    std::fs::create_dir(&files[1]).unwrap();
    assert!(log.truncate(3).await.is_err());
    assert!(!files[0].exists() && files[2].exists());
    std::fs::remove_dir(&files[1]).unwrap();
    std::fs::rename(&aside, &files[1]).unwrap();
    log.truncate(3).await.unwrap();
    assert!(rows_of(dir.path()).is_empty());
}

/// A full disk costs the batch that did not fit, which is told so; with room the log goes on.
#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let faults = sound();
    faults.beyond.store(ENOSPC.cast_unsigned(), Ordering::SeqCst);
    let log = open_faulty(dir.path(), &faults, UsageLogConfig::default()).unwrap();
    append(&log, 1).await.unwrap();
    for room in [0, 3, 30] {
        faults.room.store(room, Ordering::SeqCst);
        assert!(matches!(append(&log, 2).await, Err(IngestError::DiskFull)), "room for {room} bytes");
    }
    faults.room.store(usize::MAX / 2, Ordering::SeqCst);
    assert!(log.failure().is_none());
    assert_eq!((append(&log, 2).await.unwrap(), append(&log, 1).await.unwrap()), (1, 0));
    drop(log);
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    assert_eq!(stored(&log).await, [view(1), view(2)]);
}

/// A disk that is full at the change of files costs what comes meanwhile; with room the log goes on.
#[tokio::test]
async fn a_disk_that_is_full_when_a_file_ends_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let faults = sound();
    faults.beyond.store(ENOSPC.cast_unsigned(), Ordering::SeqCst);
    let log = open_faulty(dir.path(), &faults, short()).unwrap();
    // Room for the frame, and not for the beginning of a file after it.
    let begin = usize::try_from(std::fs::metadata(&log_files(dir.path())[0]).unwrap().len()).unwrap();
    faults.room.store(begin - 1, Ordering::SeqCst);
    assert_eq!(append(&log, 1).await.unwrap(), 1);
    for _ in 0..2 {
        assert!(matches!(append(&log, 2).await, Err(IngestError::DiskFull)));
    }
    assert!(log.failure().is_none());
    faults.room.store(usize::MAX / 2, Ordering::SeqCst);
    assert_eq!((append(&log, 2).await.unwrap(), append(&log, 1).await.unwrap()), (1, 0));

    // The same with the ids of the file that ends, and with the note of the one that begins.
    let full = Path::new("/dev/full");
    for (n, draft) in [(3, format!("{:020}.draft", 3)), (5, "done.draft".to_owned())] {
        let draft = dir.path().join(draft);
        std::os::unix::fs::symlink(full, &draft).unwrap();
        assert_eq!(append(&log, n).await.unwrap(), 1);
        if !draft.exists() {
            std::os::unix::fs::symlink(full, &draft).unwrap();
            assert!(matches!(append(&log, n + 1).await, Err(IngestError::DiskFull)));
        }
        assert!(log.failure().is_none());
        segment::remove(&draft).unwrap();
        assert_eq!((append(&log, n + 1).await.unwrap(), append(&log, n).await.unwrap()), (1, 0));
    }
    log.close().await.unwrap();
    drop(log);
    for first in 1..=6 {
        assert_eq!(segment::read_ids(dir.path(), first).unwrap().unwrap().len(), 1, "file {first}");
    }
    let log = UsageLog::open(dir.path(), short()).unwrap();
    assert_eq!(stored(&log).await, (1..=6).map(view).collect::<Vec<_>>());
    assert_eq!(append(&log, 4).await.unwrap(), 0);
}

/// After a failed sync nobody knows what the disk has: nothing is taken until a restart has read it.
#[tokio::test]
async fn a_failed_sync_stops_the_log_until_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let faults = sound();
    let log = open_faulty(dir.path(), &faults, UsageLogConfig::default()).unwrap();
    append(&log, 1).await.unwrap();
    faults.bad_syncs.store(1, Ordering::SeqCst);
    assert!(matches!(append(&log, 2).await, Err(IngestError::Log { doing: "syncing", .. })));
    // The disk would work again, and still nothing is promised on it.
    assert!(append(&log, 3).await.is_err());
    assert!(log.failure().is_some());
    drop(log);
    let log = open_faulty(dir.path(), &faults, UsageLogConfig::default()).unwrap();
    let found = stored(&log).await;
    assert!(found.starts_with(&[view(1)]) && found.len() <= 2);
    // Sent again it is there once, whether the failed sync had kept it or not.
    append(&log, 2).await.unwrap();
    append(&log, 3).await.unwrap();
    assert_eq!(stored(&log).await, [view(1), view(2), view(3)]);
}

#[tokio::test]
async fn a_write_error_that_cannot_be_taken_back_stops_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let faults = sound();
    faults.beyond.store(EIO.cast_unsigned(), Ordering::SeqCst);
    let log = open_faulty(dir.path(), &faults, UsageLogConfig::default()).unwrap();
    append(&log, 1).await.unwrap();
    faults.room.store(20, Ordering::SeqCst);
    assert!(matches!(append(&log, 2).await, Err(IngestError::Log { doing: "writing", .. })));
    assert!(log.failure().is_none(), "the torn frame was cut off");
    faults.bad_cuts.store(1, Ordering::SeqCst);
    faults.room.store(20, Ordering::SeqCst);
    assert!(append(&log, 2).await.is_err());
    assert!(log.failure().is_some());
    drop(log);
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    assert_eq!(stored(&log).await, [view(1)]);
}

#[tokio::test]
async fn it_tells_when_the_oldest_event_came_in_that_the_lake_lacks_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    assert_eq!(log.oldest().await.unwrap(), None);
    let later: Timestamp = "2026-11-21T03:01:00Z".parse().unwrap();
    for (n, recorded_at) in [(1, now()), (2, later)] {
        let event = Event { recorded_at, ..view(n) };
        log.append(EncodedEvents::of(&[event]).unwrap(), recorded_at).await.unwrap();
    }
    drop(log);
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    assert_eq!(log.oldest().await.unwrap(), Some(now()));
    log.truncate(1).await.unwrap();
    assert_eq!(log.oldest().await.unwrap(), Some(later));
    log.truncate(2).await.unwrap();
    assert_eq!(log.oldest().await.unwrap(), None);
}

/// Files that the lake has are deleted, their ids stay; what the window forgets is deleted as well.
#[tokio::test]
async fn nothing_grows_without_bound() {
    let dir = tempfile::tempdir().unwrap();
    let config = UsageLogConfig { file_bytes_max: 1, ids_max: 8, ..UsageLogConfig::default() };
    let log = UsageLog::open(dir.path(), config.clone()).unwrap();
    for n in 1..=30 {
        append(&log, n).await.unwrap();
        log.truncate(n).await.unwrap();
    }
    assert!(log_files(dir.path()).len() <= 2);
    assert!(segment::list(dir.path(), "ids").unwrap().len() <= 8);
    assert_eq!((log.backlog_bytes(), append(&log, 30).await.unwrap(), append(&log, 1).await.unwrap()), (0, 0, 1));
    drop(log);
    let log = UsageLog::open(dir.path(), config).unwrap();
    assert_eq!(append(&log, 30).await.unwrap(), 0, "ids outlive their file and the process");
    // Positions go on: the lake takes a lower one for something it has.
    append(&log, 31).await.unwrap();
    let entries = log.read(0, 10).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [31, 32]);
}

/// The straight way from the log to columns gives what the way over events gives, for every kind of field.
#[tokio::test]
async fn rows_of_the_log_are_the_rows_of_their_events() {
    let dir = tempfile::tempdir().unwrap();
    let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
    let used = json!({
        "use_id": "u", "coupon_id": "c", "child_key": 7, "guardian_key": 8, "coupon_set_id": "s",
        "coupon_kind": "yen", "purpose": "service", "amount_yen": 1_200, "amount_units": 0,
        "lines": [{"lot_id": "l", "bucket": null, "amount": 1_200}], "fee_total_yen": 3_000,
        "application_id": "a", "initiated_by": "guardian", "device_less": false,
        "balance_after_yen": 8_800, "balance_after_units": 0, "ledger_seq": 2, "used_on": "2026-11-21",
    });
    let mut events: Vec<Event> = (1..=5).map(view).collect();
    events[1].occurred_at = "2026-11-01T14:59:59.999999Z".parse().unwrap();
    events[2].municipality_code = "131032".parse().unwrap();
    events[3].event_type = "coupon.used".to_owned();
    events[3].payload = used.as_object().unwrap().clone();
    events[3].subject_seq = 12;
    events[3].causation_id = Some("cause".to_owned());
    events[3].recorded_offline = true;
    events[4].event_type = "app.search_performed".to_owned();
    events[4].payload =
        json!({"session_id": "s", "search_mode": "near_me", "filters": ["a", "b"], "hits": 3, "text_length": null})
            .as_object()
            .unwrap()
            .clone();
    // One that no column takes: the quarantine's on both ways.
    let mut bad = view(6);
    bad.payload.insert("dwell_ms".to_owned(), json!("long"));
    events.push(bad);
    log.append(EncodedEvents::of(&events).unwrap(), now()).await.unwrap();
    let entries = log.read(0, 100).await.unwrap();
    let mut rows = LogRows::default();
    entries.iter().try_for_each(|entry| entry.rows(&mut rows)).unwrap();
    let straight = todoke_lake::EventRows::of(&rows, now()).unwrap();
    events.iter_mut().for_each(|event| event.payload.retain(|_, value| !value.is_null()));
    let again: Vec<Event> = entries.iter().flat_map(|entry| entry.events().unwrap()).collect();
    assert_eq!(again, events);
    let around = todoke_lake::EventRows::build(&events, now()).unwrap();
    assert_eq!(straight.rejected(), around.rejected());
    assert_eq!(straight.tables().collect::<Vec<_>>(), ["app", "coupon", "quarantine"]);
    for table in straight.tables() {
        assert_eq!(straight.table(table), around.table(table), "{table}");
    }
}
