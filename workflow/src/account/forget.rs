//! Forgetting a person in the log of events: the record's part of `todoke lake erase`.
//!
//! The order is the caller's: first the record's events, then the lake, and the person's own key last. A crash at
//! any point leaves the key, so that the same call can be made again.

use std::collections::BTreeMap;

use serde_json::Value;
use todoke_domain::{Role, Timestamp};

use crate::{Actor, Workflow, WorkflowError, audit::Access, secret, work::Subject};

/// Events rewritten in one transaction.
const CHUNK: i64 = 500;

/// What the record had about the forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Unlinked {
    /// Events of the log that named them.
    pub events: u64,
    /// Entries of the quarantine that they had sent.
    pub quarantined: u64,
}

/// What the log of events says when it is read again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reread {
    /// Its events.
    pub events: u64,
    /// Those that name the forgotten.
    pub naming: u64,
}

impl Workflow {
    /// Keys of the people behind a number, as [`Tx::person_keys`] finds them, each with a stand-in that nobody else has
    /// and nothing keeps.
    ///
    /// Errors: [`WorkflowError::NotFound`] when there is nobody.
    ///
    /// [`Tx::person_keys`]: todoke_store::Tx::person_keys
    pub async fn stand_ins(
        &self,
        actor: &Actor,
        number: &str,
        role: Role,
    ) -> Result<BTreeMap<i64, i64>, WorkflowError> {
        if number.is_empty() {
            // Whoever has not finished a registration has no number yet.
            return Err(WorkflowError::NotFound("person"));
        }
        let keys = self.read(actor).await?.person_keys(&actor.municipality_code, number, role).await?;
        if keys.is_empty() {
            return Err(WorkflowError::NotFound("person"));
        }
        Ok(keys.into_iter().map(|key| (key, secret::person_key())).collect())
    }

    /// Puts the stand-ins in the place of the keys in every event of the log, and drops what these people sent that
    /// was never taken.
    pub async fn unlink_events(
        &self,
        actor: &Actor,
        stand_ins: &BTreeMap<i64, i64>,
        now: Timestamp,
    ) -> Result<Unlinked, WorkflowError> {
        let mut done = Unlinked::default();
        let code = &actor.municipality_code;
        for key in stand_ins.keys() {
            let mut after = 0;
            loop {
                let mut work = self.begin_long(actor, now).await?;
                let page = work.tx.events_naming(code, *key, after, CHUNK).await?;
                let Some((last, _)) = page.last() else { break };
                after = *last;
                for (seq, body) in &page {
                    let event: Value =
                        serde_json::from_str(body).map_err(|_| WorkflowError::Internal("an event that is no JSON"))?;
                    work.tx.rewrite_event(*seq, &renamed(event, stand_ins).to_string()).await?;
                }
                done.events += page.len() as u64;
                work.commit().await?;
            }
            let mut work = self.begin_long(actor, now).await?;
            done.quarantined += work.tx.drop_quarantined_of(code, *key).await?;
            work.commit().await?;
        }
        Ok(done)
    }

    /// Reads the whole log of events again for the keys.
    pub async fn reread_events(&self, actor: &Actor, stand_ins: &BTreeMap<i64, i64>) -> Result<Reread, WorkflowError> {
        let mut tx = self.read(actor).await?;
        let mut reread = Reread::default();
        for key in stand_ins.keys() {
            let (events, naming) = tx.events_reread(&actor.municipality_code, *key).await?;
            reread.events = u64::try_from(events).unwrap_or(0);
            reread.naming += u64::try_from(naming).unwrap_or(0);
        }
        Ok(reread)
    }

    /// Gives the people new keys, which nothing has seen, and notes that they were forgotten. `certificate` names
    /// the proof.
    pub async fn renew_keys(
        &self,
        actor: &Actor,
        stand_ins: &BTreeMap<i64, i64>,
        certificate: &str,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        let mut work = self.begin_long(actor, now).await?;
        for key in stand_ins.keys() {
            work.tx.replace_person_key(&actor.municipality_code, *key, secret::person_key()).await?;
        }
        work.audit(Access::Erase, Subject::new("erasure", certificate), stand_ins.len());
        work.commit().await?;
        Ok(())
    }
}

/// The same text with stand-ins for keys, as numbers and inside texts.
fn renamed(value: Value, stand_ins: &BTreeMap<i64, i64>) -> Value {
    match value {
        Value::Number(number) => {
            let stand_in = number.as_i64().and_then(|key| stand_ins.get(&key));
            stand_in.map_or(Value::Number(number), |stand_in| Value::from(*stand_in))
        }
        Value::String(text) => Value::String(
            stand_ins.iter().fold(text, |text, (key, stand_in)| text.replace(&key.to_string(), &stand_in.to_string())),
        ),
        Value::Array(values) => values.into_iter().map(|value| renamed(value, stand_ins)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, renamed(value, stand_ins))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_go_wherever_they_stand() {
        let stand_ins = BTreeMap::from([(1_234_567_890_123, 7), (55_555_555_555, 8)]);
        let event = json!({"actor_key": 1_234_567_890_123_i64, "subject_id": "1234567890123", "subject_seq": 3,
            "payload": {"child_key": 55_555_555_555_i64, "collapse_key": "child:55555555555", "lots": [{"n": 1.5}]}});
        assert_eq!(
            renamed(event, &stand_ins),
            json!({"actor_key": 7, "subject_id": "7", "subject_seq": 3,
                "payload": {"child_key": 8, "collapse_key": "child:8", "lots": [{"n": 1.5}]}})
        );
    }
}
