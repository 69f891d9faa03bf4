//! A copy of the usage log beside the process that writes it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crate::{IngestError, recovery::Known, segment, usage_log::lock};

/// The files of a usage log, held open: what the lake takes meanwhile and the log forgets stays readable.
#[derive(Debug)]
pub struct PinnedLog {
    dir: PathBuf,
    /// What was known at the beginning: up to where the lake had everything. `None` in a folder without a log.
    known: Option<Vec<u8>>,
    /// By their first positions.
    files: BTreeMap<u64, File>,
    // Held if nobody else held it: then nobody begins to write while the log is pinned.
    lock: Option<File>,
}

/// A written copy of a log.
#[derive(Debug)]
pub struct LogCopy {
    /// Names of the files.
    pub files: Vec<String>,
    /// Position of the last entry that is in the copy or was in the lake at the beginning; 0 before the first.
    pub through: u64,
}

impl PinnedLog {
    /// Begins to hold the log in `dir`. Everything it has forgotten by then is in the lake.
    pub fn begin(dir: &Path) -> Result<Self, IngestError> {
        std::fs::create_dir_all(dir).map_err(IngestError::log("creating its folder"))?;
        let lock = match lock(dir) {
            Ok(lock) => Some(lock),
            Err(IngestError::LogInUse { .. }) => None,
            Err(error) => return Err(error),
        };
        let mut pinned = Self { dir: dir.to_owned(), known: None, files: BTreeMap::new(), lock };
        pinned.follow()?;
        // After the files: those that were deleted before they could be held are known to be in the lake by now.
        match std::fs::read(Known::path(dir)) {
            Ok(known) => pinned.known = Some(known),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(IngestError::log("reading what the lake has")(error)),
        }
        Ok(pinned)
    }

    /// Whether no other process had the log open.
    pub fn is_alone(&self) -> bool {
        self.lock.is_some()
    }

    /// The log's own name; `None` if nobody ever wrote it.
    pub fn log_id(&self) -> Result<Option<String>, IngestError> {
        for file in self.files.values().rev() {
            // One that was just begun may have no preamble yet.
            if let Some(log_id) = segment::log_id(file).map_err(IngestError::log("reading its name"))? {
                return Ok(Some(log_id));
            }
        }
        Ok(None)
    }

    /// Opens what came since the last look. To be called more often than the log can fill a file and the lake take
    /// it; [`Self::write`] notices if it was not.
    pub fn follow(&mut self) -> Result<(), IngestError> {
        for first in segment::list(&self.dir, "log").map_err(IngestError::log("listing its files"))? {
            if let Entry::Vacant(place) = self.files.entry(first) {
                match File::open(segment::log_path(&self.dir, first)) {
                    Ok(file) => {
                        place.insert(file);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(IngestError::log("opening")(error)),
                }
            }
        }
        Ok(())
    }

    /// Writes the log of the time from [`Self::begin`] to now into the folder `to`.
    pub fn write(mut self, to: &Path) -> Result<LogCopy, IngestError> {
        self.follow()?;
        std::fs::create_dir_all(to).map_err(IngestError::log("creating the copy's folder"))?;
        let mut names = Vec::new();
        let mut next: Option<u64> = None;
        for (first, file) in &mut self.files {
            if next.is_some_and(|next| next != *first) {
                let hole = io::Error::other("a file came and went between two looks; try again");
                return Err(IngestError::log("following its files")(hole));
            }
            let path = segment::log_path(to, *first);
            let copied = File::create(&path).and_then(|mut copy| io::copy(file, &mut copy));
            copied.map_err(IngestError::log("copying"))?;
            // The last file may end in the middle of a frame: nobody was promised that one before the copy began.
            let n_frames = segment::scan(to, *first)?.map_or(0, |found| found.frames.len() as u64);
            next = Some(*first + n_frames);
            names.push(name(&path));
        }
        // Not those of files that began since the last look.
        let newest = self.files.last_key_value().map_or(0, |(first, _)| *first);
        let ids = segment::list(&self.dir, "ids").map_err(IngestError::log("listing its files"))?;
        for first in ids.into_iter().filter(|first| *first <= newest) {
            let path = segment::ids_path(to, first);
            match std::fs::copy(segment::ids_path(&self.dir, first), &path) {
                Ok(_) => names.push(name(&path)),
                // Ids grow too old to matter while they are copied.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(IngestError::log("copying ids")(error)),
            }
        }
        if let Some(known) = &self.known {
            let path = Known::path(to);
            std::fs::write(&path, known).map_err(IngestError::log("copying what the lake has"))?;
            names.push(name(&path));
        }
        let last = next.map_or(0, |next| next.saturating_sub(1));
        Ok(LogCopy { files: names, through: last.max(Known::read(to)?.done) })
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
