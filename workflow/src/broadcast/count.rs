//! The live counters: what has become of each broadcast, on the screens of those who send.

use std::time::Duration;

use serde_json::{Value, json};
use todoke_domain::Timestamp;
use todoke_store::broadcast::{Broadcast, BroadcastCounts, Round, RoundState};

use crate::{Actor, Workflow, WorkflowError};

/// Broadcasts are followed for this long after their start.
const FOLLOWED: Duration = Duration::from_secs(72 * 60 * 60);
/// Counting reads every message, so it becomes rarer with age: after a minute every 3 s, after an hour every 3 min.
const AGE_SHARE: u32 = 20;
const OFTEN: Duration = Duration::from_secs(1);
const RARELY: Duration = Duration::from_secs(10 * 60);

/// Type of the publication that carries the counters. It moves what a screen shows and is no news by itself.
pub(crate) const PROGRESS: &str = "broadcast.progress";

impl Workflow {
    /// Broadcasts that are to be counted now.
    pub(super) async fn broadcasts_to_count(
        &self,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Vec<Broadcast>, WorkflowError> {
        let code = &actor.municipality_code;
        let followed = self.read(actor).await?.broadcasts_to_count(code, now.minus(FOLLOWED)).await?;
        Ok(followed.into_iter().filter(|row| is_due(row, now)).collect())
    }

    /// Counts a broadcast and publishes what has changed.
    pub(super) async fn count_broadcast(
        &self,
        actor: &Actor,
        row: &Broadcast,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        let Some(cause) = row.event_id else { return Ok(()) };
        let (counts, data) = {
            let mut tx = self.read(actor).await?;
            let rounds = tx.rounds(row.broadcast_id).await?;
            let counts = match first_under_way(&rounds) {
                // Reading what is still being written would only slow it down.
                Some(created) => BroadcastCounts { created, ..serde_json::from_str(&row.counters).unwrap_or_default() },
                None => tx.broadcast_counts(cause, rounds.iter().any(|round| round.n_queued > 0)).await?,
            };
            (counts, counters_json(&counts, rounds.iter().map(|round| round.n_routed).sum()))
        };
        let mut work = self.begin(actor, now).await?;
        if serde_json::from_str(&row.counters).ok() != Some(counts) {
            work.publish_broadcast(PROGRESS, row, data);
        }
        work.tx.note_counters(row.broadcast_id, &counts, now).await?;
        work.commit().await?;
        Ok(())
    }
}

/// Counters as clients get them.
pub(super) fn counters_json(counts: &BroadcastCounts, n_routed: i64) -> Value {
    json!({
        "created": counts.created,
        "routed": n_routed,
        "waiting": counts.waiting,
        "sent": counts.sent,
        "suppressed": counts.suppressed,
        "delivered": counts.delivered,
        "opened": counts.opened,
        "unread": counts.created - counts.opened,
    })
}

/// Messages so far, while the first round is being created.
fn first_under_way(rounds: &[Round]) -> Option<i64> {
    let first = rounds.first()?;
    (first.state == RoundState::Creating.as_str()).then_some(first.n_created)
}

fn is_due(row: &Broadcast, now: Timestamp) -> bool {
    let age = row.started_at.map_or(RARELY, |started| now.since(started));
    now.since(row.counted_at) >= (age / AGE_SHARE).clamp(OFTEN, RARELY)
}
