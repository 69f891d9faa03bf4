//! Rows of one partition: one municipality's one day.

use std::{collections::HashMap, sync::Arc};

use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch, StringViewArray, TimestampMicrosecondArray, UInt32Array},
    compute::{SortColumn, concat_batches, lexsort_to_indices, partition, take_record_batch},
    datatypes::{Date32Type, TimestampMicrosecondType},
    error::ArrowError,
};

use crate::schema::{DAY, EVENT_ID, EVENT_TYPE, GroupSchema, INGESTED_AT, MUNICIPALITY, OCCURRED_AT, RECORDED_AT};

/// Rows of one municipality and day, sorted by type and time.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) municipality: Arc<str>,
    pub(crate) day: i32,
    /// All columns of the table.
    pub(crate) rows: RecordBatch,
}

/// Sorts full rows by municipality, day, event type and time.
pub(crate) fn sort(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    sort_by(batch, &[MUNICIPALITY, DAY, EVENT_TYPE, OCCURRED_AT])
}

/// Sorts the rows of one file by event type and time, rows of one instant by id and arrival.
pub(crate) fn sort_file(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let keys = Keys::of(batch)?;
    let types = ranks((0..batch.num_rows()).map(|at| keys.types.value(at)));
    let mut order: Vec<(u32, i64, &str, i64, u32)> = types
        .into_iter()
        .enumerate()
        .map(|(at, ty)| {
            let place = u32::try_from(at).unwrap_or(u32::MAX);
            (ty, keys.times.value(at), keys.ids.value(at), keys.arrived.value(at), place)
        })
        .collect();
    // What is joined was sorted before: the stable sort finds such runs and merges them.
    order.sort();
    take_record_batch(batch, &UInt32Array::from_iter_values(order.iter().map(|row| row.4)))
}

/// The place of each text among the different ones, in alphabetical order. For texts that repeat: rows are sorted
/// by these numbers with a fraction of the time that comparing the texts takes.
pub(crate) fn ranks<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<u32> {
    let mut known: HashMap<&str, u32> = HashMap::new();
    let mut different: Vec<&str> = Vec::new();
    let mut last: u32 = 0;
    let mut ranks: Vec<u32> = Vec::with_capacity(texts.size_hint().0);
    for text in texts {
        // Neighbours mostly say the same.
        if different.get(last as usize) != Some(&text) {
            last = *known.entry(text).or_insert_with(|| {
                different.push(text);
                u32::try_from(different.len() - 1).unwrap_or(u32::MAX)
            });
        }
        ranks.push(last);
    }
    let mut order: Vec<u32> = known.into_values().collect();
    order.sort_unstable_by_key(|place| different[*place as usize]);
    let mut rank_of = vec![0; different.len()];
    for (rank, place) in (0..).zip(order) {
        rank_of[place as usize] = rank;
    }
    for rank in &mut ranks {
        *rank = rank_of[*rank as usize];
    }
    ranks
}

/// Type, instant, id and arrival of each row.
struct Keys<'b> {
    types: &'b StringViewArray,
    times: &'b TimestampMicrosecondArray,
    ids: &'b StringViewArray,
    arrived: &'b TimestampMicrosecondArray,
}

impl<'b> Keys<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self, ArrowError> {
        let schema = batch.schema();
        Ok(Self {
            types: batch.column(schema.index_of(EVENT_TYPE)?).as_string_view(),
            times: batch.column(schema.index_of(OCCURRED_AT)?).as_primitive(),
            ids: batch.column(schema.index_of(EVENT_ID)?).as_string_view(),
            arrived: batch.column(schema.index_of(INGESTED_AT)?).as_primitive(),
        })
    }
}

fn sort_by(batch: &RecordBatch, columns: &[&str]) -> Result<RecordBatch, ArrowError> {
    let keys = columns
        .iter()
        .map(|name| {
            batch.schema().index_of(name).map(|i| SortColumn { values: Arc::clone(batch.column(i)), options: None })
        })
        .collect::<Result<Vec<_>, _>>()?;
    take_record_batch(batch, &lexsort_to_indices(&keys, None)?)
}

/// Cuts sorted full rows into partitions.
pub(crate) fn cut(batch: &RecordBatch) -> Result<Vec<Slice>, ArrowError> {
    let schema = batch.schema();
    let code = batch.column(schema.index_of(MUNICIPALITY)?);
    let day = batch.column(schema.index_of(DAY)?);
    let codes = code.as_string_view();
    let days = day.as_primitive::<Date32Type>();
    let mut slices: Vec<Slice> = Vec::new();
    for range in partition(&[Arc::clone(code), Arc::clone(day)])?.ranges() {
        let value = codes.value(range.start);
        let municipality = match slices.last() {
            Some(last) if &*last.municipality == value => Arc::clone(&last.municipality),
            _ => Arc::from(value),
        };
        slices.push(Slice { municipality, day: days.value(range.start), rows: batch.slice(range.start, range.len()) });
    }
    Ok(slices)
}

/// Rows from which a slice is worth a row group of its own.
const RUN_ROWS_MIN: usize = 32_768;

/// The rows of several slices of one partition as the content of one file: without the partition columns, in
/// runs that are each sorted by type and time.
///
/// A large slice is sorted already and stays as it is. Putting it in order with the others copied every column
/// twice and was the most memory that a flush took; a file is only promised to be sorted within its row groups,
/// and compaction sorts it whole.
pub(crate) fn file_runs(slices: &[&Slice], schema: &GroupSchema) -> Result<Vec<RecordBatch>, ArrowError> {
    let n_file = schema.file.fields().len();
    let file_columns: Vec<usize> = (0..n_file).collect();
    let batches = slices.iter().map(|s| s.rows.project(&file_columns)).collect::<Result<Vec<_>, _>>()?;
    let (mut runs, small): (Vec<_>, Vec<_>) = batches.into_iter().partition(|rows| rows.num_rows() >= RUN_ROWS_MIN);
    match small.as_slice() {
        [] => {}
        [one] => runs.push(one.clone()),
        many => runs.push(sort_file(&concat_batches(&schema.file, many)?)?),
    }
    Ok(runs)
}

/// The latest `recorded_at` of a batch, in microseconds.
pub(crate) fn recorded_max(batch: &RecordBatch) -> Option<i64> {
    let column = batch.column_by_name(RECORDED_AT)?;
    if column.is_empty() {
        return None;
    }
    datafusion::arrow::compute::max(column.as_primitive::<TimestampMicrosecondType>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_as_their_texts_do() {
        let texts = ["b", "b", "", "c", "a", "b", "ab", "c"];
        assert_eq!(ranks(texts.into_iter()), [3_u32, 3, 0, 4, 1, 3, 2, 4]);
        assert!(ranks(std::iter::empty()).is_empty());
    }
}
