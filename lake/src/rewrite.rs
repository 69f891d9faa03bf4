//! A set of files of one partition becomes one file, and its rows are not in memory for it.
//!
//! First the ids alone are read, a share of them at a time: which rows are there twice, here or in another file. Of
//! these a digest is compared, and places are noted that leave. Then the row groups are merged, a piece of each in
//! memory, and new ones are encoded as they fill. A file that has no room is left where it lies and read page by page;
//! what it becomes is written in files that have room.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, RecordBatch},
        compute::concat_batches,
        error::ArrowError,
    },
    parquet::errors::ParquetError,
};
use todoke_domain::Timestamp;

use crate::{
    CompactOptions, LakeError,
    file::{DataFile, Encoded, Encoder, Layout, Threads},
    holder::{HOLDER_BYTES, Holders, Verdict},
    merge::{Merge, PIECE_ROWS_WANTED, Runs},
    same_id::{Found, ID_BYTES, Ids, Share, candidates, find, ids_of_set},
    schema::GroupSchema,
    slice::sort_file,
    stored::StoredFile,
    table::Committed,
};

/// Shares of the memory that a compaction may take. The files as they are stored are in it throughout; ids and what is
/// compared are gone when the merge begins; what is encoded takes about what was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// Files as they are stored, bytes; also what is encoded of one that is not in memory.
    pub(crate) content: u64,
    /// Rows that are joined.
    pub(crate) rows: usize,
    /// Rows whose ids have room at a time.
    ids: usize,
    /// Ids there twice whose rows are compared at a time.
    holders: usize,
    /// Which rows leave, bytes.
    verdict: usize,
    /// Rows on their way to the quarantine, bytes.
    conflicts: usize,
    /// Pieces of row groups that are merged, bytes.
    pieces: usize,
    /// A row group under construction, bytes.
    row_group: usize,
    /// All of it together, from which a row group ends that has more than its share.
    all: usize,
}

impl Shares {
    pub(crate) fn of(options: &CompactOptions) -> Self {
        let bytes = usize::try_from(options.memory_bytes_max).unwrap_or(usize::MAX);
        Self {
            content: options.memory_bytes_max / 8,
            rows: bytes / 2 / ID_BYTES,
            ids: (bytes / 8 / ID_BYTES).max(1),
            holders: (bytes / 16 / HOLDER_BYTES).max(1),
            verdict: bytes / 16,
            conflicts: bytes / 16,
            pieces: bytes / 2,
            row_group: bytes / 8,
            all: bytes - bytes / 8,
        }
    }

    /// How a file can be read a row group at a time; `None` where a piece of one has no room.
    fn reading(&self, file: &StoredFile, schema: &GroupSchema) -> Option<Reading> {
        let alone = file.row_groups().iter().map(|group| Runs::default().with(group, schema));
        let mut reading = Reading { n_max: usize::MAX, page_bytes: 0, other_page_bytes: 0, row_bytes: 1 };
        for group in alone {
            if !group.fit(1, self.pieces / 4 * 3) {
                return None;
            }
            reading.n_max = reading.n_max.min(group.piece_rows(self.pieces / 2));
            reading.page_bytes = reading.page_bytes.max(group.page_bytes());
            reading.other_page_bytes = reading.other_page_bytes.max(group.other_page_bytes());
            reading.row_bytes = reading.row_bytes.max(group.row_bytes());
        }
        Some(reading)
    }
}

/// How rows of single row groups are read.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Rows at once.
    n_max: usize,
    page_bytes: usize,
    /// Of these, those that rows are no views of.
    other_page_bytes: usize,
    row_bytes: usize,
}

impl Reading {
    fn and(self, other: Self) -> Self {
        Self {
            n_max: self.n_max.min(other.n_max),
            page_bytes: self.page_bytes.max(other.page_bytes),
            other_page_bytes: self.other_page_bytes.max(other.other_page_bytes),
            row_bytes: self.row_bytes.max(other.row_bytes),
        }
    }
}

/// Files of one partition, not decoded.
struct FileSet {
    files: Vec<Arc<DataFile>>,
    stored: Vec<StoredFile>,
    reading: Reading,
}

impl FileSet {
    /// Opens files until the memory has no room for pieces of one more. `None` if it has no room for the first one, or
    /// for nothing else beside it although alone it needs no rewriting.
    async fn open(
        committed: &Committed,
        schema: &'static GroupSchema,
        files: Vec<Arc<DataFile>>,
        shares: &Shares,
    ) -> Result<Option<Self>, LakeError> {
        let n_files = files.len();
        let mut set: Option<Self> = None;
        let (mut runs, mut n_rows) = (Runs::default(), 0);
        for file in files {
            let stored = StoredFile::open(committed, &schema.name, &file, shares.content).await?;
            runs = runs.with_file(&stored, schema);
            n_rows += stored.n_rows();
            let has_room = Verdict::bytes(n_rows) <= shares.verdict;
            let Some(reading) = shares.reading(&stored, schema).filter(|_| has_room) else { break };
            match &mut set {
                None => set = Some(Self { files: vec![file], stored: vec![stored], reading }),
                Some(set) => {
                    // Two that fit somehow are joined, or files would stay small for ever.
                    let n_wanted = if set.files.len() == 1 { 1 } else { PIECE_ROWS_WANTED };
                    if !runs.fit(n_wanted, shares.pieces) {
                        break;
                    }
                    set.files.push(file);
                    set.stored.push(stored);
                    set.reading = set.reading.and(reading);
                }
            }
        }
        Ok(set.filter(|set| n_files == 1 || set.files.len() > 1 || !set.files[0].is_compared()))
    }

    fn n_rows(&self) -> usize {
        self.stored.iter().map(StoredFile::n_rows).sum()
    }

    /// Memory of the files, and of what is decided about their rows, bytes.
    fn held_bytes(&self) -> usize {
        self.stored.iter().map(StoredFile::held_bytes).sum::<usize>() + Verdict::bytes(self.n_rows())
    }

    fn is_in_memory(&self) -> bool {
        self.stored.iter().all(|stored| stored.held_bytes() > 0)
    }

    /// Which row groups are merged with each other: all, or of a file that has no room as many as have.
    fn rounds(&self, schema: &GroupSchema, shares: &Shares) -> VecDeque<Round> {
        let mut rounds = VecDeque::new();
        let mut round = Round::default();
        for (file, stored) in self.stored.iter().enumerate() {
            for ((group, about), rows) in stored.row_groups().iter().enumerate().zip(stored.groups()) {
                let with = round.runs.with(about, schema);
                let is_full = !round.groups.is_empty() && !with.fit(PIECE_ROWS_WANTED, shares.pieces);
                if is_full && self.stored.len() == 1 {
                    rounds.push_back(std::mem::take(&mut round));
                }
                round.runs = round.runs.with(about, schema);
                round.groups.push(Group { file, number: group, start: rows.start, n_rows: rows.len() });
            }
        }
        rounds.push_back(round);
        rounds
    }

    /// The next rows from a place on that are to go to the quarantine, sorted and with their envelope alone, and the
    /// place behind them. Blocking.
    fn conflicts_from(
        &self,
        (mut file, mut row): (usize, usize),
        verdict: &Verdict,
        n_max: usize,
        schema: &GroupSchema,
    ) -> Result<(Option<RecordBatch>, (usize, usize)), ParquetError> {
        let mut found = Vec::new();
        let mut room = n_max;
        while room > 0 && file < self.stored.len() {
            let (stored, leaves) = (&self.stored[file], &verdict.conflicts()[file]);
            for (group, rows) in stored.groups().iter().enumerate() {
                let here = rows.start.max(row)..rows.end;
                let places: Vec<usize> = here.filter(|place| leaves.get_bit(*place)).take(room).collect();
                let n_at_once = self.reading.n_max;
                stored.rows_at((group, rows), &places, n_at_once, schema, |rows, _| {
                    found.push(apart(rows)?);
                    Ok(())
                })?;
                room -= places.len();
                if let (0, Some(last)) = (room, places.last()) {
                    row = last + 1;
                    break;
                }
            }
            if room > 0 {
                (file, row) = (file + 1, 0);
            }
        }
        let Some(first) = found.first() else { return Ok((None, (file, row))) };
        let sorted = sort_file(&concat_batches(&first.schema(), &found)?)?;
        Ok((Some(sorted), (file, row)))
    }
}

/// Rows without the pages that their texts were decoded from.
fn apart(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().map(|column| match column.as_string_view_opt() {
        Some(texts) => Arc::new(texts.gc()) as ArrayRef,
        None => Arc::clone(column),
    });
    RecordBatch::try_new(rows.schema(), columns.collect())
}

/// Row groups that are merged with each other.
#[derive(Default)]
struct Round {
    groups: Vec<Group>,
    runs: Runs,
}

/// A row group of a set of files.
struct Group {
    /// The number of its file.
    file: usize,
    /// Its own number there.
    number: usize,
    /// The place of its first row.
    start: usize,
    n_rows: usize,
}

/// Rows on their way into new files.
struct Joining {
    set: Arc<FileSet>,
    verdict: Verdict,
    rounds: VecDeque<Round>,
    merge: Option<Merge>,
    held_bytes_max: usize,
}

impl Joining {
    /// Encodes the next file; `None` after the last one. Blocking.
    fn next_file(
        &mut self,
        schema: &'static GroupSchema,
        shares: &Shares,
        terms: &Terms,
    ) -> Result<Option<Encoded>, ParquetError> {
        let (held, n_rows) = (self.set.held_bytes(), self.set.n_rows());
        // What is in memory as it is stored becomes about as much again; of another one as much as has the same room.
        let whole = usize::try_from(shares.content).unwrap_or(usize::MAX);
        let content_bytes_max = if self.set.is_in_memory() { usize::MAX } else { whole };
        let mut encoder = Encoder::new(&schema.file, n_rows, &terms.layout, Threads::Two)?;
        while encoder.content_bytes() <= content_bytes_max {
            let Some(merge) = &mut self.merge else {
                let Some(round) = self.rounds.pop_front() else { break };
                self.merge = Some(self.begin(&round, schema, shares)?);
                continue;
            };
            let Some(rows) = merge.next_rows()? else {
                self.merge = None;
                // What the next round brings begins at the front again.
                encoder.end_row_group()?;
                continue;
            };
            encoder.write(&rows)?;
            let encoding = encoder.row_group_bytes();
            let all = held + merge.held_bytes() + encoding + encoder.content_bytes();
            self.held_bytes_max = self.held_bytes_max.max(all);
            // What takes less than its share leaves it to the row group: larger ones are read faster.
            if encoding > shares.row_group && all > shares.all {
                encoder.end_row_group()?;
            }
        }
        if encoder.n_rows() == 0 {
            return Ok(None);
        }
        let first = &self.set.files[0];
        Ok(Some(encoder.finish(&first.municipality, first.day, terms.now)?.compared()))
    }

    fn begin(&self, round: &Round, schema: &'static GroupSchema, shares: &Shares) -> Result<Merge, ParquetError> {
        let mut merge = Merge::new(schema, round.runs, shares.pieces)?;
        for group in &round.groups {
            let gone = self.verdict.gone_of(group.file, group.start, group.n_rows);
            merge.add(&self.set.stored[group.file], group.number, gone)?;
        }
        Ok(merge)
    }
}

/// How a set is written.
#[derive(Clone)]
struct Terms {
    layout: Layout,
    now: Timestamp,
}

/// A set of files that is being rewritten: compared first, then joined.
pub(crate) struct Rewrite {
    committed: Arc<Committed>,
    schema: &'static GroupSchema,
    shares: Shares,
    terms: Terms,
    set: Arc<FileSet>,
    verdict: Verdict,
    /// Conflicts before this place are in the quarantine.
    conflicts_from: (usize, usize),
    joining: Option<Joining>,
    /// Files that might hold an id and were not asked.
    pub(crate) files_not_asked: usize,
    pub(crate) bytes_read: u64,
    pub(crate) held_bytes_max: usize,
}

impl Rewrite {
    /// Begins with the files of one partition, or with the first of them that there is room for; `None` if there is
    /// no room for the first one.
    pub(crate) async fn begin(
        committed: &Arc<Committed>,
        schema: &'static GroupSchema,
        files: Vec<Arc<DataFile>>,
        layout: Layout,
        options: &CompactOptions,
        now: Timestamp,
    ) -> Result<Option<Self>, LakeError> {
        let shares = Shares::of(options);
        let Some(set) = FileSet::open(committed, schema, files, &shares).await? else { return Ok(None) };
        let (verdict, bytes_read) = (Verdict::of(&set.stored), set.files.iter().map(|file| file.bytes).sum());
        Ok(Some(Self {
            committed: Arc::clone(committed),
            schema,
            shares,
            terms: Terms { layout, now },
            set: Arc::new(set),
            verdict,
            conflicts_from: (0, 0),
            joining: None,
            files_not_asked: 0,
            bytes_read,
            held_bytes_max: 0,
        }))
    }

    /// The files that are rewritten.
    pub(crate) fn files(&self) -> &[Arc<DataFile>] {
        &self.set.files
    }

    /// Rows that leave because another one says the same.
    pub(crate) fn repetitions(&self) -> usize {
        self.verdict.repetitions
    }

    /// Looks for rows whose id another row keeps.
    pub(crate) async fn compare(&mut self, compared_rows_max: u64) -> Result<(), LakeError> {
        for share in Share::of(self.set.n_rows(), self.shares.ids) {
            let (files, rows_max, schema) = (self.with_compared(), self.shares.ids, self.schema);
            let ids = blocking(move || ids_of_set(&files, share, rows_max, schema)).await?;
            let Ids { new, repeated } = ids.map_err(self.unreadable())?;
            self.note_held(self.set.n_rows().min(rows_max) * ID_BYTES + self.set.reading.page_bytes);
            let (others, n_left) = candidates(&self.committed, &self.set.files, &new, compared_rows_max);
            self.files_not_asked = self.files_not_asked.max(n_left);
            let whole = others.iter().map(|file| file.bytes).filter(|bytes| *bytes <= self.shares.content).max();
            let n_new = new.len();
            self.bytes_read += others.iter().map(|file| file.bytes).sum::<u64>();
            let found = find(&self.committed, self.schema, others, new, self.shares.content).await?;
            let whole = usize::try_from(whole.unwrap_or(0)).unwrap_or(usize::MAX);
            self.note_held((n_new + found.ids.len()) * ID_BYTES + repeated.len() * size_of::<u128>() + whole);
            self.settle(repeated, found).await?;
        }
        Ok(())
    }

    fn with_compared(&self) -> Vec<(StoredFile, bool)> {
        let compared = self.set.files.iter().map(|file| file.is_compared());
        self.set.stored.iter().cloned().zip(compared).collect()
    }

    fn unreadable(&self) -> impl Fn(ParquetError) -> LakeError + use<> {
        let schema: &'static GroupSchema = self.schema;
        LakeError::parquet(&schema.name, "read")
    }

    fn note_held(&mut self, bytes: usize) {
        self.held_bytes_max = self.held_bytes_max.max(self.set.held_bytes() + bytes);
    }

    /// Decides on the rows of ids that are there twice, of as many ids at a time as have room.
    async fn settle(&mut self, mut suspects: Vec<u128>, found: Found) -> Result<(), LakeError> {
        suspects.extend(&found.ids);
        suspects.sort_unstable();
        suspects.dedup();
        let listed = suspects.capacity() * size_of::<u128>() + found.ids.len() * ID_BYTES;
        let found_ids = Arc::new(found.ids);
        let mut n_unread_max: usize = 0;
        for some in suspects.chunks(self.shares.holders) {
            let listed = listed + some.len() * ID_BYTES;
            let ids: HashSet<u128> = some.iter().copied().collect();
            let (set, schema, mut verdict) = (Arc::clone(&self.set), self.schema, std::mem::take(&mut self.verdict));
            let n_max = self.set.reading.n_max;
            let looked = blocking(move || {
                Holders::among(&set.stored, &ids, n_max, schema, &mut verdict).map(|holders| (holders, verdict))
            });
            let (mut holders, mut verdict) = looked.await?.map_err(self.unreadable())?;
            let (mut page_bytes, mut n_unread) = (self.set.reading.other_page_bytes, 0_usize);
            for other in &found.files {
                let stored = StoredFile::open(&self.committed, &schema.name, other, self.shares.content).await?;
                let Some(reading) = self.shares.reading(&stored, schema) else {
                    n_unread += 1;
                    continue;
                };
                page_bytes = page_bytes.max(stored.held_bytes() + reading.other_page_bytes);
                self.bytes_read += other.bytes;
                let (about, ids, day) = (Arc::clone(other), Arc::clone(&found_ids), self.set.files[0].day);
                let looked = blocking(move || {
                    let rows = (reading.n_max, day);
                    let yielded = holders.yield_to((&stored, about.as_ref()), &ids, rows, schema, &mut verdict);
                    yielded.map(|()| (holders, verdict))
                });
                (holders, verdict) = looked.await?.map_err(self.unreadable())?;
            }
            self.note_held(listed + holders.bytes_max() + holders.held_bytes_max() + page_bytes);
            self.verdict = verdict;
            n_unread_max = n_unread_max.max(n_unread);
        }
        self.files_not_asked += n_unread_max;
        Ok(())
    }

    /// The next rows that say something else than the row which keeps their id, with their envelope alone; `None`
    /// after the last ones.
    pub(crate) async fn next_conflicts(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        if self.verdict.n_conflicts == 0 {
            return Ok(None);
        }
        let reading = self.set.reading;
        // Once as they were found, once together and once sorted.
        let n_max = (self.shares.conflicts / reading.row_bytes / 3).max(1);
        let (set, schema, from) = (Arc::clone(&self.set), self.schema, self.conflicts_from);
        let verdict = std::mem::take(&mut self.verdict);
        let (found, verdict) = blocking(move || (set.conflicts_from(from, &verdict, n_max, schema), verdict)).await?;
        self.verdict = verdict;
        let (rows, from) = found.map_err(self.unreadable())?;
        self.conflicts_from = from;
        if let Some(rows) = &rows {
            let decoded = reading.page_bytes + reading.n_max * reading.row_bytes;
            self.note_held(3 * rows.get_array_memory_size() + decoded);
        }
        Ok(rows)
    }

    /// The next file of the rows that stay; `None` after the last one. Nothing is compared after the first.
    pub(crate) async fn next_file(&mut self) -> Result<Option<Encoded>, LakeError> {
        let (schema, shares, terms) = (self.schema, self.shares, self.terms.clone());
        let mut joining = match self.joining.take() {
            Some(joining) => joining,
            None => Joining {
                set: Arc::clone(&self.set),
                verdict: std::mem::take(&mut self.verdict),
                rounds: self.set.rounds(schema, &shares),
                merge: None,
                held_bytes_max: 0,
            },
        };
        let (file, joining) = blocking(move || (joining.next_file(schema, &shares, &terms), joining)).await?;
        self.held_bytes_max = self.held_bytes_max.max(joining.held_bytes_max);
        self.joining = Some(joining);
        file.map_err(LakeError::parquet(&schema.name, "rewritten"))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LakeError> {
    tokio::task::spawn_blocking(work).await.map_err(LakeError::Task)
}
