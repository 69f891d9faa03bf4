//! Sorted rows of many files in one order, holding a piece of each at a time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{AsArray, BooleanArray, RecordBatch},
        compute::{filter_record_batch, interleave_record_batch},
        datatypes::TimestampMicrosecondType,
        error::ArrowError,
    },
    parquet::{
        arrow::arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
        },
        errors::ParquetError,
        file::metadata::RowGroupMetaData,
    },
};

use crate::{
    file::PAGE_ROWS_MAX,
    rows,
    same_id::ids_in,
    schema::{EVENT_TYPE, GroupSchema, OCCURRED_AT},
};

/// Fewest rows of a piece: with fewer the work would go into beginning pieces.
const PIECE_ROWS_MIN: usize = 64;
const PIECE_ROWS_MAX: usize = 8_192;
/// What a value of a column takes, bytes at most: the view of a text is 16, the rest is what says that there is none
/// and what allocations round up.
const VALUE_BYTES: usize = 24;
/// Texts are read into lists that grow by doubling.
const TEXT_GROWTH: usize = 2;

/// A data file in memory as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredFile {
    pub(crate) content: Bytes,
    footer: ArrowReaderMetadata,
}

impl StoredFile {
    pub(crate) fn new(content: Bytes) -> Result<Self, ParquetError> {
        let footer = ArrowReaderMetadata::load(&content, ArrowReaderOptions::default())?;
        Ok(Self { content, footer })
    }

    fn row_groups(&self) -> &[RowGroupMetaData] {
        self.footer.metadata().row_groups()
    }
}

/// What the row groups of a set of files take while they are merged. A file is sorted within its row groups, so each
/// of them is a run of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Runs {
    n: usize,
    row_bytes_max: usize,
    page_bytes: usize,
}

impl Runs {
    /// The same with those of one more file.
    pub(crate) fn with(mut self, file: &StoredFile, schema: &GroupSchema) -> Self {
        for group in file.row_groups() {
            let n_rows = usize::try_from(group.num_rows()).unwrap_or(usize::MAX).max(1);
            let size = |bytes: i64| usize::try_from(bytes).unwrap_or(0);
            let encoded = size(group.total_byte_size());
            let texts = group.columns().iter().filter_map(|column| column.unencoded_byte_array_data_bytes());
            let texts: Option<usize> = texts.map(size).reduce(|all, bytes| all + bytes);
            let text_bytes = TEXT_GROWTH * texts.unwrap_or(encoded) / n_rows;
            self.n += 1;
            self.row_bytes_max = self.row_bytes_max.max(row_bytes(schema) + text_bytes);
            // A reader holds one page of each column.
            self.page_bytes += encoded / n_rows.div_ceil(PAGE_ROWS_MAX);
        }
        self
    }

    /// Whether pieces of a useful size fit into a memory.
    pub(crate) fn fit(self, bytes_max: usize) -> bool {
        self.piece_rows(bytes_max) >= PIECE_ROWS_MIN
    }

    /// Rows of each run that a memory has room for; one more piece is what leaves.
    fn piece_rows(self, bytes_max: usize) -> usize {
        bytes_max.saturating_sub(self.page_bytes) / ((self.n + 1) * self.row_bytes_max.max(1))
    }
}

/// What a row takes besides its texts, bytes at most.
fn row_bytes(schema: &GroupSchema) -> usize {
    schema.file.fields().len() * VALUE_BYTES
}

/// Rows of one run: those decoded and those to come.
struct Run {
    rest: Option<ParquetRecordBatchReader>,
    piece: RecordBatch,
    piece_bytes: usize,
    /// The next row of the piece.
    at: usize,
    /// Its type, kept because neighbours mostly have the same.
    event_type: Arc<str>,
}

/// Where a run stands. Runs are ordered by it, so rows of one instant come in the order of the runs.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    event_type: Arc<str>,
    occurred_at: i64,
    run: usize,
}

/// Runs of rows on their way into one order, by event type and time.
pub(crate) struct Merge {
    schema: &'static GroupSchema,
    type_at: usize,
    time_at: usize,
    left_out: HashSet<u128>,
    piece_rows: usize,
    page_bytes: usize,
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
}

impl Merge {
    /// Nothing yet. Rows of files whose id is among `left_out` will not come; pieces are as large as `bytes_max` has
    /// room for.
    pub(crate) fn new(
        schema: &'static GroupSchema,
        runs: Runs,
        bytes_max: usize,
        left_out: HashSet<u128>,
    ) -> Result<Self, ArrowError> {
        Ok(Self {
            schema,
            type_at: schema.file.index_of(EVENT_TYPE)?,
            time_at: schema.file.index_of(OCCURRED_AT)?,
            left_out,
            piece_rows: runs.piece_rows(bytes_max).clamp(PIECE_ROWS_MIN, PIECE_ROWS_MAX),
            page_bytes: runs.page_bytes,
            runs: Vec::with_capacity(runs.n + 1),
            heads: BinaryHeap::with_capacity(runs.n + 1),
        })
    }

    /// Adds the rows of a file.
    pub(crate) fn add_file(&mut self, file: &StoredFile) -> Result<(), ParquetError> {
        for group in 0..file.row_groups().len() {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.content.clone(), file.footer.clone());
            let reader = builder.with_row_groups(vec![group]).with_batch_size(self.piece_rows).build()?;
            self.add(Some(reader), RecordBatch::new_empty(Arc::clone(&self.schema.file)))?;
        }
        Ok(())
    }

    /// Adds rows that are sorted and in memory.
    pub(crate) fn add_rows(&mut self, rows: RecordBatch) -> Result<(), ParquetError> {
        self.add(None, rows)
    }

    fn add(&mut self, rest: Option<ParquetRecordBatchReader>, piece: RecordBatch) -> Result<(), ParquetError> {
        let piece_bytes = piece.get_array_memory_size();
        self.runs.push(Run { rest, piece, piece_bytes, at: 0, event_type: Arc::from("") });
        self.look_ahead(self.runs.len() - 1)
    }

    /// Memory of the pieces, of the pages they come from, and of the rows that left last, bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        let pieces: usize = self.runs.iter().map(|run| run.piece_bytes).sum();
        // What leaves shares its texts with the pieces.
        pieces + self.page_bytes + self.piece_rows * row_bytes(self.schema)
    }

    /// The next rows; `None` after the last one.
    pub(crate) fn next_rows(&mut self) -> Result<Option<RecordBatch>, ParquetError> {
        let mut picked = Vec::with_capacity(self.piece_rows);
        while picked.len() < self.piece_rows {
            let Some(Reverse(head)) = self.heads.pop() else { break };
            let run = &mut self.runs[head.run];
            picked.push((head.run, run.at));
            run.at += 1;
            if run.at == run.piece.num_rows() {
                // What was picked of this piece leaves before the next one takes its place.
                let rows = self.picked(&picked)?;
                self.look_ahead(head.run)?;
                return Ok(Some(rows));
            }
            self.look_ahead(head.run)?;
        }
        if picked.is_empty() { Ok(None) } else { Ok(Some(self.picked(&picked)?)) }
    }

    fn picked(&self, places: &[(usize, usize)]) -> Result<RecordBatch, ArrowError> {
        let pieces: Vec<&RecordBatch> = self.runs.iter().map(|run| &run.piece).collect();
        interleave_record_batch(&pieces, places)
    }

    /// Notes a run's next row, if there is one, and decodes its next piece where this one is used up.
    fn look_ahead(&mut self, index: usize) -> Result<(), ParquetError> {
        let run = &mut self.runs[index];
        while run.at == run.piece.num_rows() {
            let Some(rows) = run.rest.as_mut().and_then(Iterator::next) else {
                // Neither its rows nor its reader are held any longer.
                (run.rest, run.piece_bytes, run.at) = (None, 0, 0);
                run.piece = RecordBatch::new_empty(Arc::clone(&self.schema.file));
                return Ok(());
            };
            run.piece = without(rows::conform(&rows?, self.schema)?, &self.left_out)?;
            run.piece_bytes = run.piece.get_array_memory_size();
            run.at = 0;
        }
        let event_type = run.piece.column(self.type_at).as_string_view().value(run.at);
        if *run.event_type != *event_type {
            run.event_type = Arc::from(event_type);
        }
        let occurred_at = run.piece.column(self.time_at).as_primitive::<TimestampMicrosecondType>().value(run.at);
        self.heads.push(Reverse(Head { event_type: Arc::clone(&run.event_type), occurred_at, run: index }));
        Ok(())
    }
}

fn without(rows: RecordBatch, ids: &HashSet<u128>) -> Result<RecordBatch, ArrowError> {
    if ids.is_empty() {
        return Ok(rows);
    }
    let stays: BooleanArray = ids_in(&rows)?.map(|id| Some(!id.is_some_and(|id| ids.contains(&id)))).collect();
    filter_record_batch(&rows, &stays)
}
