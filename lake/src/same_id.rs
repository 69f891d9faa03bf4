//! One id is one event: rows of other files that have an id of these.
//!
//! A file whose name begins with [`COMPARED`] was compared with all others when it was written, so only what came
//! later is looked for, and only in files whose bounds could hold it. An id that carries its event's time lies within
//! days of it; such files are few. Ids without a time can be anywhere, and are looked for within a bound.

use std::{collections::HashSet, ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        compute::{cast, concat_batches},
        datatypes::DataType,
        error::ArrowError,
    },
    parquet::{
        arrow::{
            ProjectionMask,
            arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection},
        },
        errors::ParquetError,
    },
};
use uuid::Uuid;

use crate::{
    LakeError, QUARANTINE,
    file::DataFile,
    rows,
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
    /// The smallest and the largest, as they are written.
    fn ends(&self) -> Option<(String, String)> {
        let text = |id: &u128| Uuid::from_u128(*id).to_string();
        Some((text(self.0.iter().min()?), text(self.0.iter().max()?)))
    }
}

/// Memory that an id takes while a set of files is looked through, bytes at most: in a list of all, and in a table
/// of the new ones with its free places.
pub(crate) const ID_BYTES: usize = 64;

/// Ids in a set of files, each with whether its rows were compared: those of rows that were not, and those that
/// several rows have. Rows of the quarantine are compared with nothing: it may name an event for several reasons.
pub(crate) fn ids_of_set(
    set: &[(Bytes, bool)],
    n_rows: usize,
    schema: &GroupSchema,
) -> Result<(Ids, HashSet<u128>), ParquetError> {
    let mut all: Vec<u128> = Vec::with_capacity(n_rows);
    let mut new = Ids::default();
    for (content, is_compared) in set {
        let is_new = !is_compared && schema.name != QUARANTINE;
        each_id(content.clone(), |_, id| {
            all.extend(id);
            if is_new {
                new.0.extend(id);
            }
        })?;
    }
    all.sort_unstable();
    let repeated = all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    Ok((new, repeated))
}

/// The id in a column of ids. A text that is no id of ours is nobody's repetition.
pub(crate) fn id_of(text: &str) -> Option<u128> {
    Uuid::try_parse(text).ok().map(|id| id.as_u128())
}

/// The ids of rows.
pub(crate) fn ids_in(rows: &RecordBatch) -> Result<impl Iterator<Item = Option<u128>>, ArrowError> {
    let ids = rows.column(rows.schema().index_of(EVENT_ID)?).as_string_view();
    Ok(ids.iter().map(|id| id.and_then(id_of)))
}

/// Calls `take` with the place and id of each row of a file; only its ids are decoded.
fn each_id(content: Bytes, mut take: impl FnMut(usize, Option<u128>)) -> Result<(), ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(content)?.with_batch_size(BATCH_ROWS);
    let only_ids = ProjectionMask::columns(builder.parquet_schema(), [EVENT_ID]);
    let mut at = 0;
    for batch in builder.with_projection(only_ids).build()? {
        let batch = batch?;
        let column = batch.column_by_name(EVENT_ID).ok_or_else(|| ParquetError::General("no event_id".to_owned()))?;
        let texts = cast(column, &DataType::Utf8View)?;
        for id in texts.as_string_view().iter() {
            take(at, id.and_then(id_of));
            at += 1;
        }
    }
    Ok(())
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
        let content = committed.content(&schema.name, &file).await?;
        let ids = Arc::clone(ids);
        let rows = tokio::task::spawn_blocking(move || rows_with(content, schema, &ids.0))
            .await
            .map_err(LakeError::Task)?
            .map_err(LakeError::parquet(&schema.name, "read"))?;
        found.extend(rows.map(|rows| Elsewhere { is_compared: file.is_compared(), day: file.day, rows }));
    }
    Ok(found)
}

/// A file's rows that have one of the ids, and no others in memory; mostly none, and then only its ids are decoded.
pub(crate) fn rows_with(
    content: Bytes,
    schema: &GroupSchema,
    ids: &HashSet<u128>,
) -> Result<Option<RecordBatch>, ParquetError> {
    let (mut places, mut n_rows): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
    each_id(content.clone(), |at, id| {
        n_rows = at + 1;
        if id.is_some_and(|id| ids.contains(&id)) {
            places.push(at..at + 1);
        }
    })?;
    if places.is_empty() {
        return Ok(None);
    }
    let selection = RowSelection::from_consecutive_ranges(places.into_iter(), n_rows);
    let reader = ParquetRecordBatchReaderBuilder::try_new(content)?.with_row_selection(selection).build()?;
    let rows: Vec<RecordBatch> =
        reader.map(|batch| rows::conform(&batch?, schema)).collect::<Result<_, ArrowError>>()?;
    Ok(Some(concat_batches(&schema.file, &rows)?))
}
