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
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use todoke_domain::{Event, Timestamp};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};

use crate::{
    IngestError, RejectReason, Rejected,
    log_writer::{Request, Writer},
    recovery::{Known, recover},
    row::{self, EncodedEvents, LogRows},
    segment::{self, Disk, FrameRef},
    window::Window,
};

/// Pause between two looks at whether the lake has what somebody waits for, and looks before it is asked for again.
const FLUSH_LOOK: Duration = Duration::from_millis(50);
const FLUSH_LOOKS: u32 = 20;

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
    /// The last position that was given out and is durable.
    pub(crate) written: u64,
    /// First position of the file that is written.
    pub(crate) newest: u64,
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
    /// Somebody waits until the lake has what is here.
    flush_asked: AtomicBool,
    // std Mutex: held for a few pushes or a drain, never across an await.
    index: Mutex<Index>,
    // Held while what is known is noted and files are deleted: one after the other, from one thread at a time.
    noting: Mutex<()>,
    // Held, not read: another process that wants it is told.
    _lock: File,
}

impl Common {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes durably what the lake has and what was given out.
    pub(crate) fn note(&self) -> Result<(), IngestError> {
        let _noting = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        self.note_alone().map(|_| ())
    }

    /// Does that, and deletes the files that hold nothing but what the lake has.
    pub(crate) fn settle(&self) -> Result<(), IngestError> {
        let _noting = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.note_alone()?;
        let mut deleted = false;
        while let Some(path) = self.unneeded(done) {
            segment::remove(&path).map_err(IngestError::log("deleting what the lake has"))?;
            // Only now: one that could not be deleted is tried again.
            self.index().sealed.pop_front();
            deleted = true;
        }
        // People may be forgotten on the strength of this.
        if deleted { segment::sync_folder(&self.dir) } else { Ok(()) }
    }

    fn note_alone(&self) -> Result<u64, IngestError> {
        let known = {
            let index = self.index();
            let log_id = Some(self.log_id.clone());
            Known { log_id, done: index.done, written: index.written, newest: index.newest }
        };
        known.write(&self.dir)?;
        Ok(known.done)
    }

    fn unneeded(&self, done: u64) -> Option<PathBuf> {
        self.index().sealed.front().filter(|(_, last)| *last <= done).map(|(path, _)| path.clone())
    }
}

struct Inner {
    common: Arc<Common>,
    // `None` once the log is closed.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<Result<(), IngestError>>>>,
}

impl Inner {
    /// Hands a request to the writer. `false` if too many wait.
    fn send(&self, request: Request) -> Result<bool, IngestError> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = requests.as_ref().ok_or(IngestError::Closed)?;
        Ok(!matches!(sender.try_send(request), Err(mpsc::error::TrySendError::Full(_))))
    }

    /// Ends the writer once it has committed what waits. Does nothing the second time.
    fn end(&self) -> Result<(), IngestError> {
        drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(IngestError::log("ending its writer")(std::io::Error::other("it panicked"))),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(error = &error as &dyn std::error::Error, "the usage log is left as after a crash");
        }
    }
}

/// The durable log of app events on this node. Cheap to clone; the folder is released when the last
/// clone is dropped, after everything that waits is committed. What the lake has by then is deleted.
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
    /// nobody was promised, is cut off; files that hold nothing but what the lake has are deleted.
    ///
    /// Errors: [`IngestError::LogInUse`] if another process has it open, [`IngestError::Damaged`] and
    /// [`IngestError::Incomplete`] if something that was acknowledged cannot be read any more or is not there,
    /// [`IngestError::Newer`].
    pub fn open(dir: &Path, config: UsageLogConfig) -> Result<Self, IngestError> {
        Self::open_with(dir, config, Box::new(open_file))
    }

    pub(crate) fn open_with(dir: &Path, config: UsageLogConfig, open: OpenDisk) -> Result<Self, IngestError> {
        std::fs::create_dir_all(dir).map_err(IngestError::log("creating its folder"))?;
        let lock = lock(dir)?;
        let mut window = Window::new(config.ids_max);
        let recovered = recover(dir, &mut window)?;
        let backlog = recovered.frames.iter().map(FrameRef::n_bytes).sum();
        let index = Index {
            frames: recovered.frames,
            sealed: recovered.files,
            done: recovered.done,
            written: recovered.next.saturating_sub(1),
            newest: 0,
            failure: None,
        };
        let common = Arc::new(Common {
            dir: dir.to_owned(),
            log_id: recovered.log_id.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string()),
            waiting_bytes: AtomicU64::new(0),
            backlog_bytes: AtomicU64::new(backlog),
            committed: Arc::new(Notify::new()),
            flush_asked: AtomicBool::new(false),
            index: Mutex::new(index),
            noting: Mutex::new(()),
            _lock: lock,
            config,
        });
        let (requests, waiting) = mpsc::channel(common.config.waiting_requests_max);
        let writer = Writer::begin(Arc::clone(&common), waiting, window, recovered.next, open)?;
        let thread = std::thread::Builder::new()
            .name("usage-log".to_owned())
            .spawn(move || writer.run())
            .map_err(IngestError::log("starting its writer"))?;
        let inner = Inner { common, requests: Mutex::new(Some(requests)), writer: Mutex::new(Some(thread)) };
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
        // One request is let in whatever its size, or a large one could never be.
        let has_room = waiting == 0 || waiting + bytes <= common.config.waiting_bytes_max;
        let sent = if has_room { self.inner.send(request) } else { Ok(false) };
        if !matches!(sent, Ok(true)) {
            common.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        if !sent? {
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
        Self::app_id_of(node, &self.inner.common.log_id)
    }

    /// As [`Self::app_id`], for a log that is known by its name only.
    pub fn app_id_of(node: &str, log_id: &str) -> String {
        format!("usage:{node}:{log_id}")
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
    /// are deleted. After an error it can be called again, and then does what is left.
    pub async fn truncate(&self, through_position: u64) -> Result<(), IngestError> {
        let common = Arc::clone(&self.inner.common);
        blocking(move || {
            let mut freed = 0;
            {
                let mut index = common.index();
                while let Some(frame) = index.frames.front().filter(|frame| frame.position <= through_position) {
                    freed += frame.n_bytes();
                    index.done = frame.position;
                    index.frames.pop_front();
                }
            }
            common.backlog_bytes.fetch_sub(freed, Ordering::Relaxed);
            common.settle()
        })
        .await
    }

    /// Waits until the lake has everything that is durable here at the call, without regard to its age. Gives the
    /// position of the last of it.
    ///
    /// Waits for as long as the lake refuses or no sink runs. Cancel safe.
    pub async fn flushed(&self) -> u64 {
        let position = {
            let index = self.inner.common.index();
            index.frames.back().map_or(index.done, |frame| frame.position)
        };
        let is_done = || self.inner.common.index().done >= position;
        while !is_done() {
            // Again and again, but not at every look: a lake that refuses is not to be asked all the time.
            self.inner.common.flush_asked.store(true, Ordering::Release);
            self.inner.common.committed.notify_one();
            for _ in 0..FLUSH_LOOKS {
                if is_done() {
                    break;
                }
                sleep(FLUSH_LOOK).await;
            }
        }
        position
    }

    /// Whether somebody has asked for a commit to the lake since the last call.
    pub(crate) fn take_flush_request(&self) -> bool {
        self.inner.common.flush_asked.swap(false, Ordering::AcqRel)
    }

    /// Ends the log: commits what waits, and deletes every file that holds nothing but what the lake has. Nothing is
    /// taken any more, by no clone; the folder is released with the last one.
    ///
    /// Errors: what kept it from that, a failure of before included; then the folder is as after a crash.
    pub async fn close(&self) -> Result<(), IngestError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.end()).await
    }

    /// The position through which the lake is known to have everything; 0 before that is known.
    pub fn done(&self) -> u64 {
        self.inner.common.index().done
    }

    /// Notified after every commit, and when somebody waits for the lake.
    pub fn committed(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.common.committed)
    }

    /// Bytes of committed events that are not in the lake yet.
    pub fn backlog_bytes(&self) -> u64 {
        self.inner.common.backlog_bytes.load(Ordering::Relaxed)
    }

    /// When the oldest of these events came in.
    pub async fn oldest(&self) -> Result<Option<Timestamp>, IngestError> {
        let Some(frame) = self.inner.common.index().frames.front().cloned() else { return Ok(None) };
        blocking(move || {
            let recorded_at = row::recorded_at(&frame.read()?).map_err(IngestError::log("decoding an entry"))?;
            Ok(Some(recorded_at))
        })
        .await
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

#[cfg(test)]
mod tests;
