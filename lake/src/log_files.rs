//! The files of a table's log in a folder, by their names.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::{LakeError, location::LOG};

/// How the name of an entry ends.
pub(crate) const ENTRY: &str = ".json";
/// How the name of a checkpoint ends.
pub(crate) const CHECKPOINT: &str = ".checkpoint.parquet";
/// Names the newest checkpoint; who reads a log begins there.
pub(crate) const HINT: &str = "_last_checkpoint";

/// The names of all files of the log of the table in `root`; none before it has one.
pub(crate) fn names(root: &Path) -> Result<Vec<String>, LakeError> {
    let log = root.join(LOG);
    if !log.is_dir() {
        return Ok(Vec::new());
    }
    let io = |source| LakeError::Io { path: log.clone(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&log).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The version in a name with this ending.
pub(crate) fn version(name: &str, ending: &str) -> Option<u64> {
    name.strip_suffix(ending).filter(|digits| digits.len() == 20)?.parse().ok()
}

/// The versions in those names that have this ending.
pub(crate) fn versions(names: &[String], ending: &str) -> BTreeSet<u64> {
    names.iter().filter_map(|name| version(name, ending)).collect()
}

/// The file of a version with this ending, of the table in `root`.
pub(crate) fn path(root: &Path, version: u64, ending: &str) -> PathBuf {
    root.join(LOG).join(format!("{version:020}{ending}"))
}
