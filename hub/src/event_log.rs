//! How long events stay in the record's own log (events.md §2).
//!
//! The lake has them for longer. The log is what `todoke lake verify` counts the lake against, what an erasure
//! rewrites, and what a lake that is behind is filled from: nothing leaves before the lake holds it.

use std::time::Duration;

use jiff::civil::Date;
use todoke_domain::{Timestamp, time::fiscal_year_start};
use todoke_store::{Store, StoreError, Wall};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(3_600);
/// Events looked at in a transaction: on SQLite other writers wait for it.
const PAGE: i64 = 2_000;

/// Takes events past their time out of the log, once an hour until stopped.
pub async fn run(store: Store, clock: Clock, fiscal_years: u16, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
        match forget_before(&store, first_day(fiscal_years, clock.now()), &stop).await {
            Ok(0) => {}
            Ok(n_events) => tracing::info!(n_events, "events past their time left the record's log"),
            Err(error) => tracing::warn!(error = %error, "events past their time did not leave the record's log"),
        }
    }
}

/// The first day whose events stay at `now`, if they stay `fiscal_years` after the one they were recorded in.
pub fn first_day(fiscal_years: u16, now: Timestamp) -> Date {
    fiscal_year_start(now.jst_date(), fiscal_years)
}

/// Deletes what was recorded before a day and is in the lake, until nothing is left or `stop`. Returns how many events
/// there were.
pub async fn forget_before(store: &Store, day: Date, stop: &CancellationToken) -> Result<u64, StoreError> {
    let mut n_events = 0;
    while !stop.is_cancelled() {
        let mut tx = store.begin_long(Wall::None).await?;
        let n = tx.forget_events(Timestamp::jst_midnight(day), PAGE).await?;
        tx.commit().await?;
        if n == 0 {
            break;
        }
        n_events += n;
    }
    Ok(n_events)
}
