//! Who we are to push services (RFC 8292).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde::Serialize;
use todoke_domain::Timestamp;

use super::settings::{WebPushError, WebPushSettings};
use crate::{
    Outcome,
    http::Origin,
    jwt::{Es256, KeyError},
};

/// Life of a token; push services take no more than 24 hours.
const LIFE: Duration = Duration::from_secs(12 * 3_600);
/// How long before its end a token is renewed.
const EARLY: Duration = Duration::from_secs(3_600);
/// Tokens kept. There is a handful of push services; more origins than this means that somebody makes them up.
const ORIGINS_MAX: usize = 1_024;

/// A key pair by which push services and browsers know the sender, both in base64url.
#[derive(Clone, PartialEq, Eq)]
pub struct VapidKeys {
    /// Uncompressed point of 65 bytes: the browser's `applicationServerKey`.
    pub public_key: String,
    /// 32 bytes.
    pub private_key: String,
}

impl std::fmt::Debug for VapidKeys {
    /// Without the private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VapidKeys").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

impl VapidKeys {
    /// A new pair. Fails only when the machine gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).map_err(|_| KeyError::NotAPair)?;
        // PKCS#8 of this curve has a fixed layout: the private number at 36, the public point at the end. That these
        // are the right bytes is checked by making a pair of them.
        let document = document.as_ref();
        let private = document.get(36..68).ok_or(KeyError::NotAPair)?;
        let public = document.len().checked_sub(65).and_then(|at| document.get(at..)).ok_or(KeyError::NotAPair)?;
        Es256::from_numbers(private, public)?;
        Ok(Self {
            public_key: BASE64_URL_SAFE_NO_PAD.encode(public),
            private_key: BASE64_URL_SAFE_NO_PAD.encode(private),
        })
    }
}

pub(super) struct Vapid {
    key: Es256,
    public_key: String,
    subject: String,
    tokens: Mutex<HashMap<Origin, Token>>,
}

struct Token {
    authorization: HeaderValue,
    expires_at: Timestamp,
}

impl std::fmt::Debug for Vapid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vapid").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: i64,
    sub: &'a str,
}

impl Vapid {
    pub(super) fn new(settings: &WebPushSettings) -> Result<Self, WebPushError> {
        let bytes = |text: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(text.trim_end_matches('='))
                .map_err(|_| WebPushError::Keys(KeyError::NotAPair))
        };
        let public = bytes(&settings.public_key)?;
        if !(settings.subject.starts_with("mailto:") || settings.subject.starts_with("https://")) {
            return Err(WebPushError::Subject);
        }
        Ok(Self {
            key: Es256::from_numbers(&bytes(&settings.private_key)?, &public)?,
            public_key: BASE64_URL_SAFE_NO_PAD.encode(&public),
            subject: settings.subject.clone(),
            tokens: Mutex::default(),
        })
    }

    /// The `Authorization` for a push service; signed once per origin and half a day.
    pub(super) fn authorization(&self, origin: &Origin, now: Timestamp) -> Result<HeaderValue, Outcome> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = tokens.get(origin).filter(|token| now < token.expires_at.minus(EARLY)) {
            return Ok(token.authorization.clone());
        }
        if tokens.len() >= ORIGINS_MAX {
            tokens.clear();
        }
        let token = self.sign(origin, now).ok_or(Outcome::Later { code: "signing_failed", after: None })?;
        let authorization = token.authorization.clone();
        tokens.insert(origin.clone(), token);
        Ok(authorization)
    }

    fn sign(&self, origin: &Origin, now: Timestamp) -> Option<Token> {
        let expires_at = now.plus(LIFE);
        let claims = Claims { aud: &origin.to_string(), exp: expires_at.as_seconds(), sub: &self.subject };
        let token = self.key.sign(None, &claims).ok()?;
        let authorization = HeaderValue::from_str(&format!("vapid t={token}, k={}", self.public_key)).ok()?;
        Some(Token { authorization, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_are_a_pair_that_the_channel_takes() {
        let keys = VapidKeys::generate().unwrap();
        assert_ne!(keys, VapidKeys::generate().unwrap());
        let settings = |keys: &VapidKeys, subject: &str| WebPushSettings {
            public_key: keys.public_key.clone(),
            private_key: keys.private_key.clone(),
            subject: subject.to_owned(),
            ..WebPushSettings::default()
        };
        Vapid::new(&settings(&keys, "mailto:desk@example.jp")).unwrap();
        let mixed = VapidKeys { public_key: VapidKeys::generate().unwrap().public_key, ..keys.clone() };
        assert!(matches!(Vapid::new(&settings(&mixed, "mailto:desk@example.jp")), Err(WebPushError::Keys(_))));
        assert!(matches!(Vapid::new(&settings(&keys, "")), Err(WebPushError::Subject)));
    }
}
