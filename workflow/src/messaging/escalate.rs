//! What follows when nothing arrived or nobody looked (messages.md §1, Escalation). E1 and E3 are mails that
//! wait with their message (`route`); here are the looks: after a failure for good (E2), and E4.

use std::time::Duration;

use serde_json::json;
use todoke_domain::{
    Role, Timestamp,
    catalogue::{
        messages::{self, Channel as Via, ChannelSet, Class, EscalationRule},
        template::{Placeholder, Placeholders, Privacy, Rendered, render_in},
    },
    delivery::DeliveryState,
    ids::MessageId,
};
use todoke_store::{Wall, account::Account, escalation::Escalation, message::Message};

use super::{About, raise::fault};
use crate::{Actor, Work, Workflow, WorkflowError, work::Subject};

/// Looks claimed at a time.
const CLAIM_MAX: i64 = 100;
/// How long a claim holds.
const LEASE: Duration = Duration::from_secs(60);

impl Workflow {
    /// Does every look that is due. May run on several nodes: each look happens once, and one whose node died
    /// is claimed again.
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
                let actor = Actor::system(look.municipality_code.clone(), "timer");
                let mut work = self.begin(&actor, now).await?;
                if !work.tx.finish_escalation(look).await? {
                    continue;
                }
                work.look(look).await?;
                work.commit().await?;
                done += 1;
            }
        }
    }
}

impl Work<'_> {
    async fn look(&mut self, look: &Escalation) -> Result<(), WorkflowError> {
        let Some(message) = self.tx.message_by_id(look.message_id).await? else { return Ok(()) };
        let Some(account) = self.tx.account(message.account_id).await? else { return Ok(()) };
        match look.rule.as_str() {
            "failed" => self.look_at_failure(&message, &account).await,
            "E4" => self.look_at_section(&message, &account).await,
            _ => Ok(()),
        }
    }

    /// A delivery has failed for good: the next channel, and when there is none, the operator (E2).
    async fn look_at_failure(&mut self, message: &Message, account: &Account) -> Result<(), WorkflowError> {
        let deliveries = self.tx.deliveries_of(message.message_id).await?;
        let reached = message.read_at.is_some() || message.delivered_at.is_some();
        if reached
            || deliveries.iter().any(|row| row.state.has_reached(row.provider.channel()))
            || !account.role.is_household()
        {
            return Ok(());
        }
        // A mail that waits for somebody to look need not wait any longer.
        let waiting = deliveries.iter().any(|row| row.escalation.is_some() && row.state == DeliveryState::Queued);
        if waiting && deliveries.iter().all(|row| row.escalation.is_some() || !row.state.is_under_way()) {
            self.tx.hasten_mails(message.message_id, self.now).await?;
            return Ok(());
        }
        // Something else may still arrive; if it fails too, it is looked at again.
        if deliveries.iter().any(|row| row.state.is_under_way() && !row.doubtful) {
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

    /// One message a day says how many people nothing reached (K4); later ones of the day change its number.
    async fn tell_operator(&mut self, unreached: &Message) -> Result<(), WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let today = self.now.jst_date();
        let midnight = Timestamp::jst_midnight(today);
        let people = self.tx.unreached(&code, midnight, self.now, 10_000).await?;
        let mut accounts: Vec<_> = people.iter().map(|row| row.account_id).collect();
        accounts.push(unreached.account_id);
        accounts.sort_unstable();
        accounts.dedup();
        let values = Placeholders::new().with(Placeholder::Count, accounts.len().to_string());
        let subject = Subject::new("message", unreached.message_id);
        let mut cause = self.uncaused(subject);
        cause.event_type = "message.failed".to_owned();
        cause.payload = json!({ "permanent": true }).as_object().cloned().unwrap_or_default();
        let Some(kind) = messages::get("operator.contact_failed") else { return Ok(()) };
        let about = About {
            subject_kind: "contact_failed",
            subject_id: today.to_string(),
            state: "failed".to_owned(),
            values: values.clone(),
            facts: vec![("last_channel", json!(true)), ("message_class", json!("mandatory"))],
            office_link: "/staff/operator/deliveries".to_owned(),
            once_per: Some(today.to_string()),
            ..About::default()
        };
        let mut untold = false;
        for operator in self.tx.role_accounts(&code, Role::Operator).await? {
            let key = format!("{}:{}:{today}:{}", kind.id, about.subject_id, operator.account_id);
            if let Some(told) = self.tx.message_of_key(&key).await? {
                let words = render_in(kind, &operator.language, "default", &values, Privacy::Inbox).map_err(fault)?;
                self.tx.correct_message(told, &words.subject, &words.body, self.now).await?;
            } else {
                untold = true;
            }
        }
        if untold {
            self.raise(&cause, &about).await?;
        }
        Ok(())
    }

    /// E4: nobody of a section has looked for a business day, so that all of it are told again.
    async fn look_at_section(&mut self, message: &Message, account: &Account) -> Result<(), WorkflowError> {
        let looked = self.tx.lookers(message.cause_event_id, &message.message_type).await?;
        let code = account.municipality_code.clone();
        let section = self.tx.role_accounts(&code, account.role).await?;
        if section.iter().any(|colleague| looked.contains(&colleague.account_id)) {
            return Ok(());
        }
        let Some(kind) = messages::get(&message.message_type) else { return Ok(()) };
        let mut told = false;
        for colleague in &section {
            let again = Message {
                message_id: MessageId::new(self.now),
                account_id: colleague.account_id,
                title: format!("【再通知】{}", message.title),
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
            self.note_created(kind, &again, colleague, ChannelSet::of(&[Via::Live, Via::Inbox]), &cause);
            if !told {
                told = true;
                self.publish_changed(&again, &message.message_type).await?;
            }
        }
        if told {
            self.note_escalated(message.message_id, "inbox", "inbox", EscalationRule::E4);
        }
        Ok(())
    }
}
