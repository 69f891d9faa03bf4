//! What is acknowledged survives power loss.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
};

use crate::{LakeError, torn};

const THREADS_MAX: usize = 8;

/// Makes files below `root`, and the folders that lead to them, durable.
pub(crate) async fn sync(root: PathBuf, files: Vec<String>) -> Result<(), LakeError> {
    tokio::task::spawn_blocking(move || sync_now(&root, &files)).await.map_err(LakeError::Task)?
}

fn sync_now(root: &Path, files: &[String]) -> Result<(), LakeError> {
    let files: Vec<PathBuf> = files.iter().map(|file| root.join(file)).collect();
    let mut folders = BTreeSet::from([root.to_owned()]);
    for file in &files {
        folders.extend(file.ancestors().skip(1).take_while(|p| *p != root).map(Path::to_owned));
    }
    sync_all(&files)?;
    sync_all(&folders.into_iter().collect::<Vec<_>>())
}

/// Syncs from several threads: the file system joins waiting syncs into one write of its journal.
fn sync_all(paths: &[PathBuf]) -> Result<(), LakeError> {
    let share = paths.len().div_ceil(THREADS_MAX).max(1);
    std::thread::scope(|scope| {
        let mut shares = paths.chunks(share);
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> = shares.map(|paths| scope.spawn(|| sync_each(paths))).collect();
        let own = sync_each(own);
        others
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .fold(own, Result::and)
    })
}

fn sync_each(paths: &[PathBuf]) -> Result<(), LakeError> {
    paths.iter().try_for_each(|path| sync_path(path))
}

pub(crate) fn sync_path(path: &Path) -> Result<(), LakeError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| LakeError::Io { path: path.to_owned(), source })
}

/// Makes the last log entry of a table durable. A process that was killed between writing and syncing it left it in
/// memory only, and whoever reads it there takes its rows for committed.
pub(crate) async fn sync_last_entry(root: PathBuf) -> Result<(), LakeError> {
    let work = move || {
        let Some(entry) = last_entry(&root)? else { return Ok(()) };
        sync_path(&entry).and_then(|()| sync_path(&root.join("_delta_log")))?;
        if let Some(version) = entry.file_stem().and_then(|stem| stem.to_str()?.parse().ok()) {
            torn::note_synced(&root, version);
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work).await.map_err(LakeError::Task)?
}

/// The newest entry of a table's log.
pub(crate) fn last_entry(root: &Path) -> Result<Option<PathBuf>, LakeError> {
    let log = root.join("_delta_log");
    if !log.is_dir() {
        return Ok(None);
    }
    let io = |source| LakeError::Io { path: log.clone(), source };
    let mut last: Option<PathBuf> = None;
    for entry in std::fs::read_dir(&log).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let is_entry = path
            .file_stem()
            .is_some_and(|stem| stem.len() == 20 && stem.as_encoded_bytes().iter().all(u8::is_ascii_digit))
            && path.extension().is_some_and(|extension| extension == "json");
        if is_entry && last.as_ref().is_none_or(|known| *known < path) {
            last = Some(path);
        }
    }
    Ok(last)
}
