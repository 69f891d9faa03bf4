//! First answers to requests with an `Idempotency-Key`, stored in the transaction that made them.

use todoke_domain::{Timestamp, ids::AccountId};

use crate::{StoreError, Tx};

/// A first answer.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct FirstAnswer {
    /// Hash of the request's body: another body under the same key is refused.
    pub body_hash: String,
    /// Status code.
    pub status: i64,
    /// Body, JSON.
    pub response: String,
}

impl Tx {
    /// The first answer to a key of an account.
    pub async fn first_answer(&mut self, account: AccountId, key: &str) -> Result<Option<FirstAnswer>, StoreError> {
        fetch_optional!(
            self,
            FirstAnswer,
            "SELECT body_hash, status, response FROM idempotency WHERE account_id = $1 AND key = $2",
            account.to_string(),
            key,
        )
    }

    /// The first answer once more, after this transaction waited for a lock: whoever held it may have given one.
    /// On SQLite a writing transaction is the only one, so nobody can have.
    pub async fn first_answer_after_lock(
        &mut self,
        account: AccountId,
        key: &str,
    ) -> Result<Option<FirstAnswer>, StoreError> {
        if self.is_postgres() { self.first_answer(account, key).await } else { Ok(None) }
    }

    /// Keeps the first answer. Errors, here or at the commit: [`StoreError::Conflict`] when another request with the
    /// key was faster.
    pub async fn keep_answer(
        &mut self,
        account: AccountId,
        key: &str,
        answer: &FirstAnswer,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        execute_later!(
            self,
            "INSERT INTO idempotency (account_id, key, body_hash, status, response, at_us) VALUES ($1, $2, $3, $4, $5, $6)",
            account.to_string(),
            key,
            &answer.body_hash,
            answer.status,
            &answer.response,
            now.as_micros(),
        )
    }

    /// Forgets answers older than `before`.
    pub async fn prune_answers(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        execute!(self, "DELETE FROM idempotency WHERE at_us < $1", before.as_micros())
    }
}
