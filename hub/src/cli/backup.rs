//! `todoke backup` and `todoke restore`.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;

use super::{Common, lake, output};
use crate::{
    backup::{self, BackupOptions, Manifest},
    clock::Clock,
};

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    what: What,
    /// Node whose log may be missing from the backup, by its place or the name of its log; the backup says so
    #[arg(long, value_name = "NODE", requires = "to")]
    without: Vec<String>,
    /// How long to wait for other nodes to bring their logs to the lake, seconds
    #[arg(long, value_name = "S", default_value_t = 120)]
    wait: u32,
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
    let mut text = format!(
        "backup of {}: {} files, {} bytes, by Todoke {}\n",
        manifest.began_at,
        manifest.files.len(),
        manifest.n_bytes(),
        manifest.todoke_version
    );
    for node in manifest.nodes.iter().filter(|node| node.through.is_some()) {
        text.push_str(&format!("with the log {} of {}\n", node.log, node.place));
    }
    for node in manifest.lacking() {
        text.push_str(&format!("without what waited in the log {} of {}\n", node.log, node.place));
    }
    text
}

pub(super) async fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    if let Some(to) = &args.what.to {
        let options = BackupOptions { without: args.without.clone(), wait_max: Duration::from_secs(args.wait.into()) };
        let manifest = backup::back_up(&config, to, &options, Clock::system().now()).await?;
        output::write(described(&manifest).as_bytes())?;
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
