//! What a backup holds, written last: a folder without it is no backup.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Component, Path},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use todoke_domain::Timestamp;

const MANIFEST: &str = "manifest.json";
/// The manifest's own sum, in the form of `sha256sum`.
const MANIFEST_SUM: &str = "manifest.json.sha256";
/// Version of the layout and of the manifest.
const FORMAT: u32 = 1;
const CHUNK_BYTES: usize = 1 << 20;

/// A backup's list of contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// Which Todoke wrote it.
    pub todoke_version: String,
    /// Everything acknowledged before is in it.
    pub began_at: Timestamp,
    /// How the record was copied.
    pub record: RecordCopy,
    /// Batches of the record up to this number are in the lake's copy, whole; of later ones some parts may be.
    pub lake_batches_done: i64,
    /// The logs of usage of all nodes that share the lake, as far as something may have waited in them, and those that
    /// an earlier backup lacked which the lake was restored from.
    #[serde(default)]
    pub nodes: Vec<NodeLog>,
    /// Every other file.
    pub files: Vec<FileSum>,
}

/// The kind of a record's copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RecordCopy {
    /// The database file.
    Sqlite,
    /// An archive of `pg_dump`.
    Postgres {
        /// The schema, whose name the archive holds.
        schema: String,
    },
}

/// A node's log of usage, as a backup has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLog {
    /// Host and data folder, for people.
    pub place: String,
    /// Name of the log.
    pub log: String,
    /// Everything up to this position is in the backup; `None` if what waited in the log for the lake is missing.
    pub through: Option<u64>,
}

/// A file with its sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// Below the backup's folder, parts divided by `/`.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

impl FileSum {
    /// Copies the file from one folder into another, synced and for the owner only, and sums up what is copied.
    pub fn copying(path: &str, from: &Path, to: &Path) -> anyhow::Result<Self> {
        let source = from.join(path);
        let copied = copy(&source, &to.join(path));
        let (bytes, sha256) = copied.with_context(|| format!("{} cannot be copied", source.display()))?;
        Ok(Self { path: path.to_owned(), bytes, sha256 })
    }

    /// Sums up a file that is in its place, and makes it durable and the owner's only.
    pub fn settling(path: &str, folder: &Path) -> anyhow::Result<Self> {
        let place = folder.join(path);
        let settled = settle(&place);
        let (bytes, sha256) = settled.with_context(|| format!("{} cannot be read again", place.display()))?;
        Ok(Self { path: path.to_owned(), bytes, sha256 })
    }

    /// Compares with the file in a folder.
    pub fn check(&self, folder: &Path) -> anyhow::Result<()> {
        let place = folder.join(&self.path);
        let sum = File::open(&place).and_then(|mut file| summed(&mut file, &mut io::sink()));
        let (bytes, sha256) = sum.with_context(|| format!("{} cannot be read", place.display()))?;
        self.compare(&Self { path: self.path.clone(), bytes, sha256 })
    }

    /// Errors: the other one is of another content. The file is named.
    pub fn compare(&self, found: &Self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self == found,
            "{} is not what was backed up: {} bytes with SHA-256 {}, where the manifest says {} with {}",
            self.path,
            found.bytes,
            found.sha256,
            self.bytes,
            self.sha256
        );
        Ok(())
    }

    /// Whether the path stays below its folder.
    fn is_inside(&self) -> bool {
        let path = Path::new(&self.path);
        path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
    }
}

fn copy(source: &Path, target: &Path) -> io::Result<(u64, String)> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let sum = summed(&mut File::open(source)?, &mut file)?;
    file.sync_all()?;
    Ok(sum)
}

fn settle(place: &Path) -> io::Result<(u64, String)> {
    fs::set_permissions(place, fs::Permissions::from_mode(0o600))?;
    let mut file = File::open(place)?;
    let sum = summed(&mut file, &mut io::sink())?;
    file.sync_all()?;
    Ok(sum)
}

/// Passes everything on and gives its length and SHA-256.
fn summed(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, String)> {
    let (mut hasher, mut n_bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = from.read(&mut chunk)?;
        if n == 0 {
            return Ok((n_bytes, hex::encode(hasher.finalize())));
        }
        hasher.update(&chunk[..n]);
        to.write_all(&chunk[..n])?;
        n_bytes += n as u64;
    }
}

impl Manifest {
    /// For files that are in place.
    pub fn new(
        began_at: Timestamp,
        record: RecordCopy,
        lake_batches_done: i64,
        nodes: Vec<NodeLog>,
        files: Vec<FileSum>,
    ) -> Self {
        let todoke_version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, todoke_version, began_at, record, lake_batches_done, nodes, files }
    }

    /// Writes it into the backup's folder, durable.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        let sum = format!("{}  {MANIFEST}\n", hex::encode(Sha256::digest(&text)));
        for (name, content) in [(MANIFEST, text.as_slice()), (MANIFEST_SUM, sum.as_bytes())] {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name))?;
            file.write_all(content)?;
            file.sync_all()?;
        }
        Ok(())
    }

    /// Reads the manifest of a backup.
    ///
    /// Errors: there is none, it was changed, or another layout than this program knows.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let place = folder.join(MANIFEST);
        let text = fs::read(&place).with_context(|| {
            format!("{} is no backup, or one that was cut off: {MANIFEST} cannot be read", folder.display())
        })?;
        let sum = fs::read_to_string(folder.join(MANIFEST_SUM))
            .with_context(|| format!("{} cannot be read", folder.join(MANIFEST_SUM).display()))?;
        let found = hex::encode(Sha256::digest(&text));
        anyhow::ensure!(
            sum.split_whitespace().next() == Some(found.as_str()),
            "{MANIFEST} is not what was backed up: {MANIFEST_SUM} says otherwise"
        );
        let manifest: Self =
            serde_json::from_slice(&text).with_context(|| format!("{} cannot be understood", place.display()))?;
        anyhow::ensure!(
            manifest.format == FORMAT,
            "a backup of format {}, written by Todoke {}; this one reads format {}",
            manifest.format,
            manifest.todoke_version,
            FORMAT
        );
        for file in &manifest.files {
            anyhow::ensure!(file.is_inside(), "{} names {}, which is not in the backup", MANIFEST, file.path);
        }
        Ok(manifest)
    }

    /// Reads every file again. Errors: one is missing or changed; it is named.
    pub fn check(&self, folder: &Path) -> anyhow::Result<()> {
        self.files.iter().try_for_each(|file| file.check(folder))
    }

    /// The nodes' logs that the backup lacks.
    pub fn lacking(&self) -> impl Iterator<Item = &NodeLog> {
        self.nodes.iter().filter(|node| node.through.is_none())
    }

    /// Bytes of all files.
    pub fn n_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (tempfile::TempDir, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lake")).unwrap();
        fs::write(dir.path().join("lake/rows"), b"rows").unwrap();
        let files = vec![FileSum::settling("lake/rows", dir.path()).unwrap()];
        let record = RecordCopy::Postgres { schema: "todoke".to_owned() };
        let node = |log: &str, through| NodeLog { place: "host:/srv".to_owned(), log: log.to_owned(), through };
        let nodes = vec![node("a", Some(3)), node("b", None)];
        let manifest = Manifest::new(Timestamp::from_micros(1_750_000_000_000_000), record, 7, nodes, files);
        manifest.write(dir.path()).unwrap();
        (dir, manifest)
    }

    #[test]
    fn what_is_written_is_read_again_and_every_change_is_named() {
        let (dir, manifest) = written();
        assert_eq!(Manifest::read(dir.path()).unwrap(), manifest);
        assert_eq!(manifest.lacking().map(|node| node.log.as_str()).collect::<Vec<_>>(), ["b"]);
        manifest.check(dir.path()).unwrap();
        fs::write(dir.path().join("lake/rows"), b"rowz").unwrap();
        assert!(manifest.check(dir.path()).unwrap_err().to_string().starts_with("lake/rows is not"));
        fs::remove_file(dir.path().join("lake/rows")).unwrap();
        assert!(manifest.check(dir.path()).unwrap_err().to_string().contains("lake/rows cannot be read"));
        let text = fs::read_to_string(dir.path().join(MANIFEST)).unwrap();
        fs::write(dir.path().join(MANIFEST), text.replace(": 7", ": 8")).unwrap();
        assert!(Manifest::read(dir.path()).unwrap_err().to_string().starts_with("manifest.json is not"));
        fs::remove_file(dir.path().join(MANIFEST)).unwrap();
        assert!(Manifest::read(dir.path()).unwrap_err().to_string().contains("is no backup"));
    }

    #[test]
    fn a_manifest_cannot_name_what_lies_outside() {
        for path in ["../record.sqlite", "/etc/passwd", "lake/../../x", ""] {
            let file = FileSum { path: path.to_owned(), bytes: 0, sha256: String::new() };
            assert!(!file.is_inside(), "{path}");
        }
    }
}
