//! Random secrets and how they are kept: as hashes, so that the record alone cannot sign anybody in.

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash};
use sha2::{Digest, Sha256};
use todoke_domain::{account::NewPassword, ids::DeviceId, qr::QrToken};

use crate::WorkflowError;

/// A fresh secret of 256 bits, as 43 URL-safe characters.
pub fn token() -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let bits: [u8; 32] = rand::random();
    URL_SAFE_NO_PAD.encode(bits)
}

/// A fresh one-time code of six digits.
pub fn code() -> String {
    format!("{:06}", rand::random_range(0..1_000_000_u32))
}

/// A fresh code for paper and screens.
pub fn qr_token() -> QrToken {
    QrToken::from_bits(rand::random())
}

/// A fresh pseudonym: a random positive number. Two people of one municipality with the same one are
/// refused by a unique index; with 63 bits that does not happen.
pub fn person_key() -> i64 {
    rand::random_range(1..=i64::MAX)
}

/// The pseudonym of a device that push goes to. Only who knows its person's key can tell which it is, and forgetting a
/// person renews that.
pub(crate) fn device_key(person_key: i64, device: DeviceId) -> i64 {
    let digest = Sha256::digest(format!("{person_key}:{device}").as_bytes());
    let bits = digest.iter().take(8).fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    i64::try_from(bits >> 1).unwrap_or(i64::MAX).max(1)
}

/// How a secret with enough randomness is kept. A fast hash is right for 256 random bits.
pub fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// How a one-time code is kept: bound to its challenge, since six digits alone are quickly guessed.
pub fn hash_code(challenge: &str, code: &str) -> String {
    hash(&format!("{challenge}:{code}"))
}

/// Argon2id with the library's recommended parameters; about 20 ms of CPU.
pub fn hash_password(password: &NewPassword) -> Result<String, WorkflowError> {
    Argon2::default()
        .hash_password(password.expose().as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|_| WorkflowError::Internal("a password could not be hashed"))
}

/// Whether a password fits its hash. Without a hash the same work is done, so that the time an answer
/// takes does not tell whether an address exists (N-SEC-24).
pub fn verify_password(password: &str, hash: Option<&str>) -> bool {
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$1vGN1d8JD+RlW3cGGKXjRWoXlLqXHQDGqSxIgV6jQeU";
    let parsed = PasswordHash::new(hash.unwrap_or(NOBODY));
    parsed.is_ok_and(|known| Argon2::default().verify_password(password.as_bytes(), &known).is_ok()) && hash.is_some()
}
