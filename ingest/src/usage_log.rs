//! The usage log: app events are durable here before the client gets its 2xx.
//!
//! One thread writes. All requests that wait when a commit begins share one frame and one fsync. The
//! ids of accepted events are in the frames, so a batch sent again, also after a crash, is
//! recognised.

use std::{
    collections::VecDeque,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use todoke_domain::{Event, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    IngestError, RejectReason, Rejected,
    log_writer::{Request, Writer},
    row::{EncodedEvents, LogRows},
    segment::{self, Disk, FrameRef},
    window::Window,
};

/// Limits of the usage log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsageLogConfig {
    /// Memory of the events that may wait for their commit, bytes.
    pub waiting_bytes_max: u64,
    /// Bytes of committed events that may wait for the lake.
    pub backlog_bytes_max: u64,
    /// Requests that may wait for their commit.
    pub waiting_requests_max: usize,
    /// Events in one commit.
    pub commit_events_max: usize,
    /// Ids remembered, at most; about 30 bytes of memory each. A repetition of an older one is found
    /// when the lake merges its files.
    pub ids_max: usize,
    /// How old an event may be. Days.
    pub age_days_max: u32,
    /// How far in the future an event may lie, for clocks that are wrong. Seconds.
    pub future_s_max: u64,
    /// A file of the log ends after about this many bytes.
    pub file_bytes_max: u64,
}

impl Default for UsageLogConfig {
    fn default() -> Self {
        Self {
            waiting_bytes_max: 64 << 20,
            backlog_bytes_max: 1 << 30,
            waiting_requests_max: 4_096,
            commit_events_max: 50_000,
            ids_max: 3_600_000,
            age_days_max: 35,
            future_s_max: 86_400,
            file_bytes_max: 32 << 20,
        }
    }
}

/// What became of the events of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Events that are durable now and were not before.
    pub accepted: u32,
    /// Events that were durable already.
    pub duplicates: u32,
    /// Events that were not taken.
    pub rejected: Vec<Rejected>,
}

/// Accepted events of one commit.
#[derive(Clone, Debug)]
pub struct UsageEntry {
    /// Position in the log, from 1, growing by 1.
    pub position: u64,
    /// Number of events.
    pub n_rows: u32,
    payload: Vec<u8>,
    frame: FrameRef,
}

impl UsageEntry {
    /// Adds its events to `rows`.
    pub(crate) fn rows<'a>(&'a self, rows: &mut LogRows<'a>) -> Result<(), IngestError> {
        rows.add(&self.payload, &self.frame.segment.meanings).map_err(IngestError::log("decoding an entry"))
    }

    /// Its events, one by one: for tools and tests, the sink takes them as rows.
    pub fn events(&self) -> Result<Vec<Event>, IngestError> {
        let mut rows = LogRows::with_capacity(self.n_rows as usize);
        self.rows(&mut rows)?;
        rows.to_events()
    }
}

/// What readers share with the writer.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Frames the lake may not have yet, by position.
    pub(crate) frames: VecDeque<FrameRef>,
    /// Files that are not written any more, oldest first, each with its last position.
    pub(crate) sealed: VecDeque<(PathBuf, u64)>,
    /// Position up to which the lake has everything.
    pub(crate) done: u64,
    /// Why nothing can be appended any more.
    pub(crate) failure: Option<IngestError>,
}

#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) dir: PathBuf,
    pub(crate) log_id: String,
    pub(crate) config: UsageLogConfig,
    pub(crate) waiting_bytes: AtomicU64,
    pub(crate) backlog_bytes: AtomicU64,
    pub(crate) committed: Arc<Notify>,
    // std Mutex: held for a few pushes or a drain, never across an await.
    index: Mutex<Index>,
    // Held, not read: another process that wants it is told.
    _lock: File,
}

impl Common {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Inner {
    common: Arc<Common>,
    // `None` only while being dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends when it has committed what waits and no sender is left.
        drop(self.requests.take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the writer of the usage log panicked");
        }
    }
}

/// The durable log of app events on this node. Cheap to clone; the folder is released when the last
/// clone is dropped, after everything that waits is committed.
#[derive(Clone)]
pub struct UsageLog {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for UsageLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsageLog").field("log_id", &self.inner.common.log_id).finish_non_exhaustive()
    }
}

/// Opens the file that a path names for appending.
pub(crate) type OpenDisk = Box<dyn Fn(&Path) -> std::io::Result<Box<dyn Disk>> + Send>;

fn open_file(path: &Path) -> std::io::Result<Box<dyn Disk>> {
    Ok(Box::new(File::options().create(true).append(true).open(path)?))
}

impl UsageLog {
    /// Opens the log in `dir`, creating it if it is missing. What a crash tore at the end, which
    /// nobody was promised, is cut off.
    ///
    /// Errors: [`IngestError::LogInUse`] if another process has it open, [`IngestError::Damaged`] if
    /// something that was acknowledged cannot be read any more, [`IngestError::Newer`].
    pub fn open(dir: &Path, config: UsageLogConfig) -> Result<Self, IngestError> {
        Self::open_with(dir, config, Box::new(open_file))
    }

    pub(crate) fn open_with(dir: &Path, config: UsageLogConfig, open: OpenDisk) -> Result<Self, IngestError> {
        std::fs::create_dir_all(dir).map_err(IngestError::log("creating its folder"))?;
        let lock = lock(dir)?;
        let mut window = Window::new(config.ids_max);
        let mut recovered = recover(dir, &mut window)?;
        recovered.index.done = read_done(dir);
        let done = recovered.index.done;
        recovered.index.frames.retain(|frame| frame.position > done);
        let backlog = recovered.index.frames.iter().map(FrameRef::n_bytes).sum();
        let common = Arc::new(Common {
            dir: dir.to_owned(),
            log_id: recovered.log_id.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string()),
            waiting_bytes: AtomicU64::new(0),
            backlog_bytes: AtomicU64::new(backlog),
            committed: Arc::new(Notify::new()),
            index: Mutex::new(recovered.index),
            _lock: lock,
            config,
        });
        let (requests, waiting) = mpsc::channel(common.config.waiting_requests_max);
        let writer = Writer::begin(Arc::clone(&common), waiting, window, recovered.next, open)?;
        let thread = std::thread::Builder::new()
            .name("usage-log".to_owned())
            .spawn(move || writer.run())
            .map_err(IngestError::log("starting its writer"))?;
        let inner = Inner { common, requests: Some(requests), writer: Mutex::new(Some(thread)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes events durable. Resolves after the fsync of the commit that holds them; until then
    /// nothing is promised. Ids are remembered, so sending a batch again is safe.
    ///
    /// Not cancel safe in the sense of undone: a dropped call may still have stored its events.
    /// Errors: [`IngestError::Busy`] before anything is stored, when too much waits;
    /// [`IngestError::DiskFull`]; [`IngestError::Log`] when the disk failed, and from then on.
    pub async fn append(&self, events: EncodedEvents, now: Timestamp) -> Result<Receipt, IngestError> {
        let age_max = Duration::from_secs(u64::from(self.inner.common.config.age_days_max) * 86_400);
        self.append_since(now.minus(age_max), events, now).await
    }

    /// As [`Self::append`], for events that may have happened at any time before.
    pub async fn append_history(&self, events: EncodedEvents, now: Timestamp) -> Result<Receipt, IngestError> {
        self.append_since(Timestamp::from_micros(i64::MIN), events, now).await
    }

    async fn append_since(
        &self,
        oldest: Timestamp,
        events: EncodedEvents,
        now: Timestamp,
    ) -> Result<Receipt, IngestError> {
        let config = &self.inner.common.config;
        let latest = now.plus(Duration::from_secs(config.future_s_max));
        let mut receipt = Receipt::default();
        let mut wanted = Vec::with_capacity(events.n_events());
        for mark in events.blocks.iter().flat_map(|block| &block.marks) {
            let reason = if mark.occurred_at < oldest {
                RejectReason::TooOld
            } else if mark.occurred_at > latest {
                RejectReason::InFuture
            } else {
                wanted.push(true);
                continue;
            };
            receipt.rejected.push(rejected(mark.id, reason, "occurred_at", wanted.len()));
            wanted.push(false);
        }
        if !wanted.contains(&true) {
            return Ok(receipt);
        }
        let outcome = self.commit(events, wanted).await?;
        receipt.accepted = outcome.accepted;
        receipt.duplicates = outcome.duplicates;
        let reused = outcome.reused.into_iter();
        receipt.rejected.extend(reused.map(|(at, id)| rejected(id, RejectReason::IdReused, "event_id", at)));
        Ok(receipt)
    }

    async fn commit(
        &self,
        events: EncodedEvents,
        wanted: Vec<bool>,
    ) -> Result<crate::log_writer::Outcome, IngestError> {
        let common = &self.inner.common;
        if let Some(failure) = common.index().failure.clone() {
            return Err(failure);
        }
        if common.backlog_bytes.load(Ordering::Relaxed) > common.config.backlog_bytes_max {
            return Err(IngestError::Busy { retry_after_s: 30 });
        }
        let bytes = events.n_bytes() as u64;
        // Reserved before it is checked, so that many callers at once cannot all slip under the limit.
        let waiting = common.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let request = Request { events, wanted, bytes, answer };
        let sender = self.inner.requests.as_ref().ok_or(IngestError::Closed)?;
        // One request is let in whatever its size, or a large one could never be.
        let refused = (waiting > 0 && waiting + bytes > common.config.waiting_bytes_max)
            || matches!(sender.try_send(request), Err(mpsc::error::TrySendError::Full(_)));
        if refused {
            common.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(IngestError::Busy { retry_after_s: 1 });
        }
        answered.await.map_err(|_| IngestError::Closed)?
    }

    /// The log's own random name: it keeps it through restarts, and no other log has it.
    pub fn id(&self) -> &str {
        &self.inner.common.log_id
    }

    /// Names this log for the lake: another log, also one that replaces a lost one, has another name.
    pub fn app_id(&self, node: &str) -> String {
        format!("usage:{node}:{}", self.inner.common.log_id)
    }

    /// Entries after a position that the lake does not have, oldest first, of about `n_max` events in all.
    pub async fn read(&self, after_position: u64, n_max: usize) -> Result<Vec<UsageEntry>, IngestError> {
        let mut n_rows = 0;
        let frames: Vec<FrameRef> = {
            let index = self.inner.common.index();
            let from = index.frames.partition_point(|frame| frame.position <= after_position);
            let before = |frame: &&FrameRef| {
                let take = n_rows < n_max;
                n_rows += frame.n_rows as usize;
                take
            };
            index.frames.range(from..).take_while(before).cloned().collect()
        };
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        blocking(move || {
            let entry = |frame: FrameRef| {
                let payload = frame.read()?;
                Ok(UsageEntry { position: frame.position, n_rows: frame.n_rows, payload, frame })
            };
            frames.into_iter().map(entry).collect()
        })
        .await
    }

    /// Forgets the entries up to a position, which are safe elsewhere; files that hold nothing else
    /// are deleted. Not synced: entries that come back after a crash are taken for what they are.
    pub async fn truncate(&self, through_position: u64) -> Result<(), IngestError> {
        let common = Arc::clone(&self.inner.common);
        blocking(move || {
            let mut unneeded = Vec::new();
            let mut freed = 0;
            let done = {
                let mut index = common.index();
                while let Some(frame) = index.frames.front().filter(|frame| frame.position <= through_position) {
                    freed += frame.n_bytes();
                    index.done = frame.position;
                    index.frames.pop_front();
                }
                while let Some((path, _)) = index.sealed.front().filter(|(_, last)| *last <= index.done) {
                    unneeded.push(path.clone());
                    index.sealed.pop_front();
                }
                index.done
            };
            common.backlog_bytes.fetch_sub(freed, Ordering::Relaxed);
            write_done(&common.dir, done)?;
            unneeded.iter().try_for_each(std::fs::remove_file).map_err(IngestError::log("truncating"))
        })
        .await
    }

    /// Notified after every commit.
    pub fn committed(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.common.committed)
    }

    /// Bytes of committed events that are not in the lake yet.
    pub fn backlog_bytes(&self) -> u64 {
        self.inner.common.backlog_bytes.load(Ordering::Relaxed)
    }

    /// Why nothing is taken any more, if so. Ends with the process: what is on the disk then decides.
    pub fn failure(&self) -> Option<IngestError> {
        self.inner.common.index().failure.clone()
    }
}

fn rejected(id: u128, reason: RejectReason, field: &str, place: usize) -> Rejected {
    let event_id = Some(uuid::Uuid::from_u128(id).to_string());
    Rejected { event_id, reason, field: Some(field.to_owned()), content: None, place: Some(place) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
) -> Result<T, IngestError> {
    tokio::task::spawn_blocking(work).await.map_err(IngestError::log("waiting for its file"))?
}

pub(crate) fn lock(dir: &Path) -> Result<File, IngestError> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(IngestError::log("opening its lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(IngestError::LogInUse { path: dir.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(IngestError::log("locking")(error)),
    }
}

struct Recovered {
    log_id: Option<String>,
    index: Index,
    /// The next position to give out.
    next: u64,
}

/// Reads what is there: ids into the window, frames into an index.
fn recover(dir: &Path, window: &mut Window) -> Result<Recovered, IngestError> {
    let listed = |extension: &str| segment::list(dir, extension).map_err(IngestError::log("listing its files"));
    let logs = listed("log")?;
    let mut recovered = Recovered { log_id: None, index: Index::default(), next: 1 };
    for first in listed("ids")?.into_iter().filter(|first| !logs.contains(first)) {
        // Of a file whose events the lake has.
        match segment::read_ids(dir, first)? {
            Some(ids) => meet_all(window, dir, first, &ids)?,
            // Repetitions of them are found when the lake merges its files.
            None => drop_files(vec![segment::ids_path(dir, first)])?,
        }
    }
    for (n, first) in logs.iter().enumerate() {
        let is_last = n + 1 == logs.len();
        let path = segment::log_path(dir, *first);
        if n > 0 && *first != recovered.next {
            return Err(IngestError::Damaged { path, at: 0 });
        }
        let Some(found) = segment::scan(dir, *first)? else {
            if !is_last {
                return Err(IngestError::Damaged { path, at: 0 });
            }
            std::fs::remove_file(&path).map_err(IngestError::log("removing an empty file"))?;
            recovered.next = *first;
            break;
        };
        if let Some(at) = found.torn_at {
            if !is_last {
                return Err(IngestError::Damaged { path, at });
            }
            tracing::warn!(log.file = %path.display(), log.torn_at = at, "the usage log's torn end is cut off");
            let cut = File::options().write(true).open(&path).and_then(|file| {
                file.set_len(at)?;
                file.sync_all()
            });
            cut.map_err(IngestError::log("cutting its torn end off"))?;
        }
        recovered.next = first + found.frames.len() as u64;
        recovered.log_id = Some(found.log_id);
        if found.frames.is_empty() {
            continue;
        }
        if is_last || found.is_older || !segment::ids_path(dir, *first).exists() {
            segment::write_ids(dir, *first, &found.ids)?;
        }
        meet_all(window, dir, *first, &found.ids)?;
        recovered.index.frames.extend(found.frames);
        recovered.index.sealed.push_back((path, recovered.next - 1));
    }
    Ok(recovered)
}

fn meet_all(window: &mut Window, dir: &Path, first: u64, ids: &[(u128, u64)]) -> Result<(), IngestError> {
    for (key, mark) in ids {
        window.meet(*key, *mark);
    }
    drop_files(window.filed(segment::ids_path(dir, first)))
}

pub(crate) fn drop_files(files: Vec<PathBuf>) -> Result<(), IngestError> {
    for file in files {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(IngestError::log("forgetting ids")(error));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn read_done(dir: &Path) -> u64 {
    // Without it everything that is there is read once more, and the lake recognises it.
    std::fs::read_to_string(dir.join("done")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

pub(crate) fn write_done(dir: &Path, done: u64) -> Result<(), IngestError> {
    let draft = dir.join("done.draft");
    let written = std::fs::write(&draft, done.to_string()).and_then(|()| std::fs::rename(&draft, dir.join("done")));
    written.map_err(IngestError::log("truncating"))
}

#[cfg(test)]
mod tests;
