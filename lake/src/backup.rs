//! One version of every table, to be copied beside the process that goes on writing.

use std::{collections::BTreeSet, fs, io::ErrorKind, path::Path};

use deltalake::{DeltaTableBuilder, ensure_table_uri};

use crate::{
    LakeError, LakeLocation, LocationError, QUARANTINE,
    location::{LOG, write_file},
    log_files::{self, CHECKPOINT, ENTRY},
    torn,
};

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

/// Copies the logs of a lake, each up to its newest version, to the folder `to`, and names the data files of these
/// versions.
pub async fn pin_lake(location: impl Into<LakeLocation>, to: &Path) -> Result<PinnedLake, LakeError> {
    let location: LakeLocation = location.into();
    let names = match location.folder() {
        Some(dir) => in_order(tables_in(dir)?),
        None => in_order(tables_among(&location.paths().await?)),
    };
    let mut pinned = PinnedLake::default();
    for name in names {
        let copy = to.join(&name);
        let log_files = match location.folder() {
            Some(dir) => {
                let (table, copy, label) = (dir.join(&name), copy.clone(), name.clone());
                let copied = tokio::task::spawn_blocking(move || copy_log(&label, &table, &copy)).await;
                copied.map_err(LakeError::Task)??
            }
            None => fetch_log(&location, &name, to).await?,
        };
        pinned.log_files.extend(log_files.iter().map(|file| format!("{name}/{LOG}/{file}")));
        let data_files = live_files(&name, &copy).await?;
        pinned.data_files.extend(data_files.iter().map(|file| format!("{name}/{file}")));
    }
    Ok(pinned)
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> LakeError {
    let path = path.to_owned();
    move |source| LakeError::Io { path: path.clone(), source }
}

/// The quarantine is last: what compaction moves there from a table it writes there before it takes it away, so that
/// a row is in one of the two versions at least.
fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.sort_by_key(|name| (name.as_str() == QUARANTINE, name.clone()));
    names
}

fn tables_in(dir: &Path) -> Result<Vec<String>, LakeError> {
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
    Ok(names)
}

/// The tables that files of a bucket belong to.
fn tables_among(paths: &[String]) -> Vec<String> {
    let tables = paths.iter().filter_map(|path| path.split_once('/'));
    let names: BTreeSet<&str> = tables
        .filter(|(_, file)| file.strip_prefix(LOG).is_some_and(|rest| rest.starts_with('/')))
        .map(|t| t.0)
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Copies a table's log and gives the names of its files.
fn copy_log(name: &str, table: &Path, to: &Path) -> Result<Vec<String>, LakeError> {
    let (log, copy) = (table.join(LOG), to.join(LOG));
    for _ in 0..ATTEMPTS {
        fs::create_dir_all(&copy).map_err(io_error(&copy))?;
        let names = log_files::names(table)?;
        let Some(files) = newest_version(&names) else { continue };
        let copied = files.iter().try_for_each(|file| fs::copy(log.join(file), copy.join(file)).map(drop));
        match copied {
            Ok(()) => {
                torn::check_entries(to)?;
                return Ok(files);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::remove_dir_all(&copy).map_err(io_error(&copy))?;
            }
            Err(source) => return Err(LakeError::Io { path: log, source }),
        }
    }
    Err(LakeError::Contended { table: name.to_owned(), attempts: ATTEMPTS })
}

/// Copies a table's log out of a bucket to below the folder `to` and gives the names of its files.
async fn fetch_log(location: &LakeLocation, name: &str, to: &Path) -> Result<Vec<String>, LakeError> {
    let log = format!("{name}/{LOG}/");
    'again: for _ in 0..ATTEMPTS {
        let paths = location.paths_below(&log).await?;
        let names: Vec<String> = paths.iter().filter_map(|path| Some(path.strip_prefix(&log)?.to_owned())).collect();
        let Some(files) = newest_version(&names) else { continue };
        fs::create_dir_all(to.join(name)).map_err(io_error(to))?;
        for file in &files {
            let path = format!("{log}{file}");
            let Some(content) = location.read(&path).await? else {
                let copy = to.join(name);
                fs::remove_dir_all(&copy).map_err(io_error(&copy))?;
                continue 'again;
            };
            let written = write_file(to.join(&path), content).await;
            written.map_err(|source| LocationError::File { path, source: Box::new(source) })?;
        }
        return Ok(files);
    }
    Err(LakeError::Contended { table: name.to_owned(), attempts: ATTEMPTS })
}

/// The newest checkpoint of a log and its entries from there on, out of the names of its files. `None` if the list has
/// a hole, because files came and went while it was made.
fn newest_version(names: &[String]) -> Option<Vec<String>> {
    let entries = log_files::versions(names, ENTRY);
    let checkpoints = log_files::versions(names, CHECKPOINT);
    let last = entries.last().copied()?;
    let checkpoint = checkpoints.range(..=last).next_back().copied();
    let first = checkpoint.unwrap_or(0);
    if (first..=last).any(|version| !entries.contains(&version)) {
        return None;
    }
    // The pointer to the newest checkpoint stays behind: it may name one that came after this version.
    let mut files: Vec<String> = (first..=last).map(|version| format!("{version:020}{ENTRY}")).collect();
    files.extend(checkpoint.map(|version| format!("{version:020}{CHECKPOINT}")));
    Some(files)
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
        let mut names: Vec<String> = Vec::new();
        assert_eq!(newest_version(&names), None);
        names.extend([2, 3, 4].map(|version| format!("{version:020}.json")));
        assert_eq!(newest_version(&names), None, "entries 0 and 1 are gone");
        let others =
            ["00000000000000000003.checkpoint.parquet", "_last_checkpoint", "00000000000000000009.checkpoint.parquet"];
        names.extend(others.map(str::to_owned));
        let expected =
            ["00000000000000000003.json", "00000000000000000004.json", "00000000000000000003.checkpoint.parquet"];
        assert_eq!(newest_version(&names).unwrap(), expected);
    }

    #[test]
    fn what_has_a_log_is_a_table() {
        let paths = ["app/_delta_log/0.json", "app/a.parquet", "coupon/_delta_logs/0", "quarantine/_delta_log/1", "x"];
        let names = tables_among(&paths.map(str::to_owned));
        assert_eq!(in_order(names), ["app", "quarantine"]);
    }
}
