//! What can go wrong in a use case.

use todoke_domain::{Yen, reason::UseRefusal};
use todoke_store::StoreError;

/// A field of a request that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Name in the request, with dots and indexes: `children.0.birth_date`.
    pub field: String,
    /// What to correct, in Japanese.
    pub detail: String,
}

impl FieldError {
    /// A field with its text.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// A use case that did not happen. Nothing has changed, except where a variant says so.
#[derive(Debug, thiserror::Error)]
pub enum WorkflowError {
    /// The thing does not exist, or not for this caller.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The role may not do this.
    #[error("not allowed")]
    Denied,
    /// The state does not allow it, or somebody else was first. The text is for people, in Japanese.
    #[error("conflict: {0}")]
    Conflict(String),
    /// What a form overwrites has changed since it was shown (N-SEC-23).
    #[error("changed meanwhile")]
    Stale,
    /// Fields to correct.
    #[error("{} fields cannot be taken", .0.len())]
    Invalid(Vec<FieldError>),
    /// A coupon use was refused; the refusal itself is recorded.
    #[error("use refused: {}", .reason.as_str())]
    UseRefused {
        /// Why.
        reason: UseRefusal,
        /// The balance, where the caller may know it.
        balance: Option<Yen>,
    },
    /// Sign-in failed; one text for every cause that must not be told apart (N-SEC-24).
    #[error("sign-in failed")]
    SignIn(SignInError),
    /// Too many attempts.
    #[error("rate limited")]
    RateLimited {
        /// Seconds until it is worth trying again.
        retry_after_s: u32,
    },
    /// A message could not be rendered: a fault of ours, so nothing is committed.
    #[error("a message could not be made")]
    Message(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An event does not fit the catalogue: a fault of ours, so nothing is committed.
    #[error("an event does not fit the catalogue")]
    Event(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Work outside the record failed, such as hashing.
    #[error("internal fault")]
    Internal(&'static str),
    /// The record failed.
    #[error(transparent)]
    Store(StoreError),
}

/// Why a sign-in failed, as far as it may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInError {
    /// Address or password wrong, account locked, ended or of the other entrance: all look alike.
    Credentials,
    /// The code is wrong.
    Code,
    /// The code has run out or was tried too often: a new one is needed.
    CodeSpent,
    /// Before the account's first day.
    NotYet(jiff::civil::Date),
    /// No or no longer valid session.
    Session,
    /// A mailed link that was used or has run out.
    Link,
}

impl From<StoreError> for WorkflowError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => {
                Self::Conflict("ほかの操作と重なりました。画面を確認して、もう一度お試しください。".to_owned())
            }
            StoreError::Busy(_) | StoreError::Database(_) | StoreError::Migrate(_) | StoreError::Corrupt { .. } => {
                Self::Store(error)
            }
        }
    }
}

/// Collects field errors so that a person sees all of them at once.
#[derive(Debug, Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// Keeps the error of a field and gives its value if it has one.
    pub fn take<T, E: std::fmt::Display>(&mut self, field: impl Into<String>, value: Result<T, E>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(field, error.to_string());
                None
            }
        }
    }

    /// Adds an error.
    pub fn refuse(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.0.push(FieldError::new(field, detail));
    }

    /// Fails when anything was refused.
    pub fn finish(self) -> Result<(), WorkflowError> {
        if self.0.is_empty() { Ok(()) } else { Err(WorkflowError::Invalid(self.0)) }
    }
}
