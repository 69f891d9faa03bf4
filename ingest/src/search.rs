//! Looking for people in a log's folder, where numbers are written shorter than in the lake.

use std::{collections::BTreeSet, path::Path};

use todoke_lake::{Searched, search_keys};

use crate::{IngestError, row, segment};

/// Looks for keys in every file of a log's folder: as text and as numbers of eight bytes, as [`search_keys`] does; in
/// frames as any number of any row; and as the log writes numbers in whatever else there is, such as a torn frame.
/// Blocking.
///
/// Errors: a file cannot be read, or a frame whose sum is right holds no rows: nobody can say who is in it.
pub fn search_log(dir: &Path, keys: &BTreeSet<i64>) -> Result<Searched, IngestError> {
    let mut searched = search_keys(dir, keys)?;
    let written = keys.iter().map(|key| {
        let mut bytes = Vec::new();
        row::put_signed(&mut bytes, *key);
        bytes
    });
    let written: Vec<Vec<u8>> = written.collect();
    search_folder(dir, keys, &written, &mut searched)?;
    searched.found.sort();
    searched.found.dedup();
    Ok(searched)
}

fn search_folder(
    dir: &Path,
    keys: &BTreeSet<i64>,
    written: &[Vec<u8>],
    searched: &mut Searched,
) -> Result<(), IngestError> {
    for entry in std::fs::read_dir(dir).map_err(IngestError::log("listing its files"))? {
        let path = entry.map_err(IngestError::log("listing its files"))?.path();
        if path.is_dir() {
            search_folder(&path, keys, written, searched)?;
            continue;
        }
        let bytes = std::fs::read(&path).map_err(IngestError::log("reading"))?;
        let (frames, rest) = segment::whole_frames(&bytes);
        let mut holds = written.iter().any(|key| rest.windows(key.len()).any(|window| window == key.as_slice()));
        for frame in frames {
            let n_rows = row::each_key(frame, |number| holds |= keys.contains(&number));
            searched.rows += n_rows.map_err(IngestError::log("decoding a frame"))?;
        }
        if holds {
            searched.found.push(path.display().to_string());
        }
    }
    Ok(())
}
