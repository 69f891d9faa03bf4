//! What a lake was restored from: the nodes' logs in the backup, and those it lacks.
//!
//! A note at the lake, so that every node sees it: what a backup lacks is lacking for as long as the lake is there.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use todoke_domain::Timestamp;
use todoke_ingest::{SinkConfig, UsageLog};
use todoke_lake::{LakeLocation, LakeView};

use super::RESTORED;
use crate::backup::NodeLog;

/// The backup that a lake was restored from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When the backup began.
    pub began_at: Timestamp,
    /// The nodes' logs of usage.
    pub nodes: Vec<NodeLog>,
}

/// What became of the logs in a lake.
#[derive(Debug, Default)]
pub struct LogsCheck {
    /// Logs that the lake has up to where the backup had them.
    pub n_complete: usize,
    /// Logs that it has not so far, with the position it has.
    pub short: Vec<(NodeLog, u64)>,
    /// Logs that the backup lacks.
    pub lacking: Vec<NodeLog>,
}

impl Restored {
    /// Reads what a lake was restored from, if it was.
    pub async fn read(location: &LakeLocation) -> anyhow::Result<Option<Self>> {
        let Some(text) = location.read_note(RESTORED).await? else { return Ok(None) };
        Ok(Some(
            serde_json::from_str(&text).context("the note of what the lake was restored from cannot be understood")?,
        ))
    }

    /// Notes it at a lake that was not restored before.
    pub async fn write(&self, location: &LakeLocation) -> anyhow::Result<()> {
        let is_new = location.note(RESTORED, &serde_json::to_string(self)?).await?;
        anyhow::ensure!(is_new, "{location} was restored already");
        Ok(())
    }

    /// Compares the positions that the lake has with those of the backup.
    pub async fn check(&self, view: &LakeView) -> anyhow::Result<LogsCheck> {
        let mut check = LogsCheck::default();
        let node = SinkConfig::default().node;
        for log in &self.nodes {
            let Some(through) = log.through else {
                check.lacking.push(log.clone());
                continue;
            };
            let version = view.committed_version(&UsageLog::app_id_of(&node, &log.log)).await?;
            let found = version.and_then(|version| u64::try_from(version).ok()).unwrap_or(0);
            if found < through { check.short.push((log.clone(), found)) } else { check.n_complete += 1 }
        }
        Ok(check)
    }
}
