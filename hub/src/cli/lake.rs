//! `todoke lake`.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use todoke_domain::{Event, MunicipalityCode, Timestamp, ids::AccountId};
use todoke_ingest::{UsageLog, UsageLogConfig};
use todoke_lake::{CompactOptions, Lake, LakeView, Recorded, Scope, Told};
use todoke_store::{Durability, Wall};
use todoke_workflow::{NobodyListens, Workflow};
use tokio_util::sync::CancellationToken;

use super::{
    Common,
    erase::{self, EraseArgs},
    forget_node::{self, ForgetNodeArgs},
    output,
};
use crate::{
    clock::Clock,
    config::Config,
    event_log,
    local::{self, DiscardCall},
    nodes::{LogsCheck, Restored},
    quarantine,
    run_file::RunFile,
    server::{files_kept, open_lake, open_record},
};

#[derive(Debug, Args)]
pub(super) struct LakeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Tables with their days and rows
    Stats(Common),
    /// Joins small files; needs the server to be stopped
    Compact(Common),
    /// Deletes files that no version of the last seven days needs, and those a crash left; needs the server to be
    /// stopped
    Vacuum(Common),
    /// Takes days past their time (lake.retention) out of every table, and events past theirs out of the record's log;
    /// needs the server to be stopped
    Retain(Common),
    /// Takes one person out of the lake and writes a certificate; needs the server to be stopped
    Erase(EraseArgs),
    /// Takes away the note of another node that is gone for good; what only its log had is lost
    ForgetNode(ForgetNodeArgs),
    /// Reads every file and compares it with the log, and the events with the record
    Verify(Common),
    /// Events that could not be taken as they were sent
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// Lists what is held, oldest first, without contents
    List(QuarantineArgs),
    /// Tries everything that is held again, by the rules of now
    Replay(ReplayArgs),
    /// Lets events go that nobody waits for any more, so that there is room for others
    Discard(DiscardArgs),
}

#[derive(Debug, Args)]
struct QuarantineArgs {
    /// Code of the municipality
    #[arg(long, value_name = "CODE")]
    municipality: MunicipalityCode,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// Takes events that were too old for their door as history
    #[arg(long)]
    too_old: bool,
    #[command(flatten)]
    held: QuarantineArgs,
}

#[derive(Debug, Args)]
struct DiscardArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    held: QuarantineArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct WhichArgs {
    /// Only those of this reason, as the list names it
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only those of this sender, as the list names it
    #[arg(long, value_name = "ACCOUNT")]
    sender: Option<AccountId>,
    /// Only those that came in before this instant (RFC 3339)
    #[arg(long, value_name = "INSTANT")]
    before: Option<Timestamp>,
}

/// Entries read at a time.
const LISTED_PAGE: i64 = 1_000;

pub(super) async fn run(args: LakeArgs) -> anyhow::Result<()> {
    match args.what {
        What::Stats(common) => stats(&common).await,
        What::Compact(common) => compact(&common).await,
        What::Vacuum(common) => vacuum(&common).await,
        What::Retain(common) => retain(&common).await,
        What::Erase(args) => erase::run(&args).await,
        What::ForgetNode(args) => forget_node::run(&args).await,
        What::Verify(common) => verify(&common).await,
        What::Quarantine(QuarantineCommand::List(args)) => held(&args).await,
        What::Quarantine(QuarantineCommand::Replay(args)) => replay(&args).await,
        What::Quarantine(QuarantineCommand::Discard(args)) => discard(args).await,
    }
}

async fn held(args: &QuarantineArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    let store = open_record(&config, Durability::Full).await?;
    output::write(b"received_at\tentrance\treason\tfield\tevent_id\tsender\n")?;
    let mut after = None;
    loop {
        let mut tx = store.begin_read(Wall::Around(args.municipality.clone())).await?;
        let page = tx.quarantined_events(&args.municipality, after, LISTED_PAGE).await?;
        drop(tx);
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.quarantine_id);
        let mut text = String::new();
        for entry in page {
            // What a sender made up must not steer a terminal.
            let shown = |text: Option<String>| -> String {
                text.unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
            };
            let (field, id) = (shown(entry.field), shown(entry.event_id));
            let sender = entry.account_id.map(|id| id.to_string()).unwrap_or_default();
            let (at, entrance, reason) = (entry.received_at, entry.entrance, entry.reason);
            text.push_str(&format!("{at}\t{entrance}\t{reason}\t{field}\t{id}\t{sender}\n"));
        }
        output::write(text.as_bytes())?;
    }
}

async fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let ReplayArgs { too_old, held: QuarantineArgs { municipality, common } } = args;
    let config = common.load()?;
    let call = json!({ "municipality": municipality, "too_old": too_old });
    if let Some(answer) = local::ask(&config.data, "/local/quarantine/replay", &call).await? {
        return output::write(&answer);
    }
    let store = open_record(&config, Durability::Full).await?;
    let log = UsageLog::open(&config.data.join("ingest"), UsageLogConfig::default())?;
    let rules = quarantine::Rules { outside_types: &config.ingest.outside_types, too_old: *too_old };
    let done = quarantine::replay(&store, &log, municipality, rules, Clock::system().now()).await?;
    output::write(&serde_json::to_vec(&done)?)
}

async fn discard(args: DiscardArgs) -> anyhow::Result<()> {
    let DiscardArgs { which, held: QuarantineArgs { municipality, common } } = args;
    let WhichArgs { reason, sender, before } = which;
    let config = common.load()?;
    let call = DiscardCall { municipality, reason, account_id: sender, before };
    if let Some(answer) = local::ask(&config.data, "/local/quarantine/discard", &json!(call)).await? {
        return output::write(&answer);
    }
    let store = open_record(&config, Durability::Full).await?;
    let workflow = Workflow::new(store.clone(), Arc::new(NobodyListens), &config.public_url());
    let now = Clock::system().now();
    let (actor, which) = call.by_whom(now);
    let discarded = workflow.discard_held(&actor, &which, now).await?;
    store.close().await;
    output::write(&serde_json::to_vec(&json!({ "discarded": discarded }))?)
}

/// Events read from the record at a time.
const RECORDED_PAGE: i64 = 5_000;

async fn verify(common: &Common) -> anyhow::Result<()> {
    check(&common.load()?).await
}

/// Prints what there is and whether it is sound. Errors: it is not.
pub(super) async fn check(config: &Config) -> anyhow::Result<()> {
    let store = open_record(config, Durability::Full).await?;
    let now = Clock::system().now();
    // The record keeps some events for longer than the lake: those may be gone.
    let is_kept = |event: &Event| event.occurred_at.jst_date() >= config.lake.retention.first_day(event.group(), now);
    let mut recorded = Recorded::default();
    let mut after = 0;
    loop {
        let mut tx = store.begin_read(Wall::None).await?;
        let page = tx.events_in_lake(after, RECORDED_PAGE).await?;
        drop(tx);
        let Some((last, _)) = page.last() else { break };
        after = *last;
        page.iter().filter(|(_, event)| is_kept(event)).for_each(|(_, event)| recorded.insert(event));
    }
    // The lake is opened after the record was read: what the record calls finished was committed before.
    let location = config.lake_location()?;
    let view = LakeView::open_readonly(&location).await?;
    let check = view.verify(&recorded).await;
    let n_recorded: u64 = check.days.values().map(|day| day.recorded).sum();
    let mut text = format!(
        "{} files with {} rows read; {n_recorded} events of the record on {} days\n",
        check.files,
        check.rows,
        check.days.len()
    );
    for fault in &check.faults {
        text.push_str(&format!("damaged: {fault}\n"));
    }
    for ((code, day), found) in check.incomplete() {
        text.push_str(&format!("incomplete: {code} {day}: {} of {} events\n", found.found, found.recorded));
    }
    if check.repeated > 0 {
        text.push_str(&format!("repeated: {} rows; `todoke lake compact` takes them out\n", check.repeated));
    }
    let mut logs = LogsCheck::default();
    if let Some(restored) = Restored::read(&location).await? {
        logs = restored.check(&view).await?;
        text.push_str(&described_logs(&restored, &logs));
    }
    output::write(text.as_bytes())?;
    anyhow::ensure!(check.is_sound() && logs.short.is_empty(), "the lake is not what it should be");
    let verdict = if logs.lacking.is_empty() { "sound\n" } else { "sound, but for what it is without\n" };
    output::write(verdict.as_bytes())
}

/// What a restored lake has of the nodes' logs.
fn described_logs(restored: &Restored, logs: &LogsCheck) -> String {
    let mut text = String::new();
    if logs.n_complete > 0 && logs.short.is_empty() && logs.lacking.is_empty() {
        let (n, at) = (logs.n_complete, restored.began_at);
        text.push_str(&format!("complete: all logs ({n}), up to the backup of {at}\n"));
    }
    for (node, found) in &logs.short {
        let through = node.through.unwrap_or_default();
        text.push_str(&format!("incomplete: the log {} of {}: {found} of {through}\n", node.log, node.place));
    }
    for node in &logs.lacking {
        text.push_str(&format!(
            "without what waited in the log {} of {}: the backup lacked it\n",
            node.log, node.place
        ));
    }
    text
}

async fn stats(common: &Common) -> anyhow::Result<()> {
    let config = common.load()?;
    let view = LakeView::open_readonly(config.lake_location()?).await?;
    let snapshot = view.snapshot();
    let mut text = format!("snapshot {}\n", snapshot.id());
    for group in snapshot.groups() {
        let days = snapshot.days(group, &Scope::All);
        let n_rows: u64 = days.values().map(|day| day.n_rows).sum();
        if n_rows > 0 {
            text.push_str(&format!("{group:<18} {n_rows:>10} rows on {} days\n", days.len()));
        }
    }
    output::write(text.as_bytes())
}

/// The lake of a stopped server, for work that a running one does by itself.
async fn open_alone(config: &Config) -> anyhow::Result<Arc<Lake>> {
    anyhow::ensure!(!RunFile::is_answered(&config.data), "a server runs on this folder, and does this by itself");
    open_lake(config, &Told::Unknown).await
}

async fn compact(common: &Common) -> anyhow::Result<()> {
    let config = common.load()?;
    let lake = open_alone(&config).await?;
    let options = CompactOptions {
        partitions_max: usize::MAX,
        memory_bytes_max: config.lake.compact_mib_max.saturating_mul(1 << 20),
        ..CompactOptions::default()
    };
    for table in lake.stats() {
        let done = lake.compact(&table.table, &options, Clock::system().now()).await?;
        if done.files_too_large > 0 {
            let (name, files) = (table.table, done.files_too_large);
            let text = format!("{name}: {files} files stay as they are, lake.compact_mib_max has no room for them\n");
            output::write(text.as_bytes())?;
        }
    }
    output::write(b"compacted\n")
}

async fn vacuum(common: &Common) -> anyhow::Result<()> {
    let config = common.load()?;
    let lake = open_alone(&config).await?;
    let n_files = lake.vacuum_all(files_kept(), Clock::system().now()).await?;
    output::write(format!("{n_files} files deleted\n").as_bytes())
}

async fn retain(common: &Common) -> anyhow::Result<()> {
    let config = common.load()?;
    let lake = open_alone(&config).await?;
    let now = Clock::system().now();
    for table in lake.stats() {
        let expired = lake.expire(&table.table, &config.lake.retention, now).await?;
        if expired.files > 0 {
            let (name, rows, files) = (table.table, expired.rows, expired.files);
            output::write(format!("{name}: {rows} rows of {files} files were past their time\n").as_bytes())?;
        }
    }
    let store = open_record(&config, Durability::Full).await?;
    let first_day = event_log::first_day(config.record.events_fiscal_years, now);
    let n_events = event_log::forget_before(&store, first_day, &CancellationToken::new()).await?;
    if n_events > 0 {
        output::write(format!("record: {n_events} events from before {first_day}\n").as_bytes())?;
    }
    store.close().await;
    output::write(b"only what is to be kept is left\n")
}
