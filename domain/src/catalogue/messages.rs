//! The message catalogue (messages.md): who is told what, when, how, and in which words.
//!
//! Files: `domain/catalogue/messages/*.toml`, one per section of messages.md with one `[[message]]` per
//! type. `triggers` name an event or a timer, with conditions under `when`; `recipients` name an
//! audience under `to`, each with its own `channels` where they differ from the row's, its own `when`,
//! a template `variant`, `add` (further channels under a condition), `email_if_no_push` and
//! `actor_channels` (what is left for the person who did it). `templates.<locale>.<variant>` hold the
//! texts. Proxy guardians are always spelled out: with the guardian's channels where messages.md says
//! so, otherwise with the inbox alone for messages about a child.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
};

use serde::Deserialize;

pub use super::{
    cause::{Cause, Condition, Fact, MissingFact, Scalar, Test, facts},
    reach::{Audience, Category, CategoryError, Channel, ChannelError, ChannelSet, Contact, Reach},
};
use super::{
    cause::{Source, conditions},
    parse_compiled_in,
    template::Template,
};

/// The locale in which every text exists.
pub const LOCALE_COMPLETE: &str = "ja";

/// Whether the person may opt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// M: delivered whatever the person switched off.
    Mandatory,
    /// O: follows the person's settings.
    Optional,
}

impl Class {
    /// The code in the record and in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mandatory => "mandatory",
            Self::Optional => "optional",
        }
    }
}

/// How fast a message must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// p95 ≤ 2 s from booking to hand-over; ignores quiet hours.
    Now,
    /// Within a minute.
    Min,
    /// Paced; push waits during quiet hours, 21:00 to 8:00 JST.
    Batch,
}

impl Speed {
    /// The code in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Min => "min",
            Self::Batch => "batch",
        }
    }
}

/// What raises a message.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawTrigger")]
pub struct Trigger {
    /// Event or timer.
    pub by: TriggerBy,
    /// All must hold.
    pub when: Vec<Condition>,
}

/// Event or timer of a [`Trigger`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerBy {
    /// Type of the event catalogue.
    Event(String),
    /// Timer of flows.md part B.
    Timer(String),
}

/// One kind of recipient of a message type.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    /// Who.
    pub audience: Audience,
    /// Channels before the additions and the person's own reach; see [`Recipient::channels_for`].
    pub channels: ChannelSet,
    /// Template variant, `default` unless the text differs by reader.
    pub variant: String,
    /// All must hold; see [`MessageType::recipients_for`].
    pub when: Vec<Condition>,
    /// Further channels under a condition.
    pub add: Vec<AddedChannels>,
    /// E-mail instead of push where no device takes push.
    pub email_if_no_push: bool,
    /// What is left of the channels for the person who did it.
    pub actor_channels: Option<ChannelSet>,
    /// Which of the audience, or at which address.
    pub note: Option<String>,
}

/// Channels that are used only under a condition.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedChannels {
    /// Which.
    pub channels: ChannelSet,
    /// All must hold.
    #[serde(deserialize_with = "conditions")]
    pub when: Vec<Condition>,
}

impl Recipient {
    /// Channels for one person. Empty means that no message is created for them.
    ///
    /// Preferences are not applied here: see [`Category::can_switch_off`].
    ///
    /// # Errors
    /// [`MissingFact`] when an addition depends on a fact that was not given.
    pub fn channels_for(&self, cause: &Cause<'_>, person: &Reach) -> Result<ChannelSet, MissingFact> {
        let mut channels = self.channels;
        for added in &self.add {
            if cause.meets(&added.when)? {
                channels = channels.union(added.channels);
            }
        }
        if self.email_if_no_push && !person.has_push_device {
            channels = channels.union(ChannelSet::of(&[Channel::Email]));
        }
        if let (true, Some(left)) = (person.is_actor, self.actor_channels) {
            channels = channels.intersection(left);
        }
        Ok(match (person.has_account, person.contact) {
            (false, _) => channels.intersection(ChannelSet::of(&[Channel::Paper])),
            (true, Contact::App) => channels.without(Channel::Paper),
            (true, Contact::Paper) => channels.without(Channel::Push).without(Channel::Email),
            (true, Contact::Both) => channels,
        })
    }
}

/// How repetitions are treated (messages.md §1, "Dedupe").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum DedupeCode {
    /// Once per state change of the subject.
    K1,
    /// The newest replaces unread ones of the subject on push and live.
    K2,
    /// At most one per recipient and day.
    K3,
    /// One digest per run and recipient.
    K4,
}

/// [`DedupeCode`] with its particulars.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dedupe {
    /// The rule.
    pub code: DedupeCode,
    /// What the row adds to the rule.
    #[serde(default)]
    pub note: Option<String>,
    /// Message type whose collapse key this one shares on push and live, for the same child; see
    /// [`MessageType::collapses_under`].
    #[serde(default)]
    pub collapse_with: Option<String>,
}

/// What follows when nobody looks (messages.md §1, "Escalation").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum EscalationRule {
    /// Household: push not acknowledged → e-mail.
    E1,
    /// Household: e-mail failed for good → operator's queue, paper where an address is known.
    E2,
    /// Facility: not acknowledged on the dashboard → e-mail.
    E3,
    /// Operator and city: unread → again to the whole section.
    E4,
}

impl EscalationRule {
    /// The code in the record and in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::E1 => "E1",
            Self::E2 => "E2",
            Self::E3 => "E3",
            Self::E4 => "E4",
        }
    }
}

/// An escalation of a message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// What is done.
    pub rule: EscalationRule,
    /// Minutes until then. `None`: at once for E2, after one business day for E4.
    #[serde(default)]
    pub after_min: Option<u32>,
}

/// A row of the message catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageType {
    /// Such as `coupon.used`.
    pub id: String,
    /// Section of messages.md, 2 to 9.
    pub section: u8,
    /// Category of the settings.
    pub category: Category,
    /// Any one of them raises the message.
    pub triggers: Vec<Trigger>,
    /// Who gets it.
    pub recipients: Vec<Recipient>,
    /// Mandatory or optional.
    pub class: Class,
    /// How fast; see [`MessageType::speed_when`].
    pub speed: Speed,
    /// The timer whose run makes this message go out paced instead.
    pub batch_from_timer: Option<String>,
    /// Facts besides those of the text that the message must carry.
    pub must_contain: String,
    /// Treatment of repetitions.
    pub dedupe: Dedupe,
    /// In order; see [`MessageType::escalations_for`].
    pub escalation: Vec<Escalation>,
    /// Days after which a guardian who has not read it is told once more, while what it asks for is still to be done.
    pub again_after_days: Option<u16>,
    /// Validity, reminders and timers of the row, for people.
    pub deadline: Option<String>,
    /// Mark of the specification.
    pub source: String,
    /// Version of the texts, recorded with every message.
    pub template_version: i32,
    templates: BTreeMap<String, BTreeMap<String, Template>>,
}

impl MessageType {
    /// The text in a locale, if it has one there.
    pub fn template(&self, locale: &str, variant: &str) -> Option<&Template> {
        self.templates.get(locale)?.get(variant)
    }

    /// The first of the languages asked for that has the text; Japanese where none of them has it.
    pub fn locale<'a>(&self, asked: impl IntoIterator<Item = &'a str>, variant: &str) -> &'a str {
        asked.into_iter().find(|locale| self.template(locale, variant).is_some()).unwrap_or(LOCALE_COMPLETE)
    }

    /// Every text, as (locale, variant, text).
    pub fn templates(&self) -> impl Iterator<Item = (&str, &str, &Template)> {
        self.templates.iter().flat_map(|(locale, variants)| {
            variants.iter().map(move |(variant, template)| (locale.as_str(), variant.as_str(), template))
        })
    }

    /// The message type under whose name it collapses on push with others about the same child; `None` for one
    /// that shares its place with no other.
    pub fn collapses_under(&self) -> Option<&str> {
        let of_another = || CATALOGUE.shared_by_others.contains(&self.id).then_some(self.id.as_str());
        self.dedupe.collapse_with.as_deref().or_else(of_another)
    }

    /// Every channel that some recipient may get it on.
    pub fn channels(&self) -> ChannelSet {
        self.recipients.iter().fold(ChannelSet::EMPTY, |all, recipient| {
            let email = if recipient.email_if_no_push { ChannelSet::of(&[Channel::Email]) } else { ChannelSet::EMPTY };
            recipient.add.iter().fold(all.union(recipient.channels).union(email), |all, add| all.union(add.channels))
        })
    }

    /// Whether it exists as a letter.
    pub fn takes_paper(&self) -> bool {
        self.channels().contains(Channel::Paper)
    }

    /// The recipients whose conditions hold.
    ///
    /// # Errors
    /// [`MissingFact`] when that depends on a fact that was not given.
    pub fn recipients_for(&self, cause: &Cause<'_>) -> Result<Vec<&Recipient>, MissingFact> {
        let mut recipients = Vec::with_capacity(self.recipients.len());
        for recipient in &self.recipients {
            if cause.meets(&recipient.when)? {
                recipients.push(recipient);
            }
        }
        Ok(recipients)
    }

    /// Escalations that concern an audience: E1 and E2 the household, E3 the facility, E4 the offices.
    pub fn escalations_for(&self, audience: Audience) -> impl Iterator<Item = &Escalation> {
        self.escalation.iter().filter(move |escalation| match escalation.rule {
            EscalationRule::E1 | EscalationRule::E2 => !audience.is_facility() && !audience.is_office(),
            EscalationRule::E3 => audience.is_facility(),
            EscalationRule::E4 => audience.is_office(),
        })
    }

    /// The speed; `timer` is the timer in whose run the event happened, if any.
    pub fn speed_when(&self, timer: Option<&str>) -> Speed {
        if timer.is_some() && timer == self.batch_from_timer.as_deref() { Speed::Batch } else { self.speed }
    }
}

/// Every message type, in the order of messages.md.
pub fn all() -> &'static [MessageType] {
    &CATALOGUE.types
}

/// The message type of that id.
pub fn get(id: &str) -> Option<&'static MessageType> {
    let catalogue = &*CATALOGUE;
    catalogue.by_id.get(id).map(|&at| &catalogue.types[at])
}

/// The locale of that name, if some message has a text in it: what a person may choose. A language is added by
/// its texts.
pub fn locale(name: &str) -> Option<&'static str> {
    CATALOGUE.locales.get(name).map(String::as_str)
}

/// The message types that a cause raises, in catalogue order, each once.
///
/// # Errors
/// [`MissingFact`] when that depends on a fact that was not given: better no commit than a message
/// silently not sent.
pub fn triggered_by(cause: &Cause<'_>) -> Result<Vec<&'static MessageType>, MissingFact> {
    let catalogue = &*CATALOGUE;
    let candidates = match cause.source {
        Source::Event(event_type) => catalogue.by_event.get(event_type),
        Source::Timer(timer) => catalogue.by_timer.get(timer),
    };
    let mut raised: Vec<&'static MessageType> = Vec::new();
    for &(message, trigger) in candidates.into_iter().flatten() {
        let message = &catalogue.types[message];
        let known = raised.last().is_some_and(|last| last.id == message.id);
        if !known && cause.meets(&message.triggers[trigger].when)? {
            raised.push(message);
        }
    }
    Ok(raised)
}

struct Catalogue {
    types: Vec<MessageType>,
    by_id: HashMap<String, usize>,
    // (message, trigger) by what raises it.
    by_event: HashMap<String, Vec<(usize, usize)>>,
    by_timer: HashMap<String, Vec<(usize, usize)>>,
    locales: BTreeSet<String>,
    // Types that another one names in `collapse_with`.
    shared_by_others: BTreeSet<String>,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../catalogue/messages/", $name, ".toml")))),*]
    };
}

const FILES: [(&str, &str); 8] =
    files!["account", "application", "coupon", "programme", "reservation", "attendance", "claim", "general"];

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let mut types = Vec::new();
    for (name, text) in FILES {
        let file: MessageFile = parse_compiled_in(name, text);
        types.extend(file.message.into_iter().map(|raw| raw.into_type(file.section)));
    }
    let locales = types.iter().flat_map(|message| message.templates.keys().cloned()).collect();
    let shared_by_others = types.iter().filter_map(|message| message.dedupe.collapse_with.clone()).collect();
    let by_id = types.iter().enumerate().map(|(at, message)| (message.id.clone(), at)).collect();
    let (mut by_event, mut by_timer) = (HashMap::new(), HashMap::new());
    for (at, message) in types.iter().enumerate() {
        for (nth, trigger) in message.triggers.iter().enumerate() {
            let (index, key): (&mut HashMap<String, Vec<_>>, _) = match &trigger.by {
                TriggerBy::Event(event_type) => (&mut by_event, event_type),
                TriggerBy::Timer(timer) => (&mut by_timer, timer),
            };
            index.entry(key.clone()).or_default().push((at, nth));
        }
    }
    Catalogue { types, by_id, by_event, by_timer, locales, shared_by_others }
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageFile {
    section: u8,
    message: Vec<RawMessage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMessage {
    id: String,
    category: Category,
    class: Class,
    speed: Speed,
    channels: ChannelSet,
    #[serde(default)]
    paper: bool,
    triggers: Vec<Trigger>,
    recipients: Vec<RawRecipient>,
    dedupe: Dedupe,
    #[serde(default)]
    escalation: Vec<Escalation>,
    #[serde(default)]
    again_after_days: Option<u16>,
    #[serde(default)]
    batch_from_timer: Option<String>,
    #[serde(default)]
    deadline: Option<String>,
    must_contain: String,
    source: String,
    #[serde(default = "first_version")]
    template_version: i32,
    templates: BTreeMap<String, BTreeMap<String, Template>>,
}

const fn first_version() -> i32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrigger {
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    timer: Option<String>,
    #[serde(default, deserialize_with = "conditions")]
    when: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecipient {
    to: Audience,
    #[serde(default)]
    channels: Option<ChannelSet>,
    #[serde(default = "default_variant")]
    variant: String,
    #[serde(default, deserialize_with = "conditions")]
    when: Vec<Condition>,
    #[serde(default)]
    add: Vec<AddedChannels>,
    #[serde(default)]
    email_if_no_push: bool,
    #[serde(default)]
    actor_channels: Option<ChannelSet>,
    #[serde(default)]
    note: Option<String>,
}

fn default_variant() -> String {
    "default".to_owned()
}

impl RawMessage {
    fn into_type(self, section: u8) -> MessageType {
        let paper = if self.paper { ChannelSet::of(&[Channel::Paper]) } else { ChannelSet::EMPTY };
        let row = self.channels.union(paper);
        MessageType {
            section,
            triggers: self.triggers,
            recipients: self.recipients.into_iter().map(|raw| raw.into_recipient(row)).collect(),
            id: self.id,
            category: self.category,
            class: self.class,
            speed: self.speed,
            batch_from_timer: self.batch_from_timer,
            must_contain: self.must_contain,
            dedupe: self.dedupe,
            escalation: self.escalation,
            again_after_days: self.again_after_days,
            deadline: self.deadline,
            source: self.source,
            template_version: self.template_version,
            templates: self.templates,
        }
    }
}

impl RawRecipient {
    fn into_recipient(self, row: ChannelSet) -> Recipient {
        Recipient {
            audience: self.to,
            channels: self.channels.unwrap_or(row).intersection(self.to.possible_channels()),
            variant: self.variant,
            when: self.when,
            add: self.add,
            email_if_no_push: self.email_if_no_push,
            actor_channels: self.actor_channels,
            note: self.note,
        }
    }
}

impl TryFrom<RawTrigger> for Trigger {
    type Error = &'static str;
    fn try_from(raw: RawTrigger) -> Result<Self, Self::Error> {
        let by = match (raw.event, raw.timer) {
            (Some(event), None) => TriggerBy::Event(event),
            (None, Some(timer)) => TriggerBy::Timer(timer),
            _ => return Err("a trigger has either an event or a timer"),
        };
        Ok(Self { by, when: raw.when })
    }
}
