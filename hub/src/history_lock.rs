//! Loading history and forgetting a person exclude each other: what one brings in while the other searches would be
//! missed.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use anyhow::{Context, bail};

/// Held until it is dropped, and by no process that ended.
#[derive(Debug)]
pub struct HistoryLock {
    // Held, not read.
    _file: File,
}

impl HistoryLock {
    /// For loading history, beside others who do.
    pub fn shared(data: &Path) -> anyhow::Result<Self> {
        Self::taken(data, File::try_lock_shared, "a person is being erased from this folder: try again afterwards")
    }

    /// For forgetting a person.
    pub fn exclusive(data: &Path) -> anyhow::Result<Self> {
        Self::taken(data, File::try_lock, "history is being loaded into this folder: try again afterwards")
    }

    fn taken(
        data: &Path,
        take: impl Fn(&File) -> Result<(), TryLockError>,
        refusal: &'static str,
    ) -> anyhow::Result<Self> {
        let path = data.join("history.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("{} cannot be opened", path.display()))?;
        match take(&file) {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => bail!(refusal),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{} cannot be locked", path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_stand_beside_each_other_and_an_erasure_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (HistoryLock::shared(dir.path()).unwrap(), HistoryLock::shared(dir.path()).unwrap());
        assert!(HistoryLock::exclusive(dir.path()).is_err());
        drop((first, second));
        let erasing = HistoryLock::exclusive(dir.path()).unwrap();
        assert!(HistoryLock::shared(dir.path()).is_err());
        drop(erasing);
        assert!(HistoryLock::shared(dir.path()).is_ok());
    }
}
