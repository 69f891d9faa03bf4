//! The notification as Apple wants it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use todoke_domain::Timestamp;

use super::{APNS_COLLAPSE_ID, APNS_EXPIRATION, APNS_ID, APNS_PRIORITY, APNS_PUSH_TYPE, APNS_TOPIC};
use crate::{Kind, Outcome, Outgoing, Speed, expiry, http::once, shorten::fit, tag::tag};

/// Longest payload that Apple takes, bytes.
const BYTES_MAX: usize = 4_096;
/// Longest time that we ask Apple to keep trying.
const LIFE_MAX: Duration = Duration::from_secs(28 * 86_400);

/// A request without its authorisation.
pub(super) struct Payload {
    pub(super) body: Bytes,
    message_id: HeaderValue,
    tag: HeaderValue,
    expiration: HeaderValue,
    shown: bool,
    urgent: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    aps: Aps<'a>,
    message_id: &'a str,
    kind: &'static str,
    tag: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    link: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Aps<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<Alert<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interruption_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_available: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutable_content: Option<u8>,
}

#[derive(Serialize)]
struct Alert<'a> {
    title: &'a str,
    body: &'a str,
}

impl Payload {
    pub(super) fn new(outgoing: &Outgoing, now: Timestamp) -> Result<Self, Outcome> {
        let life = expiry::life(outgoing, LIFE_MAX, now)?;
        let tag = tag(outgoing);
        let message_id = outgoing.message_id.to_string();
        let shown = outgoing.kind != Kind::Withdraw;
        let build = |title: &str, body: &str| {
            let body = Body {
                aps: aps(outgoing, &tag, shown.then_some(Alert { title, body })),
                message_id: &message_id,
                kind: outgoing.kind.code(),
                tag: &tag,
                link: &outgoing.link,
                receipt: outgoing.receipt.as_deref(),
            };
            serde_json::to_vec(&body).unwrap_or_default()
        };
        let body =
            fit(BYTES_MAX, &outgoing.title, &outgoing.body, build).ok_or(Outcome::Refused { code: "too_large" })?;
        let text = |text: String| {
            HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|_| Outcome::Refused { code: "bad_header" })
        };
        Ok(Self {
            body: Bytes::from(body),
            message_id: once(text(message_id)?),
            tag: once(text(tag)?),
            expiration: once(HeaderValue::from(now.plus(life).as_seconds())),
            shown,
            urgent: outgoing.kind == Kind::Notification && outgoing.speed == Speed::Now,
        })
    }

    pub(super) fn headers(&self, topic: &HeaderValue) -> HeaderMap {
        // With room for the authorisation.
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(APNS_PUSH_TYPE, HeaderValue::from_static(if self.shown { "alert" } else { "background" }));
        headers.insert(APNS_PRIORITY, HeaderValue::from_static(if self.urgent { "10" } else { "5" }));
        headers.insert(APNS_TOPIC, topic.clone());
        headers.insert(APNS_ID, self.message_id.clone());
        headers.insert(APNS_COLLAPSE_ID, self.tag.clone());
        headers.insert(APNS_EXPIRATION, self.expiration.clone());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        headers
    }
}

fn aps<'a>(outgoing: &Outgoing, tag: &'a str, alert: Option<Alert<'a>>) -> Aps<'a> {
    let quiet = outgoing.kind == Kind::Test;
    let level = match (outgoing.kind, outgoing.speed) {
        (Kind::Test, _) | (Kind::Notification, Speed::Batch) => Some("passive"),
        (Kind::Notification, Speed::Now | Speed::Minute) => Some("active"),
        (Kind::Withdraw, _) => None,
    };
    let shown = alert.is_some();
    Aps {
        alert,
        badge: outgoing.badge,
        sound: (shown && !quiet).then_some("default"),
        thread_id: (shown && outgoing.collapse_key.is_some()).then_some(tag),
        interruption_level: level,
        content_available: (!shown).then_some(1),
        // Lets the app's notification extension send the receipt before anybody opens it.
        mutable_content: (shown && outgoing.receipt.is_some()).then_some(1),
    }
}
