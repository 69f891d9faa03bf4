//! Who keeps an id that several rows have, and which rows leave for it.
//!
//! Rows are read a few at a time and known by a digest of what they say, so what is held grows with the ids that are
//! there twice and neither with the rows that have them nor with what these say.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{AsArray, BooleanBufferBuilder, RecordBatch, StringViewArray, TimestampMicrosecondArray},
        buffer::BooleanBuffer,
        error::ArrowError,
        row::{RowConverter, SortField},
    },
    parquet::errors::ParquetError,
};
use sha2::{Digest, Sha256};

use crate::{
    QUARANTINE,
    file::DataFile,
    same_id::ids_in,
    schema::{EVENT_TYPE, GroupSchema, INGESTED_AT, OCCURRED_AT, RECORDED_AT},
    stored::StoredFile,
};

/// What tells when and how a row came rather than what it says: a system whose key was replaced is another actor and
/// repeats the same events.
const ARRIVAL: [&str; 4] = [RECORDED_AT, INGESTED_AT, "correlation_id", "actor_key"];

/// Memory that the holder of an id takes, bytes at most: in a table with its free places.
pub(crate) const HOLDER_BYTES: usize = 256;

/// What becomes of a row that says something else under an id that is another row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conflicts {
    /// It leaves.
    Leave,
    /// It stays: the quarantine may name an event for several reasons.
    Stay,
}

/// A row of a set of files: the number of its file and its place there.
type Place = (usize, usize);

/// Which rows of a set of files leave it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Of each file, by place.
    gone: Vec<BooleanBufferBuilder>,
    /// Of each file, those that say something else than the row that keeps their id.
    conflicts: Vec<BooleanBufferBuilder>,
    pub(crate) repetitions: usize,
    pub(crate) n_conflicts: usize,
}

impl Verdict {
    /// All rows of the files stay.
    pub(crate) fn of(files: &[StoredFile]) -> Self {
        let none = |file: &StoredFile| {
            let mut bits = BooleanBufferBuilder::new(file.n_rows());
            bits.append_n(file.n_rows(), false);
            bits
        };
        Self {
            gone: files.iter().map(none).collect(),
            conflicts: files.iter().map(none).collect(),
            repetitions: 0,
            n_conflicts: 0,
        }
    }

    /// Memory for the verdict on so many rows, bytes.
    pub(crate) fn bytes(n_rows: usize) -> usize {
        n_rows / 4
    }

    /// Which of some neighbouring rows of a file leave.
    pub(crate) fn gone_of(&self, file: usize, start: usize, n_rows: usize) -> BooleanBuffer {
        BooleanBuffer::collect_bool(n_rows, |at| self.gone[file].get_bit(start + at))
    }

    pub(crate) fn conflicts(&self) -> &[BooleanBufferBuilder] {
        &self.conflicts
    }

    fn leaves(&mut self, (file, row): Place, is_repetition: bool, rule: Conflicts) {
        if is_repetition {
            self.repetitions += 1;
        } else if rule == Conflicts::Leave {
            self.n_conflicts += 1;
            self.conflicts[file].set_bit(row, true);
        } else {
            return;
        }
        self.gone[file].set_bit(row, true);
    }
}

/// The row that keeps an id among those of a set.
#[derive(Debug)]
struct Holder {
    arrived: i64,
    event_type: Arc<str>,
    occurred_at: i64,
    place: Place,
    says: [u8; 32],
}

impl Holder {
    /// Of the rows of one id the first to arrive keeps it; of those that arrived together the first in a sorted file.
    fn precedence(&self, other: &Self) -> Ordering {
        let own = (self.arrived, &self.event_type, self.occurred_at, self.place);
        own.cmp(&(other.arrived, &other.event_type, other.occurred_at, other.place))
    }
}

/// Some ids that several rows have, each with the row of the set that keeps it.
#[derive(Debug)]
pub(crate) struct Holders {
    of: HashMap<u128, Holder>,
    n_max: usize,
    rule: Conflicts,
    held_bytes_max: usize,
}

impl Holders {
    /// Looks for the holders of ids in a set of files and decides on its other rows. Blocking.
    pub(crate) fn among(
        files: &[StoredFile],
        ids: &HashSet<u128>,
        n_max: usize,
        schema: &GroupSchema,
        verdict: &mut Verdict,
    ) -> Result<Self, ParquetError> {
        let rule = if schema.name == QUARANTINE { Conflicts::Stay } else { Conflicts::Leave };
        let mut holders = Self { of: HashMap::with_capacity(ids.len()), n_max: ids.len(), rule, held_bytes_max: 0 };
        let mut sayings = Sayings::of(schema)?;
        // Once for the holders, and once more for the others: what these are compared with is known only then.
        let mut types: HashSet<Arc<str>> = HashSet::new();
        let mut n_found = 0;
        for (number, file) in files.iter().enumerate() {
            file.rows_with(
                |id| ids.contains(&id),
                n_max,
                schema,
                |rows, places| {
                    n_found += places.len();
                    holders.find(rows, &sayings.digests(rows)?, (number, places), &mut types)
                },
            )?;
        }
        if n_found > holders.of.len() {
            for (number, file) in files.iter().enumerate() {
                file.rows_with(
                    |id| ids.contains(&id),
                    n_max,
                    schema,
                    |rows, places| holders.settle(rows, &sayings.digests(rows)?, (number, places), verdict),
                )?;
            }
        }
        holders.held_bytes_max = sayings.held_bytes_max;
        Ok(holders)
    }

    /// Memory of the holders when all of them were there, bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        self.n_max * HOLDER_BYTES
    }

    /// Most memory that rows took which were looked at, bytes.
    pub(crate) fn held_bytes_max(&self) -> usize {
        self.held_bytes_max
    }

    fn find(
        &mut self,
        rows: &RecordBatch,
        says: &[[u8; 32]],
        (file, places): (usize, &[usize]),
        types: &mut HashSet<Arc<str>>,
    ) -> Result<(), ArrowError> {
        let keys = Keys::of(rows)?;
        for (at, id) in ids_in(rows)?.enumerate() {
            let Some(id) = id else { continue };
            let event_type = keys.types.value(at);
            if !types.contains(event_type) {
                types.insert(Arc::from(event_type));
            }
            let holder = Holder {
                arrived: keys.arrived.value(at),
                event_type: types.get(event_type).map_or_else(|| Arc::from(event_type), Arc::clone),
                occurred_at: keys.times.value(at),
                place: (file, places[at]),
                says: says[at],
            };
            match self.of.entry(id) {
                Entry::Vacant(free) => {
                    free.insert(holder);
                }
                Entry::Occupied(mut taken) if holder.precedence(taken.get()).is_lt() => {
                    taken.insert(holder);
                }
                Entry::Occupied(_) => {}
            }
        }
        Ok(())
    }

    /// Rows whose id another row of the set keeps.
    fn settle(
        &self,
        rows: &RecordBatch,
        says: &[[u8; 32]],
        (file, places): (usize, &[usize]),
        verdict: &mut Verdict,
    ) -> Result<(), ArrowError> {
        for ((id, says), row) in ids_in(rows)?.zip(says).zip(places) {
            let Some(holder) = id.and_then(|id| self.of.get(&id)) else { continue };
            if holder.place != (file, *row) {
                verdict.leaves((file, *row), holder.says == *says, self.rule);
            }
        }
        Ok(())
    }

    /// Takes ids from their holders whose owner is in another file, which has these of them. Of two files that were
    /// both not compared yet each is asked once, so the rule between them must name one whoever is asked: the earlier
    /// arrival, then the earlier day. Blocking.
    pub(crate) fn yield_to(
        &mut self,
        other: (&StoredFile, &DataFile),
        ids: &HashSet<u128>,
        (n_max, day): (usize, i32),
        schema: &GroupSchema,
        verdict: &mut Verdict,
    ) -> Result<(), ParquetError> {
        let (file, about) = other;
        let mut sayings = Sayings::of(schema)?;
        // Looked at without what this one takes away: that changes while rows are read.
        let wanted: HashSet<u128> = self.of.keys().filter(|id| ids.contains(id)).copied().collect();
        file.rows_with(
            |id| wanted.contains(&id),
            n_max,
            schema,
            |rows, _| {
                let (keys, digests) = (Keys::of(rows)?, sayings.digests(rows)?);
                for (at, id) in ids_in(rows)?.enumerate() {
                    let Some(id) = id else { continue };
                    let Entry::Occupied(held) = self.of.entry(id) else { continue };
                    let (arrived, holder) = (keys.arrived.value(at), held.get());
                    if about.is_compared() || (arrived, about.day) < (holder.arrived, day) {
                        let holder = held.remove();
                        verdict.leaves(holder.place, holder.says == digests[at], self.rule);
                    }
                }
                Ok(())
            },
        )?;
        self.held_bytes_max = self.held_bytes_max.max(sayings.held_bytes_max);
        Ok(())
    }
}

/// Type, instant and arrival of each row.
struct Keys<'b> {
    types: &'b StringViewArray,
    times: &'b TimestampMicrosecondArray,
    arrived: &'b TimestampMicrosecondArray,
}

impl<'b> Keys<'b> {
    fn of(rows: &'b RecordBatch) -> Result<Self, ArrowError> {
        let schema = rows.schema();
        Ok(Self {
            types: rows.column(schema.index_of(EVENT_TYPE)?).as_string_view(),
            times: rows.column(schema.index_of(OCCURRED_AT)?).as_primitive(),
            arrived: rows.column(schema.index_of(INGESTED_AT)?).as_primitive(),
        })
    }
}

/// What rows say, each as a digest: two rows with the same one say the same.
struct Sayings {
    columns: Vec<usize>,
    converter: RowConverter,
    held_bytes_max: usize,
}

impl Sayings {
    fn of(schema: &GroupSchema) -> Result<Self, ArrowError> {
        let (columns, fields): (Vec<usize>, Vec<SortField>) = schema
            .file
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| !ARRIVAL.contains(&field.name().as_str()))
            .map(|(at, field)| (at, SortField::new(field.data_type().clone())))
            .unzip();
        Ok(Self { columns, converter: RowConverter::new(fields)?, held_bytes_max: 0 })
    }

    fn digests(&mut self, rows: &RecordBatch) -> Result<Vec<[u8; 32]>, ArrowError> {
        let said = rows.project(&self.columns)?;
        let encoded = self.converter.convert_columns(said.columns())?;
        self.held_bytes_max = self.held_bytes_max.max(rows.get_array_memory_size() + encoded.size());
        Ok(encoded.iter().map(|row| Sha256::digest(row).into()).collect())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, new_null_array};

    use super::*;
    use crate::schema;

    /// A row of the quarantine with this reason, this arrival and nothing else.
    fn row(fault: Option<&str>, arrived: i64) -> RecordBatch {
        let schema = schema::group(QUARANTINE).unwrap();
        let columns = schema.file.fields().iter().map(|field| match field.name().as_str() {
            "fault" => Arc::new(StringViewArray::from_iter([fault])) as ArrayRef,
            INGESTED_AT => Arc::new(TimestampMicrosecondArray::from(vec![arrived]).with_timezone("UTC")) as ArrayRef,
            _ => new_null_array(field.data_type(), 1),
        });
        let nullable = schema.file.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let nullable = Arc::new(datafusion::arrow::datatypes::Schema::new(nullable.collect::<Vec<_>>()));
        RecordBatch::try_new(nullable, columns.collect()).unwrap()
    }

    #[test]
    fn rows_that_differ_in_their_arrival_alone_say_the_same() {
        let mut sayings = Sayings::of(schema::group(QUARANTINE).unwrap()).unwrap();
        let mut says = |fault, arrived| sayings.digests(&row(fault, arrived)).unwrap();
        assert_eq!(says(Some("ill_typed"), 1), says(Some("ill_typed"), 2));
        assert_ne!(says(Some("ill_typed"), 1), says(Some("unknown_type"), 1));
        assert_ne!(says(Some(""), 1), says(None, 1));
    }
}
