//! One id type per kind of record, so that two ids cannot be swapped by accident.
//!
//! Every id is a UUIDv7: it sorts by creation time, and its text form is hyphenated lower case.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub struct IdError;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id whose time part is `now`, with fresh random bits.
            pub fn new(now: Timestamp) -> Self {
                let micros = now.as_micros().unsigned_abs();
                let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
                let time = uuid::Timestamp::from_unix(uuid::NoContext, micros / 1_000_000, nanos);
                Self(Uuid::new_v7(time))
            }

            /// The id as a UUID.
            pub fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(raw: Uuid) -> Self {
                Self(raw)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(raw: &str) -> Result<Self, IdError> {
                Uuid::try_parse(raw).map(Self).map_err(|_| IdError)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(raw: String) -> Result<Self, IdError> {
                raw.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )+};
}

ids! {
    /// A person's sign-in, whatever the role.
    AccountId,
    /// A household head who registered; shared by the guardian's and the proxy's accounts.
    GuardianId,
    /// A child.
    ChildId,
    /// A place where a programme is given.
    FacilityId,
    /// A legal entity that runs facilities.
    ProviderId,
    /// An application of any kind.
    ApplicationId,
    /// An uploaded image or PDF.
    DocumentId,
    /// The definition of a coupon.
    CouponSetId,
    /// One child's coupon of one set.
    CouponId,
    /// One distribution with its own expiry.
    LotId,
    /// A payment by coupon.
    UseId,
    /// The undoing of a use.
    ReversalId,
    /// A facility's claim for one programme and month.
    ClaimId,
    /// A file of transfers for the bank.
    TransferFileId,
    /// A message for one recipient.
    MessageId,
    /// One message to one device or address.
    DeliveryId,
    /// A phone, tablet or browser that takes push.
    DeviceId,
    /// An immutable event.
    EventId,
    /// A survey.
    SurveyId,
    /// One answer to a survey.
    AnswerId,
    /// A saved audience.
    SegmentId,
    /// A message to everybody or to a segment.
    BroadcastId,
    /// A notice.
    NoticeId,
    /// What the city asks the operator to do.
    CityRequestId,
    /// A file that was imported.
    ImportId,
    /// An event that could not be taken as it was sent.
    QuarantineId,
    /// An invitation to apply, for one child.
    SolicitationId,
    /// Letters printed together.
    PrintRunId,
    /// A signed-in session.
    SessionId,
    /// A pending one-time code.
    ChallengeId,
    /// A machine's key.
    ApiKeyId,
    /// A single-use mailed link.
    LinkId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_survive_text() {
        let early = EventId::new(Timestamp::from_micros(1_700_000_000_000_000));
        let late = EventId::new(Timestamp::from_micros(1_700_000_001_000_000));
        assert!(early < late);
        assert_eq!(late.to_string().parse::<EventId>(), Ok(late));
        assert_eq!("x".parse::<EventId>(), Err(IdError));
    }
}
