//! The writing side: staging rows and committing them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
};

use datafusion::arrow::array::RecordBatch;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use todoke_domain::Timestamp;

use crate::{
    Dimension, EventRows, LakeError, LakeLocation, LakeView, Origin, Told,
    file::Layout,
    slice::{self, Slice},
    table::{Committed, Part, Table},
    torn,
    view::{Shared, StagedPart, Tables},
};

/// Settings of the lake's tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LakeOptions {
    /// fsync data files and log entries before a commit counts as done; in a folder only, what an object store has
    /// answered is durable.
    pub fsync: bool,
    /// Rows in one Parquet row group, at most (events.md §3: 128 k).
    pub row_group_rows_max: usize,
    /// Columns that get bloom filters, in the tables that have them. `./bench lookup` measures what they cost and bring.
    pub bloom_columns: Vec<String>,
    /// Log entries between two checkpoints of a table.
    pub checkpoint_every: u32,
    /// How long log entries behind a checkpoint are kept, hours.
    pub log_retention_hours: u32,
    /// How long files that compaction replaced are kept for queries and readers of old versions, hours.
    pub file_retention_hours: u32,
    /// Tables committed at the same time.
    pub commit_concurrency: usize,
    /// Partitions encoded and held in memory at a time by one commit.
    pub encode_partitions_max: usize,
}

impl Default for LakeOptions {
    fn default() -> Self {
        Self {
            fsync: true,
            row_group_rows_max: 131_072,
            // Its values are all over the days, so bounds skip nothing: a session is found eight times faster.
            bloom_columns: vec!["subject_id".to_owned()],
            checkpoint_every: 100,
            log_retention_hours: 48,
            file_retention_hours: 168,
            commit_concurrency: 4,
            encode_partitions_max: 64,
        }
    }
}

impl LakeOptions {
    pub(crate) fn layout(&self) -> Layout {
        Layout { row_group_rows_max: self.row_group_rows_max, bloom_columns: self.bloom_columns.clone() }
    }
}

/// What a flush committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Rows that were not in the lake before.
    pub rows: u64,
    /// Per application, the highest version that is now committed in all of its tables.
    pub through: BTreeMap<Arc<str>, i64>,
}

/// What loading history wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkReport {
    /// Rows written.
    pub rows: u64,
    /// Tables that got a commit.
    pub tables: usize,
}

/// The lake, opened for writing. Several processes may write the same one: rows of one origin are taken once,
/// whoever brings them.
pub struct Lake {
    pub(crate) location: LakeLocation,
    pub(crate) options: LakeOptions,
    pub(crate) view: LakeView,
    // Flushes take turns: two at once would commit the same staged parts.
    turn: tokio::sync::Mutex<()>,
    // So does maintenance: two compactions would replace the same files.
    pub(crate) upkeep: tokio::sync::Mutex<()>,
    /// By table, the files that the last compaction had no memory for.
    pub(crate) too_large: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Files of the quarantine that were read for details of deliveries and have none.
    pub(crate) without_deliveries: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lake").field("location", &self.location).finish_non_exhaustive()
    }
}

async fn open_for_writing(table: &tokio::sync::Mutex<Table>, options: &LakeOptions) -> Result<(), LakeError> {
    table.lock().await.open_for_writing(options).await
}

impl Lake {
    /// Opens a lake whose sources were told nothing yet, as [`Self::open_told`] does.
    pub async fn open(location: impl Into<LakeLocation>, options: LakeOptions) -> Result<Arc<Self>, LakeError> {
        Self::open_told(location, options, &Told::Through(BTreeMap::new())).await
    }

    /// Opens the lake at a place, creating missing tables and adding columns that are new in the catalogue. Files and
    /// folders appear only below it. A bucket is not asked whether it can hold a lake: [`LakeLocation::probe`] does.
    ///
    /// Errors: [`LakeError::ColumnType`] when a column on disk has another type than the catalogue;
    /// [`LakeError::DamagedEntry`] when the last log entry of a table is torn and, by what the sources were `told`, may
    /// have been acknowledged, or when one before it is empty.
    pub async fn open_told(
        location: impl Into<LakeLocation>,
        options: LakeOptions,
        told: &Told,
    ) -> Result<Arc<Self>, LakeError> {
        let location: LakeLocation = location.into();
        let location = location.made()?;
        let view = LakeView { shared: Arc::new(Shared::new()), tables: Arc::new(Tables::new(&location)) };
        torn::set_aside(&view.tables.groups, told).await?;
        // Collected before they are streamed: a closure inside the stream would not be `Send`.
        let openings: Vec<_> = view.tables.groups.values().map(|table| open_for_writing(table, &options)).collect();
        stream::iter(openings).buffer_unordered(options.commit_concurrency.max(1)).try_collect::<()>().await?;
        let mut opened = Vec::new();
        for (name, table) in &view.tables.groups {
            opened.extend(table.lock().await.committed().map(|c| (*name, Arc::clone(c))));
        }
        view.shared.publish(opened, &BTreeSet::new());
        for (dimension, table) in &view.tables.dimensions {
            if let Some(rows) = table.lock().await.open_for_writing(told).await? {
                view.shared.publish_dimension(*dimension, rows);
            }
        }
        view.refresh().await?;
        Ok(Arc::new(Self {
            location,
            options,
            view,
            turn: tokio::sync::Mutex::new(()),
            upkeep: tokio::sync::Mutex::new(()),
            too_large: Mutex::default(),
            without_deliveries: Mutex::default(),
        }))
    }

    /// What queries see, live.
    pub fn view(&self) -> LakeView {
        self.view.clone()
    }

    /// Shows rows to queries at once. They are not durable: their source must keep them until
    /// [`Self::flush`] says that their version is committed. Staging the same origin again, or one
    /// the tables already hold, shows nothing twice once its tables are known to hold it.
    ///
    /// An origin must not be staged twice at the same time.
    pub async fn stage(&self, origin: Origin, rows: &EventRows) -> Result<(), LakeError> {
        // The tables must know how far this application got before its rows are shown, or rows that
        // are committed already would be seen twice until the flush.
        let apps = BTreeSet::from([Arc::clone(&origin.app_id)]);
        let mut learned = Vec::new();
        for name in rows.tables() {
            let Some((name, table)) = self.view.tables.groups.get_key_value(name) else {
                return Err(LakeError::UnknownTable(name.to_owned()));
            };
            let known = self.view.snapshot().committed(name).is_some_and(|c| c.txns.contains_key(&origin.app_id));
            if !known {
                let mut table = table.lock().await;
                table.know(&apps).await?;
                learned.extend(table.committed().map(|c| (*name, Arc::clone(c))));
            }
        }
        if !learned.is_empty() {
            self.view.shared.publish(learned, &BTreeSet::new());
        }
        self.view.shared.stage(origin, rows)
    }

    /// Commits everything staged before the call: one Delta commit per touched table, then one swap
    /// of what queries see. After an error everything stays staged, and calling again commits what
    /// is missing. Cancelling is as safe as a crash: nothing is lost or doubled.
    pub async fn flush(&self, now: Timestamp) -> Result<Flushed, LakeError> {
        let _turn = self.turn.lock().await;
        let parts = self.view.shared.staged();
        if parts.is_empty() {
            return Ok(Flushed::default());
        }
        let touched: BTreeSet<&str> = parts.iter().flat_map(|p| p.tables.keys().map(String::as_str)).collect();
        let commits: Vec<_> = touched.into_iter().map(|name| self.commit_staged(name, &parts, now)).collect();
        let results: Vec<Result<(&'static str, Arc<Committed>, u64), LakeError>> =
            stream::iter(commits).buffer_unordered(self.options.commit_concurrency.max(1)).collect().await;
        let mut committed = Vec::new();
        let mut failure = None;
        let mut flushed = Flushed::default();
        for result in results {
            match result {
                Ok((name, table, rows)) => {
                    flushed.rows += rows;
                    committed.push((name, table));
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            self.view.shared.publish(committed, &BTreeSet::new());
            return Err(error);
        }
        for part in &parts {
            let through = flushed.through.entry(Arc::clone(&part.origin.app_id)).or_insert(i64::MIN);
            *through = (*through).max(part.origin.version);
        }
        self.view.shared.publish(committed, &parts.iter().map(|p| p.number).collect());
        Ok(flushed)
    }

    async fn commit_staged(
        &self,
        name: &str,
        parts: &[Arc<StagedPart>],
        now: Timestamp,
    ) -> Result<(&'static str, Arc<Committed>, u64), LakeError> {
        let parts: Vec<Part<'_>> = parts
            .iter()
            .filter_map(|part| Some(Part { origin: Some(&part.origin), slices: part.tables.get(name)? }))
            .collect();
        self.commit_parts(name, &parts, now).await
    }

    pub(crate) async fn commit_parts(
        &self,
        name: &str,
        parts: &[Part<'_>],
        now: Timestamp,
    ) -> Result<(&'static str, Arc<Committed>, u64), LakeError> {
        let unknown = || LakeError::UnknownTable(name.to_owned());
        let (name, table) = self.view.tables.groups.get_key_value(name).ok_or_else(unknown)?;
        let mut table = table.lock().await;
        let rows = table.commit(parts, &self.options, now).await?;
        Ok((name, table.committed().cloned().ok_or_else(unknown)?, rows))
    }

    /// Stages and flushes one batch; a no-op where the tables hold the origin already.
    pub async fn append(&self, origin: Origin, rows: &EventRows, now: Timestamp) -> Result<Flushed, LakeError> {
        self.stage(origin, rows).await?;
        self.flush(now).await
    }

    /// Loads history: one file per municipality, day and table, one commit per table, encoded a few
    /// partitions at a time. Not idempotent: rows given twice are there twice.
    pub async fn append_bulk(&self, rows: &EventRows, now: Timestamp) -> Result<BulkReport, LakeError> {
        let mut report = BulkReport::default();
        for (name, batch) in &rows.tables {
            let slices: Vec<Slice> = slice::cut(batch).map_err(LakeError::arrow(name))?;
            let parts = [Part { origin: None, slices: &slices }];
            let (name, committed, n_rows) = self.commit_parts(name, &parts, now).await?;
            self.view.shared.publish([(name, committed)], &BTreeSet::new());
            report.rows += n_rows;
            report.tables += 1;
        }
        Ok(report)
    }

    /// Replaces a dimension's rows; `false` if they were the same already.
    ///
    /// Errors: [`LakeError::DimensionWall`] when a walled dimension has a row without municipality.
    pub async fn write_dimension(&self, dimension: Dimension, rows: &RecordBatch) -> Result<bool, LakeError> {
        let Some(table) = self.view.tables.dimensions.get(&dimension) else {
            return Err(LakeError::UnknownTable(dimension.table().to_owned()));
        };
        let written = table.lock().await.write(rows, self.options.fsync).await?;
        let changed = written.is_some();
        if let Some(rows) = written {
            self.view.shared.publish_dimension(dimension, rows);
        }
        Ok(changed)
    }

    /// The highest version of an application that any table has committed.
    pub async fn committed_version(&self, app_id: &str) -> Result<Option<i64>, LakeError> {
        self.view.committed_version(app_id).await
    }

    /// Rows staged and not yet committed.
    pub fn staged_rows(&self) -> u64 {
        self.view.shared.staged().iter().map(|part| part.n_rows).sum()
    }

    /// Memory of the rows staged and not yet committed, bytes.
    pub fn staged_bytes(&self) -> u64 {
        self.view.shared.staged().iter().map(|part| part.n_bytes).sum()
    }
}
