//! The short name under which devices and providers replace one notification by a newer one.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};

use crate::Outgoing;

/// Length of a tag: the 32 base64url characters that Web Push allows for a Topic (RFC 8030); Apple allows 64 bytes.
const LENGTH: usize = 32;

/// The tag of a message: a hash of its collapse key, so that it says nothing about its subject; a message without
/// one has a tag of its own, so that a second copy replaces the first.
///
/// It is `apns-collapse-id`, the Web Push `Topic`, the Android notification tag, and `tag` in every payload.
pub fn tag(outgoing: &Outgoing) -> String {
    let hash = match &outgoing.collapse_key {
        Some(key) => digest(&SHA256, key.as_bytes()),
        None => digest(&SHA256, outgoing.message_id.to_string().as_bytes()),
    };
    let mut text = BASE64_URL_SAFE_NO_PAD.encode(hash);
    text.truncate(LENGTH);
    text
}
