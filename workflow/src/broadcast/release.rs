//! What people do with a broadcast before it goes out: write, submit, release; and plan when it goes out again.

use serde_json::Value;
use todoke_domain::{
    Timestamp,
    broadcast::{BroadcastEvent, BroadcastState, PACE_DEFAULT},
    ids::BroadcastId,
    role::Permission,
    segment::Segment,
    text,
};
use todoke_store::broadcast::{Broadcast, Round};

use super::{
    BroadcastDraft, BroadcastView, awaiting,
    draft::{plan_text, resends},
    readable_audience, step,
};
use crate::{Actor, Work, Workflow, WorkflowError, audit::Access, error::Fields, segment::definition, work::Subject};

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
        row.n_targets = work.tx.count_members(&row.municipality_code, &row.segment()?, now).await?;
        work.tx.insert_broadcast(&row).await?;
        work.broadcast_event("broadcast.created", &row, Value::Null);
        work.commit().await?;
        self.broadcast(actor, row.broadcast_id).await
    }

    /// Changes a draft; whoever changes it cannot release it. Errors: [`WorkflowError::Conflict`] once it is submitted.
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
        row.editor_id = actor.account_id;
        row.n_targets = work.tx.count_members(&row.municipality_code, &row.segment()?, now).await?;
        work.tx.update_broadcast(&row).await?;
        work.audit(Access::ChangeBroadcast, Subject::new("broadcast", row.broadcast_id), 1);
        work.commit().await?;
        self.broadcast(actor, id).await
    }

    /// It is finished: it waits for its time, or for the second person where one is needed.
    pub async fn submit_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin_long(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        let segment = readable_audience(&row)?;
        row.n_targets = work.tx.count_members(&row.municipality_code, &segment, now).await?;
        let n_targets = u64::try_from(row.n_targets).unwrap_or(0);
        let needs_approval = row.kind()?.needs_approval(segment.is_everybody(), n_targets);
        row.note = String::new();
        row.submitter_id = actor.account_id;
        match step(&mut row, BroadcastEvent::Submit { needs_approval })? {
            BroadcastState::Scheduled => work.release(&mut row, now),
            _ => work.publish_broadcast("broadcast.submitted", &row, awaiting(&row)),
        }
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        self.broadcast(actor, id).await
    }

    /// Somebody who neither wrote, changed nor submitted it releases it.
    ///
    /// Errors: [`WorkflowError::Conflict`] when the caller did, and when nobody can tell any more whom it is for.
    pub async fn approve_broadcast(
        &self,
        actor: &Actor,
        id: BroadcastId,
        now: Timestamp,
    ) -> Result<BroadcastView, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let mut row = work.second_person(id).await?;
        readable_audience(&row)?;
        step(&mut row, BroadcastEvent::Approve)?;
        row.approver_id = Some(actor.account()?);
        work.release(&mut row, now);
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        self.broadcast(actor, id).await
    }

    /// The second person gives it back, with a word why.
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
        work.audit(Access::RejectBroadcast, Subject::new("broadcast", row.broadcast_id), 1);
        work.commit().await?;
        self.broadcast(actor, id).await
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
        work.audit(Access::PlanResends, Subject::new("broadcast", row.broadcast_id), 1);
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
    /// Opens a broadcast for a decision that nobody who had a hand in it may take.
    async fn second_person(&mut self, id: BroadcastId) -> Result<Broadcast, WorkflowError> {
        self.actor.require(Permission::ApproveBroadcasts)?;
        let approver = self.actor.account()?;
        let row = self.open_broadcast(id).await?;
        // Whoever makes a key for a machine could otherwise be the second pair of eyes as well.
        if !self.tx.account(approver).await?.is_some_and(|account| account.email.is_some()) {
            return Err(WorkflowError::Conflict(
                "承認・差し戻しは、画面にサインインした担当者だけが行えます。".to_owned(),
            ));
        }
        if !row.hands().may_approve(approver) {
            return Err(WorkflowError::Conflict(
                "作成・変更・申請した人は、その配信を承認・差し戻しできません。".to_owned(),
            ));
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
        editor_id: actor.account_id,
        submitter_id: None,
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
        stopping: false,
    })
}
