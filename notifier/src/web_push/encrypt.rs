//! Encryption for one browser (RFC 8291): what the push service carries is one `aes128gcm` record (RFC 8188).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    hmac,
    rand::{SecureRandom, SystemRandom},
};

/// Length of an uncompressed point.
const POINT_BYTES: usize = 65;
const SALT_BYTES: usize = 16;
const SECRET_BYTES: usize = 16;
/// Salt, record size, length of the key id, and our public key as that id.
const HEAD_BYTES: usize = SALT_BYTES + 4 + 1 + POINT_BYTES;
const TAG_BYTES: usize = 16;
/// What every push service must take (RFC 8030 and 8291), and the record size we declare.
const BODY_BYTES_MAX: usize = 4_096;
/// Longest text that fits into it; one byte ends the text.
pub(super) const PLAIN_BYTES_MAX: usize = BODY_BYTES_MAX - HEAD_BYTES - TAG_BYTES - 1;
/// Text for services that say that this is too much.
pub(super) const SHORT_BYTES_MAX: usize = 1_024;

/// No randomness, or the browser's key is no point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EncryptionFailed;

/// A browser's keys.
pub(super) struct Subscription {
    public_key: [u8; POINT_BYTES],
    secret: [u8; SECRET_BYTES],
}

impl Subscription {
    /// From base64url, padded or not. `None` when they are no keys.
    pub(super) fn parse(p256dh: &str, auth: &str) -> Option<Self> {
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        let public_key: [u8; POINT_BYTES] = bytes(p256dh)?.try_into().ok()?;
        let secret = bytes(auth)?.try_into().ok()?;
        (public_key[0] == 4).then_some(Self { public_key, secret })
    }

    /// The request's body: a fresh key, a fresh salt, one record.
    pub(super) fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, EncryptionFailed> {
        let random = SystemRandom::new();
        let ours = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(|_| EncryptionFailed)?;
        let our_public = ours.compute_public_key().map_err(|_| EncryptionFailed)?;
        let mut salt = [0; SALT_BYTES];
        random.fill(&mut salt).map_err(|_| EncryptionFailed)?;
        let theirs = UnparsedPublicKey::new(&ECDH_P256, &self.public_key);
        let (key, nonce) = agree_ephemeral(ours, &theirs, |shared| self.keys(shared, our_public.as_ref(), &salt))
            .map_err(|_| EncryptionFailed)?;

        let mut body = Vec::with_capacity(HEAD_BYTES + plain.len() + 1 + TAG_BYTES);
        body.extend_from_slice(&salt);
        body.extend_from_slice(&(BODY_BYTES_MAX as u32).to_be_bytes());
        body.push(POINT_BYTES as u8);
        body.extend_from_slice(our_public.as_ref());
        body.extend_from_slice(plain);
        // The delimiter of the last record; it is also the only one.
        body.push(2);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).map_err(|_| EncryptionFailed)?);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut body[HEAD_BYTES..])
            .map_err(|_| EncryptionFailed)?;
        body.extend_from_slice(tag.as_ref());
        Ok(body)
    }

    /// Content key and nonce from the shared secret (RFC 8291 §3.4). HKDF with outputs of one block is two HMACs.
    fn keys(&self, shared: &[u8], our_public: &[u8], salt: &[u8]) -> ([u8; 16], [u8; 12]) {
        let extracted = hkdf_extract(&self.secret, shared);
        let input = hkdf_expand(&extracted, &[b"WebPush: info\0", &self.public_key, our_public]);
        let extracted = hkdf_extract(salt, input.as_ref());
        let key = hkdf_expand(&extracted, &[b"Content-Encoding: aes128gcm\0"]);
        let nonce = hkdf_expand(&extracted, &[b"Content-Encoding: nonce\0"]);
        (first(key.as_ref()), first(nonce.as_ref()))
    }
}

fn hkdf_extract(salt: &[u8], secret: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), secret)
}

fn hkdf_expand(extracted: &hmac::Tag, info: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, extracted.as_ref()));
    for part in info {
        context.update(part);
    }
    context.update(&[1]);
    context.sign()
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| bytes[at])
}
