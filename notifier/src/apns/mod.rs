//! Apple Push Notification service with token authentication.

mod answer;
mod payload;
mod settings;
mod signer;

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, header, uri::PathAndQuery};
use todoke_domain::Timestamp;

pub use self::settings::{ApnsError, ApnsSettings};
use self::{
    answer::Meaning,
    payload::Payload,
    signer::{Signed, Signer},
};
use crate::{
    Address, Channel, Outcome, Outgoing,
    http::{HttpClient, Limits, Origin, Reach, Reply, Roots, post},
};

const APNS_ID: HeaderName = HeaderName::from_static("apns-id");
const APNS_COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");
const APNS_EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
const APNS_PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
const APNS_PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
const APNS_TOPIC: HeaderName = HeaderName::from_static("apns-topic");

/// The channel to Apple devices: one HTTP/2 connection to each of Apple's two environments, one signer for both.
#[derive(Debug)]
pub struct Apns {
    client: HttpClient,
    production: Environment,
    sandbox: Environment,
    topic: HeaderValue,
    signer: Signer,
}

/// One of Apple's two environments.
#[derive(Debug)]
struct Environment {
    origin: Origin,
    has_accepted: AtomicBool,
}

impl Environment {
    fn new(url: &str) -> Result<Self, ApnsError> {
        let (origin, _) = Origin::split(url).map_err(ApnsError::BaseUrl)?;
        Ok(Self { origin, has_accepted: AtomicBool::new(false) })
    }

    fn meaning(&self, reply: &Reply, now: Timestamp) -> Meaning {
        let meaning = answer::meaning(reply, now, self.has_accepted.load(Ordering::Relaxed));
        if matches!(meaning, Meaning::Final(Outcome::Accepted { .. })) {
            self.has_accepted.store(true, Ordering::Relaxed);
        }
        meaning
    }
}

impl Apns {
    /// A channel to one app.
    pub fn new(settings: &ApnsSettings) -> Result<Self, ApnsError> {
        let roots = Roots::new(&settings.extra_roots_pem)?;
        let limits = Limits { connect: settings.connect_timeout(), answer: settings.answer_timeout() };
        Ok(Self {
            client: HttpClient::new(roots, Reach::Anywhere, limits),
            production: Environment::new(&settings.base_url)?,
            sandbox: Environment::new(&settings.sandbox_url)?,
            topic: settings
                .topic
                .parse()
                .ok()
                .filter(|topic: &HeaderValue| !topic.is_empty())
                .ok_or(ApnsError::Topic)?,
            signer: Signer::new(settings)?,
        })
    }

    async fn post(
        &self,
        origin: &Origin,
        path: &PathAndQuery,
        payload: &Payload,
        signed: &Signed,
    ) -> Result<Reply, Outcome> {
        let request = || {
            let mut headers = payload.headers(&self.topic);
            headers.insert(header::AUTHORIZATION, signed.authorization());
            post(origin.uri(path.clone()), headers)
        };
        self.client.post(origin, request, payload.body.clone()).await.map_err(Outcome::from)
    }

    async fn attempt(
        &self,
        outgoing: &Outgoing,
        token: &str,
        sandbox: bool,
        now: Timestamp,
    ) -> Result<Outcome, Outcome> {
        // It becomes part of a path.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Outcome::Gone { code: "bad_device_token", since: None });
        }
        let path: PathAndQuery = format!("/3/device/{token}")
            .parse()
            .map_err(|_| Outcome::Gone { code: "bad_device_token", since: None })?;
        let payload = Payload::new(outgoing, now)?;
        let environment = if sandbox { &self.sandbox } else { &self.production };
        let origin = &environment.origin;
        let signed = self.signer.token(now)?;
        let reply = self.post(origin, &path, &payload, &signed).await?;
        match environment.meaning(&reply, now) {
            Meaning::Final(outcome) => Ok(outcome),
            Meaning::TokenExpired => {
                let expired = Outcome::Later { code: "expired_provider_token", after: None };
                let signed = self.signer.renewed(&signed, now).ok_or(expired.clone())?;
                let reply = self.post(origin, &path, &payload, &signed).await?;
                Ok(match environment.meaning(&reply, now) {
                    Meaning::Final(outcome) => outcome,
                    Meaning::TokenExpired => expired,
                })
            }
        }
    }
}

#[async_trait]
impl Channel for Apns {
    fn name(&self) -> &'static str {
        "apns"
    }

    async fn send(&self, outgoing: &Outgoing, now: Timestamp) -> Outcome {
        let Address::Apns { token, sandbox } = &outgoing.address else {
            return Outcome::Refused { code: "wrong_channel" };
        };
        self.attempt(outgoing, token, *sandbox, now).await.unwrap_or_else(|outcome| outcome)
    }
}
