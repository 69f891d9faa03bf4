//! What the folder of a log is found to hold, against what it is known to have acknowledged: refuse rather than guess.

use std::{
    collections::VecDeque,
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    IngestError, LogFault,
    segment::{self, FrameRef},
    window::Window,
};

const NAME: &str = "done";

/// What is known of a log beside its files. Never more than is durable in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// `None` where only a number is written, by an earlier version or by hand.
    pub(crate) log_id: Option<String>,
    /// Position up to which the lake has everything.
    pub(crate) done: u64,
    /// A position that was given out: the last one, if the log was stopped.
    pub(crate) written: u64,
    /// First position of the newest file; 0 if that is not known.
    pub(crate) newest: u64,
}

impl Known {
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    pub(crate) fn read(dir: &Path) -> Result<Self, IngestError> {
        let path = Self::path(dir);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            read => read.map_err(IngestError::log("reading what the lake has"))?,
        };
        let text = String::from_utf8_lossy(&bytes);
        // Power loss could empty the file of an earlier version.
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        if let Ok(done) = text.trim().parse::<u64>() {
            return Ok(Self { log_id: None, done, written: done, newest: 0 });
        }
        serde_json::from_str(&text).map_err(|_| IngestError::Damaged { path, at: 0 })
    }

    /// Durable when it returns: what is deleted after it is known to be gone.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), IngestError> {
        let text = serde_json::to_vec(self).map_err(IngestError::log("encoding"))?;
        let draft = dir.join("done.draft");
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&draft, Self::path(dir))
        });
        written.map_err(IngestError::room("noting what the lake has"))?;
        segment::sync_folder(dir)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// `None` if there is no log yet.
    pub(crate) log_id: Option<String>,
    /// Frames the lake may not have.
    pub(crate) frames: VecDeque<FrameRef>,
    /// Files with frames, oldest first, each with its last position.
    pub(crate) files: VecDeque<(PathBuf, u64)>,
    pub(crate) done: u64,
    /// The next position to give out.
    pub(crate) next: u64,
}

/// Reads what is there: ids into the window, frames into an index. The end that a crash tore is cut off.
pub(crate) fn recover(dir: &Path, window: &mut Window) -> Result<Recovered, IngestError> {
    let listed = |extension: &str| segment::list(dir, extension).map_err(IngestError::log("listing its files"));
    let known = Known::read(dir)?;
    let (logs, ids) = (listed("log")?, listed("ids")?);
    check_names(dir, &known, &logs, &ids)?;
    for first in ids.iter().filter(|first| !logs.contains(first)) {
        // Of a file whose events the lake has, or it would have been missed.
        match segment::read_ids(dir, *first)? {
            Some(ids) => meet_all(window, dir, *first, &ids)?,
            // Of an older version: repetitions are found when the lake merges its files.
            None => drop_files(vec![segment::ids_path(dir, *first)])?,
        }
    }
    let mut recovered =
        Recovered { done: known.done, next: logs.first().copied().unwrap_or(1), ..Recovered::default() };
    for first in &logs {
        let is_last = logs.last() == Some(first);
        if *first != recovered.next {
            return Err(incomplete(segment::log_path(dir, recovered.next), LogFault::Missing));
        }
        let path = segment::log_path(dir, *first);
        let Some(found) = segment::scan(dir, *first)? else {
            if !is_last || *first <= known.written.max(known.newest) {
                return Err(IngestError::Damaged { path, at: 0 });
            }
            std::fs::remove_file(&path).map_err(IngestError::log("removing an empty file"))?;
            break;
        };
        let log_id = recovered.log_id.as_ref().or(known.log_id.as_ref());
        if log_id.is_some_and(|log_id| *log_id != found.log_id) {
            return Err(incomplete(path, LogFault::Foreign));
        }
        recovered.next = first + found.frames.len() as u64;
        if let Some(at) = found.torn_at {
            if !is_last || recovered.next <= known.written {
                return Err(IngestError::Damaged { path, at });
            }
            tracing::warn!(log.file = %path.display(), log.torn_at = at, "the usage log's torn end is cut off");
            let cut = File::options().write(true).open(&path).and_then(|file| {
                file.set_len(at)?;
                file.sync_all()
            });
            cut.map_err(IngestError::log("cutting its torn end off"))?;
        }
        recovered.log_id = Some(found.log_id);
        if found.frames.is_empty() {
            continue;
        }
        if is_last || found.is_older || !segment::ids_path(dir, *first).exists() {
            segment::write_ids(dir, *first, &found.ids)?;
        }
        meet_all(window, dir, *first, &found.ids)?;
        recovered.frames.extend(found.frames.into_iter().filter(|frame| frame.position > known.done));
        recovered.files.push_back((path, recovered.next - 1));
    }
    if recovered.next <= known.written {
        let path = logs.last().map_or_else(|| Known::path(dir), |first| segment::log_path(dir, *first));
        let fault = LogFault::Short { acknowledged: known.written, found: recovered.next - 1 };
        return Err(incomplete(path, fault));
    }
    Ok(recovered)
}

/// Whether every file is there that must be, by the names of all.
fn check_names(dir: &Path, known: &Known, logs: &[u64], ids: &[u64]) -> Result<(), IngestError> {
    let next = known.done.saturating_add(1);
    if let Some(first) = logs.first().filter(|first| **first > next) {
        let fault = LogFault::OldestMissing { from: next, through: first - 1 };
        return Err(incomplete(segment::log_path(dir, *first), fault));
    }
    // Ids are written for files with frames, and files whose frames the lake has begin before its last one.
    let newest = (known.newest > 0).then_some(&known.newest);
    let mut needed = ids.iter().filter(|first| **first > known.done).chain(newest);
    match needed.find(|first| !logs.contains(first)) {
        Some(first) => Err(incomplete(segment::log_path(dir, *first), LogFault::Missing)),
        None => Ok(()),
    }
}

fn incomplete(path: PathBuf, fault: LogFault) -> IngestError {
    IngestError::Incomplete { path, fault }
}

fn meet_all(window: &mut Window, dir: &Path, first: u64, ids: &[(u128, u64)]) -> Result<(), IngestError> {
    for (key, mark) in ids {
        window.meet(*key, *mark);
    }
    drop_files(window.filed(segment::ids_path(dir, first)))
}

pub(crate) fn drop_files(files: Vec<PathBuf>) -> Result<(), IngestError> {
    files.iter().try_for_each(|file| segment::remove(file.as_path())).map_err(IngestError::log("forgetting ids"))
}
