//! What has to be looked at when nobody looked (T21): rows with a due time, claimed by lease.

use todoke_domain::{MunicipalityCode, Timestamp, ids::MessageId};

use crate::{StoreError, Tx};

/// A look at a message that has fallen due or will.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Escalation {
    /// The message.
    #[sqlx(try_from = "String")]
    pub message_id: MessageId,
    /// `E4`, `again` for what asks for something and is unread, `failed` when a delivery has failed for good, or `count`
    /// when the number of people that an operator was told has changed.
    pub rule: String,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// When.
    #[sqlx(rename = "due_at_us", try_from = "i64")]
    pub due_at: Timestamp,
    /// Until when the claim holds.
    #[sqlx(rename = "leased_until_us", try_from = "i64")]
    pub leased_until: Timestamp,
}

impl Tx {
    /// Sets looks. One that is set already keeps its time, and whoever is doing it loses the claim: that look may not
    /// have seen what this one is for.
    pub async fn insert_escalations(&mut self, rows: &[Escalation]) -> Result<(), StoreError> {
        // Once each, since a row can be updated once in a statement, and in order, so that two transactions with the
        // same looks cannot wait for each other.
        let mut looks: Vec<&Escalation> = rows.iter().collect();
        looks.sort_by(|a, b| (a.message_id, &a.rule, a.due_at).cmp(&(b.message_id, &b.rule, b.due_at)));
        looks.dedup_by(|later, earlier| (later.message_id, &later.rule) == (earlier.message_id, &earlier.rule));
        insert_many_later!(
            self,
            "INSERT INTO escalation (message_id, rule, municipality_code, due_at_us, leased_until_us) ",
            looks,
            " ON CONFLICT (message_id, rule) DO UPDATE SET leased_until_us = 0",
            |row| row.message_id.to_string(),
            row.rule.clone(),
            row.municipality_code.to_string(),
            row.due_at.as_micros(),
            row.leased_until.as_micros(),
        )
    }

    /// Claims up to `n_max` due looks until `leased_until`, oldest first; another node may claim them after that.
    pub async fn claim_escalations(
        &mut self,
        n_max: i64,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Vec<Escalation>, StoreError> {
        let sql = if self.is_postgres() { CLAIM_POSTGRES } else { CLAIM_SQLITE };
        let rows =
            fetch_all!(self, Escalation, sql, now.as_micros(), leased_until.as_micros(), n_max, self.wall.code(),)?;
        Ok(self.see_all(rows))
    }

    /// Drops looks that were due before `before`: those of a demo's made-up past.
    pub async fn forget_escalations(&mut self, before: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "DELETE FROM escalation WHERE due_at_us < $1 AND ($2 = '' OR municipality_code = $2)",
            before.as_micros(),
            self.wall.code(),
        )?;
        Ok(())
    }

    /// Strikes a look off; `false` when the claim was lost to another node.
    pub async fn finish_escalation(&mut self, row: &Escalation) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "DELETE FROM escalation WHERE message_id = $1 AND rule = $2 AND leased_until_us = $3",
            row.message_id.to_string(),
            &row.rule,
            row.leased_until.as_micros(),
        )?;
        Ok(n > 0)
    }
}

// Materialised for the reason that claims of deliveries are.
macro_rules! claim {
    ($lock:literal) => {
        concat!(
            "WITH due AS MATERIALIZED (
                SELECT message_id, rule FROM escalation
                WHERE due_at_us <= $1 AND leased_until_us <= $1 AND ($4 = '' OR municipality_code = $4)
                ORDER BY due_at_us LIMIT $3 ",
            $lock,
            ")
             UPDATE escalation SET leased_until_us = $2 WHERE (message_id, rule) IN (SELECT message_id, rule FROM due)
             RETURNING message_id, rule, municipality_code, due_at_us, leased_until_us"
        )
    };
}

const CLAIM_SQLITE: &str = claim!("");
const CLAIM_POSTGRES: &str = claim!("FOR UPDATE SKIP LOCKED");
