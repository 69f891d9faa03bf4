//! Firebase Cloud Messaging, HTTP v1.

mod access;
mod answer;
mod payload;
mod settings;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use todoke_domain::Timestamp;

pub use self::settings::{FcmError, FcmSettings, ServiceAccount};
use self::{
    access::{Access, AccessTokens},
    answer::Meaning,
    payload::{Form, payload},
};
use crate::{
    Address, Channel, Outcome, Outgoing,
    http::{HttpClient, Limits, Origin, Reach, Reply, Roots, post},
};

/// The channel to Android devices, and to others whose app uses Firebase.
#[derive(Debug)]
pub struct Fcm {
    client: HttpClient,
    origin: Origin,
    send: Uri,
    access: AccessTokens,
    form: Form,
}

impl Fcm {
    /// A channel to one Firebase project.
    pub fn new(settings: &FcmSettings) -> Result<Self, FcmError> {
        let account = settings.account()?;
        let roots = Roots::new(&settings.extra_roots_pem)?;
        let limits = Limits { connect: settings.connect_timeout(), answer: settings.answer_timeout() };
        let project = if settings.project_id.is_empty() { &account.project_id } else { &settings.project_id };
        if project.is_empty()
            || !project.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':' | b'.'))
        {
            return Err(FcmError::Project);
        }
        let url = format!("{}/v1/projects/{project}/messages:send", settings.base_url.trim_end_matches('/'));
        let (origin, path) = Origin::split(&url).map_err(FcmError::BaseUrl)?;
        let token_url = if settings.token_url.is_empty() { &account.token_uri } else { &settings.token_url };
        let token_client = HttpClient::new(roots.clone(), Reach::Anywhere, limits);
        Ok(Self {
            client: HttpClient::new(roots, Reach::Anywhere, limits),
            send: origin.uri(path),
            origin,
            access: AccessTokens::new(token_client, token_url, &account)?,
            form: Form { data_only: settings.data_only, android_channel: settings.android_channel.clone() },
        })
    }

    async fn post(&self, access: &Access, body: Bytes) -> Result<Reply, Outcome> {
        let length = body.len();
        let request = || {
            let mut headers = HeaderMap::with_capacity(3);
            headers.insert(header::AUTHORIZATION, access.authorization());
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            post(self.send.clone(), headers)
        };
        self.client.post(&self.origin, request, body).await.map_err(Outcome::from)
    }

    async fn attempt(&self, outgoing: &Outgoing, token: &str, now: Timestamp) -> Result<Outcome, Outcome> {
        let body = Bytes::from(payload(outgoing, token, &self.form, now)?);
        let access = self.access.get(now).await?;
        let reply = self.post(&access, body.clone()).await?;
        match answer::meaning(&reply, now) {
            Meaning::Final(outcome) => Ok(outcome),
            Meaning::TokenRefused => {
                // Revoked or expired early: once with a new one, and if that is refused too, the account is at fault.
                self.access.refused(&access);
                let access = self.access.get(now).await?;
                let reply = self.post(&access, body).await?;
                Ok(match answer::meaning(&reply, now) {
                    Meaning::Final(outcome) => outcome,
                    Meaning::TokenRefused => Outcome::Later { code: "unauthenticated", after: None },
                })
            }
        }
    }
}

#[async_trait]
impl Channel for Fcm {
    fn name(&self) -> &'static str {
        "fcm"
    }

    async fn send(&self, outgoing: &Outgoing, now: Timestamp) -> Outcome {
        let Address::Fcm { token } = &outgoing.address else { return Outcome::Refused { code: "wrong_channel" } };
        self.attempt(outgoing, token, now).await.unwrap_or_else(|outcome| outcome)
    }
}
