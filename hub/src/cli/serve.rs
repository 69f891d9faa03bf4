//! `todoke serve`.

use std::net::SocketAddr;

use clap::Args;

use super::Common;
use crate::server::Server;

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    common: Common,
    /// Address to listen on
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let mut config = args.common.load()?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let server = Server::wire(config, false).await?;
    tracing::info!(address = %server.address(), "ready");
    server.run().await
}
