//! Upkeep: fewer and sorted files, old files deleted, figures about the tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use datafusion::{
    arrow::array::{ArrayRef, Date32Array, RecordBatch, StringViewArray},
    object_store::{Error as StoreError, ObjectStoreExt, path::Path as StorePath},
};
use deltalake::{
    kernel::{Action, Remove, transaction::CommitProperties},
    operations::vacuum::VacuumMode,
    protocol::DeltaOperation,
};
use serde::{Deserialize, Serialize};
use todoke_domain::Timestamp;
use tokio::time::{Instant, sleep_until};

use crate::{
    Lake, LakeError, QUARANTINE,
    file::DataFile,
    parquet_records::objects,
    rewrite::{Rewrite, Shares},
    rows::{date_of, day_number},
    schema::{self, DAY, MUNICIPALITY},
    slice::Slice,
    table::{Committed, Part},
};

/// When and how much to compact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactOptions {
    /// A day before today is compacted when it has at least this many small files.
    pub past_files_min: usize,
    /// Today is compacted when it has at least this many small files.
    pub today_files_min: usize,
    /// Files with at most this many rows are small.
    pub small_file_rows_max: usize,
    /// Rows that become one file, at most.
    pub output_rows_max: usize,
    /// Memory for the rows, ids and files of a set, bytes. As many files are joined as it has room for. A file that is
    /// larger is read page by page and becomes several; one of which it has not even room for a piece of a row group
    /// stays as it is.
    pub memory_bytes_max: u64,
    /// Partitions rewritten in one call, at most: today's, then the oldest.
    pub partitions_max: usize,
    /// Ids are looked for in the files of the neighbouring days, and in others that may hold them up to this many
    /// rows for each partition rewritten.
    pub compared_rows_max: u64,
    /// Bytes read in a second, at most; 0 is no limit.
    pub bytes_per_s_max: u64,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            past_files_min: 2,
            today_files_min: 24,
            small_file_rows_max: 250_000,
            output_rows_max: 500_000,
            memory_bytes_max: 256 << 20,
            partitions_max: 64,
            compared_rows_max: 5_000_000,
            bytes_per_s_max: 0,
        }
    }
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Partitions rewritten.
    pub partitions: usize,
    /// Files that were replaced.
    pub files_before: usize,
    /// Files that replaced them.
    pub files_after: usize,
    /// Rows left out because another row is the same event.
    pub repetitions: usize,
    /// Rows that went to the quarantine because another one has their id and says something else.
    pub conflicts: usize,
    /// Files that might hold an id and were not asked, because of [`CompactOptions::compared_rows_max`].
    pub files_not_asked: usize,
    /// Files that stayed as they are because [`CompactOptions::memory_bytes_max`] has no room for them.
    pub files_too_large: usize,
    /// Most memory that rows, ids and files took at one moment, bytes. Measured where rows are decoded.
    pub held_bytes_max: usize,
}

/// Figures about one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableStats {
    /// Group, or `quarantine`.
    pub table: String,
    /// Delta version.
    pub version: u64,
    /// Live files.
    pub files: usize,
    /// Committed rows.
    pub rows: u64,
    /// Compressed bytes of the live files.
    pub bytes: u64,
    /// Days of municipalities that have files.
    pub partitions: usize,
    /// Live files that compaction takes for small.
    pub small_files: usize,
    /// Live files whose ids were not compared with the others yet.
    pub new_files: usize,
    /// Live files that the last compaction of this process had no memory for.
    pub too_large_files: usize,
    /// Rows staged in this process and not committed.
    pub staged_rows: u64,
}

/// Keeps the bytes read, or files deleted, in a second below a limit, so that queries and commits have the rest of the
/// disk.
struct Pace {
    begun: Instant,
    done: u64,
    per_s_max: u64,
}

impl Pace {
    fn new(per_s_max: u64) -> Self {
        Self { begun: Instant::now(), done: 0, per_s_max }
    }

    async fn after(&mut self, some: u64) {
        self.done += some;
        if self.per_s_max > 0 {
            let due = Duration::from_secs_f64(self.done as f64 / self.per_s_max as f64);
            sleep_until(self.begun + due).await;
        }
    }
}

/// One call of a compaction.
struct Run {
    pace: Pace,
    done: Compacted,
    /// Paths of files that there is no memory for.
    aside: BTreeSet<String>,
}

/// Rows of a table as rows of the quarantine, with the reason. Each was acknowledged, so nobody sends it again, and
/// fitted its table, so that its content may be in the lake: it is kept.
fn quarantined(rows: &RecordBatch, from: &DataFile) -> Result<Slice, LakeError> {
    let arrow = LakeError::arrow(QUARANTINE);
    let n_rows = rows.num_rows();
    let schema = schema::group(QUARANTINE).ok_or_else(|| LakeError::UnknownTable(QUARANTINE.to_owned()))?;
    let fields: Vec<usize> = (schema.n_envelope..rows.num_columns()).collect();
    let contents = objects(&rows.project(&fields).map_err(&arrow)?)?;
    let mut columns: Vec<ArrayRef> = rows.columns()[..schema.n_envelope].to_vec();
    let text = |value: &str| Arc::new(StringViewArray::from_iter_values(vec![value; n_rows])) as ArrayRef;
    columns.extend([text("id_reused"), text("event_id"), Arc::new(contents), text(&from.municipality)]);
    columns.push(Arc::new(Date32Array::from(vec![from.day; n_rows])));
    let rows = RecordBatch::try_new(Arc::clone(&schema.full), columns).map_err(&arrow)?;
    Ok(Slice { municipality: Arc::clone(&from.municipality), day: from.day, rows })
}

const RETENTION_MIN: Duration = Duration::from_secs(3_600);

/// A deletion writes to the file system's journal, as the sync of a commit does: it leaves room between two. What a
/// busy day left, some ten thousand files, is gone within minutes.
const DELETIONS_PER_S_MAX: u64 = 200;

impl Lake {
    /// Rewrites partitions with many small files into few files, sorted by type and time again, and with every
    /// file that is new since the last time compares its ids with those of the other files: an event that is there
    /// twice stays once, and other content under a known id goes to the quarantine.
    /// Queries and flushes go on meanwhile, also those of other processes. If one of these replaced the same files, or
    /// commits in the moment of this commit, this one gives up with an error and nothing is changed; the next call
    /// tries again.
    /// A table to which a newer version added columns is left alone: that version compacts it.
    pub async fn compact(&self, group: &str, options: &CompactOptions, now: Timestamp) -> Result<Compacted, LakeError> {
        let _upkeep = self.upkeep.lock().await;
        let mut run =
            Run { pace: Pace::new(options.bytes_per_s_max), done: Compacted::default(), aside: BTreeSet::new() };
        while run.done.partitions < options.partitions_max {
            let before = (run.done.partitions, run.aside.len());
            self.compact_once(group, options, now, &mut run).await?;
            if (run.done.partitions, run.aside.len()) == before {
                break;
            }
        }
        run.done.files_too_large = run.aside.len();
        let mut too_large = self.too_large.lock().unwrap_or_else(PoisonError::into_inner);
        too_large.insert(group.to_owned(), run.aside);
        Ok(run.done)
    }

    /// One commit of [`Self::compact`]: of each partition at most one set of files, so that no two sets of one day
    /// are compared with each other's past.
    async fn compact_once(
        &self,
        group: &str,
        options: &CompactOptions,
        now: Timestamp,
        run: &mut Run,
    ) -> Result<(), LakeError> {
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let schema = schema::group(group).ok_or_else(unknown)?;
        let (name, table) = self.view.tables.groups.get_key_value(group).ok_or_else(unknown)?;
        let committed = {
            let table = table.lock().await;
            if table.has_unknown_columns()? {
                return Ok(());
            }
            table.committed().cloned().ok_or_else(unknown)?
        };
        let mut work = due(&committed, options, day_number(now.jst_date()), &run.aside);
        work.truncate(options.partitions_max - run.done.partitions);
        let mut adds = Vec::new();
        let mut removed: Vec<Arc<DataFile>> = Vec::new();
        for files in work {
            let first = files.first().map(|file| file.path.clone());
            let begun = Rewrite::begin(&committed, schema, files, self.options.layout(), options, now).await?;
            let Some(mut rewrite) = begun else {
                run.aside.extend(first);
                continue;
            };
            rewrite.compare(options.compared_rows_max).await?;
            run.done.repetitions += rewrite.repetitions();
            while let Some(conflicts) = rewrite.next_conflicts().await? {
                // Before they leave their table: a crash in between shows them in both, never in none.
                run.done.conflicts += conflicts.num_rows();
                self.quarantine(&conflicts, &rewrite.files()[0], now).await?;
            }
            while let Some(file) = rewrite.next_file().await? {
                run.done.files_after += 1;
                adds.extend(table.lock().await.store(vec![file], self.options.fsync).await?);
            }
            run.done.partitions += 1;
            run.done.files_before += rewrite.files().len();
            run.done.files_not_asked += rewrite.files_not_asked;
            run.done.held_bytes_max = run.done.held_bytes_max.max(rewrite.held_bytes_max);
            removed.extend(rewrite.files().iter().cloned());
            run.pace.after(rewrite.bytes_read).await;
        }
        if removed.is_empty() {
            return Ok(());
        }
        let mut table = table.lock().await;
        // What other processes committed meanwhile is nothing to this, unless they replaced the same files.
        let apps: BTreeSet<Arc<str>> = committed.txns.keys().cloned().collect();
        table.refresh(&apps).await?;
        let present = table.committed().cloned().ok_or_else(unknown)?;
        self.view.shared.publish([(*name, Arc::clone(&present))], &Default::default());
        if removed.iter().any(|gone| !present.files.iter().any(|f| f.path == gone.path)) {
            return Err(LakeError::Contended { table: group.to_owned(), attempts: 1 });
        }
        let mut actions = adds.into_iter().map(unchanged).collect::<Vec<_>>();
        actions.extend(removed.iter().map(|file| Action::Remove(removal(file, now))));
        // No retries: the library lets two rewrites of the same files both commit, which would double
        // their rows. A commit of anybody else in between makes this one fail instead.
        let properties = CommitProperties::default().with_max_retries(0);
        let target_size = removed.iter().map(|file| file.bytes).max().and_then(|bytes| i64::try_from(bytes).ok());
        let operation = DeltaOperation::Optimize { predicate: None, target_size: target_size.unwrap_or(i64::MAX) };
        table.commit_operation(actions, properties, operation, &self.options).await?;
        table.adopt_after_commit(present.txns.clone()).await?;
        let committed = table.committed().cloned().ok_or_else(unknown)?;
        self.view.shared.publish([(*name, committed)], &Default::default());
        Ok(())
    }

    /// Commits rows of a file to the quarantine.
    async fn quarantine(&self, conflicts: &RecordBatch, from: &DataFile, now: Timestamp) -> Result<(), LakeError> {
        let slice = quarantined(conflicts, from)?;
        let parts = [Part { origin: None, slices: &[slice] }];
        let (name, committed, _) = self.commit_parts(QUARANTINE, &parts, now).await?;
        self.view.shared.publish([(name, committed)], &Default::default());
        Ok(())
    }

    /// Deletes files that no version younger than `retention` needs, also those a crash left without
    /// a commit. Returns how many. Queries and commits go on meanwhile; the log says nothing of it.
    pub async fn vacuum(&self, group: &str, retention: Duration) -> Result<usize, LakeError> {
        if retention < RETENTION_MIN {
            return Err(LakeError::RetentionTooShort { min_s: RETENTION_MIN.as_secs() });
        }
        let _upkeep = self.upkeep.lock().await;
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let table = self.view.tables.groups.get(group).ok_or_else(unknown)?;
        // As of now: what is committed later is younger than what is deleted.
        let delta = table.lock().await.delta()?.clone();
        let store = delta.object_store();
        let seconds = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX / 1_000);
        // Only looked for: the library would delete as fast as it can.
        let (_, found) = delta
            .vacuum()
            .with_retention_period(chrono::Duration::seconds(seconds))
            .with_enforce_retention_duration(false)
            .with_mode(VacuumMode::Full)
            .with_scan_concurrency(1)
            .with_dry_run(true)
            .await
            .map_err(LakeError::delta(group, "vacuuming"))?;
        let mut pace = Pace::new(DELETIONS_PER_S_MAX);
        for path in &found.files_deleted {
            let storage = |source: Box<dyn std::error::Error + Send + Sync>| LakeError::Storage {
                table: group.to_owned(),
                path: path.clone(),
                source,
            };
            let file = StorePath::parse(path).map_err(|source| storage(Box::new(source)))?;
            match store.delete(&file).await {
                // Another process was faster.
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(source) => return Err(storage(Box::new(source))),
            }
            pace.after(1).await;
        }
        Ok(found.files_deleted.len())
    }

    /// Writes a checkpoint of a table's log now, as commits do by themselves every `checkpoint_every` versions.
    pub async fn checkpoint(&self, group: &str) -> Result<(), LakeError> {
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let mut table = self.view.tables.groups.get(group).ok_or_else(unknown)?.lock().await;
        table.checkpoint(&self.options).await
    }

    /// Figures about every table, from memory.
    pub fn stats(&self) -> Vec<TableStats> {
        let snapshot = self.view.snapshot();
        let small_file_rows_max = CompactOptions::default().small_file_rows_max;
        let too_large = self.too_large.lock().unwrap_or_else(PoisonError::into_inner);
        let is_too_large =
            |table: &str, file: &DataFile| too_large.get(table).is_some_and(|paths| paths.contains(&file.path));
        snapshot
            .groups()
            .filter_map(|name| {
                let committed = snapshot.committed(name)?;
                Some(TableStats {
                    table: name.to_owned(),
                    version: committed.version,
                    files: committed.files.len(),
                    rows: committed.files.iter().map(|f| f.n_rows as u64).sum(),
                    bytes: committed.files.iter().map(|f| f.bytes).sum(),
                    partitions: committed
                        .files
                        .chunk_by(|a, b| (&a.municipality, a.day) == (&b.municipality, b.day))
                        .count(),
                    small_files: committed.files.iter().filter(|f| f.n_rows <= small_file_rows_max).count(),
                    new_files: committed.files.iter().filter(|f| !f.is_compared()).count(),
                    too_large_files: committed.files.iter().filter(|f| is_too_large(name, f)).count(),
                    staged_rows: snapshot.n_staged(name),
                })
            })
            .collect()
    }
}

/// Sets of files to rewrite, at most one of each partition: today's first, then from the oldest day on.
fn due(
    committed: &Committed,
    options: &CompactOptions,
    today: i32,
    aside: &BTreeSet<String>,
) -> Vec<Vec<Arc<DataFile>>> {
    let is_small = |file: &DataFile| file.n_rows <= options.small_file_rows_max;
    let mut partitions: BTreeMap<(bool, i32, Arc<str>), Vec<Arc<DataFile>>> = BTreeMap::new();
    let is_meant = |file: &DataFile| (is_small(file) || !file.is_compared()) && !aside.contains(&file.path);
    for file in committed.files.iter().filter(|file| is_meant(file)) {
        let partition = (file.day < today, file.day, Arc::clone(&file.municipality));
        partitions.entry(partition).or_default().push(Arc::clone(file));
    }
    let mut sets = Vec::new();
    for ((is_past, ..), files) in partitions {
        let files_min = if is_past { options.past_files_min } else { options.today_files_min };
        let is_new = is_past && files.iter().any(|file| !file.is_compared());
        if !is_new && files.len() < files_min.max(2) {
            continue;
        }
        sets.extend(first_set(files, options));
    }
    sets
}

/// The first files that fit into one and are worth it: several of them, or a new one.
fn first_set(files: Vec<Arc<DataFile>>, options: &CompactOptions) -> Option<Vec<Arc<DataFile>>> {
    let shares = Shares::of(options);
    let rows_max = options.output_rows_max.min(shares.rows);
    let is_due = |set: &[Arc<DataFile>]| set.len() > 1 || set.iter().any(|file| !file.is_compared());
    let mut set: Vec<Arc<DataFile>> = Vec::new();
    let (mut n_rows, mut bytes) = (0, 0);
    for file in files {
        if n_rows + file.n_rows > rows_max || bytes + file.bytes > shares.content {
            if is_due(&set) {
                break;
            }
            set.clear();
            (n_rows, bytes) = (0, 0);
        }
        n_rows += file.n_rows;
        bytes += file.bytes;
        set.push(file);
    }
    is_due(&set).then_some(set)
}

/// A rewrite moves rows, it does not change them: readers that follow changes skip it.
fn unchanged(action: Action) -> Action {
    match action {
        Action::Add(mut add) => {
            add.data_change = false;
            Action::Add(add)
        }
        other => other,
    }
}

pub(crate) fn removal(file: &DataFile, now: Timestamp) -> Remove {
    Remove {
        path: file.path.clone(),
        data_change: false,
        deletion_timestamp: Some(now.as_micros().div_euclid(1_000)),
        extended_file_metadata: Some(true),
        size: i64::try_from(file.bytes).ok(),
        partition_values: Some(
            [
                (MUNICIPALITY.to_owned(), Some(file.municipality.to_string())),
                (DAY.to_owned(), Some(date_of(file.day).to_string())),
            ]
            .into(),
        ),
        ..Remove::default()
    }
}
