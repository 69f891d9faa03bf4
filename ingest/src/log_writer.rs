//! The thread that writes the usage log.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    IngestError,
    recovery::drop_files,
    row::EncodedEvents,
    segment::{self, Disk, FrameRef, HEAD_BYTES, Segment},
    usage_log::{Common, OpenDisk},
    window::{Known, Window},
};

/// What became of one request's events.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) accepted: u32,
    pub(crate) duplicates: u32,
    /// Places and ids of events whose id is another event's.
    pub(crate) reused: Vec<(usize, u128)>,
}

pub(crate) struct Request {
    pub(crate) events: EncodedEvents,
    /// Whether each event, over all blocks, is to be stored.
    pub(crate) wanted: Vec<bool>,
    pub(crate) bytes: u64,
    pub(crate) answer: oneshot::Sender<Result<Outcome, IngestError>>,
}

pub(crate) struct Writer {
    common: Arc<Common>,
    waiting: mpsc::Receiver<Request>,
    window: Window,
    open: OpenDisk,
    disk: Box<dyn Disk>,
    segment: Arc<Segment>,
    /// Bytes of the present file that are whole frames.
    offset: u64,
    /// Keys and marks of the events in the present file.
    ids: Vec<(u128, u64)>,
    next: u64,
    frame: Vec<u8>,
}

impl Writer {
    /// Begins a new file: what an earlier process wrote is never appended to.
    pub(crate) fn begin(
        common: Arc<Common>,
        waiting: mpsc::Receiver<Request>,
        window: Window,
        next: u64,
        open: OpenDisk,
    ) -> Result<Self, IngestError> {
        let (disk, segment, offset) = segment::begin(&common.dir, next, &common.log_id, &open)?;
        let segment = Arc::new(segment);
        common.index().newest = next;
        common.settle()?;
        Ok(Self { common, waiting, window, open, disk, segment, offset, ids: Vec::new(), next, frame: Vec::new() })
    }

    /// Until no sender is left.
    pub(crate) fn run(mut self) -> Result<(), IngestError> {
        while let Some(first) = self.waiting.blocking_recv() {
            let mut n_events = first.wanted.len();
            let mut group = vec![first];
            while n_events < self.common.config.commit_events_max
                && let Ok(next) = self.waiting.try_recv()
            {
                n_events += next.wanted.len();
                group.push(next);
            }
            self.commit(group);
        }
        self.end()
    }

    fn commit(&mut self, mut group: Vec<Request>) {
        let outcomes = self.store(&mut group);
        let bytes: u64 = group.iter().map(|request| request.bytes).sum();
        self.common.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        match outcomes {
            Ok(outcomes) => {
                for (request, outcome) in group.into_iter().zip(outcomes) {
                    // A caller that went away will send again and hear "duplicate".
                    let _ = request.answer.send(Ok(outcome));
                }
                self.common.committed.notify_one();
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "usage events could not be made durable");
                for request in group {
                    let _ = request.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn store(&mut self, group: &mut [Request]) -> Result<Vec<Outcome>, IngestError> {
        if let Some(failure) = self.common.index().failure.clone() {
            return Err(failure);
        }
        self.change_file()?;
        self.frame.clear();
        self.frame.resize(HEAD_BYTES, 0);
        let n_ids = self.ids.len();
        let mut outcomes = Vec::with_capacity(group.len());
        for request in group {
            outcomes.push(self.meet(request));
            let mut rest = request.wanted.as_slice();
            for block in &request.events.blocks {
                let (wanted, others) = rest.split_at(block.marks.len());
                block.write(wanted.contains(&false).then_some(wanted), &mut self.frame);
                rest = others;
            }
        }
        let n_rows = self.ids.len() - n_ids;
        if n_rows == 0 {
            // Nothing new: what the duplicates repeat is durable since its own commit.
            return Ok(outcomes);
        }
        if let Err(error) = self.write(n_rows) {
            for (key, _) in self.ids.drain(n_ids..) {
                self.window.forget(key);
            }
            return Err(error);
        }
        Ok(outcomes)
    }

    /// Looks every wanted event up; those that are not new are not wanted any more.
    fn meet(&mut self, request: &mut Request) -> Outcome {
        let mut outcome = Outcome::default();
        let blocks = request.events.blocks.iter();
        let marks = blocks.flat_map(|block| block.marks.iter().map(move |mark| (block.key(mark.id), mark)));
        for (at, ((key, mark), wanted)) in marks.zip(&mut request.wanted).enumerate() {
            if !*wanted {
                continue;
            }
            match self.window.meet(key, mark.mark) {
                Known::New => {
                    self.ids.push((key, mark.mark));
                    outcome.accepted += 1;
                }
                Known::Same => {
                    *wanted = false;
                    outcome.duplicates += 1;
                }
                Known::Other => {
                    *wanted = false;
                    outcome.reused.push((at, mark.id));
                }
            }
        }
        outcome
    }

    fn write(&mut self, n_rows: usize) -> Result<(), IngestError> {
        let n_rows = u32::try_from(n_rows).unwrap_or(u32::MAX);
        segment::seal_frame(&mut self.frame, n_rows, self.next);
        if let Err(error) = self.disk.append(&self.frame) {
            return Err(self.undo(error));
        }
        if let Err(error) = self.disk.sync() {
            // After a failed sync nobody knows what the disk has, and a second one may claim success
            // without it: from here on only a restart, which reads the disk, can tell.
            return Err(self.fail("syncing", error));
        }
        let frame = FrameRef::new(&self.segment, self.next, n_rows, self.offset, self.frame.len());
        self.offset += frame.n_bytes();
        self.common.backlog_bytes.fetch_add(frame.n_bytes(), Ordering::Relaxed);
        {
            let mut index = self.common.index();
            index.written = self.next;
            index.frames.push_back(frame);
        }
        self.next += 1;
        // The frame is durable: if the next file cannot be begun, that is the next commit's failure.
        if let Err(error) = self.change_file() {
            tracing::error!(error = &error as &dyn std::error::Error, "the usage log could not begin its next file");
        }
        Ok(())
    }

    /// Takes a frame back that could not be written whole.
    fn undo(&mut self, error: io::Error) -> IngestError {
        match self.disk.cut(self.offset).and_then(|()| self.disk.sync()) {
            Ok(()) => IngestError::room("writing")(error),
            Err(worse) => self.fail("taking a torn frame back", worse),
        }
    }

    fn fail(&mut self, doing: &'static str, error: io::Error) -> IngestError {
        let failure = IngestError::log(doing)(error);
        self.common.index().failure = Some(failure.clone());
        failure
    }

    /// Begins the next file if the present one is long enough. Where there is no room for it the present one stays,
    /// and the next commit tries again before it writes: the ids of this file may be beside it already.
    fn change_file(&mut self) -> Result<(), IngestError> {
        let is_due = self.offset >= self.common.config.file_bytes_max && self.next > self.segment.first;
        let changed = if is_due { self.next_file() } else { Ok(()) };
        if let Err(error) = &changed
            && !matches!(error, IngestError::DiskFull)
        {
            self.common.index().failure = Some(error.clone());
        }
        changed
    }

    /// Can be called again after an error.
    fn next_file(&mut self) -> Result<(), IngestError> {
        let dir = &self.common.dir;
        segment::write_ids(dir, self.segment.first, &self.ids)?;
        let (disk, segment, offset) = segment::begin(dir, self.next, &self.common.log_id, &self.open)?;
        self.ids.clear();
        let dropped = self.window.filed(segment::ids_path(dir, self.segment.first));
        let before = std::mem::replace(&mut self.segment, Arc::new(segment));
        self.disk = disk;
        self.offset = offset;
        {
            let mut index = self.common.index();
            index.sealed.push_back((before.path.clone(), self.next - 1));
            index.newest = self.next;
        }
        drop_files(dropped)?;
        self.common.note()
    }

    /// Leaves the folder as a clean stop does: it says what was acknowledged, and no file has only what the lake has.
    ///
    /// Errors: also what failed before; then the folder is as after a crash.
    fn end(mut self) -> Result<(), IngestError> {
        let is_empty = {
            let index = self.common.index();
            if let Some(failure) = index.failure.clone() {
                return Err(failure);
            }
            index.frames.is_empty()
        };
        if is_empty && self.next > self.segment.first {
            self.next_file()?;
        }
        self.common.settle()
    }
}
