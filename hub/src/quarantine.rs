//! Events that could not be taken: kept with their contents inside the municipality, and tried again
//! when somebody says so.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use todoke_domain::{
    MunicipalityCode, Timestamp,
    event_source::SourcePattern,
    ids::{AccountId, QuarantineId},
};
use todoke_ingest::{
    EncodedEvents, IngestError, Receipt, RejectReason, Rejected, UsageLog,
    cloud_event::{self, Mode, SourceContext},
    history, keepable,
    usage::{self, UsageContext},
};
use todoke_store::{Store, StoreError, Tx, Wall, quarantine::QuarantinedEvent};
use tokio_util::sync::CancellationToken;

use crate::{config::IngestConfig, telemetry};

/// Days that entries are kept.
pub const KEPT_DAYS: u64 = 90;
/// Longest content that is kept of an event, bytes.
const CONTENT_BYTES_MAX: usize = 8_192;
/// When somebody whose events have no room may try again, seconds: a person has to look into what is held.
const FULL_RETRY_S: u32 = 3_600;
const REPLAY_PAGE: i64 = 500;
/// Contents looked at in a transaction: on SQLite other writers wait for it.
const STORED_PAGE: i64 = 200;
/// The entrance of files, which say all there is to know about their events.
const HISTORY: &str = "history";

/// What the server knew about a sender; enough to take the event later as if it came now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sender {
    role: String,
    actor_key: Option<i64>,
    guardian_key: Option<i64>,
    device_key: Option<i64>,
    source_channel: String,
    /// Sources that its key could name, of an outside system; `None` for any.
    #[serde(default)]
    sources: Option<Vec<SourcePattern>>,
}

/// The way an event came in.
#[derive(Clone, Debug)]
pub enum Entrance {
    /// `/v1/usage`.
    Usage(UsageContext),
    /// `/v1/events`.
    Events(SourceContext),
}

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Entries whose events are in the log now, or were already.
    pub taken: u64,
    /// Entries that are as bad as before.
    pub held: u64,
    /// Entries that went because their sender has withdrawn the consent since, or gave it only after them.
    pub dropped: u64,
}

impl Entrance {
    fn name(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::Events(_) => "events",
        }
    }

    fn sender(&self, device_key: Option<i64>) -> Sender {
        match self {
            Self::Usage(context) => Sender {
                role: context.role.clone(),
                actor_key: context.actor_key,
                guardian_key: context.guardian_key,
                device_key,
                source_channel: context.source_channel.clone(),
                sources: None,
            },
            Self::Events(context) => Sender {
                role: context.role.clone(),
                actor_key: context.actor_key,
                guardian_key: None,
                device_key: None,
                source_channel: "import".to_owned(),
                sources: context.sources.clone(),
            },
        }
    }
}

/// Why events could not be kept. Whoever sent them is told to come again, so none of them has vanished.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The record failed.
    #[error("the record failed")]
    Store(#[from] StoreError),
    /// As much of one sender is held as may be.
    #[error("too many events of one sender are held")]
    SenderFull {
        /// When to try again, seconds.
        retry_after_s: u32,
    },
    /// As much of a municipality is held as may be.
    #[error("too many events of the municipality are held")]
    MunicipalityFull {
        /// When to try again, seconds.
        retry_after_s: u32,
    },
}

/// Who sent events to a municipality.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The wall.
    pub code: &'a MunicipalityCode,
    /// Whose events these are.
    pub account: AccountId,
}

/// Whether there is room for bad events of this sender; to be asked before the good ones of a request are stored.
pub async fn check_room(store: &Store, from: Origin<'_>, limits: &IngestConfig) -> Result<(), KeepError> {
    let mut tx = store.begin_read(Wall::Around(from.code.clone())).await?;
    room(&mut tx, from, limits).await
}

/// One request is let in whatever the number of its bad events, or a large one could never be.
async fn room(tx: &mut Tx, from: Origin<'_>, limits: &IngestConfig) -> Result<(), KeepError> {
    let (of_sender, of_all) = (i64::from(limits.held_per_sender_max), i64::from(limits.held_max));
    let full = if tx.held_of_account(from.code, from.account, of_sender).await? >= of_sender {
        Some(("sender", KeepError::SenderFull { retry_after_s: FULL_RETRY_S }))
    } else if tx.held_of_senders(from.code, of_all).await? >= of_all {
        Some(("municipality", KeepError::MunicipalityFull { retry_after_s: FULL_RETRY_S }))
    } else {
        None
    };
    let Some((whose, full)) = full else { return Ok(()) };
    metrics::counter!(telemetry::QUARANTINE_REFUSED, "limit" => whose).increment(1);
    tracing::warn!(municipality = from.code.as_str(), limit = whose, "the quarantine is full");
    Err(full)
}

/// Keeps every rejected event of a request: what may be kept of its content or, where that is nothing, its reason and
/// length. `device_key` is the batch's.
pub async fn keep(
    store: &Store,
    from: Origin<'_>,
    entrance: &Entrance,
    device_key: Option<i64>,
    rejected: &[Rejected],
    limits: &IngestConfig,
    now: Timestamp,
) -> Result<(), KeepError> {
    if rejected.is_empty() {
        return Ok(());
    }
    let sender = serde_json::to_string(&entrance.sender(device_key)).unwrap_or_default();
    let rows: Vec<QuarantinedEvent> = rejected
        .iter()
        .map(|refused| QuarantinedEvent {
            quarantine_id: QuarantineId::new(now),
            municipality_code: from.code.clone(),
            account_id: Some(from.account),
            entrance: entrance.name().to_owned(),
            sender: sender.clone(),
            event_id: refused.event_id.clone(),
            reason: refused.reason.code().to_owned(),
            field: refused.field.clone(),
            content: kept_of(refused.content.as_deref(), entrance.name()),
            content_bytes: length_of(refused),
            state: "held".to_owned(),
            received_at: now,
        })
        .collect();
    let mut tx = store.begin_long(Wall::Around(from.code.clone())).await?;
    room(&mut tx, from, limits).await?;
    tx.insert_quarantined(&rows).await?;
    Ok(tx.commit().await?)
}

/// What may be kept of an event's content; nothing of one that is long or cannot be read.
fn kept_of(content: Option<&str>, entrance: &str) -> String {
    let content = content.filter(|content| content.len() <= CONTENT_BYTES_MAX);
    let kept = match entrance {
        "events" => content.and_then(keepable::of_cloud_event),
        _ => content.and_then(keepable::of_record),
    };
    kept.unwrap_or_default()
}

fn length_of(refused: &Rejected) -> Option<i64> {
    refused.content.as_ref().and_then(|content| i64::try_from(content.len()).ok())
}

/// Looks at contents that an earlier version stored as they were sent, and leaves of them what may be kept today, until
/// none is left or `stop`. Returns how many there were.
pub async fn look_at_stored(store: &Store, stop: &CancellationToken) -> Result<u64, StoreError> {
    let mut n_entries = 0;
    while !stop.is_cancelled() {
        let mut tx = store.begin_read(Wall::None).await?;
        let page = tx.unlooked_contents(STORED_PAGE).await?;
        drop(tx);
        if page.is_empty() {
            break;
        }
        // What is replaced is not to stay in places of the file that are not used.
        store.overwrite_deleted().await?;
        let mut tx = store.begin_long(Wall::None).await?;
        for entry in page {
            let n_bytes = i64::try_from(entry.content.len()).unwrap_or(i64::MAX);
            let kept = kept_of(Some(&entry.content), &entry.entrance);
            n_entries += u64::from(tx.keep_of_content(entry.quarantine_id, &kept, n_bytes).await?);
        }
        tx.commit().await?;
    }
    Ok(n_entries)
}

/// Keeps bad records of a file, each with its number in it. The entry's id follows from the file and the number, so
/// that a record is kept once however often its file is read. Returns how many are new.
pub async fn keep_records(
    store: &Store,
    code: &MunicipalityCode,
    origin: &str,
    rejected: &[(u64, Rejected)],
    now: Timestamp,
) -> Result<u64, StoreError> {
    if rejected.is_empty() {
        return Ok(0);
    }
    let rows: Vec<QuarantinedEvent> = rejected
        .iter()
        .map(|(number, refused)| QuarantinedEvent {
            quarantine_id: record_id(origin, *number),
            municipality_code: code.clone(),
            account_id: None,
            entrance: HISTORY.to_owned(),
            sender: "{}".to_owned(),
            event_id: refused.event_id.clone(),
            reason: refused.reason.code().to_owned(),
            field: refused.field.clone(),
            content: kept_of(refused.content.as_deref(), HISTORY),
            content_bytes: length_of(refused),
            state: "held".to_owned(),
            received_at: now,
        })
        .collect();
    let mut tx = store.begin_long(Wall::Around(code.clone())).await?;
    let n_new = tx.insert_quarantined(&rows).await?;
    tx.commit().await?;
    Ok(n_new)
}

/// Ids of one file's records are in the order of the file.
fn record_id(origin: &str, number: u64) -> QuarantineId {
    let mut bytes = [0; 16];
    let digest = Sha256::digest(origin.as_bytes());
    bytes[..8].copy_from_slice(&digest[..8]);
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_custom_bytes(bytes).into_uuid().into()
}

/// Why a replay stopped; what it did before stays done.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The record failed.
    #[error("the record failed")]
    Store(#[from] StoreError),
    /// The log failed.
    #[error("the usage log failed")]
    Log(#[from] IngestError),
}

/// The rules of now.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Groups or types that outside systems may send.
    pub outside_types: &'a [String],
    /// Events that were too old for their door are taken as history: somebody has looked at them and said so.
    pub too_old: bool,
}

/// Tries every held event of a municipality again, by the rules of now. An event that is taken is
/// durable before its entry is settled; a crash in between makes it a duplicate of itself.
pub async fn replay(
    store: &Store,
    log: &UsageLog,
    code: &MunicipalityCode,
    rules: Rules<'_>,
    now: Timestamp,
) -> Result<Replayed, ReplayError> {
    let mut done = Replayed::default();
    let mut after = None;
    loop {
        let mut tx = store.begin_read(Wall::Around(code.clone())).await?;
        let page = tx.quarantined_events(code, after, REPLAY_PAGE).await?;
        drop(tx);
        let Some(last) = page.last() else { return Ok(done) };
        after = Some(last.quarantine_id);
        for entry in &page {
            if !is_agreed(store, entry).await? {
                settle(store, entry, "dropped", now).await?;
                done.dropped += 1;
                continue;
            }
            let Some(events) = read_again(entry, rules, now) else {
                done.held += 1;
                continue;
            };
            let is_history =
                entry.entrance == HISTORY || (rules.too_old && entry.reason == RejectReason::TooOld.code());
            let appended =
                if is_history { log.append_history(events, now).await } else { log.append(events, now).await };
            let Receipt { accepted, duplicates, .. } = appended?;
            if accepted + duplicates == 0 {
                done.held += 1;
                continue;
            }
            settle(store, entry, "replayed", now).await?;
            done.taken += 1;
        }
    }
}

/// Whether the entry may be taken by what its sender agrees to; asked of app usage of people in households.
async fn is_agreed(store: &Store, entry: &QuarantinedEvent) -> Result<bool, StoreError> {
    let sender = serde_json::from_str::<Sender>(&entry.sender).ok().filter(|_| entry.entrance == "usage");
    let Some(key) = sender.and_then(|sender| sender.guardian_key) else { return Ok(true) };
    let mut tx = store.begin_read(Wall::Around(entry.municipality_code.clone())).await?;
    let since = tx.person_agreed_since(&entry.municipality_code, key, "usage_analytics").await?;
    let event = serde_json::from_str::<Value>(&entry.content).unwrap_or_default();
    let occurred_at = event["occurred_at"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    // One without a time is not taken anyway.
    Ok(since.is_some_and(|since| occurred_at.is_none_or(|occurred_at| occurred_at >= since)))
}

async fn settle(store: &Store, entry: &QuarantinedEvent, state: &str, now: Timestamp) -> Result<(), StoreError> {
    let mut tx = store.begin_write(Wall::Around(entry.municipality_code.clone())).await?;
    tx.settle_quarantined(&entry.municipality_code, entry.quarantine_id, state, now).await?;
    tx.commit().await
}

/// The entry's event, if it is acceptable now.
fn read_again(entry: &QuarantinedEvent, rules: Rules<'_>, now: Timestamp) -> Option<EncodedEvents> {
    if entry.content.is_empty() {
        return None;
    }
    if entry.entrance == HISTORY {
        // Who remembers the event that has its id is the run that read both.
        if entry.reason == RejectReason::IdReused.code() {
            return None;
        }
        return history::read_again(&entry.content, &entry.municipality_code, now);
    }
    let sender: Sender = serde_json::from_str(&entry.sender).ok()?;
    if entry.entrance == "events" {
        let context = SourceContext {
            municipality_code: entry.municipality_code.clone(),
            role: sender.role,
            actor_key: sender.actor_key,
            allowed: rules.outside_types.to_vec(),
            sources: sender.sources,
            correlation_id: None,
            received_at: now,
        };
        let parsed = cloud_event::parse(entry.content.as_bytes(), &Mode::Structured, &context).ok()?;
        return Some(parsed.events).filter(|events| events.n_events() == 1);
    }
    let context = UsageContext {
        municipality_code: entry.municipality_code.clone(),
        role: sender.role,
        actor_key: sender.actor_key,
        guardian_key: sender.guardian_key,
        source_channel: sender.source_channel,
        agreed_since: None,
        correlation_id: None,
        received_at: now,
    };
    // A value that was kept as text is one line, whatever white space it has.
    let event: Value = serde_json::from_str(&entry.content).ok()?;
    let lines = match sender.device_key {
        Some(key) => format!("{{\"device_key\":{key}}}\n{event}"),
        None => event.to_string(),
    };
    let parsed = usage::parse_lines(lines.as_bytes(), &context).ok()?;
    (parsed.events.n_events() == 1).then_some(parsed.events)
}
