//! Signed tokens (RFC 7519) as Google (RS256), Apple and push services (ES256) want them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::Serialize;

/// A key that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a PKCS#8 private key in PEM (`-----BEGIN PRIVATE KEY-----`).
    #[error("not a PKCS#8 private key in PEM")]
    NotPem,
    /// Another kind of key than the provider issues.
    #[error("the private key is of another kind than expected")]
    WrongKind,
    /// Public and private key do not belong together, or are not base64url.
    #[error("public and private key do not belong together")]
    NotAPair,
}

/// Signs with an RSA key.
pub(crate) struct Rs256(RsaKeyPair);

/// Signs with a key on the curve P-256.
pub(crate) struct Es256(EcdsaKeyPair);

impl Rs256 {
    pub(crate) fn from_pem(pem: &str) -> Result<Self, KeyError> {
        RsaKeyPair::from_pkcs8(der(pem)?.secret_pkcs8_der()).map(Self).map_err(|_| KeyError::WrongKind)
    }

    pub(crate) fn sign(&self, key_id: Option<&str>, claims: &impl Serialize) -> Result<String, SigningFailed> {
        token("RS256", key_id, claims, |text| {
            let mut signature = vec![0; self.0.public().modulus_len()];
            self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).map_err(|_| SigningFailed)?;
            Ok(signature)
        })
    }
}

impl Es256 {
    pub(crate) fn from_pem(pem: &str) -> Result<Self, KeyError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der(pem)?.secret_pkcs8_der(), &SystemRandom::new())
            .map(Self)
            .map_err(|_| KeyError::WrongKind)
    }

    /// From the bare numbers: 32 bytes of private key, and the public key as an uncompressed point of 65.
    pub(crate) fn from_numbers(private: &[u8], public: &[u8]) -> Result<Self, KeyError> {
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        EcdsaKeyPair::from_private_key_and_public_key(curve, private, public, &SystemRandom::new())
            .map(Self)
            .map_err(|_| KeyError::NotAPair)
    }

    pub(crate) fn sign(&self, key_id: Option<&str>, claims: &impl Serialize) -> Result<String, SigningFailed> {
        token("ES256", key_id, claims, |text| {
            let signature = self.0.sign(&SystemRandom::new(), text).map_err(|_| SigningFailed)?;
            Ok(signature.as_ref().to_vec())
        })
    }
}

/// The machine gave no randomness, or the claims are no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SigningFailed;

fn der(pem: &str) -> Result<PrivatePkcs8KeyDer<'static>, KeyError> {
    PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotPem)
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

fn token(
    alg: &'static str,
    key_id: Option<&str>,
    claims: &impl Serialize,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, SigningFailed>,
) -> Result<String, SigningFailed> {
    let header = serde_json::to_vec(&Header { alg, typ: "JWT", kid: key_id }).map_err(|_| SigningFailed)?;
    let claims = serde_json::to_vec(claims).map_err(|_| SigningFailed)?;
    let mut text = BASE64_URL_SAFE_NO_PAD.encode(header);
    text.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut text);
    let signature = sign(text.as_bytes())?;
    text.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Ok(text)
}
