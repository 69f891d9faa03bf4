//! Broadcasts (messages.md §11): written, released by a second person where many get them, sent in batches
//! that a crash can neither lose nor double, followed live, and sent again to those who have not read them.
//!
//! `release` holds what people do before it goes out, `stop` what they do while it does, `trial` what the author tries
//! out, `send` what the sender does, `batch` one transaction of it.

mod batch;
mod count;
mod draft;
mod release;
mod route;
mod send;
mod stop;
mod trial;
mod view;

use serde_json::{Value, json};
use todoke_domain::{
    Event, Timestamp,
    broadcast::{BroadcastEvent, BroadcastState},
    catalogue::messages::{self, MessageType},
    channel::Channel,
    ids::BroadcastId,
    segment::Segment,
};
use todoke_store::broadcast::Broadcast;

use crate::{Work, WorkflowError, messaging::About, work::Subject};

pub(crate) use count::PROGRESS;
pub use draft::BroadcastDraft;
pub use send::{Sender, Stride};
pub(crate) use trial::TRIAL;
pub use trial::{TRIALS_PER_MIN, Trial};
pub use view::{BroadcastView, RoundView};

impl Work<'_> {
    async fn open_broadcast(&mut self, id: BroadcastId) -> Result<Broadcast, WorkflowError> {
        self.tx.lock_broadcast(id).await?.ok_or(WorkflowError::NotFound("broadcast"))
    }

    /// An event of the broadcast, with its figures as they are.
    fn broadcast_event(&mut self, event_type: &str, row: &Broadcast, more: Value) -> Event {
        let mut payload = json!({
            "broadcast_id": row.broadcast_id,
            "kind": row.kind,
            "segment_id": row.segment_id,
            "targets": row.n_targets,
        });
        if let (Value::Object(payload), Value::Object(more)) = (&mut payload, more) {
            payload.extend(more);
        }
        self.event(event_type, Subject::new("broadcast", row.broadcast_id), payload)
    }

    /// Tells the screens of those who send broadcasts, the operator's and the city's.
    fn publish_broadcast(&mut self, kind: &str, row: &Broadcast, more: Value) {
        let about = broadcast_about(row);
        let mut data: serde_json::Map<String, Value> = match more {
            Value::Object(more) => more,
            _ => serde_json::Map::new(),
        };
        data.insert("targets".to_owned(), json!(row.n_targets));
        let code = self.actor.municipality_code.clone();
        for channel in [Channel::OperatorQueue(code.clone()), Channel::CityBoard(code)] {
            self.publish_about(channel, kind, &about, data.clone());
        }
    }
}

/// Members of an event: when the first batch was put into inboxes and the last one into inboxes or the queue.
fn sent_between(first: Option<Timestamp>, last: Option<Timestamp>) -> Value {
    json!({ "first_sent_at": first.map(Timestamp::as_micros), "last_sent_at": last.map(Timestamp::as_micros) })
}

/// What the second person is told while signed in.
fn awaiting(row: &Broadcast) -> Value {
    json!({ "title": "承認待ちの配信があります", "body": row.title })
}

/// What is told of a broadcast whose audience or plan the record no longer gives.
const UNREADABLE: &str =
    "対象の条件を読み取れません。まだ配信していない分は配信できないため、中止して、新しい配信を作成してください。";

/// The audience, before somebody decides that it is told.
fn readable_audience(row: &Broadcast) -> Result<Segment, WorkflowError> {
    row.segment().map_err(|_| WorkflowError::Conflict(UNREADABLE.to_owned()))
}

fn step(row: &mut Broadcast, event: BroadcastEvent) -> Result<BroadcastState, WorkflowError> {
    let state = row.state()?;
    let next = state
        .on(event)
        .map_err(|_| WorkflowError::Conflict(format!("配信が「{}」のため、この操作はできません。", state.label())))?;
    row.state = next.as_str().to_owned();
    Ok(next)
}

/// The row of the catalogue that the messages of a broadcast come from.
fn message_type(row: &Broadcast) -> Result<&'static MessageType, WorkflowError> {
    messages::get(row.kind()?.message_type()).ok_or(WorkflowError::Internal("a broadcast without message type"))
}

/// What a device shows as one notification: going out again replaces what is still shown. All deliveries of a
/// broadcast are found in the queue by it.
fn collapse_key(row: &Broadcast) -> Result<String, WorkflowError> {
    Ok(format!("{}:{}", row.kind()?.message_type(), row.broadcast_id))
}

fn broadcast_about(row: &Broadcast) -> About {
    About {
        subject_kind: "broadcast",
        subject_id: row.broadcast_id.to_string(),
        state: row.state.clone(),
        link: row.link.clone(),
        office_link: format!("/staff/operator/broadcasts/{}", row.broadcast_id),
        ..About::default()
    }
}
