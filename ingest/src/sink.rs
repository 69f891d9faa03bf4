//! The service that takes events to the lake.
//!
//! It stages what it finds, so that queries see it at once, and commits by size or age. Its sources
//! keep everything until the commit is done: the record its unfinished batches, the usage log its
//! entries. A restart and a normal turn are one path: both read the sources from the last position.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use todoke_domain::{Event, Timestamp};
use todoke_lake::{EventRows, Flushed, Lake, LakeError, Origin};
use tokio::{
    sync::{Notify, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{IngestError, RecordFeed, UsageEntry, UsageLog, row::LogRows};

/// Usage events staged together, at most: few large batches are cheaper to build and to merge.
const USAGE_ROWS_MAX: usize = 65_536;

/// The clock, passed in.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Pause between two looks at the sources while events keep coming. Each look writes to the record, so that
/// looking after every commit would cost as much as the commits; queries stay far below a second behind.
const GATHER: Duration = Duration::from_millis(100);

/// When the sink commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkConfig {
    /// Commit when the oldest staged event has waited this long. Milliseconds.
    pub flush_age_ms_max: u64,
    /// Commit when this many rows are staged.
    pub flush_rows_max: u64,
    /// Stop taking more while this many rows are staged, because commits fail or are slow.
    pub staged_rows_max: u64,
    /// The same by their memory, bytes; half of it triggers a commit, so that the other half can be filled
    /// meanwhile. What has no room waits in its source, on the disk.
    pub staged_bytes_max: u64,
    /// Look for events at least this often, also without a wake-up. Milliseconds.
    pub poll_ms: u64,
    /// Events taken from a source at a time.
    pub assign_rows_max: u32,
    /// Name of this node among those that take usage.
    pub node: String,
}

impl Default for SinkConfig {
    fn default() -> Self {
        Self {
            flush_age_ms_max: 5_000,
            flush_rows_max: 200_000,
            staged_rows_max: 600_000,
            staged_bytes_max: 256 << 20,
            poll_ms: 1_000,
            assign_rows_max: 10_000,
            node: "node-1".to_owned(),
        }
    }
}

/// How the sink is doing, for health checks and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkStatus {
    /// Rows visible to queries and not committed.
    pub staged_rows: u64,
    /// Rows committed since the start.
    pub committed_rows: u64,
    /// Commits since the start.
    pub flushes: u64,
    /// When the last commit ended.
    pub flushed_at: Option<i64>,
    /// Events that went to the quarantine since the start.
    pub quarantined: u64,
    /// Why the last commit failed, or else the last exchange with a source; `None` once that succeeds.
    pub failure: Option<String>,
}

/// Whom the sink deals with in turn. While one fails the other may do well.
#[derive(Clone, Copy)]
enum Step {
    Sources,
    Lake,
}

/// Takes usage and the record's events to the lake. One per process.
pub struct LakeSink {
    lake: Arc<Lake>,
    usage: Option<UsageLog>,
    feed: Option<Arc<dyn RecordFeed>>,
    now: Now,
    config: SinkConfig,
    wake: Arc<Notify>,
    status: watch::Sender<SinkStatus>,
    usage_app: Arc<str>,
    record_app: Arc<str>,
    // Positions up to which the sources are staged.
    usage_staged: u64,
    record_staged: i64,
    /// The highest position of the usage log that any table had when this sink began; looked up once.
    usage_known: Option<u64>,
    // Positions that are committed and not yet reported back to their sources.
    usage_done: Option<u64>,
    record_done: Option<i64>,
    oldest: Option<Instant>,
    sources_failure: Option<String>,
    lake_failure: Option<String>,
}

impl std::fmt::Debug for LakeSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LakeSink").field("config", &self.config).finish_non_exhaustive()
    }
}

impl LakeSink {
    /// A sink over the sources this process has.
    pub fn new(
        lake: Arc<Lake>,
        usage: Option<UsageLog>,
        feed: Option<Arc<dyn RecordFeed>>,
        now: Now,
        config: SinkConfig,
    ) -> Self {
        let usage_app = usage.as_ref().map_or_else(String::new, |usage| usage.app_id(&config.node));
        let record_app = feed.as_ref().map_or_else(String::new, |feed| feed.app_id());
        Self {
            lake,
            usage,
            feed,
            now,
            config,
            wake: Arc::new(Notify::new()),
            status: watch::Sender::new(SinkStatus::default()),
            usage_app: usage_app.into(),
            record_app: record_app.into(),
            usage_staged: 0,
            record_staged: 0,
            usage_known: None,
            usage_done: None,
            record_done: None,
            oldest: None,
            sources_failure: None,
            lake_failure: None,
        }
    }

    /// Call `notify_one` after a commit of the record, so that its events are visible at once. Only a
    /// hint: the sink also polls.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Watches how the sink is doing.
    pub fn status(&self) -> watch::Receiver<SinkStatus> {
        self.status.subscribe()
    }

    /// Runs until `stop`, then commits what is there and ends. A failing source or lake never ends
    /// it: it is logged, shown in the status and tried again.
    ///
    /// Errors: the failure of the last commit, after `stop`. What it did not commit is still in its source.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), IngestError> {
        let usage_wake = self.usage.as_ref().map_or_else(|| Arc::new(Notify::new()), UsageLog::committed);
        let wake = self.wake();
        // At most one task. A task of its own, because staging may wait for a table the flush holds.
        let mut flushing: JoinSet<Result<Flushed, LakeError>> = JoinSet::new();
        loop {
            // Before more is collected, too: one flush follows the other while the next rows are made.
            self.flush_if_due(&mut flushing);
            let collected = self.collect().await;
            let gathered = Instant::now() + GATHER;
            // What has no room waits for the flush: looking again before would find the same.
            let (more, failed) =
                self.note(Step::Sources, collected).map_or((false, true), |more| (more && self.has_room(), false));
            self.flush_if_due(&mut flushing);
            self.flush_if_asked(&mut flushing);
            let poll = Instant::now() + Duration::from_millis(self.config.poll_ms);
            let next = match self.flush_at() {
                Some(due) if flushing.is_empty() && !failed => due.min(poll),
                _ => poll,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = async {
                    tokio::select! {
                        () = wake.notified() => {}
                        () = usage_wake.notified() => {}
                    }
                    sleep_until(gathered).await;
                } => {}
                () = std::future::ready(()), if more => {}
                () = sleep_until(next) => {}
                Some(result) = flushing.join_next() => self.end_flush(result).await,
            }
        }
        while let Some(result) = flushing.join_next().await {
            self.end_flush(result).await;
        }
        self.collect_and_flush().await
    }

    /// Stages and commits everything there is now, and reports it to the sources.
    pub async fn collect_and_flush(&mut self) -> Result<(), IngestError> {
        // What one source has is committed also while the other one fails.
        let mut collected = self.collect().await;
        loop {
            let flushed = self.lake.flush((self.now)()).await?;
            self.committed(&flushed);
            self.report().await?;
            if !collected? {
                return Ok(());
            }
            collected = self.collect().await;
        }
    }

    fn is_due(&self) -> bool {
        self.lake.staged_rows() >= self.config.flush_rows_max
            || self.lake.staged_bytes() > self.config.staged_bytes_max / 2
            || self.flush_at().is_some_and(|due| due <= Instant::now())
    }

    fn flush_at(&self) -> Option<Instant> {
        self.oldest.map(|since| since + Duration::from_millis(self.config.flush_age_ms_max))
    }

    fn flush_if_due(&mut self, flushing: &mut JoinSet<Result<Flushed, LakeError>>) {
        if flushing.is_empty() && self.is_due() {
            self.flush(flushing);
        }
    }

    /// To be called after the sources were asked: who waits for the lake waits for what they had then.
    fn flush_if_asked(&mut self, flushing: &mut JoinSet<Result<Flushed, LakeError>>) {
        if flushing.is_empty() && self.usage.as_ref().is_some_and(UsageLog::take_flush_request) {
            self.flush(flushing);
        }
    }

    fn flush(&mut self, flushing: &mut JoinSet<Result<Flushed, LakeError>>) {
        // What is staged from now on waits for the next flush.
        self.oldest = None;
        let lake = Arc::clone(&self.lake);
        let now = (self.now)();
        flushing.spawn(async move { lake.flush(now).await });
    }

    async fn end_flush(&mut self, result: Result<Result<Flushed, LakeError>, JoinError>) {
        match result.unwrap_or_else(|panicked| Err(LakeError::Task(panicked))) {
            Ok(flushed) => {
                self.committed(&flushed);
                self.note(Step::Lake, Ok(()));
                let reported = self.report().await;
                self.note(Step::Sources, reported);
            }
            Err(error) => {
                // Still staged; the next attempt comes after the usual age.
                self.oldest.get_or_insert_with(Instant::now);
                self.note::<()>(Step::Lake, Err(error.into()));
            }
        }
    }

    fn committed(&mut self, flushed: &Flushed) {
        if let Some(through) = flushed.through.get(&self.record_app) {
            self.record_done = self.record_done.max(Some(*through));
        }
        if let Some(through) = flushed.through.get(&self.usage_app) {
            self.usage_done = self.usage_done.max(u64::try_from(*through).ok());
        }
        let staged_rows = self.lake.staged_rows();
        let at = (self.now)().as_micros();
        self.status.send_modify(|status| {
            status.staged_rows = staged_rows;
            status.committed_rows += flushed.rows;
            status.flushes += 1;
            status.flushed_at = Some(at);
        });
    }

    /// Tells the sources what they need not keep. Until that succeeds it is tried at every turn.
    ///
    /// Errors: the first of them; the other source was told nevertheless.
    async fn report(&mut self) -> Result<(), IngestError> {
        let record = self.report_to_record().await;
        let usage = self.report_to_usage().await;
        record.and(usage)
    }

    async fn report_to_record(&mut self) -> Result<(), IngestError> {
        if let (Some(feed), Some(through)) = (&self.feed, self.record_done) {
            feed.finish(through).await?;
            self.record_done = None;
        }
        Ok(())
    }

    async fn report_to_usage(&mut self) -> Result<(), IngestError> {
        if let (Some(usage), Some(through)) = (&self.usage, self.usage_done) {
            usage.truncate(through).await?;
            self.usage_done = None;
        }
        Ok(())
    }

    /// Stages what the sources have, about as much as one commit takes. `true` if there may be more.
    ///
    /// Errors: the first of them; what the other source has is staged nevertheless.
    async fn collect(&mut self) -> Result<bool, IngestError> {
        let mut n_rows = 0;
        let reported = self.report().await;
        let record = self.collect_record(&mut n_rows).await;
        let usage = self.collect_usage(&mut n_rows).await;
        reported.and(record).and(usage)?;
        Ok(n_rows >= self.config.flush_rows_max || !self.has_room())
    }

    async fn collect_record(&mut self, n_rows: &mut u64) -> Result<(), IngestError> {
        while *n_rows < self.config.flush_rows_max && self.has_room() {
            let Some(feed) = &self.feed else { break };
            let Some(batch) = feed.assign(self.record_staged, self.config.assign_rows_max).await? else { break };
            let origin = Origin::new(Arc::clone(&self.record_app), batch.batch_no);
            self.stage(origin, &batch.events).await?;
            *n_rows += batch.events.len() as u64;
            self.record_staged = batch.batch_no;
        }
        Ok(())
    }

    async fn collect_usage(&mut self, n_rows: &mut u64) -> Result<(), IngestError> {
        while *n_rows < self.config.flush_rows_max && self.has_room() {
            let Some(usage) = self.usage.clone() else { break };
            let known = self.usage_known().await?;
            let mut entries = usage.read(self.usage_staged, USAGE_ROWS_MAX).await?;
            if entries.is_empty() {
                break;
            }
            // What a table may hold already is asked for entry by entry, with the positions it was
            // committed by; what is new to all tables goes together.
            let n_known = entries.partition_point(|entry| entry.position <= known);
            let new = entries.split_off(n_known);
            for entry in entries {
                *n_rows += self.stage_usage(vec![entry]).await?;
            }
            *n_rows += self.stage_usage(new).await?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.lake.staged_rows() < self.config.staged_rows_max && self.lake.staged_bytes() < self.config.staged_bytes_max
    }

    async fn usage_known(&mut self) -> Result<u64, IngestError> {
        if let Some(known) = self.usage_known {
            return Ok(known);
        }
        let committed = self.lake.committed_version(&self.usage_app).await?;
        let known = committed.and_then(|version| u64::try_from(version).ok()).unwrap_or(0);
        self.usage_known = Some(known);
        Ok(known)
    }

    /// Stages entries as one origin, that of the last of them. Returns their number of rows.
    async fn stage_usage(&mut self, entries: Vec<UsageEntry>) -> Result<u64, IngestError> {
        let Some(position) = entries.last().map(|entry| entry.position) else { return Ok(0) };
        let now = (self.now)();
        let rows = tokio::task::spawn_blocking(move || {
            let n_rows: usize = entries.iter().map(|entry| entry.n_rows as usize).sum();
            let mut rows = LogRows::with_capacity(n_rows);
            entries.iter().try_for_each(|entry| entry.rows(&mut rows))?;
            EventRows::of(&rows, now)
        });
        let rows = rows.await.map_err(IngestError::log("decoding entries"))??;
        let version = i64::try_from(position).unwrap_or(i64::MAX);
        let n_rows = rows.n_rows() as u64;
        self.stage_rows(Origin::new(Arc::clone(&self.usage_app), version), rows).await?;
        self.usage_staged = position;
        Ok(n_rows)
    }

    async fn stage(&mut self, origin: Origin, events: &[Event]) -> Result<(), IngestError> {
        let rows = EventRows::build(events, (self.now)())?;
        self.stage_rows(origin, rows).await
    }

    async fn stage_rows(&mut self, origin: Origin, rows: EventRows) -> Result<(), IngestError> {
        for error in rows.rejected() {
            tracing::error!(event.id = %error.event_id, event.r#type = %error.event_type, fault = error.fault.code(),
                field = %error.field, "an event went to the lake's quarantine");
        }
        self.lake.stage(origin, &rows).await?;
        self.oldest.get_or_insert_with(Instant::now);
        let staged_rows = self.lake.staged_rows();
        self.status.send_modify(|status| {
            status.staged_rows = staged_rows;
            status.quarantined += rows.rejected().len() as u64;
        });
        Ok(())
    }

    /// Shows that a step failed until the same step succeeds; logs it when it is news.
    fn note<T>(&mut self, step: Step, result: Result<T, IngestError>) -> Option<T> {
        let (value, failure) = match result {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(chain(&error))),
        };
        let known = match step {
            Step::Sources => &mut self.sources_failure,
            Step::Lake => &mut self.lake_failure,
        };
        if let Some(text) = failure.as_ref().filter(|_| *known != failure) {
            tracing::error!(error = %text, "events do not reach the lake; trying again");
        }
        *known = failure;
        let shown = self.lake_failure.as_ref().or(self.sources_failure.as_ref()).cloned();
        self.status.send_if_modified(|status| {
            let is_news = status.failure != shown;
            status.failure = shown;
            is_news
        });
        value
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
