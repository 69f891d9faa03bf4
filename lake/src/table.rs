//! One Delta table: opening, widening, committing, reading its log.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use datafusion::object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path as StorePath};
use deltalake::{
    DeltaTable, DeltaTableError, TableProperty,
    checkpoints::{cleanup_metadata, create_checkpoint},
    kernel::{
        Action, Transaction,
        transaction::{CommitBuilder, CommitProperties},
    },
    protocol::{DeltaOperation, SaveMode},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use todoke_domain::Timestamp;

use crate::{
    LakeError, LakeLocation, LakeOptions, Origin, durable,
    file::{DataFile, Encoded, Layout, encode},
    location::TablePlace,
    prune::Bounds,
    rows::day_number,
    schema::{BOUNDED, DAY, GroupSchema, MUNICIPALITY},
    slice::{Slice, file_runs},
    torn,
};

const COMMIT_ATTEMPTS: usize = 5;

/// Files of one commit stored at the same time. An object store answers one after tens of milliseconds, and a commit
/// has a file for each municipality and day.
const PUTS_AT_ONCE: usize = 8;

/// What a table holds at one version. Immutable; queries share it.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) version: u64,
    /// Sorted by municipality, day and path.
    pub(crate) files: Vec<Arc<DataFile>>,
    /// Highest committed version per application, for the applications this process asked about.
    pub(crate) txns: BTreeMap<Arc<str>, i64>,
    pub(crate) store: Arc<dyn ObjectStore>,
}

impl Committed {
    /// The content of one of the files.
    pub(crate) async fn content(&self, table: &str, file: &DataFile) -> Result<Bytes, LakeError> {
        let storage =
            |source| LakeError::Storage { table: table.to_owned(), path: file.path.clone(), source: Box::new(source) };
        let found = self.store.get(&StorePath::from(file.path.as_str())).await.map_err(storage)?;
        found.bytes().await.map_err(storage)
    }

    /// Whether rows of this origin are in the table.
    pub(crate) fn holds(&self, origin: &Origin) -> bool {
        self.txns.get(&origin.app_id).is_some_and(|done| *done >= origin.version)
    }
}

/// Rows of one origin for one table.
pub(crate) struct Part<'a> {
    pub(crate) origin: Option<&'a Origin>,
    pub(crate) slices: &'a [Slice],
}

/// A table that this process writes or follows.
pub(crate) struct Table {
    pub(crate) schema: &'static GroupSchema,
    place: TablePlace,
    delta: Option<DeltaTable>,
    committed: Option<Arc<Committed>>,
    /// The log is on the disk up to this version; `None` until it was looked.
    synced: Option<u64>,
    /// Version of a log entry whose sync failed. A second sync would say nothing about it: the system may have
    /// dropped what it could not write.
    unsynced: Option<u64>,
    /// A checkpoint is to be written with the next commit.
    checkpoint_is_due: bool,
}

impl Table {
    /// A table whose log has not been looked at.
    pub(crate) fn new(lake: &LakeLocation, schema: &'static GroupSchema) -> Self {
        let place = lake.table(&schema.name);
        Self { schema, place, delta: None, committed: None, synced: None, unsynced: None, checkpoint_is_due: false }
    }

    fn name(&self) -> &str {
        &self.schema.name
    }

    pub(crate) fn committed(&self) -> Option<&Arc<Committed>> {
        self.committed.as_ref()
    }

    pub(crate) fn delta(&self) -> Result<&DeltaTable, LakeError> {
        self.delta.as_ref().ok_or_else(|| LakeError::UnknownTable(self.name().to_owned()))
    }

    /// The folder of this machine that holds it, if one does.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        self.place.folder()
    }

    /// The highest versions of applications that the log has, before one of its entries if `before` is given. The table
    /// is not opened by it. Applications it does not know are left out.
    pub(crate) async fn versions_of(
        &self,
        apps: &BTreeSet<Arc<str>>,
        before: Option<u64>,
    ) -> Result<BTreeMap<Arc<str>, i64>, LakeError> {
        let name = self.schema.name.as_str();
        let mut versions = BTreeMap::new();
        if before == Some(0) || !self.place.has_log().await.map_err(LakeError::delta(name, "locating"))? {
            return Ok(versions);
        }
        let mut delta = self.place.delta().map_err(LakeError::delta(name, "opening"))?;
        let loaded = match before {
            Some(entry) => delta.load_version(entry - 1).await,
            None => delta.load().await,
        };
        match loaded {
            Ok(()) => {}
            // Whoever creates it has made the folder and no entry yet.
            Err(DeltaTableError::NotATable(_)) => return Ok(versions),
            Err(error) => return Err(LakeError::delta(name, "opening")(error)),
        }
        let state = delta.snapshot().map_err(LakeError::delta(name, "reading the log"))?;
        for app in apps {
            let done = state
                .transaction_version(delta.log_store().as_ref(), app)
                .await
                .map_err(LakeError::delta(name, "reading application transactions"))?;
            if let Some(done) = done {
                versions.insert(Arc::clone(app), done);
            }
        }
        Ok(versions)
    }

    /// Whether a newer version of the catalogue gave the table columns that this one does not know.
    /// Its files must not be rewritten by us: what is in those columns would be lost.
    pub(crate) fn has_unknown_columns(&self) -> Result<bool, LakeError> {
        let on_disk = self.delta()?.snapshot().map_err(LakeError::delta(self.name(), "reading the log"))?.schema();
        let known = |name: &String| self.schema.columns.iter().any(|column| column.name == *name);
        Ok(!on_disk.field_names().all(known))
    }

    /// Looks for newer commits; `true` if there are any. A table that does not exist stays absent.
    pub(crate) async fn refresh(&mut self, apps: &BTreeSet<Arc<str>>) -> Result<bool, LakeError> {
        let name = self.schema.name.as_str();
        match &mut self.delta {
            Some(delta) => delta.update_state().await.map_err(LakeError::delta(name, "refreshing"))?,
            None => {
                if !self.place.has_log().await.map_err(LakeError::delta(name, "locating"))? {
                    return Ok(false);
                }
                let mut delta = self.place.delta().map_err(LakeError::delta(name, "opening"))?;
                match delta.load().await {
                    Ok(()) => self.delta = Some(delta),
                    // Whoever creates it has made the folder and no entry yet.
                    Err(DeltaTableError::NotATable(_)) => return Ok(false),
                    Err(error) => return Err(LakeError::delta(name, "opening")(error)),
                }
            }
        }
        let known = self.committed.as_ref().map(|c| c.version);
        if known == self.delta()?.version() {
            return Ok(false);
        }
        self.adopt(None, apps).await?;
        Ok(true)
    }

    /// Creates the table if it is missing and adds columns that are new in the catalogue. Other processes may do the
    /// same at the same time.
    pub(crate) async fn open_for_writing(&mut self, options: &LakeOptions) -> Result<(), LakeError> {
        let mut attempt = 1;
        loop {
            self.refresh(&BTreeSet::new()).await?;
            self.sync_present(options).await?;
            let opened = if self.delta.is_none() { self.create(options).await } else { self.widen().await };
            match opened {
                // Somebody else was faster: what they did is there, and what is left is looked for again.
                Err(LakeError::Delta { source, .. })
                    if attempt < COMMIT_ATTEMPTS && (conflicts(&source) || is_there_already(&source)) =>
                {
                    attempt += 1;
                }
                Ok(()) => return self.sync_present(options).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn create(&mut self, options: &LakeOptions) -> Result<(), LakeError> {
        let name = self.schema.name.as_str();
        let fields = self.schema.delta_fields().map_err(LakeError::delta(name, "reading the catalogue"))?;
        let table = self.place.delta().map_err(LakeError::delta(name, "creating"))?;
        let delta = table
            .create()
            .with_table_name(name)
            .with_columns(fields)
            .with_partition_columns([MUNICIPALITY, DAY])
            .with_configuration(configuration(options))
            // A second try would replace the description that another process gave the table.
            .with_commit_properties(CommitProperties::default().with_max_retries(0))
            .await
            .map_err(LakeError::delta(name, "creating"))?;
        self.delta = Some(delta);
        self.adopt(None, &BTreeSet::new()).await
    }

    async fn widen(&mut self) -> Result<(), LakeError> {
        let name = self.schema.name.as_str();
        let fields = self.schema.delta_fields().map_err(LakeError::delta(name, "reading the catalogue"))?;
        let delta = self.delta()?.clone();
        let on_disk = delta.snapshot().map_err(LakeError::delta(name, "opening"))?.schema();
        let mut missing = Vec::new();
        for field in fields {
            match on_disk.field(field.name()) {
                None => missing.push(field),
                Some(found) if found.data_type() == field.data_type() => {}
                Some(found) => {
                    return Err(LakeError::ColumnType {
                        table: name.to_owned(),
                        column: field.name().clone(),
                        found: found.data_type().to_string(),
                        wanted: field.data_type().to_string(),
                    });
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let widened = delta
            .add_columns()
            .with_fields(missing)
            .with_commit_properties(unattended(CommitProperties::default()))
            .await
            .map_err(LakeError::delta(name, "adding columns"))?;
        self.delta = Some(widened);
        self.adopt(None, &BTreeSet::new()).await
    }

    /// Makes the Delta library's present state the one queries may see. `ours` are applications whose
    /// committed version is known because we just wrote it; those of `apps` are looked up.
    async fn adopt(
        &mut self,
        ours: Option<BTreeMap<Arc<str>, i64>>,
        apps: &BTreeSet<Arc<str>>,
    ) -> Result<(), LakeError> {
        let name = self.schema.name.clone();
        let delta = self.delta()?;
        let state = delta.snapshot().map_err(LakeError::delta(&name, "reading the log"))?;
        let mut txns = ours.unwrap_or_default();
        for app in apps.iter().filter(|app| !txns.contains_key(*app)).cloned().collect::<Vec<_>>() {
            let done = state
                .transaction_version(delta.log_store().as_ref(), &app)
                .await
                .map_err(LakeError::delta(&name, "reading application transactions"))?;
            txns.insert(app, done.unwrap_or(i64::MIN));
        }
        let files = live_files(&name, delta, self.committed.as_deref())?;
        let committed = Committed { version: state.version(), files, txns, store: delta.object_store() };
        self.committed = Some(Arc::new(committed));
        Ok(())
    }

    /// Looks up the applications not asked about so far.
    pub(crate) async fn know(&mut self, apps: &BTreeSet<Arc<str>>) -> Result<(), LakeError> {
        let known = self.committed.as_ref().map(|c| c.txns.clone()).unwrap_or_default();
        if apps.iter().all(|app| known.contains_key(app)) {
            return Ok(());
        }
        self.adopt(Some(known), apps).await
    }

    /// Commits the rows of the parts that the table does not hold yet, as one Delta commit, and makes
    /// it durable. Returns the number of rows added.
    ///
    /// Not cancel safe in one point only: dropped between two files it leaves files without a commit,
    /// which vacuum removes.
    pub(crate) async fn commit(
        &mut self,
        parts: &[Part<'_>],
        options: &LakeOptions,
        now: Timestamp,
    ) -> Result<u64, LakeError> {
        let apps: BTreeSet<Arc<str>> = parts.iter().filter_map(|p| p.origin).map(|o| Arc::clone(&o.app_id)).collect();
        self.know(&apps).await?;
        for _ in 0..COMMIT_ATTEMPTS {
            // Before what the table seems to hold is believed.
            self.sync_present(options).await?;
            let Some(committed) = self.committed.clone() else {
                return Err(LakeError::UnknownTable(self.name().to_owned()));
            };
            let new: Vec<&Part<'_>> =
                parts.iter().filter(|part| !part.origin.is_some_and(|origin| committed.holds(origin))).collect();
            if new.is_empty() {
                return Ok(0);
            }
            let slices: Vec<&Slice> = new.iter().flat_map(|part| part.slices).collect();
            let n_rows: u64 = slices.iter().map(|s| s.rows.num_rows() as u64).sum();
            let adds = self.write(&slices, options, now).await?;
            let mut txns: BTreeMap<Arc<str>, i64> = BTreeMap::new();
            for origin in new.iter().filter_map(|part| part.origin) {
                let version = txns.entry(Arc::clone(&origin.app_id)).or_insert(origin.version);
                *version = (*version).max(origin.version);
            }
            match self.commit_actions(adds, &txns, options).await {
                Ok(()) => return Ok(n_rows),
                // Someone else's commit touched the same application or the columns, or ours landed and
                // a later step failed: look again, the next round decides what is still missing.
                Err(LakeError::Delta { source, .. }) if conflicts(&source) => {
                    self.delta_mut()?.update_state().await.map_err(LakeError::delta(self.name(), "refreshing"))?;
                    self.adopt(None, &apps).await?;
                }
                Err(other) => {
                    self.delta_mut()?.update_state().await.map_err(LakeError::delta(self.name(), "refreshing"))?;
                    self.adopt(None, &apps).await?;
                    return Err(other);
                }
            }
        }
        Err(LakeError::Contended { table: self.name().to_owned(), attempts: COMMIT_ATTEMPTS })
    }

    /// Writes one file per partition, a few partitions at a time so that memory stays bounded.
    async fn write(&self, slices: &[&Slice], options: &LakeOptions, now: Timestamp) -> Result<Vec<Action>, LakeError> {
        let mut partitions: BTreeMap<(&str, i32), Vec<Slice>> = BTreeMap::new();
        for slice in slices {
            partitions.entry((&slice.municipality, slice.day)).or_default().push((*slice).clone());
        }
        let partitions: Vec<Vec<Slice>> = partitions.into_values().collect();
        let mut adds = Vec::with_capacity(partitions.len());
        for some in partitions.chunks(options.encode_partitions_max.max(1)) {
            let files = encode_partitions(self.schema, some.to_vec(), options.layout(), now).await?;
            adds.extend(self.store(files, options.fsync).await?);
        }
        Ok(adds)
    }

    fn delta_mut(&mut self) -> Result<&mut DeltaTable, LakeError> {
        let name = self.schema.name.as_str();
        self.delta.as_mut().ok_or_else(|| LakeError::UnknownTable(name.to_owned()))
    }

    async fn commit_actions(
        &mut self,
        adds: Vec<Action>,
        txns: &BTreeMap<Arc<str>, i64>,
        options: &LakeOptions,
    ) -> Result<(), LakeError> {
        let properties = CommitProperties::default()
            .with_application_transactions(txns.iter().map(|(app, version)| Transaction::new(app, *version)).collect());
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![MUNICIPALITY.to_owned(), DAY.to_owned()]),
            predicate: None,
        };
        self.commit_operation(adds, properties, operation, options).await?;
        let mut known = self.committed.as_ref().map(|c| c.txns.clone()).unwrap_or_default();
        known.extend(txns.iter().map(|(app, version)| (Arc::clone(app), *version)));
        self.adopt_after_commit(known).await
    }

    /// Writes one log entry and makes it durable. The caller adopts the new state.
    pub(crate) async fn commit_operation(
        &mut self,
        actions: Vec<Action>,
        properties: CommitProperties,
        operation: DeltaOperation,
        options: &LakeOptions,
    ) -> Result<(), LakeError> {
        self.sync_present(options).await?;
        let name = self.schema.name.clone();
        let delta = self.delta_mut()?;
        let state = delta.snapshot().map_err(LakeError::delta(&name, "committing"))?;
        let done = CommitBuilder::from(unattended(properties))
            .with_actions(actions)
            .build(Some(state), delta.log_store(), operation)
            .await
            .map_err(LakeError::delta(&name, "committing"))?;
        delta.state = Some(done.snapshot());
        self.sync_present(options).await?;
        let every = u64::from(options.checkpoint_every.max(1));
        self.checkpoint_is_due |= (done.version() + 1).is_multiple_of(every);
        if self.checkpoint_is_due
            && let Err(error) = self.checkpoint(options).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                lake.table = name,
                "no checkpoint could be written; the next commit tries again"
            );
        }
        Ok(())
    }

    /// Writes a checkpoint of the log at its present version, and deletes what is older than the time that the log is
    /// kept.
    pub(crate) async fn checkpoint(&mut self, options: &LakeOptions) -> Result<(), LakeError> {
        self.sync_present(options).await?;
        let name = self.schema.name.clone();
        let delta = self.delta()?;
        let version = delta.snapshot().map_err(LakeError::delta(&name, "reading the log"))?.version();
        create_checkpoint(delta, None).await.map_err(LakeError::delta(&name, "writing a checkpoint"))?;
        if options.fsync
            && let Some(root) = self.folder()
        {
            // Before entries go that it stands for.
            durable::sync_checkpoints(root).await?;
        }
        self.checkpoint_is_due = false;
        let tidied = cleanup_metadata(self.delta()?, None).await.map_err(LakeError::delta(&name, "tidying the log"))?;
        if tidied > 0 {
            // The state in memory names files that are gone.
            let mut delta = self.place.delta().map_err(LakeError::delta(&name, "opening"))?;
            delta.load_version(version).await.map_err(LakeError::delta(&name, "opening"))?;
            self.delta = Some(delta);
        }
        Ok(())
    }

    /// Makes all entries of the log durable up to the present version, whoever wrote them: another process may have
    /// been killed before it did so, or this one have failed. An object store has an entry whole or not at all.
    async fn sync_present(&mut self, options: &LakeOptions) -> Result<(), LakeError> {
        if let Some(version) = self.unsynced {
            return Err(LakeError::Unsynced { table: self.name().to_owned(), version });
        }
        let (Some(root), Some(present)) = (self.folder(), self.delta.as_ref().and_then(DeltaTable::version)) else {
            return Ok(());
        };
        if !options.fsync {
            return Ok(());
        }
        let after = self.synced.or_else(|| torn::synced_version(&root));
        if after.is_some_and(|synced| synced >= present) {
            // Not what is noted: somebody may have moved entries away since, and what comes in their place is another.
            self.synced = Some(present);
            return Ok(());
        }
        if let Err(error) = durable::sync_entries(root.clone(), after, present).await {
            self.unsynced = Some(present);
            return Err(error);
        }
        self.synced = Some(present);
        torn::note_synced(&root, present);
        Ok(())
    }

    /// Adopts the state after a commit of ours. If other writers committed in between, what they did
    /// to the applications is looked up instead of assumed.
    pub(crate) async fn adopt_after_commit(&mut self, known: BTreeMap<Arc<str>, i64>) -> Result<(), LakeError> {
        let before = self.committed.as_ref().map(|c| c.version);
        let alone = before.map(|v| v + 1) == self.delta()?.version();
        let apps = known.keys().cloned().collect();
        self.adopt(alone.then_some(known), &apps).await
    }

    /// Stores encoded files, several at once, and makes them durable.
    pub(crate) async fn store(&self, files: Vec<Encoded>, fsync: bool) -> Result<Vec<Action>, LakeError> {
        let store = self.delta()?.object_store();
        // Collected before they are streamed: a closure inside the stream would not be `Send`.
        let puts: Vec<_> = files.into_iter().map(|file| put(Arc::clone(&store), self.schema, file)).collect();
        let stored: Vec<(String, Action)> = stream::iter(puts).buffered(PUTS_AT_ONCE).try_collect().await?;
        let (paths, adds): (Vec<String>, Vec<Action>) = stored.into_iter().unzip();
        if fsync && !paths.is_empty() {
            self.place.sync(paths).await?;
        }
        Ok(adds)
    }
}

/// Stores one encoded file; gives its path and its log entry.
async fn put(
    store: Arc<dyn ObjectStore>,
    schema: &'static GroupSchema,
    file: Encoded,
) -> Result<(String, Action), LakeError> {
    let Encoded { path, content, add } = file;
    let stored = store.put_opts(&StorePath::from(path.as_str()), PutPayload::from(content), Default::default()).await;
    match stored {
        Ok(_) => Ok((path, Action::Add(add))),
        Err(source) => Err(LakeError::Storage { table: schema.name.clone(), path, source: Box::new(source) }),
    }
}

fn conflicts(error: &DeltaTableError) -> bool {
    use DeltaTableError as E;
    use deltalake::kernel::transaction::TransactionError as T;
    matches!(
        error,
        E::VersionAlreadyExists(_) | E::Transaction { source: T::CommitConflict(_) | T::MaxCommitAttempts(_) }
    )
}

/// What the library says when it is to create a table that came into being meanwhile.
fn is_there_already(error: &DeltaTableError) -> bool {
    matches!(error, DeltaTableError::GenericError { .. })
}

/// Without the work that the library does of itself after a commit, and whose failure would pass for the commit's:
/// nothing of it is synced.
fn unattended(properties: CommitProperties) -> CommitProperties {
    properties.with_create_checkpoint(false).with_cleanup_expired_logs(Some(false))
}

fn configuration(options: &LakeOptions) -> Vec<(String, Option<String>)> {
    let property = |key: TableProperty, value: String| (key.as_ref().to_owned(), Some(value));
    vec![
        property(TableProperty::CheckpointInterval, options.checkpoint_every.to_string()),
        property(TableProperty::LogRetentionDuration, format!("interval {} hours", options.log_retention_hours)),
        property(
            TableProperty::DeletedFileRetentionDuration,
            format!("interval {} hours", options.file_retention_hours),
        ),
        property(TableProperty::DataSkippingStatsColumns, BOUNDED.join(",")),
    ]
}

/// One encoded file per partition; encoding is work for a thread that may block.
async fn encode_partitions(
    schema: &'static GroupSchema,
    partitions: Vec<Vec<Slice>>,
    layout: Layout,
    now: Timestamp,
) -> Result<Vec<Encoded>, LakeError> {
    let work = move || {
        let encoded = partitions.iter().filter_map(|slices| Some((slices.first()?, slices))).map(|(first, slices)| {
            let slices: Vec<&Slice> = slices.iter().collect();
            let runs = file_runs(&slices, schema).map_err(LakeError::arrow(&schema.name))?;
            encode(&runs, &first.municipality, first.day, &layout, now)
                .map_err(LakeError::parquet(&schema.name, "written"))
        });
        encoded.collect()
    };
    tokio::task::spawn_blocking(work).await.map_err(LakeError::Task)?
}

/// The live files of the table's present version. Entries known from `before` are not parsed again.
fn live_files(table: &str, delta: &DeltaTable, before: Option<&Committed>) -> Result<Vec<Arc<DataFile>>, LakeError> {
    let state = delta.snapshot().map_err(LakeError::delta(table, "reading the log"))?;
    let known: HashMap<&str, &Arc<DataFile>> =
        before.map(|b| b.files.iter().map(|f| (f.path.as_str(), f)).collect()).unwrap_or_default();
    let mut municipalities: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut files = Vec::with_capacity(state.log_data().num_files());
    for view in state.log_data().iter() {
        let path = view.path();
        if let Some(file) = known.get(path.as_ref()) {
            files.push(Arc::clone(file));
            continue;
        }
        if view.deletion_vector_descriptor().is_some() {
            return Err(LakeError::Foreign { table: table.to_owned(), what: "deletion vectors" });
        }
        let unreadable =
            || LakeError::Foreign { table: table.to_owned(), what: "a file without its partition or row count" };
        let values = view.partition_values_map();
        let value = |name: &str| values.get(name).cloned().flatten().ok_or_else(unreadable);
        let code = value(MUNICIPALITY)?;
        let municipality = municipalities.get(code.as_str()).cloned().unwrap_or_else(|| Arc::from(code.as_str()));
        municipalities.insert(Arc::clone(&municipality));
        let statistics: Option<Value> = view.stats().and_then(|text| serde_json::from_str(&text).ok());
        let n_rows = statistics.as_ref().and_then(|s| s.get("numRecords")?.as_u64()).ok_or_else(unreadable)?;
        files.push(Arc::new(DataFile {
            path: path.into_owned(),
            bytes: u64::try_from(view.size()).unwrap_or(0),
            municipality,
            day: day_number(value(DAY)?.parse().map_err(|_| unreadable())?),
            n_rows: usize::try_from(n_rows).unwrap_or(usize::MAX),
            bounds: Bounds::parse(statistics.as_ref()),
        }));
    }
    files.sort_by(|a, b| (&a.municipality, a.day, &a.path).cmp(&(&b.municipality, b.day, &b.path)));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use todoke_domain::{Event, ids::EventId};

    use super::*;
    use crate::{EventRows, Lake};

    fn rows(now: Timestamp) -> EventRows {
        let payload = json!({ "session_id": "s", "screen_id": "G01" });
        let event = Event {
            event_id: EventId::new(now),
            event_type: "app.screen_viewed".to_owned(),
            schema_version: 1,
            occurred_at: now,
            recorded_at: now,
            municipality_code: "131016".parse().unwrap(),
            actor_role: "guardian".to_owned(),
            actor_key: None,
            source_channel: "app".to_owned(),
            subject_kind: "device_session".to_owned(),
            subject_id: "s".to_owned(),
            subject_seq: 0,
            correlation_id: None,
            causation_id: None,
            recorded_offline: false,
            programme_code: None,
            facility_id: None,
            payload: payload.as_object().unwrap().clone(),
        };
        EventRows::build(&[event], now).unwrap()
    }

    /// What a table seems to hold after a failed sync is not believed: its source keeps the rows.
    #[tokio::test]
    async fn after_a_failed_sync_nothing_counts_as_committed_until_the_table_was_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        let lake = Lake::open(dir.path(), LakeOptions::default()).await.unwrap();
        let (first, second) = (Origin::new("record", 1), Origin::new("record", 2));
        assert_eq!(lake.append(first.clone(), &rows(now), now).await.unwrap().rows, 1);
        let known = [Part { origin: Some(&first), slices: &[] }];
        let mut table = lake.view.tables.groups["app"].lock().await;
        assert_eq!(table.commit(&known, &LakeOptions::default(), now).await.unwrap(), 0);
        table.unsynced = Some(1);
        let refused = table.commit(&known, &LakeOptions::default(), now).await;
        assert!(matches!(refused, Err(LakeError::Unsynced { version: 1, .. })), "{refused:?}");
        drop(table);
        lake.stage(second.clone(), &rows(now)).await.unwrap();
        for _ in 0..2 {
            let refused = lake.flush(now).await;
            assert!(matches!(refused, Err(LakeError::Unsynced { version: 1, .. })), "{refused:?}");
            assert_eq!(lake.staged_rows(), 1);
        }
        drop(lake);
        let lake = Lake::open(dir.path(), LakeOptions::default()).await.unwrap();
        assert_eq!(lake.append(first, &rows(now), now).await.unwrap().rows, 0, "it was there");
        assert_eq!(lake.append(second, &rows(now), now).await.unwrap().rows, 1);
    }
}
