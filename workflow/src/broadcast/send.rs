//! The sender: starts what is due and works through what is under way, a batch at a time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

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

/// A broadcast of which something failed is left alone for this long.
const AFTER_FAULT: Duration = Duration::from_secs(2);

/// Sends broadcasts on behalf of one process. Any number of processes may run one each: a broadcast is
/// leased to one of them, and each batch is one transaction that holds the broadcast's row and moves its cursor.
#[derive(Debug)]
pub struct Sender {
    pub(super) workflow: Workflow,
    /// Names this process in the leases.
    pub(super) name: String,
    /// Broadcasts that failed, and until when they are left alone.
    resting: Mutex<HashMap<BroadcastId, Timestamp>>,
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
    /// Messages of stopped broadcasts taken out of the queue.
    pub suppressed: usize,
}

impl Stride {
    /// Whether anything was done, so that it is worth looking again at once.
    pub fn worked(&self) -> bool {
        self.started + self.created + self.routed + self.suppressed > 0
    }
}

impl Sender {
    /// A sender with a name of its own.
    pub fn new(workflow: Workflow) -> Self {
        Self { workflow, name: secret::token(), resting: Mutex::default() }
    }

    /// Starts what is due, sends one batch of each broadcast under way and counts what has become of them.
    /// While an emergency has anything left, the others wait. A broadcast that fails is logged, left alone for a
    /// moment and tried again; it keeps no other one from going out.
    ///
    /// Cancel safe: what was not committed is done again by the next call, here or elsewhere.
    pub async fn stride(&self, actor: &Actor, now: Timestamp) -> Result<Stride, WorkflowError> {
        let code = &actor.municipality_code;
        let mut stride = Stride::default();
        let to_settle = self.workflow.read(actor).await?.broadcasts_to_settle(code).await?;
        for id in self.awake(to_settle, now) {
            stride.suppressed += self.or_rest(id, now, self.workflow.settle_broadcast(actor, id, now).await);
        }
        let due = self.workflow.read(actor).await?.broadcasts_to_start(code, now).await?;
        for id in self.awake(due, now) {
            let started = self.or_rest(id, now, self.workflow.start_broadcast(actor, id, now).await);
            stride.started += usize::from(started);
        }
        let under_way = self.workflow.read(actor).await?.broadcasts_to_send(code, now).await?;
        for id in self.awake(under_way, now) {
            let batch = self.or_rest(id, now, self.batch(actor, id, now).await);
            stride.created += batch.created;
            stride.routed += batch.routed;
            if batch.is_emergency && batch.created + batch.routed > 0 {
                break;
            }
        }
        for row in self.workflow.broadcasts_to_count(actor, now).await? {
            for id in self.awake(vec![row.broadcast_id], now) {
                self.or_rest(id, now, self.workflow.count_broadcast(actor, &row, now).await);
            }
        }
        Ok(stride)
    }

    /// Those that have not just failed.
    fn awake(&self, ids: Vec<BroadcastId>, now: Timestamp) -> Vec<BroadcastId> {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.retain(|_, until| *until > now);
        ids.into_iter().filter(|id| !resting.contains_key(id)).collect()
    }

    /// What was done; after a fault nothing was, and the broadcast rests.
    fn or_rest<T: Default>(&self, id: BroadcastId, now: Timestamp, done: Result<T, WorkflowError>) -> T {
        done.unwrap_or_else(|error| {
            tracing::error!(broadcast.id = %id, error = %error, "a broadcast failed and will be tried again");
            let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
            resting.insert(id, now.plus(AFTER_FAULT));
            T::default()
        })
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
        row.n_targets = work.tx.count_members(&row.municipality_code, &segment, now).await?;
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
