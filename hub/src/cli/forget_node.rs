//! `todoke lake forget-node`: a node that is gone for good stands in nobody's way any more.

use std::{sync::Arc, time::Duration};

use clap::Args;
use todoke_ingest::PinnedLog;
use todoke_store::{Durability, Wall};
use todoke_workflow::{Actor, NobodyListens, Workflow};

use super::{Common, output};
use crate::{clock::Clock, nodes::GoneNode, server::open_record};

#[derive(Debug, Args)]
pub(super) struct ForgetNodeArgs {
    /// The node's place or the name of its log, as `backup` and `lake erase` name it
    node: String,
    /// How long to wait for the node to say that it runs, seconds
    #[arg(long, value_name = "S", default_value_t = 30)]
    wait: u32,
    /// Forgets it, and with it the events that only its log had
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(args: &ForgetNodeArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    let own = PinnedLog::begin(&config.data.join("ingest"))?.log_id()?;
    let wait_max = Duration::from_secs(args.wait.into());
    let gone = GoneNode::find(&config, own.as_deref(), &args.node, wait_max).await?;
    let GoneNode { place, log, .. } = &gone;
    anyhow::ensure!(
        args.yes,
        "{place} (nodes/{log}) does not answer. If its data folder is still there, start it and stop it in the ordinary \
         way. If not, what it acknowledged and had not brought to the lake is lost: events of app usage and of outside \
         systems. Backups will not name it, and certificates of erasures are not about it. To forget it, give --yes"
    );
    let store = open_record(&config, Durability::Full).await?;
    let municipalities = store.begin_read(Wall::None).await?.municipalities().await?;
    let workflow = Workflow::new(store.clone(), Arc::new(NobodyListens), &config.public_url());
    // Before the note goes, so that nothing is forgotten unnoticed: a node may have had events of each of them.
    for municipality in municipalities {
        let actor = Actor::system(municipality.municipality_code, "console");
        workflow.note_forgotten_node(&actor, log, Clock::system().now()).await?;
    }
    store.close().await;
    gone.remove_note().await?;
    output::write(format!("forgotten: {place} (nodes/{log}), with the events that only its log had\n").as_bytes())
}
