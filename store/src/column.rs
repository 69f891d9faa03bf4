//! Column forms that need a step between the database's type and the domain's.
//!
//! A nullable id, instant or amount is read as one of these and then converted by `#[sqlx(try_from)]`.

use jiff::civil::Date;
use sqlx::{Database, Decode, Postgres, Sqlite, Type, error::BoxDynError};
use todoke_domain::{
    Timestamp, Yen,
    ids::{
        AccountId, ApplicationId, ChildId, CouponSetId, EventId, FacilityId, GuardianId, PrintRunId, ReversalId,
        SegmentId, TransferFileId, UseId,
    },
};

macro_rules! column {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name($raw);

        impl Type<Sqlite> for $name {
            fn type_info() -> <Sqlite as Database>::TypeInfo {
                <$raw as Type<Sqlite>>::type_info()
            }
            fn compatible(ty: &<Sqlite as Database>::TypeInfo) -> bool {
                <$raw as Type<Sqlite>>::compatible(ty)
            }
        }
        impl Type<Postgres> for $name {
            fn type_info() -> <Postgres as Database>::TypeInfo {
                <$raw as Type<Postgres>>::type_info()
            }
            fn compatible(ty: &<Postgres as Database>::TypeInfo) -> bool {
                <$raw as Type<Postgres>>::compatible(ty)
            }
        }
        impl<'r> Decode<'r, Sqlite> for $name {
            fn decode(value: <Sqlite as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
                <$raw as Decode<'r, Sqlite>>::decode(value).map(Self)
            }
        }
        impl<'r> Decode<'r, Postgres> for $name {
            fn decode(value: <Postgres as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
                <$raw as Decode<'r, Postgres>>::decode(value).map(Self)
            }
        }
    };
}

column! {
    /// A day as `YYYY-MM-DD`.
    DateText(String)
}
column! {
    /// A day or nothing.
    OptionalDateText(Option<String>)
}
column! {
    /// An id or nothing.
    OptionalText(Option<String>)
}
column! {
    /// An instant or an amount, or nothing.
    OptionalNumber(Option<i64>)
}

impl TryFrom<DateText> for Date {
    type Error = jiff::Error;
    fn try_from(raw: DateText) -> Result<Self, jiff::Error> {
        raw.0.parse()
    }
}

impl TryFrom<OptionalDateText> for Option<Date> {
    type Error = jiff::Error;
    fn try_from(raw: OptionalDateText) -> Result<Self, jiff::Error> {
        raw.0.map(|day| day.parse()).transpose()
    }
}

impl From<OptionalNumber> for Option<Timestamp> {
    fn from(raw: OptionalNumber) -> Self {
        raw.0.map(Timestamp::from_micros)
    }
}

impl From<OptionalNumber> for Option<Yen> {
    fn from(raw: OptionalNumber) -> Self {
        raw.0.map(Yen::new)
    }
}

macro_rules! optional_ids {
    ($($id:ty),+) => {$(
        impl TryFrom<OptionalText> for Option<$id> {
            type Error = todoke_domain::ids::IdError;
            fn try_from(raw: OptionalText) -> Result<Self, Self::Error> {
                raw.0.map(|text| text.parse()).transpose()
            }
        }
    )+};
}

optional_ids!(
    AccountId,
    ApplicationId,
    ChildId,
    CouponSetId,
    EventId,
    FacilityId,
    GuardianId,
    PrintRunId,
    ReversalId,
    SegmentId,
    TransferFileId,
    UseId
);
