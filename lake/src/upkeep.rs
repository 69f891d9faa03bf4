//! When a lake was last tidied up, noted at the lake itself: a restart, or another node, does not wait anew.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use todoke_domain::Timestamp;

use crate::{Lake, LakeError};

/// Where it is noted, below the lake.
const NOTE: &str = "upkeep.json";

/// A vacuum lists every file there is: once a day is enough for files that are kept for a week.
const VACUUM_EVERY: Duration = Duration::from_secs(86_400);

/// A server that starts has other things to do first, also when the last look is long ago.
const AFTER_START: Duration = Duration::from_secs(60);

/// When a lake was last tidied up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upkeep {
    /// When days past their time and small files were last looked for; before the first time, when the first server
    /// started.
    pub looked_at: Option<Timestamp>,
    /// When files that nobody needs were last deleted in every table.
    pub vacuumed_at: Option<Timestamp>,
}

/// How long ago something was. A note from the future is of a clock that was wrong, and says nothing.
fn ago(noted: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    noted.filter(|at| *at <= now).map(|at| now.since(at))
}

impl Upkeep {
    /// How long a server that starts at `now` waits before it looks, if it is to look `every` so often.
    pub fn wait(&self, every: Duration, now: Timestamp) -> Duration {
        ago(self.looked_at, now).map_or(every, |ago| every.saturating_sub(ago)).max(AFTER_START.min(every))
    }

    /// Whether the last vacuum is long enough ago.
    pub fn vacuum_is_due(&self, now: Timestamp) -> bool {
        ago(self.vacuumed_at, now).is_none_or(|ago| ago >= VACUUM_EVERY)
    }
}

impl Lake {
    /// When it was last tidied up, by whichever process.
    ///
    /// Errors: the note cannot be read. One that makes no sense is as none.
    pub async fn upkeep(&self) -> Result<Upkeep, LakeError> {
        let note = self.location.read(NOTE).await?;
        Ok(note.and_then(|note| serde_json::from_slice(&note).ok()).unwrap_or_default())
    }

    /// Notes when it was tidied up.
    pub async fn note_upkeep(&self, upkeep: &Upkeep) -> Result<(), LakeError> {
        let text = serde_json::json!(upkeep).to_string();
        Ok(self.location.replace(NOTE, text).await?)
    }

    /// Vacuums every table, as [`Self::vacuum`] does, and notes it. Returns how many files were deleted. A table that
    /// fails does not keep the others from it.
    ///
    /// Errors: of the last table that failed; then nothing is noted, and it is due as before.
    pub async fn vacuum_all(&self, retention: Duration, now: Timestamp) -> Result<usize, LakeError> {
        let (mut n_files, mut failure) = (0, None);
        for table in self.stats().into_iter().filter(|table| table.version > 0) {
            match self.vacuum(&table.table, retention).await {
                Ok(n) => n_files += n,
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let upkeep = Upkeep { vacuumed_at: Some(now), ..self.upkeep().await? };
        self.note_upkeep(&upkeep).await?;
        Ok(n_files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn looked(text: &str) -> Upkeep {
        Upkeep { looked_at: Some(at(text)), vacuumed_at: Some(at(text)) }
    }

    #[test]
    fn a_restart_does_not_begin_to_wait_anew() {
        let now = at("2026-11-21T03:00:00Z");
        assert_eq!(Upkeep::default().wait(HOUR, now), HOUR, "nobody knows of anything to do");
        assert_eq!(looked("2026-11-21T02:15:00Z").wait(HOUR, now), HOUR / 4);
        assert_eq!(looked("2026-11-14T03:00:00Z").wait(HOUR, now), AFTER_START);
        assert_eq!(looked("2026-11-21T02:59:59Z").wait(Duration::from_secs(30), now), Duration::from_secs(30));
        assert_eq!(looked("2030-01-01T00:00:00Z").wait(HOUR, now), HOUR, "a clock was wrong");
    }

    #[test]
    fn a_vacuum_is_due_a_day_after_the_last_one_whoever_made_it() {
        let now = at("2026-11-21T03:00:00Z");
        assert!(Upkeep::default().vacuum_is_due(now));
        assert!(looked("2026-11-20T03:00:00Z").vacuum_is_due(now));
        assert!(!looked("2026-11-20T03:00:01Z").vacuum_is_due(now));
        assert!(looked("2030-01-01T00:00:00Z").vacuum_is_due(now), "a clock was wrong");
    }
}
