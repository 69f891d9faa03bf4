//! One id is one event: which rows have an id that is there twice, in these files or in others.
//!
//! A file whose name begins with [`COMPARED`] was compared with all others when it was written, so only what came
//! later is looked for, and only in files whose bounds could hold it. An id that carries its event's time lies within
//! days of it; such files are few. Ids without a time can be anywhere, and are looked for within a bound.
//!
//! The ids of more rows than there is room for are looked through a share at a time.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        error::ArrowError,
    },
    parquet::errors::ParquetError,
};
use uuid::Uuid;

use crate::{
    LakeError, QUARANTINE,
    file::DataFile,
    schema::{EVENT_ID, GroupSchema},
    stored::StoredFile,
    table::Committed,
};

/// How the name of a file begins whose ids were compared with those of the other files.
pub(crate) const COMPARED: &str = "once-";

/// Rows that share an id which carries its time are at most this many days apart: usage may happen up to a day
/// before or after its id was made.
const DAYS_NEAR: u32 = 2;

/// Memory that an id takes while files are looked through, bytes at most: in a list of all, and in a table of the new
/// ones with its free places.
pub(crate) const ID_BYTES: usize = 64;

/// A share of all ids, which falls on each of them as good as evenly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    number: u64,
    of: u64,
}

impl Share {
    /// Shares of which each has the ids of at most so many rows.
    pub(crate) fn of(n_rows: usize, rows_max: usize) -> impl Iterator<Item = Self> {
        // Nothing is even by chance, so an eighth stays free.
        let n = if n_rows <= rows_max { 1 } else { n_rows.div_ceil((rows_max - rows_max / 8).max(1)) };
        let of = n as u64;
        (0..of).map(move |number| Self { number, of })
    }

    fn has(self, id: u128) -> bool {
        if self.of == 1 {
            return true;
        }
        // Times and counters differ in a few bits of an id; multiplied, in the upper half of all.
        let [high, low] = [id >> 64, id].map(|half| half as u64);
        let mixed = (high.rotate_left(32) ^ low).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) % self.of == self.number
    }
}

/// Ids of a set of files.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// Of rows that were not compared yet. Rows of the quarantine are compared with nothing: it may name an event for
    /// several reasons.
    pub(crate) new: HashSet<u128>,
    /// Those that several rows have, ascending.
    pub(crate) repeated: Vec<u128>,
}

/// A share of the ids of files, each given with whether its rows were compared. Blocking.
pub(crate) fn ids_of_set(
    set: &[(StoredFile, bool)],
    share: Share,
    rows_max: usize,
    schema: &GroupSchema,
) -> Result<Ids, ParquetError> {
    let n_rows: usize = set.iter().map(|(file, _)| file.n_rows()).sum();
    let is_new = |is_compared: bool| !is_compared && schema.name != QUARANTINE;
    let n_new: usize = set.iter().filter(|(_, c)| is_new(*c)).map(|(file, _)| file.n_rows()).sum();
    let mut all: Vec<u128> = Vec::with_capacity(n_rows.min(rows_max));
    let mut new = HashSet::with_capacity(n_new.min(rows_max));
    for (file, is_compared) in set {
        for (group, rows) in file.groups().iter().enumerate() {
            file.each_id(group, rows.start, |_, id| {
                let Some(id) = id.filter(|id| share.has(*id)) else { return };
                if all.len() == all.capacity() {
                    keep_two(&mut all);
                }
                all.push(id);
                if is_new(*is_compared) {
                    new.insert(id);
                }
            })?;
        }
    }
    keep_two(&mut all);
    let repeated = all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    Ok(Ids { new, repeated })
}

/// Sorts ids and leaves two of those that are there more often: an id may be that of any number of rows.
fn keep_two(ids: &mut Vec<u128>) {
    ids.sort_unstable();
    let mut n_kept = 0;
    for at in 0..ids.len() {
        if n_kept < 2 || ids[n_kept - 2] != ids[at] {
            ids[n_kept] = ids[at];
            n_kept += 1;
        }
    }
    ids.truncate(n_kept);
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

/// The smallest and the largest of some ids, as they are written.
fn ends(ids: &HashSet<u128>) -> Option<(String, String)> {
    let text = |id: &u128| Uuid::from_u128(*id).to_string();
    Some((text(ids.iter().min()?), text(ids.iter().max()?)))
}

/// Files of the municipality, without those of `set`, that may hold one of the ids: nearest days first, all of the
/// neighbouring days and others up to `rows_max` rows. Also how many are beyond that.
pub(crate) fn candidates(
    committed: &Committed,
    set: &[Arc<DataFile>],
    ids: &HashSet<u128>,
    rows_max: u64,
) -> (Vec<Arc<DataFile>>, usize) {
    let (Some(first), Some((low, high))) = (set.first(), ends(ids)) else { return (Vec::new(), 0) };
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

/// Which of the ids other files have, and which of these files.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) ids: HashSet<u128>,
    pub(crate) files: Vec<Arc<DataFile>>,
}

/// Looks for ids in other files. One of them is in memory at a time, or none where it is larger than `whole_bytes_max`.
pub(crate) async fn find(
    committed: &Committed,
    schema: &'static GroupSchema,
    files: Vec<Arc<DataFile>>,
    ids: HashSet<u128>,
    whole_bytes_max: u64,
) -> Result<Found, LakeError> {
    let (mut found, wanted) = (Found::default(), Arc::new(ids));
    for file in files {
        let stored = StoredFile::open(committed, &schema.name, &file, whole_bytes_max).await?;
        let (mut known, wanted) = (std::mem::take(&mut found.ids), Arc::clone(&wanted));
        let look = move || -> Result<(HashSet<u128>, bool), ParquetError> {
            let mut has_some = false;
            for (group, rows) in stored.groups().iter().enumerate() {
                stored.each_id(group, rows.start, |_, id| {
                    if let Some(id) = id.filter(|id| wanted.contains(id)) {
                        known.insert(id);
                        has_some = true;
                    }
                })?;
            }
            Ok((known, has_some))
        };
        let looked = tokio::task::spawn_blocking(look).await.map_err(LakeError::Task)?;
        let (known, has_some) = looked.map_err(LakeError::parquet(&schema.name, "read"))?;
        found.ids = known;
        if has_some {
            found.files.push(file);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_in_one_share_and_no_share_has_more_than_it_may() {
        let rows_max = 4_000;
        let ids: Vec<u128> = (0..20_000_u128).map(|n| 0x0193_2b5c_0000_7000_8000_0000_0000_0000 + n).collect();
        let counts: Vec<usize> =
            Share::of(ids.len(), rows_max).map(|share| ids.iter().filter(|id| share.has(**id)).count()).collect();
        assert_eq!(counts.iter().sum::<usize>(), ids.len());
        assert!(counts.iter().all(|n| *n <= rows_max), "{counts:?}");
        assert_eq!(Share::of(4_000, rows_max).count(), 1);
    }

    #[test]
    fn of_ids_that_are_there_often_two_are_kept() {
        let mut ids = vec![5, 1, 5, 5, 2, 1, 5, 9, 1];
        keep_two(&mut ids);
        assert_eq!(ids, [1, 1, 2, 5, 5, 9]);
    }
}
