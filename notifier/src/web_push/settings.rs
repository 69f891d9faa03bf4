//! What the channel to browsers is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{http::RootsError, jwt::KeyError};

/// Settings of the channel to browsers (`TODOKE_WEB_PUSH__…`). It is off until keys are set.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebPushSettings {
    /// Public VAPID key in base64url, the browser's `applicationServerKey`. Changing it ends every subscription.
    pub public_key: String,
    /// Private VAPID key in base64url.
    pub private_key: String,
    /// Whom a push service can turn to: `mailto:` address or `https:` page of the operator.
    pub subject: String,
    /// Certificates trusted besides the web's, PEM. For a push service of one's own, and for tests.
    pub extra_roots_pem: String,
    /// Allow endpoints without TLS and at addresses that are not public. Endpoints come from browsers: with this, a
    /// browser can make the server send requests into its own network.
    pub allow_private_addresses: bool,
    /// Longest wait for a connection, milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for an answer, milliseconds.
    pub answer_timeout_ms: u64,
}

impl Default for WebPushSettings {
    fn default() -> Self {
        Self {
            public_key: String::new(),
            private_key: String::new(),
            subject: String::new(),
            extra_roots_pem: String::new(),
            allow_private_addresses: false,
            connect_timeout_ms: 5_000,
            answer_timeout_ms: 10_000,
        }
    }
}

impl std::fmt::Debug for WebPushSettings {
    /// Without the private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebPushSettings").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

/// Why the channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum WebPushError {
    /// The keys cannot be used.
    #[error("the VAPID keys cannot be used")]
    Keys(#[from] KeyError),
    /// No contact.
    #[error("subject must be a mailto: address or an https: page")]
    Subject,
    /// The extra trust roots cannot be read.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

impl WebPushSettings {
    /// Whether keys are set.
    pub fn is_on(&self) -> bool {
        !self.private_key.is_empty()
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }
}
