//! The use cases that feed the hub. Each is one transaction: state, events, messages and publications
//! commit together or not at all. No HTTP, no clock: `now` is passed in.

pub mod account;
pub mod actor;
pub mod application;
pub mod audit;
pub mod broadcast;
pub mod claim;
pub mod coupon;
pub mod csv_file;
pub mod error;
pub mod import;
pub mod live_sample;
pub mod messaging;
pub mod municipality;
pub mod notice;
pub mod quarantine;
pub mod revision;
pub mod secret;
pub mod segment;
pub mod solicitation;
pub mod survey;
pub mod topic;
mod work;

use std::sync::Arc;

use todoke_store::{Store, publication::Publication};

pub use actor::Actor;
pub use error::{FieldError, WorkflowError};
pub use work::Work;

/// Who wants to know at once what has been committed. Losing a call costs latency, not data: clients
/// recover from the record, and the relay polls.
pub trait Live: Send + Sync + std::fmt::Debug {
    /// Called right after a commit, in no guaranteed order between transactions.
    fn committed(&self, publications: Vec<Publication>);

    /// Called when a commit has queued deliveries: whoever sends them need not wait for their next look.
    fn deliveries_queued(&self) {}

    /// The account's sessions have ended: its sockets must go at once.
    fn account_ended(&self, account: todoke_domain::ids::AccountId);

    /// One session has ended.
    fn session_ended(&self, session: todoke_domain::ids::SessionId);
}

/// Nobody listens: command-line imports beside a running server, seeding, tests of the record alone.
#[derive(Debug)]
pub struct NobodyListens;

impl Live for NobodyListens {
    fn committed(&self, _: Vec<Publication>) {}
    fn account_ended(&self, _: todoke_domain::ids::AccountId) {}
    fn session_ended(&self, _: todoke_domain::ids::SessionId) {}
}

/// The use cases over one record. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Workflow {
    store: Store,
    live: Arc<dyn Live>,
    base_url: Arc<str>,
}

impl Workflow {
    /// Use cases over `store`; `base_url` (without a trailing slash) begins the links in mails.
    pub fn new(store: Store, live: Arc<dyn Live>, base_url: &str) -> Self {
        Self { store, live, base_url: Arc::from(base_url.trim_end_matches('/')) }
    }

    /// The record.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn live(&self) -> Arc<dyn Live> {
        Arc::clone(&self.live)
    }

    pub(crate) fn link(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }
}
