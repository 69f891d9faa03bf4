//! Firings of timers, each once (N-COR-05).

use todoke_domain::Timestamp;

use crate::{StoreError, Tx};

impl Tx {
    /// Claims a firing; `false` when it has been fired, here or on another node. Commits with what the
    /// timer does, so that a crash before the commit leaves it to be fired again.
    pub async fn claim_firing(
        &mut self,
        timer_id: &str,
        subject_id: &str,
        instant: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "INSERT INTO timer_firing (timer_id, subject_id, instant_us, fired_at_us) VALUES ($1, $2, $3, $4)
             ON CONFLICT (timer_id, subject_id, instant_us) DO NOTHING",
            timer_id,
            subject_id,
            instant.as_micros(),
            now.as_micros(),
        )?;
        Ok(n > 0)
    }

    /// Newest instant a timer fired for a subject.
    pub async fn last_firing(&mut self, timer_id: &str, subject_id: &str) -> Result<Option<Timestamp>, StoreError> {
        let row: Option<(i64,)> = fetch_optional!(
            self,
            (i64,),
            "SELECT instant_us FROM timer_firing WHERE timer_id = $1 AND subject_id = $2 ORDER BY instant_us DESC LIMIT 1",
            timer_id,
            subject_id,
        )?;
        Ok(row.map(|(us,)| Timestamp::from_micros(us)))
    }
}
