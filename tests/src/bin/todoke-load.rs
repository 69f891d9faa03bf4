//! The load tool: `todoke-load pay|pay-postgres|fan-out|broadcast|broadcast-postgres|handover|ingest|backfill|overload|recovery|push [NAME=VALUE…]` starts the demo city on loopback,
//! puts a load on it and prints what came of it. See `docs/benchmarks.md`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use todoke_tests::load::{Record, backfill, bare, broadcast, fan_out, handover, ingest, overload, pay, push, recovery};

/// The server's, so that what is measured in this process costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: todoke-load pay [rate=500 seconds=10 households=30]
       todoke-load pay-postgres [rate=500 seconds=10 households=30]
       todoke-load fan-out [sockets=1000 rate=20 seconds=10]
       todoke-load broadcast [people=100000 sockets=1000]
       todoke-load broadcast-postgres [people=100000 sockets=1000]
       todoke-load handover [rate=50 seconds=20 households=30]
       todoke-load ingest [seconds=6 events=3000000]
       todoke-load backfill [events=3000000]
       todoke-load overload [connections=256 seconds=20 events=5000000]
       todoke-load recovery [mib=N]; 10, 100 and 500 without it
       todoke-load push [ours=50000 peers=10000 at-once=500]";

/// Numbers given as `name=value`.
struct Settings(HashMap<String, u32>);

impl Settings {
    fn parse(arguments: &[String], known: &[&str]) -> Result<Self> {
        let mut settings = HashMap::new();
        for argument in arguments {
            let (name, value) = argument.split_once('=').context(USAGE)?;
            ensure!(known.contains(&name), "{name} is not known here\n{USAGE}");
            let value: u32 = value.parse().with_context(|| format!("{argument}: not a number"))?;
            ensure!(value > 0, "{name} must be above 0");
            settings.insert(name.to_owned(), value);
        }
        Ok(Self(settings))
    }

    fn number(&self, name: &str, default: u32) -> u32 {
        self.0.get(name).copied().unwrap_or(default)
    }

    fn load(&self, per_second: u32) -> pay::Load {
        pay::Load { per_second: self.number("rate", per_second), seconds: self.number("seconds", 10) }
    }
}

async fn run(mode: &str, rest: &[String]) -> Result<()> {
    match mode {
        "pay" | "pay-postgres" => {
            let settings = Settings::parse(rest, &["rate", "seconds", "households"])?;
            let record = if mode == "pay" { Record::Sqlite } else { Record::Postgres };
            pay::run(record, settings.load(500), settings.number("households", 30) as usize).await
        }
        "fan-out" => {
            let settings = Settings::parse(rest, &["sockets", "rate", "seconds"])?;
            fan_out::run(settings.load(20), settings.number("sockets", 1_000) as usize).await
        }
        "broadcast" | "broadcast-postgres" => {
            let settings = Settings::parse(rest, &["people", "sockets"])?;
            let record = if mode == "broadcast" { Record::Sqlite } else { Record::Postgres };
            let people = settings.number("people", 100_000) as usize;
            broadcast::run(record, people, settings.number("sockets", 1_000) as usize).await
        }
        "handover" => {
            let settings = Settings::parse(rest, &["rate", "seconds", "households"])?;
            let load = pay::Load { per_second: settings.number("rate", 50), seconds: settings.number("seconds", 20) };
            handover::run(Record::Sqlite, load, settings.number("households", 30) as usize).await
        }
        "ingest" => {
            let settings = Settings::parse(rest, &["seconds", "events"])?;
            ingest::run(settings.number("seconds", 6), settings.number("events", 3_000_000).into()).await
        }
        "backfill" => {
            let settings = Settings::parse(rest, &["events"])?;
            backfill::run(settings.number("events", 3_000_000).into()).await
        }
        "overload" => {
            let settings = Settings::parse(rest, &["connections", "seconds", "events"])?;
            overload::run(overload::Overload {
                connections: settings.number("connections", 256),
                seconds: settings.number("seconds", 20),
                events_max: settings.number("events", 5_000_000).into(),
            })
            .await
        }
        "recovery" => {
            let settings = Settings::parse(rest, &["mib"])?;
            match settings.number("mib", 0) {
                0 => recovery::run(&[10, 100, 500]).await,
                mib => recovery::run(&[mib]).await,
            }
        }
        "push" => {
            let settings = Settings::parse(rest, &["ours", "peers", "at-once"])?;
            push::run(push::Amount {
                ours: settings.number("ours", 50_000),
                peers: settings.number("peers", 10_000),
                at_once: settings.number("at-once", 500),
            })
            .await
        }
        "push-client" => push::be_client(rest.first().context(USAGE)?).await,
        "bare" => {
            let numbers: Vec<u32> = rest.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
            let [connections, per_second, seconds, frame_bytes] = numbers[..] else { bail!(USAGE) };
            bare::serve(bare::Shape {
                connections: connections as usize,
                per_second,
                seconds,
                frame_bytes: frame_bytes as usize,
            })
            .await
        }
        _ => bail!(USAGE),
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mode, rest) = arguments.split_first().context(USAGE)?;
    // The server's dispatcher has a thread of its own.
    let mut runtime = match mode.as_str() {
        "push-client" => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(2).enable_all().build()?.block_on(run(mode, rest))
}
