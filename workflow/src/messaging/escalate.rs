//! What follows when nothing arrived or nobody looked (messages.md §1, Escalation). E1 and E3 are mails that
//! wait with their message (`route`); here are the looks: after a failure for good (E2), and E4.

use std::time::Duration;

use jiff::civil::Date;
use serde_json::{Value, json};
use todoke_domain::{
    Event, Role, Timestamp,
    account::AccountState,
    catalogue::{
        messages::{self, Audience, Channel as Via, Class, EscalationRule},
        template::{Placeholder, Placeholders, Privacy, Rendered, render_in},
    },
    delivery::{self, DeliveryState, Purpose},
    ids::{DeliveryId, MessageId},
    role::Permission,
};
use todoke_store::{
    Wall,
    account::Account,
    delivery::{Delivery, NewDelivery},
    escalation::Escalation,
    message::Message,
};

use super::{About, amend::repeated, raise::fault, recipients::within_reach, route::Routes};
use crate::{Actor, Work, Workflow, WorkflowError, work::Subject};

/// Looks claimed at a time.
const CLAIM_MAX: i64 = 100;
/// How long a claim holds.
const LEASE: Duration = Duration::from_secs(60);
/// The mail without which a new account is of no use: whoever issued it waits for somebody who does not come.
const ISSUED: &str = "account.issued";
/// What tells an operator of people whom nothing reached.
const CONTACT_FAILED: &str = "operator.contact_failed";
/// The rule of the look that corrects its number.
const RECOUNT: &str = "count";
/// Before the heading of what a section is told again.
const AGAIN_HEADING: &str = "【再通知】";
/// The look at whether a guardian has read what asks for something.
pub(super) const AGAIN: &str = "again";

impl Workflow {
    /// Does every look that is due. May run on several nodes: each look happens once, and one whose node died
    /// is claimed again, as is one that failed; it keeps no other from being done.
    ///
    /// Gives the number of looks.
    pub async fn due_escalations(&self, now: Timestamp) -> Result<usize, WorkflowError> {
        let mut done = 0;
        loop {
            let mut tx = self.store().begin_long(Wall::None).await?;
            let claimed = tx.claim_escalations(CLAIM_MAX, now, now.plus(LEASE)).await?;
            tx.commit().await?;
            if claimed.is_empty() {
                return Ok(done);
            }
            for look in &claimed {
                match self.due_look(look, now).await {
                    Ok(was_ours) => done += usize::from(was_ours),
                    Err(error) => tracing::error!(
                        message.id = %look.message_id, look.rule = %look.rule, error = %error,
                        "a look failed and will be tried again"
                    ),
                }
            }
        }
    }

    /// Does a claimed look; `false` when the claim was lost to another node.
    async fn due_look(&self, look: &Escalation, now: Timestamp) -> Result<bool, WorkflowError> {
        let actor = Actor::system(look.municipality_code.clone(), "timer");
        let mut work = self.begin(&actor, now).await?;
        if !work.tx.finish_escalation(look).await? {
            return Ok(false);
        }
        work.look(look).await?;
        work.commit().await?;
        Ok(true)
    }
}

impl Work<'_> {
    async fn look(&mut self, look: &Escalation) -> Result<(), WorkflowError> {
        let Some(message) = self.tx.message_by_id(look.message_id).await? else { return Ok(()) };
        let Some(account) = self.tx.account(message.account_id).await? else { return Ok(()) };
        match look.rule.as_str() {
            "failed" => self.look_at_failure(&message, &account).await,
            "E4" => self.look_at_section(&message, &account).await,
            AGAIN => self.look_again(&message, &account).await,
            RECOUNT => self.recount(&message).await,
            _ => Ok(()),
        }
    }

    /// A guardian has not read for days what asks for something: once more, if it still does. So far only the
    /// deficiencies of applications have a row with such a time. Whose words were corrected since were told again then.
    async fn look_again(&mut self, message: &Message, account: &Account) -> Result<(), WorkflowError> {
        let amended = self.tx.amendments(message.message_id).await?;
        let settled = message.read_at.is_some() || amended.withdrawn_at.is_some() || amended.corrected_at.is_some();
        if settled || account.state == AccountState::Deleted.as_str() {
            return Ok(());
        }
        self.tell_deficiency_again(message).await
    }

    /// A delivery has failed for good: the next channel, and when there is none, the operator (E2).
    async fn look_at_failure(&mut self, message: &Message, account: &Account) -> Result<(), WorkflowError> {
        let deliveries = self.tx.deliveries_of(message.message_id).await?;
        if !account.role.is_household() {
            self.look_at_address(message, account, &deliveries).await?;
        }
        let reached = message.read_at.is_some() || message.delivered_at.is_some();
        if reached || deliveries.iter().any(|row| row.state.has_reached(row.provider.channel())) {
            return Ok(());
        }
        if message.message_type == ISSUED && !deliveries.iter().any(may_still_arrive) {
            return self.tell_issuer(message, account).await;
        }
        if !account.role.is_household() {
            return Ok(());
        }
        // A mail that waits for somebody to look need not wait any longer.
        let waiting = deliveries.iter().any(|row| row.escalation.is_some() && row.state == DeliveryState::Queued);
        if waiting && deliveries.iter().all(|row| row.escalation.is_some() || !row.state.is_under_way()) {
            self.tx.hasten_mails(message.message_id, self.now).await?;
            return Ok(());
        }
        // Something else may still arrive; if it fails too, it is looked at again.
        if deliveries.iter().any(may_still_arrive) {
            return Ok(());
        }
        let Some(kind) = messages::get(&message.message_type) else { return Ok(()) };
        let to_paper = kind.escalation.iter().any(|escalation| escalation.rule == EscalationRule::E2);
        let by_letter = deliveries.iter().any(|row| row.channel == "paper");
        if kind.class != Class::Mandatory || !(message.in_inbox || to_paper || by_letter) {
            return Ok(());
        }
        if to_paper && message.in_inbox && !by_letter {
            let words = Rendered { subject: message.title.clone(), body: message.body.clone() };
            if let Some(row) = self.letter(message, account, &words).await? {
                self.tx.insert_deliveries(&[row]).await?;
                self.note_escalated(message.message_id, "email", "paper", EscalationRule::E2);
            }
        }
        self.tell_operator(message).await
    }

    pub(super) fn note_escalated(&mut self, id: MessageId, from: &str, to: &str, rule: EscalationRule) {
        self.event(
            "message.escalated",
            Subject::new("message", id),
            json!({ "message_id": id, "from_channel": from, "to_channel": to, "rule": rule.as_str() }),
        );
    }

    /// One message a day says how many people nothing reached (K4). Where it has been told, a look of its own corrects
    /// the number: one for all failures until then.
    async fn tell_operator(&mut self, unreached: &Message) -> Result<(), WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let today = self.now.jst_date();
        let operators = self.tx.role_accounts(&code, Role::Operator).await?;
        let told = self.told_of_failures(&operators, today).await?;
        if let Some((first, _)) = told.first() {
            let recount = Escalation {
                message_id: *first,
                rule: RECOUNT.to_owned(),
                municipality_code: code,
                due_at: self.now,
                leased_until: Timestamp::from_micros(0),
            };
            self.tx.insert_escalations(&[recount]).await?;
        }
        if told.len() == operators.len() {
            return Ok(());
        }
        let cause = self.failure_of(unreached);
        let about = About {
            subject_kind: "contact_failed",
            subject_id: today.to_string(),
            state: "failed".to_owned(),
            values: self.people_unreached(today).await?,
            facts: failure_facts(unreached, Failure::LastChannel),
            office_link: "/staff/operator/deliveries".to_owned(),
            once_per: Some(today.to_string()),
            ..About::default()
        };
        self.raise(&cause, &about).await
    }

    /// Corrects the number in what operators were told on the day of `told`.
    async fn recount(&mut self, told: &Message) -> Result<(), WorkflowError> {
        let Some(kind) = messages::get(CONTACT_FAILED) else { return Ok(()) };
        let code = self.actor.municipality_code.clone();
        let day = told.created_at.jst_date();
        let values = self.people_unreached(day).await?;
        let operators = self.tx.role_accounts(&code, Role::Operator).await?;
        for (message, language) in self.told_of_failures(&operators, day).await? {
            let words = render_in(kind, language, "default", &values, Privacy::Inbox).map_err(fault)?;
            self.tx.correct_message(message, &words.subject, &words.body, self.now).await?;
        }
        Ok(())
    }

    /// What these operators were told of a day's failures, each with the language of the reader.
    async fn told_of_failures<'o>(
        &mut self,
        operators: &'o [Account],
        day: Date,
    ) -> Result<Vec<(MessageId, &'o str)>, WorkflowError> {
        let mut told = Vec::new();
        for operator in operators {
            let key = format!("{CONTACT_FAILED}:{day}:{day}:{}", operator.account_id);
            if let Some(message) = self.tx.message_of_key(&key).await? {
                told.push((message, operator.language.as_str()));
            }
        }
        Ok(told)
    }

    /// How many people nothing reached of what they should have been told on a day: somebody, when it is asked.
    async fn people_unreached(&mut self, day: Date) -> Result<Placeholders, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        // What was made in this very millisecond counts as well.
        let until = self.now.plus(Duration::from_millis(1));
        let n = self.tx.count_unreached(&code, Timestamp::jst_midnight(day), until).await?;
        Ok(Placeholders::new().with(Placeholder::Count, n.max(1).to_string()))
    }

    /// An office's mail failed for good because of its address: without mail nobody signs in, so whoever manages the
    /// account is told, once for each address. Whoever issued it hears of the first mail ([`Self::tell_issuer`]).
    async fn look_at_address(
        &mut self,
        message: &Message,
        holder: &Account,
        deliveries: &[Delivery],
    ) -> Result<(), WorkflowError> {
        let Some(address) = holder.email.as_deref() else { return Ok(()) };
        let is_dead = |row: &Delivery| {
            row.provider.channel() == Via::Email
                && row.target == address
                && row.state == DeliveryState::Failed
                && row.error_code.as_deref().is_some_and(delivery::blames_address)
        };
        if !deliveries.iter().any(is_dead) || !self.tx.note_mail_failed(holder.account_id, address).await? {
            return Ok(());
        }
        if message.message_type == ISSUED {
            return Ok(());
        }
        let managers = self.account_managers(holder).await?;
        self.tell_of_mail(message, holder, managers, Failure::Address).await
    }

    /// The mail that tells of a new account did not arrive: whoever issued it is told, or, when that person is gone
    /// or a file issued it, those who manage the account.
    async fn tell_issuer(&mut self, unreached: &Message, holder: &Account) -> Result<(), WorkflowError> {
        let issued = self.tx.event(unreached.cause_event_id).await?;
        let issuer = match issued.and_then(|event| event.actor_key) {
            Some(key) => self.tx.account_of_person(&holder.municipality_code, key).await?,
            None => None,
        };
        let gone = [AccountState::Deleted.as_str(), AccountState::Ended.as_str()];
        let addressees = match issuer.filter(|issuer| !gone.contains(&issuer.state.as_str())) {
            Some(issuer) => vec![issuer],
            None => self.account_managers(holder).await?,
        };
        self.tell_of_mail(unreached, holder, addressees, Failure::Issue).await
    }

    /// Tells those who can mend it that the mails of an account do not arrive.
    async fn tell_of_mail(
        &mut self,
        unreached: &Message,
        holder: &Account,
        addressees: Vec<Account>,
        failure: Failure,
    ) -> Result<(), WorkflowError> {
        let cause = self.failure_of(unreached);
        let about = About {
            subject_kind: "account",
            subject_id: holder.account_id.to_string(),
            state: holder.state.clone(),
            facility: holder.facility_id,
            addressees,
            values: Placeholders::new().with(Placeholder::Title, holder.name.as_str()),
            facts: failure_facts(unreached, failure),
            link: "/settings".to_owned(),
            office_link: "/staff".to_owned(),
            once_per: Some(unreached.message_id.to_string()),
            ..About::default()
        };
        self.raise(&cause, &about).await
    }

    /// Who manages an account beside the person in question: the managers of its facility for staff, otherwise and where
    /// there are none those who manage the municipality's accounts; the operator where nobody does.
    async fn account_managers(&mut self, holder: &Account) -> Result<Vec<Account>, WorkflowError> {
        let code = &holder.municipality_code;
        let others = |accounts: Vec<Account>| {
            accounts.into_iter().filter(|account| account.account_id != holder.account_id).collect::<Vec<_>>()
        };
        let mut managers = Vec::new();
        if let Some(facility) = holder.facility_id.filter(|_| holder.role == Role::FacilityStaff) {
            managers = others(self.tx.facility_accounts(facility).await?);
            managers.retain(|colleague| colleague.role.may(Permission::ManageFacilityStaff));
        }
        if managers.is_empty() {
            for role in Role::ALL.into_iter().filter(|role| role.may(Permission::ManageAccounts)) {
                managers.extend(others(self.tx.role_accounts(code, role).await?));
            }
        }
        if managers.is_empty() {
            managers = others(self.tx.role_accounts(code, Role::Operator).await?);
        }
        Ok(managers)
    }

    /// That nothing of a message arrived, as a cause: the dispatcher or the bounced mail has written the event.
    fn failure_of(&mut self, message: &Message) -> Event {
        let mut cause = self.uncaused(Subject::new("message", message.message_id));
        cause.event_type = "message.failed".to_owned();
        cause.payload = json!({ "permanent": true }).as_object().cloned().unwrap_or_default();
        cause
    }

    /// E4: nobody of a section has looked for a business day, so that all of it are told again, on the channels of
    /// the catalogue's row: where nobody opens the inbox a mail may be seen.
    async fn look_at_section(&mut self, message: &Message, account: &Account) -> Result<(), WorkflowError> {
        let looked = self.tx.lookers(message.cause_event_id, &message.message_type).await?;
        let code = account.municipality_code.clone();
        let section = self.tx.role_accounts(&code, account.role).await?;
        if section.iter().any(|colleague| looked.contains(&colleague.account_id)) {
            return Ok(());
        }
        let Some(kind) = messages::get(&message.message_type) else { return Ok(()) };
        let audience = Audience::of_office(account.role);
        let Some(recipient) = kind.recipients.iter().find(|recipient| Some(recipient.audience) == audience) else {
            return Ok(());
        };
        let mut routes = Routes::default();
        routes.learn(self, kind, recipient, &section).await?;
        let first_mails = self.first_mails(message, &section).await?;
        let mut mails = Vec::new();
        let mut told = false;
        for colleague in &section {
            let asked = within_reach(recipient.channels, recipient.audience, colleague, self.now.jst_date());
            let channels = routes.wanted(kind, asked, colleague);
            let again = Message {
                message_id: MessageId::new(self.now),
                account_id: colleague.account_id,
                title: format!("{AGAIN_HEADING}{}", message.title),
                dedupe_key: format!("E4:{}:{}:{}", message.message_type, message.cause_event_id, colleague.account_id),
                created_at: self.now,
                delivered_at: None,
                read_at: None,
                ..message.clone()
            };
            if self.tx.insert_messages(std::slice::from_ref(&again)).await?.is_empty() {
                continue;
            }
            let mut cause = self.uncaused(Subject::new("message", message.message_id));
            cause.event_id = message.cause_event_id;
            self.note_created(kind, &again, colleague, channels, &cause);
            if let Some(address) = colleague.email.clone().filter(|_| channels.contains(Via::Email)) {
                let own = first_mails.iter().find(|mail| mail.account_id == colleague.account_id);
                if let Some(mail) = own.or_else(|| first_mails.first()) {
                    mails.push(mailed_again(mail, &again, colleague, address, self.now));
                    self.note_queued(again.message_id, Via::Email);
                }
            }
            if !told {
                told = true;
                self.publish_changed(&again, &message.message_type).await?;
            }
        }
        if told {
            let to = if mails.is_empty() { "inbox" } else { "email" };
            self.note_escalated(message.message_id, "inbox", to, EscalationRule::E4);
        }
        if !mails.is_empty() {
            self.tx.insert_deliveries(&mails).await?;
        }
        Ok(())
    }

    /// The newest mail of each colleague about what this message tells: its words leave out the names that those of
    /// the inbox have.
    async fn first_mails(&mut self, message: &Message, section: &[Account]) -> Result<Vec<Delivery>, WorkflowError> {
        let mut mails = Vec::new();
        for colleague in section {
            for same in self.tx.messages_of_cause(message.cause_event_id, colleague.account_id).await? {
                if same.message_type != message.message_type {
                    continue;
                }
                let deliveries = self.tx.deliveries_of(same.message_id).await?;
                mails.extend(deliveries.into_iter().rfind(|row| {
                    row.provider.channel() == Via::Email && row.purpose == Purpose::Notification && !row.secret
                }));
            }
        }
        Ok(mails)
    }
}

/// Whether something comes without anybody doing anything.
fn may_still_arrive(row: &Delivery) -> bool {
    row.state.is_under_way() && !row.doubtful
}

/// What the failure of a message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Nothing reaches its person, who is on the list of those.
    LastChannel,
    /// Somebody new does not know of their account.
    Issue,
    /// The address of an office's account is dead.
    Address,
}

/// What the triggers on a failure ask beyond the event.
fn failure_facts(message: &Message, failure: Failure) -> Vec<(&'static str, Value)> {
    vec![
        ("address_failed", json!(failure == Failure::Address)),
        ("last_channel", json!(failure == Failure::LastChannel)),
        ("message_class", json!(message.class)),
        ("message_type", json!(message.message_type)),
    ]
}

/// A colleague's mail for what the section is told again, in the words that a first mail travelled in.
fn mailed_again(mail: &Delivery, again: &Message, to: &Account, address: String, now: Timestamp) -> NewDelivery {
    NewDelivery {
        delivery_id: DeliveryId::new(now),
        message_id: again.message_id,
        account_id: to.account_id,
        target: address,
        edition: 0,
        subject: format!("{AGAIN_HEADING}{}", mail.subject),
        collapse_key: again.message_id.to_string(),
        ..repeated(mail, now)
    }
}
