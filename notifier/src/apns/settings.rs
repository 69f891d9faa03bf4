//! What the channel to Apple is told.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    http::{BadUrl, RootsError},
    jwt::KeyError,
};

/// Settings of the channel to Apple (`TODOKE_APNS__…`). It is off until a key is set.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApnsSettings {
    /// File with the authentication key (`AuthKey_….p8`).
    pub key_file: PathBuf,
    /// The same key as text, where secrets come as variables. Wins over the file.
    pub key_pem: String,
    /// Id of the key, ten characters.
    pub key_id: String,
    /// Id of the developer team, ten characters.
    pub team_id: String,
    /// Bundle id of the app.
    pub topic: String,
    /// Where messages to released apps are sent.
    pub base_url: String,
    /// Where messages to development builds are sent.
    pub sandbox_url: String,
    /// Certificates trusted besides the web's, PEM. For a proxy that opens TLS, and for tests.
    pub extra_roots_pem: String,
    /// Longest wait for a connection, milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for an answer, milliseconds.
    pub answer_timeout_ms: u64,
}

impl Default for ApnsSettings {
    fn default() -> Self {
        Self {
            key_file: PathBuf::new(),
            key_pem: String::new(),
            key_id: String::new(),
            team_id: String::new(),
            topic: String::new(),
            base_url: "https://api.push.apple.com".to_owned(),
            sandbox_url: "https://api.sandbox.push.apple.com".to_owned(),
            extra_roots_pem: String::new(),
            connect_timeout_ms: 5_000,
            answer_timeout_ms: 10_000,
        }
    }
}

impl std::fmt::Debug for ApnsSettings {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApnsSettings")
            .field("base_url", &self.base_url)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// Why the channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ApnsError {
    /// The key file cannot be read.
    #[error("the authentication key's file cannot be read")]
    File(#[source] std::io::Error),
    /// The key cannot be used.
    #[error("the authentication key cannot be used")]
    Key(#[from] KeyError),
    /// Id of key or team is missing.
    #[error("the ids of the key and the team are missing")]
    Ids,
    /// No bundle id.
    #[error("no bundle id is set as topic")]
    Topic,
    /// A base URL is none.
    #[error("the base URL is {0}")]
    BaseUrl(BadUrl),
    /// The extra trust roots cannot be read.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

impl ApnsSettings {
    /// Whether a key is set.
    pub fn is_on(&self) -> bool {
        !self.key_pem.is_empty() || !self.key_file.as_os_str().is_empty()
    }

    pub(super) fn key(&self) -> Result<String, ApnsError> {
        if self.key_pem.is_empty() {
            std::fs::read_to_string(&self.key_file).map_err(ApnsError::File)
        } else {
            Ok(self.key_pem.clone())
        }
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }
}
