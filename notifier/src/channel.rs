//! The seam between what has to be sent and how it travels: one [`Outgoing`] to one [`Address`], one [`Outcome`].

use std::time::Duration;

use async_trait::async_trait;
use todoke_domain::{Timestamp, ids::MessageId};

/// Where a delivery goes.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// A device registered with Firebase Cloud Messaging.
    Fcm {
        /// Registration token of the app's installation.
        token: String,
    },
    /// A device registered with Apple.
    Apns {
        /// Device token, hexadecimal.
        token: String,
        /// Whether the app is a development build, which Apple serves from another host.
        sandbox: bool,
    },
    /// A browser's push subscription (RFC 8030).
    WebPush {
        /// Absolute `https` URL given by the browser.
        endpoint: String,
        /// The browser's public key, an uncompressed P-256 point in base64url.
        p256dh: String,
        /// The browser's authentication secret, 16 bytes in base64url.
        auth: String,
    },
    /// A mailbox.
    Email {
        /// `user@example.jp`.
        address: String,
    },
}

impl std::fmt::Debug for Address {
    /// The kind only: an address is personal data and a token is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fcm { .. } => "Fcm",
            Self::Apns { .. } => "Apns",
            Self::WebPush { .. } => "WebPush",
            Self::Email { .. } => "Email",
        })
    }
}

/// How fast a message has to arrive (messages.md §1). Becomes the priority or urgency of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// At once, also at night.
    Now,
    /// Within a minute.
    Minute,
    /// When it suits.
    Batch,
}

impl Speed {
    /// The `Urgency` of Web Push (RFC 8030).
    pub(crate) fn urgency(self) -> &'static str {
        match self {
            Self::Now => "high",
            Self::Minute => "normal",
            Self::Batch => "low",
        }
    }
}

/// What the device does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Shows it.
    Notification,
    /// Takes back: a silent update that clears the notification shown with the same collapse key.
    Withdraw,
    /// Shows it without sound: the person tries out the channel.
    Test,
}

impl Kind {
    /// `kind` in payloads.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Notification => "notification",
            Self::Withdraw => "withdraw",
            Self::Test => "test",
        }
    }
}

/// One message to one address, in the words that may travel: privacy in transit is already applied.
#[derive(Clone)]
pub struct Outgoing {
    /// The message; the same on every channel.
    pub message_id: MessageId,
    /// Where to.
    pub address: Address,
    /// What the device does with it.
    pub kind: Kind,
    /// How fast.
    pub speed: Speed,
    /// Heading, or subject of a mail.
    pub title: String,
    /// Text.
    pub body: String,
    /// Absolute URL of the screen that belongs to it; empty when there is none.
    pub link: String,
    /// What it is about: a newer message with the same key replaces an older one; `None` where nothing but itself does.
    /// Channels hash it to their limits.
    pub collapse_key: Option<String>,
    /// Message type id, for the provider's statistics.
    pub label: String,
    /// When it is no longer worth showing.
    pub expires_at: Option<Timestamp>,
    /// Unread messages, for the app's icon.
    pub badge: Option<u32>,
    /// Absolute URL that ends messages of this category by one POST (RFC 8058); optional classes only.
    pub unsubscribe: Option<String>,
    /// Opaque token that the device sends back with its receipts.
    pub receipt: Option<String>,
    /// Sender of a mail where it is not the configured one.
    pub from: Option<String>,
}

impl std::fmt::Debug for Outgoing {
    /// Without words and addresses: they do not belong into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing")
            .field("message_id", &self.message_id)
            .field("address", &self.address)
            .field("kind", &self.kind)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// What became of one attempt. Codes are stable, lower case, and safe to store and show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has taken it.
    Accepted {
        /// The provider's name for it.
        provider_id: Option<String>,
    },
    /// Not now.
    Later {
        /// Why.
        code: &'static str,
        /// Wait that the provider asked for.
        after: Option<Duration>,
    },
    /// The address is dead.
    Gone {
        /// Why.
        code: &'static str,
        /// Since when, by the provider's clock: a device that registered after it stays.
        since: Option<Timestamp>,
    },
    /// This message can never go out; the address is fine.
    Refused {
        /// Why.
        code: &'static str,
    },
    /// It was written and no answer came: it may have arrived. Push channels collapse a second copy on the device;
    /// mail does not.
    Doubtful {
        /// Why.
        code: &'static str,
    },
}

/// Whom a failed attempt speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The provider, or the way to it.
    Provider,
    /// One recipient: the provider takes what is for others.
    Recipient,
    /// What the recipient registered, or our settings: the settings as long as the provider has taken nothing of ours.
    RecipientOrSettings,
}

impl Outcome {
    /// Whom it speaks of; `None` when an answer settled the attempt.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Self::Accepted { .. } | Self::Gone { .. } | Self::Refused { .. } => None,
            Self::Doubtful { .. } => Some(Blame::Provider),
            Self::Later { code, .. } => Some(match *code {
                "mailbox_busy" | "device_busy" | "bad_device_token" => Blame::Recipient,
                "device_token_not_for_topic" | "vapid_refused" => Blame::RecipientOrSettings,
                _ => Blame::Provider,
            }),
        }
    }
}

/// A way to reach people.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Stable name: `fcm`, `apns`, `web_push` or `email`.
    fn name(&self) -> &'static str;

    /// Makes one attempt and says what became of it; never retries by itself, except where a token or a payload had
    /// to be renewed first. An address of another channel is [`Outcome::Refused`] with `wrong_channel`.
    ///
    /// Not cancel safe: dropped half-way, the message may have gone out.
    async fn send(&self, outgoing: &Outgoing, now: Timestamp) -> Outcome;
}
