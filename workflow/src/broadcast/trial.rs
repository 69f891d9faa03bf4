//! A broadcast sent to nobody but the person who tries it out (messages.md §11, "Preview"): in the own inbox, on the
//! own devices and by mail, as the audience would get it, marked as a test. It is counted nowhere.

use serde::Serialize;
use todoke_domain::{
    Timestamp,
    broadcast::BroadcastState,
    catalogue::{
        messages::{Channel as Via, Class, Contact, LOCALE_COMPLETE, Speed},
        template::Rendered,
    },
    delivery::{self, DeliveryState, Provider, Purpose},
    ids::{AccountId, BroadcastId, DeliveryId, MessageId},
    role::Permission,
};
use todoke_store::{delivery::NewDelivery, message::Message};

use super::route::Plan;
use crate::{Actor, Work, Workflow, WorkflowError};

/// Type of such a message. It is in no catalogue, causes no event and is left out of every figure.
pub(crate) const TRIAL: &str = "broadcast.test";
/// Tests that one person may send in a minute.
pub const TRIALS_PER_MIN: u32 = 5;
/// Begins the heading, so that nobody takes it for the real one.
const MARK: &str = "【テスト】";
/// Worth seeing while the person waits for it.
const TRIAL_LIFE: std::time::Duration = std::time::Duration::from_secs(300);

/// Where a test went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// The message in the inbox.
    pub message_id: MessageId,
    /// Devices it is pushed to.
    pub devices: usize,
    /// Whether a mail goes out.
    pub email: bool,
}

impl Workflow {
    /// Sends a broadcast that has not begun to the caller alone, by the ways chosen in it. Needs no approval.
    ///
    /// Errors: [`WorkflowError::Conflict`] once it has begun, and when its words lack a value.
    pub async fn try_broadcast(&self, actor: &Actor, id: BroadcastId, now: Timestamp) -> Result<Trial, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let account_id = actor.account()?;
        let mut work = self.begin(actor, now).await?;
        let row = work.tx.broadcast(id).await?.ok_or(WorkflowError::NotFound("broadcast"))?;
        let state = row.state()?;
        if !matches!(state, BroadcastState::Draft | BroadcastState::AwaitingApproval | BroadcastState::Scheduled) {
            return Err(WorkflowError::Conflict("テスト配信は、配信を始める前だけできます。".to_owned()));
        }
        let account = work.tx.account(account_id).await?.ok_or(WorkflowError::NotFound("account"))?;
        let cause = work.as_started(&row);
        let plan = Plan::of(&row, cause)?;
        let words = plan.words(&work.broadcast_values(&row).await?).map_err(|_| {
            WorkflowError::Conflict("文面に入れる値が足りません。配信の内容を確認してください。".to_owned())
        })?;
        let message_id = MessageId::new(now);
        let message = Message {
            message_id,
            municipality_code: row.municipality_code.clone(),
            account_id,
            message_type: TRIAL.to_owned(),
            category: plan.kind.category.as_str().to_owned(),
            class: Class::Optional.as_str().to_owned(),
            subject_kind: "broadcast".to_owned(),
            subject_id: id.to_string(),
            subject_no: None,
            title: format!("{MARK}{}", words.inbox.subject),
            body: words.inbox.body,
            link: row.link.clone(),
            in_inbox: true,
            cause_event_id: plan.cause().event_id,
            dedupe_key: format!("{TRIAL}:{message_id}"),
            locale: LOCALE_COMPLETE.to_owned(),
            template_version: i64::from(plan.kind.template_version),
            created_at: now,
            delivered_at: None,
            read_at: None,
        };
        work.tx.insert_messages(&[message]).await?;
        let channels = plan.ways(Contact::App, true)?;
        let devices =
            if channels.contains(Via::Push) { work.tx.push_devices(&[account_id]).await? } else { Vec::new() };
        let mut ways: Vec<(Provider, String)> =
            devices.iter().map(|device| (device.kind, device.device_id.to_string())).collect();
        let mail = account.email.filter(|_| channels.contains(Via::Email));
        let trial = Trial { message_id, devices: ways.len(), email: mail.is_some() };
        ways.extend(mail.map(|address| (Provider::Smtp, address)));
        let deliveries: Vec<NewDelivery> = ways
            .into_iter()
            .map(|way| work.trial_delivery(way, message_id, account_id, &words.transit, &row.link))
            .collect();
        work.tx.insert_deliveries(&deliveries).await?;
        work.commit().await?;
        Ok(trial)
    }
}

impl Work<'_> {
    fn trial_delivery(
        &self,
        (provider, target): (Provider, String),
        message_id: MessageId,
        account_id: AccountId,
        text: &Rendered,
        link: &str,
    ) -> NewDelivery {
        NewDelivery {
            delivery_id: DeliveryId::new(self.now),
            message_id,
            municipality_code: self.actor.municipality_code.clone(),
            account_id,
            message_type: TRIAL.to_owned(),
            purpose: Purpose::Test,
            provider,
            target,
            edition: 0,
            speed: delivery::rank(Speed::Now),
            subject: format!("{MARK}{}", text.subject),
            body: text.body.clone(),
            link: link.to_owned(),
            collapse_key: message_id.to_string(),
            optional: false,
            secret: false,
            escalation: None,
            state: DeliveryState::Queued,
            error_code: None,
            due_at: self.now,
            expires_at: Some(self.now.plus(TRIAL_LIFE)),
            receipt_key: rand::random(),
            cause_at: self.now,
            created_at: self.now,
        }
    }
}
