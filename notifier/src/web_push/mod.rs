//! Web Push: RFC 8030 (delivery), 8291 (encryption) and 8292 (VAPID).

mod encrypt;
mod payload;
mod settings;
mod vapid;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use todoke_domain::Timestamp;

use self::{encrypt::Subscription, payload::Words, vapid::Vapid};
pub use self::{
    settings::{WebPushError, WebPushSettings},
    vapid::VapidKeys,
};
use crate::{
    Address, Channel, Outcome, Outgoing,
    http::{HttpClient, Limits, Origin, Reach, Reply, Roots, once, post, retry_after},
    tag::tag,
};

const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");
const TOPIC: HeaderName = HeaderName::from_static("topic");

/// The channel to browsers, over whatever push service each of them has chosen.
#[derive(Debug)]
pub struct WebPush {
    client: HttpClient,
    vapid: Vapid,
    https_only: bool,
}

impl WebPush {
    /// A channel that signs with the configured keys.
    pub fn new(settings: &WebPushSettings) -> Result<Self, WebPushError> {
        let roots = Roots::new(&settings.extra_roots_pem)?;
        let limits = Limits { connect: settings.connect_timeout(), answer: settings.answer_timeout() };
        let reach = if settings.allow_private_addresses { Reach::Anywhere } else { Reach::PublicOnly };
        Ok(Self {
            client: HttpClient::new(roots, reach, limits),
            vapid: Vapid::new(settings)?,
            https_only: !settings.allow_private_addresses,
        })
    }

    async fn attempt(
        &self,
        outgoing: &Outgoing,
        endpoint: &str,
        subscription: &Subscription,
        now: Timestamp,
    ) -> Result<Outcome, Outcome> {
        let bad_endpoint = Outcome::Gone { code: "bad_endpoint", since: None };
        let (origin, path) = Origin::split(endpoint).map_err(|_| bad_endpoint.clone())?;
        if self.https_only && !origin.is_https() {
            return Err(bad_endpoint);
        }
        let tag = tag(outgoing);
        let words = Words::new(outgoing, &tag, now)?;
        let uri = origin.uri(path);
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::AUTHORIZATION, self.vapid.authorization(&origin, now)?);
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("aes128gcm"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(TTL, HeaderValue::from(words.life().as_secs()));
        headers.insert(URGENCY, HeaderValue::from_static(outgoing.speed.urgency()));
        let topic = HeaderValue::from_str(&tag).map_err(|_| Outcome::Refused { code: "bad_header" })?;
        headers.insert(TOPIC, once(topic));
        let reply = self.post(&origin, (&uri, &headers), &words.json(encrypt::PLAIN_BYTES_MAX)?, subscription).await?;
        if reply.status != StatusCode::PAYLOAD_TOO_LARGE {
            return Ok(meaning(&reply, now));
        }
        // A service with a lower limit than the standard's: once with hardly more than the heading.
        let reply = self.post(&origin, (&uri, &headers), &words.json(encrypt::SHORT_BYTES_MAX)?, subscription).await?;
        Ok(meaning(&reply, now))
    }

    async fn post(
        &self,
        origin: &Origin,
        (uri, headers): (&Uri, &HeaderMap),
        plain: &[u8],
        subscription: &Subscription,
    ) -> Result<Reply, Outcome> {
        let body =
            subscription.encrypt(plain).map_err(|_| Outcome::Later { code: "encryption_failed", after: None })?;
        let length = body.len();
        let request = || {
            let mut headers = headers.clone();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            post(uri.clone(), headers)
        };
        match self.client.post(origin, request, Bytes::from(body)).await {
            // An endpoint inside our network is not a browser's: no later attempt would make it one.
            Err(crate::http::Failure::NotSent(crate::http::NOT_ALLOWED)) => {
                Err(Outcome::Gone { code: crate::http::NOT_ALLOWED, since: None })
            }
            result => result.map_err(Outcome::from),
        }
    }
}

#[async_trait]
impl Channel for WebPush {
    fn name(&self) -> &'static str {
        "web_push"
    }

    async fn send(&self, outgoing: &Outgoing, now: Timestamp) -> Outcome {
        let Address::WebPush { endpoint, p256dh, auth } = &outgoing.address else {
            return Outcome::Refused { code: "wrong_channel" };
        };
        let Some(subscription) = Subscription::parse(p256dh, auth) else {
            return Outcome::Gone { code: "bad_subscription", since: None };
        };
        self.attempt(outgoing, endpoint, &subscription, now).await.unwrap_or_else(|outcome| outcome)
    }
}

fn meaning(reply: &Reply, now: Timestamp) -> Outcome {
    let after = retry_after(&reply.headers, now);
    match reply.status {
        status if status.is_success() => {
            let location = reply.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            Outcome::Accepted { provider_id: location.map(str::to_owned) }
        }
        StatusCode::NOT_FOUND => Outcome::Gone { code: "not_found", since: None },
        StatusCode::GONE => Outcome::Gone { code: "unsubscribed", since: None },
        StatusCode::TOO_MANY_REQUESTS => Outcome::Later { code: "too_many_requests", after },
        StatusCode::REQUEST_TIMEOUT => Outcome::Later { code: "request_timeout", after },
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::Refused { code: "too_large" },
        // A wrong clock or key of ours, which an operator can mend, or a subscription made for another key.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Later { code: "vapid_refused", after },
        status if status.is_server_error() => Outcome::Later { code: "unavailable", after },
        _ => Outcome::Refused { code: "refused" },
    }
}
