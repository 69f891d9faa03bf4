//! What signing in leaves behind: one-time codes, mailed links, sessions, trusted devices, API keys.
//!
//! Secrets are kept as hashes; whoever reads the table cannot sign in with it.

use todoke_domain::{
    MunicipalityCode, Role, Timestamp,
    ids::{AccountId, ApiKeyId, ChallengeId, SessionId},
};

use crate::{
    Store, StoreError, Tx,
    account::Account,
    column::{OptionalNumber, OptionalText},
};

/// A pending one-time code.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Challenge {
    /// Id the client holds.
    #[sqlx(try_from = "String")]
    pub challenge_id: ChallengeId,
    /// Whose.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// Hash of the code.
    pub code_hash: String,
    /// Wrong tries so far.
    pub tries: i64,
    /// End of its life.
    #[sqlx(try_from = "i64")]
    #[sqlx(rename = "expires_at_us")]
    pub expires_at: Timestamp,
}

/// A mailed link.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct MailLink {
    /// `confirm_registration`, `set_password` or `change_email`.
    pub kind: String,
    /// Whose.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// What the link carries, e.g. the new address.
    pub detail: String,
    /// End of its life.
    #[sqlx(try_from = "i64")]
    #[sqlx(rename = "expires_at_us")]
    pub expires_at: Timestamp,
}

/// A session.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Session {
    /// Id.
    #[sqlx(try_from = "String")]
    pub session_id: SessionId,
    /// Whose.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// Must accompany every change made with the cookie.
    pub csrf_token: String,
    /// Begin.
    #[sqlx(try_from = "i64")]
    #[sqlx(rename = "created_at_us")]
    pub created_at: Timestamp,
    /// Last request, to the minute.
    #[sqlx(try_from = "i64")]
    #[sqlx(rename = "seen_at_us")]
    pub seen_at: Timestamp,
}

/// From the beginning of a session to its last use.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SessionSpan {
    /// Whose.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// Begin.
    #[sqlx(try_from = "i64")]
    #[sqlx(rename = "created_at_us")]
    pub created_at: Timestamp,
    /// Last request, to the minute.
    #[sqlx(try_from = "i64")]
    #[sqlx(rename = "seen_at_us")]
    pub seen_at: Timestamp,
}

/// A machine's key.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ApiKey {
    /// Id.
    #[sqlx(try_from = "String")]
    pub api_key_id: ApiKeyId,
    /// The account that acts.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// What it is for.
    pub name: String,
    /// The sources it may send events of, as a JSON list; `None` for a key from before they had to be named, which may
    /// name any.
    pub sources: Option<String>,
    /// When it was made, microseconds UTC.
    pub created_at_us: i64,
    /// Who made it; `None` for the system, and for a key from before that was noted.
    #[sqlx(try_from = "OptionalText")]
    pub issued_by: Option<AccountId>,
    /// Last request with it, to the minute; `None` before the first that was noted.
    #[sqlx(rename = "used_at_us", try_from = "OptionalNumber")]
    pub used_at: Option<Timestamp>,
    /// When it was revoked.
    #[sqlx(rename = "revoked_at_us", try_from = "OptionalNumber")]
    pub revoked_at: Option<Timestamp>,
}

/// A key as those see it who manage keys.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ListedKey {
    /// The key.
    #[sqlx(flatten)]
    pub key: ApiKey,
    /// The role it acts with.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// Name of who made it; empty where nobody is known.
    pub issuer_name: String,
}

macro_rules! select_key {
    ($rest:literal) => {
        concat!(
            "SELECT api_key_id, account_id, name, sources, created_at_us, issued_by, used_at_us, revoked_at_us FROM api_key ",
            $rest
        )
    };
}

impl Tx {
    /// Adds a one-time code; earlier ones of the account become useless.
    pub async fn insert_challenge(&mut self, row: &Challenge, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE challenge SET used_at_us = $2 WHERE account_id = $1 AND used_at_us IS NULL",
            row.account_id.to_string(),
            now.as_micros(),
        )?;
        execute!(
            self,
            "INSERT INTO challenge (challenge_id, account_id, code_hash, tries, expires_at_us) VALUES ($1, $2, $3, 0, $4)",
            row.challenge_id.to_string(),
            row.account_id.to_string(),
            &row.code_hash,
            row.expires_at.as_micros(),
        )?;
        Ok(())
    }

    /// Counts a try on an unused code and reads it, locked; `None` when it is used or unknown.
    pub async fn try_challenge(&mut self, id: ChallengeId) -> Result<Option<Challenge>, StoreError> {
        fetch_optional!(
            self,
            Challenge,
            "UPDATE challenge SET tries = tries + 1 WHERE challenge_id = $1 AND used_at_us IS NULL
             RETURNING challenge_id, account_id, code_hash, tries, expires_at_us",
            id.to_string(),
        )
    }

    /// Marks a code used.
    pub async fn use_challenge(&mut self, id: ChallengeId, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE challenge SET used_at_us = $2 WHERE challenge_id = $1",
            id.to_string(),
            now.as_micros()
        )?;
        Ok(())
    }

    /// Adds a mailed link.
    pub async fn insert_mail_link(&mut self, token_hash: &str, link: &MailLink) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO mail_link (token_hash, kind, account_id, detail, expires_at_us) VALUES ($1, $2, $3, $4, $5)",
            token_hash,
            &link.kind,
            link.account_id.to_string(),
            &link.detail,
            link.expires_at.as_micros(),
        )?;
        Ok(())
    }

    /// A usable link, left usable.
    pub async fn mail_link(
        &mut self,
        token_hash: &str,
        kind: &str,
        now: Timestamp,
    ) -> Result<Option<MailLink>, StoreError> {
        fetch_optional!(
            self,
            MailLink,
            "SELECT kind, account_id, detail, expires_at_us FROM mail_link
             WHERE token_hash = $1 AND kind = $2 AND used_at_us IS NULL AND expires_at_us > $3",
            token_hash,
            kind,
            now.as_micros(),
        )
    }

    /// Uses a link up and reads it; `None` when it was used before, has run out, or is of another kind.
    pub async fn use_mail_link(
        &mut self,
        token_hash: &str,
        kind: &str,
        now: Timestamp,
    ) -> Result<Option<MailLink>, StoreError> {
        fetch_optional!(
            self, MailLink,
            "UPDATE mail_link SET used_at_us = $3 WHERE token_hash = $1 AND kind = $2 AND used_at_us IS NULL AND expires_at_us > $3
             RETURNING kind, account_id, detail, expires_at_us",
            token_hash, kind, now.as_micros(),
        )
    }

    /// Begins a session.
    pub async fn insert_session(&mut self, row: &Session, token_hash: &str) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO session (session_id, account_id, token_hash, csrf_token, created_at_us, seen_at_us) VALUES ($1, $2, $3, $4, $5, $6)",
            row.session_id.to_string(),
            row.account_id.to_string(),
            token_hash,
            &row.csrf_token,
            row.created_at.as_micros(),
            row.seen_at.as_micros(),
        )?;
        Ok(())
    }

    /// Notes that a session is in use.
    pub async fn touch_session(&mut self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        execute!(self, "UPDATE session SET seen_at_us = $2 WHERE session_id = $1", id.to_string(), now.as_micros())?;
        Ok(())
    }

    /// Ends one session.
    pub async fn end_session(&mut self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE session SET ended_at_us = $2 WHERE session_id = $1 AND ended_at_us IS NULL",
            id.to_string(),
            now.as_micros()
        )?;
        Ok(())
    }

    /// Ends every session of an account, forgets its trusted devices and revokes its keys.
    pub async fn end_sessions_of(&mut self, account: AccountId, now: Timestamp) -> Result<(), StoreError> {
        let id = account.to_string();
        execute!(
            self,
            "UPDATE session SET ended_at_us = $2 WHERE account_id = $1 AND ended_at_us IS NULL",
            &id,
            now.as_micros()
        )?;
        execute!(self, "DELETE FROM trusted_device WHERE account_id = $1", &id)?;
        execute!(
            self,
            "UPDATE api_key SET revoked_at_us = $2 WHERE account_id = $1 AND revoked_at_us IS NULL",
            &id,
            now.as_micros()
        )?;
        Ok(())
    }

    /// Sessions of a municipality's offices that were used at `since` or later, and while another session of the
    /// same account was; also those that have ended.
    pub async fn overlapping_sessions(
        &mut self,
        code: &MunicipalityCode,
        since: Timestamp,
    ) -> Result<Vec<SessionSpan>, StoreError> {
        fetch_all!(
            self,
            SessionSpan,
            "SELECT s.account_id, s.created_at_us, s.seen_at_us FROM session s JOIN account a ON a.account_id = s.account_id
             WHERE a.municipality_code = $1 AND a.guardian_id IS NULL AND s.seen_at_us >= $2
               AND EXISTS (
                 SELECT 1 FROM session o
                 WHERE o.account_id = s.account_id AND o.session_id <> s.session_id
                   AND o.created_at_us <= s.seen_at_us AND o.seen_at_us >= s.created_at_us)
             ORDER BY s.account_id, s.created_at_us",
            self.wall.inside(code),
            since.as_micros(),
        )
    }

    /// Trusts a device.
    pub async fn insert_trusted_device(
        &mut self,
        token_hash: &str,
        account: AccountId,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO trusted_device (token_hash, account_id, expires_at_us) VALUES ($1, $2, $3)",
            token_hash,
            account.to_string(),
            expires_at.as_micros(),
        )?;
        Ok(())
    }

    /// Whether a device is trusted for an account.
    pub async fn is_trusted_device(
        &mut self,
        token_hash: &str,
        account: AccountId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let row: Option<(i64,)> = fetch_optional!(
            self,
            (i64,),
            "SELECT expires_at_us FROM trusted_device WHERE token_hash = $1 AND account_id = $2 AND expires_at_us > $3",
            token_hash,
            account.to_string(),
            now.as_micros(),
        )?;
        Ok(row.is_some())
    }

    /// Adds an API key.
    pub async fn insert_api_key(
        &mut self,
        row: &ApiKey,
        code: &MunicipalityCode,
        token_hash: &str,
    ) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO api_key (api_key_id, municipality_code, account_id, name, token_hash, created_at_us, sources, issued_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            row.api_key_id.to_string(),
            code.as_str(),
            row.account_id.to_string(),
            &row.name,
            token_hash,
            row.created_at_us,
            row.sources.as_deref(),
            row.issued_by.map(|id| id.to_string()),
        )?;
        Ok(())
    }

    /// A living key by the hash of its secret.
    pub async fn api_key_by_hash(&mut self, token_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        fetch_optional!(self, ApiKey, select_key!("WHERE token_hash = $1 AND revoked_at_us IS NULL"), token_hash)
    }

    /// Notes that a key is in use.
    pub async fn touch_api_key(&mut self, id: ApiKeyId, now: Timestamp) -> Result<(), StoreError> {
        execute!(self, "UPDATE api_key SET used_at_us = $2 WHERE api_key_id = $1", id.to_string(), now.as_micros())?;
        Ok(())
    }

    /// Keys of a municipality: the living ones, then those that were revoked, each oldest first.
    pub async fn api_keys(&mut self, code: &MunicipalityCode) -> Result<Vec<ListedKey>, StoreError> {
        fetch_all!(
            self,
            ListedKey,
            "SELECT k.api_key_id, k.account_id, k.name, k.sources, k.created_at_us, k.issued_by, k.used_at_us, k.revoked_at_us,
                m.role, COALESCE(i.name, '') AS issuer_name
             FROM api_key k JOIN account m ON m.account_id = k.account_id LEFT JOIN account i ON i.account_id = k.issued_by
             WHERE k.municipality_code = $1
             ORDER BY CASE WHEN k.revoked_at_us IS NULL THEN 0 ELSE 1 END, k.created_at_us, k.api_key_id",
            self.wall.inside(code),
        )
    }

    /// The living key of a machine's account.
    pub async fn api_key_of(
        &mut self,
        code: &MunicipalityCode,
        account: AccountId,
    ) -> Result<Option<ApiKey>, StoreError> {
        fetch_optional!(
            self,
            ApiKey,
            select_key!("WHERE municipality_code = $1 AND account_id = $2 AND revoked_at_us IS NULL"),
            self.wall.inside(code),
            account.to_string(),
        )
    }

    /// Replaces the sources of a living key, if they are still `before`; `false` if not.
    pub async fn set_key_sources(
        &mut self,
        code: &MunicipalityCode,
        id: ApiKeyId,
        before: Option<&str>,
        sources: &str,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE api_key SET sources = $4
             WHERE municipality_code = $1 AND api_key_id = $2 AND revoked_at_us IS NULL AND COALESCE(sources, '') = $3",
            self.wall.inside(code),
            id.to_string(),
            before.unwrap_or_default(),
            sources,
        )?;
        Ok(n > 0)
    }

    /// Revokes a key; `false` when there was no such living key.
    pub async fn revoke_api_key(
        &mut self,
        code: &MunicipalityCode,
        id: ApiKeyId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE api_key SET revoked_at_us = $3 WHERE municipality_code = $1 AND api_key_id = $2 AND revoked_at_us IS NULL",
            self.wall.inside(code),
            id.to_string(),
            now.as_micros(),
        )?;
        Ok(n > 0)
    }
}

/// An open session with the account it belongs to.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SignedIn {
    /// The account.
    #[sqlx(flatten)]
    pub account: Account,
    /// The session.
    #[sqlx(flatten)]
    pub session: Session,
}

macro_rules! select_signed_in {
    ($condition:literal) => {
        concat!(
            "SELECT a.account_id, a.municipality_code, a.role, a.email, a.name, a.name_kana, a.password_hash, a.state, ",
            "a.guardian_id, a.facility_id, a.relation, a.valid_from, a.valid_to, a.person_key, a.terms_version, a.language, ",
            "s.session_id, s.csrf_token, s.created_at_us, s.seen_at_us ",
            "FROM session s JOIN account a ON a.account_id = s.account_id WHERE s.ended_at_us IS NULL AND ",
            $condition
        )
    };
}

impl Store {
    /// The open session behind a token's hash. Every request asks this.
    pub async fn signed_in_by_token(&self, token_hash: &str) -> Result<Option<SignedIn>, StoreError> {
        fetch_alone!(self, SignedIn, select_signed_in!("s.token_hash = $1"), token_hash)
    }

    /// The open session with this id.
    pub async fn signed_in_by_id(&self, id: SessionId) -> Result<Option<SignedIn>, StoreError> {
        fetch_alone!(self, SignedIn, select_signed_in!("s.session_id = $1"), id.to_string())
    }
}
