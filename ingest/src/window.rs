//! The hot window: ids that were accepted lately, each in its municipality, so that a repetition dies at the door.
//!
//! Two generations: lookups ask both, ids go into the younger, and when that is full the older is
//! dropped with its files. What is older than both is found when files of the lake are merged.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    path::PathBuf,
};

/// What is known about an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: it is in the window now.
    New,
    /// Accepted with the same content.
    Same,
    /// Accepted with other content.
    Other,
}

/// An id in halves: as one number it would be aligned to 16 bytes, and an entry take 32 instead of 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    high: u64,
    low: u64,
}

impl Id {
    fn of(id: u128) -> Self {
        Self { high: (id >> 64) as u64, low: id as u64 }
    }
}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low);
        state.write_u64(self.high);
    }
}

/// Spreads ids over a table with two multiplications: every event is looked up, and the standard hash was the
/// larger part of that. Senders choose the ids, so where they go depends on two numbers that nobody is told.
#[derive(Clone, Debug)]
struct Spread {
    begin: u64,
    factor: u64,
}

impl Default for Spread {
    fn default() -> Self {
        let [begin, factor] = [RandomState::new(), RandomState::new()].map(|random| random.hash_one(0_u64));
        Self { begin, factor: factor | 1 }
    }
}

impl BuildHasher for Spread {
    type Hasher = Spreading;

    fn build_hasher(&self) -> Spreading {
        Spreading { sum: self.begin, factor: self.factor }
    }
}

struct Spreading {
    sum: u64,
    factor: u64,
}

impl Hasher for Spreading {
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.sum ^ word) * u128::from(self.factor);
        self.sum = product as u64 ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        self.sum
    }
}

#[derive(Debug, Default)]
struct Generation {
    ids: HashMap<Id, u64, Spread>,
    files: Vec<PathBuf>,
    /// Ids when its size was last looked at.
    n_before: usize,
}

/// Ids with the marks of their contents.
#[derive(Debug)]
pub(crate) struct Window {
    old: Generation,
    new: Generation,
    generation_max: usize,
}

impl Window {
    /// A window of at most about `ids_max` ids.
    pub(crate) fn new(ids_max: usize) -> Self {
        Self { old: Generation::default(), new: Generation::default(), generation_max: (ids_max / 2).max(1) }
    }

    /// Looks an id up and puts it in if it is new.
    pub(crate) fn meet(&mut self, id: u128, mark: u64) -> Known {
        let id = Id::of(id);
        let known = match self.old.ids.get(&id) {
            Some(known) => *known,
            None => match self.new.ids.entry(id) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(free) => {
                    free.insert(mark);
                    return Known::New;
                }
            },
        };
        if known == mark { Known::Same } else { Known::Other }
    }

    /// Takes back what [`Self::meet`] put in.
    pub(crate) fn forget(&mut self, id: u128) {
        self.new.ids.remove(&Id::of(id));
    }

    /// The ids met since the last call are in `file`. Returns files whose ids nobody needs any more.
    pub(crate) fn filed(&mut self, file: PathBuf) -> Vec<PathBuf> {
        self.new.files.push(file);
        self.age()
    }

    /// Forgets the older generation once the younger one is full. Returns the files of the forgotten.
    ///
    /// It is full when as many ids as came since the last call would exceed its size: a table doubles its memory
    /// when it grows, so being a little over would cost twice the window.
    pub(crate) fn age(&mut self) -> Vec<PathBuf> {
        let n_ids = self.new.ids.len();
        let n_last = n_ids.saturating_sub(self.new.n_before);
        self.new.n_before = n_ids;
        if n_ids + n_last <= self.generation_max {
            return Vec::new();
        }
        let dropped = std::mem::replace(&mut self.old, std::mem::take(&mut self.new));
        dropped.files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ids_are_known_and_the_oldest_are_forgotten_with_their_files() {
        let mut window = Window::new(20);
        let mut dropped = Vec::new();
        for file in 0..6_u128 {
            for n in 0..5 {
                assert_eq!(window.meet(file * 5 + n, 1), Known::New);
            }
            dropped.extend(window.filed(PathBuf::from(file.to_string())));
            assert!(window.old.ids.len() + window.new.ids.len() <= 25);
        }
        assert_eq!((window.meet(29, 1), window.meet(20, 2)), (Known::Same, Known::Other));
        assert_eq!(dropped, ["0", "1", "2", "3"].map(PathBuf::from));
        assert_eq!(window.meet(0, 1), Known::New);
        window.forget(0);
        assert_eq!(window.meet(0, 2), Known::New);
    }

    #[test]
    fn ids_that_differ_in_one_place_spread() {
        let spread = Spread { begin: 0x0123_4567_89ab_cdef, factor: 0x9e37_79b9_7f4a_7c15 };
        for shift in [0, 32, 64, 96, 116] {
            let mut buckets = [0_u32; 64];
            for n in 0..4_096_u128 {
                buckets[(spread.hash_one(Id::of(n << shift)) % 64) as usize] += 1;
            }
            assert!(buckets.iter().all(|n| (32..=128).contains(n)), "{shift}: {buckets:?}");
        }
    }
}
