//! A data file while it is compacted: in memory as it is stored, or left where it lies and read page by page.

use std::{
    io::{self, Read},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        compute::cast,
        datatypes::DataType,
        error::ArrowError,
    },
    object_store::{ObjectStore, ObjectStoreExt, path::Path as StorePath},
    parquet::{
        arrow::{
            ProjectionMask,
            arrow_reader::{
                ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
                RowSelection,
            },
        },
        errors::ParquetError,
        file::{
            metadata::{PageIndexPolicy, RowGroupMetaData},
            reader::{ChunkReader, Length},
        },
    },
};
use tokio::runtime::Handle;

use crate::{
    LakeError,
    file::{DataFile, PAGE_ROWS_MAX},
    rows,
    same_id::id_of,
    schema::{EVENT_ID, GroupSchema},
    table::Committed,
};

/// Ids decoded at a time.
const ID_ROWS: usize = 8_192;
/// Read where only the beginning of something is known: the head of a page is mostly shorter.
const AHEAD_BYTES: u64 = 4_096;

/// A data file, and what its footer says.
#[derive(Clone, Debug)]
pub(crate) struct StoredFile {
    content: Content,
    footer: ArrowReaderMetadata,
}

impl StoredFile {
    /// Reads a file: whole if it has at most this many bytes, otherwise its footer alone.
    pub(crate) async fn open(
        committed: &Committed,
        table: &str,
        file: &DataFile,
        whole_bytes_max: u64,
    ) -> Result<Self, LakeError> {
        let (content, index) = if file.bytes <= whole_bytes_max {
            (Content::Whole(committed.content(table, file).await?), PageIndexPolicy::Skip)
        } else {
            let apart = Apart {
                store: Arc::clone(&committed.store),
                path: StorePath::from(file.path.as_str()),
                n_bytes: file.bytes,
                runtime: Handle::current(),
            };
            // With the places of the pages each of them is one request.
            (Content::Apart(apart), PageIndexPolicy::Optional)
        };
        let load = move || {
            let options = ArrowReaderOptions::default().with_page_index_policy(index);
            let footer = ArrowReaderMetadata::load(&content, options)?;
            Ok::<_, ParquetError>(Self { content, footer })
        };
        let loaded = tokio::task::spawn_blocking(load).await.map_err(LakeError::Task)?;
        loaded.map_err(LakeError::parquet(table, "read"))
    }

    /// Bytes of it that are in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.content {
            Content::Whole(bytes) => bytes.len(),
            Content::Apart(_) => 0,
        }
    }

    pub(crate) fn row_groups(&self) -> &[RowGroupMetaData] {
        self.footer.metadata().row_groups()
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.row_groups().iter().map(n_rows_of).sum()
    }

    /// The places of the rows of each row group.
    pub(crate) fn groups(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let ranges = self.row_groups().iter().map(|group| {
            let start = end;
            end += n_rows_of(group);
            start..end
        });
        ranges.collect()
    }

    /// Reads a row group a piece at a time. Blocking.
    pub(crate) fn pieces(&self, group: usize, n_rows: usize) -> Result<ParquetRecordBatchReader, ParquetError> {
        self.builder(group).with_batch_size(n_rows).build()
    }

    fn builder(&self, group: usize) -> ParquetRecordBatchReaderBuilder<Content> {
        ParquetRecordBatchReaderBuilder::new_with_metadata(self.content.clone(), self.footer.clone())
            .with_row_groups(vec![group])
    }

    /// Calls `take` with the place and id of each row of a row group; only its ids are decoded. Blocking.
    pub(crate) fn each_id(
        &self,
        group: usize,
        start: usize,
        mut take: impl FnMut(usize, Option<u128>),
    ) -> Result<(), ParquetError> {
        let builder = self.builder(group).with_batch_size(ID_ROWS);
        let only_ids = ProjectionMask::columns(builder.parquet_schema(), [EVENT_ID]);
        let mut at = start;
        for batch in builder.with_projection(only_ids).build()? {
            let batch = batch?;
            let column =
                batch.column_by_name(EVENT_ID).ok_or_else(|| ParquetError::General("no event_id".to_owned()))?;
            let texts = cast(column, &DataType::Utf8View)?;
            for id in texts.as_string_view().iter() {
                take(at, id.and_then(id_of));
                at += 1;
            }
        }
        Ok(())
    }

    /// Calls `take` with the rows at some places of a row group, in the table's present columns and at most `n_max`
    /// at once, and with their places. Blocking.
    pub(crate) fn rows_at(
        &self,
        (group, rows): (usize, &Range<usize>),
        places: &[usize],
        n_max: usize,
        schema: &GroupSchema,
        mut take: impl FnMut(&RecordBatch, &[usize]) -> Result<(), ArrowError>,
    ) -> Result<(), ParquetError> {
        let mut rest = places;
        while let Some(first) = rest.first() {
            // Texts are decoded as views into their pages: rows from all over a row group would hold all of it.
            let near = rest.partition_point(|place| *place < first + PAGE_ROWS_MAX);
            let (mut some, later) = rest.split_at(near);
            rest = later;
            let ranges = some.iter().map(|place| place - rows.start..place - rows.start + 1);
            let selection = RowSelection::from_consecutive_ranges(ranges, rows.len());
            let reader = self.builder(group).with_row_selection(selection).with_batch_size(n_max).build()?;
            for batch in reader {
                let batch = rows::conform(&batch?, schema)?;
                let (its, others) = some.split_at(batch.num_rows());
                take(&batch, its)?;
                some = others;
            }
        }
        Ok(())
    }

    /// As [`Self::rows_at`], the rows whose ids are wanted; of row groups without them only the ids are decoded.
    pub(crate) fn rows_with(
        &self,
        wanted: impl Fn(u128) -> bool,
        n_max: usize,
        schema: &GroupSchema,
        mut take: impl FnMut(&RecordBatch, &[usize]) -> Result<(), ArrowError>,
    ) -> Result<(), ParquetError> {
        for (group, rows) in self.groups().iter().enumerate() {
            let mut places = Vec::new();
            self.each_id(group, rows.start, |place, id| {
                if id.is_some_and(&wanted) {
                    places.push(place);
                }
            })?;
            self.rows_at((group, rows), &places, n_max, schema, &mut take)?;
        }
        Ok(())
    }
}

fn n_rows_of(group: &RowGroupMetaData) -> usize {
    usize::try_from(group.num_rows()).unwrap_or(0)
}

#[derive(Clone, Debug)]
enum Content {
    Whole(Bytes),
    Apart(Apart),
}

/// A file that stays where it is.
#[derive(Clone, Debug)]
struct Apart {
    store: Arc<dyn ObjectStore>,
    path: StorePath,
    n_bytes: u64,
    runtime: Handle,
}

impl Apart {
    fn read(&self, range: Range<u64>) -> Result<Bytes, ParquetError> {
        let wanted = range.end - range.start;
        let read = self.runtime.block_on(self.store.get_range(&self.path, range));
        let bytes = read.map_err(|error| ParquetError::External(Box::new(error)))?;
        if bytes.len() as u64 == wanted {
            Ok(bytes)
        } else {
            Err(ParquetError::EOF(format!("{} of {wanted} bytes of `{}`", bytes.len(), self.path)))
        }
    }
}

impl Length for Content {
    fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Apart(apart) => apart.n_bytes,
        }
    }
}

impl ChunkReader for Content {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        match self {
            Self::Whole(bytes) => Ok(Box::new(ChunkReader::get_read(bytes, start)?)),
            Self::Apart(apart) => Ok(Box::new(Ahead { apart: apart.clone(), at: start, ready: Bytes::new() })),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        match self {
            Self::Whole(bytes) => ChunkReader::get_bytes(bytes, start, length),
            Self::Apart(apart) => apart.read(start..start + length as u64),
        }
    }
}

/// Reads on from a place, and nothing before it is asked.
struct Ahead {
    apart: Apart,
    at: u64,
    ready: Bytes,
}

impl Read for Ahead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() {
            let end = self.apart.n_bytes.min(self.at + AHEAD_BYTES);
            if end <= self.at {
                return Ok(0);
            }
            self.ready = self.apart.read(self.at..end).map_err(io::Error::other)?;
            self.at = end;
        }
        let n = into.len().min(self.ready.len());
        into[..n].copy_from_slice(&self.ready.split_to(n));
        Ok(n)
    }
}
