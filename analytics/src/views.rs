//! The views of events.md §6 on top of the event tables.

/// A view.
#[derive(Debug)]
pub(crate) struct View {
    /// Name in SQL.
    pub(crate) name: &'static str,
    /// Its query; the first comment lines say what a row is.
    pub(crate) sql: &'static str,
}

macro_rules! views {
    ($($name:literal,)*) => {
        /// All views; one may use those before it.
        pub(crate) const ALL: &[View] = &[
            $(View { name: $name, sql: include_str!(concat!("../views/", $name, ".sql")) },)*
        ];
    };
}

views! {
    "coupon_ledger",
    "coupon_uses",
    "applications",
    "reservations",
    "claims",
    "coupon_claims",
    "coupon_claim_lines",
    "results_reports",
    "message_steps",
    "messages",
    "sessions",
    "daily_active",
    "survey_answers",
    "person_wards",
    "persons",
}

/// The view of a name.
pub(crate) fn get(name: &str) -> Option<&'static View> {
    ALL.iter().find(|view| view.name == name)
}
