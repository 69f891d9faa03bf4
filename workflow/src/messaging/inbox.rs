//! The inbox, and what recipients tell about their messages: received, shown, opened, ticked off.

use serde_json::{Value, json};
use todoke_domain::{
    Timestamp,
    catalogue::messages,
    channel::Channel,
    ids::{AccountId, EventId, MessageId},
};
use todoke_store::{
    account::Account,
    message::{Message, MessageStep},
};

use super::{
    About,
    raise::{message_json, office_channel},
};
use crate::{Actor, Work, Workflow, WorkflowError, broadcast::TRIAL, work::Subject};

/// A page of the inbox.
#[derive(Debug)]
pub struct Inbox {
    /// Newest first.
    pub messages: Vec<Message>,
    /// Unread ones in all.
    pub unread: i64,
}

/// What came of telling a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepOutcome {
    /// Unread messages afterwards.
    pub unread: i64,
}

impl Workflow {
    /// A page of the caller's inbox, before the message `before`.
    pub async fn inbox(
        &self,
        actor: &Actor,
        unread_only: bool,
        before: Option<MessageId>,
        n_max: i64,
    ) -> Result<Inbox, WorkflowError> {
        let account = actor.account()?;
        let mut tx = self.read(actor).await?;
        let messages = tx.inbox(account, unread_only, before, n_max).await?;
        let unread = tx.unread(account).await?;
        Ok(Inbox { messages, unread })
    }

    /// Notes that the caller received, saw, opened or ticked off a message. Telling a step again changes nothing.
    ///
    /// Errors: [`WorkflowError::NotFound`] when the message is not the caller's.
    pub async fn note_message_step(
        &self,
        actor: &Actor,
        id: MessageId,
        step: MessageStep,
        now: Timestamp,
    ) -> Result<StepOutcome, WorkflowError> {
        let account = actor.account()?;
        let mut work = self.begin(actor, now).await?;
        let message = work.tx.message(account, id).await?.ok_or(WorkflowError::NotFound("message"))?;
        // What is shown has arrived, whether or not that was told.
        if step == MessageStep::Displayed && work.tx.note_step(account, id, MessageStep::Delivered, now).await? {
            work.step_event(&message, MessageStep::Delivered);
        }
        if work.tx.note_step(account, id, step, now).await? {
            work.step_event(&message, step);
            work.stop_waiting_mails(&message).await?;
            if step == MessageStep::Read {
                work.settle_opened(&message, None).await?;
                work.publish_read(account, id).await?;
            }
        }
        let unread = work.tx.unread(account).await?;
        work.commit().await?;
        Ok(StepOutcome { unread })
    }

    /// Notes a step on the caller's message that an event caused: dashboards know the event, not the message.
    pub async fn note_cause_step(
        &self,
        actor: &Actor,
        cause: EventId,
        step: MessageStep,
        now: Timestamp,
    ) -> Result<StepOutcome, WorkflowError> {
        let account = actor.account()?;
        let own = {
            let mut tx = self.read(actor).await?;
            let messages = tx.messages_of_cause(cause, account).await?;
            messages.into_iter().next().ok_or(WorkflowError::NotFound("message"))?
        };
        self.note_message_step(actor, own.message_id, step, now).await
    }

    /// Marks everything read.
    pub async fn read_all_messages(&self, actor: &Actor, now: Timestamp) -> Result<StepOutcome, WorkflowError> {
        let account = actor.account()?;
        let mut work = self.begin(actor, now).await?;
        for id in work.tx.read_all(account, now).await? {
            if let Some(message) = work.tx.message(account, id).await? {
                work.step_event(&message, MessageStep::Read);
                work.stop_waiting_mails(&message).await?;
                work.settle_opened(&message, None).await?;
                work.publish_read(account, id).await?;
            }
        }
        work.commit().await?;
        Ok(StepOutcome { unread: 0 })
    }
}

impl Work<'_> {
    fn step_event(&mut self, message: &Message, step: MessageStep) {
        if message.message_type == TRIAL {
            return;
        }
        let latency_ms = self.now.since(message.created_at).as_millis();
        let latency_ms = i64::try_from(latency_ms).unwrap_or(i64::MAX);
        let (event_type, payload) = match step {
            MessageStep::Delivered => (
                "message.delivered",
                json!({ "message_id": message.message_id, "channel": "live", "latency_ms": latency_ms }),
            ),
            MessageStep::Displayed => (
                "message.displayed",
                json!({ "message_id": message.message_id, "channel": "live", "latency_ms": latency_ms }),
            ),
            MessageStep::Read => (
                "message.opened",
                json!({ "message_id": message.message_id, "channel": "inbox", "open_latency_ms": latency_ms }),
            ),
            MessageStep::Acknowledged => {
                ("message.acknowledged", json!({ "message_id": message.message_id, "by_role": self.actor.role_code() }))
            }
        };
        self.event(event_type, Subject::new("message", message.message_id), payload);
    }

    /// Tells the person's other devices that a message has been read.
    pub(super) async fn publish_read(&mut self, account: AccountId, id: MessageId) -> Result<(), WorkflowError> {
        if !self.actor.role.is_some_and(todoke_domain::Role::is_household) {
            return Ok(());
        }
        let unread = self.tx.unread(account).await?;
        let about = About {
            subject_kind: "message",
            subject_id: id.to_string(),
            state: "opened".to_owned(),
            ..About::default()
        };
        let data = [("unread".to_owned(), Value::from(unread))].into_iter().collect();
        self.publish_about(Channel::Guardian(account), "message.opened", &about, data);
        Ok(())
    }

    /// Tells whoever has the message on a screen that it has changed.
    pub(super) async fn publish_changed(&mut self, message: &Message, kind: &str) -> Result<(), WorkflowError> {
        let Some(account) = self.tx.account(message.account_id).await? else { return Ok(()) };
        let about = About {
            subject_kind: "message",
            subject_id: message.message_id.to_string(),
            state: kind.to_owned(),
            ..About::default()
        };
        let Some(channel) = screen_of(message, &account) else { return Ok(()) };
        let mut data = serde_json::Map::new();
        if account.role.is_household() {
            data.insert("message".to_owned(), message_json(message));
            data.insert("unread".to_owned(), Value::from(self.tx.unread(account.account_id).await?));
        } else {
            data.insert("title".to_owned(), Value::from(message.title.clone()));
            data.insert("body".to_owned(), Value::from(message.body.clone()));
            data.insert("link".to_owned(), Value::from(message.link.clone()));
            data.insert("cause_event_id".to_owned(), Value::from(message.cause_event_id.to_string()));
        }
        self.publish_about(channel, kind, &about, data);
        Ok(())
    }

    /// Tells whoever has the message on a screen that it has been taken back; its words do not go out again, and the
    /// city's board shows news only.
    pub(super) async fn publish_withdrawn(&mut self, message: &Message) -> Result<(), WorkflowError> {
        let Some(account) = self.tx.account(message.account_id).await? else { return Ok(()) };
        let channel = screen_of(message, &account).filter(|channel| !matches!(channel, Channel::CityBoard(_)));
        let Some(channel) = channel else { return Ok(()) };
        let about = About {
            subject_kind: "message",
            subject_id: message.message_id.to_string(),
            state: "withdrawn".to_owned(),
            ..About::default()
        };
        let mut data = serde_json::Map::new();
        if account.role.is_household() {
            data.insert("unread".to_owned(), Value::from(self.tx.unread(account.account_id).await?));
        }
        self.publish_about(channel, "message.withdrawn", &about, data);
        Ok(())
    }
}

/// The live channel on which its recipient sees a message.
fn screen_of(message: &Message, account: &Account) -> Option<Channel> {
    if account.role.is_household() {
        return Some(Channel::Guardian(account.account_id));
    }
    let kind = messages::get(&message.message_type)?;
    office_channel(kind, account.role, account.facility_id, &account.municipality_code)
}
