//! What the channel to Firebase is told.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    http::{BadUrl, RootsError},
    jwt::KeyError,
};

/// Settings of the channel to Firebase Cloud Messaging (`TODOKE_FCM__…`). It is off until a service account is set.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FcmSettings {
    /// File with the service account's key, the JSON that the Firebase console gives.
    pub service_account_file: PathBuf,
    /// The same JSON as text, where secrets come as variables. Wins over the file.
    pub service_account_json: String,
    /// Firebase project; empty means that of the service account.
    pub project_id: String,
    /// Where messages are sent.
    pub base_url: String,
    /// Where access tokens come from; empty means that of the service account.
    pub token_url: String,
    /// Certificates trusted besides the web's, PEM. For a proxy that opens TLS, and for tests.
    pub extra_roots_pem: String,
    /// Send everything as data, for an app that draws its notifications itself.
    pub data_only: bool,
    /// Android notification channel that the app has created; empty means the app's default.
    pub android_channel: String,
    /// Longest wait for a connection, milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for an answer, milliseconds.
    pub answer_timeout_ms: u64,
}

impl Default for FcmSettings {
    fn default() -> Self {
        Self {
            service_account_file: PathBuf::new(),
            service_account_json: String::new(),
            project_id: String::new(),
            base_url: "https://fcm.googleapis.com".to_owned(),
            token_url: String::new(),
            extra_roots_pem: String::new(),
            data_only: false,
            android_channel: String::new(),
            connect_timeout_ms: 5_000,
            answer_timeout_ms: 10_000,
        }
    }
}

impl std::fmt::Debug for FcmSettings {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FcmSettings").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// The part of a service account's key file that is used.
#[derive(Deserialize)]
pub struct ServiceAccount {
    /// Firebase project.
    #[serde(default)]
    pub project_id: String,
    /// Name of the key.
    #[serde(default)]
    pub private_key_id: String,
    /// RSA key, PKCS#8 in PEM.
    pub private_key: String,
    /// Name of the account.
    pub client_email: String,
    /// Where its access tokens come from.
    #[serde(default = "google_tokens")]
    pub token_uri: String,
}

impl std::fmt::Debug for ServiceAccount {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccount").field("project_id", &self.project_id).finish_non_exhaustive()
    }
}

fn google_tokens() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

/// Why the channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum FcmError {
    /// The key file cannot be read.
    #[error("the service account's key file cannot be read")]
    File(#[source] std::io::Error),
    /// Not a service account's key.
    #[error("not the JSON of a service account's key")]
    Account(#[source] serde_json::Error),
    /// The account's private key cannot be used.
    #[error("the service account's private key cannot be used")]
    Key(#[from] KeyError),
    /// No project, or no name of one.
    #[error("no Firebase project is named")]
    Project,
    /// The base URL is none.
    #[error("the base URL is {0}")]
    BaseUrl(BadUrl),
    /// The token URL is none.
    #[error("the token URL is {0}")]
    TokenUrl(BadUrl),
    /// The extra trust roots cannot be read.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

impl FcmSettings {
    /// Whether a service account is set.
    pub fn is_on(&self) -> bool {
        !self.service_account_json.is_empty() || !self.service_account_file.as_os_str().is_empty()
    }

    pub(super) fn account(&self) -> Result<ServiceAccount, FcmError> {
        let json = if self.service_account_json.is_empty() {
            std::fs::read_to_string(&self.service_account_file).map_err(FcmError::File)?
        } else {
            self.service_account_json.clone()
        };
        serde_json::from_str(&json).map_err(FcmError::Account)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }
}
