//! Letters: a row of the print queue, and a delivery of the message where there is one.

use serde_json::json;
use todoke_domain::{
    MunicipalityCode, Role, Timestamp,
    catalogue::{
        messages::{Channel as Via, Class, Speed},
        template::Rendered,
    },
    delivery::{self, DeliveryState, Provider, Purpose},
    ids::{DeliveryId, EventId, GuardianId},
    number::NumberKind,
};
use todoke_store::{
    account::Account,
    delivery::{Delivery, NewDelivery},
    escalation::Escalation,
    message::{Amendments, Message},
    print_item::PrintItem,
};

use crate::{Work, WorkflowError, work::Subject};

/// Types whose letters the use cases write themselves, with what only they know (flows.md Part L), and what the print
/// queue calls such a letter.
const OWN_LETTERS: [(&str, &str); 5] = [
    ("coupon.solicited", "solicitation"),
    ("coupon.resolicited", "resolicitation"),
    ("coupon.qr_reissued", "qr_reissue"),
    ("application.coupon.deficient", "deficiency"),
    ("application.coupon.rejected", "rejection"),
];

/// Types whose letters have the words of the catalogue and a name of their own in the print queue.
const NAMED_LETTERS: [(&str, &str); 1] = [("coupon.distributed", "distribution")];

/// Why a letter cannot be posted.
const NO_ADDRESS: &str = "no_address";

/// What the print queue calls the letter of a message of this type.
pub fn letter_kind(message_type: &str) -> &'static str {
    let mut named = OWN_LETTERS.iter().chain(&NAMED_LETTERS);
    named.find(|(named, _)| *named == message_type).map_or("message", |(_, kind)| kind)
}

/// Whether the use case writes the letter of this type itself.
pub(super) fn is_own_letter(message_type: &str) -> bool {
    OWN_LETTERS.iter().any(|(own, _)| *own == message_type)
}

/// What a letter says, and to whom.
#[derive(Debug)]
pub(crate) struct NewLetter {
    /// Row of the catalogue that it is the letter of.
    pub(crate) message_type: &'static str,
    /// To whom.
    pub(crate) recipient_name: String,
    /// Where.
    pub(crate) postal_code: String,
    /// Where; empty when nobody knows.
    pub(crate) address: String,
    /// Heading.
    pub(crate) title: String,
    /// Text.
    pub(crate) body: String,
    /// Child QR to print on it.
    pub(crate) qr_token: Option<String>,
}

impl NewLetter {
    fn into_item(self, now: Timestamp) -> PrintItem {
        PrintItem {
            letter_no: String::new(),
            letter_kind: letter_kind(self.message_type).to_owned(),
            recipient_name: self.recipient_name,
            postal_code: self.postal_code,
            address: self.address,
            title: self.title,
            body: self.body,
            qr_token: self.qr_token,
            state: String::new(),
            print_run_id: None,
            created_at: now,
            withdrawn_at: None,
        }
    }
}

impl Work<'_> {
    /// Queues a letter that its use case has written. Where `cause` made a message of its type for the guardian of the
    /// household, it is a delivery of that message, so that the message's life goes on with it.
    pub(crate) async fn own_letter(
        &mut self,
        letter: NewLetter,
        household: Option<GuardianId>,
        cause: Option<EventId>,
    ) -> Result<(), WorkflowError> {
        let message = match (household, cause) {
            (Some(household), Some(cause)) => self.letters_message(letter.message_type, household, cause).await?,
            _ => None,
        };
        let code = self.actor.municipality_code.clone();
        let item = self.enqueue(&code, letter.into_item(self.now)).await?;
        if let Some(message) = message {
            let row = self.deliver_by(&message, &item, 0).await?;
            self.tx.insert_deliveries(&[row]).await?;
        }
        Ok(())
    }

    async fn letters_message(
        &mut self,
        message_type: &str,
        household: GuardianId,
        cause: EventId,
    ) -> Result<Option<Message>, WorkflowError> {
        let accounts = self.tx.household_accounts(household).await?;
        let Some(guardian) = accounts.into_iter().find(|account| account.role == Role::Guardian) else {
            return Ok(None);
        };
        let made = self.tx.messages_of_cause(cause, guardian.account_id).await?;
        // What is told again has the same cause, and comes after what was told first.
        Ok(made.into_iter().rfind(|message| message.message_type == message_type))
    }

    /// A letter with the whole text: it comes in an envelope. `None` for who is no guardian.
    pub(super) async fn letter(
        &mut self,
        message: &Message,
        account: &Account,
        words: &Rendered,
    ) -> Result<Option<NewDelivery>, WorkflowError> {
        let Some(guardian_id) = account.guardian_id.filter(|_| account.role == Role::Guardian) else { return Ok(None) };
        let Some(guardian) = self.tx.guardian(guardian_id).await? else { return Ok(None) };
        let item = PrintItem {
            letter_no: String::new(),
            letter_kind: letter_kind(&message.message_type).to_owned(),
            recipient_name: guardian.name,
            postal_code: guardian.postal_code,
            address: guardian.address,
            title: words.subject.clone(),
            body: words.body.clone(),
            qr_token: None,
            state: String::new(),
            print_run_id: None,
            created_at: self.now,
            withdrawn_at: None,
        };
        let item = self.enqueue(&account.municipality_code, item).await?;
        self.deliver_by(message, &item, 0).await.map(Some)
    }

    /// The letter of a delivery that came back or never had an address, once more, to where the household lives now and
    /// in the words that its message has now.
    pub(super) async fn letter_again(
        &mut self,
        row: &Delivery,
        amended: &Amendments,
    ) -> Result<NewDelivery, WorkflowError> {
        let code = row.municipality_code.clone();
        let message = self.tx.message_by_id(row.message_id).await?.ok_or(WorkflowError::NotFound("message"))?;
        let item = self.tx.print_item(&code, &row.target).await?.ok_or(WorkflowError::NotFound("letter"))?;
        let account = self.tx.account(row.account_id).await?.ok_or(WorkflowError::NotFound("account"))?;
        let guardian = match account.guardian_id {
            Some(id) => self.tx.guardian(id).await?,
            None => None,
        };
        let guardian = guardian.ok_or(WorkflowError::NotFound("guardian"))?;
        if guardian.address.is_empty() {
            let words = "住所が登録されていません。住所を登録してから、もう一度送ってください。";
            return Err(WorkflowError::Conflict(words.to_owned()));
        }
        // Of two who send it again, one finds it replaced.
        if !self.tx.mark_print_item(&code, &row.target, &item.state, "replaced").await? || item.state == "replaced" {
            return Err(WorkflowError::Conflict("すでに再送されています。".to_owned()));
        }
        let mut again = PrintItem {
            postal_code: guardian.postal_code,
            address: guardian.address,
            print_run_id: None,
            created_at: self.now,
            ..item
        };
        if amended.corrected_at.is_some() {
            again.title.clone_from(&message.title);
            again.body.clone_from(&message.body);
        }
        let again = self.enqueue(&code, again).await?;
        self.deliver_by(&message, &again, row.edition + 1).await
    }

    /// Numbers a letter and puts it into the print queue, or beside it while it has no address.
    pub(super) async fn enqueue(
        &mut self,
        code: &MunicipalityCode,
        mut item: PrintItem,
    ) -> Result<PrintItem, WorkflowError> {
        item.letter_no = self.tx.next_number(code, NumberKind::Letter, self.now).await?;
        let state = if item.address.trim().is_empty() { "unaddressed" } else { "queued" };
        state.clone_into(&mut item.state);
        self.tx.insert_print_item(code, &item).await?;
        Ok(item)
    }

    /// The delivery that a letter is. One without an address has failed from the start, and is looked at like any other
    /// failure.
    async fn deliver_by(
        &mut self,
        message: &Message,
        item: &PrintItem,
        edition: i64,
    ) -> Result<NewDelivery, WorkflowError> {
        let id = message.message_id;
        let addressed = item.state == "queued";
        self.note_queued(id, Via::Paper);
        if !addressed {
            let payload = json!({
                "message_id": id, "channel": Via::Paper.as_str(), "attempt": 0, "error_code": NO_ADDRESS, "permanent": true,
            });
            self.event("message.failed", Subject::new("message", id), payload);
            let look = Escalation {
                message_id: id,
                rule: "failed".to_owned(),
                municipality_code: message.municipality_code.clone(),
                due_at: self.now,
                leased_until: Timestamp::from_micros(0),
            };
            self.tx.insert_escalations(&[look]).await?;
        }
        Ok(NewDelivery {
            delivery_id: DeliveryId::new(self.now),
            message_id: id,
            municipality_code: message.municipality_code.clone(),
            account_id: message.account_id,
            message_type: message.message_type.clone(),
            purpose: Purpose::Notification,
            provider: Provider::Paper,
            target: item.letter_no.clone(),
            edition,
            speed: delivery::rank(Speed::Batch),
            subject: String::new(),
            body: String::new(),
            link: String::new(),
            collapse_key: id.to_string(),
            optional: message.class != Class::Mandatory.as_str(),
            secret: false,
            escalation: None,
            state: if addressed { DeliveryState::Queued } else { DeliveryState::Failed },
            error_code: (!addressed).then(|| NO_ADDRESS.to_owned()),
            due_at: self.now,
            expires_at: None,
            receipt_key: rand::random(),
            cause_at: message.created_at,
            created_at: self.now,
        })
    }
}
