//! `todoke lake erase`: one person leaves the lake, and a certificate says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write,
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};
use todoke_analytics::forget_rollups;
use todoke_domain::{MunicipalityCode, Role, Timestamp};
use todoke_ingest::{LakeSink, SinkConfig, UsageLog, UsageLogConfig, search_log};
use todoke_lake::{ErasedTable, Erasure, LakeLocation, Searched, search_keys, search_lake};
use todoke_store::{DbKind, Durability, purge_sqlite};
use todoke_workflow::{Actor, NobodyListens, Workflow, account::Unlinked};

use super::{Common, output};
use crate::{
    clock::Clock,
    config::Config,
    feed::StoreFeed,
    history_lock::HistoryLock,
    nodes::ErasureNote,
    run_file::RunFile,
    server::{ROLLUPS, identity, open_lake, open_record, told},
};

/// Folder of the usage log, below the data folder.
const INGEST: &str = "ingest";
/// Tables whose rows are about behaviour alone: they go. The others are the city's business, and stay without the person.
const BEHAVIOUR: [&str; 1] = ["app"];

#[derive(Debug, Args)]
pub(super) struct EraseArgs {
    /// Number of a guardian or a child, a child's number in the register, or id or mail address of an account; also of
    /// who has deleted the account
    number: String,
    /// Whose account a guardian's number means: guardian or proxy_guardian
    #[arg(long, value_name = "ROLE", default_value = "guardian")]
    role: Role,
    /// Code of the municipality
    #[arg(long, value_name = "CODE")]
    municipality: MunicipalityCode,
    /// Where the certificate is written; the file must not exist
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// What was done and how it was proved. Holds no key.
#[derive(Debug, Serialize)]
struct Certificate {
    title: &'static str,
    certificate_id: String,
    municipality_code: MunicipalityCode,
    number: String,
    /// Of the accounts behind a guardian's number those with this role.
    role: Role,
    erased_at: Timestamp,
    /// A child that was invited and then registered without its code has two.
    keys: usize,
    record: Unlinked,
    tables: BTreeMap<String, ErasedTable>,
    searched: BTreeMap<&'static str, Searched>,
    statement: &'static str,
}

const STATEMENT: &str = "上記の番号の方（利用者番号の場合は、その世帯で上記の role の方）を指す仮名キーを、イベントの記録、取込みログ、データレイクの全ファイル（過去の版を含む）から消去し、\
    残る全ファイルとイベントの記録の全件を読み直して見つからないことを確認しました。アプリ利用の行は削除し、業務の行は別の乱数に置き換えました。\
    日ごとの集計の途中結果は、この命令を実行したサーバーにあるこの自治体の分をすべて削除し、残りを読み直しました。\
    同じデータレイクを使うほかのサーバーに残る分は読み直しておらず、該当する日の分はそのサーバーが次に起動したときに削除されます。サーバーは出力したファイルを保持していません。\
    すでに出力されたファイルは、操作・出力記録（R18）でご確認ください。";

/// What is left to do when everything else is done.
const LEFT_IN_FILE: &str = "the person is erased and certified, but the file of the record may still hold the old key, \
    which nobody has any more: make room for a second such file and run `VACUUM` on it";

async fn search(
    location: &LakeLocation,
    log_dir: PathBuf,
    rollups_dir: PathBuf,
    keys: BTreeSet<i64>,
) -> anyhow::Result<BTreeMap<&'static str, Searched>> {
    let lake = search_lake(location, &keys).await?;
    let here = tokio::task::spawn_blocking(move || {
        let mut searched = BTreeMap::from([("ingest", search_log(&log_dir, &keys)?)]);
        if rollups_dir.is_dir() {
            searched.insert("rollups", search_keys(&rollups_dir, &keys)?);
        }
        anyhow::Ok(searched)
    });
    let mut searched = here.await??;
    searched.insert("lake", lake);
    Ok(searched)
}

pub(super) async fn run(args: &EraseArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    anyhow::ensure!(
        !RunFile::is_answered(&config.data),
        "a server runs on this folder: stop it first, it takes up again where it was"
    );
    anyhow::ensure!(!args.certificate.exists(), "{} exists already", args.certificate.display());
    let _alone = HistoryLock::exclusive(&config.data)?;
    let location = config.lake_location()?;
    let probed = location.probe().await.with_context(|| format!("the lake cannot be in {location}"))?;
    anyhow::ensure!(
        !probed.keeps_versions,
        "{location} keeps versions of what is deleted, so that nothing could be certified: end its versioning and \
         remove the older versions first"
    );
    // Held to the end: a server that is just stopping, or another command, has it, and this one gives way.
    let usage = UsageLog::open(&config.data.join(INGEST), UsageLogConfig::default())?;
    let note = ErasureNote::leave(&config, &usage).await?;
    let erased = erase(args, &config, &location, &usage, note.as_ref()).await;
    if let Some(note) = note {
        note.remove().await;
    }
    output::write(erased?.as_bytes())
}

/// Forgets the person and writes the certificate; gives what there is to say about it.
async fn erase(
    args: &EraseArgs,
    config: &Config,
    location: &LakeLocation,
    usage: &UsageLog,
    note: Option<&ErasureNote>,
) -> anyhow::Result<String> {
    let clock = Clock::system();
    let store = open_record(config, Durability::Full).await?;
    store.overwrite_deleted().await?;
    let workflow = Workflow::new(store.clone(), Arc::new(NobodyListens), &config.public_url());
    let actor = Actor::system(args.municipality.clone(), "console");
    let stand_ins = workflow
        .stand_ins(&actor, &args.number, args.role)
        .await
        .with_context(|| format!("{} is nobody in {}", args.number, args.municipality))?;

    // Everything on its way goes to the tables first, so that there is one place to look.
    let instance = identity(&store, &clock).await?;
    let lake = open_lake(config, &told(&store, &instance.epoch, usage).await?).await?;
    let feed = Arc::new(StoreFeed::new(store.clone(), &instance.epoch));
    let mut sink = LakeSink::new(lake.clone(), Some(usage.clone()), Some(feed), clock.as_fn(), SinkConfig::default());
    sink.collect_and_flush().await?;
    if let Some(note) = note {
        note.own_log_is_empty().await?;
    }

    let record = workflow.unlink_events(&actor, &stand_ins, clock.now()).await?;
    let erasure = Erasure {
        municipality: args.municipality.clone(),
        stand_ins: stand_ins.clone(),
        removed_from: BEHAVIOUR.map(str::to_owned).into(),
    };
    let tables = lake.erase(&erasure, clock.now()).await?;
    // Days of app usage are made again from what is left. Other nodes delete theirs when they start (`tidy_rollups`).
    let rollups_dir = config.data.join(ROLLUPS);
    forget_rollups(&rollups_dir, &args.municipality)
        .with_context(|| format!("{} cannot be emptied", rollups_dir.display()))?;
    let log_dir = config.data.join(INGEST);
    let mut searched = search(location, log_dir, rollups_dir, stand_ins.keys().copied().collect()).await?;
    let log = workflow.reread_events(&actor, &stand_ins).await?;
    let named = if log.naming > 0 { vec![format!("{} events of the record", log.naming)] } else { Vec::new() };
    searched.insert("record", Searched { files: 0, rows: log.events, found: named });
    let found: Vec<&String> = searched.values().flat_map(|searched| &searched.found).collect();
    anyhow::ensure!(found.is_empty(), "still named in {found:?}: nothing is certified, the key is kept; try again");

    let certificate = Certificate {
        title: "データ消去証明書",
        certificate_id: uuid::Uuid::now_v7().to_string(),
        municipality_code: args.municipality.clone(),
        number: args.number.clone(),
        role: args.role,
        erased_at: clock.now(),
        keys: stand_ins.len(),
        record,
        tables,
        searched,
        statement: STATEMENT,
    };
    let text = serde_json::to_string_pretty(&certificate)?;
    let digest = hex::encode(Sha256::digest(text.as_bytes()));
    let mut file = File::create_new(&args.certificate)
        .with_context(|| format!("{} cannot be written", args.certificate.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // Last, so that whatever is cut off before can be done again with the key.
    workflow.renew_keys(&actor, &stand_ins, &certificate.certificate_id, clock.now()).await?;
    store.close().await;
    if store.kind() == DbKind::Sqlite {
        let keys: Vec<i64> = stand_ins.into_keys().collect();
        let is_gone = purge_sqlite(&config.data.join("record.sqlite"), &keys).await.context(LEFT_IN_FILE)?;
        anyhow::ensure!(is_gone, LEFT_IN_FILE);
    }
    Ok(format!(
        "erased; certificate {} (SHA-256 {digest}) in {}\n",
        certificate.certificate_id,
        args.certificate.display()
    ))
}
