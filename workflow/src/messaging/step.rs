//! One step of a delivery with its event, in the transaction of whatever causes it.

use serde_json::{Value, json};
use todoke_domain::{
    Timestamp,
    catalogue::messages::{Channel as Via, Speed},
    delivery::{self, DeliveryState, DeliveryStep, Provider, Purpose},
    ids::{AccountId, DeliveryId, MessageId},
};
use todoke_store::{
    delivery::{Delivery, Mark, NewDelivery},
    message::Message,
};

use super::letter::letter_kind;
use crate::{Work, WorkflowError, account::USAGE_ANALYTICS, work::Subject};

/// Attempts at a step while others change the same delivery.
const RACES_MAX: usize = 8;

impl Work<'_> {
    /// Takes a delivery one step on, with the step's event. A step that the state does not allow (any more)
    /// changes nothing and gives `None`.
    pub(super) async fn step_delivery(
        &mut self,
        row: &Delivery,
        step: DeliveryStep,
        reason: Option<&str>,
    ) -> Result<Option<DeliveryState>, WorkflowError> {
        let mut row = row.clone();
        for _ in 0..RACES_MAX {
            let Ok(state) = row.state.on(step) else { return Ok(None) };
            let mark = Mark {
                error_code: reason.map(str::to_owned).or_else(|| row.error_code.clone()),
                ..Mark::to(state, self.now)
            };
            if self.tx.mark_delivery(&row, &mark).await? {
                self.note_delivery(&row, state, reason);
                if state == DeliveryState::Opened {
                    self.note_push_opened(&row).await?;
                }
                return Ok(Some(state));
            }
            match self.tx.delivery(row.delivery_id).await? {
                Some(newer) => row = newer,
                None => return Ok(None),
            }
        }
        Err(WorkflowError::Internal("a delivery changes faster than it can be marked"))
    }

    fn note_delivery(&mut self, row: &Delivery, state: DeliveryState, reason: Option<&str>) {
        // A mail that waited for somebody to look was never queued as far as the statistics know.
        if row.purpose != Purpose::Notification || (row.escalation.is_some() && row.attempts == 0) {
            return;
        }
        let id = row.message_id;
        let since = |then: Timestamp| i64::try_from(self.now.since(then).as_millis()).unwrap_or(i64::MAX);
        let (event_type, payload) = match state {
            DeliveryState::Delivered => (
                "message.delivered",
                json!({ "message_id": id, "channel": row.channel, "latency_ms": since(row.cause_at) }),
            ),
            DeliveryState::Opened => (
                "message.opened",
                json!({ "message_id": id, "channel": row.channel, "open_latency_ms": since(arrived_at(row)) }),
            ),
            DeliveryState::Superseded => {
                ("message.superseded", json!({ "message_id": id, "channel": row.channel, "reason": reason }))
            }
            DeliveryState::Failed => (
                "message.failed",
                json!({
                    "message_id": id, "channel": row.channel, "attempt": row.attempts,
                    "error_code": reason.unwrap_or("failed"), "permanent": true,
                }),
            ),
            DeliveryState::Printed => ("message.paper_printed", letter_payload(row)),
            DeliveryState::Posted => ("message.paper_posted", letter_payload(row)),
            DeliveryState::Returned => ("message.paper_returned", letter_payload(row)),
            DeliveryState::Queued
            | DeliveryState::Held
            | DeliveryState::Sent
            | DeliveryState::Accepted
            | DeliveryState::Expired
            | DeliveryState::Suppressed => return,
        };
        self.event(event_type, Subject::new("message", id), payload);
    }

    /// Opening a push is use of the app as well, noted of who lets that be counted (events.md 5.9): by no actor, as the
    /// statistics need nobody.
    async fn note_push_opened(&mut self, row: &Delivery) -> Result<(), WorkflowError> {
        let counts = row.purpose == Purpose::Notification && row.provider.channel() == Via::Push;
        if !counts || !self.tx.has_consent(row.account_id, USAGE_ANALYTICS).await? {
            return Ok(());
        }
        let open_latency_ms = i64::try_from(self.now.since(arrived_at(row)).as_millis()).unwrap_or(i64::MAX);
        let payload = json!({
            "message_id": row.message_id, "message_type": row.message_type, "open_latency_ms": open_latency_ms,
        });
        self.event_anonymous("app.push_opened", Subject::new("message", row.message_id), self.now, payload);
        Ok(())
    }

    /// The event of a notification that a device shows: not a state of its delivery, which has arrived or was opened.
    pub(super) fn note_shown(&mut self, row: &Delivery) {
        if row.purpose != Purpose::Notification {
            return;
        }
        let latency_ms = i64::try_from(self.now.since(row.cause_at).as_millis()).unwrap_or(i64::MAX);
        let payload = json!({ "message_id": row.message_id, "channel": row.channel, "latency_ms": latency_ms });
        self.event("message.displayed", Subject::new("message", row.message_id), payload);
    }

    /// A message was opened: what else of it is on its way stops, and what other devices show is taken back.
    /// `on` is the delivery it was opened through, if it was one.
    pub(super) async fn settle_opened(
        &mut self,
        message: &Message,
        on: Option<DeliveryId>,
    ) -> Result<(), WorkflowError> {
        self.take_back(message.message_id, on, "read_elsewhere").await
    }

    /// Stops what is queued of a message and takes back what devices show of it, except for one delivery.
    pub(super) async fn take_back(
        &mut self,
        id: MessageId,
        except: Option<DeliveryId>,
        reason: &str,
    ) -> Result<(), WorkflowError> {
        let mut withdrawals = Vec::new();
        for row in self.tx.deliveries_of(id).await? {
            if row.purpose != Purpose::Notification || Some(row.delivery_id) == except {
                continue;
            }
            let push = row.provider.channel() == Via::Push;
            // A mail that left cannot be taken back, and a letter is for people without the app, whatever was read there.
            let waits = matches!(row.state, DeliveryState::Queued | DeliveryState::Held);
            if !push && (!waits || row.provider == Provider::Paper) {
                continue;
            }
            let shown =
                push && matches!(row.state, DeliveryState::Sent | DeliveryState::Accepted | DeliveryState::Delivered);
            if self.step_delivery(&row, DeliveryStep::Supersede, Some(reason)).await?.is_some() && shown {
                withdrawals.push(self.withdrawal_of(&row));
            }
        }
        if !withdrawals.is_empty() {
            self.tx.insert_deliveries(&withdrawals).await?;
        }
        Ok(())
    }

    fn withdrawal_of(&self, row: &Delivery) -> NewDelivery {
        NewDelivery {
            delivery_id: DeliveryId::new(self.now),
            message_id: row.message_id,
            municipality_code: row.municipality_code.clone(),
            account_id: row.account_id,
            message_type: row.message_type.clone(),
            purpose: Purpose::Withdraw,
            provider: row.provider,
            target: row.target.clone(),
            edition: row.edition,
            // It takes away without a sound, so that it need not wait for the morning.
            speed: delivery::rank(Speed::Min),
            subject: String::new(),
            body: String::new(),
            link: String::new(),
            collapse_key: row.collapse_key.clone(),
            optional: row.optional,
            secret: false,
            escalation: None,
            state: DeliveryState::Queued,
            error_code: None,
            due_at: self.now,
            // It clears what the notification would have shown, so it lives as long.
            expires_at: row.expires_at,
            receipt_key: 0,
            cause_at: self.now,
            created_at: self.now,
        }
    }

    /// A person leaves: their devices go, and what waits for them is not sent (messages.md, C18 `recipient_gone`).
    pub(crate) async fn forget_deliveries(&mut self, account: AccountId) -> Result<(), WorkflowError> {
        self.tx.remove_devices_of(account, "account_deleted", self.now).await?;
        for row in self.tx.queued_deliveries_of(account).await? {
            let mark =
                Mark { error_code: Some("recipient_gone".to_owned()), ..Mark::to(DeliveryState::Suppressed, self.now) };
            if self.tx.mark_delivery(&row, &mark).await? && row.purpose == Purpose::Notification {
                self.note_suppressed(row.message_id, "recipient_gone");
            }
        }
        Ok(())
    }

    /// Somebody looked: mails that waited for that are not needed. Colleagues look for each other.
    pub(super) async fn stop_waiting_mails(&mut self, message: &Message) -> Result<(), WorkflowError> {
        // A type that goes to a household and to an office has a look for each.
        let mails = if self.actor.role.is_some_and(|role| !role.is_household()) {
            self.tx.waiting_mails_of_cause(message.cause_event_id, &message.message_type).await?
        } else {
            self.tx.waiting_mails(message.message_id).await?
        };
        for mail in mails {
            self.step_delivery(&mail, DeliveryStep::Supersede, Some("looked_at")).await?;
        }
        Ok(())
    }
}

/// When somebody could first open it, as far as that was told.
fn arrived_at(row: &Delivery) -> Timestamp {
    row.delivered_at.or(row.accepted_at).unwrap_or(row.created_at)
}

fn letter_payload(row: &Delivery) -> Value {
    json!({ "message_id": row.message_id, "letter_kind": letter_kind(&row.message_type) })
}
