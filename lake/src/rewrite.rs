//! A set of files of one partition becomes one file, and its rows are not in memory for it.
//!
//! First the ids alone are read: which rows are there twice, here or in another file. Only these are compared and held.
//! Then all files are merged, a piece of each in memory, and row groups are encoded as they fill.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use datafusion::arrow::{array::RecordBatch, compute::concat_batches};
use todoke_domain::Timestamp;

use crate::{
    CompactOptions, LakeError, QUARANTINE,
    file::{DataFile, Encoded, Encoder, Layout},
    merge::{Merge, Runs, StoredFile},
    same_id::{self, Elsewhere, ID_BYTES, candidates, ids_in, ids_of_set, rows_with},
    schema::GroupSchema,
    slice::{Conflicts, Unrepeated, sort_file, unrepeated},
    table::Committed,
};

/// Shares of the memory that a compaction may take. The files as they are stored are in it throughout; the ids are
/// gone when the merge begins; what is encoded takes about what was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// Files as they are stored, bytes.
    pub(crate) content: u64,
    /// Rows whose ids have room.
    pub(crate) rows: usize,
    /// Pieces of files that are merged, bytes.
    pieces: usize,
    /// A row group under construction, bytes.
    row_group: usize,
}

impl Shares {
    pub(crate) fn of(options: &CompactOptions) -> Self {
        let bytes = usize::try_from(options.memory_bytes_max).unwrap_or(usize::MAX);
        Self {
            content: options.memory_bytes_max / 8,
            rows: bytes / 2 / ID_BYTES,
            pieces: bytes / 2,
            row_group: bytes / 8,
        }
    }
}

/// What became of a set of files.
pub(crate) struct Rewritten {
    /// The files that were rewritten.
    pub(crate) files: Vec<Arc<DataFile>>,
    /// `None` when every row was another file's.
    pub(crate) file: Option<Encoded>,
    pub(crate) repetitions: usize,
    pub(crate) conflicts: Option<RecordBatch>,
    pub(crate) files_not_asked: usize,
    pub(crate) bytes_read: u64,
    pub(crate) held_bytes_max: usize,
}

/// Files of one partition, read and not decoded.
struct FileSet {
    files: Vec<Arc<DataFile>>,
    stored: Vec<StoredFile>,
    runs: Runs,
}

impl FileSet {
    /// Reads files until the memory has no room for pieces of one more, but two of them at least, or nothing would be
    /// joined.
    async fn read(
        committed: &Committed,
        schema: &'static GroupSchema,
        files: Vec<Arc<DataFile>>,
        shares: Shares,
    ) -> Result<Self, LakeError> {
        let mut set = Self { files: Vec::new(), stored: Vec::new(), runs: Runs::default() };
        for file in files {
            let content = committed.content(&schema.name, &file).await?;
            let stored = StoredFile::new(content).map_err(LakeError::parquet(&schema.name, "read"))?;
            let runs = set.runs.with(&stored, schema);
            if set.files.len() >= 2 && !runs.fit(shares.pieces) {
                break;
            }
            set.files.push(file);
            set.stored.push(stored);
            set.runs = runs;
        }
        Ok(set)
    }

    fn n_rows(&self) -> usize {
        self.files.iter().map(|file| file.n_rows).sum()
    }

    fn content_bytes(&self) -> usize {
        self.stored.iter().map(|stored| stored.content.len()).sum()
    }

    /// Joins the files, without the rows whose events are elsewhere already. Blocking.
    fn joined(
        self,
        schema: &'static GroupSchema,
        mut suspects: HashSet<u128>,
        elsewhere: &[Elsewhere],
        terms: &Terms,
    ) -> Result<Rewritten, LakeError> {
        let (arrow, parquet) = (LakeError::arrow(&schema.name), LakeError::parquet(&schema.name, "written"));
        for other in elsewhere {
            suspects.extend(ids_in(&other.rows).map_err(&arrow)?.flatten());
        }
        let compared = self.compared(schema, &suspects, elsewhere)?;
        let rows_aside = elsewhere.iter().map(|other| &other.rows).chain(compared.iter().flat_map(|c| &c.conflicts));
        let held = self.content_bytes() + rows_aside.map(RecordBatch::get_array_memory_size).sum::<usize>();
        let mut held_bytes_max = self.content_bytes() + self.n_rows() * ID_BYTES;
        let mut encoder = Encoder::new(&schema.file, self.n_rows(), &terms.layout).map_err(&parquet)?;
        let mut merge = Merge::new(schema, self.runs, terms.shares.pieces, suspects).map_err(&arrow)?;
        for stored in &self.stored {
            merge.add_file(stored).map_err(LakeError::parquet(&schema.name, "read"))?;
        }
        let (mut repetitions, mut conflicts) = (0, None);
        if let Some(compared) = compared {
            (repetitions, conflicts) = (compared.repetitions, compared.conflicts);
            merge.add_rows(compared.rows).map_err(&parquet)?;
        }
        while let Some(rows) = merge.next_rows().map_err(LakeError::parquet(&schema.name, "read"))? {
            encoder.write(&rows).map_err(&parquet)?;
            let encoding = encoder.row_group_bytes();
            held_bytes_max = held_bytes_max.max(held + merge.held_bytes() + encoding + encoder.content_bytes());
            if encoding > terms.shares.row_group {
                encoder.end_row_group().map_err(&parquet)?;
            }
        }
        let (municipality, day) = (Arc::clone(&self.files[0].municipality), self.files[0].day);
        let file = if encoder.n_rows() == 0 {
            None
        } else {
            Some(encoder.finish(&municipality, day, terms.now).map_err(&parquet)?.compared())
        };
        let bytes_read = self.files.iter().map(|file| file.bytes).sum();
        Ok(Rewritten {
            files: self.files,
            file,
            repetitions,
            conflicts,
            files_not_asked: 0,
            bytes_read,
            held_bytes_max,
        })
    }

    /// The rows whose ids are there several times, each event once; `None` without such rows.
    fn compared(
        &self,
        schema: &'static GroupSchema,
        suspects: &HashSet<u128>,
        elsewhere: &[Elsewhere],
    ) -> Result<Option<Unrepeated>, LakeError> {
        if suspects.is_empty() {
            return Ok(None);
        }
        let arrow = LakeError::arrow(&schema.name);
        let mut rows = Vec::new();
        for stored in &self.stored {
            let found = rows_with(stored.content.clone(), schema, suspects);
            rows.extend(found.map_err(LakeError::parquet(&schema.name, "read"))?);
        }
        let sorted = concat_batches(&schema.file, &rows).and_then(|rows| sort_file(&rows)).map_err(&arrow)?;
        drop(rows);
        let rule = if schema.name == QUARANTINE { Conflicts::Stay } else { Conflicts::Leave };
        Ok(Some(unrepeated(sorted, self.files[0].day, elsewhere, rule).map_err(&arrow)?))
    }
}

/// How a set is written.
struct Terms {
    layout: Layout,
    shares: Shares,
    now: Timestamp,
}

/// Rewrites files of one partition, or the first of them that there is room for.
pub(crate) async fn rewrite(
    committed: &Committed,
    schema: &'static GroupSchema,
    files: Vec<Arc<DataFile>>,
    layout: Layout,
    options: &CompactOptions,
    now: Timestamp,
) -> Result<Rewritten, LakeError> {
    let shares = Shares::of(options);
    let set = FileSet::read(committed, schema, files, shares).await?;
    let contents: Vec<(Bytes, bool)> =
        set.files.iter().zip(&set.stored).map(|(file, stored)| (stored.content.clone(), file.is_compared())).collect();
    let n_rows = set.n_rows();
    let (ids, repeated) = tokio::task::spawn_blocking(move || ids_of_set(&contents, n_rows, schema))
        .await
        .map_err(LakeError::Task)?
        .map_err(LakeError::parquet(&schema.name, "read"))?;
    let ids = Arc::new(ids);
    let (others, files_not_asked) = candidates(committed, &set.files, &ids, options.compared_rows_max);
    let others_read: u64 = others.iter().map(|file| file.bytes).sum();
    let elsewhere = same_id::elsewhere(committed, schema, others, &ids).await?;
    drop(ids);
    let terms = Terms { layout, shares, now };
    let rewritten = tokio::task::spawn_blocking(move || set.joined(schema, repeated, &elsewhere, &terms))
        .await
        .map_err(LakeError::Task)??;
    Ok(Rewritten { files_not_asked, bytes_read: rewritten.bytes_read + others_read, ..rewritten })
}
