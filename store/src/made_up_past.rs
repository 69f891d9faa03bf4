//! What a demo writes about deliveries of its made-up past, of which nothing was ever sent.

use todoke_domain::{
    Timestamp,
    delivery::DeliveryState,
    ids::{DeliveryId, MessageId},
};

use crate::{StoreError, Tx};

/// What became of a push of the made-up past.
#[derive(Debug, Clone)]
pub struct PastPush {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The message.
    pub message_id: MessageId,
    /// Where it stands.
    pub state: DeliveryState,
    /// What it failed with, or why it ended.
    pub error_code: Option<String>,
    /// When it was handed over.
    pub sent_at: Timestamp,
    /// When the provider took it.
    pub accepted_at: Option<Timestamp>,
    /// When the device had it.
    pub delivered_at: Option<Timestamp>,
    /// When it was opened.
    pub opened_at: Option<Timestamp>,
    /// When it ended otherwise.
    pub ended_at: Option<Timestamp>,
}

impl Tx {
    /// Marks what was due before `before` as taken, and drops mails that waited for a look: it was delivered
    /// then. Texts are kept for the demo's mailbox.
    pub async fn settle_made_up_past(&mut self, before: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "DELETE FROM delivery WHERE state = 'queued' AND escalation IS NOT NULL AND due_at_us < $1",
            before.as_micros()
        )?;
        execute!(
            self,
            "UPDATE delivery SET state = 'accepted', version = version + 1, attempts = 1, sent_at_us = created_at_us,
                accepted_at_us = created_at_us WHERE state = 'queued' AND channel <> 'paper' AND due_at_us < $1",
            before.as_micros(),
        )?;
        Ok(())
    }

    /// Marks letters made before `before` as posted.
    pub async fn post_made_up_letters(&mut self, before: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE print_item SET state = 'posted' WHERE state = 'queued' AND created_at_us < $1",
            before.as_micros()
        )?;
        execute!(
            self,
            "UPDATE delivery SET state = 'posted', version = version + 1, attempts = 1, sent_at_us = created_at_us,
                delivered_at_us = created_at_us WHERE state = 'queued' AND channel = 'paper' AND created_at_us < $1",
            before.as_micros(),
        )?;
        Ok(())
    }

    /// Writes what became of pushes.
    pub async fn note_past_pushes(&mut self, pushes: &[PastPush]) -> Result<(), StoreError> {
        for push in pushes {
            execute!(
                self,
                "UPDATE delivery SET state = $2, version = version + 1, error_code = $3, sent_at_us = $4, accepted_at_us = $5,
                    delivered_at_us = $6, opened_at_us = $7, ended_at_us = $8 WHERE delivery_id = $1",
                push.delivery_id.to_string(),
                push.state.as_str(),
                push.error_code.as_deref(),
                push.sent_at.as_micros(),
                push.accepted_at.map(Timestamp::as_micros),
                push.delivered_at.map(Timestamp::as_micros),
                push.opened_at.map(Timestamp::as_micros),
                push.ended_at.map(Timestamp::as_micros),
            )?;
        }
        Ok(())
    }
}
