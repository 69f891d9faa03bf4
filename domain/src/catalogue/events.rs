//! The event catalogue (events.md): what each event type carries and which of it may enter the lake.
//!
//! Files: `domain/catalogue/envelope.toml` and `domain/catalogue/events/*.toml`, one `[[event]]` per type:
//! `type`, `label` (Japanese), `source` (mark of the specification), `envelope_required` (fields of the
//! envelope that must be set) and `fields`. A field has a `name`, a `type`, a personal-data `class`, its
//! `lake` use and a Japanese `description`; `nullable` and `signed` when so, and `null_with` naming
//! another field beside which it must stay null, and `codes`, if a sender may say nothing else.

use std::{collections::HashMap, sync::LazyLock};

use serde::Deserialize;

use super::parse_compiled_in;
pub use super::{
    field_type::{FieldType, FieldTypeError, StructField},
    payload::{PayloadError, check, check_payload, fits},
};

/// Personal-data class of a field (events.md §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub enum DataClass {
    /// Pseudonymous key of a person.
    A,
    /// Direct: names, addresses, tokens. Never in the lake.
    B,
    /// Quasi-identifier, here already generalised.
    C,
    /// Sensitive. Never in the analysts' lake.
    D,
    /// Free text. Never in the lake; its length may be.
    E,
    /// Not personal.
    F,
}

impl DataClass {
    /// The letter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::E => "E",
            Self::F => "F",
        }
    }

    /// Whether events.md §2 lets fields of this class into the analysts' lake.
    pub const fn may_enter_lake(self) -> bool {
        matches!(self, Self::A | Self::C | Self::F)
    }
}

/// Where a field may be stored beyond the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LakeUse {
    /// In the group's lake table.
    Yes,
    /// Nowhere; known to the record only.
    No,
    /// Only in the restricted dataset (`lake_restricted.care_results`).
    Restricted,
}

/// A field of an event type or of the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Name, also of the lake column.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub ty: FieldType,
    /// Whether it may be null or absent.
    #[serde(default)]
    pub nullable: bool,
    /// Whether a number may be negative; without it yen, units, minutes and counts may not.
    #[serde(default)]
    pub signed: bool,
    /// Personal-data class.
    pub class: DataClass,
    /// Use in the lake.
    pub lake: LakeUse,
    /// Another field of the type beside which this one must be null.
    #[serde(default)]
    pub null_with: Option<String>,
    /// The values that senders from outside may give; empty when any code will do.
    #[serde(default)]
    pub codes: Vec<String>,
    /// What it means, in Japanese.
    pub description: String,
}

/// A row of the event catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    /// Such as `coupon.used`.
    pub name: String,
    /// Part before the first dot; one lake table each.
    pub group: String,
    /// What happened, in Japanese.
    pub label: String,
    /// Fields besides the envelope, in catalogue order.
    pub fields: Vec<Field>,
    /// Envelope fields that this type needs.
    pub envelope_required: Vec<String>,
    /// Mark of the specification.
    pub source: String,
}

impl EventType {
    /// The field of that name, whatever its class.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// The event types that share a lake table.
#[derive(Debug)]
pub struct Group {
    name: String,
    event_types: std::ops::Range<usize>,
    lake_fields: Vec<Field>,
    restricted_fields: Vec<Field>,
}

impl Group {
    /// Such as `coupon`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its types, in catalogue order.
    pub fn event_types(&self) -> &'static [EventType] {
        &CATALOGUE.event_types[self.event_types.clone()]
    }

    /// Union of the fields its types may bring into the lake, in order of first appearance. A field is
    /// nullable in the union unless every type of the group has it non-null.
    pub fn lake_fields(&self) -> &[Field] {
        &self.lake_fields
    }

    /// The same for the restricted dataset.
    pub fn restricted_fields(&self) -> &[Field] {
        &self.restricted_fields
    }
}

/// Every event type; types of one group are adjacent.
pub fn all() -> &'static [EventType] {
    &CATALOGUE.event_types
}

/// The event type of that name.
pub fn get(event_type: &str) -> Option<&'static EventType> {
    let catalogue = &*CATALOGUE;
    catalogue.by_name.get(event_type).map(|&at| &catalogue.event_types[at])
}

/// Every group.
pub fn groups() -> &'static [Group] {
    &CATALOGUE.groups
}

/// The group of that name.
pub fn group(name: &str) -> Option<&'static Group> {
    groups().iter().find(|group| group.name == name)
}

/// The envelope's fields (events.md §1), in order.
pub fn envelope() -> &'static [Field] {
    &CATALOGUE.envelope
}

/// [`Group::lake_fields`] of a group; empty for a name that is none.
pub fn lake_fields(group_name: &str) -> &'static [Field] {
    group(group_name).map_or(&[], Group::lake_fields)
}

/// [`Group::restricted_fields`] of a group; empty for a name that is none.
pub fn restricted_fields(group_name: &str) -> &'static [Field] {
    group(group_name).map_or(&[], Group::restricted_fields)
}

struct Catalogue {
    envelope: Vec<Field>,
    event_types: Vec<EventType>,
    by_name: HashMap<String, usize>,
    groups: Vec<Group>,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../catalogue/events/", $name, ".toml")))),*]
    };
}

const FILES: [(&str, &str); 11] = files![
    "account",
    "child",
    "application",
    "coupon",
    "reservation",
    "attendance",
    "claim",
    "survey",
    "message",
    "app",
    "system",
];
const ENVELOPE: &str = include_str!("../../catalogue/envelope.toml");

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let EnvelopeFile { fields: envelope } = parse_compiled_in("envelope", ENVELOPE);
    let mut event_types: Vec<EventType> = FILES
        .iter()
        .flat_map(|(name, text)| parse_compiled_in::<EventFile>(name, text).event)
        .map(EventType::from)
        .collect();
    let order = group_order(&event_types);
    // Stable: within a group the order of the files stays.
    event_types.sort_by_key(|event_type| order.get(&event_type.group).copied());
    let by_name = event_types.iter().enumerate().map(|(at, event_type)| (event_type.name.clone(), at)).collect();
    let groups = event_types
        .chunk_by(|a, b| a.group == b.group)
        .scan(0, |start, types| {
            let range = *start..*start + types.len();
            *start = range.end;
            Some(Group {
                name: types[0].group.clone(),
                event_types: range,
                lake_fields: union(types, LakeUse::Yes),
                restricted_fields: union(types, LakeUse::Restricted),
            })
        })
        .collect();
    Catalogue { envelope, event_types, by_name, groups }
});

fn group_order(event_types: &[EventType]) -> HashMap<String, usize> {
    let mut order = HashMap::new();
    for event_type in event_types {
        let next = order.len();
        order.entry(event_type.group.clone()).or_insert(next);
    }
    order
}

fn union(types: &[EventType], lake: LakeUse) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for field in types.iter().flat_map(|event_type| &event_type.fields).filter(|field| field.lake == lake) {
        if !fields.iter().any(|known| known.name == field.name) {
            fields.push(field.clone());
        }
    }
    for field in &mut fields {
        field.nullable =
            types.iter().any(|event_type| event_type.field(&field.name).is_none_or(|f| f.nullable || f.lake != lake));
        field.signed = types.iter().filter_map(|event_type| event_type.field(&field.name)).any(|f| f.signed);
        field.null_with = None;
        field.codes.clear();
    }
    fields
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeFile {
    fields: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFile {
    event: Vec<RawEvent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    #[serde(rename = "type")]
    name: String,
    label: String,
    source: String,
    #[serde(default)]
    envelope_required: Vec<String>,
    fields: Vec<Field>,
}

impl From<RawEvent> for EventType {
    fn from(raw: RawEvent) -> Self {
        let group = raw.name.split('.').next().unwrap_or_default().to_owned();
        Self {
            name: raw.name,
            group,
            label: raw.label,
            fields: raw.fields,
            envelope_required: raw.envelope_required,
            source: raw.source,
        }
    }
}
