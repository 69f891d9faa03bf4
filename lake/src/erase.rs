//! Forgetting people: their rows leave the tables or stay without them, and what held them leaves the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringViewArray},
        compute::{concat_batches, filter_record_batch},
        datatypes::{DataType, Int64Type},
        error::ArrowError,
    },
    object_store::{ObjectStore, ObjectStoreExt, path::Path as StorePath},
    parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, file::reader::ChunkReader},
};
use deltalake::{
    kernel::{Action, transaction::CommitProperties},
    protocol::DeltaOperation,
};
use futures_util::TryStreamExt;
use serde::Serialize;
use todoke_domain::{MunicipalityCode, Timestamp};

use crate::{
    Lake, LakeError, LakeLocation, QUARANTINE,
    file::{self, DataFile, Encoded, Layout, encode_rest},
    maintenance::removal,
    schema::{self, EVENT_TYPE, GroupSchema, MUNICIPALITY},
    table::Committed,
};

/// Who is forgotten, and what stands in for them.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// Whose data; keys are unique within it.
    pub municipality: MunicipalityCode,
    /// Each key to forget, with the one that takes its place in rows that stay.
    pub stand_ins: BTreeMap<i64, i64>,
    /// Tables whose rows about these people go, also those that went from them to the quarantine. In the others they
    /// stay, with the stand-in: sums stay right.
    pub removed_from: BTreeSet<String>,
}

impl Erasure {
    /// Whether rows of an event type go.
    fn removes(&self, event_type: &str) -> bool {
        event_type.split('.').next().is_some_and(|group| self.removed_from.contains(group))
    }
}

/// What became of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErasedTable {
    /// Rows that went.
    pub rows_removed: u64,
    /// Rows that stayed and name nobody any more.
    pub rows_unlinked: u64,
    /// Files that were replaced.
    pub files_replaced: usize,
    /// Files that left the disk: the replaced ones, and those of old versions.
    pub files_deleted: usize,
}

/// What a search for keys saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Searched {
    /// Files that were read whole.
    pub files: usize,
    /// Rows in the data files among them, those of old versions included.
    pub rows: u64,
    /// Files that hold a key.
    pub found: Vec<String>,
}

/// The rows of a file without the people.
struct Purged {
    /// `None` when no row is left.
    file: Option<Encoded>,
    removed: u64,
    unlinked: u64,
}

impl Lake {
    /// Takes people out of every table, commits that, and deletes every file of the municipality that is not part
    /// of the newest version. Older versions of the tables cannot be read any more after it.
    ///
    /// Nothing else may write or query meanwhile, in no process, and nothing may be staged. After an error, or a
    /// crash, calling it again goes on.
    pub async fn erase(&self, who: &Erasure, now: Timestamp) -> Result<BTreeMap<String, ErasedTable>, LakeError> {
        let _upkeep = self.upkeep.lock().await;
        let mut done = BTreeMap::new();
        for name in schema::all().keys() {
            let erased = self.erase_from(name, who, now).await?;
            if erased != ErasedTable::default() {
                done.insert(name.clone(), erased);
            }
        }
        Ok(done)
    }

    async fn erase_from(&self, group: &str, who: &Erasure, now: Timestamp) -> Result<ErasedTable, LakeError> {
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let schema = schema::group(group).ok_or_else(unknown)?;
        let (name, table) = self.view.tables.groups.get_key_value(group).ok_or_else(unknown)?;
        let mut table = table.lock().await;
        if table.has_unknown_columns()? {
            return Err(LakeError::Foreign { table: group.to_owned(), what: "columns of a newer version" });
        }
        // What other processes committed has to go as well.
        let apps: BTreeSet<Arc<str>> = table.committed().iter().flat_map(|c| c.txns.keys().cloned()).collect();
        table.refresh(&apps).await?;
        let committed = table.committed().cloned().ok_or_else(unknown)?;
        let mut erased = ErasedTable::default();
        let mut actions = Vec::new();
        for file in committed.files.iter().filter(|file| *file.municipality == *who.municipality.as_str()) {
            let content = committed.content(&schema.name, file).await?;
            let layout = self.options.layout();
            let (who, about) = (who.clone(), Arc::clone(file));
            let purged = tokio::task::spawn_blocking(move || purge(content, schema, &about, &who, &layout, now))
                .await
                .map_err(LakeError::Task)??;
            let Some(purged) = purged else { continue };
            erased.rows_removed += purged.removed;
            erased.rows_unlinked += purged.unlinked;
            erased.files_replaced += 1;
            let mut gone = removal(file, now);
            gone.data_change = true;
            actions.push(Action::Remove(gone));
            actions.extend(table.store(purged.file.into_iter().collect(), self.options.fsync).await?);
        }
        if !actions.is_empty() {
            // As in a compaction: whoever commits in between makes this one fail instead of doubling rows.
            let properties = CommitProperties::default().with_max_retries(0);
            let operation = DeltaOperation::Delete { predicate: None };
            table.commit_operation(actions, properties, operation, &self.options).await?;
            table.adopt_after_commit(committed.txns.clone()).await?;
        }
        let present = table.committed().cloned().ok_or_else(unknown)?;
        erased.files_deleted = sweep(&present, schema, &who.municipality).await?;
        self.view.shared.publish([(*name, present)], &BTreeSet::new());
        Ok(erased)
    }
}

fn storage(schema: &GroupSchema, path: &str, source: datafusion::object_store::Error) -> LakeError {
    LakeError::Storage { table: schema.name.clone(), path: path.to_owned(), source: Box::new(source) }
}

/// The file's rows without the people; `None` when it holds none of them.
fn purge(
    content: Bytes,
    schema: &'static GroupSchema,
    about: &DataFile,
    who: &Erasure,
    layout: &Layout,
    now: Timestamp,
) -> Result<Option<Purged>, LakeError> {
    let arrow = LakeError::arrow(&schema.name);
    let batches = file::decode(content, schema).map_err(LakeError::parquet(&schema.name, "read"))?;
    let rows = concat_batches(&schema.file, &batches).map_err(&arrow)?;
    let marks = Marks::of(who);
    let named: Vec<bool> =
        (0..rows.num_rows()).map(|row| rows.columns().iter().any(|column| marks.names(column, row))).collect();
    let n_named = named.iter().filter(|named| **named).count() as u64;
    if n_named == 0 {
        return Ok(None);
    }
    let types = rows.column_by_name(EVENT_TYPE).map(|types| types.as_string_view());
    let goes = |row: usize| {
        named[row]
            && (who.removed_from.contains(&schema.name)
                // A row that came from a table keeps its content there.
                || schema.name == QUARANTINE && types.is_some_and(|types| who.removes(types.value(row))))
    };
    let stays: BooleanArray = (0..rows.num_rows()).map(|row| Some(!goes(row))).collect();
    let rest = filter_record_batch(&rows, &stays).map_err(&arrow)?;
    let removed = (rows.num_rows() - rest.num_rows()) as u64;
    let rest = if removed < n_named { marks.unlinked(&rest) } else { Ok(rest) };
    let file = encode_rest(&rest.map_err(&arrow)?, schema, about, layout, now)?;
    Ok(Some(Purged { file, removed, unlinked: n_named - removed }))
}

/// How people are written in rows: as numbers of key columns, and as decimal text where a key is a subject's id.
struct Marks<'a> {
    numbers: &'a BTreeMap<i64, i64>,
    texts: Vec<(String, String)>,
}

impl<'a> Marks<'a> {
    fn of(who: &'a Erasure) -> Self {
        let texts = who.stand_ins.iter().map(|(key, stand_in)| (key.to_string(), stand_in.to_string())).collect();
        Self { numbers: &who.stand_ins, texts }
    }

    fn names(&self, column: &ArrayRef, row: usize) -> bool {
        if column.is_null(row) {
            return false;
        }
        match column.data_type() {
            DataType::Int64 => self.numbers.contains_key(&column.as_primitive::<Int64Type>().value(row)),
            DataType::Utf8View => {
                let value = column.as_string_view().value(row);
                self.texts.iter().any(|(key, _)| value.contains(key.as_str()))
            }
            _ => false,
        }
    }

    fn unlinked(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = rows.columns().iter().map(|column| match column.data_type() {
            DataType::Int64 => {
                let values = column.as_primitive::<Int64Type>().iter();
                let replaced: Int64Array =
                    values.map(|key| key.map(|key| self.numbers.get(&key).copied().unwrap_or(key))).collect();
                Arc::new(replaced) as ArrayRef
            }
            DataType::Utf8View => {
                let values = column.as_string_view().iter();
                Arc::new(values.map(|value| value.map(|value| self.text(value))).collect::<StringViewArray>())
            }
            _ => Arc::clone(column),
        });
        RecordBatch::try_new(rows.schema(), columns.collect())
    }

    fn text(&self, value: &str) -> String {
        self.texts.iter().fold(value.to_owned(), |text, (key, stand_in)| text.replace(key.as_str(), stand_in))
    }
}

/// Deletes the municipality's files that the newest version does not have.
async fn sweep(committed: &Committed, schema: &GroupSchema, code: &MunicipalityCode) -> Result<usize, LakeError> {
    let live: BTreeSet<StorePath> = committed.files.iter().map(|file| StorePath::from(file.path.as_str())).collect();
    let folder = StorePath::from(format!("{MUNICIPALITY}={code}"));
    let listed: Vec<_> = committed
        .store
        .list(Some(&folder))
        .try_collect()
        .await
        .map_err(|source| storage(schema, folder.as_ref(), source))?;
    let mut n_deleted = 0;
    for found in listed.into_iter().filter(|found| !live.contains(&found.location)) {
        let path = found.location.to_string();
        committed.store.delete(&found.location).await.map_err(|source| storage(schema, &path, source))?;
        n_deleted += 1;
    }
    Ok(n_deleted)
}

/// Looks for keys in every file of a lake, wherever it lies, as [`search_keys`] does. Of a bucket one file is in
/// memory at a time.
pub async fn search_lake(location: &LakeLocation, keys: &BTreeSet<i64>) -> Result<Searched, LakeError> {
    if let Some(dir) = location.folder() {
        let (dir, keys): (PathBuf, _) = (dir.to_owned(), keys.clone());
        return tokio::task::spawn_blocking(move || search_keys(&dir, &keys)).await.map_err(LakeError::Task)?;
    }
    let mut searched = Searched::default();
    for path in location.paths().await? {
        // A file that went meanwhile holds nobody.
        let Some(content) = location.read(&path).await? else { continue };
        let keys = keys.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let mut searched = Searched { files: 1, ..Searched::default() };
            if search_content(&path, content, &Wanted::of(&keys), &mut searched)? {
                searched.found.push(path);
            }
            Ok::<_, LakeError>(searched)
        });
        let looked = looked.await.map_err(LakeError::Task)??;
        searched.files += looked.files;
        searched.rows += looked.rows;
        searched.found.extend(looked.found);
    }
    searched.found.sort();
    Ok(searched)
}

fn search_content(path: &str, content: Bytes, wanted: &Wanted<'_>, searched: &mut Searched) -> Result<bool, LakeError> {
    if path.ends_with(".parquet") { search_rows(path, content, wanted, searched) } else { Ok(wanted.is_in(&content)) }
}

/// Reads every file below a folder of this machine and looks for keys: as values of data files and checkpoints,
/// whatever version they belong to, and as text or numbers in anything else. Blocking.
pub fn search_keys(dir: &Path, keys: &BTreeSet<i64>) -> Result<Searched, LakeError> {
    let mut searched = Searched::default();
    search_folder(dir, &Wanted::of(keys), &mut searched)?;
    searched.found.sort();
    Ok(searched)
}

fn search_folder(dir: &Path, wanted: &Wanted<'_>, searched: &mut Searched) -> Result<(), LakeError> {
    let io = |source| LakeError::Io { path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            search_folder(&path, wanted, searched)?;
            continue;
        }
        searched.files += 1;
        let holds = if path.extension().is_some_and(|extension| extension == "parquet") {
            let file = File::open(&path).map_err(|source| LakeError::Io { path: path.clone(), source })?;
            search_rows(&path.display().to_string(), file, wanted, searched)?
        } else {
            let bytes = std::fs::read(&path).map_err(|source| LakeError::Io { path: path.clone(), source })?;
            wanted.is_in(&bytes)
        };
        if holds {
            searched.found.push(path.display().to_string());
        }
    }
    Ok(())
}

fn search_rows(
    name: &str,
    file: impl ChunkReader + 'static,
    wanted: &Wanted<'_>,
    searched: &mut Searched,
) -> Result<bool, LakeError> {
    let unreadable = LakeError::parquet(name, "read");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
    let mut holds = false;
    for batch in reader.map_err(&unreadable)? {
        let batch = batch.map_err(LakeError::arrow(name))?;
        searched.rows += batch.num_rows() as u64;
        holds |= batch.columns().iter().any(|column| wanted.is_among(column));
    }
    Ok(holds)
}

/// Keys as they may be written.
struct Wanted<'a> {
    numbers: &'a BTreeSet<i64>,
    texts: Vec<String>,
}

impl<'a> Wanted<'a> {
    fn of(keys: &'a BTreeSet<i64>) -> Self {
        Self { numbers: keys, texts: keys.iter().map(ToString::to_string).collect() }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.texts.iter().any(|text| contains(bytes, text.as_bytes()))
            || self.numbers.iter().any(|key| contains(bytes, &key.to_le_bytes()) || contains(bytes, &key.to_be_bytes()))
    }

    fn is_within(&self, text: &str) -> bool {
        self.texts.iter().any(|key| text.contains(key.as_str()))
    }

    /// Whether any value of a column, however deep, is one of the keys or names it.
    fn is_among(&self, column: &ArrayRef) -> bool {
        match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().iter().flatten().any(|n| self.numbers.contains(&n)),
            DataType::Utf8 => column.as_string::<i32>().iter().flatten().any(|text| self.is_within(text)),
            DataType::LargeUtf8 => column.as_string::<i64>().iter().flatten().any(|text| self.is_within(text)),
            DataType::Utf8View => column.as_string_view().iter().flatten().any(|text| self.is_within(text)),
            DataType::List(_) => self.is_among(column.as_list::<i32>().values()),
            DataType::Struct(_) => column.as_struct().columns().iter().any(|inner| self.is_among(inner)),
            DataType::Map(..) => self.is_among(column.as_map().keys()) || self.is_among(column.as_map().values()),
            _ => false,
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
