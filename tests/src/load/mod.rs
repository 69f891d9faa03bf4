//! The load tool: the real binary under a fixed load, measured from outside. `./bench` runs it.
//!
//! Loads are open: latency counts from the moment an action was due, so a server that falls behind cannot
//! hide it by slowing its clients down. Nothing here asserts a time.

pub mod backfill;
pub mod bare;
pub mod broadcast;
pub mod fan_out;
pub mod figures;
pub mod handover;
pub mod ingest;
pub mod overload;
pub mod pay;
pub mod people;
pub mod push;
pub mod recovery;
pub mod socket;

use todoke_store::{Durability, Store};

use crate::{
    postgres::{PostgresServer, URL_VARIABLE},
    todoke::{DemoOptions, Todoke},
};

/// The city that every load runs in.
pub const CITY: DemoOptions = DemoOptions { families: 500, facilities: 20, history_days: 5, speed: 0.0, seed: 7 };

/// Which database holds the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A file, every commit synced.
    Sqlite,
    /// The server named by `TODOKE_TEST_POSTGRES_URL`, or a private one that syncs every commit.
    Postgres,
}

impl Record {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// Limits that a load from one address and one account does not meet.
fn limits() -> Vec<(&'static str, String)> {
    [
        ("TODOKE_HTTP__REQUESTS_PER_MIN", "10000000"),
        ("TODOKE_HTTP__SIGN_INS_PER_MIN", "100000"),
        ("TODOKE_HTTP__MAILS_PER_MIN", "100000"),
        ("TODOKE_REALTIME__USER_CONNECTIONS_MAX", "100000"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// A running server with limits that a load from one address and one account does not meet.
#[derive(Debug)]
pub struct Stage {
    /// The server.
    pub todoke: Todoke,
    postgres: Option<PostgresServer>,
    record: Option<(String, String)>,
}

impl Stage {
    /// Starts the demo city over a record of its own.
    pub async fn start(record: Record) -> anyhow::Result<Self> {
        Self::start_with(record, Vec::new()).await
    }

    /// As [`Stage::start`], with more settings of its environment.
    pub async fn start_with(record: Record, more: Vec<(&'static str, String)>) -> anyhow::Result<Self> {
        let mut settings = limits();
        settings.extend(more);
        let (mut postgres, mut place) = (None, None);
        if record == Record::Postgres {
            let url = match std::env::var(URL_VARIABLE) {
                Ok(url) if !url.is_empty() => url,
                _ => postgres.insert(PostgresServer::start_durable()?).url(),
            };
            let schema = format!("todoke_load_{}", std::process::id());
            settings.push(("TODOKE_RECORD__URL", url.clone()));
            settings.push(("TODOKE_RECORD__SCHEMA", schema.clone()));
            place = Some((url, schema));
        }
        Ok(Self { todoke: Todoke::demo_with(CITY, &settings).await, postgres, record: place })
    }

    /// The server's record, opened beside it.
    pub async fn record(&self) -> anyhow::Result<Store> {
        Ok(match &self.record {
            Some((url, schema)) => Store::open_postgres(url, schema, 4).await?,
            None => Store::open_sqlite(&self.todoke.data_dir().join("record.sqlite"), Durability::Full).await?,
        })
    }

    /// Stops the server, then its database.
    pub async fn stop(self) {
        self.todoke.stop().await;
        drop(self.postgres);
    }
}
