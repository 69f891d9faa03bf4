//! From a backup to a data folder that a server can take up.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use todoke_ingest::{LakeSink, SinkConfig, UsageLog, UsageLogConfig};
use todoke_lake::{Lake, LakeLocation, LakeOptions};
use todoke_store::{Durability, Store};

use super::{FileSum, INGEST, LAKE, Manifest, POSTGRES, RecordCopy, SQLITE, programs, sync_folders};
use crate::{
    clock::Clock,
    config::Config,
    feed::StoreFeed,
    nodes::Restored,
    run_file::RunFile,
    server::{fresh_epoch, identity, open_record},
};

/// Where a restore works until everything fits, in the data folder, which may be a file system of its own.
const STAGING: &str = "restore.partial";

/// Brings the backup in `from` into the data folder and the database of the configuration, and carries what was on
/// its way into the lake.
///
/// Errors: the folder or the schema holds something already, a server runs there, or a file of the backup is missing
/// or changed. Then the folder is as it was.
pub async fn restore(config: &Config, from: &Path, clock: &Clock) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(from)?;
    refuse(config, &manifest)?;
    if !config.lake.url.is_empty() {
        let location = config.lake_location()?;
        location.probe().await.with_context(|| format!("the lake cannot be in {location}"))?;
        anyhow::ensure!(location.is_empty().await?, "{location} holds something already: restore into an empty place");
    }
    let staging = config.data.join(STAGING);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&staging)
        .with_context(|| format!("{} cannot be made", staging.display()))?;
    let staged = stage(config, &manifest, from, &staging, clock).await;
    if staged.is_err()
        && let Err(error) = fs::remove_dir_all(&staging)
    {
        tracing::warn!(error = %error, restore.folder = %staging.display(), "what a failed restore left was not removed");
    }
    staged?;
    install(&staging, &config.data)?;
    Ok(manifest)
}

/// Nothing is ever written over.
fn refuse(config: &Config, manifest: &Manifest) -> anyhow::Result<()> {
    let data = &config.data;
    anyhow::ensure!(!RunFile::is_answered(data), "a server runs on {}: restore into another folder", data.display());
    let tops = manifest.files.iter().filter_map(|file| file.path.split('/').next());
    let names: BTreeSet<&str> = tops.chain([SQLITE, LAKE, INGEST, STAGING]).collect();
    for name in names {
        anyhow::ensure!(
            !data.join(name).exists(),
            "{} holds {} already: restore into an empty folder",
            data.display(),
            name
        );
    }
    match &manifest.record {
        RecordCopy::Sqlite => {
            anyhow::ensure!(
                config.record.url.is_empty(),
                "the backup is of a record on SQLite, and the configuration names PostgreSQL"
            );
        }
        RecordCopy::Postgres { schema } => {
            anyhow::ensure!(
                !config.record.url.is_empty(),
                "the backup is of a record on PostgreSQL: name the database in record.url"
            );
            anyhow::ensure!(
                schema == &config.record.schema,
                "the backup holds the schema {}, and the configuration names {}",
                schema,
                config.record.schema
            );
        }
    }
    Ok(())
}

async fn stage(config: &Config, manifest: &Manifest, from: &Path, staging: &Path, clock: &Clock) -> anyhow::Result<()> {
    for file in &manifest.files {
        if file.path == POSTGRES {
            file.check(from)?;
        } else {
            file.compare(&FileSum::copying(&file.path, from, staging)?)?;
        }
    }
    if matches!(manifest.record, RecordCopy::Postgres { .. }) {
        programs(config)?.restore(&from.join(POSTGRES)).await.context("the record cannot be restored")?;
    }
    let staged = Config { data: staging.to_owned(), ..config.clone() };
    let store = open_record(&staged, Durability::Full).await?;
    let settled = settle(&staged, &store, manifest, clock).await;
    store.close().await;
    settled?;
    let restored = Restored { began_at: manifest.began_at, nodes: manifest.nodes.clone() };
    restored.write(&LakeLocation::from(&staging.join(LAKE))).await?;
    if !config.lake.url.is_empty() {
        // Not among what is moved into the data folder: the lake lies elsewhere.
        let lake = staging.join(LAKE);
        config.lake_location()?.store_folder(&lake).await.context("the lake cannot be stored")?;
        fs::remove_dir_all(&lake)?;
    }
    sync_folders(staging)
}

/// Makes one of three copies of three moments.
async fn settle(config: &Config, store: &Store, manifest: &Manifest, clock: &Clock) -> anyhow::Result<()> {
    // Of batches that were on their way some tables of the lake's copy have their rows, others not: they go again,
    // under their numbers, and what a table holds it does not take twice. So does what the ingest log holds.
    store.reopen_lake_batches(manifest.lake_batches_done).await?;
    let instance = identity(store, clock).await?;
    let usage = UsageLog::open(&config.data.join(INGEST), UsageLogConfig::default())?;
    let lake = Lake::open(&config.data.join(LAKE), LakeOptions::default()).await?;
    let feed = Arc::new(StoreFeed::new(store.clone(), &instance.epoch));
    let mut sink = LakeSink::new(lake, Some(usage), Some(feed), clock.as_fn(), SinkConfig::default());
    sink.collect_and_flush().await?;
    // Last: the lake knows the numbers of the batches under the old epoch. Clients may have positions from after the
    // backup, which the channels will give out again for something else; with another epoch they start over.
    store.renew_epoch(&fresh_epoch()).await?;
    Ok(())
}

/// Moves everything to its place, the record last: a folder without it is seen to be no whole one.
fn install(staging: &Path, data: &Path) -> anyhow::Result<()> {
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(staging)? {
        entries.push(entry?.path());
    }
    entries.sort_by_key(|path| path.file_name().is_some_and(|name| name == SQLITE));
    for entry in entries {
        let name = entry.file_name().context("a file without a name")?;
        fs::rename(&entry, data.join(name)).with_context(|| format!("{} cannot be moved", entry.display()))?;
    }
    fs::remove_dir(staging)?;
    fs::File::open(data)?.sync_all()?;
    Ok(())
}
