//! The dispatcher: takes what is due from the record, hands it to the channels, and notes what became of it.
//!
//! Each provider has a lane of its own with its pace, its parallelism and its breaker, so that one that is
//! out holds up nobody else; browsers have push services of many providers, and each of these its own breaker. A lane claims deliveries and notes the handing-over in one transaction, sends
//! outside of any, and notes the outcomes, all that came meanwhile, together with the next claim. A crash in
//! between leaves claims whose lease ends: they are sent again where a second copy replaces the first, and
//! otherwise stay visible as doubtful.

mod breaker;
mod bucket;
mod gate;
mod lane;
mod mark;
pub mod metric;
mod settings;

use std::{sync::Arc, time::Duration};

use todoke_domain::{Timestamp, delivery::Provider};
use todoke_store::{Store, StoreError, Wall};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use breaker::{Allowance, Breaker};
pub use bucket::Bucket;
pub use settings::DispatchSettings;

use crate::Channel;
use lane::Lane;
use mark::Marks;

/// Deliveries looked after in one transaction when leases or times have ended.
const SWEEP_MAX: i64 = 500;
/// Pause between two looks for ended leases and times.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Tells the lanes that something was queued. Losing a call costs at most a poll's time.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<[Notify; Provider::SENT.len()]>);

impl Wake {
    /// Lets every lane look.
    pub fn all(&self) {
        for lane in self.0.iter() {
            lane.notify_one();
        }
    }

    fn of(&self, provider: Provider) -> &Notify {
        let at = Provider::SENT.iter().position(|known| *known == provider).unwrap_or(0);
        &self.0[at]
    }
}

/// What every lane needs.
pub(crate) struct Common {
    store: Store,
    settings: DispatchSettings,
    base_url: String,
    keep_texts: bool,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    wake: Wake,
    providers: Vec<Provider>,
}

/// Sends what is queued.
pub struct Dispatcher {
    common: Arc<Common>,
    lanes: Vec<Lane>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

/// What a dispatcher is made of.
pub struct DispatcherParts {
    /// The record.
    pub store: Store,
    /// A channel for each provider that is set up; deliveries of the others wait.
    pub channels: Vec<(Provider, Arc<dyn Channel>)>,
    /// Pace and patience.
    pub settings: DispatchSettings,
    /// Begins the links; without a trailing slash.
    pub base_url: String,
    /// Keep the texts of settled mails with codes and links: for the mailbox of a demo only.
    pub keep_texts: bool,
    /// The present instant.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Tells that something was queued.
    pub wake: Wake,
}

impl std::fmt::Debug for DispatcherParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DispatcherParts").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// A dispatcher over the record's queue.
    pub fn new(parts: DispatcherParts) -> Self {
        let DispatcherParts { store, channels, settings, base_url, keep_texts, now, wake } = parts;
        let base_url = base_url.trim_end_matches('/').to_owned();
        let providers = channels.iter().map(|(provider, _)| *provider).collect();
        let common = Arc::new(Common { store, settings, base_url, keep_texts, now, wake, providers });
        let lanes = channels.into_iter().map(|(provider, channel)| Lane::new(&common, provider, channel)).collect();
        Self { common, lanes }
    }

    /// Sends until stopped; what is under way then is still noted. A failing record is tried again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut tasks = JoinSet::new();
        for lane in self.lanes {
            tasks.spawn(lane.run(stop.clone()));
        }
        let common = self.common;
        tasks.spawn(async move {
            loop {
                if let Err(error) = common.sweep().await {
                    tracing::warn!(error = %error, "ended leases wait");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                }
            }
        });
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
        Ok(())
    }

    /// Sends what is due now, until nothing is, and gives the number of attempts.
    pub async fn send_due(&mut self) -> Result<usize, StoreError> {
        let mut n = self.common.sweep().await?;
        for lane in &mut self.lanes {
            n += lane.send_due().await?;
        }
        Ok(n)
    }
}

impl Common {
    /// Looks after deliveries whose lease or time has ended; gives how many.
    async fn sweep(&self) -> Result<usize, StoreError> {
        let mut n = 0;
        loop {
            let now = (self.now)();
            // A look without a lock first: most of the time there is nothing.
            let mut look = self.store.begin_read(Wall::None).await?;
            let lost = look.deliveries_with_ended_lease(now, SWEEP_MAX).await?;
            let mut late = Vec::new();
            // What nobody would send waits, whatever its time: a mail server may be set up tomorrow.
            for provider in &self.providers {
                late.extend(look.deliveries_past_their_time(*provider, now, SWEEP_MAX).await?);
            }
            drop(look);
            if lost.is_empty() && late.is_empty() {
                return Ok(n);
            }
            n += lost.len() + late.len();
            let retries = self.settings.retries();
            let mut tx = self.store.begin_long(Wall::None).await?;
            let mut marks = Marks::new(&mut tx, now, &retries, self.keep_texts);
            for row in &lost {
                marks.lost(row).await?;
            }
            for row in &late {
                marks.expire(row).await?;
            }
            marks.finish().await?;
            tx.commit().await?;
        }
    }
}
