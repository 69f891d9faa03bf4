//! One version of every table, to be copied beside the process that goes on writing.

use std::{collections::BTreeSet, fs, io::ErrorKind, path::Path};

use deltalake::{DeltaTableBuilder, ensure_table_uri};

use crate::{LakeError, QUARANTINE, durable};

const LOG: &str = "_delta_log";

/// A table's log is tidied up seldom, and in a moment.
const ATTEMPTS: usize = 5;

/// What makes up one version of a lake. Paths are below its folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedLake {
    /// Files of the logs. They are copied already.
    pub log_files: Vec<String>,
    /// Data files. They are not; the lake keeps them for its retention time, whatever replaces them meanwhile.
    pub data_files: Vec<String>,
}

/// Copies the logs of the lake in `dir`, each up to its newest version, to the folder `to`, and names the data files
/// of these versions.
pub async fn pin_lake(dir: &Path, to: &Path) -> Result<PinnedLake, LakeError> {
    let mut pinned = PinnedLake::default();
    for name in tables(dir)? {
        let (table, copy, label) = (dir.join(&name), to.join(&name), name.clone());
        let copied = tokio::task::spawn_blocking(move || copy_log(&label, &table, &copy)).await;
        let log_files = copied.map_err(LakeError::Task)??;
        pinned.log_files.extend(log_files.iter().map(|file| format!("{name}/{LOG}/{file}")));
        let data_files = live_files(&name, &to.join(&name)).await?;
        pinned.data_files.extend(data_files.iter().map(|file| format!("{name}/{file}")));
    }
    Ok(pinned)
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> LakeError {
    let path = path.to_owned();
    move |source| LakeError::Io { path: path.clone(), source }
}

/// Names of the tables. The quarantine is last: what compaction moves there from a table it writes there before it
/// takes it away, so that a row is in one of the two versions at least.
fn tables(dir: &Path) -> Result<Vec<String>, LakeError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let entry = entry.map_err(io_error(dir))?;
        if entry.path().join(LOG).is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort_by_key(|name| (name.as_str() == QUARANTINE, name.clone()));
    Ok(names)
}

/// Copies a table's log and gives the names of its files.
fn copy_log(name: &str, table: &Path, to: &Path) -> Result<Vec<String>, LakeError> {
    let (log, copy) = (table.join(LOG), to.join(LOG));
    for _ in 0..ATTEMPTS {
        fs::create_dir_all(&copy).map_err(io_error(&copy))?;
        let Some(files) = newest_version(&log)? else { continue };
        let copied = files.iter().try_for_each(|file| fs::copy(log.join(file), copy.join(file)).map(drop));
        match copied {
            Ok(()) => {
                durable::set_torn_entry_aside(to)?;
                return Ok(files.into_iter().filter(|file| copy.join(file).is_file()).collect());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::remove_dir_all(&copy).map_err(io_error(&copy))?;
            }
            Err(source) => return Err(LakeError::Io { path: log, source }),
        }
    }
    Err(LakeError::Contended { table: name.to_owned(), attempts: ATTEMPTS })
}

/// The newest checkpoint of a log and its entries from there on. `None` if the list has a hole, because files came
/// and went while it was made.
fn newest_version(log: &Path) -> Result<Option<Vec<String>>, LakeError> {
    let (mut entries, mut checkpoints) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(log).map_err(io_error(log))? {
        let name = entry.map_err(io_error(log))?.file_name();
        let name = name.to_string_lossy();
        entries.extend(version(&name, ".json"));
        checkpoints.extend(version(&name, CHECKPOINT));
    }
    let Some(last) = entries.last().copied() else { return Ok(None) };
    let checkpoint = checkpoints.range(..=last).next_back().copied();
    let first = checkpoint.unwrap_or(0);
    if (first..=last).any(|version| !entries.contains(&version)) {
        return Ok(None);
    }
    // The pointer to the newest checkpoint stays behind: it may name one that came after this version.
    let mut files: Vec<String> = (first..=last).map(|version| format!("{version:020}.json")).collect();
    files.extend(checkpoint.map(|version| format!("{version:020}{CHECKPOINT}")));
    Ok(Some(files))
}

const CHECKPOINT: &str = ".checkpoint.parquet";

fn version(name: &str, ending: &str) -> Option<u64> {
    name.strip_suffix(ending).filter(|digits| digits.len() == 20)?.parse().ok()
}

/// The data files of the version that a log ends with.
async fn live_files(name: &str, table: &Path) -> Result<Vec<String>, LakeError> {
    let mut delta = ensure_table_uri(table.to_string_lossy())
        .and_then(DeltaTableBuilder::from_url)
        .and_then(DeltaTableBuilder::build)
        .map_err(LakeError::delta(name, "opening"))?;
    delta.load().await.map_err(LakeError::delta(name, "opening"))?;
    let state = delta.snapshot().map_err(LakeError::delta(name, "reading the log"))?;
    let mut files = Vec::new();
    for file in state.log_data().iter() {
        files.push(file.path().into_owned());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_begins_at_the_newest_checkpoint_and_has_no_hole() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(dir.path().join(name), "{}").unwrap();
        assert_eq!(newest_version(dir.path()).unwrap(), None);
        for version in [2, 3, 4] {
            put(&format!("{version:020}.json"));
        }
        assert_eq!(newest_version(dir.path()).unwrap(), None, "entries 0 and 1 are gone");
        put("00000000000000000003.checkpoint.parquet");
        put("_last_checkpoint");
        put("00000000000000000009.checkpoint.parquet");
        let expected =
            ["00000000000000000003.json", "00000000000000000004.json", "00000000000000000003.checkpoint.parquet"];
        assert_eq!(newest_version(dir.path()).unwrap().unwrap(), expected);
    }
}
