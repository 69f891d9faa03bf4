//! Raising the messages of one event.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use todoke_domain::{
    Event, MunicipalityCode, Role, Timestamp,
    catalogue::{
        messages::{
            self, Category, Cause, Channel as Via, ChannelSet, DedupeCode, EscalationRule, LOCALE_COMPLETE,
            MessageType, Reach, Recipient,
        },
        template::{Placeholder, Placeholders, Privacy, Rendered, TemplateError, render_in},
    },
    channel::Channel,
    ids::{ChildId, FacilityId, GuardianId, MessageId},
};
use todoke_store::{account::Account, guardian::Guardian, message::Message};

use super::{
    recipients::{People, within_reach},
    route::{Outbox, Routes, Told},
};
use crate::{Work, WorkflowError, work::Subject};

/// What an event is about, for the messages it causes.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Kind of the subject, as clients see it.
    pub subject_kind: &'static str,
    /// Id of the subject, as clients see it.
    pub subject_id: String,
    /// Number people see.
    pub subject_no: Option<String>,
    /// State after the event.
    pub state: String,
    /// Child concerned, where messages about one child show as one on a device.
    pub child: Option<ChildId>,
    /// Household concerned.
    pub guardian: Option<GuardianId>,
    /// Facility concerned.
    pub facility: Option<FacilityId>,
    /// The account itself, for messages to "any", the author or the asker.
    pub account: Option<Account>,
    /// The addressees, for messages with a list of them.
    pub addressees: Vec<Account>,
    /// Values for the texts.
    pub values: Placeholders,
    /// Knowledge the trigger conditions need beside the payload.
    pub facts: Vec<(&'static str, Value)>,
    /// Lines below the words of a letter: what others find on the screen that the message leads to.
    pub on_paper: Vec<String>,
    /// Screen it leads a household to.
    pub link: String,
    /// Screen it leads an office to.
    pub office_link: String,
    /// Further members of the publication's data, such as the coupon's new balance.
    pub data: Map<String, Value>,
    /// The household's row and living accounts, where the use case has read them already.
    pub household: Option<(Guardian, Vec<Account>)>,
    /// Replaces the event's id in the dedupe key, where a message is due once per day or run.
    pub once_per: Option<String>,
}

/// One row of the catalogue meets one person.
struct Draft {
    kind: &'static MessageType,
    recipient: &'static Recipient,
    account: Account,
    channels: ChannelSet,
    message: Message,
}

/// Why a message is suppressed whose words lack a value.
pub(crate) const TEMPLATE_ERROR: &str = "template_error";

/// A row of the catalogue whose words lack a value.
#[derive(Debug)]
pub(crate) struct Unwritten {
    kind: &'static MessageType,
    event: Event,
}

impl Unwritten {
    /// Says in the log what is missing. `event` is the first message that was suppressed for that.
    pub(crate) fn new(kind: &'static MessageType, subject_id: &str, error: &TemplateError, event: Event) -> Self {
        tracing::error!(
            error = %error, message_type = %kind.id, subject_id,
            "a message cannot be written and is not sent"
        );
        Self { kind, event }
    }

    /// What the operator is told: once a day for each kind.
    fn about(&self, now: Timestamp) -> About {
        About {
            subject_kind: "message_type",
            subject_id: self.kind.id.clone(),
            state: "suppressed".to_owned(),
            values: Placeholders::new().with(Placeholder::Title, self.kind.id.as_str()),
            office_link: "/staff/operator/deliveries".to_owned(),
            once_per: Some(now.jst_date().to_string()),
            ..About::default()
        }
    }
}

impl Work<'_> {
    /// Creates the messages that the catalogue asks for after `event`.
    pub async fn raise(&mut self, event: &Event, about: &About) -> Result<(), WorkflowError> {
        let cause = with_facts(Cause::of(event), about);
        self.raise_for(&cause, event, about).await
    }

    /// Creates the messages of a timer. `event` is what the timer did, or the fact it found.
    pub async fn raise_timer(
        &mut self,
        timer: &'static str,
        event: &Event,
        about: &About,
    ) -> Result<(), WorkflowError> {
        let cause = with_facts(Cause::timer(timer), about);
        self.raise_for(&cause, event, about).await
    }

    async fn raise_for(&mut self, cause: &Cause<'_>, event: &Event, about: &About) -> Result<(), WorkflowError> {
        for unwritten in self.raise_what_can_be_written(cause, event, about).await? {
            self.tell_unwritten(&unwritten).await?;
        }
        Ok(())
    }

    /// Tells the operator of a kind of messages that cannot be written, once a day.
    pub(crate) async fn tell_unwritten(&mut self, unwritten: &Unwritten) -> Result<(), WorkflowError> {
        let about = unwritten.about(self.now);
        let cause = Cause::of(&unwritten.event);
        // The alarm itself needs no more than what is given here; were it faulty too, the log has both.
        self.raise_what_can_be_written(&cause, &unwritten.event, &about).await?;
        Ok(())
    }

    /// Creates the messages of a cause whose words are complete, and gives the kinds of the others. What happened
    /// has happened, and the faulty text of one message undoes neither it nor the messages to other people.
    async fn raise_what_can_be_written(
        &mut self,
        cause: &Cause<'_>,
        event: &Event,
        about: &About,
    ) -> Result<Vec<Unwritten>, WorkflowError> {
        let mut people = People::default();
        let mut routes = Routes::default();
        let mut drafts = Vec::new();
        let mut unwritten: Vec<Unwritten> = Vec::new();
        for kind in messages::triggered_by(cause).map_err(fault)? {
            for recipient in kind.recipients_for(cause).map_err(fault)? {
                let accounts = people.of(self, recipient.audience, about).await?;
                routes.learn(self, kind, recipient, &accounts).await?;
                for account in accounts {
                    let reach = Reach {
                        contact: people.contact(recipient.audience, &account),
                        has_account: true,
                        has_push_device: routes.has_push_device(&account),
                        is_actor: self.actor.account_id == Some(account.account_id),
                    };
                    let asked = recipient.channels_for(cause, &reach).map_err(fault)?;
                    let asked = within_reach(asked, recipient.audience, &account, self.now.jst_date());
                    if asked.is_empty() {
                        continue;
                    }
                    let channels = routes.wanted(kind, asked, &account);
                    let (draft, missing) = self.draft(kind, recipient, account, channels, event, about);
                    if let Some(error) = missing
                        && !channels.is_empty()
                    {
                        self.note_created(kind, &draft.message, &draft.account, channels, event);
                        let event = self.note_suppressed(draft.message.message_id, TEMPLATE_ERROR);
                        if unwritten.iter().all(|known| known.kind.id != kind.id) {
                            unwritten.push(Unwritten::new(kind, &about.subject_id, &error, event));
                        }
                        continue;
                    }
                    if channels.is_empty() {
                        // Switched off on every channel it has: the record says that it was not sent, and why.
                        self.note_created(kind, &draft.message, &draft.account, channels, event);
                        self.note_suppressed(draft.message.message_id, "opt_out");
                        continue;
                    }
                    drafts.push(draft);
                }
            }
        }
        self.create(&drafts, &routes, event, about).await?;
        Ok(unwritten)
    }

    /// The message to one person, and what is missing in its words if something is: then it has none.
    fn draft(
        &self,
        kind: &'static MessageType,
        recipient: &'static Recipient,
        account: Account,
        channels: ChannelSet,
        event: &Event,
        about: &About,
    ) -> (Draft, Option<TemplateError>) {
        let locale = kind.locale([account.language.as_str()], &recipient.variant).to_owned();
        let (full, missing) = match words(kind, &locale, recipient, &account, channels, &about.values) {
            Ok(full) => (full, None),
            Err(error) => (Rendered { subject: String::new(), body: String::new() }, Some(error)),
        };
        let in_inbox = channels.contains(Via::Inbox);
        let once = about.once_per.clone().unwrap_or_else(|| match kind.dedupe.code {
            // At most one per recipient and day.
            DedupeCode::K3 => self.now.jst_date().to_string(),
            DedupeCode::K1 | DedupeCode::K2 | DedupeCode::K4 => event.event_id.to_string(),
        });
        let message = Message {
            message_id: MessageId::new(self.now),
            municipality_code: account.municipality_code.clone(),
            account_id: account.account_id,
            message_type: kind.id.clone(),
            category: kind.category.as_str().to_owned(),
            class: kind.class.as_str().to_owned(),
            subject_kind: about.subject_kind.to_owned(),
            subject_id: about.subject_id.clone(),
            subject_no: about.subject_no.clone(),
            title: full.subject,
            // A mail-only message (a code, a link) is nothing to look up later: its text stays in the mail.
            body: if in_inbox || channels.contains(Via::Live) { full.body } else { String::new() },
            link: if account.role.is_household() { about.link.clone() } else { about.office_link.clone() },
            in_inbox,
            cause_event_id: event.event_id,
            dedupe_key: format!("{}:{}:{once}:{}", kind.id, about.subject_id, account.account_id),
            locale,
            template_version: i64::from(kind.template_version),
            created_at: self.now,
            delivered_at: None,
            read_at: None,
        };
        (Draft { kind, recipient, account, channels, message }, missing)
    }

    /// Writes the drafts whose key is new, and sends each on its way.
    async fn create(
        &mut self,
        drafts: &[Draft],
        routes: &Routes,
        event: &Event,
        about: &About,
    ) -> Result<(), WorkflowError> {
        let messages: Vec<Message> = drafts.iter().map(|draft| draft.message.clone()).collect();
        let created = self.tx.insert_messages(&messages).await?;
        let mut office_channels = BTreeSet::new();
        let mut out = Outbox::default();
        for draft in drafts {
            let Draft { kind, recipient, account, channels, message } = draft;
            if !created.contains(&message.message_id) {
                if let Some(first) = self.tx.message_of_key(&message.dedupe_key).await? {
                    self.note_suppressed(first, "duplicate");
                }
                continue;
            }
            self.note_created(kind, message, account, *channels, event);
            if channels.contains(Via::Live) {
                self.publish_message(draft, about, &mut office_channels)?;
            }
            let told = Told { kind, recipient, account, message, channels: *channels, about, cause: event };
            self.route_message(&told, routes, &mut out).await?;
        }
        self.post(out).await
    }

    pub(crate) fn note_suppressed(&mut self, id: MessageId, reason: &str) -> Event {
        let payload = json!({ "message_id": id, "reason": reason });
        self.event("message.suppressed", Subject::new("message", id), payload)
    }

    pub(super) fn note_created(
        &mut self,
        kind: &MessageType,
        message: &Message,
        account: &Account,
        channels: ChannelSet,
        cause: &Event,
    ) {
        let channels: Vec<&str> = channels.iter().map(Via::as_str).collect();
        self.event_because(
            cause,
            "message.created",
            Subject::new("message", message.message_id),
            json!({
                "message_id": message.message_id,
                "message_type": kind.id,
                "template_version": kind.template_version,
                "locale": message.locale,
                "recipient_key": account.person_key,
                "recipient_role": account.role.as_str(),
                "class": message.class,
                "channels": channels,
                "collapse_key": format!("{}:{}", message.subject_kind, message.subject_id),
                "cause_event_id": cause.event_id,
            }),
        );
    }

    fn publish_message(
        &mut self,
        draft: &Draft,
        about: &About,
        office_channels: &mut BTreeSet<(String, Channel)>,
    ) -> Result<(), WorkflowError> {
        let Draft { kind, recipient, account, message, .. } = draft;
        let mut data = about.data.clone();
        let channel = if account.role.is_household() {
            if message.in_inbox {
                data.insert("message".to_owned(), message_json(message));
            } else {
                data.insert("title".to_owned(), json!(message.title));
                data.insert("body".to_owned(), json!(message.body));
            }
            Channel::Guardian(account.account_id)
        } else {
            let Some(channel) = office_channel(kind, account.role, about.facility, &account.municipality_code) else {
                return Ok(());
            };
            // Colleagues share a channel: one publication of a type for all of them, in the words that all can read.
            if !office_channels.insert((kind.id.clone(), channel.clone())) {
                return Ok(());
            }
            let words = if message.locale == LOCALE_COMPLETE {
                Rendered { subject: message.title.clone(), body: message.body.clone() }
            } else {
                render_in(kind, LOCALE_COMPLETE, &recipient.variant, &about.values, Privacy::Inbox).map_err(fault)?
            };
            data.insert("title".to_owned(), Value::from(words.subject));
            data.insert("body".to_owned(), Value::from(words.body));
            data.insert("link".to_owned(), json!(message.link));
            data.insert("cause_event_id".to_owned(), json!(message.cause_event_id));
            channel
        };
        self.publish_about(channel, &kind.id, about, data);
        Ok(())
    }

    /// Publishes about a subject in the form of screens.md §0.
    pub fn publish_about(&mut self, channel: Channel, kind: &str, about: &About, data: Map<String, Value>) {
        let publication = json!({
            "type": kind,
            "subject": { "kind": about.subject_kind, "id": about.subject_id, "no": about.subject_no },
            "state": about.state,
            "at": self.now,
            "data": data,
        });
        self.publish(channel, &publication);
    }
}

/// The words in the inbox, if those that travel can be written as well.
fn words(
    kind: &MessageType,
    locale: &str,
    recipient: &Recipient,
    account: &Account,
    channels: ChannelSet,
    values: &Placeholders,
) -> Result<Rendered, TemplateError> {
    let full = render_in(kind, locale, &recipient.variant, values, Privacy::Inbox)?;
    let waits_as_mail = kind
        .escalations_for(recipient.audience)
        .any(|escalation| matches!(escalation.rule, EscalationRule::E1 | EscalationRule::E3));
    if waits_as_mail || channels.contains(Via::Push) || channels.contains(Via::Email) {
        render_in(kind, locale, &recipient.variant, values, transit(account))?;
    }
    Ok(full)
}

/// How words travel to an account.
pub(super) fn transit(account: &Account) -> Privacy {
    if account.role.is_household() { Privacy::TransitHousehold } else { Privacy::TransitStaff }
}

fn with_facts<'a>(cause: Cause<'a>, about: &About) -> Cause<'a> {
    about.facts.iter().fold(cause, |cause, (name, value)| cause.fact(name, value.clone()))
}

pub(super) fn fault(error: impl std::error::Error + Send + Sync + 'static) -> WorkflowError {
    WorkflowError::Message(Box::new(error))
}

/// The inbox item as clients get it.
pub(crate) fn message_json(message: &Message) -> Value {
    json!({
        "message_id": message.message_id,
        "type": message.message_type,
        "category": message.category,
        "title": message.title,
        "body": message.body,
        "link": message.link,
        "created_at": message.created_at,
        "read_at": message.read_at,
    })
}

/// The channel on which colleagues of an office see a message; support desk and analysts have none.
pub(super) fn office_channel(
    kind: &MessageType,
    role: Role,
    facility: Option<FacilityId>,
    code: &MunicipalityCode,
) -> Option<Channel> {
    match (role, facility) {
        (role, Some(facility)) if role.is_facility() => Some(match kind.category {
            Category::Claim => Channel::FacilityClaims(facility),
            Category::Application | Category::Reservation => Channel::FacilityQueue(facility),
            _ => Channel::FacilityToday(facility),
        }),
        (Role::Operator, _) => Some(Channel::OperatorQueue(code.clone())),
        (role, _) if role.is_city() => Some(Channel::CityBoard(code.clone())),
        _ => None,
    }
}
