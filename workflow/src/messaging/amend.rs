//! What an operator does about a message that is out: correct its words, take it back, send it again.

use todoke_domain::{
    Timestamp,
    catalogue::messages::Channel as Via,
    delivery::{DeliveryState, DeliveryStep, Provider, Purpose, leaves_at, speed_of},
    ids::{DeliveryId, MessageId},
    role::Permission,
};
use todoke_store::{
    delivery::{Delivery, NewDelivery},
    message::Message,
};

use crate::{Actor, FieldError, Work, Workflow, WorkflowError, audit::Access, work::Subject};

/// Longest corrected heading, characters.
const TITLE_MAX: usize = 100;
/// Longest corrected text, characters.
const BODY_MAX: usize = 4_000;

/// Why a delivery of a message that was taken back does not go.
const WITHDRAWN: &str = "withdrawn";

/// What is shown in place of words that were corrected: the new ones were never checked for names.
const CORRECTED: (&str, &str) =
    ("お知らせを訂正しました", "先にお送りしたお知らせの内容を訂正しました。アプリでご確認ください。");
/// The same to somebody who has not got the first words and so knows of nothing to be corrected.
const CORRECTED_UNSEEN: (&str, &str) =
    ("お知らせがあります", "新しいお知らせがあります。内容はアプリでご確認ください。");

/// New words of a message.
#[derive(Debug, Clone, Default)]
pub struct Correction {
    /// Heading in the inbox.
    pub title: String,
    /// Text in the inbox.
    pub body: String,
}

impl Workflow {
    /// Replaces the words of a message. The inbox shows the new ones as unread; devices that show the old ones
    /// get the notification anew, which replaces the first and may wait for the morning. What has not left yet, such
    /// as a mail that waits for somebody to look, keeps its time. What travels says only that there is something to
    /// read: the new words were never checked for names. A letter that is in no print run yet has the new words.
    pub async fn correct_message(
        &self,
        actor: &Actor,
        id: MessageId,
        correction: &Correction,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        actor.require(Permission::PublishNotices)?;
        let (title, body) = (correction.title.trim(), correction.body.trim());
        let mut errors = Vec::new();
        if title.is_empty() || title.chars().count() > TITLE_MAX {
            errors.push(FieldError::new("title", "件名を100文字以内で入力してください。"));
        }
        if body.is_empty() || body.chars().count() > BODY_MAX {
            errors.push(FieldError::new("body", "本文を4000文字以内で入力してください。"));
        }
        if !errors.is_empty() {
            return Err(WorkflowError::Invalid(errors));
        }
        let mut work = self.begin(actor, now).await?;
        let message = work.tx.message_by_id(id).await?.ok_or(WorkflowError::NotFound("message"))?;
        if !message.in_inbox {
            return Err(WorkflowError::Conflict("受信箱にないお知らせは訂正できません。".to_owned()));
        }
        work.tx.correct_message(id, title, body, now).await?;
        let mut again = Vec::new();
        for row in work.newest_of_each_target(id).await? {
            if row.provider == Provider::Paper {
                work.tx.reword_letter(&row.municipality_code, &row.target, title, body).await?;
                continue;
            }
            let unseen = row.state == DeliveryState::Queued && row.attempts == 0;
            if unseen && work.tx.reword_delivery(&row, CORRECTED_UNSEEN.0, CORRECTED_UNSEEN.1).await? {
                continue;
            }
            // What could not be reworded was claimed in between.
            let left = row.attempts > 0 || unseen;
            work.step_delivery(&row, DeliveryStep::Supersede, Some("corrected")).await?;
            let held = row.state == DeliveryState::Held;
            if left || held || row.state == DeliveryState::Queued {
                let words = if held && row.attempts == 0 { CORRECTED_UNSEEN } else { CORRECTED };
                again.push(NewDelivery {
                    // What a paused broadcast keeps back stays so.
                    state: if held { DeliveryState::Held } else { DeliveryState::Queued },
                    subject: words.0.to_owned(),
                    body: words.1.to_owned(),
                    ..repeated(&row, now)
                });
            }
        }
        work.tx.insert_deliveries(&again).await?;
        let corrected = Message { title: title.to_owned(), body: body.to_owned(), read_at: None, ..message };
        work.publish_changed(&corrected, "message.corrected").await?;
        work.audit(Access::Correct, Subject::new("message", id), 1);
        work.commit().await?;
        Ok(())
    }

    /// Takes a message back: out of the inbox, off the devices that show it, and what has not left stays.
    /// A mail that has left cannot be taken back, and of a letter that may be on paper the office is told.
    pub async fn withdraw_message(&self, actor: &Actor, id: MessageId, now: Timestamp) -> Result<(), WorkflowError> {
        actor.require(Permission::PublishNotices)?;
        let mut work = self.begin(actor, now).await?;
        let message = work.tx.message_by_id(id).await?.ok_or(WorkflowError::NotFound("message"))?;
        if !work.withdraw(&message).await? {
            return Err(WorkflowError::Conflict("すでに取り下げられています。".to_owned()));
        }
        work.audit(Access::Withdraw, Subject::new("message", id), 1);
        work.commit().await?;
        Ok(())
    }

    /// Sends a delivery again that failed, ran out of time, came back, or may have arrived unseen.
    ///
    /// Errors: [`WorkflowError::Conflict`] for any other one, and when its message was taken back.
    pub async fn resend_delivery(
        &self,
        actor: &Actor,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<DeliveryId, WorkflowError> {
        actor.require(Permission::PublishNotices)?;
        let mut work = self.begin(actor, now).await?;
        let row = work.tx.delivery(id).await?.ok_or(WorkflowError::NotFound("delivery"))?;
        let ended = matches!(row.state, DeliveryState::Failed | DeliveryState::Expired | DeliveryState::Returned);
        let doubtful = row.doubtful && row.state == DeliveryState::Sent;
        if row.purpose != Purpose::Notification || row.secret || !(ended || doubtful) {
            return Err(WorkflowError::Conflict("この配信は再送できません。".to_owned()));
        }
        let amended = work.tx.amendments(row.message_id).await?;
        if amended.withdrawn_at.is_some() {
            return Err(WorkflowError::Conflict("取り下げたお知らせは再送できません。".to_owned()));
        }
        if doubtful {
            work.step_delivery(&row, DeliveryStep::Supersede, Some("sent_again")).await?;
        }
        let again = match row.provider.channel() {
            Via::Paper => work.letter_again(&row, &amended).await?,
            Via::Email => NewDelivery { target: work.present_address(&row).await?, ..repeated(&row, now) },
            Via::Live | Via::Inbox | Via::Push => repeated(&row, now),
        };
        let again_id = again.delivery_id;
        if work.tx.insert_deliveries(&[again]).await? == 0 {
            return Err(WorkflowError::Conflict("すでに再送されています。".to_owned()));
        }
        work.audit(Access::Resend, Subject::new("message", row.message_id), 1);
        work.commit().await?;
        Ok(again_id)
    }
}

impl Work<'_> {
    /// Takes a message out of the inbox, out of the queue and off the devices that show it; `false` when that was done
    /// before.
    pub(crate) async fn withdraw(&mut self, message: &Message) -> Result<bool, WorkflowError> {
        if !self.tx.withdraw_message(message.message_id, self.now).await? {
            return Ok(false);
        }
        self.take_back(message.message_id, None, WITHDRAWN).await?;
        self.take_back_letters(message.message_id).await?;
        self.publish_withdrawn(message).await?;
        Ok(true)
    }

    /// Where a mail goes that is sent once more: to the person's address as it is now, unless the message went there
    /// as well.
    async fn present_address(&mut self, row: &Delivery) -> Result<String, WorkflowError> {
        let account = self.tx.account(row.account_id).await?;
        let Some(address) = account.and_then(|account| account.email) else { return Ok(row.target.clone()) };
        let been_there = self.tx.deliveries_of(row.message_id).await?.iter().any(|known| known.target == address);
        Ok(if been_there { row.target.clone() } else { address })
    }

    /// The letters of a message that is taken back: one that waits leaves the queue.
    async fn take_back_letters(&mut self, id: MessageId) -> Result<(), WorkflowError> {
        for row in self.newest_of_each_target(id).await? {
            if row.provider == Provider::Paper
                && self.tx.withdraw_letter(&row.municipality_code, &row.target, self.now).await?
            {
                self.step_delivery(&row, DeliveryStep::Supersede, Some(WITHDRAWN)).await?;
            }
        }
        Ok(())
    }

    /// Of each device and address the delivery of the newest edition.
    async fn newest_of_each_target(&mut self, id: MessageId) -> Result<Vec<Delivery>, WorkflowError> {
        let mut newest: Vec<Delivery> = Vec::new();
        for row in self.tx.deliveries_of(id).await? {
            if row.purpose != Purpose::Notification {
                continue;
            }
            match newest.iter_mut().find(|known| known.channel == row.channel && known.target == row.target) {
                Some(known) if known.edition < row.edition => *known = row,
                Some(_) => {}
                None => newest.push(row),
            }
        }
        Ok(newest)
    }
}

/// The same delivery once more, to be sent as soon as it may.
pub(super) fn repeated(row: &Delivery, now: Timestamp) -> NewDelivery {
    let due_at = leaves_at(row.provider.channel(), speed_of(row.speed), now);
    NewDelivery {
        delivery_id: DeliveryId::new(now),
        message_id: row.message_id,
        municipality_code: row.municipality_code.clone(),
        account_id: row.account_id,
        message_type: row.message_type.clone(),
        purpose: Purpose::Notification,
        provider: row.provider,
        target: row.target.clone(),
        edition: row.edition + 1,
        speed: row.speed,
        subject: row.subject.clone(),
        body: row.body.clone(),
        link: row.link.clone(),
        collapse_key: row.collapse_key.clone(),
        optional: row.optional,
        secret: row.secret,
        escalation: None,
        state: DeliveryState::Queued,
        error_code: None,
        due_at,
        expires_at: row.expires_at.map(|end| due_at.plus(end.since(row.created_at))),
        receipt_key: rand::random(),
        cause_at: row.cause_at,
        created_at: now,
    }
}
