//! The hot window: ids that were accepted lately, so that a repetition dies at the door.
//!
//! Two generations: lookups ask both, ids go into the younger, and when that is full the older is
//! dropped with its files. What is older than both is found when files of the lake are merged.

use std::{collections::HashMap, path::PathBuf};

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

#[derive(Debug, Default)]
struct Generation {
    ids: HashMap<u128, u64>,
    files: Vec<PathBuf>,
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
        let known = self.new.ids.get(&id).or_else(|| self.old.ids.get(&id));
        match known {
            Some(known) if *known == mark => Known::Same,
            Some(_) => Known::Other,
            None => {
                self.new.ids.insert(id, mark);
                Known::New
            }
        }
    }

    /// Takes back what [`Self::meet`] put in.
    pub(crate) fn forget(&mut self, id: u128) {
        self.new.ids.remove(&id);
    }

    /// The ids met since the last call are in `file`. Returns files whose ids nobody needs any more.
    pub(crate) fn filed(&mut self, file: PathBuf) -> Vec<PathBuf> {
        self.new.files.push(file);
        self.age()
    }

    /// Forgets the older generation once the younger one is full. Returns the files of the forgotten.
    pub(crate) fn age(&mut self) -> Vec<PathBuf> {
        if self.new.ids.len() < self.generation_max {
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
}
