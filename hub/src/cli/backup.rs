//! `todoke backup` and `todoke restore`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{Common, lake, output};
use crate::{
    backup::{self, Manifest},
    clock::Clock,
    nodes::unflushed_elsewhere,
    run_file::RunFile,
};

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// New folder that the backup is written to
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Backup whose files are read again and compared with its manifest
    #[arg(long, value_name = "DIR")]
    verify: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// Folder of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    common: Common,
}

fn described(manifest: &Manifest) -> String {
    format!(
        "backup of {}: {} files, {} bytes, by Todoke {}\n",
        manifest.began_at,
        manifest.files.len(),
        manifest.n_bytes(),
        manifest.todoke_version
    )
}

pub(super) async fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    if let Some(to) = &args.what.to {
        let manifest = backup::back_up(&config, to, Clock::system().now()).await?;
        output::write(described(&manifest).as_bytes())?;
        let own = RunFile::read(&config.data).map(|note| note.log);
        if let Some(others) = unflushed_elsewhere(&config, own.as_deref()).await? {
            eprintln!(
                "todoke: app usage that waits in the logs of other nodes is not in this backup: {others}. What they have \
                 committed is; back each of them up, or stop them before."
            );
        }
    }
    if let Some(dir) = &args.what.verify {
        let manifest = Manifest::read(dir)?;
        manifest.check(dir)?;
        output::write(format!("{}every file is as it was backed up\n", described(&manifest)).as_bytes())?;
    }
    Ok(())
}

pub(super) async fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    let manifest = backup::restore(&config, &args.from, &Clock::system()).await?;
    output::write(format!("restored: {}", described(&manifest)).as_bytes())?;
    lake::check(&config).await.context("everything is restored as it was backed up, but there is a fault in it")
}
