//! The commands of `todoke`.

mod admin;
mod backup;
mod config;
mod demo;
mod doctor;
mod erase;
mod forget_node;
mod import;
mod ingest;
mod lake;
mod output;
mod progress;
mod query;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{config::Config, telemetry};

/// 届け: real-time messages and analytics for municipal child-rearing support.
#[derive(Debug, Parser)]
#[command(name = "todoke", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a realistic city with a year of history and live traffic
    Demo(demo::DemoArgs),
    /// Runs the server
    Serve(serve::ServeArgs),
    /// Prints the effective configuration, secrets masked
    Config(Common),
    /// Checks record, lake and configuration
    Doctor(Common),
    /// Imports a CSV file of a linked system, all or nothing
    Import(import::ImportArgs),
    /// Loads historical events from files into the lake
    Ingest(ingest::IngestArgs),
    /// Runs a report
    Report(query::ReportArgs),
    /// Asks the lake in SQL, within one municipality
    Sql(query::SqlArgs),
    /// Sets up municipalities and accounts
    Admin(admin::AdminArgs),
    /// Shows and maintains the lake
    Lake(lake::LakeArgs),
    /// Copies record, ingest log and lake to one consistent point, also beside a running server
    Backup(backup::BackupArgs),
    /// Brings a backup back into an empty folder
    Restore(backup::RestoreArgs),
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Common {
    /// Folder of the record, the ingest log and the lake
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "TODOKE_CONFIG")]
    config: Option<PathBuf>,
}

impl Common {
    /// The effective configuration.
    fn load(&self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        telemetry::init_logs(&config.log);
        Ok(config)
    }
}

/// Parses the arguments and runs the command. Exit codes: 0 done, 1 failed, 2 wrong arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("todoke: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Config(common) => config::run(&common),
            Command::Doctor(common) => doctor::run(&common).await,
            Command::Import(args) => import::run(args).await,
            Command::Ingest(args) => ingest::run(args).await,
            Command::Report(args) => query::report(args).await,
            Command::Sql(args) => query::sql(args).await,
            Command::Admin(args) => admin::run(args).await,
            Command::Lake(args) => lake::run(args).await,
            Command::Backup(args) => backup::backup(&args).await,
            Command::Restore(args) => backup::restore(&args).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("todoke: {error:#}");
            ExitCode::FAILURE
        }
    }
}
