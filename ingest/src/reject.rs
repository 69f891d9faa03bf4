//! Why a single event was not taken.

use serde::Serialize;
use todoke_domain::catalogue::code::NotACode;

/// Bad events of one request, at most. All of them are kept, so a request with more is not taken at all.
pub const REJECTED_MAX: usize = 500;

/// A reason, stable as a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Not JSON.
    NotJson,
    /// Not a JSON object.
    NotAnObject,
    /// `event_id` is missing or no UUID; of app usage: no UUIDv7 of the event's own time.
    IdInvalid,
    /// The id was used before for another event.
    IdReused,
    /// `occurred_at` is missing or not an RFC 3339 instant.
    TimeInvalid,
    /// Happened longer ago than ids are remembered.
    TooOld,
    /// Claims to happen more than a day from now.
    InFuture,
    /// Not an `app.*` type of the catalogue.
    UnknownType,
    /// A type of the catalogue that this sender may not send.
    TypeNotAllowed,
    /// A `source` that the sender's key may not name.
    SourceNotAllowed,
    /// A field the type does not have.
    UnknownField,
    /// A field only the server may fill, such as the key of a person.
    ForbiddenField,
    /// A field the type needs is missing.
    MissingField,
    /// A value of the wrong type, or a code with characters codes do not have.
    IllTyped,
    /// A value longer than allowed.
    TooLong,
}

impl RejectReason {
    /// The code clients see.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::IdInvalid => "id_invalid",
            Self::IdReused => "id_reused",
            Self::TimeInvalid => "time_invalid",
            Self::TooOld => "too_old",
            Self::InFuture => "in_future",
            Self::UnknownType => "unknown_type",
            Self::TypeNotAllowed => "type_not_allowed",
            Self::SourceNotAllowed => "source_not_allowed",
            Self::UnknownField => "unknown_field",
            Self::ForbiddenField => "forbidden_field",
            Self::MissingField => "missing_field",
            Self::IllTyped => "ill_typed",
            Self::TooLong => "too_long",
        }
    }
}

impl From<NotACode> for RejectReason {
    fn from(why: NotACode) -> Self {
        match why {
            NotACode::TooLong => Self::TooLong,
            NotACode::Words => Self::IllTyped,
        }
    }
}

/// An event that was not taken. Sending it again does not help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The id the client gave; `None` if it gave none that could be read.
    pub event_id: Option<String>,
    /// Why.
    pub reason: RejectReason,
    /// The field that is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The event as it was sent, for who may look into it; `None` where the server never had it as
    /// text, or it is longer than what is kept.
    #[serde(skip)]
    pub content: Option<String>,
    /// Its place among the events that were handed to the log; `None` if it never was.
    #[serde(skip)]
    pub place: Option<usize>,
}
