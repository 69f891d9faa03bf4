//! Pausing, resuming and stopping, also what waits in the queue of deliveries by then.
//!
//! A pause and a stop hold what is queued in their own transaction, so that nothing more leaves. What a stop held is
//! then suppressed in pieces, and what comes back into the queue to be tried again is held too: by the sender, which
//! goes on with it after a crash.

use serde_json::Value;
use todoke_domain::{
    Timestamp,
    broadcast::{BroadcastEvent, BroadcastState},
    catalogue::messages::Channel as Via,
    delivery,
    ids::BroadcastId,
    role::Permission,
};
use todoke_store::broadcast::{Broadcast, RoundState};

use super::{BroadcastView, collapse_key, message_type, sent_between, step};
use crate::{Actor, Work, Workflow, WorkflowError, audit::Access, work::Subject};

/// Why a message of a stopped broadcast was not sent.
const STOPPED: &str = "broadcast_stopped";
/// Messages taken out of the queue in one transaction: a payment must not wait for a hundred thousand of them.
const SUPPRESSED_AT_ONCE: i64 = 500;

/// What people do to a broadcast while it goes out.
#[derive(Debug, Clone, Copy)]
enum Steering {
    Pause,
    Resume,
    Stop,
}

impl Workflow {
    /// Nothing more leaves until [`Workflow::resume_broadcast`]; what went out stays, and what is at a provider may
    /// still arrive: the view says how many people that concerns.
    ///
    /// Errors: [`WorkflowError::Conflict`] when nothing is left that could be held, nor come back to be tried again.
    pub async fn pause_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        self.steer_broadcast(actor, id, Steering::Pause, now).await
    }

    /// It goes on where it was; in the night paced push waits for the morning.
    pub async fn resume_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        self.steer_broadcast(actor, id, Steering::Resume, now).await
    }

    /// Ends it. What went out stays, what is at a provider may still arrive; what is still queued for push and mail is
    /// not sent.
    ///
    /// Errors: as [`Workflow::pause_broadcast`].
    pub async fn cancel_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        self.steer_broadcast(actor, id, Steering::Stop, now).await
    }

    async fn steer_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        steering: Steering,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin_long(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        let told = match steering {
            Steering::Pause => work.pause(&mut row).await?,
            Steering::Resume => work.resume(&mut row).await?,
            Steering::Stop => work.stop(&mut row).await?,
        };
        let under_way = work.tx.broadcast_under_way(&collapse_key(&row)?).await?;
        work.publish_broadcast(told, &row, Value::Null);
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        // It is stopped, whatever becomes of this: what is left over the sender takes out.
        if row.stopping
            && let Err(error) = self.settle_broadcast(actor, id, now).await
        {
            tracing::warn!(broadcast.id = %id, error = %error, "the queue of a stopped broadcast waits for the sender");
        }
        Ok(BroadcastView { under_way: Some(under_way), ..self.broadcast(actor, id).await? })
    }

    /// Holds what came back into the queue of a paused broadcast, and takes everything of a cancelled one out of it,
    /// with an event for each message. Gives the number of messages taken out.
    pub(super) async fn settle_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<usize, WorkflowError> {
        let mut n = 0;
        loop {
            let piece = self.settle_piece(actor, id, now).await?;
            n += piece;
            if piece == 0 {
                return Ok(n);
            }
        }
    }

    async fn settle_piece(&self, actor: &Actor, id: BroadcastId, now: Timestamp) -> Result<usize, WorkflowError> {
        if !self.has_to_settle(actor, id).await? {
            return Ok(0);
        }
        let mut work = self.begin_long(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        let key = collapse_key(&row)?;
        let mut n = 0;
        match row.state()? {
            BroadcastState::Paused => {
                work.tx.hold_broadcast(&key).await?;
            }
            BroadcastState::Cancelled if row.stopping => {
                work.tx.hold_broadcast(&key).await?;
                let suppressed = work.tx.suppress_held(&key, STOPPED, SUPPRESSED_AT_ONCE).await?;
                for message in &suppressed.first {
                    work.note_suppressed(*message, STOPPED);
                }
                n = suppressed.n;
                let left = work.tx.broadcast_queue(&key).await?;
                row.stopping = left.queued || left.held || left.handed;
                work.tx.update_broadcast(&row).await?;
            }
            _ => return Ok(0),
        }
        work.commit().await?;
        Ok(n)
    }

    /// A look without a lock: most of the time there is nothing.
    async fn has_to_settle(&self, actor: &Actor, id: BroadcastId) -> Result<bool, WorkflowError> {
        let mut tx = self.read(actor).await?;
        let Some(row) = tx.broadcast(id).await? else { return Ok(false) };
        let queue = tx.broadcast_queue(&collapse_key(&row)?).await?;
        Ok(match row.state()? {
            BroadcastState::Paused => queue.queued,
            BroadcastState::Cancelled => row.stopping && (queue.queued || queue.held || !queue.handed),
            _ => false,
        })
    }
}

impl Work<'_> {
    /// Each step gives the type of the publication that tells of it.
    async fn pause(&mut self, row: &mut Broadcast) -> Result<&'static str, WorkflowError> {
        self.refuse_when_over(row).await?;
        step(row, BroadcastEvent::Pause)?;
        self.tx.hold_broadcast(&collapse_key(row)?).await?;
        self.audit(Access::PauseBroadcast, Subject::new("broadcast", row.broadcast_id), 1);
        Ok("broadcast.paused")
    }

    async fn resume(&mut self, row: &mut Broadcast) -> Result<&'static str, WorkflowError> {
        let all_handed = row.finished_at.is_some();
        step(row, BroadcastEvent::Resume { all_handed })?;
        let (key, speed) = (collapse_key(row)?, message_type(row)?.speed_when(None));
        for channel in [Via::Push, Via::Email] {
            let due_at = delivery::leaves_at(channel, speed, self.now);
            self.tx.release_broadcast(&key, channel, due_at).await?;
        }
        self.audit(Access::ResumeBroadcast, Subject::new("broadcast", row.broadcast_id), 1);
        Ok("broadcast.resumed")
    }

    async fn stop(&mut self, row: &mut Broadcast) -> Result<&'static str, WorkflowError> {
        self.refuse_when_over(row).await?;
        step(row, BroadcastEvent::Cancel)?;
        row.finished_at = Some(self.now);
        let mut spans = (None, None);
        for mut round in self.tx.rounds(row.broadcast_id).await? {
            spans = (spans.0.or(round.first_sent_at), round.last_sent_at.or(spans.1));
            if round.state()? != RoundState::Done {
                round.state = RoundState::Cancelled.as_str().to_owned();
                self.tx.update_round(&round).await?;
            }
        }
        if row.event_id.is_some() {
            self.tx.hold_broadcast(&collapse_key(row)?).await?;
            row.stopping = true;
        }
        self.broadcast_event("broadcast.stopped", row, sent_between(spans.0, spans.1));
        Ok("broadcast.stopped")
    }

    /// One that everybody has been handed can be held only as long as something of it waits, or is at a provider and
    /// may come back to be tried again.
    async fn refuse_when_over(&mut self, row: &Broadcast) -> Result<(), WorkflowError> {
        if row.state()? != BroadcastState::Sent {
            return Ok(());
        }
        let queue = self.tx.broadcast_queue(&collapse_key(row)?).await?;
        let mut more = queue.queued || queue.held || queue.handed;
        for round in self.tx.rounds(row.broadcast_id).await? {
            more |= !matches!(round.state()?, RoundState::Done | RoundState::Cancelled);
        }
        if more {
            return Ok(());
        }
        Err(WorkflowError::Conflict("すでにすべて送信したため、この操作はできません。".to_owned()))
    }
}
