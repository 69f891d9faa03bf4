//! What an operator does about a message that is out: correct its words, take it back, send it again, mark its letter.

use todoke_domain::{
    Timestamp,
    catalogue::messages::Channel as Via,
    delivery::{DeliveryState, DeliveryStep, Purpose},
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

/// New words of a message.
#[derive(Debug, Clone, Default)]
pub struct Correction {
    /// Heading in the inbox.
    pub title: String,
    /// Text in the inbox.
    pub body: String,
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterStep {
    /// It was printed.
    Printed,
    /// It was posted.
    Posted,
    /// It came back.
    Returned,
}

impl LetterStep {
    /// The state before and after, and the step of the delivery.
    const fn states(self) -> (&'static str, &'static str, DeliveryStep) {
        match self {
            Self::Printed => ("queued", "printed", DeliveryStep::Print),
            Self::Posted => ("printed", "posted", DeliveryStep::Post),
            Self::Returned => ("posted", "returned", DeliveryStep::Return),
        }
    }
}

impl Workflow {
    /// Replaces the words of a message. The inbox shows the new ones as unread; devices that show the old ones
    /// get the notification anew, which replaces the first. What travels says only that there is a correction:
    /// the new words were never checked for names.
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
            let left = row.provider.channel() != Via::Paper && row.attempts > 0;
            work.step_delivery(&row, DeliveryStep::Supersede, Some("corrected")).await?;
            if left || row.state == DeliveryState::Queued {
                again.push(NewDelivery {
                    subject: "お知らせを訂正しました".to_owned(),
                    body: "先にお送りしたお知らせの内容を訂正しました。アプリでご確認ください。".to_owned(),
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
    /// A mail or letter that has left cannot be taken back.
    pub async fn withdraw_message(&self, actor: &Actor, id: MessageId, now: Timestamp) -> Result<(), WorkflowError> {
        actor.require(Permission::PublishNotices)?;
        let mut work = self.begin(actor, now).await?;
        let message = work.tx.message_by_id(id).await?.ok_or(WorkflowError::NotFound("message"))?;
        if !work.tx.withdraw_message(id, now).await? {
            return Err(WorkflowError::Conflict("すでに取り下げられています。".to_owned()));
        }
        work.take_back(id, None, "withdrawn").await?;
        work.publish_changed(&message, "message.withdrawn").await?;
        work.audit(Access::Withdraw, Subject::new("message", id), 1);
        work.commit().await?;
        Ok(())
    }

    /// Sends a delivery again that failed, ran out of time, or may have arrived unseen.
    pub async fn resend_delivery(
        &self,
        actor: &Actor,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<DeliveryId, WorkflowError> {
        actor.require(Permission::PublishNotices)?;
        let mut work = self.begin(actor, now).await?;
        let row = work.tx.delivery(id).await?.ok_or(WorkflowError::NotFound("delivery"))?;
        let ended = matches!(row.state, DeliveryState::Failed | DeliveryState::Expired);
        let doubtful = row.doubtful && row.state == DeliveryState::Sent;
        if row.purpose != Purpose::Notification || row.secret || !(ended || doubtful) {
            return Err(WorkflowError::Conflict("この配信は再送できません。".to_owned()));
        }
        if doubtful {
            work.step_delivery(&row, DeliveryStep::Supersede, Some("sent_again")).await?;
        }
        let again = repeated(&row, now);
        let again_id = again.delivery_id;
        if work.tx.insert_deliveries(&[again]).await? == 0 {
            return Err(WorkflowError::Conflict("すでに再送されています。".to_owned()));
        }
        work.audit(Access::Resend, Subject::new("message", row.message_id), 1);
        work.commit().await?;
        Ok(again_id)
    }

    /// Marks letters; one that is not in the state before is left out. Gives how many were marked.
    pub async fn mark_letters(
        &self,
        actor: &Actor,
        letter_nos: &[String],
        step: LetterStep,
        now: Timestamp,
    ) -> Result<usize, WorkflowError> {
        actor.require(Permission::ImportData)?;
        let code = actor.municipality_code.clone();
        let (before, after, delivery_step) = step.states();
        let mut work = self.begin_long(actor, now).await?;
        let mut marked = 0;
        for letter_no in letter_nos {
            if !work.tx.mark_print_item(&code, letter_no, before, after).await? {
                continue;
            }
            marked += 1;
            if let Some(id) = work.tx.delivery_of_letter(&code, letter_no).await? {
                if let Some(row) = work.tx.delivery(id).await? {
                    work.step_delivery(&row, delivery_step, None).await?;
                }
            }
        }
        work.commit().await?;
        Ok(marked)
    }
}

impl Work<'_> {
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

/// The same delivery once more, to be sent at once.
fn repeated(row: &Delivery, now: Timestamp) -> NewDelivery {
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
        due_at: now,
        expires_at: row.expires_at.map(|end| now.plus(end.since(row.created_at))),
        receipt_key: rand::random(),
        cause_at: row.cause_at,
        created_at: now,
    }
}
