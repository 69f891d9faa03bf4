//! Broadcasts as those see them who send them.

use jiff::civil::Date;
use serde::Serialize;
use serde_json::Value;
use todoke_domain::{
    Timestamp,
    broadcast::BroadcastState,
    ids::{BroadcastId, SegmentId},
    role::Permission,
    segment::Segment,
};
use todoke_store::broadcast::{Broadcast, BroadcastCounts, Round};

use super::{UNREADABLE, count::counters_json};
use crate::{Actor, Workflow, WorkflowError};

/// Longest list.
const LISTED_MAX: i64 = 200;

/// A broadcast.
#[derive(Debug, Clone, Serialize)]
pub struct BroadcastView {
    /// Id.
    pub broadcast_id: BroadcastId,
    /// `segment`, `event` or `emergency`.
    pub kind: String,
    /// Heading.
    pub title: String,
    /// Text.
    pub body: String,
    /// Screen it leads to.
    pub link: String,
    /// Day of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_on: Option<Date>,
    /// Place of the event.
    pub place: String,
    /// Push as well.
    pub push: bool,
    /// Mail as well.
    pub email: bool,
    /// The saved segment it was made from.
    pub segment_id: Option<SegmentId>,
    /// What people call the audience.
    pub segment_name: String,
    /// The audience; none when the record no longer gives it.
    pub segment: Option<Segment>,
    /// Why it cannot go out any more, for people; it can still be cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<&'static str>,
    /// Code of the state.
    pub state: BroadcastState,
    /// The state as people see it.
    pub state_label: &'static str,
    /// Who wrote it.
    pub author_name: String,
    /// Whether the caller wrote it.
    pub own: bool,
    /// Whether the caller may release it as the second person.
    pub may_approve: bool,
    /// What the second person wrote when giving it back.
    pub note: String,
    /// When it goes out; none for as soon as it is released.
    pub starts_at: Option<Timestamp>,
    /// Hand-overs to push and mail per second.
    pub pace_per_s: i64,
    /// When it goes again to those who have not read it, minutes after its start.
    pub resend_after_min: Vec<u32>,
    /// People of the audience.
    pub targets: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was released.
    pub released_at: Option<Timestamp>,
    /// When it began to go out.
    pub started_at: Option<Timestamp>,
    /// When everybody had it, or it was stopped.
    pub finished_at: Option<Timestamp>,
    /// Created, routed, waiting, sent, suppressed, delivered, opened and unread, by person.
    pub counters: Value,
    /// How often it went out, and what is planned.
    pub rounds: Vec<RoundView>,
    /// After a pause, a resumption or a stop: people whose push or mail was at a provider at that moment and cannot be
    /// called back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_way: Option<i64>,
}

/// One time a broadcast goes out.
#[derive(Debug, Clone, Serialize)]
pub struct RoundView {
    /// 0 to its audience, the others to those who have not read it.
    pub round: i64,
    /// Minutes after the start.
    pub after_min: i64,
    /// When it may begin.
    pub due_at: Timestamp,
    /// `waiting`, `creating`, `routing`, `done` or `cancelled`.
    pub state: String,
    /// Messages in the inbox.
    pub created: i64,
    /// People who had enough broadcasts that day, or for whom it could not be written.
    pub suppressed: i64,
    /// People handed to push and mail.
    pub routed: i64,
    /// When the first batch was put into inboxes.
    pub first_sent_at: Option<Timestamp>,
    /// When the newest batch was put into inboxes or queued: what is queued leaves later.
    pub last_sent_at: Option<Timestamp>,
}

impl From<&Round> for RoundView {
    fn from(round: &Round) -> Self {
        Self {
            round: round.round,
            after_min: round.after_min,
            due_at: round.due_at,
            state: round.state.clone(),
            created: round.n_created,
            suppressed: round.n_suppressed,
            routed: round.n_routed,
            first_sent_at: round.first_sent_at,
            last_sent_at: round.last_sent_at,
        }
    }
}

impl BroadcastView {
    fn of(row: Broadcast, counts: &BroadcastCounts, rounds: &[Round], actor: &Actor) -> Result<Self, WorkflowError> {
        let state = row.state()?;
        let is_other = actor.account_id.is_some_and(|account| row.hands().may_approve(account));
        let may = actor.role.is_some_and(|role| role.may(Permission::ApproveBroadcasts));
        let (segment, resends) = (row.segment().ok(), row.resends().ok());
        let fault = (segment.is_none() || resends.is_none()).then_some(UNREADABLE);
        Ok(Self {
            broadcast_id: row.broadcast_id,
            segment,
            fault,
            resend_after_min: resends.unwrap_or_default(),
            state,
            state_label: state.label(),
            own: row.author_id.is_some() && row.author_id == actor.account_id,
            may_approve: state == BroadcastState::AwaitingApproval && is_other && may && fault.is_none(),
            counters: counters_json(counts, rounds.iter().map(|round| round.n_routed).sum()),
            rounds: rounds.iter().map(RoundView::from).collect(),
            under_way: None,
            kind: row.kind,
            title: row.title,
            body: row.body,
            link: row.link,
            event_on: row.event_on,
            place: row.place,
            push: row.push,
            email: row.email,
            segment_id: row.segment_id,
            segment_name: row.segment_name,
            author_name: row.author_name,
            note: row.note,
            starts_at: row.starts_at,
            pace_per_s: row.pace_per_s,
            targets: row.n_targets,
            created_at: row.created_at,
            released_at: row.released_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        })
    }
}

impl Workflow {
    /// One broadcast, counted now.
    pub async fn broadcast(&self, actor: &Actor, id: BroadcastId) -> Result<BroadcastView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut tx = self.read(actor).await?;
        let row = tx.broadcast(id).await?.ok_or(WorkflowError::NotFound("broadcast"))?;
        let rounds = tx.rounds(id).await?;
        let counts = match row.event_id {
            Some(cause) => tx.broadcast_counts(cause, rounds.iter().any(|round| round.n_queued > 0)).await?,
            None => BroadcastCounts::default(),
        };
        BroadcastView::of(row, &counts, &rounds, actor)
    }

    /// Broadcasts of the municipality, newest first, with the counters last counted. One that cannot be read any more
    /// is among them, with what is wrong with it.
    pub async fn broadcasts(&self, actor: &Actor) -> Result<Vec<BroadcastView>, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut tx = self.read(actor).await?;
        let mut views = Vec::new();
        for row in tx.broadcasts(&actor.municipality_code, LISTED_MAX).await? {
            let rounds = tx.rounds(row.broadcast_id).await?;
            let counts = serde_json::from_str(&row.counters).unwrap_or_default();
            views.push(BroadcastView::of(row, &counts, &rounds, actor)?);
        }
        Ok(views)
    }
}
