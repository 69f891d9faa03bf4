//! How long a provider keeps trying.

use std::time::Duration;

use todoke_domain::Timestamp;

use crate::{Outcome, Outgoing};

/// Time that is left for a message, at most `life_max`; a message past its time is refused.
pub(crate) fn life(outgoing: &Outgoing, life_max: Duration, now: Timestamp) -> Result<Duration, Outcome> {
    match outgoing.expires_at {
        None => Ok(life_max),
        // Whole seconds, rounded up: zero means "now or never" to providers, which is not what an end soon means.
        Some(end) if end > now => {
            Ok(Duration::from_secs(end.since(now).as_millis().div_ceil(1_000) as u64).min(life_max))
        }
        Some(_) => Err(Outcome::Refused { code: "expired" }),
    }
}
