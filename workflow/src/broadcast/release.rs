//! What people do with a broadcast: write, submit, release, hold, stop.

use serde_json::Value;
use todoke_domain::{
    Timestamp,
    broadcast::{BroadcastEvent, BroadcastState, PACE_DEFAULT, may_approve},
    ids::{BroadcastId, EventId},
    role::Permission,
    segment::Segment,
    text,
};
use todoke_store::broadcast::{Broadcast, Round, RoundState};

use super::{
    BroadcastDraft, BroadcastView, awaiting,
    draft::{plan_text, resends},
    sent_between, step,
};
use crate::{Actor, Work, Workflow, WorkflowError, error::Fields, segment::definition};

/// Why a message of a stopped broadcast was not sent.
const STOPPED: &str = "broadcast_stopped";
/// Messages taken out of the queue in one transaction.
const SUPPRESSED_AT_ONCE: i64 = 500;

impl Workflow {
    /// Makes a draft; nobody is told before it is submitted and released.
    pub async fn create_broadcast(
        &self,
        actor: &Actor,
        draft: BroadcastDraft,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin_long(actor, now).await?;
        let mut row = blank(actor, now)?;
        if let Some(account) = actor.account_id {
            row.author_name = work.tx.account(account).await?.map(|account| account.name).unwrap_or_default();
        }
        draft.write_to(&mut row, &mut work.tx).await?;
        row.n_targets = work.tx.count_members(&row.municipality_code, &row.segment()?, now).await?.n;
        work.tx.insert_broadcast(&row).await?;
        work.broadcast_event("broadcast.created", &row, Value::Null);
        work.commit().await?;
        self.broadcast(actor, row.broadcast_id).await
    }

    /// Changes a draft. Errors: [`WorkflowError::Conflict`] once it is submitted.
    pub async fn update_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        draft: BroadcastDraft,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin_long(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        if row.state()? != BroadcastState::Draft {
            return Err(WorkflowError::Conflict("作成中の配信だけを変更できます。".to_owned()));
        }
        draft.write_to(&mut row, &mut work.tx).await?;
        row.n_targets = work.tx.count_members(&row.municipality_code, &row.segment()?, now).await?.n;
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        self.broadcast(actor, id).await
    }

    /// The author is done: it waits for its time, or for the second person where one is needed.
    pub async fn submit_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin_long(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        let segment = row.segment()?;
        row.n_targets = work.tx.count_members(&row.municipality_code, &segment, now).await?.n;
        let n_targets = u64::try_from(row.n_targets).unwrap_or(0);
        let needs_approval = row.kind()?.needs_approval(segment.is_everybody(), n_targets);
        row.note = String::new();
        match step(&mut row, BroadcastEvent::Submit { needs_approval })? {
            BroadcastState::Scheduled => work.release(&mut row, now),
            _ => work.publish_broadcast("broadcast.submitted", &row, awaiting(&row)),
        }
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        self.broadcast(actor, id).await
    }

    /// Somebody other than the author releases it.
    ///
    /// Errors: [`WorkflowError::Conflict`] when the caller wrote it.
    pub async fn approve_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let mut row = work.second_person(id).await?;
        step(&mut row, BroadcastEvent::Approve)?;
        row.approver_id = Some(actor.account()?);
        work.release(&mut row, now);
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        self.broadcast(actor, id).await
    }

    /// Somebody other than the author gives it back, with a word why.
    pub async fn reject_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        note: &str,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        let mut fields = Fields::default();
        let note = fields.take("note", text::line(note, 200));
        fields.finish()?;
        let mut work = self.begin(actor, now).await?;
        let mut row = work.second_person(id).await?;
        step(&mut row, BroadcastEvent::Reject)?;
        row.note = note.unwrap_or_default();
        work.publish_broadcast("broadcast.rejected", &row, Value::Null);
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        self.broadcast(actor, id).await
    }

    /// Nothing more is handed over until [`Workflow::resume_broadcast`]; what went out stays.
    pub async fn pause_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        self.hold(actor, id, BroadcastEvent::Pause, "broadcast.paused", now).await
    }

    /// It goes on where it was.
    pub async fn resume_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        self.hold(actor, id, BroadcastEvent::Resume, "broadcast.resumed", now).await
    }

    async fn hold(
        &self,
        actor: &Actor,
        id: BroadcastId,
        event: BroadcastEvent,
        publication: &str,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        step(&mut row, event)?;
        work.publish_broadcast(publication, &row, Value::Null);
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        self.broadcast(actor, id).await
    }

    /// Ends it before everybody has it. What went out stays; what is still queued for push and mail is not sent.
    pub async fn cancel_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin_long(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        step(&mut row, BroadcastEvent::Cancel)?;
        row.finished_at = Some(now);
        let mut spans = (None, None);
        for mut round in work.tx.rounds(id).await? {
            spans = (spans.0.or(round.first_sent_at), round.last_sent_at.or(spans.1));
            if round.state()? != RoundState::Done {
                round.state = RoundState::Cancelled.as_str().to_owned();
                work.tx.update_round(&round).await?;
            }
        }
        if let Some(cause) = row.event_id {
            work.tx.hold_deliveries(cause).await?;
        }
        work.broadcast_event("broadcast.stopped", &row, sent_between(spans.0, spans.1));
        work.publish_broadcast("broadcast.stopped", &row, Value::Null);
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        if let Some(cause) = row.event_id {
            self.suppress_stopped(actor, cause, now).await?;
        }
        self.broadcast(actor, id).await
    }

    /// Takes what was held back out of the queue, with an event for each message; in pieces, since a payment must
    /// not wait for a hundred thousand of them. What a crash leaves held ends as expired.
    async fn suppress_stopped(&self, actor: &Actor, cause: EventId, now: Timestamp) -> Result<(), WorkflowError> {
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let messages = work.tx.suppress_deliveries(cause, STOPPED, SUPPRESSED_AT_ONCE).await?;
            for message in &messages {
                work.note_suppressed(*message, STOPPED);
            }
            work.commit().await?;
            if i64::try_from(messages.len()).unwrap_or(0) < SUPPRESSED_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Plans when it goes again to those who have not read it, minutes after its start; a time that has passed
    /// means now. Rounds that have begun stay, those that wait are replaced; an empty plan takes them back.
    pub async fn plan_resends(
        &self,
        actor: &Actor,
        id: BroadcastId,
        after_min: &[u32],
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut fields = Fields::default();
        let plan = resends(after_min, &mut fields);
        fields.finish()?;
        let mut work = self.begin(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        if row.state()? == BroadcastState::Cancelled {
            return Err(WorkflowError::Conflict("中止した配信は再送できません。".to_owned()));
        }
        row.resend_after_min = plan_text(&plan);
        work.tx.update_broadcast(&row).await?;
        if let Some(started_at) = row.started_at {
            work.tx.delete_waiting_rounds(id).await?;
            let begun = work.tx.rounds(id).await?;
            let next = begun.last().map_or(1, |round| round.round + 1);
            let fresh = plan.iter().filter(|minutes| begun.iter().all(|round| round.after_min != i64::from(**minutes)));
            for (number, minutes) in (next..).zip(fresh) {
                work.tx
                    .insert_round(&Round::waiting(id, number, *minutes, started_at.plus(minutes_long(*minutes))))
                    .await?;
            }
        }
        work.commit().await?;
        self.broadcast(actor, id).await
    }
}

impl Work<'_> {
    /// Opens a broadcast for a decision that its author may not take.
    async fn second_person(&mut self, id: BroadcastId) -> Result<Broadcast, WorkflowError> {
        self.actor.require(Permission::ApproveBroadcasts)?;
        let approver = self.actor.account()?;
        let row = self.open_broadcast(id).await?;
        if !may_approve(row.author_id, approver) {
            return Err(WorkflowError::Conflict("作成者は自分の配信を承認・差し戻しできません。".to_owned()));
        }
        Ok(row)
    }

    fn release(&mut self, row: &mut Broadcast, now: Timestamp) {
        row.released_at = Some(now);
        self.broadcast_event("broadcast.released", row, Value::Null);
        self.publish_broadcast("broadcast.released", row, Value::Null);
    }
}

pub(super) fn minutes_long(minutes: u32) -> std::time::Duration {
    std::time::Duration::from_secs(60 * u64::from(minutes))
}

fn blank(actor: &Actor, now: Timestamp) -> Result<Broadcast, WorkflowError> {
    Ok(Broadcast {
        broadcast_id: BroadcastId::new(now),
        municipality_code: actor.municipality_code.clone(),
        kind: String::new(),
        title: String::new(),
        body: String::new(),
        link: String::new(),
        event_on: None,
        place: String::new(),
        push: false,
        email: false,
        segment_id: None,
        segment_name: String::new(),
        definition: definition(&Segment::everybody())?,
        state: BroadcastState::Draft.as_str().to_owned(),
        author_id: actor.account_id,
        author_name: String::new(),
        approver_id: None,
        note: String::new(),
        starts_at: None,
        pace_per_s: i64::from(PACE_DEFAULT),
        resend_after_min: plan_text(&[]),
        n_targets: 0,
        event_id: None,
        created_at: now,
        released_at: None,
        started_at: None,
        finished_at: None,
        counted_at: now,
        counters: String::new(),
        sender: String::new(),
        fence: 0,
        leased_until: Timestamp::from_micros(0),
    })
}
