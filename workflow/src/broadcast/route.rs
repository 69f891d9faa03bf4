//! From a message of a broadcast to the deliveries outside the app.

use std::collections::HashMap;

use todoke_domain::catalogue::{
    messages::{
        Category, Cause, Channel as Via, ChannelSet, Class, Contact, MessageType, Reach, Recipient, triggered_by,
    },
    template::{Placeholders, Privacy, Rendered, TemplateError, render},
};
use todoke_domain::{
    Event, Timestamp,
    delivery::{self, DeliveryState, Provider, Purpose},
    ids::{AccountId, DeliveryId, MessageId},
};
use todoke_store::{broadcast::Broadcast, delivery::NewDelivery, device::Device, segment::Member};

use crate::{Work, WorkflowError};

/// What is the same for all recipients of a broadcast: its row of the catalogue and the author's choice.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: &'static MessageType,
    recipient: &'static Recipient,
    cause: Event,
    push: bool,
    email: bool,
}

/// What a broadcast says.
#[derive(Debug)]
pub(super) struct Words {
    /// In the inbox.
    pub(super) inbox: Rendered,
    /// In the words that may travel.
    pub(super) transit: Rendered,
}

impl Plan {
    /// The plan of a broadcast whose `broadcast.started` is `cause`.
    pub(super) fn of(row: &Broadcast, cause: Event) -> Result<Self, WorkflowError> {
        let (kind, recipient) = {
            let asked = asked(&cause, row.email);
            let kind = triggered_by(&asked).map_err(fault)?.into_iter().next();
            let kind = kind.ok_or(WorkflowError::Internal("a broadcast without message type"))?;
            let recipient = kind.recipients_for(&asked).map_err(fault)?.into_iter().next();
            (kind, recipient.ok_or(WorkflowError::Internal("a broadcast without recipient"))?)
        };
        Ok(Self { kind, recipient, cause, push: row.push, email: row.email })
    }

    /// What it says everywhere, so that nobody gets a part of it.
    pub(super) fn words(&self, values: &Placeholders) -> Result<Words, TemplateError> {
        let text = |privacy| render(self.kind, &self.recipient.variant, values, privacy);
        Ok(Words { inbox: text(Privacy::Inbox)?, transit: text(Privacy::TransitHousehold)? })
    }

    /// The event that causes its messages.
    pub(super) fn cause(&self) -> &Event {
        &self.cause
    }

    /// Channels of people who switched nothing off: the catalogue's, less what the author left out.
    pub(super) fn ways(&self, contact: Contact, has_push_device: bool) -> Result<ChannelSet, WorkflowError> {
        let reach = Reach { contact, has_account: true, has_push_device, is_actor: false };
        let channels = self.recipient.channels_for(&asked(&self.cause, self.email), &reach).map_err(fault)?;
        if self.kind.class == Class::Mandatory {
            return Ok(channels);
        }
        let chosen = |via: Via| match via {
            Via::Push => self.push,
            Via::Email => self.email,
            Via::Live | Via::Inbox | Via::Paper => true,
        };
        Ok(channels.iter().filter(|via| chosen(*via)).collect())
    }

    /// Channels of one person: [`Self::ways`] less what the person switched off.
    pub(super) fn channels(&self, to: &Member, has_push_device: bool) -> Result<ChannelSet, WorkflowError> {
        let channels = self.ways(Contact::of(&to.contact_channel), has_push_device)?;
        if self.kind.class == Class::Mandatory {
            return Ok(channels);
        }
        let set = |via: Via| match via {
            Via::Push => to.push_set.unwrap_or(Category::Broadcast.default_on(via)),
            Via::Email => to.email_set.unwrap_or(Category::Broadcast.default_on(via)),
            Via::Live | Via::Inbox | Via::Paper => true,
        };
        Ok(channels.iter().filter(|via| set(*via)).collect())
    }

    /// Whether it goes to one person outside the app.
    pub(super) fn leaves_the_app(&self, to: &Member, devices: &[Device]) -> Result<bool, WorkflowError> {
        let channels = self.channels(to, !devices.is_empty())?;
        Ok(channels.contains(Via::Email) || (channels.contains(Via::Push) && !devices.is_empty()))
    }
}

/// What is the same for all hand-overs of one batch.
#[derive(Debug)]
pub(super) struct Transit {
    /// In the words that may travel.
    pub(super) text: Rendered,
    /// Path of the screen; empty for none.
    pub(super) link: String,
    /// That of all hand-overs of the broadcast.
    pub(super) collapse_key: String,
    /// When the broadcast went out.
    pub(super) cause_at: Timestamp,
}

impl Work<'_> {
    /// The devices that show push, by person.
    pub(super) async fn devices_among<'m>(
        &mut self,
        members: impl Iterator<Item = &'m Member>,
    ) -> Result<HashMap<AccountId, Vec<Device>>, WorkflowError> {
        let people: Vec<AccountId> = members.map(|member| member.account_id).collect();
        let mut devices: HashMap<AccountId, Vec<Device>> = HashMap::new();
        for device in self.tx.push_devices(&people).await? {
            devices.entry(device.account_id).or_default().push(device);
        }
        Ok(devices)
    }

    /// The deliveries of one message to one person: the one place that decides where a broadcast goes outside
    /// the app.
    pub(super) fn route_broadcast(
        &mut self,
        plan: &Plan,
        transit: &Transit,
        message: MessageId,
        to: &Member,
        devices: &[Device],
    ) -> Result<Vec<NewDelivery>, WorkflowError> {
        let channels = plan.channels(to, !devices.is_empty())?;
        let mut deliveries = Vec::new();
        if channels.contains(Via::Push) && !devices.is_empty() {
            deliveries.extend(devices.iter().map(|device| {
                self.broadcast_delivery(plan, transit, message, to, device.kind, device.device_id.to_string())
            }));
            self.note_queued(message, Via::Push);
        }
        if channels.contains(Via::Email) {
            deliveries.push(self.broadcast_delivery(plan, transit, message, to, Provider::Smtp, to.email.clone()));
            self.note_queued(message, Via::Email);
        }
        Ok(deliveries)
    }

    fn broadcast_delivery(
        &self,
        plan: &Plan,
        transit: &Transit,
        message: MessageId,
        to: &Member,
        provider: Provider,
        target: String,
    ) -> NewDelivery {
        let speed = plan.kind.speed_when(None);
        let due_at = delivery::leaves_at(provider.channel(), speed, self.now);
        NewDelivery {
            delivery_id: DeliveryId::new(self.now),
            message_id: message,
            municipality_code: self.actor.municipality_code.clone(),
            account_id: to.account_id,
            message_type: plan.kind.id.clone(),
            purpose: Purpose::Notification,
            provider,
            target,
            edition: 0,
            speed: delivery::rank(speed),
            subject: transit.text.subject.clone(),
            body: transit.text.body.clone(),
            link: transit.link.clone(),
            collapse_key: transit.collapse_key.clone(),
            optional: plan.kind.class == Class::Optional,
            secret: false,
            escalation: None,
            state: DeliveryState::Queued,
            error_code: None,
            due_at,
            expires_at: delivery::time_to_live(provider.channel(), speed).map(|life| due_at.plus(life)),
            receipt_key: rand::random(),
            cause_at: transit.cause_at,
            created_at: self.now,
        }
    }
}

fn asked(cause: &Event, email: bool) -> Cause<'_> {
    Cause::of(cause).fact("email_chosen", email)
}

fn fault(error: impl std::error::Error + Send + Sync + 'static) -> WorkflowError {
    WorkflowError::Message(Box::new(error))
}
