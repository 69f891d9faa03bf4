//! Google's token endpoint and Firebase Cloud Messaging.

use std::sync::{Arc, Mutex};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Identity, Seen, Setup, Speaks, Standin};
use crate::push_peer;

const ACCOUNT: &str = "todoke@test-project.iam.gserviceaccount.com";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// Longest payload that Google takes.
const BYTES_MAX: usize = 4_096;

/// A service account's key, made by Node.js.
#[derive(Clone, Debug, Deserialize)]
pub struct RsaKey {
    /// PKCS#8, PEM.
    pub private_pem: String,
    /// PKCS#1, DER in base64.
    pub public_der: String,
}

impl RsaKey {
    /// A new key.
    pub async fn generate() -> Self {
        serde_json::from_value(push_peer::ask("rsa-key.mjs", &json!({})).await).unwrap()
    }
}

/// Both of Google's servers.
#[derive(Debug)]
pub struct Google {
    /// Access tokens.
    pub tokens: Standin,
    /// Messages.
    pub messages: Standin,
    key: RsaKey,
    valid: Arc<Mutex<Vec<String>>>,
}

impl Google {
    /// Starts both. Tokens are good for `life_s` seconds, by their own word.
    pub async fn start(key: RsaKey, life_s: u64, remembers: bool) -> Self {
        let identity = Identity::localhost();
        let valid: Arc<Mutex<Vec<String>>> = Arc::default();
        let setup = || Setup { identity: &identity, speaks: Speaks::Both, remembers };
        let granted = Arc::clone(&valid);
        let public = BASE64_STANDARD.decode(&key.public_der).unwrap();
        let tokens = move |seen: &Seen| match check_assertion(seen, &public) {
            Err(why) => Answer::new(400, json!({ "error": "invalid_grant", "error_description": why }).to_string()),
            Ok(()) => {
                let mut granted = granted.lock().unwrap();
                let token = format!("ya29.token-{}-{}", granted.len() + 1, "x".repeat(900));
                granted.push(token.clone());
                let body = json!({ "access_token": token, "expires_in": life_s, "token_type": "Bearer" });
                Answer::new(200, body.to_string())
            }
        };
        let granted = Arc::clone(&valid);
        let messages = move |seen: &Seen| send(seen, &granted.lock().unwrap());
        Self {
            tokens: Standin::start(setup(), Arc::new(tokens)).await,
            messages: Standin::start(setup(), Arc::new(messages)).await,
            key,
            valid,
        }
    }

    /// The key file of an account that these servers know.
    pub fn account_json(&self) -> String {
        json!({
            "type": "service_account", "project_id": "test-project", "private_key_id": "key-1",
            "private_key": self.key.private_pem, "client_email": ACCOUNT, "token_uri": TOKEN_URI,
        })
        .to_string()
    }

    /// Makes every access token so far worthless.
    pub fn revoke_tokens(&self) {
        for token in self.valid.lock().unwrap().iter_mut() {
            token.clear();
        }
    }
}

fn check_assertion(seen: &Seen, public: &[u8]) -> Result<(), String> {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    let assertion = body
        .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
        .ok_or("grant_type")?;
    let (signed, signature) = assertion.rsplit_once('.').ok_or("no token")?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| "signature")?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| "signature")?;
    let (header, claims) = signed.split_once('.').ok_or("no claims")?;
    let header = json_of(header);
    let claims = json_of(claims);
    let life = claims["exp"].as_i64().unwrap_or_default() - claims["iat"].as_i64().unwrap_or_default();
    let right = header["alg"] == "RS256"
        && header["kid"] == "key-1"
        && claims["iss"] == ACCOUNT
        && claims["aud"] == TOKEN_URI
        && claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        && (1..=3_600).contains(&life);
    right.then_some(()).ok_or_else(|| format!("claims {claims}"))
}

/// A part of a token as JSON.
pub(super) fn json_of(part: &str) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn send(seen: &Seen, valid: &[String]) -> Answer {
    let token = seen.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
    if token.is_empty() || !valid.iter().any(|granted| granted == token) {
        return error(401, "UNAUTHENTICATED", None);
    }
    if seen.path != "/v1/projects/test-project/messages:send" {
        return error(404, "NOT_FOUND", None);
    }
    if seen.body.len() > BYTES_MAX {
        return error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"));
    }
    let Ok(body) = serde_json::from_slice::<Value>(&seen.body) else {
        return error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"));
    };
    let texts_only = body["message"]["data"].as_object().is_none_or(|data| data.values().all(Value::is_string));
    if body["message"]["token"].as_str().is_none_or(str::is_empty) || !texts_only {
        return error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"));
    }
    Answer::new(200, "{\"name\":\"projects/test-project/messages/0:1\"}").with("content-type", "application/json")
}

/// An error in Google's words.
fn error(status: u16, name: &str, code: Option<&str>) -> Answer {
    let details: Vec<Value> = code
        .map(|code| json!({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code }))
        .into_iter()
        .collect();
    let body = json!({ "error": { "code": status, "message": name, "status": name, "details": details } });
    Answer::new(status, body.to_string()).with("content-type", "application/json")
}

impl Google {
    /// An error as Firebase gives it, with its own code in the details.
    pub fn error(status: u16, name: &str, code: &str) -> Answer {
        error(status, name, Some(code))
    }
}
