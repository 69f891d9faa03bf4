//! What reading an event of a type needs to know, looked up once per process.

use std::{collections::HashMap, sync::LazyLock};

use todoke_domain::catalogue::events::{self, EventType, Field};

use crate::{
    RejectReason,
    row::{self, Head, Subject},
    usage::{Fault, Slot},
};

pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    /// Place in the catalogue.
    pub(crate) place: u16,
    pub(crate) fields: &'static [Field],
    facility_required: bool,
    programme_required: bool,
    // Places of the fields that the server fills, or looks at.
    pub(crate) guardian_key: Option<usize>,
    pub(crate) device_key: Option<usize>,
    pub(crate) platform: Option<usize>,
    pub(crate) session_id: Option<usize>,
    pub(crate) text_length: Option<usize>,
}

static PLANS: LazyLock<HashMap<&'static str, Plan>> =
    LazyLock::new(|| events::all().iter().filter_map(Plan::new).map(|plan| (plan.name, plan)).collect());

impl Plan {
    /// That of the type of this name.
    pub(crate) fn of(event_type: &str) -> Option<&'static Self> {
        PLANS.get(event_type)
    }

    fn new(event_type: &'static EventType) -> Option<Self> {
        let field = |name: &str| event_type.fields.iter().position(|field| field.name == name);
        let requires = |name: &str| event_type.envelope_required.iter().any(|required| required == name);
        Some(Self {
            name: &event_type.name,
            group: &event_type.group,
            place: row::place_of(event_type)?,
            fields: &event_type.fields,
            facility_required: requires("facility_id"),
            programme_required: requires("programme_code"),
            guardian_key: field("guardian_key"),
            device_key: field("device_key"),
            platform: field("platform"),
            session_id: field("session_id"),
            text_length: field("text_length"),
        })
    }

    pub(crate) fn is_app(&self) -> bool {
        self.group == "app"
    }

    /// The subject of an app event: its session, without one its device, without that itself.
    pub(crate) fn app_subject(&self, slots: &[Option<Slot<'_>>]) -> Subject<'static> {
        let set = |field: Option<usize>| field.filter(|at| slots[*at].is_some()).and_then(|at| u8::try_from(at).ok());
        match (set(self.session_id), set(self.device_key)) {
            (Some(session), _) => Subject::Session(session),
            (None, Some(device)) => Subject::Device(device),
            (None, None) => Subject::Event,
        }
    }

    /// Checks that the row says where it happened, as far as its type asks for it.
    pub(crate) fn check_where(&self, head: &Head<'_>) -> Result<(), Fault> {
        let needs = [
            ("facility_id", self.facility_required && head.facility_id.is_none()),
            ("programme_code", self.programme_required && head.programme_code.is_none()),
        ];
        match needs.iter().find(|(_, is_missing)| *is_missing) {
            Some((name, _)) => Err(Fault::new(RejectReason::MissingField, name)),
            None => Ok(()),
        }
    }
}
