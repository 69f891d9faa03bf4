//! Events that could not be taken as they were sent.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{AccountId, QuarantineId},
};

use crate::{StoreError, Tx, column::OptionalText};

/// An event in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct QuarantinedEvent {
    /// Id of the entry.
    #[sqlx(try_from = "String")]
    pub quarantine_id: QuarantineId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Who sent it; `None` for records of files.
    #[sqlx(try_from = "OptionalText")]
    pub account_id: Option<AccountId>,
    /// Where it came in: `usage`, `events` or `history`.
    pub entrance: String,
    /// What the server knew about the sender, as JSON.
    pub sender: String,
    /// The id the sender gave it.
    pub event_id: Option<String>,
    /// Why it was not taken: a stable code.
    pub reason: String,
    /// The field to blame.
    pub field: Option<String>,
    /// The event as it was sent, without what may not be kept; empty where nothing is.
    pub content: String,
    /// How long it was as it was sent, bytes, where that is known.
    pub content_bytes: Option<i64>,
    /// `held`, `replayed`, `dropped` for lack of consent, or `discarded` by somebody.
    pub state: String,
    /// When it came in.
    #[sqlx(rename = "received_at_us", try_from = "i64")]
    pub received_at: Timestamp,
}

/// A content that an earlier version stored as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UnlookedContent {
    /// Id of the entry.
    #[sqlx(try_from = "String")]
    pub quarantine_id: QuarantineId,
    /// Where it came in: `usage`, `events` or `history`.
    pub entrance: String,
    /// The event as it was sent.
    pub content: String,
}

/// Which held events are meant: all of these hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOf {
    /// Those of this reason; of any if `None`.
    pub reason: Option<String>,
    /// Those of this sender; of any, and records of files, if `None`.
    pub account_id: Option<AccountId>,
    /// Those that came in before this instant.
    pub before: Timestamp,
}

/// How many entries have a reason.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct QuarantineCount {
    /// Code of the reason.
    pub reason: String,
    /// Entries in the state that was asked for.
    pub n: i64,
}

impl Tx {
    /// Keeps events; entries that are there already, whatever their state, stay as they are. Returns how many are new.
    pub async fn insert_quarantined(&mut self, rows: &[QuarantinedEvent]) -> Result<u64, StoreError> {
        let mut n_new = 0;
        for row in rows {
            n_new += execute!(
                self,
                "INSERT INTO quarantined_event (quarantine_id, municipality_code, entrance, sender, event_id, reason, field, content, state, received_at_us, account_id, content_bytes)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (quarantine_id) DO NOTHING",
                row.quarantine_id.to_string(), row.municipality_code.as_str(), &row.entrance, &row.sender,
                row.event_id.as_deref(), &row.reason, row.field.as_deref(), &row.content, &row.state,
                row.received_at.as_micros(), row.account_id.map(|id| id.to_string()), row.content_bytes,
            )?;
        }
        Ok(n_new)
    }

    /// Held events of a municipality after an id, oldest first.
    pub async fn quarantined_events(
        &mut self,
        code: &MunicipalityCode,
        after: Option<QuarantineId>,
        n_max: i64,
    ) -> Result<Vec<QuarantinedEvent>, StoreError> {
        fetch_all!(
            self, QuarantinedEvent,
            "SELECT quarantine_id, municipality_code, account_id, entrance, sender, event_id, reason, field, content, content_bytes, state, received_at_us
             FROM quarantined_event WHERE municipality_code = $1 AND state = 'held' AND quarantine_id > $2
             ORDER BY quarantine_id LIMIT $3",
            self.wall.inside(code), after.map_or_else(String::new, |id| id.to_string()), n_max,
        )
    }

    /// Events of a municipality that are in a state, by reason.
    pub async fn quarantine_counts(
        &mut self,
        code: &MunicipalityCode,
        state: &str,
    ) -> Result<Vec<QuarantineCount>, StoreError> {
        fetch_all!(
            self,
            QuarantineCount,
            "SELECT reason, COUNT(*) AS n FROM quarantined_event WHERE municipality_code = $1 AND state = $2
             GROUP BY reason ORDER BY reason",
            self.wall.inside(code),
            state,
        )
    }

    /// How many events of one sender are held, counted up to `n_max`.
    pub async fn held_of_account(
        &mut self,
        code: &MunicipalityCode,
        account: AccountId,
        n_max: i64,
    ) -> Result<i64, StoreError> {
        let (n,): (i64,) = fetch_one!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM (SELECT quarantine_id FROM quarantined_event
             WHERE municipality_code = $1 AND state = 'held' AND account_id = $2 LIMIT $3) AS held",
            self.wall.inside(code),
            account.to_string(),
            n_max,
        )?;
        Ok(n)
    }

    /// How many events that somebody sent to a municipality are held, counted up to `n_max`. Records of files are not
    /// among them: a command that reads one has a limit of its own.
    pub async fn held_of_senders(&mut self, code: &MunicipalityCode, n_max: i64) -> Result<i64, StoreError> {
        let (n,): (i64,) = fetch_one!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM (SELECT quarantine_id FROM quarantined_event
             WHERE municipality_code = $1 AND state = 'held' AND account_id IS NOT NULL LIMIT $2) AS held",
            self.wall.inside(code),
            n_max,
        )?;
        Ok(n)
    }

    /// Held events of all municipalities.
    pub async fn quarantined_total(&mut self) -> Result<i64, StoreError> {
        let (n,): (i64,) = fetch_one!(self, (i64,), "SELECT COUNT(*) FROM quarantined_event WHERE state = 'held'")?;
        Ok(n)
    }

    /// Settles a held event; its content is not needed any more. `false` if somebody else did.
    pub async fn settle_quarantined(
        &mut self,
        code: &MunicipalityCode,
        id: QuarantineId,
        state: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE quarantined_event SET state = $3, content = '', settled_at_us = $4
             WHERE municipality_code = $1 AND quarantine_id = $2 AND state = 'held'",
            self.wall.inside(code),
            id.to_string(),
            state,
            now.as_micros(),
        )?;
        Ok(n > 0)
    }

    /// Settles up to `n_max` held events, oldest first, that nobody waits for any more; their contents go. Returns the
    /// reason of each.
    pub async fn discard_quarantined(
        &mut self,
        code: &MunicipalityCode,
        which: &HeldOf,
        n_max: i64,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let reasons = fetch_all!(
            self,
            (String,),
            "UPDATE quarantined_event SET state = 'discarded', content = '', settled_at_us = $6
             WHERE municipality_code = $1 AND state = 'held' AND quarantine_id IN (
               SELECT quarantine_id FROM quarantined_event
               WHERE municipality_code = $1 AND state = 'held' AND received_at_us < $2
                 AND ($3 = '' OR reason = $3) AND ($4 = '' OR account_id = $4)
               ORDER BY quarantine_id LIMIT $5)
             RETURNING reason",
            self.wall.inside(code),
            which.before.as_micros(),
            which.reason.as_deref().unwrap_or_default(),
            which.account_id.map_or_else(String::new, |id| id.to_string()),
            n_max,
            now.as_micros(),
        )?;
        Ok(reasons.into_iter().map(|(reason,)| reason).collect())
    }

    /// Contents of all municipalities that were stored before anybody looked at what may be kept of them.
    pub async fn unlooked_contents(&mut self, n_max: i64) -> Result<Vec<UnlookedContent>, StoreError> {
        fetch_all!(
            self,
            UnlookedContent,
            "SELECT quarantine_id, entrance, content FROM quarantined_event
             WHERE content_bytes IS NULL AND content <> '' ORDER BY quarantine_id LIMIT $1",
            n_max,
        )
    }

    /// Puts what may be kept in the place of such a content, and notes how long that was. `false` if the entry was
    /// settled or looked at meanwhile.
    pub async fn keep_of_content(
        &mut self,
        id: QuarantineId,
        kept: &str,
        content_bytes: i64,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE quarantined_event SET content = $2, content_bytes = $3
             WHERE quarantine_id = $1 AND content_bytes IS NULL AND content <> ''",
            id.to_string(),
            kept,
            content_bytes,
        )?;
        Ok(n > 0)
    }

    /// How many entries were replayed, and when the last one was, microseconds: another pair after another replay.
    pub async fn replays(&mut self) -> Result<(i64, i64), StoreError> {
        fetch_one!(
            self,
            (i64, i64),
            "SELECT COUNT(*), COALESCE(MAX(settled_at_us), 0) FROM quarantined_event WHERE state = 'replayed'"
        )
    }

    /// Deletes what came in before an instant, whatever its state. Returns how many there were.
    pub async fn forget_quarantined(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        execute!(self, "DELETE FROM quarantined_event WHERE received_at_us < $1", before.as_micros())
    }
}
