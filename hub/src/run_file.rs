//! The note a running server leaves in its data folder, so that commands beside it can ask it.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Where a running server is and how its own machine's commands prove themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunFile {
    /// Address it listens on.
    pub listen: SocketAddr,
    /// Secret for requests of local commands.
    pub secret: String,
    /// Process id.
    pub pid: u32,
}

fn path(data: &Path) -> PathBuf {
    data.join(RunFile::NAME)
}

impl RunFile {
    /// Name of the file.
    pub const NAME: &str = "running.json";

    /// Writes the note, readable by the owner only.
    pub fn write(&self, data: &Path) -> anyhow::Result<()> {
        let target = path(data);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(&target).with_context(|| format!("{} cannot be written", target.display()))?;
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(())
    }

    /// Reads the note, if there is one.
    pub fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(data)).ok()?).ok()
    }

    /// Whether the server of the note is there; one that was killed leaves its note behind.
    pub fn is_answered(data: &Path) -> bool {
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
        Self::read(data).is_some_and(|note| TcpStream::connect_timeout(&note.listen, PATIENCE).is_ok())
    }

    /// Removes the note at a clean stop.
    pub fn remove(data: &Path) {
        if let Err(error) = fs::remove_file(path(data)) {
            tracing::debug!(error = %error, "no note to remove");
        }
    }
}
