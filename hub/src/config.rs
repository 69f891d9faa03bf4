//! Configuration: defaults in code, one file, then the environment (`TODOKE_…`, `__` between levels).

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};
use todoke_ingest::cloud_event;
use todoke_lake::{LakeLocation, Retention};
use todoke_notifier::{
    apns::ApnsSettings, dispatch::DispatchSettings, fcm::FcmSettings, mail::MailSettings, web_push::WebPushSettings,
};

use crate::{api::BODY_MIB_MAX, broker::BrokerConfig, realtime::RealtimeConfig};

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the record, the ingest log and the lake.
    pub data: PathBuf,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// Address in links of mails; empty means the address it listens on.
    pub public_url: String,
    /// The record.
    pub record: RecordConfig,
    /// Limits of the HTTP API.
    pub http: HttpConfig,
    /// Websockets.
    pub realtime: RealtimeConfig,
    /// The hot history of live channels.
    pub broker: BrokerConfig,
    /// Events on their way into the lake.
    pub lake: LakeConfig,
    /// Events from outside.
    pub ingest: IngestConfig,
    /// Reports and SQL.
    pub query: QueryConfig,
    /// What leaves when, and how often it is tried.
    pub delivery: DispatchSettings,
    /// Outgoing mail; without a server mails stay in the queue.
    pub mail: MailSettings,
    /// Mail that comes back.
    pub bounce: BounceConfig,
    /// Push by Firebase Cloud Messaging.
    pub fcm: FcmSettings,
    /// Push by Apple.
    pub apns: ApnsSettings,
    /// Push to browsers.
    pub web_push: WebPushSettings,
    /// Letters on paper.
    pub print: PrintConfig,
    /// Logging.
    pub log: LogConfig,
}

/// Where the record is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordConfig {
    /// `postgres://…`, or empty for SQLite in the data folder.
    pub url: String,
    /// PostgreSQL schema that holds the tables.
    pub schema: String,
    /// Connections to PostgreSQL.
    pub connections_max: u32,
    /// Folder of `pg_dump` and `pg_restore`, for backups; empty means `PATH`.
    pub programs: PathBuf,
    /// Whole fiscal years (April to March) that an event stays in the record's log after the one it was recorded in;
    /// what the lake does not hold yet stays longer.
    pub events_fiscal_years: u16,
}

/// Limits of the HTTP API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Longest body of most requests, bytes.
    pub body_bytes_max: usize,
    /// Longest uploaded document or imported file, bytes.
    pub upload_bytes_max: usize,
    /// Sign-in attempts per client neighbourhood and minute.
    pub sign_ins_per_min: u32,
    /// Registrations and password resets per client neighbourhood and minute.
    pub mails_per_min: u32,
    /// Requests per account and minute.
    pub requests_per_min: u32,
    /// Longest wait for sockets and services at shutdown, seconds.
    pub drain_s_max: u64,
    /// Take the client's address from `X-Forwarded-For`: only behind a proxy that sets it.
    pub trust_forwarded_for: bool,
}

/// Events on their way into the lake.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LakeConfig {
    /// `s3://bucket/prefix` or `file:///folder`; empty means the folder `lake` in the data folder. Credentials,
    /// endpoint, region and encryption of a bucket come from the usual `AWS_…` variables.
    pub url: String,
    /// Seconds between two looks at what other nodes committed to the lake that `url` names; 0 for none.
    pub refresh_every_s: u64,
    /// Longest time a row waits before its Parquet file is committed, milliseconds.
    pub flush_age_ms_max: u64,
    /// Rows that trigger a commit before that.
    pub flush_rows_max: usize,
    /// Memory of rows that wait for their Parquet files, MiB; half of it triggers a commit as well. What has no
    /// room waits on the disk.
    pub staged_mib_max: u64,
    /// Minutes between two compactions of small files; days past their time leave the lake with them.
    pub compact_every_min: u64,
    /// Memory of the rows, ids and files that a compaction joins, MiB.
    pub compact_mib_max: u64,
    /// MiB that compaction reads in a second, at most; 0 is no limit.
    pub compact_mib_per_s_max: u64,
    /// How long rows are kept.
    pub retention: Retention,
}

/// Events from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Groups or types of events that outside systems may send to `/v1/events`.
    pub outside_types: Vec<String>,
    /// Events per API key and minute; at least as many as a batch may have.
    pub outside_events_per_min: u32,
    /// Events of one sender that are held in quarantine; whoever has more bad ones waits until somebody has looked.
    pub held_per_sender_max: u32,
    /// Events of all senders of a municipality that are held in quarantine.
    pub held_max: u32,
    /// Memory that bodies with events take together while they are read, MiB; a body beyond it is refused with 503.
    pub bodies_mib_max: usize,
    /// How long a body may take to arrive, seconds: whoever stalls gives the memory back.
    pub body_seconds_max: u64,
}

/// Reports and SQL.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Memory all queries share, MiB.
    pub memory_mib_max: usize,
}

/// Mail that comes back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BounceConfig {
    /// What `POST /v1/mail/bounces` must carry as bearer token; empty: nobody may post.
    pub secret: String,
}

/// Letters on paper.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrintConfig {
    /// TrueType font with Japanese glyphs; empty means the one in the binary (Noto Sans JP).
    pub font_file: PathBuf,
}

/// Logging.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Filter in the form of `RUST_LOG`.
    pub filter: String,
    /// One JSON object per line instead of text.
    pub json: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("todoke-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: String::new(),
            record: RecordConfig::default(),
            http: HttpConfig::default(),
            realtime: RealtimeConfig::default(),
            broker: BrokerConfig::default(),
            lake: LakeConfig::default(),
            ingest: IngestConfig::default(),
            query: QueryConfig::default(),
            delivery: DispatchSettings::default(),
            mail: MailSettings::default(),
            bounce: BounceConfig::default(),
            fcm: FcmSettings::default(),
            apns: ApnsSettings::default(),
            web_push: WebPushSettings::default(),
            print: PrintConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            schema: "todoke".to_owned(),
            connections_max: 16,
            programs: PathBuf::new(),
            events_fiscal_years: 5,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            upload_bytes_max: 16 * 1024 * 1024,
            sign_ins_per_min: 60,
            mails_per_min: 30,
            requests_per_min: 6_000,
            drain_s_max: 20,
            trust_forwarded_for: false,
        }
    }
}

impl Default for LakeConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            refresh_every_s: 30,
            flush_age_ms_max: 5_000,
            flush_rows_max: 200_000,
            staged_mib_max: 256,
            compact_every_min: 60,
            compact_mib_max: 256,
            compact_mib_per_s_max: 64,
            retention: Retention::default(),
        }
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        // What the record itself never writes: a sender cannot make up a coupon's use.
        let types = ["support", "system.incident_detected", "system.incident_resolved"];
        Self {
            outside_types: types.map(str::to_owned).to_vec(),
            outside_events_per_min: 600_000,
            held_per_sender_max: 5_000,
            held_max: 100_000,
            bodies_mib_max: 256,
            // The longest body at a little more than a megabit a second.
            body_seconds_max: 60,
        }
    }
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self { memory_mib_max: 2_048 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "warn,todoke_hub=info,todoke_ingest=info,todoke_lake=info,todoke_analytics=info".to_owned(),
            json: false,
        }
    }
}

impl Config {
    /// Defaults, then the file, then the environment. Unknown keys are refused.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            anyhow::ensure!(path.is_file(), "no configuration file {}", path.display());
            figment = figment.merge(Toml::file_exact(path));
        }
        let config: Self = figment
            .merge(Env::prefixed("TODOKE_").filter(|key| !IGNORED.iter().any(|name| key == *name)).split("__"))
            .extract()
            .context("the configuration cannot be read")?;
        config.check()?;
        Ok(config)
    }

    /// Checks what one field alone cannot tell.
    pub fn check(&self) -> anyhow::Result<()> {
        let url = &self.record.url;
        anyhow::ensure!(
            url.is_empty() || url.starts_with("postgres://") || url.starts_with("postgresql://"),
            "record.url must be empty (SQLite) or begin with postgres://"
        );
        anyhow::ensure!(
            self.record.events_fiscal_years > 0,
            "record.events_fiscal_years must be at least 1: what leaves the record does not come back"
        );
        self.realtime.check().map_err(anyhow::Error::msg)?;
        let url = &self.lake.url;
        anyhow::ensure!(
            url.is_empty() || ((url.starts_with("s3://") || url.starts_with("file:///")) && !url.contains('@')),
            "lake.url must be empty (a folder in the data folder), s3://bucket/prefix or file:///folder; credentials are \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        );
        anyhow::ensure!(self.lake.flush_age_ms_max > 0, "lake.flush_age_ms_max must be above 0");
        // Staging stops at this limit and every commit frees some: with none nothing would ever be staged.
        anyhow::ensure!((1..=1 << 20).contains(&self.lake.staged_mib_max), "lake.staged_mib_max must be 1 to 1048576");
        // With less the longest body would be told for ever to come again.
        anyhow::ensure!(
            (BODY_MIB_MAX..=1 << 20).contains(&self.ingest.bodies_mib_max),
            "ingest.bodies_mib_max must be {BODY_MIB_MAX} to 1048576"
        );
        anyhow::ensure!(self.ingest.body_seconds_max > 0, "ingest.body_seconds_max must be above 0");
        // With less the longest batch would be told for ever to come again.
        anyhow::ensure!(
            self.ingest.outside_events_per_min as usize >= cloud_event::EVENTS_MAX,
            "ingest.outside_events_per_min must be at least {}, the events of one batch",
            cloud_event::EVENTS_MAX
        );
        // With none the first bad event of a batch would keep its good ones out for ever.
        anyhow::ensure!(self.ingest.held_per_sender_max > 0, "ingest.held_per_sender_max must be above 0");
        anyhow::ensure!(self.ingest.held_max > 0, "ingest.held_max must be above 0");
        anyhow::ensure!(
            (16..=1 << 20).contains(&self.lake.compact_mib_max),
            "lake.compact_mib_max must be 16 to 1048576"
        );
        anyhow::ensure!(
            self.lake.retention.fiscal_years > 0 && self.lake.retention.delivery_months > 0,
            "lake.retention must be at least one fiscal year and one month: what leaves the lake does not come back"
        );
        anyhow::ensure!(
            self.public_url.is_empty()
                || self.public_url.starts_with("http://")
                || self.public_url.starts_with("https://"),
            "public_url must begin with http:// or https://"
        );
        Ok(())
    }

    /// Where the lake lies. The settings of a bucket are those of the environment; nobody is asked yet.
    pub fn lake_location(&self) -> anyhow::Result<LakeLocation> {
        if self.lake.url.is_empty() {
            return Ok(LakeLocation::from(&self.data.join("lake")));
        }
        let variables = std::env::vars_os();
        let texts = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        LakeLocation::parse(&self.lake.url, texts).context("lake.url cannot be used")
    }

    /// Address that links begin with.
    pub fn public_url(&self) -> String {
        if self.public_url.is_empty() { format!("http://{}", self.listen) } else { self.public_url.clone() }
    }

    /// The effective values as TOML, secrets masked.
    pub fn printed(&self) -> anyhow::Result<String> {
        let mut shown = self.clone();
        shown.record.url = masked(&shown.record.url);
        shown.lake.url = masked(&shown.lake.url);
        shown.mail.smtp_url = masked(&shown.mail.smtp_url);
        let secrets = [
            &mut shown.mail.password,
            &mut shown.bounce.secret,
            &mut shown.fcm.service_account_json,
            &mut shown.apns.key_pem,
            &mut shown.web_push.private_key,
        ];
        for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
            "***".clone_into(secret);
        }
        Ok(toml::to_string(&shown)?)
    }
}

/// Variables with our prefix that are not configuration: names of test servers, caches and the like.
const IGNORED: [&str; 7] =
    ["config", "cache", "bin", "test_postgres_url", "test_redis_url", "test_venv", "test_screenshots"];

/// Hides the user information of a URL.
fn masked(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}***{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_values_hide_secrets() {
        let mut config = Config::default();
        config.record.url = "postgres://todoke:geheim@db/todoke".to_owned();
        let text = config.printed().unwrap();
        assert!(text.contains("postgres://***@db/todoke"));
        assert!(!text.contains("geheim"));
    }

    #[test]
    fn a_retention_of_nothing_is_refused() {
        let mut config = Config::default();
        config.record.events_fiscal_years = 0;
        assert!(config.check().is_err());
        for (years, months) in [(0, 13), (10, 0)] {
            let mut config = Config::default();
            config.lake.retention = Retention { fiscal_years: years, delivery_months: months };
            assert!(config.check().is_err(), "{years} years, {months} months");
        }
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn the_longest_body_has_room_or_the_server_does_not_start() {
        for (mib, is_taken) in [(0, false), (BODY_MIB_MAX - 1, false), (BODY_MIB_MAX, true)] {
            let mut config = Config::default();
            config.ingest.bodies_mib_max = mib;
            assert_eq!(config.check().is_ok(), is_taken, "{mib} MiB");
        }
    }

    #[test]
    fn the_longest_batch_is_within_the_quota_or_the_server_does_not_start() {
        for (per_min, is_taken) in [(0, false), (4_999, false), (5_000, true)] {
            let mut config = Config::default();
            config.ingest.outside_events_per_min = per_min;
            assert_eq!(config.check().is_ok(), is_taken, "{per_min} events");
        }
    }

    #[test]
    fn a_lake_is_in_the_data_folder_or_where_its_url_says() {
        let mut config = Config { data: PathBuf::from("/data"), ..Config::default() };
        assert_eq!(config.lake_location().unwrap().folder(), Some(Path::new("/data/lake")));
        config.lake.url = "file:///elsewhere".to_owned();
        assert_eq!(config.lake_location().unwrap().folder(), Some(Path::new("/elsewhere")));
        for refused in ["lake", "gs://city/lake", "file://lake", "s3://id:geheim@city/lake"] {
            config.lake.url = refused.to_owned();
            let error = config.check().unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{error}");
            assert!(!config.printed().unwrap().contains("geheim"), "{refused}");
        }
    }

    #[test]
    fn printed_defaults_load_again() {
        let text = Config::default().printed().unwrap();
        let again: Config = toml::from_str(&text).unwrap();
        assert_eq!(again.printed().unwrap(), text);
    }
}
