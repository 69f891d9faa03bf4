//! Sorted rows of many row groups in one order, holding a piece of each at a time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    ops::Range,
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{AsArray, BooleanArray, RecordBatch},
        buffer::BooleanBuffer,
        compute::{filter_record_batch, interleave_record_batch},
        datatypes::TimestampMicrosecondType,
        error::ArrowError,
    },
    parquet::{
        arrow::arrow_reader::ParquetRecordBatchReader, basic::Type as PhysicalType, errors::ParquetError,
        file::metadata::RowGroupMetaData,
    },
};

use crate::{
    file::PAGE_ROWS_MAX,
    rows,
    schema::{EVENT_TYPE, GroupSchema, OCCURRED_AT},
    stored::StoredFile,
};

/// Fewest rows of a piece that files are joined for: with fewer the work would go into beginning pieces.
pub(crate) const PIECE_ROWS_WANTED: usize = 64;
const PIECE_ROWS_MAX: usize = 8_192;
/// What a value of a column takes, bytes at most: the view of a text is 16, the rest is what says that there is none
/// and what allocations round up.
const VALUE_BYTES: usize = 24;
/// Texts are read into lists that grow by doubling.
const TEXT_GROWTH: usize = 2;

/// What row groups take while they are merged. A file is sorted within its row groups, so each of them is a run of
/// its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Runs {
    n: usize,
    row_bytes_max: usize,
    /// Pages of texts, which pieces are views of, two at the end of one.
    text_page_bytes: usize,
    /// Other pages, which readers hold.
    other_page_bytes: usize,
}

impl Runs {
    /// The same with those of one more file.
    pub(crate) fn with_file(self, file: &StoredFile, schema: &GroupSchema) -> Self {
        file.row_groups().iter().fold(self, |runs, group| runs.with(group, schema))
    }

    /// The same with one more.
    pub(crate) fn with(mut self, group: &RowGroupMetaData, schema: &GroupSchema) -> Self {
        let n_rows = usize::try_from(group.num_rows()).unwrap_or(usize::MAX).max(1);
        let size = |bytes: i64| usize::try_from(bytes).unwrap_or(0);
        let encoded = size(group.total_byte_size());
        let texts = group.columns().iter().filter_map(|column| column.unencoded_byte_array_data_bytes());
        let texts: Option<usize> = texts.map(size).reduce(|all, bytes| all + bytes);
        let text_bytes = TEXT_GROWTH * texts.unwrap_or(encoded) / n_rows;
        self.n += 1;
        self.row_bytes_max = self.row_bytes_max.max(row_bytes(schema) + text_bytes);
        for column in group.columns() {
            let (bytes, stored) = (size(column.uncompressed_size()), size(column.compressed_size()).max(1));
            let before_data = column.dictionary_page_offset().map_or(0, |start| column.data_page_offset() - start);
            let dictionary = (bytes as f64 * (size(before_data) as f64 / stored as f64)) as usize;
            let in_page = n_rows.min(PAGE_ROWS_MAX) as f64 / n_rows as f64;
            let page = (bytes.saturating_sub(dictionary) as f64 * in_page) as usize;
            if column.column_type() == PhysicalType::BYTE_ARRAY {
                let n_pages = if n_rows <= PAGE_ROWS_MAX { 1 } else { 2 };
                self.text_page_bytes += dictionary + n_pages * page;
            } else {
                self.other_page_bytes += dictionary + page;
            }
        }
        self
    }

    /// Whether a memory has room for pieces of so many rows.
    pub(crate) fn fit(self, n_rows: usize, bytes_max: usize) -> bool {
        self.room(bytes_max) >= n_rows
    }

    /// Rows of the pieces that a memory has room for.
    pub(crate) fn piece_rows(self, bytes_max: usize) -> usize {
        self.room(bytes_max).clamp(1, PIECE_ROWS_MAX)
    }

    fn room(self, bytes_max: usize) -> usize {
        // One more piece is what leaves.
        bytes_max.saturating_sub(self.page_bytes()) / ((self.n + 1) * self.row_bytes_max.max(1))
    }

    /// What a row takes, bytes at most.
    pub(crate) fn row_bytes(self) -> usize {
        self.row_bytes_max.max(1)
    }

    /// What pages take, bytes at most.
    pub(crate) fn page_bytes(self) -> usize {
        self.text_page_bytes + self.other_page_bytes
    }

    /// Of these, what pieces do not hold themselves.
    pub(crate) fn other_page_bytes(self) -> usize {
        self.other_page_bytes
    }
}

/// What a row takes besides its texts, bytes at most.
fn row_bytes(schema: &GroupSchema) -> usize {
    schema.file.fields().len() * VALUE_BYTES
}

/// Rows of one run: those decoded and those to come.
struct Run {
    rest: Option<ParquetRecordBatchReader>,
    /// Which of its rows do not come, and how many of them were decoded.
    gone: BooleanBuffer,
    n_decoded: usize,
    piece: RecordBatch,
    piece_bytes: usize,
    /// The next row of the piece.
    at: usize,
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
    piece_rows: usize,
    page_bytes: usize,
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
}

impl Merge {
    /// Nothing yet. Pieces are as large as `bytes_max` has room for.
    pub(crate) fn new(schema: &'static GroupSchema, runs: Runs, bytes_max: usize) -> Result<Self, ArrowError> {
        Ok(Self {
            schema,
            type_at: schema.file.index_of(EVENT_TYPE)?,
            time_at: schema.file.index_of(OCCURRED_AT)?,
            piece_rows: runs.piece_rows(bytes_max),
            page_bytes: runs.other_page_bytes,
            runs: Vec::with_capacity(runs.n),
            heads: BinaryHeap::with_capacity(runs.n),
        })
    }

    /// Adds the rows of a row group, without those that are gone.
    pub(crate) fn add(&mut self, file: &StoredFile, group: usize, gone: BooleanBuffer) -> Result<(), ParquetError> {
        let rest = Some(file.pieces(group, self.piece_rows)?);
        let piece = RecordBatch::new_empty(Arc::clone(&self.schema.file));
        self.runs.push(Run { rest, gone, n_decoded: 0, piece, piece_bytes: 0, at: 0 });
        let head = self.head_of(self.runs.len() - 1, None)?;
        self.heads.extend(head.map(Reverse));
        Ok(())
    }

    /// Memory of the pieces with the pages they are views of, of other pages, and of the rows that left last, bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        let pieces: usize = self.runs.iter().map(|run| run.piece_bytes).sum();
        // What leaves shares its texts with the pieces.
        pieces + self.page_bytes + self.piece_rows * row_bytes(self.schema)
    }

    /// The next rows; `None` after the last one.
    pub(crate) fn next_rows(&mut self) -> Result<Option<RecordBatch>, ParquetError> {
        let mut picked: Vec<(usize, Range<usize>)> = Vec::new();
        let mut n_rows = 0;
        while n_rows < self.piece_rows {
            let Some(Reverse(mut head)) = self.heads.pop() else { break };
            let index = head.run;
            let start = self.runs[index].at;
            // Rows of a run leave together while those of no other one come before them.
            loop {
                let run = &mut self.runs[index];
                run.at += 1;
                n_rows += 1;
                if run.at == run.piece.num_rows() {
                    // What was picked of this piece leaves before the next one takes its place.
                    picked.push((index, start..run.at));
                    let rows = self.picked(picked)?;
                    let head = self.head_of(index, Some(head))?;
                    self.heads.extend(head.map(Reverse));
                    return Ok(Some(rows));
                }
                self.move_on(&mut head);
                if n_rows == self.piece_rows || self.heads.peek().is_some_and(|Reverse(other)| *other < head) {
                    break;
                }
            }
            picked.push((index, start..self.runs[index].at));
            self.heads.push(Reverse(head));
        }
        if picked.is_empty() { Ok(None) } else { Ok(Some(self.picked(picked)?)) }
    }

    /// The rows of some places, in their order.
    fn picked(&self, places: Vec<(usize, Range<usize>)>) -> Result<RecordBatch, ArrowError> {
        if let [(run, rows)] = places.as_slice() {
            return Ok(self.runs[*run].piece.slice(rows.start, rows.len()));
        }
        // Only the pieces that rows come from: each costs something in each column.
        let mut pieces: Vec<&RecordBatch> = Vec::new();
        let mut number_of: BTreeMap<usize, usize> = BTreeMap::new();
        let mut rows = Vec::new();
        for (run, range) in places {
            let number = *number_of.entry(run).or_insert_with(|| {
                pieces.push(&self.runs[run].piece);
                pieces.len() - 1
            });
            rows.extend(range.map(|row| (number, row)));
        }
        interleave_record_batch(&pieces, &rows)
    }

    /// A run's next row, if there is one; decodes its next piece where this one is used up.
    fn head_of(&mut self, index: usize, before: Option<Head>) -> Result<Option<Head>, ParquetError> {
        let run = &mut self.runs[index];
        while run.at == run.piece.num_rows() {
            let Some(rows) = run.rest.as_mut().and_then(Iterator::next) else {
                // Neither its rows nor its reader are held any longer.
                (run.rest, run.piece_bytes, run.at) = (None, 0, 0);
                run.piece = RecordBatch::new_empty(Arc::clone(&self.schema.file));
                return Ok(None);
            };
            let rows = rows::conform(&rows?, self.schema)?;
            let gone = run.gone.slice(run.n_decoded, rows.num_rows());
            run.n_decoded += rows.num_rows();
            run.piece = without(rows, &gone)?;
            run.piece_bytes = run.piece.get_array_memory_size();
            run.at = 0;
        }
        let event_type = before.map_or_else(|| Arc::from(""), |head| head.event_type);
        let mut head = Head { event_type, occurred_at: 0, run: index };
        self.move_on(&mut head);
        Ok(Some(head))
    }

    /// Moves a head to where its run stands. Neighbours mostly have the same type.
    fn move_on(&self, head: &mut Head) {
        let run = &self.runs[head.run];
        let event_type = run.piece.column(self.type_at).as_string_view().value(run.at);
        if *head.event_type != *event_type {
            head.event_type = Arc::from(event_type);
        }
        head.occurred_at = run.piece.column(self.time_at).as_primitive::<TimestampMicrosecondType>().value(run.at);
    }
}

fn without(rows: RecordBatch, gone: &BooleanBuffer) -> Result<RecordBatch, ArrowError> {
    if gone.count_set_bits() == 0 {
        return Ok(rows);
    }
    filter_record_batch(&rows, &BooleanArray::new(!gone, None))
}
