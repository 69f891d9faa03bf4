//! The sender: starts what is due and works through what is under way, a batch at a time.

use serde_json::Value;
use todoke_domain::{
    Timestamp,
    broadcast::{BroadcastEvent, BroadcastState},
    ids::BroadcastId,
    time::add_days,
};
use todoke_store::broadcast::{Round, RoundState};

use super::{awaiting, release::minutes_long, step};
use crate::{Actor, Workflow, WorkflowError, secret};

/// Sends broadcasts on behalf of one process. Any number of processes may run one each: a broadcast is
/// leased to one of them, and each batch is one transaction that holds the broadcast's row and moves its cursor.
#[derive(Debug)]
pub struct Sender {
    pub(super) workflow: Workflow,
    /// Names this process in the leases.
    pub(super) name: String,
}

/// What one look at the broadcasts of a municipality did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stride {
    /// Broadcasts started or held back.
    pub started: usize,
    /// Messages created.
    pub created: usize,
    /// People handed to push and mail.
    pub routed: usize,
}

impl Stride {
    /// Whether anything was done, so that it is worth looking again at once.
    pub fn worked(&self) -> bool {
        self.started + self.created + self.routed > 0
    }
}

impl Sender {
    /// A sender with a name of its own.
    pub fn new(workflow: Workflow) -> Self {
        Self { workflow, name: secret::token() }
    }

    /// Starts what is due, sends one batch of each broadcast under way and counts what has become of them.
    /// While an emergency has anything left, the others wait.
    ///
    /// Cancel safe: what was not committed is done again by the next call, here or elsewhere.
    pub async fn stride(&self, actor: &Actor, now: Timestamp) -> Result<Stride, WorkflowError> {
        let code = &actor.municipality_code;
        let mut stride = Stride::default();
        let due = self.workflow.read(actor).await?.broadcasts_to_start(code, now).await?;
        for id in due {
            stride.started += usize::from(self.workflow.start_broadcast(actor, id, now).await?);
        }
        let under_way = self.workflow.read(actor).await?.broadcasts_to_send(code, now).await?;
        for id in under_way {
            let batch = self.batch(actor, id, now).await?;
            stride.created += batch.created;
            stride.routed += batch.routed;
            if batch.is_emergency && batch.created + batch.routed > 0 {
                break;
            }
        }
        self.workflow.count_broadcasts(actor, now).await?;
        Ok(stride)
    }
}

impl Workflow {
    /// Starts a released broadcast whose time has come; gives it back for approval when its audience has
    /// grown beyond what one person may release. `false` when somebody else was first.
    async fn start_broadcast(&self, actor: &Actor, id: BroadcastId, now: Timestamp) -> Result<bool, WorkflowError> {
        let mut work = self.begin_long(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        let is_due = row.state()? == BroadcastState::Scheduled && row.starts_at.is_none_or(|at| at <= now);
        if !is_due {
            return Ok(false);
        }
        let segment = row.segment()?;
        row.n_targets = work.tx.count_members(&row.municipality_code, &segment, now).await?.n;
        let n_targets = u64::try_from(row.n_targets).unwrap_or(0);
        if row.approver_id.is_none() && row.kind()?.needs_approval(segment.is_everybody(), n_targets) {
            step(&mut row, BroadcastEvent::HoldBack)?;
            row.released_at = None;
            work.publish_broadcast("broadcast.submitted", &row, awaiting(&row));
        } else {
            step(&mut row, BroadcastEvent::Start)?;
            row.started_at = Some(now);
            row.event_id = Some(work.broadcast_event("broadcast.started", &row, Value::Null).event_id);
            work.publish_broadcast("broadcast.started", &row, Value::Null);
            let first = Round { state: RoundState::Creating.as_str().to_owned(), ..Round::waiting(id, 0, 0, now) };
            work.tx.insert_round(&first).await?;
            for (number, minutes) in (1..).zip(row.resends()?) {
                work.tx.insert_round(&Round::waiting(id, number, minutes, now.plus(minutes_long(minutes)))).await?;
            }
        }
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        Ok(true)
    }
}

/// The start of today in Asia/Tokyo, or the end of time where nobody can have had enough.
pub(super) fn counted_since(capped: bool, now: Timestamp) -> Timestamp {
    if capped { Timestamp::jst_midnight(now.jst_date()) } else { Timestamp::jst_midnight(add_days(now.jst_date(), 1)) }
}
