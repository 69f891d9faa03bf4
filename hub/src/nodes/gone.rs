//! A node that is gone for good, with its machine or its disk: nobody takes its note away any more.

use std::time::Duration;

use todoke_lake::LakeLocation;

use super::{
    answer_of,
    backup_note::{BackupNote, Heard},
    listed, others,
};
use crate::config::Config;

/// A node that has a note at the lake and does not answer.
#[derive(Debug)]
pub struct GoneNode {
    location: LakeLocation,
    /// What an operator finds it by.
    pub place: String,
    /// The name of its log.
    pub log: String,
}

impl GoneNode {
    /// The node that `name` means, its place or the name of its log. `own` is the name of this node's log.
    ///
    /// Errors: there is no note of it or more than one, its log is this node's, it answers within `wait_max`, or a
    /// backup or an erasure is under way.
    pub async fn find(config: &Config, own: Option<&str>, name: &str, wait_max: Duration) -> anyhow::Result<Self> {
        let location = config.lake_location()?;
        let mut named = others(&location, None).await?;
        named.retain(|log, place| name == log || name == place);
        anyhow::ensure!(
            named.len() < 2,
            "{name} is the place of several: give the name of the log, of {}",
            listed(&named)
        );
        let Some((log, place)) = named.pop_first() else {
            anyhow::bail!("no node {name} is noted at the lake, so nothing waits in its log")
        };
        anyhow::ensure!(
            own != Some(log.as_str()),
            "the log of {name} is here: start the server and stop it in the ordinary way, and nothing is lost"
        );
        let Some(call) = BackupNote::call(config).await? else {
            anyhow::bail!("the lake is this node's alone: there is no other node to forget")
        };
        let heard = call.heard_of(&log, wait_max).await;
        call.remove().await;
        match heard? {
            Heard::Answer => {
                anyhow::bail!("{place} (nodes/{log}) runs: stop it in the ordinary way, and nothing is lost")
            }
            Heard::Stop => anyhow::bail!("{place} (nodes/{log}) has just stopped with an empty log, nothing is lost"),
            Heard::Nothing => Ok(Self { location, place, log }),
        }
    }

    /// Takes its note away, and what it may have answered to a backup.
    pub async fn remove_note(&self) -> anyhow::Result<()> {
        self.location.remove_note(&answer_of(&self.log)).await?;
        Ok(self.location.remove_note(&self.log).await?)
    }
}
