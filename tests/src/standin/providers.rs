//! All three push providers for a running server, and the devices they serve.

use serde_json::json;
use todoke_domain::{Timestamp, ids::DeviceId};
use todoke_notifier::web_push::VapidKeys;

use super::{APPLE_KEY_ID, APPLE_TEAM_ID, APPLE_TOPIC, Apple, Google, RsaKey, Seen, Speaks, Standin, Subscriber};
use crate::http::Client;

/// Begins the tokens of Android phones; the demo's begin otherwise.
const PHONE: &str = "phone-";

/// Google, Apple and the push service of a browser.
#[derive(Debug)]
pub struct Providers {
    /// Google.
    pub google: Google,
    /// Apple.
    pub apple: Apple,
    /// The browser's push service.
    pub service: Standin,
    /// The browser; all browsers have its keys.
    pub subscriber: Subscriber,
    keys: VapidKeys,
}

impl Providers {
    /// Starts them all; they remember what they are sent.
    pub async fn start() -> Self {
        Self {
            google: Google::start(RsaKey::generate().await, 3_600, true).await,
            apple: Apple::start(true).await,
            service: Subscriber::service(Speaks::Both, true).await,
            subscriber: Subscriber::new().await,
            keys: VapidKeys::generate().unwrap(),
        }
    }

    /// What makes a server send to them.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let (google, apple) = (&self.google, &self.apple);
        vec![
            ("TODOKE_FCM__SERVICE_ACCOUNT_JSON", google.account_json()),
            ("TODOKE_FCM__BASE_URL", google.messages.url()),
            ("TODOKE_FCM__TOKEN_URL", format!("{}/token", google.tokens.url())),
            ("TODOKE_FCM__EXTRA_ROOTS_PEM", google.messages.roots_pem()),
            ("TODOKE_APNS__KEY_PEM", apple.key_pem.clone()),
            ("TODOKE_APNS__KEY_ID", APPLE_KEY_ID.to_owned()),
            ("TODOKE_APNS__TEAM_ID", APPLE_TEAM_ID.to_owned()),
            ("TODOKE_APNS__TOPIC", APPLE_TOPIC.to_owned()),
            ("TODOKE_APNS__BASE_URL", apple.production.url()),
            ("TODOKE_APNS__SANDBOX_URL", apple.sandbox.url()),
            ("TODOKE_APNS__EXTRA_ROOTS_PEM", apple.production.roots_pem()),
            ("TODOKE_WEB_PUSH__PUBLIC_KEY", self.keys.public_key.clone()),
            ("TODOKE_WEB_PUSH__PRIVATE_KEY", self.keys.private_key.clone()),
            ("TODOKE_WEB_PUSH__SUBJECT", "mailto:desk@todoke.example.jp".to_owned()),
            ("TODOKE_WEB_PUSH__EXTRA_ROOTS_PEM", self.service.roots_pem()),
            ("TODOKE_WEB_PUSH__ALLOW_PRIVATE_ADDRESSES", "true".to_owned()),
        ]
    }

    /// Gives a signed-in person an Android phone, an iPhone and a browser that nobody else has, and takes away all
    /// other devices, such as those the demo made up; `n` tells people apart.
    pub async fn equip(&self, who: &Client, n: usize) {
        let known = who.get("/v1/devices").await.expect(200);
        for device in known["items"].as_array().expect("devices") {
            let id = device["device_id"].as_str().expect("an id");
            who.delete(&format!("/v1/devices/{id}")).await.expect(204);
        }
        let Subscriber { p256dh, auth, .. } = &self.subscriber;
        for device in [
            json!({ "kind": "fcm", "token": format!("{PHONE}{n}"), "permission": "granted", "platform": "android" }),
            json!({ "kind": "apns", "token": format!("{n:064x}"), "permission": "granted", "platform": "ios" }),
            json!({
                "kind": "webpush", "endpoint": format!("{}/push/{n}", self.service.url()),
                "keys": { "p256dh": p256dh, "auth": auth }, "permission": "granted", "platform": "web",
            }),
        ] {
            let id = DeviceId::new(Timestamp::from_micros(1_795_240_800_000_000));
            who.put(&format!("/v1/devices/{id}"), &device).await.expect(200);
        }
    }

    /// Each of them.
    pub fn all(&self) -> [Provider<'_>; 3] {
        [
            Provider { name: "fcm", standin: &self.google.messages, tag_of: fcm_tag },
            Provider { name: "apns", standin: &self.apple.production, tag_of: apns_tag },
            Provider { name: "web_push", standin: &self.service, tag_of: web_push_tag },
        ]
    }
}

/// One of the providers.
#[derive(Clone, Copy, Debug)]
pub struct Provider<'a> {
    /// Name, as in the settings.
    pub name: &'static str,
    /// Its server; Apple's for released apps.
    pub standin: &'a Standin,
    /// The tag of a push to one of these devices; `None` when it was for another's.
    pub tag_of: fn(&Seen) -> Option<String>,
}

fn fcm_tag(seen: &Seen) -> Option<String> {
    let push = seen.json();
    let message = &push["message"];
    message["token"].as_str().filter(|token| token.starts_with(PHONE))?;
    Some(message["data"]["tag"].as_str()?.to_owned())
}

fn apns_tag(seen: &Seen) -> Option<String> {
    Some(seen.header("apns-collapse-id").to_owned())
}

fn web_push_tag(seen: &Seen) -> Option<String> {
    Some(seen.header("topic").to_owned())
}
