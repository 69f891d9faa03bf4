//! What the service worker reads.

use std::time::Duration;

use serde::Serialize;
use todoke_domain::Timestamp;

use crate::{Kind, Outcome, Outgoing, expiry, shorten::fit};

/// Longest time that we ask a push service to keep trying; most allow four weeks.
const LIFE_MAX: Duration = Duration::from_secs(28 * 86_400);

#[derive(Serialize)]
struct Body<'a> {
    message_id: &'a str,
    kind: &'static str,
    tag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    link: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a str>,
}

/// A message on its way into a payload.
pub(super) struct Words<'a> {
    outgoing: &'a Outgoing,
    tag: &'a str,
    message_id: String,
    life: Duration,
}

impl<'a> Words<'a> {
    pub(super) fn new(outgoing: &'a Outgoing, tag: &'a str, now: Timestamp) -> Result<Self, Outcome> {
        let life = expiry::life(outgoing, LIFE_MAX, now)?;
        Ok(Self { outgoing, tag, message_id: outgoing.message_id.to_string(), life })
    }

    /// How long the service shall keep it.
    pub(super) fn life(&self) -> Duration {
        self.life
    }

    /// The payload in at most `bytes_max` bytes.
    pub(super) fn json(&self, bytes_max: usize) -> Result<Vec<u8>, Outcome> {
        let outgoing = self.outgoing;
        let shown = outgoing.kind != Kind::Withdraw;
        let build = |title: &str, body: &str| {
            let body = Body {
                message_id: &self.message_id,
                kind: outgoing.kind.code(),
                tag: self.tag,
                title: shown.then_some(title),
                body: shown.then_some(body),
                link: &outgoing.link,
                badge: outgoing.badge,
                receipt: outgoing.receipt.as_deref(),
            };
            serde_json::to_vec(&body).unwrap_or_default()
        };
        fit(bytes_max, &outgoing.title, &outgoing.body, build).ok_or(Outcome::Refused { code: "too_large" })
    }
}
