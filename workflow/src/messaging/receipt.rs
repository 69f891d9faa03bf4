//! What comes back: receipts of devices and mailed links, bounced mail, and the one-click end of optional mail.

use todoke_domain::{
    Role, Timestamp,
    catalogue::messages,
    delivery::{DeliveryStep, Purpose, ReceiptToken},
    ids::MessageId,
};
use todoke_store::{Wall, account::Preference, delivery::Delivery, escalation::Escalation, message::MessageStep};

use crate::{Actor, Workflow, WorkflowError};

/// In the address that a mailed link leads to: whose message has been read once somebody with a session is there.
const MAILED: &str = "mailed";

/// What a device tells about one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptKind {
    /// It has it.
    Delivered,
    /// It shows it.
    Displayed,
    /// The person opened it.
    Opened,
}

/// Where a mailed link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Path of the screen, on the own site only.
    pub path: String,
}

/// A mail that came back.
#[derive(Debug, Clone)]
pub struct BouncedMail {
    /// The message; a mail's Message-ID holds it.
    pub message_id: MessageId,
    /// Whom it did not reach; `None` when the report does not say.
    pub address: Option<String>,
    /// Whether a later attempt is pointless.
    pub permanent: bool,
    /// The server's code, such as `5.1.1`.
    pub code: String,
}

impl Workflow {
    /// Notes a receipt. One with an unknown token, or that tells nothing new, changes nothing: `false`.
    pub async fn note_receipt(
        &self,
        token: ReceiptToken,
        kind: ReceiptKind,
        now: Timestamp,
    ) -> Result<bool, WorkflowError> {
        let Some((row, actor)) = self.receiver(token).await? else { return Ok(false) };
        let mut work = self.begin(&actor, now).await?;
        let changed = match kind {
            ReceiptKind::Delivered => work.step_delivery(&row, DeliveryStep::Receive, None).await?.is_some(),
            ReceiptKind::Displayed => {
                // What is shown has arrived, whether or not that was told.
                let arrived = work.step_delivery(&row, DeliveryStep::Receive, None).await?.is_some();
                let shown = work.tx.note_displayed(row.delivery_id, now).await?;
                if shown {
                    work.note_shown(&row);
                }
                arrived || shown
            }
            ReceiptKind::Opened => work.step_delivery(&row, DeliveryStep::Open, None).await?.is_some(),
        };
        if row.purpose == Purpose::Notification {
            if let Some(message) = work.tx.message_by_id(row.message_id).await? {
                if changed {
                    work.stop_waiting_mails(&message).await?;
                }
                // Opening counts for the message even where the delivery had ended before, such as by its time.
                if kind == ReceiptKind::Opened
                    && work.tx.note_step(message.account_id, message.message_id, MessageStep::Read, now).await?
                {
                    work.settle_opened(&message, Some(row.delivery_id)).await?;
                    work.publish_read(message.account_id, message.message_id).await?;
                }
            }
        }
        work.commit().await?;
        Ok(changed)
    }

    /// Notes that a mailed link was fetched and gives where it leads, with the message in its query.
    ///
    /// Filters fetch the links of mails too: it counts for this mail alone. The message has been read when a page
    /// with a session says so.
    ///
    /// Errors: [`WorkflowError::NotFound`] for a token of no delivery.
    pub async fn open_link(&self, token: ReceiptToken, now: Timestamp) -> Result<Opened, WorkflowError> {
        let Some((row, actor)) = self.receiver(token).await? else { return Err(WorkflowError::NotFound("link")) };
        let mut work = self.begin(&actor, now).await?;
        if work.step_delivery(&row, DeliveryStep::Open, None).await?.is_some() {
            work.commit().await?;
        }
        let inside = row.link.starts_with('/') && !row.link.starts_with("//");
        let path = if inside { row.link.as_str() } else { "/" };
        let joint = if path.contains('?') { '&' } else { '?' };
        Ok(Opened { path: format!("{path}{joint}{MAILED}={}", row.message_id) })
    }

    /// Switches the mails of a delivery's category off, where people may do so; those of an office are one switch.
    ///
    /// Errors: [`WorkflowError::NotFound`] for a token of no optional mail.
    pub async fn unsubscribe(&self, token: ReceiptToken, now: Timestamp) -> Result<(), WorkflowError> {
        let found = self.receiver(token).await?.filter(|(row, _)| row.optional && row.channel == "email");
        let Some((row, actor)) = found else { return Err(WorkflowError::NotFound("mail")) };
        if !actor.role.is_some_and(Role::is_household) {
            return self.set_receive_mail(&actor, false, now).await;
        }
        let Some(kind) = messages::get(&row.message_type) else { return Err(WorkflowError::NotFound("mail")) };
        let off =
            Preference { category: kind.category.as_str().to_owned(), channel: "email".to_owned(), enabled: false };
        self.set_preferences(&actor, &[off], now).await
    }

    /// Notes a mail that came back. One of an unknown message changes nothing: `false`.
    pub async fn note_bounce(&self, bounce: &BouncedMail, now: Timestamp) -> Result<bool, WorkflowError> {
        let rows = {
            let mut tx = self.store().begin_read(Wall::None).await?;
            let mut rows = tx.deliveries_of(bounce.message_id).await?;
            rows.retain(|row| row.edition == 0);
            // A mail that was sent again goes by the delivery's id, so that it is no copy of the first.
            rows.extend(tx.delivery(bounce.message_id.as_uuid().into()).await?.filter(|row| row.edition > 0));
            rows.retain(|row| row.channel == "email");
            rows
        };
        let address = bounce.address.as_deref().map(str::to_lowercase);
        // A mailbox that forwards its mail gives the inner address. The Message-ID, which nobody can guess, is proof
        // enough where it was on one mail.
        let only = rows.len() == 1;
        let meant = rows
            .into_iter()
            .find(|row| only || address.as_ref().is_none_or(|address| row.target.to_lowercase() == *address));
        let Some(row) = meant.filter(|_| bounce.permanent) else { return Ok(false) };
        let actor = Actor::system(row.municipality_code.clone(), "import");
        let mut work = self.begin(&actor, now).await?;
        let reason = status(&bounce.code).map_or_else(|| "bounced".to_owned(), |code| format!("bounced:{code}"));
        let failed = work.step_delivery(&row, DeliveryStep::Bounce, Some(&reason)).await?;
        if failed.is_some() {
            work.tx.insert_escalations(&[look_at_failure(&row, now)]).await?;
        }
        work.commit().await?;
        Ok(failed.is_some())
    }

    /// The delivery of a token and the person it went to.
    async fn receiver(&self, token: ReceiptToken) -> Result<Option<(Delivery, Actor)>, WorkflowError> {
        let mut tx = self.store().begin_read(Wall::None).await?;
        // Rows of the time before receipts have no key.
        let known = tx.delivery(token.delivery_id).await?.filter(|row| row.receipt_key == token.key && token.key != 0);
        let Some(row) = known else { return Ok(None) };
        let Some(account) = tx.account(row.account_id).await? else { return Ok(None) };
        Ok(Some((row, Actor::of(&account, None))))
    }
}

/// A reply code of SMTP or an enhanced status code, such as `550` or `5.1.1`. Mail systems also write sentences and
/// addresses there.
fn status(code: &str) -> Option<&str> {
    let parts: Vec<&str> = code.trim().split('.').collect();
    let is_number = |part: &&str| matches!(part.len(), 1..=3) && part.bytes().all(|byte| byte.is_ascii_digit());
    (matches!(parts.len(), 1 | 3) && parts.iter().all(is_number)).then(|| code.trim())
}

/// A look at what to do after a delivery has failed for good.
pub(super) fn look_at_failure(row: &Delivery, now: Timestamp) -> Escalation {
    Escalation {
        message_id: row.message_id,
        rule: "failed".to_owned(),
        municipality_code: row.municipality_code.clone(),
        due_at: now,
        leased_until: Timestamp::from_micros(0),
    }
}
