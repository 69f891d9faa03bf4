//! One id is one event: rows of other files that have an id of these.
//!
//! A file whose name begins with [`COMPARED`] was compared with all others when it was written, so only what came
//! later is looked for, and only in files whose bounds could hold it. An id that carries its event's time lies within
//! days of it; such files are few. Ids without a time can be anywhere, and are looked for within a bound.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch, UInt32Array},
        compute::{cast, concat_batches, take_record_batch},
        datatypes::DataType,
        error::ArrowError,
    },
    object_store::{ObjectStoreExt, path::Path as StorePath},
    parquet::{
        arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
        errors::ParquetError,
    },
};
use uuid::Uuid;

use crate::{
    LakeError,
    file::{self, DataFile},
    schema::{EVENT_ID, GroupSchema},
    table::Committed,
};

/// How the name of a file begins whose ids were compared with those of the other files.
pub(crate) const COMPARED: &str = "once-";

/// Rows that share an id which carries its time are at most this many days apart: usage may happen up to a day
/// before or after its id was made.
const DAYS_NEAR: u32 = 2;
const BATCH_ROWS: usize = 65_536;

/// Ids of rows that were not compared yet.
#[derive(Debug, Default)]
pub(crate) struct Ids(HashSet<u128>);

impl Ids {
    pub(crate) fn insert_all(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let ids = rows.column(rows.schema().index_of(EVENT_ID)?).as_string_view();
        self.0.extend(ids.iter().flatten().filter_map(id_of));
        Ok(())
    }

    /// The smallest and the largest, as they are written.
    fn ends(&self) -> Option<(String, String)> {
        let text = |id: &u128| Uuid::from_u128(*id).to_string();
        Some((text(self.0.iter().min()?), text(self.0.iter().max()?)))
    }
}

fn id_of(text: &str) -> Option<u128> {
    Uuid::try_parse(text).ok().map(|id| id.as_u128())
}

/// Rows of one other file.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// Whether they were compared before: then the id is theirs.
    pub(crate) is_compared: bool,
    pub(crate) day: i32,
    /// With the columns of the table's files.
    pub(crate) rows: RecordBatch,
}

/// Files of the municipality, without those of `set`, that may hold one of the ids: nearest days first, all of the
/// neighbouring days and others up to `rows_max` rows. Also how many are beyond that.
pub(crate) fn candidates(
    committed: &Committed,
    set: &[Arc<DataFile>],
    ids: &Ids,
    rows_max: u64,
) -> (Vec<Arc<DataFile>>, usize) {
    let (Some(first), Some((low, high))) = (set.first(), ids.ends()) else { return (Vec::new(), 0) };
    let mut found: Vec<Arc<DataFile>> = Vec::new();
    for file in &committed.files {
        if file.municipality == first.municipality
            && file.bounds.may_hold_ids(&low, &high)
            && !set.iter().any(|member| member.path == file.path)
        {
            found.push(Arc::clone(file));
        }
    }
    let distance = |file: &Arc<DataFile>| file.day.abs_diff(first.day);
    found.sort_by_key(distance);
    let mut n_rows: u64 = 0;
    let mut n_taken = 0;
    for file in &found {
        n_rows += file.n_rows as u64;
        if distance(file) > DAYS_NEAR && n_rows > rows_max {
            break;
        }
        n_taken += 1;
    }
    let n_left = found.len() - n_taken;
    found.truncate(n_taken);
    (found, n_left)
}

/// Rows of the files that have one of the ids. One file is in memory at a time.
pub(crate) async fn elsewhere(
    committed: &Committed,
    schema: &'static GroupSchema,
    files: Vec<Arc<DataFile>>,
    ids: &Arc<Ids>,
) -> Result<Vec<Elsewhere>, LakeError> {
    let mut found = Vec::new();
    for file in files {
        let storage = |source| LakeError::Storage {
            table: schema.name.clone(),
            path: file.path.clone(),
            source: Box::new(source),
        };
        let content = committed.store.get(&StorePath::from(file.path.as_str())).await.map_err(storage)?;
        let content = content.bytes().await.map_err(storage)?;
        let ids = Arc::clone(ids);
        let rows = tokio::task::spawn_blocking(move || rows_with(content, schema, &ids))
            .await
            .map_err(LakeError::Task)?
            .map_err(LakeError::parquet(&schema.name, "read"))?;
        found.extend(rows.map(|rows| Elsewhere { is_compared: file.is_compared(), day: file.day, rows }));
    }
    Ok(found)
}

/// The file's rows that have one of the ids; mostly none, and then only its ids are decoded.
fn rows_with(content: Bytes, schema: &GroupSchema, ids: &Ids) -> Result<Option<RecordBatch>, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(content.clone())?.with_batch_size(BATCH_ROWS);
    let only_ids = ProjectionMask::columns(builder.parquet_schema(), [EVENT_ID]);
    let (mut places, mut at): (Vec<u32>, u32) = (Vec::new(), 0);
    for batch in builder.with_projection(only_ids).build()? {
        let batch = batch?;
        let column = batch.column_by_name(EVENT_ID).ok_or_else(|| ParquetError::General("no event_id".to_owned()))?;
        let texts = cast(column, &DataType::Utf8View)?;
        for id in texts.as_string_view().iter() {
            if id.and_then(id_of).is_some_and(|id| ids.0.contains(&id)) {
                places.push(at);
            }
            at += 1;
        }
    }
    if places.is_empty() {
        return Ok(None);
    }
    let rows = concat_batches(&schema.file, &file::decode(content, schema)?)?;
    Ok(Some(take_record_batch(&rows, &UInt32Array::from(places))?))
}
