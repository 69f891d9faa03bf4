//! A checkpoint of a table's log that cannot be read: torn by power loss.
//!
//! A checkpoint repeats what entries say, so that a reader need not begin with the first of them. The log library makes
//! it visible, and the hint that names it, before its content is on disk: a power cut in between leaves a table that
//! cannot be opened although nothing of it is lost. Such a checkpoint is deleted; kept, it would be a file of which
//! nobody can say whom it names. Entries are tidied up only behind one that was synced, so what it repeats is there.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::{
    LakeError, durable,
    location::LOG,
    log_files::{self, CHECKPOINT, ENTRY, HINT},
};

/// Deletes the newest checkpoints of the table in `root` if they cannot be read, and the hint if it names none that is
/// left.
///
/// Errors: the other files of the log do not say what such a checkpoint says.
pub(crate) fn delete_unreadable(root: &Path) -> Result<(), LakeError> {
    // First: a checkpoint that it names is there when the others are listed.
    let hint = read(&root.join(LOG).join(HINT))?;
    let names = log_files::names(root)?;
    let mut checkpoints = log_files::versions(&names, CHECKPOINT);
    let unreadable = unreadable_ones(root, &checkpoints)?;
    checkpoints.retain(|version| !unreadable.contains(version));
    if let Some(newest) = unreadable.last() {
        let entries = log_files::versions(&names, ENTRY);
        let first = checkpoints.last().map_or(0, |version| version + 1);
        if (first..=*newest).any(|version| !entries.contains(&version)) {
            let path = log_files::path(root, *newest, CHECKPOINT);
            return Err(LakeError::DamagedEntry { path, why: "entries that this checkpoint stands for are gone" });
        }
    }
    let log = root.join(LOG);
    let mut torn: Vec<PathBuf> = unreadable.iter().map(|version| log_files::path(root, *version, CHECKPOINT)).collect();
    if hint.is_some_and(|hint| named_by(&hint).is_none_or(|version| !checkpoints.contains(&version))) {
        torn.push(log.join(HINT));
    }
    for path in &torn {
        tracing::warn!(log.checkpoint = %path.display(), "a checkpoint was torn by a crash and is deleted");
        std::fs::remove_file(path).map_err(|source| LakeError::Io { path: path.clone(), source })?;
    }
    if torn.is_empty() { Ok(()) } else { durable::sync_path(&log) }
}

/// Of the checkpoints from the newest one down those that cannot be read, up to the first that can.
fn unreadable_ones(root: &Path, checkpoints: &BTreeSet<u64>) -> Result<BTreeSet<u64>, LakeError> {
    let mut unreadable = BTreeSet::new();
    for version in checkpoints.iter().rev() {
        // One that is gone was tidied up by another process, which has a newer one.
        match read(&log_files::path(root, *version, CHECKPOINT))? {
            Some(content) if !is_readable(content.clone()) => unreadable.insert(*version),
            _ => break,
        };
    }
    Ok(unreadable)
}

/// What a file holds; `None` if there is none.
fn read(path: &Path) -> Result<Option<Bytes>, LakeError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(Bytes::from(content))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LakeError::UnreadableEntry { path: path.to_owned(), source }),
    }
}

/// To the last row: power loss can leave zeros in the middle as well.
fn is_readable(content: Bytes) -> bool {
    ParquetRecordBatchReaderBuilder::try_new(content)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .is_ok_and(|mut batches| batches.all(|batch| batch.is_ok()))
}

fn named_by(hint: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(hint).ok()?.get("version")?.as_u64()
}
