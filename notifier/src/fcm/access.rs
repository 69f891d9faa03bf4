//! Access tokens of a service account (OAuth 2.0, RFC 7523): fetched once for all senders, renewed before they end.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use serde::{Deserialize, Serialize};
use todoke_domain::Timestamp;

use super::settings::{FcmError, ServiceAccount};
use crate::{
    Outcome,
    http::{HttpClient, Origin, post, retry_after},
    jwt::Rs256,
};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
/// Life of the signed request; Google takes no more than an hour.
const ASSERTION_LIFE: Duration = Duration::from_secs(3_600);
/// How long before its end a token is renewed, while it still works for everybody else.
const EARLY: Duration = Duration::from_secs(300);
/// A failed exchange counts for everybody for this long, so that a thousand senders do not ask a thousand times.
const FAILURE_HOLDS: Duration = Duration::from_secs(2);

/// A token with its end.
#[derive(Debug)]
pub(super) struct Access {
    authorization: HeaderValue,
    expires_at: Timestamp,
}

impl Access {
    pub(super) fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }
}

#[derive(Default)]
struct Held {
    current: Option<Arc<Access>>,
    failed: Option<(Timestamp, Outcome)>,
}

/// The tokens of one account.
pub(super) struct AccessTokens {
    client: HttpClient,
    origin: Origin,
    uri: Uri,
    audience: String,
    email: String,
    key_id: String,
    key: Rs256,
    held: Mutex<Held>,
    fetching: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessTokens").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

impl AccessTokens {
    pub(super) fn new(client: HttpClient, url: &str, account: &ServiceAccount) -> Result<Self, FcmError> {
        let (origin, path) = Origin::split(url).map_err(FcmError::TokenUrl)?;
        Ok(Self {
            client,
            uri: origin.uri(path),
            origin,
            // The account's own address even when we reach it by another: it is what the assertion is made out to.
            audience: account.token_uri.clone(),
            email: account.client_email.clone(),
            key_id: account.private_key_id.clone(),
            key: Rs256::from_pem(&account.private_key)?,
            held: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// A token that works at `now`. The first who finds it missing or old fetches a new one; while the old one still
    /// works, the others go on with it.
    pub(super) async fn get(&self, now: Timestamp) -> Result<Arc<Access>, Outcome> {
        let current = self.held().current.clone();
        let Some(access) = current.filter(|access| now < access.expires_at) else {
            let _alone = self.fetching.lock().await;
            return self.found_or_fetched(now).await;
        };
        if now < access.expires_at.minus(EARLY) {
            return Ok(access);
        }
        match self.fetching.try_lock() {
            Ok(_alone) => Ok(self.found_or_fetched(now).await.unwrap_or(access)),
            Err(_) => Ok(access),
        }
    }

    /// Forgets a token that the provider no longer takes.
    pub(super) fn refused(&self, access: &Arc<Access>) {
        let mut held = self.held();
        if held.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, access)) {
            held.current = None;
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // std Mutex, not tokio's: the guard never crosses an await.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called by one at a time: what somebody else has just fetched, or a new one.
    async fn found_or_fetched(&self, now: Timestamp) -> Result<Arc<Access>, Outcome> {
        {
            let held = self.held();
            if let Some(access) = held.current.as_ref().filter(|access| now < access.expires_at.minus(EARLY)) {
                return Ok(Arc::clone(access));
            }
            if let Some((_, failure)) = held.failed.as_ref().filter(|(at, _)| now < at.plus(FAILURE_HOLDS)) {
                return Err(failure.clone());
            }
        }
        let fetched = self.fetch(now).await;
        let mut held = self.held();
        match fetched {
            Ok(access) => {
                let access = Arc::new(access);
                *held = Held { current: Some(Arc::clone(&access)), failed: None };
                Ok(access)
            }
            Err(outcome) => {
                held.failed = Some((now, outcome.clone()));
                Err(outcome)
            }
        }
    }

    async fn fetch(&self, now: Timestamp) -> Result<Access, Outcome> {
        let later = |code| Outcome::Later { code, after: None };
        let iat = now.as_seconds();
        let claims = Claims {
            iss: &self.email,
            scope: SCOPE,
            aud: &self.audience,
            iat,
            exp: now.plus(ASSERTION_LIFE).as_seconds(),
        };
        let key_id = Some(self.key_id.as_str()).filter(|id| !id.is_empty());
        let assertion = self.key.sign(key_id, &claims).map_err(|_| later("signing_failed"))?;
        let body = Bytes::from(format!("{GRANT}{assertion}"));
        let length = body.len();
        let request = || {
            let mut headers = HeaderMap::with_capacity(2);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            post(self.uri.clone(), headers)
        };
        // No message was in this request, so no message can have arrived by it, answer or not.
        let reply = self.client.post(&self.origin, request, body).await.map_err(|_| later("token_unavailable"))?;
        if !reply.status.is_success() {
            tracing::warn!(status = reply.status.as_u16(), "no access token for Firebase");
            let code = if reply.status.is_client_error() { "token_refused" } else { "token_unavailable" };
            return Err(Outcome::Later { code, after: retry_after(&reply.headers, now) });
        }
        let granted: Granted = serde_json::from_slice(&reply.body).map_err(|_| later("token_unreadable"))?;
        let authorization = HeaderValue::from_str(&format!("Bearer {}", granted.access_token))
            .map_err(|_| later("token_unreadable"))?;
        Ok(Access { authorization, expires_at: now.plus(Duration::from_secs(granted.expires_in)) })
    }
}
