//! Nodes that share a lake, and what they tell each other there.
//!
//! A server notes at the lake that its log may hold rows which the lake does not have. It takes the note away when it
//! stops and its log is empty; that of one that was killed stays until it was started and stopped again. Forgetting a
//! person leaves a note as well. Each leaves its own before it looks for the other's, so one of two sees the other.
//! A backup leaves one, too, and the nodes answer it there (`backup_note`); a restore notes of which nodes' logs it is.
//! A lake in the data folder has one node, which the lock of its log and its run file tell.

mod backup_note;
mod gone;
mod restored;

pub use backup_note::{Answering, BackupNote};
pub use gone::GoneNode;
pub use restored::{LogsCheck, Restored};

use std::{collections::BTreeMap, fs};

use anyhow::Context;
use todoke_ingest::UsageLog;
use todoke_lake::LakeLocation;

use crate::config::Config;

/// Note of an erasure that is under way.
const ERASING: &str = "erasing";
/// Note of a backup that is under way.
const BACKUP: &str = "backup";
/// Note of what the lake was restored from.
const RESTORED: &str = "restored";
/// How the names of nodes' answers to a backup begin; the name of the log follows.
const FLUSHED: &str = "flushed-";

/// A place that other nodes may use, too.
fn shared_location(config: &Config) -> anyhow::Result<Option<LakeLocation>> {
    if config.lake.url.is_empty() { Ok(None) } else { Ok(Some(config.lake_location()?)) }
}

/// What an operator finds this node by.
pub fn described(config: &Config) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let data = config.data.canonicalize().unwrap_or_else(|_| config.data.clone());
    format!("{}:{}", host.trim(), data.display())
}

/// Notes of nodes without that of the log `own`, by the names of their logs.
async fn others(location: &LakeLocation, own: Option<&str>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut notes = location.notes().await?;
    notes.retain(|name, _| is_node(name) && Some(name.as_str()) != own);
    Ok(notes)
}

/// Whether a note is one of a node; the others have names that no log has.
fn is_node(name: &str) -> bool {
    ![ERASING, BACKUP, RESTORED].contains(&name) && !name.starts_with(FLUSHED)
}

fn answer_of(log: &str) -> String {
    format!("{FLUSHED}{log}")
}

fn listed(nodes: &BTreeMap<String, String>) -> String {
    nodes.iter().map(|(log, place)| format!("{place} (nodes/{log})")).collect::<Vec<_>>().join(", ")
}

/// Errors: a person is being erased from the lake.
pub async fn refuse_while_erasing(config: &Config) -> anyhow::Result<()> {
    let Some(location) = shared_location(config)? else { return Ok(()) };
    match location.notes().await?.get(ERASING) {
        Some(place) => anyhow::bail!(
            "a person is being erased from the lake by {place}: try again afterwards, and if that was cut off, give its \
             command again there"
        ),
        None => Ok(()),
    }
}

/// That this node's log may hold rows which the lake does not have.
#[derive(Debug)]
pub struct NodeNote {
    location: LakeLocation,
    log: String,
}

impl NodeNote {
    /// Leaves the note; `None` where the lake is this node's alone.
    ///
    /// Errors: a person is being erased, or the lake does not answer.
    pub async fn leave(config: &Config, usage: &UsageLog) -> anyhow::Result<Option<Self>> {
        let Some(location) = shared_location(config)? else { return Ok(None) };
        let note = Self { log: usage.id().to_owned(), location };
        // One that was killed finds its own.
        note.location.note(&note.log, &described(config)).await.context("this node cannot be noted at the lake")?;
        if let Err(refused) = refuse_while_erasing(config).await {
            if usage.backlog_bytes() == 0 {
                note.remove().await;
            }
            return Err(refused);
        }
        Ok(Some(note))
    }

    /// What answers backups of other nodes while this one runs.
    pub fn answering(&self, usage: UsageLog) -> Answering {
        Answering::new(self.location.clone(), usage)
    }

    /// Takes the note away: the log is empty, and nothing more will come into it.
    pub async fn remove(self) {
        // The answer first: a note without one is waited for, and the note's going away is an answer as well.
        let answer = self.location.remove_note(&answer_of(&self.log)).await;
        if let Err(error) = answer.and(self.location.remove_note(&self.log).await) {
            tracing::warn!(error = %error, "this node is still noted at the lake; its next stop tries again");
        }
    }
}

/// That a person is being erased. No server starts meanwhile.
#[derive(Debug)]
pub struct ErasureNote {
    location: LakeLocation,
    log: String,
}

impl ErasureNote {
    /// Leaves the note; `None` where the lake is this node's alone.
    ///
    /// Errors: another node's log may hold the person, a backup copies files, or another node erases somebody.
    pub async fn leave(config: &Config, usage: &UsageLog) -> anyhow::Result<Option<Self>> {
        let Some(location) = shared_location(config)? else { return Ok(None) };
        let place = format!("{} (log {})", described(config), usage.id());
        if !location.note(ERASING, &place).await.context("the erasure cannot be noted at the lake")? {
            // One that was cut off here goes on; that of another node is its own.
            let there = location.notes().await?.remove(ERASING).unwrap_or_default();
            anyhow::ensure!(there == place, "{there} is erasing a person from the lake: try again afterwards");
        }
        let note = Self { location, log: usage.id().to_owned() };
        match note.refuse_beside_others().await {
            Ok(()) => Ok(Some(note)),
            Err(refused) => {
                note.remove().await;
                Err(refused)
            }
        }
    }

    async fn refuse_beside_others(&self) -> anyhow::Result<()> {
        let others = others(&self.location, Some(self.log.as_str())).await?;
        anyhow::ensure!(
            others.is_empty(),
            "logs of other nodes may hold the person: stop {}; one that was killed has to be started and stopped once \
             more, one that is gone for good to be forgotten (`todoke lake forget-node`)",
            listed(&others)
        );
        backup_note::refuse_beside_a_backup(&self.location).await
    }

    /// What this node's log held is in the lake: it has nothing to say any more.
    pub async fn own_log_is_empty(&self) -> anyhow::Result<()> {
        Ok(self.location.remove_note(&self.log).await?)
    }

    /// Takes the note away.
    pub async fn remove(self) {
        if let Err(error) = self.location.remove_note(ERASING).await {
            tracing::warn!(error = %error, "the erasure is still noted at the lake; giving its command again removes it");
        }
    }
}
