//! Provider tokens: signed once for all connections, renewed while they are between 20 and 60 minutes old.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::HeaderValue;
use serde::Serialize;
use todoke_domain::Timestamp;

use super::settings::{ApnsError, ApnsSettings};
use crate::{Outcome, jwt::Es256};

/// Age at which a token is renewed. Apple takes none older than 60 minutes.
const RENEWED_AT: Duration = Duration::from_secs(40 * 60);
/// Age before which a token is not renewed: Apple answers `TooManyProviderTokenUpdates` to more than one in 20 minutes.
const KEPT: Duration = Duration::from_secs(20 * 60);

/// A token with its age.
#[derive(Debug)]
pub(super) struct Signed {
    authorization: HeaderValue,
    issued_at: Timestamp,
}

impl Signed {
    pub(super) fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }
}

/// The one signer of the process.
pub(super) struct Signer {
    key: Es256,
    key_id: String,
    team_id: String,
    current: Mutex<Option<Arc<Signed>>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
}

impl Signer {
    pub(super) fn new(settings: &ApnsSettings) -> Result<Self, ApnsError> {
        if settings.key_id.is_empty() || settings.team_id.is_empty() {
            return Err(ApnsError::Ids);
        }
        Ok(Self {
            key: Es256::from_pem(&settings.key()?)?,
            key_id: settings.key_id.clone(),
            team_id: settings.team_id.clone(),
            current: Mutex::default(),
        })
    }

    /// The token to use at `now`. Signing takes microseconds, so those who come meanwhile wait for it.
    pub(super) fn token(&self, now: Timestamp) -> Result<Arc<Signed>, Outcome> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signed) = current.as_ref().filter(|signed| now.since(signed.issued_at) < RENEWED_AT) {
            return Ok(Arc::clone(signed));
        }
        let signed = Arc::new(self.sign(now)?);
        *current = Some(Arc::clone(&signed));
        Ok(signed)
    }

    /// Another token than `expired`, which Apple no longer takes: one that somebody else has renewed, or a new one.
    /// `None` when it is too young for that: then our clock is wrong, and a new one would not be taken either.
    pub(super) fn renewed(&self, expired: &Arc<Signed>, now: Timestamp) -> Option<Arc<Signed>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signed) = current.as_ref().filter(|signed| !Arc::ptr_eq(signed, expired)) {
            return Some(Arc::clone(signed));
        }
        if now.since(expired.issued_at) < KEPT {
            return None;
        }
        let signed = Arc::new(self.sign(now).ok()?);
        *current = Some(Arc::clone(&signed));
        Some(signed)
    }

    fn sign(&self, now: Timestamp) -> Result<Signed, Outcome> {
        let failed = Outcome::Later { code: "signing_failed", after: None };
        let claims = Claims { iss: &self.team_id, iat: now.as_seconds() };
        let token = self.key.sign(Some(&self.key_id), &claims).map_err(|_| failed.clone())?;
        let authorization = HeaderValue::from_str(&format!("bearer {token}")).map_err(|_| failed)?;
        Ok(Signed { authorization, issued_at: now })
    }
}
