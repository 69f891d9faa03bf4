//! Upkeep: fewer and sorted files, old files deleted, figures about the tables.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use datafusion::{
    arrow::{
        array::{ArrayRef, Date32Array, RecordBatch, StringViewArray},
        compute::concat_batches,
        error::ArrowError,
    },
    object_store::{ObjectStoreExt, path::Path as StorePath},
};
use deltalake::{
    kernel::{Action, Remove, transaction::CommitProperties},
    operations::vacuum::VacuumMode,
    protocol::DeltaOperation,
};
use serde::{Deserialize, Serialize};
use todoke_domain::Timestamp;

use crate::{
    Lake, LakeError, QUARANTINE,
    file::{self, DataFile, Encoded, encode},
    rows::{date_of, day_number},
    schema::{self, DAY, GroupSchema, MUNICIPALITY},
    slice::{Slice, Unrepeated, sort_file, unrepeated},
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
    /// Rows that become one file, at most. A compaction holds them in memory, some hundred bytes each.
    pub output_rows_max: usize,
    /// Partitions rewritten in one call, at most, oldest first.
    pub partitions_max: usize,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            past_files_min: 2,
            today_files_min: 24,
            small_file_rows_max: 250_000,
            output_rows_max: 500_000,
            partitions_max: 64,
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
    /// Rows left out because an earlier row is the same event.
    pub repetitions: usize,
    /// Rows that went to the quarantine because an earlier one has their id and says something else.
    pub conflicts: usize,
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
    /// Live files that compaction would take for small.
    pub small_files: usize,
    /// Rows staged in this process and not committed.
    pub staged_rows: u64,
}

struct Rewritten {
    file: Encoded,
    repetitions: usize,
    conflicts: Option<RecordBatch>,
}

/// Rows of a table as rows of the quarantine: their envelope and the reason, no content.
fn quarantined(rows: &RecordBatch, from: &DataFile) -> Result<Slice, ArrowError> {
    let n_rows = rows.num_rows();
    let schema = schema::group(QUARANTINE).ok_or_else(|| ArrowError::SchemaError(QUARANTINE.to_owned()))?;
    let mut columns: Vec<ArrayRef> = rows.columns()[..schema.n_envelope].to_vec();
    let text = |value: &str| Arc::new(StringViewArray::from_iter_values(vec![value; n_rows])) as ArrayRef;
    columns.extend([text("id_reused"), text("event_id"), text(&from.municipality)]);
    columns.push(Arc::new(Date32Array::from(vec![from.day; n_rows])));
    let rows = RecordBatch::try_new(Arc::clone(&schema.full), columns)?;
    Ok(Slice { municipality: Arc::clone(&from.municipality), day: from.day, rows })
}

const RETENTION_MIN: Duration = Duration::from_secs(3_600);

impl Lake {
    /// Rewrites partitions with many small files into few files, sorted by type and time again and
    /// without events that are there twice.
    /// Queries and flushes go on meanwhile. If another process commits to the table in the same
    /// moment, this one gives up with an error and nothing is changed; the next call tries again.
    /// A table to which a newer version added columns is left alone: that version compacts it.
    pub async fn compact(&self, group: &str, options: &CompactOptions, now: Timestamp) -> Result<Compacted, LakeError> {
        let _upkeep = self.upkeep.lock().await;
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let schema = schema::group(group).ok_or_else(unknown)?;
        let (name, table) = self.view.tables.groups.get_key_value(group).ok_or_else(unknown)?;
        let committed = {
            let table = table.lock().await;
            if table.has_unknown_columns()? {
                return Ok(Compacted::default());
            }
            table.committed().cloned().ok_or_else(unknown)?
        };
        let work = due(&committed, options, day_number(now.jst_date()));
        let mut result = Compacted { partitions: work.len(), ..Compacted::default() };
        let mut adds = Vec::new();
        let mut removed: Vec<Arc<DataFile>> = Vec::new();
        for files in work {
            let rewritten = self.rewrite(&committed, schema, files.clone(), now).await?;
            result.files_before += files.len();
            result.files_after += 1;
            result.repetitions += rewritten.repetitions;
            if let Some(conflicts) = rewritten.conflicts.filter(|_| group != QUARANTINE) {
                // Before they leave their table: a crash in between shows them in both, never in none.
                result.conflicts += conflicts.num_rows();
                let slice = quarantined(&conflicts, &files[0]).map_err(LakeError::arrow(QUARANTINE))?;
                let parts = [Part { origin: None, slices: &[slice] }];
                let (name, committed, _) = self.commit_parts(QUARANTINE, &parts, now).await?;
                self.view.shared.publish([(name, committed)], &Default::default());
            }
            let actions = table.lock().await.store(vec![rewritten.file], self.options.fsync).await?;
            adds.extend(actions);
            removed.extend(files);
        }
        if removed.is_empty() {
            return Ok(Compacted::default());
        }
        let mut table = table.lock().await;
        let present = table.committed().cloned().ok_or_else(unknown)?;
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
        Ok(result)
    }

    async fn rewrite(
        &self,
        committed: &Committed,
        schema: &'static GroupSchema,
        files: Vec<Arc<DataFile>>,
        now: Timestamp,
    ) -> Result<Rewritten, LakeError> {
        let mut contents = Vec::with_capacity(files.len());
        for file in &files {
            let storage = |source| LakeError::Storage {
                table: schema.name.clone(),
                path: file.path.clone(),
                source: Box::new(source),
            };
            let found = committed.store.get(&StorePath::from(file.path.as_str())).await.map_err(storage)?;
            contents.push(found.bytes().await.map_err(storage)?);
        }
        let row_group_rows_max = self.options.row_group_rows_max;
        tokio::task::spawn_blocking(move || {
            let mut batches = Vec::new();
            for content in contents {
                batches.extend(file::decode(content, schema).map_err(LakeError::parquet(&schema.name, "read"))?);
            }
            let Unrepeated { rows, repetitions, conflicts } = concat_batches(&schema.file, &batches)
                .and_then(|rows| unrepeated(sort_file(&rows)?))
                .map_err(LakeError::arrow(&schema.name))?;
            let file = encode(&[rows], &files[0].municipality, files[0].day, row_group_rows_max, now)
                .map_err(LakeError::parquet(&schema.name, "written"))?;
            Ok(Rewritten { file, repetitions, conflicts })
        })
        .await
        .map_err(LakeError::Task)?
    }

    /// Deletes files that no version younger than `retention` needs, also those a crash left without
    /// a commit. Returns how many.
    pub async fn vacuum(&self, group: &str, retention: Duration) -> Result<usize, LakeError> {
        if retention < RETENTION_MIN {
            return Err(LakeError::RetentionTooShort { min_s: RETENTION_MIN.as_secs() });
        }
        let _upkeep = self.upkeep.lock().await;
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let (name, table) = self.view.tables.groups.get_key_value(group).ok_or_else(unknown)?;
        let mut table = table.lock().await;
        let seconds = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX / 1_000);
        let (delta, metrics) = table
            .delta()?
            .clone()
            .vacuum()
            .with_retention_period(chrono::Duration::seconds(seconds))
            .with_enforce_retention_duration(false)
            .with_mode(VacuumMode::Full)
            .await
            .map_err(LakeError::delta(group, "vacuuming"))?;
        let known = table.committed().map(|c| c.txns.clone()).unwrap_or_default();
        table.set_delta(delta);
        table.adopt_after_commit(known).await?;
        let committed = table.committed().cloned().ok_or_else(unknown)?;
        self.view.shared.publish([(*name, committed)], &Default::default());
        Ok(metrics.files_deleted.len())
    }

    /// Writes a checkpoint of a table's log now. Commits do so by themselves every
    /// `checkpoint_every` versions.
    pub async fn checkpoint(&self, group: &str) -> Result<(), LakeError> {
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let table = self.view.tables.groups.get(group).ok_or_else(unknown)?.lock().await;
        deltalake::checkpoints::create_checkpoint(table.delta()?, None)
            .await
            .map_err(LakeError::delta(group, "writing a checkpoint"))
    }

    /// Figures about every table, from memory.
    pub fn stats(&self) -> Vec<TableStats> {
        let snapshot = self.view.snapshot();
        let small_file_rows_max = CompactOptions::default().small_file_rows_max;
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
                    small_files: committed.files.iter().filter(|f| f.n_rows <= small_file_rows_max).count(),
                    staged_rows: snapshot.n_staged(name),
                })
            })
            .collect()
    }
}

/// Sets of files to merge, each of one partition, oldest day first.
fn due(committed: &Committed, options: &CompactOptions, today: i32) -> Vec<Vec<Arc<DataFile>>> {
    let mut partitions: BTreeMap<(i32, Arc<str>), Vec<Arc<DataFile>>> = BTreeMap::new();
    for file in committed.files.iter().filter(|f| f.n_rows <= options.small_file_rows_max) {
        partitions.entry((file.day, Arc::clone(&file.municipality))).or_default().push(Arc::clone(file));
    }
    let mut sets = Vec::new();
    for ((day, _), files) in partitions {
        let files_min = if day < today { options.past_files_min } else { options.today_files_min };
        if files.len() < files_min.max(2) {
            continue;
        }
        let mut set: Vec<Arc<DataFile>> = Vec::new();
        let mut n_rows = 0;
        for file in files {
            if n_rows + file.n_rows > options.output_rows_max {
                sets.push(std::mem::take(&mut set));
                n_rows = 0;
            }
            n_rows += file.n_rows;
            set.push(file);
        }
        sets.push(set);
    }
    sets.retain(|set| set.len() > 1);
    sets.truncate(options.partitions_max);
    sets
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
