//! People and their accounts: registration, sign-in, links, consents, staff (flows C1, C2, F02).

mod children;
mod consent;
mod delete;
mod forget;
mod key;
mod link;
mod office;
mod profile;
mod registration;
mod shared;
mod sign_in;

pub(crate) use children::qr_view;
pub use children::{ChildDraft, ChildQrView, child_revision};
pub(crate) use consent::USAGE_ANALYTICS;
pub use forget::{Reread, Unlinked};
pub use key::key_revision;
pub use office::{OfficeChange, OfficeDraft, TERMS_VERSION, account_revision};
pub use profile::{ProfileChange, profile_revision};
pub use registration::{ChildInput, Registration};
pub use shared::SharedAccount;
pub use sign_in::{Entrance, Opened, SignIn};
