//! The way of one message to one person: which of their devices and addresses it goes to, when, and what
//! follows when nobody looks.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::json;
use todoke_domain::{
    Event, Timestamp,
    catalogue::{
        messages::{Audience, Channel as Via, ChannelSet, Class, EscalationRule, MessageType, Recipient, Speed},
        template::{Placeholder, Privacy, Rendered, render_in},
    },
    delivery::{self, DeliveryState, DeliveryStep, Provider, Purpose},
    ids::{AccountId, DeliveryId, MessageId},
};
use todoke_store::{
    account::{Account, Preference},
    delivery::NewDelivery,
    device::Device,
    escalation::Escalation,
    message::Message,
};

use super::{
    About,
    escalate::AGAIN,
    letter::is_own_letter,
    raise::{fault, transit},
    recipients::within_reach,
};
use crate::{Work, WorkflowError, work::Subject};

/// How people can be reached, read for all people of an audience at once and for each at most once.
#[derive(Debug, Default)]
pub(super) struct Routes {
    devices: HashMap<AccountId, Vec<Device>>,
    switches: HashMap<AccountId, Vec<Preference>>,
    known_devices: HashSet<AccountId>,
    known_switches: HashSet<AccountId>,
}

impl Routes {
    /// Reads what a message of this kind may need.
    pub(super) async fn learn(
        &mut self,
        work: &mut Work<'_>,
        kind: &MessageType,
        recipient: &Recipient,
        accounts: &[Account],
    ) -> Result<(), WorkflowError> {
        let possible = recipient.add.iter().fold(recipient.channels, |all, added| all.union(added.channels));
        if possible.contains(Via::Push) || recipient.email_if_no_push {
            let households = accounts.iter().filter(|account| account.role.is_household());
            let people: Vec<AccountId> =
                households.map(|a| a.account_id).filter(|id| self.known_devices.insert(*id)).collect();
            if !people.is_empty() {
                for device in work.tx.push_devices(&people).await? {
                    self.devices.entry(device.account_id).or_default().push(device);
                }
            }
        }
        let switchable = possible.contains(Via::Push) || possible.contains(Via::Email);
        if kind.class == Class::Optional && switchable {
            let people: Vec<AccountId> =
                accounts.iter().map(|a| a.account_id).filter(|id| self.known_switches.insert(*id)).collect();
            if !people.is_empty() {
                for (account, preference) in work.tx.preferences_among(&people).await? {
                    self.switches.entry(account).or_default().push(preference);
                }
            }
        }
        Ok(())
    }

    /// Whether push would show anywhere.
    pub(super) fn has_push_device(&self, account: &Account) -> bool {
        self.devices.contains_key(&account.account_id)
    }

    /// Leaves out what the person has switched off; mandatory messages go through (messages.md §1, Class).
    pub(super) fn wanted(&self, kind: &MessageType, channels: ChannelSet, account: &Account) -> ChannelSet {
        channels.iter().filter(|via| self.wants(kind, *via, account)).collect()
    }

    fn wants(&self, kind: &MessageType, via: Via, account: &Account) -> bool {
        if kind.class == Class::Mandatory || !matches!(via, Via::Push | Via::Email) {
            return true;
        }
        let set = self.switches.get(&account.account_id).into_iter().flatten();
        let own = set.into_iter().find(|p| p.category == kind.category.as_str() && p.channel == via.as_str());
        own.map_or_else(|| kind.category.on_by_default(account.role, via), |p| p.enabled)
    }
}

/// One message of an event to one person.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) kind: &'a MessageType,
    pub(super) recipient: &'a Recipient,
    pub(super) account: &'a Account,
    pub(super) message: &'a Message,
    pub(super) channels: ChannelSet,
    pub(super) about: &'a About,
    pub(super) cause: &'a Event,
}

/// What an event's messages queue, written at once when all of them are known.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    deliveries: Vec<NewDelivery>,
    escalations: Vec<Escalation>,
    // Colleagues share a look: one row for all of them.
    looked_after: HashSet<(String, &'static str)>,
}

impl Work<'_> {
    /// Queues the deliveries of one message.
    pub(super) async fn route_message(
        &mut self,
        told: &Told<'_>,
        routes: &Routes,
        out: &mut Outbox,
    ) -> Result<(), WorkflowError> {
        let Told { kind, recipient, account, message, channels, about, .. } = *told;
        self.look_later(told, out);
        let in_run = kind.batch_from_timer.as_deref().filter(|_| self.actor.source_channel == "timer");
        let speed = kind.speed_when(in_run);
        let devices = routes.devices.get(&account.account_id).filter(|_| channels.contains(Via::Push));
        let mail = self.mail_due(told, routes, speed);
        if devices.is_some() || mail.is_some() {
            let privacy = transit(account);
            let words_in =
                |locale: &str| render_in(kind, locale, &recipient.variant, &about.values, privacy).map_err(fault);
            let words = words_in(&message.locale)?;
            if let Some(devices) = devices {
                self.replace_shown(told).await?;
                for device in devices {
                    let locale = kind.locale([device.language.as_str(), message.locale.as_str()], &recipient.variant);
                    let own = if locale == message.locale { None } else { Some(words_in(locale)?) };
                    let words = own.as_ref().unwrap_or(&words);
                    let mut row = self.new_delivery(told, speed, device.kind, device.device_id.to_string(), words);
                    row.due_at = delivery::leaves_at(Via::Push, speed, self.now);
                    row.expires_at = delivery::time_to_live(Via::Push, speed).map(|life| row.due_at.plus(life));
                    out.deliveries.push(row);
                }
                self.note_queued(message.message_id, Via::Push);
            }
            if let (Some((due_at, rule)), Some(address)) = (mail, account.email.clone()) {
                let mut row = self.new_delivery(told, speed, Provider::Smtp, address, &words);
                row.due_at = due_at;
                row.escalation = rule.map(EscalationRule::as_str);
                row.expires_at = self.mail_expires(about, due_at, speed, row.secret);
                out.deliveries.push(row);
                if rule.is_none() {
                    self.note_queued(message.message_id, Via::Email);
                }
            }
        }
        if channels.contains(Via::Paper) && !is_own_letter(&kind.id) {
            let mut words =
                render_in(kind, &message.locale, &recipient.variant, &about.values, Privacy::Inbox).map_err(fault)?;
            for line in &about.on_paper {
                words.body.push('\n');
                words.body.push_str(line);
            }
            if let Some(row) = self.letter(message, account, &words).await? {
                out.deliveries.push(row);
            }
        }
        Ok(())
    }

    /// Writes what was gathered.
    pub(super) async fn post(&mut self, out: Outbox) -> Result<(), WorkflowError> {
        if !out.deliveries.is_empty() {
            self.tx.queue_deliveries(&out.deliveries).await?;
        }
        if !out.escalations.is_empty() {
            self.tx.insert_escalations(&out.escalations).await?;
        }
        Ok(())
    }

    /// When a mail goes: at once where the row of the catalogue says so, or after the escalation's time. One
    /// that waits is queued with the message, so that no second timer has to find its words again.
    fn mail_due(&self, told: &Told<'_>, routes: &Routes, speed: Speed) -> Option<(Timestamp, Option<EscalationRule>)> {
        let Told { kind, recipient, account, channels, .. } = *told;
        account.email.as_ref()?;
        let mail = ChannelSet::of(&[Via::Email]);
        if within_reach(mail, recipient.audience, account, self.now.jst_date()).is_empty() {
            return None;
        }
        if channels.contains(Via::Email) {
            return Some((self.now, None));
        }
        if !routes.wants(kind, Via::Email, account) {
            return None;
        }
        kind.escalations_for(recipient.audience).find_map(|escalation| {
            let from = match escalation.rule {
                EscalationRule::E1 if channels.contains(Via::Push) => delivery::leaves_at(Via::Push, speed, self.now),
                EscalationRule::E3 => self.now,
                EscalationRule::E1 | EscalationRule::E2 | EscalationRule::E4 => return None,
            };
            Some((delivery::escalates_at(escalation.rule, escalation.after_min, from), Some(escalation.rule)))
        })
    }

    /// A mail with a code or link lives as long as these do.
    fn mail_expires(&self, about: &About, due_at: Timestamp, speed: Speed, secret: bool) -> Option<Timestamp> {
        let minutes =
            about.values.get(Placeholder::Minutes).filter(|_| secret).and_then(|text| text.parse::<u32>().ok());
        let life = match minutes {
            Some(minutes) => Some(Duration::from_secs(60 * u64::from(minutes))),
            None => delivery::time_to_live(Via::Email, speed),
        };
        life.map(|life| due_at.plus(life))
    }

    fn look_later(&mut self, told: &Told<'_>, out: &mut Outbox) {
        let Told { kind, recipient, account, message, about, .. } = *told;
        let look = |rule: &str, due_at| Escalation {
            message_id: message.message_id,
            rule: rule.to_owned(),
            municipality_code: account.municipality_code.clone(),
            due_at,
            leased_until: Timestamp::from_micros(0),
        };
        // What was due once only is the repetition itself.
        let first = recipient.audience == Audience::Guardian && about.once_per.is_none();
        if let Some(days) = kind.again_after_days.filter(|_| first) {
            let later = self.now.plus(Duration::from_secs(u64::from(days) * 86_400));
            // However urgent the message was: a reminder rings at no night.
            out.escalations.push(look(AGAIN, delivery::leaves_at(Via::Push, Speed::Batch, later)));
        }
        for escalation in kind.escalations_for(recipient.audience) {
            if escalation.rule != EscalationRule::E4
                || !out.looked_after.insert((kind.id.clone(), account.role.as_str()))
            {
                continue;
            }
            let due_at = delivery::escalates_at(escalation.rule, escalation.after_min, self.now);
            out.escalations.push(look(escalation.rule.as_str(), due_at));
        }
    }

    /// What is shown or on its way under the same key makes room.
    async fn replace_shown(&mut self, told: &Told<'_>) -> Result<(), WorkflowError> {
        let key = collapse_key(told);
        if key == told.message.message_id.to_string() {
            return Ok(());
        }
        for earlier in self.tx.pushes_shown(told.account.account_id, &key, told.message.message_id).await? {
            self.step_delivery(&earlier, DeliveryStep::Supersede, Some("newer")).await?;
        }
        Ok(())
    }

    fn new_delivery(
        &self,
        told: &Told<'_>,
        speed: Speed,
        provider: Provider,
        target: String,
        words: &Rendered,
    ) -> NewDelivery {
        let Told { kind, message, account, cause, .. } = *told;
        NewDelivery {
            delivery_id: DeliveryId::new(self.now),
            message_id: message.message_id,
            municipality_code: account.municipality_code.clone(),
            account_id: account.account_id,
            message_type: kind.id.clone(),
            purpose: Purpose::Notification,
            provider,
            target,
            edition: 0,
            speed: delivery::rank(speed),
            subject: words.subject.clone(),
            body: words.body.clone(),
            link: message.link.clone(),
            collapse_key: collapse_key(told),
            optional: kind.class == Class::Optional,
            // What is neither kept in the inbox nor shown live is a code or a link.
            secret: message.body.is_empty(),
            escalation: None,
            state: DeliveryState::Queued,
            error_code: None,
            due_at: self.now,
            expires_at: None,
            receipt_key: rand::random(),
            cause_at: cause.occurred_at,
            created_at: self.now,
        }
    }

    pub(crate) fn note_queued(&mut self, id: MessageId, via: Via) {
        self.event("message.queued", Subject::new("message", id), json!({ "message_id": id, "channel": via.as_str() }));
    }
}

fn collapse_key(told: &Told<'_>) -> String {
    delivery::collapse_key(told.kind, &told.about.subject_id, told.about.child, told.message.message_id)
}
