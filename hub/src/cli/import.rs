//! `todoke import`.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::Args;
use todoke_domain::MunicipalityCode;
use todoke_store::Durability;
use todoke_workflow::{Actor, NobodyListens, Workflow, import::ImportKind};

use super::{Common, output};
use crate::{clock::Clock, server::open_record};

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    common: Common,
    /// movement, facility_usage, household_relation, transfer_result or external_application
    kind: String,
    /// CSV in UTF-8 or Windows-31J
    file: PathBuf,
    /// Municipality, six digits
    #[arg(long, value_name = "CODE")]
    municipality: MunicipalityCode,
    /// Import the same file again
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(args: ImportArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    let kind: ImportKind = args.kind.parse().map_err(|_| anyhow::anyhow!("unknown kind of file: {}", args.kind))?;
    let bytes = std::fs::read(&args.file).with_context(|| format!("{} cannot be read", args.file.display()))?;
    let name = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let store = open_record(&config, Durability::Full).await?;
    // Beside a running server this is safe: its sockets learn of it through the record.
    let workflow = Workflow::new(store, Arc::new(NobodyListens), &config.public_url());
    let actor = Actor::system(args.municipality, "import");
    let now = Clock::system().now();
    let outcome = workflow.import_file(&actor, kind, &name, &bytes, args.force, now).await?;
    for error in &outcome.first_errors {
        eprintln!("row {} {}: {}", error.row, error.column, error.reason);
    }
    if outcome.state == "completed" && kind == ImportKind::Movement {
        let run = workflow.match_waiting(&actor, now).await?;
        output::write(format!("matched {} waiting applications, {} left\n", run.matched, run.failed).as_bytes())?;
    }
    output::write(
        format!("{} {}: {} rows, {} errors\n", outcome.state, name, outcome.rows, outcome.errors).as_bytes(),
    )?;
    anyhow::ensure!(outcome.errors == 0, "nothing was imported");
    Ok(())
}
