//! What the members of an event mean, worked out once for all events that are written the same way.
//!
//! A device sends its events as one program writes them: the same names in the same order, type for type. Comparing
//! them with those of the event before is a fraction of looking each of them up.

use std::borrow::Cow;

use todoke_domain::catalogue::events::{self, Field, FieldType};

use crate::{RejectReason, json::Scan, plan::Plan};

/// What a member is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// A field of the envelope.
    Envelope,
    /// The type's field of this place.
    Field(usize),
    /// Nothing that this door takes.
    Refused(RejectReason),
}

type Members<'t> = [(Cow<'t, str>, Scan<'t>)];

/// The members of an event, by their places in its text.
#[derive(Default)]
pub(super) struct Shape {
    names: Vec<String>,
    /// `None` until there is a type that is known.
    pub(super) plan: Option<&'static Plan>,
    pub(super) parts: Vec<Part>,
    pub(super) event_id: Option<usize>,
    pub(super) event_type: Option<usize>,
    pub(super) occurred_at: Option<usize>,
    pub(super) schema_version: Option<usize>,
    pub(super) facility_id: Option<usize>,
    pub(super) programme_code: Option<usize>,
}

impl Shape {
    /// Becomes the shape of these members.
    pub(super) fn fit(&mut self, members: &Members<'_>) {
        if !self.is_of(members) {
            self.learn(members);
        }
    }

    fn is_of(&self, members: &Members<'_>) -> bool {
        let (Some(plan), Some(event_type)) = (self.plan, self.event_type) else { return false };
        members.len() == self.names.len()
            && members.iter().zip(&self.names).all(|((name, _), known)| name == known)
            && members[event_type].1.as_str() == Some(plan.name)
    }

    fn learn(&mut self, members: &Members<'_>) {
        let mut names = std::mem::take(&mut self.names);
        names.clear();
        names.extend(members.iter().map(|(name, _)| name.clone().into_owned()));
        let mut shape = Self { names, ..Self::default() };
        // Of a name that comes twice the last one counts.
        for (at, (name, _)) in members.iter().enumerate() {
            if let Some(place) = shape.envelope(name) {
                *place = Some(at);
            }
        }
        let event_type = shape.event_type.and_then(|at| members[at].1.as_str());
        shape.plan = event_type.and_then(Plan::of).filter(|plan| plan.is_app());
        let fields = shape.plan.map_or([].as_slice(), |plan| plan.fields);
        shape.parts = members.iter().map(|(name, _)| part(name, fields)).collect();
        *self = shape;
    }

    fn envelope(&mut self, name: &str) -> Option<&mut Option<usize>> {
        Some(match name {
            "event_id" => &mut self.event_id,
            "event_type" => &mut self.event_type,
            "occurred_at" => &mut self.occurred_at,
            "schema_version" => &mut self.schema_version,
            "facility_id" => &mut self.facility_id,
            "programme_code" => &mut self.programme_code,
            _ => return None,
        })
    }
}

fn part(name: &str, fields: &[Field]) -> Part {
    if Shape::default().envelope(name).is_some() {
        return Part::Envelope;
    }
    match fields.iter().position(|field| field.name == name) {
        Some(at) if fields[at].ty != FieldType::Key => Part::Field(at),
        Some(_) => Part::Refused(RejectReason::ForbiddenField),
        None if is_servers(name) => Part::Refused(RejectReason::ForbiddenField),
        None => Part::Refused(RejectReason::UnknownField),
    }
}

/// Names only the server fills, whatever the type.
fn is_servers(name: &str) -> bool {
    name.ends_with("_key") || events::envelope().iter().any(|field| field.name == name)
}
