//! From an attempt's outcome to the delivery's next state, with its event, in the dispatcher's transaction.

use std::time::Duration;

use serde_json::{Map, Value, json};
use todoke_domain::{
    Event, Timestamp,
    delivery::{DeliveryState, DeliveryStep, Purpose, RetryPolicy, leaves_at, speed_of},
    ids::EventId,
};
use todoke_store::{
    StoreError, Tx,
    delivery::{Delivery, Mark},
    device::Device,
    escalation::Escalation,
};

use super::gate::Service;
use crate::Outcome;

/// Attempts at a step while others change the same delivery.
const RACES_MAX: usize = 8;

/// An attempt that is over.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) row: Delivery,
    pub(super) device: Option<Device>,
    /// The push service of a browser.
    pub(super) service: Option<Service>,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

/// What the marks of one transaction have in common.
pub(super) struct Marks<'a> {
    pub(super) tx: &'a mut Tx,
    pub(super) now: Timestamp,
    pub(super) retries: &'a RetryPolicy,
    pub(super) keep_texts: bool,
    pub(super) events: Vec<Event>,
    looks: Vec<Escalation>,
}

/// The next state as the outcome wants it.
struct Wish {
    step: Option<DeliveryStep>,
    due_at: Option<Timestamp>,
    code: Option<String>,
    provider_id: Option<String>,
    doubtful: bool,
}

impl Wish {
    fn step(step: DeliveryStep) -> Self {
        Self { step: Some(step), due_at: None, code: None, provider_id: None, doubtful: false }
    }

    fn fail(code: &str) -> Self {
        Self { code: Some(code.to_owned()), ..Self::step(DeliveryStep::Fail) }
    }
}

impl<'a> Marks<'a> {
    pub(super) fn new(tx: &'a mut Tx, now: Timestamp, retries: &'a RetryPolicy, keep_texts: bool) -> Self {
        Self { tx, now, retries, keep_texts, events: Vec::new(), looks: Vec::new() }
    }

    /// Notes what became of an attempt.
    pub(super) async fn attempt(&mut self, attempt: &Attempt) -> Result<(), StoreError> {
        let Attempt { row, device, outcome, took, service: _ } = attempt;
        let wish = match outcome {
            Outcome::Accepted { provider_id } => {
                Wish { provider_id: provider_id.clone(), ..Wish::step(DeliveryStep::Accept) }
            }
            Outcome::Later { code, after } => self.again(row, code, *after, false),
            Outcome::Refused { code } => Wish::fail(code),
            Outcome::Gone { code, since } => match device {
                // One that registered anew meanwhile stays, and gets the message at its present address.
                Some(device) if !self.tx.remove_dead_device(device, *since, code, self.now).await? => {
                    self.again(row, code, None, false)
                }
                _ => Wish::fail(code),
            },
            Outcome::Doubtful { code } => self.in_doubt(row, code),
        };
        let provider_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        self.apply(row, wish, provider_ms).await
    }

    /// A node died between handing a delivery over and noting the outcome.
    pub(super) async fn lost(&mut self, row: &Delivery) -> Result<(), StoreError> {
        let wish = self.in_doubt(row, "no_answer_noted");
        self.apply(row, wish, 0).await
    }

    /// The time of a delivery is over.
    pub(super) async fn expire(&mut self, row: &Delivery) -> Result<(), StoreError> {
        let wish = Wish { code: Some("time_over".to_owned()), ..Wish::step(DeliveryStep::Expire) };
        self.apply(row, wish, 0).await
    }

    /// Writes the events and looks that came together.
    pub(super) async fn finish(mut self) -> Result<(), StoreError> {
        // First the looks, as whoever does one strikes it off before writing events of the same message.
        if !self.looks.is_empty() {
            self.tx.insert_escalations(&self.looks).await?;
        }
        if !self.events.is_empty() {
            self.tx.append_events(&mut self.events).await?;
        }
        Ok(())
    }

    fn again(&self, row: &Delivery, code: &str, asked: Option<Duration>, doubtful: bool) -> Wish {
        // Spread by what is random in the id: the record decides, not the node.
        let dice = row.delivery_id.as_uuid().as_bytes()[15];
        match self.retries.next(self.now, row.attempts, asked, dice) {
            Some(due_at) => {
                // What was tried in the evening does not ring at night because that failed.
                let due_at = leaves_at(row.provider.channel(), speed_of(row.speed), due_at);
                Wish { due_at: Some(due_at), code: Some(code.to_owned()), doubtful, ..Wish::step(DeliveryStep::Retry) }
            }
            None => Wish { doubtful, ..Wish::fail(code) },
        }
    }

    /// It may have arrived: a second copy replaces the first where the device collapses them; otherwise the
    /// doubt stays to be seen, and a person decides.
    fn in_doubt(&self, row: &Delivery, code: &str) -> Wish {
        if row.provider.shows_repeats_once() {
            self.again(row, code, None, true)
        } else {
            Wish { step: None, due_at: None, code: Some(code.to_owned()), provider_id: None, doubtful: true }
        }
    }

    async fn apply(&mut self, row: &Delivery, wish: Wish, provider_ms: i64) -> Result<(), StoreError> {
        let mut row = row.clone();
        for _ in 0..RACES_MAX {
            let state = match wish.step {
                Some(step) => match row.state.on(step) {
                    Ok(state) => state,
                    // A receipt, a newer message or another node was first: nothing is left to do.
                    Err(_) => return Ok(()),
                },
                None if row.state == DeliveryState::Sent => DeliveryState::Sent,
                None => return Ok(()),
            };
            let mark = Mark {
                state,
                due_at: wish.due_at,
                error_code: wish.code.clone(),
                provider_id: wish.provider_id.clone(),
                doubtful: wish.doubtful,
                at: self.now,
                keep_text: self.keep_texts,
            };
            if self.tx.mark_delivery(&row, &mark).await? {
                self.note(&row, state, &wish, provider_ms);
                return Ok(());
            }
            match self.tx.delivery(row.delivery_id).await? {
                Some(newer) => row = newer,
                None => return Ok(()),
            }
        }
        Err(StoreError::Corrupt { what: "delivery that changes faster than it can be marked" })
    }

    fn note(&mut self, row: &Delivery, state: DeliveryState, wish: &Wish, provider_ms: i64) {
        let waited_in_vain = row.escalation.is_some() && row.attempts == 0;
        if row.purpose != Purpose::Notification || waited_in_vain || row.state == state {
            return;
        }
        let id = row.message_id;
        let code = wish.code.as_deref().unwrap_or("failed");
        let failed = |permanent: bool| {
            json!({
                "message_id": id, "channel": row.channel, "attempt": row.attempts, "error_code": code, "permanent": permanent,
            })
        };
        match state {
            DeliveryState::Accepted => self.event(
                row,
                "message.accepted",
                json!({ "message_id": id, "channel": row.channel, "provider_ms": provider_ms }),
            ),
            DeliveryState::Queued => self.event(row, "message.failed", failed(false)),
            DeliveryState::Failed => {
                self.event(row, "message.failed", failed(true));
                self.look(row);
            }
            DeliveryState::Expired => {
                let payload = json!({ "message_id": id, "channel": row.channel, "reason": code });
                self.event(row, "message.expired", payload);
                self.look(row);
            }
            _ => {}
        }
    }

    fn look(&mut self, row: &Delivery) {
        self.looks.push(Escalation {
            message_id: row.message_id,
            rule: "failed".to_owned(),
            municipality_code: row.municipality_code.clone(),
            due_at: self.now,
            leased_until: Timestamp::from_micros(0),
        });
    }

    /// Notes that a delivery is being handed over.
    pub(super) fn handed(&mut self, row: &Delivery) {
        if row.purpose != Purpose::Notification {
            return;
        }
        let id = row.message_id;
        if let Some(rule) = row.escalation.as_deref().filter(|_| row.attempts == 1) {
            let from = if rule == "E3" { "live" } else { "push" };
            let payload = json!({ "message_id": id, "from_channel": from, "to_channel": row.channel, "rule": rule });
            self.event(row, "message.escalated", payload);
        }
        let latency_ms = i64::try_from(self.now.since(row.cause_at).as_millis()).unwrap_or(i64::MAX);
        let payload =
            json!({ "message_id": id, "channel": row.channel, "attempt": row.attempts, "latency_ms": latency_ms });
        self.event(row, "message.sent", payload);
    }

    fn event(&mut self, row: &Delivery, event_type: &str, payload: Value) {
        let payload = match payload {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        self.events.push(Event {
            event_id: EventId::new(self.now),
            event_type: event_type.to_owned(),
            schema_version: 1,
            occurred_at: self.now,
            recorded_at: self.now,
            municipality_code: row.municipality_code.clone(),
            actor_role: "system".to_owned(),
            actor_key: None,
            source_channel: "batch".to_owned(),
            subject_kind: "message".to_owned(),
            subject_id: row.message_id.to_string(),
            subject_seq: 0,
            correlation_id: None,
            causation_id: None,
            recorded_offline: false,
            programme_code: None,
            facility_id: None,
            payload,
        });
    }
}
