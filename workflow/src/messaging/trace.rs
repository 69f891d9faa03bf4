//! Deliveries as the operator looks at them: the search for a message, its life, how far each type came, whom nothing
//! reached.

use jiff::civil::Date;
use serde::Serialize;
use todoke_domain::{
    Timestamp,
    delivery::{DeliveryState, Purpose},
    ids::{DeliveryId, MessageId},
    role::Permission,
    time::add_days,
};
use todoke_store::{
    delivery::Delivery,
    delivery_view::{FoundMessage, FunnelRow, MessageSearch, Unreached},
    message::Message,
};

use crate::{Actor, FieldError, Workflow, WorkflowError};

/// Days that a funnel or a search may span: more is a report's work.
const DAYS_MAX: i32 = 93;
/// How far back unreached messages, and letters in vain, are looked for.
pub(super) const UNREACHED_DAYS: i32 = 31;

/// A message with all its deliveries.
#[derive(Debug)]
pub struct Life {
    /// The message.
    pub message: Message,
    /// Name of the recipient.
    pub recipient: String,
    /// In the order they were made.
    pub deliveries: Vec<DeliveryView>,
}

/// A delivery without its address and words.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryView {
    /// Id.
    pub delivery_id: DeliveryId,
    /// `push`, `email` or `paper`.
    pub channel: String,
    /// `fcm`, `apns`, `webpush`, `smtp` or `paper`.
    pub provider: &'static str,
    /// Enough of the address to recognise it: a mail's domain, a device's end, a letter's number.
    pub target: String,
    /// What it is for.
    pub purpose: &'static str,
    /// Where it stands.
    pub state: &'static str,
    /// Attempts so far.
    pub attempts: i64,
    /// It may have arrived unseen.
    pub doubtful: bool,
    /// What the last attempt failed with, or why it ended.
    pub error_code: Option<String>,
    /// The rule it waits for.
    pub escalation: Option<String>,
    /// When it may leave.
    pub due_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last handed to the channel.
    pub sent_at: Option<Timestamp>,
    /// When the provider took it.
    pub accepted_at: Option<Timestamp>,
    /// When the device had it.
    pub delivered_at: Option<Timestamp>,
    /// When the device showed it.
    pub displayed_at: Option<Timestamp>,
    /// When it was opened.
    pub opened_at: Option<Timestamp>,
    /// When it ended otherwise.
    pub ended_at: Option<Timestamp>,
    /// Whether it can be sent again.
    pub can_resend: bool,
}

/// What somebody who asks about a message knows of it.
#[derive(Debug, Clone)]
pub struct MessageQuery {
    /// Part of the recipient's name, or of number, name or kana of the household; empty for anybody's.
    pub words: String,
    /// Row of the catalogue; empty for any.
    pub message_type: String,
    /// First day.
    pub from: Date,
    /// Last day.
    pub to: Date,
    /// Only older ones than this.
    pub before: Option<MessageId>,
}

/// Somebody whom nothing reached, and what can be done.
#[derive(Debug)]
pub struct Contact {
    /// The message and the person.
    pub row: Unreached,
    /// What was tried.
    pub deliveries: Vec<DeliveryView>,
    /// What to do next, the best first: `wait`, `post`, `address`, `resend`, `call` or `write`.
    pub next: Vec<&'static str>,
}

impl From<Delivery> for DeliveryView {
    fn from(row: Delivery) -> Self {
        let ended = matches!(row.state, DeliveryState::Failed | DeliveryState::Expired | DeliveryState::Returned);
        let doubtful = row.doubtful && row.state == DeliveryState::Sent;
        let target = match row.channel.as_str() {
            "email" => row.target.rsplit('@').next().map_or_else(String::new, |domain| format!("…@{domain}")),
            "push" => format!("…{}", row.target.get(row.target.len().saturating_sub(6)..).unwrap_or_default()),
            _ => row.target.clone(),
        };
        Self {
            delivery_id: row.delivery_id,
            provider: row.provider.as_str(),
            target,
            purpose: row.purpose.as_str(),
            state: row.state.as_str(),
            attempts: row.attempts,
            doubtful: row.doubtful,
            error_code: row.error_code,
            escalation: row.escalation,
            due_at: row.due_at,
            created_at: row.created_at,
            sent_at: row.sent_at,
            accepted_at: row.accepted_at,
            delivered_at: row.delivered_at,
            displayed_at: row.displayed_at,
            opened_at: row.opened_at,
            ended_at: row.ended_at,
            can_resend: row.purpose == Purpose::Notification && !row.secret && (ended || doubtful),
            channel: row.channel,
        }
    }
}

impl Workflow {
    /// One message with all its deliveries.
    pub async fn message_life(&self, actor: &Actor, id: MessageId) -> Result<Life, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let mut tx = self.read(actor).await?;
        let message = tx.message_by_id(id).await?.ok_or(WorkflowError::NotFound("message"))?;
        let recipient = tx.account(message.account_id).await?.map_or_else(String::new, |account| account.name);
        let deliveries = tx.deliveries_of(id).await?.into_iter().map(DeliveryView::from).collect();
        Ok(Life { message, recipient, deliveries })
    }

    /// The messages that somebody may be asking about, newest first: also those that arrived, were withdrawn or are in
    /// no inbox.
    pub async fn find_messages(
        &self,
        actor: &Actor,
        asked: &MessageQuery,
        n_max: i64,
    ) -> Result<Vec<FoundMessage>, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let (from, until) = span(asked.from, asked.to)?;
        let words = asked.words.trim().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let pattern = format!("%{words}%");
        let search = MessageSearch {
            pattern: (!words.is_empty()).then_some(pattern.as_str()),
            message_type: asked.message_type.trim(),
            from,
            until,
            before: asked.before,
        };
        let mut tx = self.read(actor).await?;
        Ok(tx.find_messages(&actor.municipality_code, search, n_max).await?)
    }

    /// How far the messages of the days `from` to `to` came, by type and channel.
    pub async fn delivery_funnel(&self, actor: &Actor, from: Date, to: Date) -> Result<Vec<FunnelRow>, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let (from, until) = span(from, to)?;
        let mut tx = self.read(actor).await?;
        Ok(tx.delivery_funnel(&actor.municipality_code, from, until).await?)
    }

    /// Whom mandatory messages did not reach: within `hours`, or earlier where nothing is under way any more.
    pub async fn unreached(
        &self,
        actor: &Actor,
        hours: u32,
        n_max: i64,
        now: Timestamp,
    ) -> Result<Vec<Contact>, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let mut tx = self.read(actor).await?;
        let from = Timestamp::jst_midnight(add_days(now.jst_date(), -UNREACHED_DAYS));
        let overdue = now.minus(std::time::Duration::from_secs(u64::from(hours) * 3_600));
        let mut contacts = Vec::new();
        for row in tx.unreached(&actor.municipality_code, from, overdue, n_max).await? {
            let deliveries: Vec<DeliveryView> =
                tx.deliveries_of(row.message_id).await?.into_iter().map(DeliveryView::from).collect();
            let next = next_steps(&row, &deliveries);
            contacts.push(Contact { row, deliveries, next });
        }
        Ok(contacts)
    }
}

/// The instants at which the days `from` to `to` begin and end.
fn span(from: Date, to: Date) -> Result<(Timestamp, Timestamp), WorkflowError> {
    if to < from || add_days(from, DAYS_MAX) < to {
        return Err(WorkflowError::Invalid(vec![FieldError::new("to", "期間は93日以内で指定してください。")]));
    }
    Ok((Timestamp::jst_midnight(from), Timestamp::jst_midnight(add_days(to, 1))))
}

fn next_steps(row: &Unreached, deliveries: &[DeliveryView]) -> Vec<&'static str> {
    let mut next = Vec::new();
    let letters = || deliveries.iter().filter(|delivery| delivery.channel == "paper");
    let to_post = letters().any(|letter| matches!(letter.state, "queued" | "printed"));
    // A letter that came back or never had an address waits for one, before it is sent again.
    let in_vain = !to_post && letters().any(|letter| matches!(letter.state, "returned" | "failed"));
    if to_post {
        next.push("post");
    } else if deliveries.iter().any(|delivery| matches!(delivery.state, "queued" | "accepted")) {
        next.push("wait");
    }
    if in_vain {
        next.push("address");
    }
    if deliveries.iter().any(|delivery| delivery.can_resend) {
        next.push("resend");
    }
    if !row.phone.is_empty() {
        next.push("call");
    }
    if !row.address.is_empty() && !to_post && !in_vain {
        next.push("write");
    }
    next
}
