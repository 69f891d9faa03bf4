//! The operational log of events and its hand-over to the lake.

use std::collections::{BTreeMap, HashMap};

use todoke_domain::{Event, Timestamp, ids::EventId};

use crate::{Db, Inner, Store, StoreError, Tx, Wall};

/// The event with which every message begins. It needs no counter: most messages get no second event for a
/// while, and a coupon use makes several of them.
const BEGINS_A_MESSAGE: &str = "message.created";

/// On SQLite: the number of the last event that the lake holds. Batches are finished in their order.
macro_rules! last_in_lake {
    () => {
        "COALESCE((SELECT last_seq FROM lake_batch WHERE done ORDER BY batch_no DESC LIMIT 1), 0)"
    };
}

/// A numbered batch of events for the lake. The same number always holds the same events.
#[derive(Debug, Clone)]
pub struct LakeBatch {
    /// From 1, without gaps.
    pub batch_no: i64,
    /// In the order of the log.
    pub events: Vec<Event>,
}

impl Tx {
    /// Appends events in order, giving each its number within its subject: two statements for any number of
    /// events, since a coupon use makes half a dozen of them and a broadcast thousands.
    pub async fn append_events(&mut self, events: &mut [Event]) -> Result<(), StoreError> {
        self.number_within_subjects(events).await?;
        let mut rows = Vec::with_capacity(events.len());
        for event in events.iter() {
            let body = serde_json::to_string(event).map_err(|_| StoreError::Corrupt { what: "event" })?;
            rows.push((event.event_id.to_string(), event, body));
        }
        insert_many_later!(
            self,
            "INSERT INTO event (event_id, event_type, municipality_code, recorded_at_us, body) ",
            rows,
            "",
            |row| &row.0,
            &row.1.event_type,
            row.1.municipality_code.as_str(),
            row.1.recorded_at.as_micros(),
            &row.2,
        )
    }

    /// Subjects are counted in the order of their names, so that two transactions with the same subjects
    /// cannot wait for each other.
    async fn number_within_subjects(&mut self, events: &mut [Event]) -> Result<(), StoreError> {
        let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
        for event in events.iter_mut() {
            if event.event_type == BEGINS_A_MESSAGE {
                event.subject_seq = 1;
            } else {
                *counts.entry((event.subject_kind.clone(), event.subject_id.clone())).or_default() += 1;
            }
        }
        let rows: Vec<(&(String, String), i64)> = counts.iter().map(|(subject, n)| (subject, *n)).collect();
        let last: Vec<(String, String, i64)> = insert_many_returning!(
            self,
            (String, String, i64),
            "INSERT INTO subject_counter (subject_kind, subject_id, last_seq) ",
            rows,
            " ON CONFLICT (subject_kind, subject_id) DO UPDATE SET last_seq = subject_counter.last_seq + excluded.last_seq
                - CASE WHEN excluded.subject_kind = 'message' THEN 1 ELSE 0 END
              RETURNING subject_kind, subject_id, last_seq",
            |row| &row.0.0,
            &row.0.1,
            // The first event of a message, its creation, is not counted here and has taken number 1.
            row.1 + i64::from(row.0.0 == "message"),
        )?;
        let mut next: HashMap<(String, String), i64> = HashMap::with_capacity(last.len());
        for (kind, id, seq) in last {
            let subject = (kind, id);
            let n = counts.get(&subject).copied().unwrap_or(0);
            next.insert(subject, seq - n + 1);
        }
        for event in events.iter_mut().filter(|event| event.event_type != BEGINS_A_MESSAGE) {
            let seq = next
                .get_mut(&(event.subject_kind.clone(), event.subject_id.clone()))
                .ok_or(StoreError::Corrupt { what: "subject number" })?;
            event.subject_seq = u64::try_from(*seq).map_err(|_| StoreError::Corrupt { what: "subject number" })?;
            *seq += 1;
        }
        Ok(())
    }

    /// One event, while the log has it.
    pub async fn event(&mut self, id: EventId) -> Result<Option<Event>, StoreError> {
        let row: Option<(String,)> = fetch_optional!(
            self,
            (String,),
            "SELECT body FROM event WHERE event_id = $1 AND ($2 = '' OR municipality_code = $2)",
            id.to_string(),
            self.wall.code(),
        )?;
        row.map(|(body,)| serde_json::from_str(&body).map_err(|_| StoreError::Corrupt { what: "event" })).transpose()
    }

    /// Number of events in the log and how many of them wait for the lake.
    pub async fn event_counts(&mut self) -> Result<(i64, i64), StoreError> {
        let (all,): (i64,) = fetch_one!(self, (i64,), "SELECT COUNT(*) FROM event")?;
        let waiting = if self.is_postgres() {
            "SELECT COUNT(*) FROM event WHERE lake_batch IS NULL OR lake_batch IN (SELECT batch_no FROM lake_batch WHERE NOT done)"
        } else {
            concat!("SELECT COUNT(*) FROM event WHERE seq > ", last_in_lake!())
        };
        let (waiting,): (i64,) = fetch_one!(self, (i64,), waiting)?;
        Ok((all, waiting))
    }

    /// When the oldest event was recorded that waits for the lake: the first in the log, since with a backlog of days
    /// nobody reads them all for a figure.
    pub async fn oldest_waiting_for_lake(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let sql = if self.is_postgres() {
            // Each half by an index of its own.
            "SELECT MIN(at_us) FROM (
                 (SELECT recorded_at_us AS at_us FROM event
                 WHERE lake_batch IS NULL AND ($1 = '' OR municipality_code = $1) ORDER BY seq LIMIT 1)
                 UNION ALL
                 SELECT MIN(event.recorded_at_us) FROM lake_batch JOIN event ON event.lake_batch = lake_batch.batch_no
                 WHERE NOT lake_batch.done AND ($1 = '' OR event.municipality_code = $1)
             ) AS waiting"
        } else {
            concat!(
                "SELECT MIN(at_us) FROM (SELECT recorded_at_us AS at_us FROM event WHERE ($1 = '' OR municipality_code = $1) AND seq > ",
                last_in_lake!(),
                " ORDER BY seq LIMIT 1) AS waiting"
            )
        };
        let (at_us,): (Option<i64>,) = fetch_one!(self, (Option<i64>,), sql, self.wall.code())?;
        Ok(at_us.map(Timestamp::from_micros))
    }
}

impl Store {
    /// The batch after `after_batch_no`, oldest first: one that was numbered but not finished, else the
    /// next `n_max` events that have no batch yet; `None` when there is nothing.
    ///
    /// On PostgreSQL rows are found by having no batch, never by "id above the last one seen": ids become visible
    /// out of order there. On SQLite, with its one writer, they do not, and a batch is a range of ids.
    pub async fn assign_lake_batch(&self, after_batch_no: i64, n_max: i64) -> Result<Option<LakeBatch>, StoreError> {
        let mut tx = self.begin_long(Wall::None).await?;
        tx.take_turn_at_lake_batches().await?;
        let open: Option<(i64,)> = fetch_optional!(
            tx,
            (i64,),
            "SELECT batch_no FROM lake_batch WHERE NOT done AND batch_no > $1 ORDER BY batch_no LIMIT 1",
            after_batch_no,
        )?;
        let batch_no = match open {
            Some((batch_no,)) => batch_no,
            None => match tx.number_lake_batch(n_max).await? {
                Some(batch_no) => batch_no,
                None => return Ok(None),
            },
        };
        let bodies = if tx.is_postgres() {
            "SELECT body FROM event WHERE lake_batch = $1 ORDER BY seq"
        } else {
            "SELECT event.body FROM lake_batch JOIN event ON event.seq BETWEEN lake_batch.first_seq AND lake_batch.last_seq
             WHERE lake_batch.batch_no = $1 ORDER BY event.seq"
        };
        let rows: Vec<(String,)> = fetch_all!(tx, (String,), bodies, batch_no)?;
        tx.commit().await?;
        let events = rows
            .iter()
            .map(|(body,)| serde_json::from_str(body).map_err(|_| StoreError::Corrupt { what: "event" }))
            .collect::<Result<_, _>>()?;
        Ok(Some(LakeBatch { batch_no, events }))
    }

    /// Notes that the lake holds every batch up to and including `batch_no`.
    pub async fn finish_lake_batches(&self, batch_no: i64) -> Result<(), StoreError> {
        let mut tx = self.begin_write(Wall::None).await?;
        execute!(tx, "UPDATE lake_batch SET done = TRUE WHERE batch_no <= $1 AND NOT done", batch_no)?;
        tx.commit().await
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match &self.db {
            Db::Sqlite { read, .. } => sqlx::query("SELECT 1").execute(read).await.map(drop)?,
            Db::Postgres(pool) => sqlx::query("SELECT 1").execute(pool).await.map(drop)?,
        }
        Ok(())
    }
}

impl Tx {
    /// Events after a sequence number that the lake is said to hold, in order, each with its number.
    pub async fn events_in_lake(&mut self, after_seq: i64, n_max: i64) -> Result<Vec<(i64, Event)>, StoreError> {
        let sql = if self.is_postgres() {
            "SELECT seq, body FROM event WHERE seq > $1 AND ($2 = '' OR municipality_code = $2)
             AND lake_batch IN (SELECT batch_no FROM lake_batch WHERE done) ORDER BY seq LIMIT $3"
        } else {
            concat!(
                "SELECT seq, body FROM event WHERE seq > $1 AND ($2 = '' OR municipality_code = $2) AND seq <= ",
                last_in_lake!(),
                " ORDER BY seq LIMIT $3"
            )
        };
        let rows = fetch_all!(self, (i64, String), sql, after_seq, self.wall.code(), n_max)?;
        rows.into_iter()
            .map(|(seq, body)| {
                let event = serde_json::from_str(&body);
                Ok((seq, event.map_err(|_| StoreError::Corrupt { what: "event" })?))
            })
            .collect()
    }

    /// Makes relays of other nodes wait until this transaction ends.
    ///
    /// Each statement of theirs would see what this one has committed meanwhile: a relay that found no open batch and
    /// then the number of a new one would pass that batch over, and what it reports as done would cover it. On SQLite
    /// there is one writer.
    async fn take_turn_at_lake_batches(&mut self) -> Result<(), StoreError> {
        if self.is_postgres() {
            execute!(self, "LOCK TABLE lake_batch IN SHARE ROW EXCLUSIVE MODE")?;
        }
        Ok(())
    }

    /// Deletes those of the oldest `n_max` events that were recorded before an instant and that the lake holds, and the
    /// batches nothing is left of. Returns how many events there were.
    ///
    /// What comes later has the numbers it would have had: those of subjects, batches and the log go on.
    pub async fn forget_events(&mut self, before: Timestamp, n_max: i64) -> Result<u64, StoreError> {
        let (events, batches) = if self.is_postgres() {
            (
                "DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT $2) AND recorded_at_us < $1
                 AND lake_batch IN (SELECT batch_no FROM lake_batch WHERE done)",
                "DELETE FROM lake_batch WHERE done AND batch_no < (SELECT MIN(lake_batch) FROM event)
                 AND batch_no < (SELECT MAX(batch_no) FROM lake_batch WHERE done)",
            )
        } else {
            (
                concat!(
                    "DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT $2)
                     AND recorded_at_us < $1 AND seq <= ",
                    last_in_lake!()
                ),
                "DELETE FROM lake_batch WHERE done AND last_seq < (SELECT MIN(seq) FROM event)
                 AND batch_no < (SELECT MAX(batch_no) FROM lake_batch WHERE done)",
            )
        };
        let n_events = execute!(self, events, before.as_micros(), n_max)?;
        if n_events > 0 {
            execute!(self, batches)?;
        }
        Ok(n_events)
    }

    /// Gives the oldest events without a batch the next number, at most `n_max` of them; `None` when there are none.
    async fn number_lake_batch(&mut self, n_max: i64) -> Result<Option<i64>, StoreError> {
        let (last,): (i64,) = fetch_one!(self, (i64,), "SELECT COALESCE(MAX(batch_no), 0) FROM lake_batch")?;
        let batch_no = last + 1;
        let numbered = if self.is_postgres() {
            let numbered = execute!(
                self,
                "UPDATE event SET lake_batch = $1 WHERE seq IN (SELECT seq FROM event WHERE lake_batch IS NULL ORDER BY seq LIMIT $2)",
                batch_no,
                n_max,
            )?;
            if numbered > 0 {
                execute!(self, "INSERT INTO lake_batch (batch_no, done) VALUES ($1, FALSE)", batch_no)?;
            }
            numbered
        } else {
            execute!(
                self,
                "INSERT INTO lake_batch (batch_no, done, first_seq, last_seq)
                 SELECT $1, FALSE, MIN(seq), MAX(seq) FROM (
                     SELECT seq FROM event
                     WHERE seq > COALESCE((SELECT last_seq FROM lake_batch ORDER BY batch_no DESC LIMIT 1), 0)
                     ORDER BY seq LIMIT $2
                 ) HAVING COUNT(*) > 0",
                batch_no,
                n_max,
            )?
        };
        Ok((numbered > 0).then_some(batch_no))
    }

    /// Whether this transaction runs on PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.inner, Inner::Postgres(_))
    }
}
