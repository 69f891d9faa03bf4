//! Backup and restore of record, ingest log and lake to one consistent point.
//!
//! The order in which the parts are copied, and why it makes them fit, is docs/decisions/0012-backup.md.

mod manifest;
mod restore;

pub use manifest::{FileSum, Manifest, NodeLog, RecordCopy};
pub use restore::restore;

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use todoke_domain::Timestamp;
use todoke_ingest::{LogCopy, PinnedLog};
use todoke_lake::{LakeLocation, PinnedLake, pin_lake};
use todoke_store::{DbKind, Durability, Store, StoreError, Wall, backup::PostgresPrograms};

use crate::{
    config::Config,
    nodes::{self, BackupNote, Restored},
    run_file::RunFile,
    server::open_record,
};

/// The SQLite record, in the data folder and in a backup.
const SQLITE: &str = "record.sqlite";
/// The archive of a PostgreSQL record in a backup.
const POSTGRES: &str = "record.pgdump";
const LAKE: &str = "lake";
const INGEST: &str = "ingest";

/// Pause between two looks at the ingest log. A file of it lives for a commit of the lake at least.
const LOOK: Duration = Duration::from_millis(100);

/// What a backup may do without, and for how long it waits for the rest.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Nodes whose logs may be missing, by their places or the names of their logs.
    pub without: Vec<String>,
    /// Longest wait for other nodes to bring their logs to the lake.
    pub wait_max: Duration,
}

/// Copies everything to the new folder `to`, also beside a running server.
///
/// Errors: `to` holds something; another node does not bring its log to the lake; the server was started or stopped
/// meanwhile; a file cannot be copied. Then nothing is left behind.
pub async fn back_up(config: &Config, to: &Path, options: &BackupOptions, now: Timestamp) -> anyhow::Result<Manifest> {
    anyhow::ensure!(!is_occupied(to)?, "{} is not empty", to.display());
    let partial = partial(to)?;
    anyhow::ensure!(
        !partial.exists(),
        "{} is what a backup that was cut off left behind: remove it first",
        partial.display()
    );
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&partial)
        .with_context(|| format!("{} cannot be made", partial.display()))?;
    let filled = fill(config, &partial, options, now).await.and_then(|manifest| {
        manifest.write(&partial)?;
        sync_folders(&partial)?;
        fs::rename(&partial, to).with_context(|| format!("{} cannot be named", to.display()))?;
        sync_parent(to)?;
        Ok(manifest)
    });
    if filled.is_err()
        && let Err(error) = fs::remove_dir_all(&partial)
    {
        tracing::warn!(error = %error, backup.folder = %partial.display(), "a backup that failed was not removed");
    }
    filled
}

/// The folder in which a backup grows until it is whole.
fn partial(to: &Path) -> anyhow::Result<PathBuf> {
    let mut name: OsString = to.file_name().with_context(|| format!("{} names no folder", to.display()))?.to_owned();
    name.push(".partial");
    Ok(to.with_file_name(name))
}

/// Whether something is there, be it a file or a folder with anything in it.
fn is_occupied(path: &Path) -> io::Result<bool> {
    if path.is_dir() { Ok(fs::read_dir(path)?.next().is_some()) } else { Ok(path.exists()) }
}

async fn fill(config: &Config, to: &Path, options: &BackupOptions, now: Timestamp) -> anyhow::Result<Manifest> {
    let data = &config.data;
    anyhow::ensure!(
        !config.record.url.is_empty() || data.join(SQLITE).is_file(),
        "there is no record in {}",
        data.display()
    );
    let store = open_record(config, Durability::Full).await?;
    // Before the note: no node has answered it by then.
    let replays = replays(&store).await?;
    let others = BackupNote::leave(config).await?.map(|note| Others { note, replays });
    let filled = fill_noted(config, &store, to, options, others.as_ref(), now).await;
    if let Some(others) = others {
        others.note.remove().await;
    }
    store.close().await;
    filled
}

/// The other nodes of a lake, while the backup is noted there.
struct Others {
    note: BackupNote,
    /// Replays of quarantined events before the note.
    replays: (i64, i64),
}

async fn fill_noted(
    config: &Config,
    store: &Store,
    to: &Path,
    options: &BackupOptions,
    others: Option<&Others>,
    now: Timestamp,
) -> anyhow::Result<Manifest> {
    let data = &config.data;
    anyhow::ensure!(
        others.is_some() || options.without.is_empty(),
        "the lake is this node's alone: there is no other node to leave out (--without)"
    );
    let server = server_on(data);
    // What the log has forgotten by now, and what the record calls finished by the next step, is in the lake that is
    // copied then.
    let mut log = PinnedLog::begin(&data.join(INGEST))?;
    anyhow::ensure!(
        log.is_alone() || RunFile::is_answered(data),
        "another command works on {}: try again when it is done",
        data.display()
    );
    let own = log.log_id()?;
    let location = config.lake_location()?;
    let mut nodes = lacking_before(&location).await?;
    if let Some(others) = others {
        let flushed = others.note.flushed(own.as_deref(), &options.without, options.wait_max);
        nodes.extend(following(&mut log, flushed).await??);
    }
    let lake_batches_done = store.lake_batches_done().await?;
    let pinned = pin_lake(&location, &to.join(LAKE)).await?;
    // The record comes after the lake, so that it knows the number of every batch in it. The log is followed until
    // after that: what the record has settled because the log took it must be found there.
    let record = following(&mut log, copy_record(config, store, to)).await??;
    let was_alone = log.is_alone();
    let logged = log.write(&to.join(INGEST))?;
    if let Some(others) = others {
        others.refuse_replays(store, own.as_deref()).await?;
    }
    // Between two servers somebody may take files away, as erasing a person does.
    anyhow::ensure!(
        server == server_on(data) && (was_alone || RunFile::is_answered(data)),
        "the server was started or stopped meanwhile: back up again"
    );
    if let Some(log) = own {
        nodes.push(NodeLog { place: nodes::described(config), log, through: Some(logged.through) });
    }
    let mut files = vec![FileSum::settling(file_of(&record), to)?];
    files.extend(copied_files(config, &location, to, &pinned, &logged).await?);
    Ok(Manifest::new(now, record, lake_batches_done, nodes, files))
}

/// Sums up what was copied to keep a moment, and copies what stays as it is.
async fn copied_files(
    config: &Config,
    location: &LakeLocation,
    to: &Path,
    pinned: &PinnedLake,
    logged: &LogCopy,
) -> anyhow::Result<Vec<FileSum>> {
    let data = &config.data;
    let mut files = Vec::new();
    for path in &pinned.log_files {
        files.push(FileSum::settling(&format!("{LAKE}/{path}"), to)?);
    }
    for path in &logged.files {
        files.push(FileSum::settling(&format!("{INGEST}/{path}"), to)?);
    }
    for path in loose_files(data)? {
        files.push(FileSum::copying(&path, data, to)?);
    }
    for path in &pinned.data_files {
        let name = format!("{LAKE}/{path}");
        if config.lake.url.is_empty() {
            files.push(FileSum::copying(&name, data, to)?);
        } else {
            location.fetch(path, &to.join(LAKE)).await?;
            files.push(FileSum::settling(&name, to)?);
        }
    }
    Ok(files)
}

/// Does something long and keeps what comes into the log meanwhile.
async fn following<T>(log: &mut PinnedLog, work: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(LOOK) => log.follow()?,
        }
    }
}

/// What the lake lacks because the backup lacked it that it was restored from.
async fn lacking_before(location: &LakeLocation) -> anyhow::Result<Vec<NodeLog>> {
    let restored = Restored::read(location).await?;
    let nodes = restored.map(|restored| restored.nodes).unwrap_or_default();
    Ok(nodes.into_iter().filter(|node| node.through.is_none()).collect())
}

async fn replays(store: &Store) -> Result<(i64, i64), StoreError> {
    let mut tx = store.begin_read(Wall::None).await?;
    tx.replays().await
}

impl Others {
    /// An entry of the quarantine that another node took after it had answered is settled in the copy of the record,
    /// and its event is neither in the copy of the lake nor in that of this node's log.
    ///
    /// Errors: somebody replayed the quarantine meanwhile.
    async fn refuse_replays(&self, store: &Store, own: Option<&str>) -> anyhow::Result<()> {
        anyhow::ensure!(
            replays(store).await? == self.replays || !self.note.has_others(own).await?,
            "events were taken out of the quarantine meanwhile: back up again"
        );
        Ok(())
    }
}

/// Which server noted itself in a folder: each start makes another secret.
fn server_on(data: &Path) -> Option<String> {
    RunFile::read(data).map(|note| note.secret)
}

async fn copy_record(config: &Config, store: &Store, to: &Path) -> anyhow::Result<RecordCopy> {
    match store.kind() {
        DbKind::Sqlite => {
            store.back_up_sqlite(&to.join(SQLITE)).await.context("the record cannot be copied")?;
            Ok(RecordCopy::Sqlite)
        }
        DbKind::Postgres => {
            programs(config)?.dump(&to.join(POSTGRES)).await.context("the record cannot be copied")?;
            Ok(RecordCopy::Postgres { schema: config.record.schema.clone() })
        }
    }
}

fn file_of(record: &RecordCopy) -> &'static str {
    match record {
        RecordCopy::Sqlite => SQLITE,
        RecordCopy::Postgres { .. } => POSTGRES,
    }
}

fn programs(config: &Config) -> anyhow::Result<PostgresPrograms> {
    let record = &config.record;
    Ok(PostgresPrograms::new(&record.programs, &record.url, &record.schema)?)
}

/// Files beside the record that belong to it, such as the accounts of a demo. Not the note of the running server.
fn loose_files(data: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && !name.starts_with(SQLITE) && !is_of_a_process(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a file is about a process on the folder.
fn is_of_a_process(name: &str) -> bool {
    [RunFile::NAME, BackupNote::LOCK].contains(&name)
}

/// Makes the lists of names of a folder and of all folders in it durable.
fn sync_folders(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn sync_parent(path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()?;
    Ok(())
}
