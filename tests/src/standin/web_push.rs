//! A browser that subscribed, and its push service. What arrives is decrypted and its sender verified by Node.js, with
//! the `http_ece` package and the platform's own cryptography.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Identity, Seen, Setup, Speaks, Standin};
use crate::push_peer;

/// A browser's subscription, with the keys that only the browser has.
#[derive(Clone, Debug, Deserialize)]
pub struct Subscriber {
    /// Public key, base64url.
    pub p256dh: String,
    /// Authentication secret, base64url.
    pub auth: String,
    private_key: String,
}

/// What the browser finds in a push.
#[derive(Clone, Debug, Deserialize)]
pub struct Opened {
    /// The payload.
    pub plain: Value,
    /// The signed claims of the sender; the signature fits the key.
    pub claims: Value,
    /// The sender's public key, base64url.
    pub sender_key: String,
}

impl Subscriber {
    /// A new subscription, with keys made by Node.js.
    pub async fn new() -> Self {
        serde_json::from_value(push_peer::ask("subscribe.mjs", &json!({})).await).unwrap()
    }

    /// Decrypts a push and verifies its sender. Panics when either is not right.
    pub async fn open(&self, seen: &Seen) -> Opened {
        let request = json!({
            "private_key": self.private_key, "auth": self.auth,
            "body": BASE64_STANDARD.encode(&seen.body), "authorization": seen.header("authorization"),
        });
        serde_json::from_value(push_peer::ask("open.mjs", &request).await).unwrap()
    }

    /// A push service with endpoints under `/push/`, as RFC 8030 wants it.
    pub async fn service(speaks: Speaks, remembers: bool) -> Standin {
        let identity = Identity::localhost();
        let service = Arc::new(|seen: &Seen| answer(seen));
        Standin::start(Setup { identity: &identity, speaks, remembers }, service).await
    }
}

fn answer(seen: &Seen) -> Answer {
    let topic = seen.header("topic");
    let topic_fits = topic.len() <= 32 && topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let right = seen.path.starts_with("/push/")
        && seen.header("content-encoding") == "aes128gcm"
        && seen.header("ttl").parse::<u64>().is_ok()
        && topic_fits
        && ["", "very-low", "low", "normal", "high"].contains(&seen.header("urgency"));
    if !right {
        return Answer::new(400, "");
    }
    if !seen.header("authorization").starts_with("vapid t=") {
        return Answer::new(401, "");
    }
    if seen.body.len() > 4_096 {
        return Answer::new(413, "");
    }
    Answer::new(201, "").with("location", "https://localhost/message/1")
}
