//! Short-lived signed tokens for sockets (D21).

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use todoke_domain::{
    Timestamp,
    ids::{AccountId, SessionId},
};

/// Life of a token, seconds. Clients fetch a new one before that.
pub const TTL_S: i64 = 300;

/// What a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// Account.
    pub sub: AccountId,
    /// Session.
    pub sid: SessionId,
    /// End, unix seconds.
    pub exp: i64,
}

/// Signs and checks tokens with the record's secret.
pub struct Tokens {
    sign: EncodingKey,
    check: DecodingKey,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
    }
}

/// A token that is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not one of ours.
    #[error("not a token of this server")]
    Invalid,
    /// It was good once.
    #[error("the token has run out")]
    Expired,
}

impl Tokens {
    /// With the record's secret.
    pub fn new(secret: &str) -> Self {
        Self { sign: EncodingKey::from_secret(secret.as_bytes()), check: DecodingKey::from_secret(secret.as_bytes()) }
    }

    /// A token for a session and its end. `None` only if signing fails, which needs a broken library.
    pub fn make(&self, account: AccountId, session: SessionId, now: Timestamp) -> Option<(String, Timestamp)> {
        let exp = now.as_seconds() + TTL_S;
        let claims = Claims { sub: account, sid: session, exp };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &self.sign).ok()?;
        Some((token, Timestamp::from_micros(exp * 1_000_000)))
    }

    /// Checks signature and end.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let mut rules = Validation::new(Algorithm::HS256);
        // The library would read the machine's clock; ours is passed in.
        rules.validate_exp = false;
        let claims = decode::<Claims>(token, &self.check, &rules).map_err(|_| TokenError::Invalid)?.claims;
        if claims.exp <= now.as_seconds() { Err(TokenError::Expired) } else { Ok(claims) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_and_cannot_be_forged() {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let (account, session) = (AccountId::new(now), SessionId::new(now));
        let tokens = Tokens::new("secret-a");
        let (token, ends) = tokens.make(account, session, now).unwrap();
        assert_eq!(tokens.check(&token, now).unwrap().sid, session);
        assert_eq!(tokens.check(&token, ends).unwrap_err(), TokenError::Expired);
        assert_eq!(Tokens::new("secret-b").check(&token, now).unwrap_err(), TokenError::Invalid);
        assert_eq!(tokens.check("x.y.z", now).unwrap_err(), TokenError::Invalid);
    }
}
