//! What is acknowledged survives power loss.

use std::{
    collections::BTreeSet,
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{
    LakeError,
    location::LOG,
    log_files::{self, CHECKPOINT, ENTRY, HINT},
};

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

/// Makes entries of a table's log durable: those after one that is known to be, up to the last, each before the next.
/// A process that was killed between writing and syncing an entry left it in memory only, and whoever reads it there
/// takes its rows for committed.
pub(crate) async fn sync_entries(root: PathBuf, after: Option<u64>, last: u64) -> Result<(), LakeError> {
    let work = move || {
        let first = match after {
            Some(after) => after + 1,
            None => log_files::versions(&log_files::names(&root)?, ENTRY).first().copied().unwrap_or(last),
        };
        (first..=last).try_for_each(|version| sync_if_there(&log_files::path(&root, version, ENTRY)))?;
        sync_path(&root.join(LOG)).and_then(|()| sync_path(&root))
    };
    tokio::task::spawn_blocking(work).await.map_err(LakeError::Task)?
}

/// Makes the checkpoints of a table's log durable, and the hint that names the newest.
pub(crate) async fn sync_checkpoints(root: PathBuf) -> Result<(), LakeError> {
    let work = move || {
        let log = root.join(LOG);
        let mut names = log_files::names(&root)?;
        names.retain(|name| name.as_str() == HINT || log_files::version(name, CHECKPOINT).is_some());
        names.iter().try_for_each(|name| sync_if_there(&log.join(name)))?;
        sync_path(&log)
    };
    tokio::task::spawn_blocking(work).await.map_err(LakeError::Task)?
}

/// What is gone was tidied up behind a checkpoint that is on the disk.
fn sync_if_there(path: &Path) -> Result<(), LakeError> {
    match sync_path(path) {
        Err(LakeError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
