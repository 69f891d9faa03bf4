//! What sockets may do, answered from the record.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{json, value::RawValue};
use todoke_domain::{
    channel::{Channel, channels_of},
    delivery::ReceiptToken,
    ids::{EventId, MessageId},
};
use todoke_store::{Store, Wall, message::MessageStep};
use todoke_workflow::{Actor, Workflow, WorkflowError, messaging::ReceiptKind};

use crate::{
    broker::{Durable, DurableError, DurablePage, Publication},
    clock::Clock,
    realtime::{Admission, Caller, Gate, Refusal, RpcError, ServerChannel, SubscribeGrant},
    token::{TokenError, Tokens},
};

/// The door between sockets and the record.
#[derive(Debug)]
pub struct RecordGate {
    store: Store,
    epoch: Arc<str>,
    tokens: Arc<Tokens>,
    clock: Clock,
    // Set once the use cases exist: they tell the hub of commits, and the hub asks them.
    workflow: std::sync::OnceLock<Workflow>,
}

impl RecordGate {
    /// A door over the record with its epoch.
    pub fn new(store: Store, epoch: &str, tokens: Arc<Tokens>, clock: Clock) -> Self {
        Self { store, epoch: Arc::from(epoch), tokens, clock, workflow: std::sync::OnceLock::new() }
    }

    /// Hands in the use cases; called once while the server is wired.
    pub fn attach(&self, workflow: Workflow) {
        if self.workflow.set(workflow).is_err() {
            tracing::warn!("the use cases were attached twice");
        }
    }
}

impl Durable for RecordGate {
    async fn durable_since(&self, channel: &str, after: u64, n_max: usize) -> Result<DurablePage, DurableError> {
        let failed = |error: todoke_store::StoreError| DurableError(error.to_string());
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let n_max = i64::try_from(n_max).unwrap_or(i64::MAX);
        let mut tx = self.store.begin_read(Wall::None).await.map_err(failed)?;
        let page = tx.publications_since(channel, after, n_max).await.map_err(failed)?;
        drop(tx);
        // A client remembers the position, which must not be given to anything else after a power loss.
        self.store.settled().await.map_err(failed)?;
        let publications = page
            .publications
            .into_iter()
            .map(|row| Publication { position: u64::try_from(row.position).unwrap_or(0), data: row.data.into() });
        Ok(DurablePage {
            epoch: self.epoch.clone(),
            top: u64::try_from(page.top).unwrap_or(0),
            publications: publications.collect(),
        })
    }
}

/// Which message a call is about.
#[derive(Deserialize)]
struct StepCall {
    message_id: Option<MessageId>,
    cause_event_id: Option<EventId>,
    // As it came with a push. It speaks for that one delivery, as over HTTP, whoever is signed in on the device.
    receipt: Option<String>,
}

const WHICH_MESSAGE: &str = "message_id, cause_event_id or receipt is needed";

fn rpc_error(error: &WorkflowError) -> RpcError {
    match error {
        WorkflowError::NotFound(_) => RpcError::app(404, "no such message"),
        WorkflowError::Denied => RpcError::denied(),
        other => {
            tracing::error!(error = %other, "call failed");
            RpcError::internal()
        }
    }
}

impl Gate for RecordGate {
    type Principal = Actor;

    fn now_unix_s(&self) -> i64 {
        self.clock.now().as_seconds()
    }

    async fn admit(&self, token: &str) -> Result<Admission<Actor>, Refusal> {
        let now = self.clock.now();
        let claims = self.tokens.check(token, now).map_err(|error| match error {
            TokenError::Expired => Refusal::TokenExpired,
            TokenError::Invalid => Refusal::InvalidToken,
        })?;
        let workflow = self.workflow.get().ok_or(Refusal::Unavailable)?;
        let (account, session) = workflow.session_by_id(claims.sid, now).await.map_err(|error| match error {
            WorkflowError::SignIn(_) => Refusal::InvalidToken,
            _ => Refusal::Unavailable,
        })?;
        let channels = channels_of(account.role, account.account_id, account.facility_id, &account.municipality_code);
        let channels = channels.iter().map(|channel| ServerChannel {
            name: channel.to_string(),
            recoverable: true,
            // Colleagues at one facility may see who else has the screen open.
            presence: matches!(channel, Channel::FacilityToday(_)),
            join_leave: matches!(channel, Channel::FacilityToday(_)),
        });
        Ok(Admission {
            user: account.account_id.to_string(),
            session: session.session_id.to_string(),
            municipality: account.municipality_code.to_string(),
            expires_at: Some(claims.exp),
            channels: channels.collect(),
            info: None,
            data: None,
            principal: Actor::of(&account, None),
        })
    }

    async fn subscribe(
        &self,
        who: &Caller<Actor>,
        channel: &str,
        _token: Option<&str>,
    ) -> Result<SubscribeGrant, Refusal> {
        let actor = &who.principal;
        let (Some(role), Some(account)) = (actor.role, actor.account_id) else { return Err(Refusal::Denied) };
        let own = channels_of(role, account, actor.facility_id, &actor.municipality_code);
        if own.iter().any(|known| known.to_string() == channel) {
            Ok(SubscribeGrant { recoverable: true, ..SubscribeGrant::default() })
        } else {
            Err(Refusal::Denied)
        }
    }

    async fn rpc(&self, who: &Caller<Actor>, method: &str, data: &RawValue) -> Result<Box<RawValue>, RpcError> {
        let (step, of_device) = match method {
            "message.delivered" => (MessageStep::Delivered, Some(ReceiptKind::Delivered)),
            "message.displayed" => (MessageStep::Displayed, Some(ReceiptKind::Displayed)),
            "message.opened" => (MessageStep::Read, Some(ReceiptKind::Opened)),
            "message.acknowledged" => (MessageStep::Acknowledged, None),
            _ => return Err(RpcError::method_not_found()),
        };
        let workflow = self.workflow.get().ok_or_else(RpcError::internal)?;
        let call: StepCall = serde_json::from_str(data.get()).map_err(|_| RpcError::bad_request(WHICH_MESSAGE))?;
        let now = self.clock.now();
        let answer = match (call, of_device) {
            (StepCall { receipt: Some(receipt), .. }, Some(kind)) => {
                // An unknown token tells nothing new, as over HTTP.
                let changed = match receipt.parse::<ReceiptToken>() {
                    Ok(token) => workflow.note_receipt(token, kind, now).await.map_err(|error| rpc_error(&error))?,
                    Err(_) => false,
                };
                json!({ "changed": usize::from(changed) })
            }
            (StepCall { message_id: Some(message), .. }, _) => {
                let outcome = workflow.note_message_step(&who.principal, message, step, now).await;
                json!({ "unread": outcome.map_err(|error| rpc_error(&error))?.unread })
            }
            (StepCall { cause_event_id: Some(cause), .. }, _) => {
                let outcome = workflow.note_cause_step(&who.principal, cause, step, now).await;
                json!({ "unread": outcome.map_err(|error| rpc_error(&error))?.unread })
            }
            _ => return Err(RpcError::bad_request(WHICH_MESSAGE)),
        };
        serde_json::value::to_raw_value(&answer).map_err(|_| RpcError::internal())
    }
}
