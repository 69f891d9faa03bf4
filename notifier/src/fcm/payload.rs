//! The message as Firebase wants it.

use std::time::Duration;

use serde::Serialize;
use todoke_domain::Timestamp;

use crate::{Kind, Outcome, Outgoing, Speed, expiry, shorten::fit, tag::tag};

/// Longest message that Firebase takes, bytes. We count the whole request, which is on the safe side.
const BYTES_MAX: usize = 4_096;
/// Longest time that Firebase keeps a message.
const LIFE_MAX: Duration = Duration::from_secs(28 * 86_400);
/// Longest analytics label.
const LABEL_MAX: usize = 50;

/// How notifications look in this installation.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) data_only: bool,
    pub(super) android_channel: String,
}

#[derive(Serialize)]
struct Envelope<'a> {
    message: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    token: &'a str,
    data: Data<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<Notification<'a>>,
    android: Android<'a>,
    apns: Apns<'a>,
    webpush: WebPush<'a>,
    fcm_options: Options<'a>,
}

/// What the app reads. Firebase takes only texts here.
#[derive(Serialize)]
struct Data<'a> {
    message_id: &'a str,
    kind: &'static str,
    tag: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    link: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a str>,
}

#[derive(Serialize)]
struct Notification<'a> {
    title: &'a str,
    body: &'a str,
}

#[derive(Serialize)]
struct Android<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse_key: Option<&'a str>,
    priority: &'static str,
    ttl: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<AndroidNotification<'a>>,
}

#[derive(Serialize)]
struct AndroidNotification<'a> {
    tag: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_priority: Option<&'static str>,
}

#[derive(Serialize)]
struct Apns<'a> {
    headers: ApnsHeaders<'a>,
    payload: ApnsPayload,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ApnsHeaders<'a> {
    apns_push_type: &'static str,
    apns_priority: &'static str,
    apns_expiration: &'a str,
    apns_collapse_id: &'a str,
}

#[derive(Serialize)]
struct ApnsPayload {
    aps: Aps,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Aps {
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_available: Option<u8>,
}

#[derive(Serialize)]
struct WebPush<'a> {
    headers: WebPushHeaders<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<WebNotification<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fcm_options: Option<WebOptions<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WebPushHeaders<'a> {
    #[serde(rename = "TTL")]
    ttl: &'a str,
    urgency: &'static str,
    topic: &'a str,
}

#[derive(Serialize)]
struct WebNotification<'a> {
    tag: &'a str,
    silent: bool,
}

#[derive(Serialize)]
struct WebOptions<'a> {
    link: &'a str,
}

#[derive(Serialize)]
struct Options<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    analytics_label: &'a str,
}

/// The request's body, shortened to what Firebase takes.
pub(super) fn payload(outgoing: &Outgoing, token: &str, form: &Form, now: Timestamp) -> Result<Vec<u8>, Outcome> {
    let life = expiry::life(outgoing, LIFE_MAX, now)?;
    let tag = tag(outgoing);
    let words = Words {
        outgoing,
        token,
        form,
        tag: &tag,
        message_id: &outgoing.message_id.to_string(),
        badge: outgoing.badge.map(|n| n.to_string()),
        ttl: &format!("{}s", life.as_secs()),
        ttl_s: &life.as_secs().to_string(),
        ends_at_s: &now.plus(life).as_seconds().to_string(),
        label: &label(&outgoing.label),
    };
    fit(BYTES_MAX, &outgoing.title, &outgoing.body, |title, body| words.json(title, body))
        .ok_or(Outcome::Refused { code: "too_large" })
}

/// Everything that was worked out once, however often the text is shortened.
struct Words<'a> {
    outgoing: &'a Outgoing,
    token: &'a str,
    form: &'a Form,
    tag: &'a str,
    message_id: &'a str,
    badge: Option<String>,
    ttl: &'a str,
    ttl_s: &'a str,
    ends_at_s: &'a str,
    label: &'a str,
}

impl Words<'_> {
    fn json(&self, title: &str, body: &str) -> Vec<u8> {
        let Self { outgoing, tag, .. } = *self;
        let withdraw = outgoing.kind == Kind::Withdraw;
        let quiet = outgoing.kind == Kind::Test;
        let shown = !withdraw && !self.form.data_only;
        let words = (!withdraw && self.form.data_only).then_some((title, body));
        let message = Message {
            token: self.token,
            data: Data {
                message_id: self.message_id,
                kind: outgoing.kind.code(),
                tag,
                link: &outgoing.link,
                title: words.map(|(title, _)| title),
                body: words.map(|(_, body)| body),
                badge: self.badge.as_deref(),
                receipt: outgoing.receipt.as_deref(),
            },
            notification: shown.then_some(Notification { title, body }),
            android: Android {
                // Google keeps four keys for a device that is away, and a hundred messages without one. Notification
                // messages collapse in any case, without a key of their own under the app's.
                collapse_key: (!self.form.data_only || outgoing.collapse_key.is_some()).then_some(tag),
                priority: if urgent(outgoing) { "high" } else { "normal" },
                ttl: self.ttl,
                notification: shown.then_some(AndroidNotification {
                    tag,
                    channel_id: &self.form.android_channel,
                    notification_count: outgoing.badge,
                    notification_priority: quiet.then_some("PRIORITY_LOW"),
                }),
            },
            apns: Apns {
                headers: ApnsHeaders {
                    apns_push_type: if shown { "alert" } else { "background" },
                    apns_priority: if shown && urgent(outgoing) { "10" } else { "5" },
                    apns_expiration: self.ends_at_s,
                    apns_collapse_id: tag,
                },
                payload: ApnsPayload {
                    aps: Aps {
                        // In the background it is in `data` only: keys for the eye or ear may cost the push.
                        badge: outgoing.badge.filter(|_| shown),
                        sound: (shown && !quiet).then_some("default"),
                        content_available: (!shown).then_some(1),
                    },
                },
            },
            webpush: WebPush {
                headers: WebPushHeaders { ttl: self.ttl_s, urgency: outgoing.speed.urgency(), topic: tag },
                notification: shown.then_some(WebNotification { tag, silent: quiet }),
                // Firebase takes only https links here; ours are that wherever people use them.
                fcm_options: (shown && outgoing.link.starts_with("https://"))
                    .then_some(WebOptions { link: &outgoing.link }),
            },
            fcm_options: Options { analytics_label: self.label },
        };
        serde_json::to_vec(&Envelope { message }).unwrap_or_default()
    }
}

fn urgent(outgoing: &Outgoing) -> bool {
    outgoing.kind == Kind::Notification && outgoing.speed == Speed::Now
}

/// The message type as an analytics label: what Firebase does not allow becomes `_`.
fn label(raw: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '%');
    raw.chars().take(LABEL_MAX).map(|c| if allowed(c) { c } else { '_' }).collect()
}
