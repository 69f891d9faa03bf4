//! Apple's push service.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::{Answer, Identity, Seen, Setup, Speaks, Standin, google::json_of};

/// Id of the authentication key.
pub const APPLE_KEY_ID: &str = "ABC123DEFG";
/// Id of the team.
pub const APPLE_TEAM_ID: &str = "DEF123GHIJ";
/// Bundle id.
pub const APPLE_TOPIC: &str = "jp.example.todoke";
/// Longest payload that Apple takes.
const BYTES_MAX: usize = 4_096;

/// Apple with its two environments.
#[derive(Debug)]
pub struct Apple {
    /// For released apps.
    pub production: Standin,
    /// For development builds.
    pub sandbox: Standin,
    /// The authentication key, PEM.
    pub key_pem: String,
}

impl Apple {
    /// Starts both environments, which know one key.
    pub async fn start(remembers: bool) -> Self {
        let identity = Identity::localhost();
        let key = KeyPair::generate().unwrap();
        let public = key.der_bytes().to_vec();
        let tokens = Tokens { public, known: Mutex::default() };
        let service = Arc::new(move |seen: &Seen| answer(seen, &tokens));
        let setup = || Setup { identity: &identity, speaks: Speaks::Both, remembers };
        Self {
            production: Standin::start(setup(), service.clone()).await,
            sandbox: Standin::start(setup(), service).await,
            key_pem: key.serialize_pem(),
        }
    }

    /// An error in Apple's words.
    pub fn error(status: u16, reason: &str) -> Answer {
        Answer::new(status, format!("{{\"reason\":\"{reason}\"}}"))
    }
}

/// Tokens of the key. One that was verified is known from then on, as at Apple, who sees the same one for half an hour.
struct Tokens {
    public: Vec<u8>,
    known: Mutex<HashSet<String>>,
}

impl Tokens {
    fn are_good(&self, token: &str) -> bool {
        let mut known = self.known.lock().unwrap();
        known.contains(token) || (is_signed(token, &self.public) && known.insert(token.to_owned()))
    }
}

fn answer(seen: &Seen, tokens: &Tokens) -> Answer {
    let token = seen.header("authorization").strip_prefix("bearer ").unwrap_or_default();
    if !tokens.are_good(token) {
        return Apple::error(403, "InvalidProviderToken");
    }
    if seen.header("apns-topic") != APPLE_TOPIC {
        return Apple::error(400, "TopicDisallowed");
    }
    if seen.header("apns-collapse-id").len() > 64 {
        return Apple::error(400, "BadCollapseId");
    }
    let device = seen.path.strip_prefix("/3/device/").unwrap_or_default();
    if device.len() != 64 || !device.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Apple::error(400, "BadDeviceToken");
    }
    if seen.body.len() > BYTES_MAX {
        return Apple::error(413, "PayloadTooLarge");
    }
    match (seen.header("apns-push-type"), seen.header("apns-priority")) {
        ("alert", "10" | "5") | ("background", "5") => Answer::new(200, "").with("apns-id", seen.header("apns-id")),
        _ => Apple::error(400, "InvalidPushType"),
    }
}

fn is_signed(token: &str, public: &[u8]) -> bool {
    let Some((signed, signature)) = token.rsplit_once('.') else { return false };
    let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(signature) else { return false };
    if UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public).verify(signed.as_bytes(), &signature).is_err() {
        return false;
    }
    let Some((header, claims)) = signed.split_once('.') else { return false };
    let (header, claims) = (json_of(header), json_of(claims));
    header["alg"] == "ES256"
        && header["kid"] == APPLE_KEY_ID
        && claims["iss"] == APPLE_TEAM_ID
        && claims["iat"].is_i64()
}
