//! Trigger conditions and what they are asked of.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{events, parse_compiled_in};
use crate::event::Event;

/// What happened, as trigger conditions see it: an event or a timer, plus facts that the use case knows
/// and the event does not carry.
#[derive(Clone, Debug)]
pub struct Cause<'a> {
    pub(super) source: Source<'a>,
    payload: Option<&'a Map<String, Value>>,
    envelope: Option<&'a Event>,
    facts: Vec<(&'static str, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source<'a> {
    Event(&'a str),
    Timer(&'a str),
}

impl<'a> Cause<'a> {
    /// An event, its envelope included.
    pub fn of(event: &'a Event) -> Self {
        Self { envelope: Some(event), ..Self::event(&event.event_type, &event.payload) }
    }

    /// An event without its envelope; conditions on the envelope then need facts of the same name.
    pub fn event(event_type: &'a str, payload: &'a Map<String, Value>) -> Self {
        Self { source: Source::Event(event_type), payload: Some(payload), envelope: None, facts: Vec::new() }
    }

    /// A timer of flows.md part B, such as `T06`.
    pub fn timer(timer: &'a str) -> Self {
        Self { source: Source::Timer(timer), payload: None, envelope: None, facts: Vec::new() }
    }

    /// Adds a fact; its names and values are listed by [`facts`].
    #[must_use]
    pub fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    /// Whether all conditions hold.
    ///
    /// Those on the event are asked first, so a fact need only be given where the event gets that far.
    ///
    /// # Errors
    /// [`MissingFact`] when the answer depends on a fact that was not given.
    pub fn meets(&self, conditions: &[Condition]) -> Result<bool, MissingFact> {
        let carried = |condition: &&Condition| self.carried(&condition.field);
        for condition in conditions.iter().filter(carried).chain(conditions.iter().filter(|c| !carried(c))) {
            let Some(value) = self.value(&condition.field) else {
                return Err(MissingFact { fact: condition.field.clone() });
            };
            if !condition.test.holds(&value) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn carried(&self, field: &str) -> bool {
        let Source::Event(event_type) = self.source else { return false };
        field == "event_type"
            || self.payload.is_some_and(|payload| payload.contains_key(field))
            || events::get(event_type).is_some_and(|known| known.field(field).is_some())
    }

    fn value(&self, field: &str) -> Option<Value> {
        if let Source::Event(event_type) = self.source
            && self.carried(field)
        {
            let payload = self.payload.and_then(|payload| payload.get(field));
            return Some(if field == "event_type" { event_type.into() } else { payload.cloned().unwrap_or_default() });
        }
        if let Some((_, value)) = self.facts.iter().find(|(name, _)| *name == field) {
            return Some(value.clone());
        }
        let event = self.envelope?;
        match field {
            "actor_role" => Some(event.actor_role.as_str().into()),
            "source_channel" => Some(event.source_channel.as_str().into()),
            "programme_code" => Some(event.programme_code.as_deref().into()),
            "facility_id" => Some(event.facility_id.as_deref().into()),
            _ => None,
        }
    }
}

/// Envelope fields that conditions may ask for; the catalogue is checked against them.
#[cfg(test)]
pub(super) const ENVELOPE_FIELDS: [&str; 5] =
    ["event_type", "actor_role", "source_channel", "programme_code", "facility_id"];

/// A trigger depends on something that the caller did not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message trigger needs the fact `{fact}`")]
pub struct MissingFact {
    /// Name of the fact.
    pub fact: String,
}

/// A test of one field or fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Field of the event, of its envelope, or name of a fact.
    pub field: String,
    /// What its value must be.
    pub test: Test,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Test {
    /// Equal to this.
    Is(Scalar),
    /// Equal to one of these.
    OneOf(Vec<Scalar>),
    /// Something else than this, or null.
    Not {
        /// The value it must not be.
        not: Scalar,
    },
    /// A number above this one.
    Above {
        /// The bound, itself excluded.
        above: i64,
    },
    /// Null or not.
    Set {
        /// Whether a value must be there.
        set: bool,
    },
}

/// A value conditions compare with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// Yes or no.
    Bool(bool),
    /// A code.
    Text(String),
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Is(wanted) => wanted.equals(value),
            Self::OneOf(wanted) => wanted.iter().any(|scalar| scalar.equals(value)),
            Self::Not { not } => !not.equals(value),
            Self::Above { above } => value.as_i64().is_some_and(|n| n > *above),
            Self::Set { set } => value.is_null() != *set,
        }
    }
}

impl Scalar {
    fn equals(&self, value: &Value) -> bool {
        match self {
            Self::Bool(wanted) => value.as_bool() == Some(*wanted),
            Self::Text(wanted) => value.as_str() == Some(wanted),
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = &self.field;
        match &self.test {
            Test::Is(value) => write!(f, "{field} = {value}"),
            Test::OneOf(values) => {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                write!(f, "{field} in {}", values.join(", "))
            }
            Test::Not { not } => write!(f, "{field} ≠ {not}"),
            Test::Above { above } => write!(f, "{field} > {above}"),
            Test::Set { set: true } => write!(f, "{field} set"),
            Test::Set { set: false } => write!(f, "{field} null"),
        }
    }
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// Reads `{ field = test, … }`.
pub(super) fn conditions<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Condition>, D::Error> {
    let tests = BTreeMap::<String, Test>::deserialize(deserializer)?;
    Ok(tests.into_iter().map(|(field, test)| Condition { field, test }).collect())
}

/// Something conditions may ask that events do not carry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// Name, as given to [`Cause::fact`].
    pub name: String,
    /// Possible values.
    pub values: String,
    /// What it tells.
    pub meaning: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FactFile {
    fact: Vec<Fact>,
}

/// Every fact that conditions may ask for (`domain/catalogue/facts.toml`).
pub fn facts() -> &'static [Fact] {
    static FACTS: LazyLock<Vec<Fact>> =
        LazyLock::new(|| parse_compiled_in::<FactFile>("facts", include_str!("../../catalogue/facts.toml")).fact);
    &FACTS
}
