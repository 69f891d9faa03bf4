//! A log entry that cannot be read: torn by power loss, or damaged afterwards.
//!
//! The log library makes an entry visible before its content is on disk. A power cut in between can leave it empty or
//! cut off, and the table could not be read any more. Such an entry was never acknowledged: it is set aside, and its
//! rows come again. An entry that was acknowledged and is damaged looks the same, and its rows would not come again. So
//! none is set aside while anything speaks for the second: that it was synced, or what the sources were told.
//!
//! Each entry is synced before the next one is written, so only the last can be torn. An empty one before it is damage,
//! which the log library takes for an entry that did nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    LakeError, checkpoint, durable,
    location::LOG,
    log_files::{self, CHECKPOINT, ENTRY},
    table::Table,
};

/// Names the newest entry of a table's log that was synced, as were all before it. Not synced itself: missing or older it says nothing, and
/// it is written after the sync of which it tells.
const SYNCED: &str = "_last_synced";

/// What the sources of a lake's rows were told that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The highest version of each application; other applications were told nothing.
    Through(BTreeMap<String, i64>),
    /// Whoever opens the lake cannot know. Nothing is set aside then.
    Unknown,
}

/// A last log entry that is not whole.
#[derive(Debug)]
pub(crate) struct TornEntry {
    path: PathBuf,
    version: u64,
    /// Versions of applications in those lines that can be read.
    txns: BTreeMap<String, i64>,
    is_synced: bool,
}

impl TornEntry {
    /// The last entry of the log of the table in `root`, if it is not whole.
    ///
    /// Errors: it cannot be read, which says nothing about what it holds.
    pub(crate) fn of(root: &Path) -> Result<Option<Self>, LakeError> {
        let Some(version) = log_files::versions(&log_files::names(root)?, ENTRY).pop_last() else { return Ok(None) };
        let path = log_files::path(root, version, ENTRY);
        let content =
            std::fs::read(&path).map_err(|source| LakeError::UnreadableEntry { path: path.clone(), source })?;
        let lines: Vec<Option<Value>> = content
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).ok())
            .collect();
        if !lines.is_empty() && lines.iter().all(Option::is_some) {
            return Ok(None);
        }
        let txns = lines.iter().flatten().filter_map(|action| {
            let txn = action.get("txn")?;
            Some((txn.get("appId")?.as_str()?.to_owned(), txn.get("version")?.as_i64()?))
        });
        let txns = txns.collect();
        let is_synced = synced_version(root).is_some_and(|synced| synced >= version);
        Ok(Some(Self { path, version, txns, is_synced }))
    }

    fn damaged(&self, why: &'static str) -> LakeError {
        LakeError::DamagedEntry { path: self.path.clone(), why }
    }

    /// Errors: it may have been acknowledged.
    fn check(&self, told: &Told) -> Result<(), LakeError> {
        if self.is_synced {
            return Err(self.damaged("it was on the disk when it was acknowledged"));
        }
        let Told::Through(told) = told else {
            return Err(self.damaged("only a server that starts knows whether it was acknowledged"));
        };
        if self.txns.iter().any(|(app, version)| told.get(app).is_some_and(|done| done >= version)) {
            return Err(self.damaged("it was acknowledged to the source of its rows"));
        }
        Ok(())
    }

    fn set_aside(&self, root: &Path) -> Result<(), LakeError> {
        tracing::warn!(log.entry = %self.path.display(), "the last log entry was torn by a crash and is set aside");
        std::fs::rename(&self.path, self.path.with_extension("json.torn"))
            .map_err(|source| LakeError::Io { path: self.path.clone(), source })?;
        durable::sync_path(&root.join(LOG))
    }
}

/// Deletes torn checkpoints of the tables, and sets torn last entries aside, all or none of these.
///
/// Errors: one of them cannot be read, or may have been acknowledged; or something else is damaged.
pub(crate) async fn set_aside(
    tables: &BTreeMap<&'static str, tokio::sync::Mutex<Table>>,
    told: &Told,
) -> Result<(), LakeError> {
    let mut torn: BTreeMap<&str, (PathBuf, TornEntry)> = BTreeMap::new();
    for (name, table) in tables {
        let Some(root) = table.lock().await.folder() else { continue };
        let looked_at = root.clone();
        tokio::task::spawn_blocking(move || checkpoint::delete_unreadable(&looked_at))
            .await
            .map_err(LakeError::Task)??;
        check_middle(&root)?;
        if let Some(entry) = TornEntry::of(&root)? {
            torn.insert(*name, (root, entry));
        }
    }
    for (_, entry) in torn.values() {
        entry.check(told)?;
    }
    // The entry that makes a table has no rows.
    if let (Some((_, entry)), Told::Through(told)) = (torn.values().find(|(_, entry)| entry.version > 0), told)
        && !told.is_empty()
    {
        let apps: BTreeSet<Arc<str>> = told.keys().map(|app| Arc::from(app.as_str())).collect();
        let mut held: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        for (name, table) in tables {
            let before = torn.get(*name).map(|(_, entry)| entry.version);
            for (app, version) in table.lock().await.versions_of(&apps, before).await? {
                let highest = held.entry(app).or_insert(version);
                *highest = (*highest).max(version);
            }
        }
        // What a source was told is in one table at least, so it was in this entry. A name that no table knows was
        // never told anything: its source goes on counting under it.
        if told.iter().any(|(app, done)| held.get(app.as_str()).is_some_and(|version| version < done)) {
            return Err(entry.damaged("the source of its rows was told of more than the other entries hold"));
        }
    }
    for (root, entry) in torn.values() {
        entry.set_aside(root)?;
    }
    Ok(())
}

/// Errors: an entry of the log of the table in `root` that has others after it is empty. Those behind the newest
/// checkpoint are not read by anybody.
pub(crate) fn check_middle(root: &Path) -> Result<(), LakeError> {
    let names = log_files::names(root)?;
    let mut entries = log_files::versions(&names, ENTRY);
    entries.pop_last();
    let first = log_files::versions(&names, CHECKPOINT).last().map_or(0, |version| version + 1);
    for version in entries.range(first..) {
        let path = log_files::path(root, *version, ENTRY);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() == 0 => {
                return Err(LakeError::DamagedEntry { path, why: "it is empty, and others come after it" });
            }
            Ok(_) => {}
            // Another process has tidied up.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(LakeError::UnreadableEntry { path, source }),
        }
    }
    Ok(())
}

/// Errors: an entry of the log of the table in `root` is not whole, or cannot be read.
pub(crate) fn check_entries(root: &Path) -> Result<(), LakeError> {
    check_middle(root)?;
    TornEntry::of(root)?.map_or(Ok(()), |entry| entry.check(&Told::Unknown))
}

/// The newest entry that is known to be on the disk with all before it.
pub(crate) fn synced_version(root: &Path) -> Option<u64> {
    std::fs::read_to_string(root.join(LOG).join(SYNCED)).ok()?.trim().parse().ok()
}

/// Notes that the entries up to this one were synced. Of two processes that commit at once the older entry may be noted last, which
/// says less and nothing wrong.
pub(crate) fn note_synced(root: &Path, version: u64) {
    if let Err(error) = std::fs::write(root.join(LOG).join(SYNCED), version.to_string()) {
        tracing::warn!(error = %error, lake.table = %root.display(), "that a log entry was synced could not be noted");
    }
}
