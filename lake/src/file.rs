//! One data file: its Parquet bytes and what its log entry says about it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, RecordBatch},
        compute,
        datatypes::{DataType, SchemaRef, TimestampMicrosecondType},
    },
    parquet::{
        arrow::{
            ArrowWriter,
            arrow_reader::ParquetRecordBatchReaderBuilder,
            arrow_writer::{
                ArrowColumnWriter, ArrowLeafColumn, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
            },
        },
        basic::{Compression, Encoding, ZstdLevel},
        errors::ParquetError,
        file::{
            metadata::SortingColumn,
            properties::{EnabledStatistics, WriterProperties},
            writer::SerializedFileWriter,
        },
        schema::types::ColumnPath,
    },
};
use deltalake::kernel::Add;
use serde_json::{Map, Value, json};
use todoke_domain::Timestamp;

use crate::{
    LakeError,
    prune::Bounds,
    rows::{self, date_of},
    same_id::COMPARED,
    schema::{BOUNDED, DAY, EVENT_TYPE, GroupSchema, MUNICIPALITY, OCCURRED_AT, RECORDED_AT},
    slice::sort_file,
};

/// Rows of a column in one page, at most.
pub(crate) const PAGE_ROWS_MAX: usize = 20_000;

/// Rows from which a second thread is worth its start.
const SHARED_ROWS_MIN: usize = 256;

/// A live data file of a table.
#[derive(Debug)]
pub(crate) struct DataFile {
    /// Path below the table's folder.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) municipality: Arc<str>,
    pub(crate) day: i32,
    pub(crate) n_rows: usize,
    pub(crate) bounds: Bounds,
}

impl DataFile {
    /// Whether its ids were compared with those of all files there were.
    pub(crate) fn is_compared(&self) -> bool {
        self.path.rsplit('/').next().is_some_and(|name| name.starts_with(COMPARED))
    }
}

/// How files are written.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) row_group_rows_max: usize,
    pub(crate) bloom_columns: Vec<String>,
}

/// A data file that is encoded and not yet stored.
pub(crate) struct Encoded {
    pub(crate) path: String,
    pub(crate) content: Bytes,
    pub(crate) add: Add,
}

impl Encoded {
    /// The same as a file whose ids were compared. Its name says so, because that is what every copy, checkpoint
    /// and reader of a table keeps.
    pub(crate) fn compared(mut self) -> Self {
        self.path = self.path.replacen("/part-", &format!("/{COMPARED}"), 1);
        self.add.path = self.path.clone();
        self
    }
}

/// Where the files of a partition lie, in Hive's notation.
pub(crate) fn folder(municipality: &str, day: i32) -> String {
    format!("{MUNICIPALITY}={municipality}/{DAY}={}", date_of(day))
}

/// Encodes runs of rows, without partition columns and each sorted, as the content of one file. A row group
/// holds rows of one run.
pub(crate) fn encode(
    runs: &[RecordBatch],
    municipality: &str,
    day: i32,
    layout: &Layout,
    now: Timestamp,
) -> Result<Encoded, ParquetError> {
    let schema = runs.first().map(RecordBatch::schema);
    let schema = schema.ok_or_else(|| ParquetError::General("a file without rows".to_owned()))?;
    let mut encoder = Encoder::new(&schema, runs.iter().map(RecordBatch::num_rows).sum(), layout, Threads::One)?;
    for rows in runs {
        encoder.write(rows)?;
        encoder.end_row_group()?;
    }
    encoder.finish(municipality, day, now)
}

/// Encodes what is left of a file's rows for the same place; `None` where nothing is.
pub(crate) fn encode_rest(
    rest: &RecordBatch,
    schema: &GroupSchema,
    about: &DataFile,
    layout: &Layout,
    now: Timestamp,
) -> Result<Option<Encoded>, LakeError> {
    if rest.num_rows() == 0 {
        return Ok(None);
    }
    // The file may have been sorted within its row groups only, and these are cut anew.
    let sorted = sort_file(rest).map_err(LakeError::arrow(&schema.name))?;
    let encoded = encode(&[sorted], &about.municipality, about.day, layout, now);
    encoded.map(Some).map_err(LakeError::parquet(&schema.name, "written"))
}

/// Threads that encode the columns of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The caller's.
    One,
    /// The caller's and one more.
    Two,
}

/// A data file under construction. Its row groups are encoded as they fill; only the one under construction and what
/// is encoded are in memory.
pub(crate) struct Encoder {
    schema: SchemaRef,
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    row_group_rows_max: usize,
    threads: Threads,
    /// The columns of the row group under construction; none before its first row.
    columns: Vec<ArrowColumnWriter>,
    row_group_rows: usize,
    extents: Vec<Extent>,
    n_rows: usize,
}

impl Encoder {
    /// For at most `n_rows_max` rows without partition columns.
    pub(crate) fn new(
        schema: &SchemaRef,
        n_rows_max: usize,
        layout: &Layout,
        threads: Threads,
    ) -> Result<Self, ParquetError> {
        let options = ArrowWriterOptions::new()
            .with_properties(properties(schema, n_rows_max, layout)?)
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(schema), options)?;
        let (writer, factory) = writer.into_serialized_writer()?;
        let bounded = BOUNDED.into_iter().filter(|name| schema.index_of(name).is_ok());
        Ok(Self {
            schema: Arc::clone(schema),
            writer,
            factory,
            row_group_rows_max: layout.row_group_rows_max.max(1),
            threads,
            columns: Vec::new(),
            row_group_rows: 0,
            extents: bounded.map(Extent::of).collect(),
            n_rows: 0,
        })
    }

    /// Appends rows, which must come sorted.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        for extent in &mut self.extents {
            extent.add(rows);
        }
        self.n_rows += rows.num_rows();
        let mut at = 0;
        while at < rows.num_rows() {
            let n_rows = (rows.num_rows() - at).min(self.row_group_rows_max - self.row_group_rows);
            self.fill(&rows.slice(at, n_rows))?;
            at += n_rows;
            if self.row_group_rows == self.row_group_rows_max {
                self.end_row_group()?;
            }
        }
        Ok(())
    }

    /// Appends rows that the row group has room for.
    fn fill(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        if self.columns.is_empty() {
            self.columns = self.factory.create_column_writers(self.writer.flushed_row_groups().len())?;
        }
        self.row_group_rows += rows.num_rows();
        let mut leaves: Vec<ArrowLeafColumn> = Vec::with_capacity(self.columns.len());
        for (field, column) in self.schema.fields().iter().zip(rows.columns()) {
            leaves.extend(compute_leaves(field, column)?);
        }
        // Columns differ a lot in what they cost, so each thread takes the next one when it is done with one.
        let queue = Mutex::new(self.columns.iter_mut().zip(leaves));
        let work = || -> Result<(), ParquetError> {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((writer, leaf)) = next else { return Ok(()) };
                writer.write(&leaf)?;
            }
        };
        if self.threads == Threads::One || rows.num_rows() < SHARED_ROWS_MIN {
            return work();
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(work);
            let own: Result<(), ParquetError> = work();
            let ended = || Err(ParquetError::General("a thread that encodes columns ended early".to_owned()));
            own.and(other.join().unwrap_or_else(|_| ended()))
        })
    }

    /// What comes next begins a row group.
    pub(crate) fn end_row_group(&mut self) -> Result<(), ParquetError> {
        if self.columns.is_empty() {
            return Ok(());
        }
        let mut row_group = self.writer.next_row_group()?;
        for column in self.columns.drain(..) {
            column.close()?.append_to_row_group(&mut row_group)?;
        }
        row_group.close()?;
        self.row_group_rows = 0;
        Ok(())
    }

    /// Memory of the row group under construction, bytes.
    pub(crate) fn row_group_bytes(&self) -> usize {
        self.columns.iter().map(ArrowColumnWriter::memory_size).sum()
    }

    /// Bytes that are encoded.
    pub(crate) fn content_bytes(&self) -> usize {
        self.writer.bytes_written()
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The file, named anew.
    pub(crate) fn finish(mut self, municipality: &str, day: i32, now: Timestamp) -> Result<Encoded, ParquetError> {
        self.end_row_group()?;
        let content = Bytes::from(self.writer.into_inner()?);
        let path = format!("{}/part-{}.parquet", folder(municipality, day), uuid::Uuid::new_v4());
        let add = Add {
            path: path.clone(),
            partition_values: [
                (MUNICIPALITY.to_owned(), Some(municipality.to_owned())),
                (DAY.to_owned(), Some(date_of(day).to_string())),
            ]
            .into(),
            size: i64::try_from(content.len()).unwrap_or(i64::MAX),
            modification_time: now.as_micros().div_euclid(1_000),
            data_change: true,
            stats: Some(statistics(self.n_rows, self.extents).to_string()),
            ..Add::default()
        };
        Ok(Encoded { path, content, add })
    }
}

fn properties(schema: &SchemaRef, n_rows: usize, layout: &Layout) -> Result<WriterProperties, ParquetError> {
    let sorting = [EVENT_TYPE, OCCURRED_AT]
        .iter()
        .filter_map(|name| i32::try_from(schema.index_of(name).ok()?).ok())
        .map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true })
        .collect();
    // Nearly ascending instants: deltas are a fraction of the plain eight bytes, and no dictionary fits them.
    let times = [OCCURRED_AT, RECORDED_AT].map(|name| ColumnPath::new(vec![name.to_owned()]));
    // A request's id is not among them: all events of a batch have it, so a dictionary holds it once.
    let unique = ["event_id", "causation_id"].map(|name| ColumnPath::new(vec![name.to_owned()]));
    // A column of few rows is one page: an index of its pages would only be one more thing to read.
    let one_page = n_rows <= PAGE_ROWS_MAX;
    let statistics = if one_page { EnabledStatistics::Chunk } else { EnabledStatistics::Page };
    let mut builder = WriterProperties::builder()
        .set_statistics_enabled(statistics)
        .set_offset_index_disabled(one_page)
        .set_data_page_row_count_limit(PAGE_ROWS_MAX)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(layout.row_group_rows_max))
        .set_sorting_columns(Some(sorting));
    for column in times {
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    for column in unique {
        builder = builder.set_column_dictionary_enabled(column, false);
    }
    // Sized for the rows there are: a filter of a small file would be larger than its rows.
    let n_values = n_rows.min(layout.row_group_rows_max) as u64;
    for column in layout.bloom_columns.iter().filter(|name| schema.index_of(name).is_ok()) {
        let column = ColumnPath::new(vec![column.clone()]);
        builder = builder
            .set_column_bloom_filter_enabled(column.clone(), true)
            .set_column_bloom_filter_max_ndv(column, n_values);
    }
    Ok(builder.build())
}

/// What a file holds of a column that queries prune by.
struct Extent {
    name: &'static str,
    ends: Ends,
    n_nulls: usize,
}

/// Smallest and largest value.
enum Ends {
    /// There is no value.
    None,
    Text {
        low: String,
        high: String,
    },
    /// Microseconds.
    Instant {
        low: i64,
        high: i64,
    },
}

impl Extent {
    fn of(name: &'static str) -> Self {
        Self { name, ends: Ends::None, n_nulls: 0 }
    }

    fn add(&mut self, rows: &RecordBatch) {
        let Some(column) = rows.column_by_name(self.name) else { return };
        self.n_nulls += column.null_count();
        self.ends = std::mem::replace(&mut self.ends, Ends::None).widened(Ends::of(column));
    }
}

impl Ends {
    fn of(column: &ArrayRef) -> Self {
        if column.data_type() == &DataType::Utf8View {
            let texts = column.as_string_view();
            let ends = compute::min_string_view(texts).zip(compute::max_string_view(texts));
            return ends.map_or(Self::None, |(low, high)| Self::Text { low: low.to_owned(), high: high.to_owned() });
        }
        let instants = column.as_primitive::<TimestampMicrosecondType>();
        let ends =
            compute::min::<TimestampMicrosecondType>(instants).zip(compute::max::<TimestampMicrosecondType>(instants));
        ends.map_or(Self::None, |(low, high)| Self::Instant { low, high })
    }

    fn widened(self, by: Self) -> Self {
        match (self, by) {
            (Self::Text { low, high }, Self::Text { low: other_low, high: other_high }) => {
                Self::Text { low: low.min(other_low), high: high.max(other_high) }
            }
            (Self::Instant { low, high }, Self::Instant { low: other_low, high: other_high }) => {
                Self::Instant { low: low.min(other_low), high: high.max(other_high) }
            }
            (Self::None, ends) | (ends, _) => ends,
        }
    }
}

/// The log entry's statistics: row count, and the bounds of the columns queries prune by. Instants
/// are cut to milliseconds, as the Delta protocol asks.
fn statistics(n_rows: usize, extents: Vec<Extent>) -> Value {
    let mut min = Map::new();
    let mut max = Map::new();
    let mut nulls = Map::new();
    for Extent { name, ends, n_nulls } in extents {
        nulls.insert(name.to_owned(), json!(n_nulls));
        let (low, high) = match ends {
            Ends::None => continue,
            Ends::Text { low, high } => (json!(low), json!(high)),
            Ends::Instant { low, high } => (instant(low), instant(high)),
        };
        min.insert(name.to_owned(), low);
        max.insert(name.to_owned(), high);
    }
    json!({ "numRecords": n_rows, "minValues": min, "maxValues": max, "nullCount": nulls })
}

fn instant(micros: i64) -> Value {
    let text = Timestamp::from_micros(micros.div_euclid(1_000) * 1_000).to_string();
    // "….123000Z" is "….123Z"
    json!(format!("{}Z", &text[..text.len() - 4]))
}

/// Decodes a whole file and brings it to the table's present columns.
pub(crate) fn decode(content: Bytes, schema: &GroupSchema) -> Result<Vec<RecordBatch>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(content)?.with_batch_size(65_536).build()?;
    reader.map(|batch| Ok(rows::conform(&batch?, schema)?)).collect()
}
