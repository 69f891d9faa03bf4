//! `todoke demo`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use serde_json::json;

use super::{Common, output};
use crate::{
    clock::Clock,
    demo::{self, DemoPlan},
    server::Server,
};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    common: Common,
    /// Address to listen on
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Households of the city
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    families: usize,
    /// Facilities of the city
    #[arg(long, value_name = "N", default_value_t = 60)]
    facilities: usize,
    /// Days of history
    #[arg(long, value_name = "N", default_value_t = 365)]
    history_days: i32,
    /// Live actions per second; 0 for none
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    speed: f64,
    /// Seed of the randomness
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Written as JSON when the server answers
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

pub(super) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let mut config = args.common.load()?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    anyhow::ensure!((0..=3_660).contains(&args.history_days), "--history-days must be from 0 to 3660");
    let plan = DemoPlan {
        families: args.families,
        facilities: args.facilities,
        history_days: args.history_days,
        seed: args.seed,
    };
    let accounts = demo::prepare(&config, &plan, Clock::system().now()).await?;
    let mut server = Server::wire(config, true).await?;
    let base_url = server.state().config().public_url();
    let code = demo::city::cities().first().map(|city| city.code.clone());
    if let Some(code) = code {
        let state = server.state().clone();
        let (services, stop) = server.services();
        services.spawn("demo traffic", demo::run_traffic(state, code, args.speed, args.seed, stop));
    }
    let mut text = format!("\n届け is ready: {base_url}\n\n");
    for (role, account) in &accounts.accounts {
        let entrance = if role == "guardian" { "" } else { "/staff" };
        text.push_str(&format!("  {role:<18} {base_url}{entrance}  {}  {}\n", account.email, account.password));
    }
    text.push_str(&format!("\n  one-time codes and links: {base_url}/demo/mail\n\n"));
    output::write(text.as_bytes())?;
    if let Some(path) = &args.ready_file {
        let ready = json!({
            "base_url": base_url,
            "accounts": accounts.accounts,
            "more_accounts": accounts.more_accounts,
            "api_keys": accounts.api_keys,
            "municipalities": accounts.municipalities,
        });
        // Written whole and then named: whoever waits for the file never reads half of it.
        let part = path.with_extension("part");
        std::fs::write(&part, serde_json::to_vec_pretty(&ready)?)?;
        std::fs::rename(&part, path)?;
    }
    server.run().await
}
