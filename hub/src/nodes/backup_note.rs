//! What a backup asks of the other nodes, and how they answer.
//!
//! A backup copies the log of its own node and the lake, and cannot reach the logs of others. So it leaves a note
//! with an id that is new each time. Every node that runs finds it, brings to the lake what its log holds by then, and
//! answers with the position up to which the lake has it. The note is newer than what was acknowledged before the
//! backup, so no clocks of two machines are compared. A node that stops takes its own note away instead, because its
//! log is empty.
//!
//! The same note asks which nodes run at all (`GoneNode`): then they answer without bringing anything.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use todoke_ingest::UsageLog;
use todoke_lake::LakeLocation;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{BACKUP, answer_of, described, listed, others, refuse_while_erasing, shared_location};
use crate::{backup::NodeLog, config::Config};

/// Pause between two looks at whether a backup asks; at a bucket each of them is a request.
const LOOK: Duration = Duration::from_secs(2);
/// Pause between two looks of a backup at the answers.
const ANSWERS_LOOK: Duration = Duration::from_millis(500);

/// The note of a backup.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// New for each backup.
    id: String,
    /// Who backs up, for people.
    place: String,
    /// Only asks who runs.
    #[serde(default)]
    is_call: bool,
}

/// A node's answer.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// Whose note is answered.
    request: String,
    /// Up to this position the lake has the log.
    through: u64,
}

async fn request_at(location: &LakeLocation) -> anyhow::Result<Option<Request>> {
    let Some(text) = location.read_note(BACKUP).await? else { return Ok(None) };
    Ok(Some(serde_json::from_str(&text).context("the note of a backup at the lake cannot be understood")?))
}

/// Errors: a backup copies files of the lake.
pub(super) async fn refuse_beside_a_backup(location: &LakeLocation) -> anyhow::Result<()> {
    match request_at(location).await? {
        Some(request) => Err(under_way(&request)),
        None => Ok(()),
    }
}

fn under_way(request: &Request) -> anyhow::Error {
    let place = &request.place;
    let what = if request.is_call { "is asking which nodes run" } else { "is backing up the lake" };
    anyhow::anyhow!(
        "{place} {what}: try again afterwards, and if that was cut off, do it there again or delete the note \
         nodes/{BACKUP}"
    )
}

/// Answers the backups of other nodes.
#[derive(Debug)]
pub struct Answering {
    location: LakeLocation,
    usage: UsageLog,
    /// The request that was answered last, until its note is gone. At first nobody's: a node that was killed may have
    /// left an answer behind.
    answered: Option<String>,
}

impl Answering {
    pub(super) fn new(location: LakeLocation, usage: UsageLog) -> Self {
        Self { location, usage, answered: Some(String::new()) }
    }

    /// Runs until stopped. A lake that does not answer is asked again.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut is_failing = false;
        loop {
            let looked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                looked = self.look() => looked,
            };
            match looked {
                Err(error) if !is_failing => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "backups of other nodes are not answered; trying again"
                    );
                    is_failing = true;
                }
                Err(_) => {}
                Ok(()) => is_failing = false,
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        match request_at(&self.location).await? {
            Some(request) if self.answered.as_ref() != Some(&request.id) => {
                let through = if request.is_call { 0 } else { self.usage.flushed().await };
                let answer = serde_json::to_string(&Answer { request: request.id.clone(), through })?;
                self.location.put_note(&answer_of(self.usage.id()), &answer).await?;
                self.answered = Some(request.id);
                if !request.is_call {
                    tracing::info!(
                        backup.place = request.place,
                        log.position = through,
                        "a backup has what is in the log"
                    );
                }
            }
            None if self.answered.is_some() => {
                self.location.remove_note(&answer_of(self.usage.id())).await?;
                self.answered = None;
            }
            _ => {}
        }
        Ok(())
    }
}

/// What was heard of a node that was asked whether it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It runs.
    Answer,
    /// It took its note away: it has stopped, and its log is empty.
    Stop,
    /// Nothing, and its note is there.
    Nothing,
}

/// That a backup is under way. Nobody is erased meanwhile, and there is one at a time.
#[derive(Debug)]
pub struct BackupNote {
    location: LakeLocation,
    request: Request,
    // Held, not read.
    _lock: File,
}

impl BackupNote {
    /// File of the data folder that is held while a backup runs: a note of this node without that is one that was
    /// cut off.
    pub const LOCK: &str = "backup.lock";

    /// Leaves the note; `None` where the lake is this node's alone.
    ///
    /// Errors: another backup is under way, or a person is being erased.
    pub async fn leave(config: &Config) -> anyhow::Result<Option<Self>> {
        Self::leave_as(config, false).await
    }

    /// As [`Self::leave`], but only asks who runs.
    pub(super) async fn call(config: &Config) -> anyhow::Result<Option<Self>> {
        Self::leave_as(config, true).await
    }

    async fn leave_as(config: &Config, is_call: bool) -> anyhow::Result<Option<Self>> {
        let Some(location) = shared_location(config)? else { return Ok(None) };
        let lock = lock(&config.data)?;
        let request = Request { id: uuid::Uuid::new_v4().simple().to_string(), place: described(config), is_call };
        let text = serde_json::to_string(&request)?;
        if !location.note(BACKUP, &text).await.context("the backup cannot be noted at the lake")? {
            // One that was cut off here is over: its lock is ours. That of another node is its own.
            if let Some(there) = request_at(&location).await?
                && there.place != request.place
            {
                return Err(under_way(&there));
            }
            location.put_note(BACKUP, &text).await.context("the backup cannot be noted at the lake")?;
        }
        let note = Self { location, request, _lock: lock };
        if let Err(refused) = refuse_while_erasing(config).await {
            note.remove().await;
            return Err(refused);
        }
        Ok(Some(note))
    }

    /// Whether another node is noted at the lake than the one with the log `own`.
    pub async fn has_others(&self, own: Option<&str>) -> anyhow::Result<bool> {
        Ok(!others(&self.location, own).await?.is_empty())
    }

    /// Waits until every other node has brought its log to the lake or has stopped, and gives the logs, with those
    /// of the nodes that are left out by `without`, by the names of their logs or places. `own` is the name of this
    /// node's log.
    ///
    /// Errors: a node did not answer within `wait_max`; a node is to be left out of which there is no note.
    pub async fn flushed(
        &self,
        own: Option<&str>,
        without: &[String],
        wait_max: Duration,
    ) -> anyhow::Result<Vec<NodeLog>> {
        let nodes = others(&self.location, own).await?;
        for name in without {
            anyhow::ensure!(
                nodes.iter().any(|(log, place)| name == log || name == place),
                "no other node {name} is noted at the lake, so nothing waits in its log: leave out --without {name}"
            );
        }
        let (left_out, mut waiting): (BTreeMap<String, String>, BTreeMap<String, String>) =
            nodes.into_iter().partition(|(log, place)| without.iter().any(|name| name == log || name == place));
        let mut logs: Vec<NodeLog> =
            left_out.into_iter().map(|(log, place)| NodeLog { place, log, through: None }).collect();
        let deadline = Instant::now() + wait_max;
        loop {
            let notes = self.location.notes().await?;
            waiting.retain(|log, place| match self.answer(&notes, log) {
                Some(through) => {
                    logs.push(NodeLog { place: place.clone(), log: log.clone(), through: Some(through) });
                    false
                }
                // It has stopped, and its log is empty.
                None => notes.contains_key(log),
            });
            if waiting.is_empty() {
                return Ok(logs);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the log of {} did not come to the lake within {} s, so that a backup would lack what it acknowledged: \
                 start it if it does not run, give it more time (--wait) if it does, or give --without and its place or the \
                 name of its log for a backup that says that it lacks it; if it is gone for good, see `todoke lake forget-node`",
                listed(&waiting),
                wait_max.as_secs()
            );
            sleep(ANSWERS_LOOK).await;
        }
    }

    /// What is heard of the node with a log within `wait_max`.
    pub(super) async fn heard_of(&self, log: &str, wait_max: Duration) -> anyhow::Result<Heard> {
        let deadline = Instant::now() + wait_max;
        loop {
            let notes = self.location.notes().await?;
            if self.answer(&notes, log).is_some() {
                return Ok(Heard::Answer);
            }
            if !notes.contains_key(log) {
                return Ok(Heard::Stop);
            }
            if Instant::now() >= deadline {
                return Ok(Heard::Nothing);
            }
            sleep(ANSWERS_LOOK).await;
        }
    }

    /// Up to where the lake has a log, by the node's answer to this backup.
    fn answer(&self, notes: &BTreeMap<String, String>, log: &str) -> Option<u64> {
        let answer: Answer = serde_json::from_str(notes.get(&answer_of(log))?).ok()?;
        (answer.request == self.request.id).then_some(answer.through)
    }

    /// Takes the note away.
    pub async fn remove(self) {
        if let Err(error) = self.location.remove_note(BACKUP).await {
            tracing::warn!(error = %error, "the backup is still noted at the lake; the next one of this node removes it");
        }
    }
}

fn lock(data: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(data).with_context(|| format!("{} cannot be made", data.display()))?;
    let path = data.join(BackupNote::LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("{} cannot be opened", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!("another backup of {} is under way", data.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{} cannot be locked", path.display())),
    }
}
