//! `todoke backup` and `todoke restore` with the real binary: beside a busy server, to one point, on both databases.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use todoke_store::{Durability, Store, Wall};
use todoke_tests::{
    postgres,
    todoke::{DemoOptions, Todoke, cli_over, cli_with},
};

use crate::{
    scene::{Scene, text},
    usage::visit,
};

/// Actions answered before the backup begins, at most while it runs, and after it.
const BEFORE: u32 = 40;
const DURING_MAX: u32 = 400;
const AFTER: u32 = 5;
/// Actions on the restored server have numbers from here.
const RESTORED: u32 = 10_000;

type Settings<'a> = &'a [(&'a str, String)];

/// A payment of one yen and a visit of the app, both answered. Gives the use.
async fn act(scene: &Scene, n: u32) -> String {
    let paid = scene.pay(&format!("backup-{n}"), 1).await.expect(201);
    assert_eq!(report(scene, n).await["accepted"], 2);
    text(&paid, "use_id")
}

async fn report(scene: &Scene, n: u32) -> Value {
    scene.guardian.post("/v1/usage", &json!({"device_key": 4_711, "events": visit(n)})).await.expect(202)
}

async fn epoch(data: &Path, schema: Option<&str>) -> String {
    let store = match schema {
        None => Store::open_sqlite(&data.join("record.sqlite"), Durability::Full).await.unwrap(),
        Some(schema) => Store::open_postgres(postgres::shared_url(), schema, 2).await.unwrap(),
    };
    let mut tx = store.begin_read(Wall::None).await.unwrap();
    let instance = tx.instance().await.unwrap().expect("a record has an identity");
    drop(tx);
    store.close().await;
    instance.epoch
}

pub(crate) async fn drop_schema(schema: &str) {
    let mut connection = PgConnection::connect(postgres::shared_url()).await.unwrap();
    let drop = format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE");
    sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await.unwrap();
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Two columns of a query over the lake, the second a number.
async fn counted(data: &Path, town: &str, query: &str, settings: Settings<'_>) -> BTreeMap<String, i64> {
    let asked = ["sql", query, "--municipality", town, "--format", "json"];
    let answer: Value = serde_json::from_str(&cli_with(data, &asked, settings).await.success()).unwrap();
    let rows = answer["rows"].as_array().expect("rows").iter();
    rows.map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_i64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_a_busy_server_is_one_point_in_time() {
    one_point(&[], None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_with_the_record_on_postgresql() {
    let schema = format!("todoke_backup_{}", std::process::id());
    let settings = [
        ("TODOKE_RECORD__URL", postgres::shared_url().to_owned()),
        ("TODOKE_RECORD__SCHEMA", schema.clone()),
        ("TODOKE_RECORD__PROGRAMS", path(&postgres::programs().unwrap()).to_owned()),
    ];
    drop_schema(&schema).await;
    one_point(&settings, Some(&schema)).await;
    drop_schema(&schema).await;
}

async fn one_point(settings: Settings<'_>, schema: Option<&str>) {
    let dir = TempDir::with_prefix("todoke-backup-").unwrap();
    let (old, new, kept) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("kept"));
    std::fs::create_dir(&old).unwrap();
    std::fs::create_dir(&new).unwrap();
    let todoke = Todoke::demo_in_with(&old, DemoOptions::small(), settings).await;
    let mut scene = Scene::of(&todoke).await;
    scene.guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    let (town, opening) = (todoke.municipality(), scene.balance());
    let bearers = [&scene.guardian, &scene.staff].map(|client| client.bearer().unwrap().to_owned());
    let mut acknowledged = BTreeMap::new();
    for n in 1..=BEFORE {
        acknowledged.insert(n, act(&scene, n).await);
    }
    let data = old.join("data");
    let done = AtomicBool::new(false);
    let backup = async {
        let printed = cli_with(&data, &["backup", "--to", path(&kept)], settings).await;
        done.store(true, Ordering::Relaxed);
        printed.success()
    };
    let load = async {
        let mut during = BTreeMap::new();
        for n in (BEFORE + 1..=BEFORE + DURING_MAX).take_while(|_| !done.load(Ordering::Relaxed)) {
            during.insert(n, act(&scene, n).await);
        }
        during
    };
    let (printed, during) = tokio::join!(backup, load);
    assert!(printed.contains(" files, "), "{printed}");
    assert!(!during.is_empty(), "nothing happened beside the backup");
    acknowledged.extend(during);
    let last = *acknowledged.last_key_value().unwrap().0;
    for n in last + 1..=last + AFTER {
        acknowledged.insert(n, act(&scene, n).await);
    }
    let epoch_before = epoch(&data, schema).await;
    todoke.kill().await;

    cli_over(&data, &["backup", "--verify", path(&kept)]).await.success();
    let data = new.join("data");
    let restore = ["restore", "--from", path(&kept)];
    if let Some(schema) = schema {
        let refused = cli_with(&data, &restore, settings).await;
        assert!(!refused.status.success() && refused.stderr.contains("is not empty"), "{}", refused.stderr);
        drop_schema(schema).await;
    }
    let restored = cli_with(&data, &restore, settings).await.success();
    assert!(restored.ends_with("sound\n"), "{restored}");
    assert_ne!(epoch(&data, schema).await, epoch_before, "positions from before the restore must not be believed");

    let todoke = Todoke::demo_in_with(&new, DemoOptions::small(), settings).await;
    let [guardian, staff] = bearers.map(|bearer| todoke.client().with_bearer(&bearer));
    (scene.guardian, scene.staff) = (guardian, staff);
    let mut expected = recorded(&scene, &acknowledged, last, opening).await;
    for n in [1, BEFORE] {
        assert_eq!(report(&scene, n).await["duplicates"], 2, "visit {n} is known");
    }
    // What comes after a restore gets numbers that the server of before may have given to something else.
    for n in RESTORED..RESTORED + AFTER {
        expected.insert(act(&scene, n).await);
    }
    todoke.stop().await;
    let verified = cli_with(&data, &["lake", "verify"], settings).await.success();
    assert!(verified.ends_with("sound\n"), "{verified}");

    in_lake(&data, &town, settings, last, &expected).await;
}

/// The lake holds the uses of the record and the visits that were answered, each once.
async fn in_lake(data: &Path, town: &str, settings: Settings<'_>, last_during: u32, expected: &BTreeSet<String>) {
    let uses = "SELECT use_id, COUNT(*) FROM events_coupon WHERE event_type = 'coupon.used' AND amount_yen = 1 GROUP BY use_id";
    let uses = counted(data, town, uses, settings).await;
    assert!(uses.values().all(|n| *n == 1), "{uses:?}");
    assert_eq!(uses.into_keys().collect::<BTreeSet<_>>(), *expected, "lake and record");
    let visits = "SELECT session_id, COUNT(*) FROM events_app WHERE session_id LIKE 'session-%' GROUP BY session_id";
    let visits = counted(data, town, visits, settings).await;
    for n in (1..=BEFORE).chain(RESTORED..RESTORED + AFTER) {
        assert_eq!(visits.get(&format!("session-{n}")), Some(&2), "visit {n}");
    }
    for n in BEFORE + 1..=last_during {
        assert!(matches!(visits.get(&format!("session-{n}")), None | Some(2)), "visit {n}");
    }
}

/// The uses that the restored record holds: all from before the backup, none from after it, each told once and paid.
async fn recorded(
    scene: &Scene,
    acknowledged: &BTreeMap<u32, String>,
    last_during: u32,
    opening: i64,
) -> BTreeSet<String> {
    let told = scene.uses_told().await;
    let times = |use_id: &String| told.iter().filter(|told| *told == use_id).count();
    for (n, use_id) in acknowledged {
        match times(use_id) {
            1 => assert!(*n <= last_during, "{n} came after the backup"),
            0 => assert!(*n > BEFORE, "{n} was acknowledged before the backup began"),
            more => panic!("{more} messages about {n}"),
        }
    }
    let kept: BTreeSet<String> = acknowledged.values().filter(|use_id| times(use_id) == 1).cloned().collect();
    let spent = i64::try_from(kept.len()).unwrap();
    assert_eq!(scene.balance_now().await, opening - spent, "balance and messages");
    kept
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_backup_and_an_occupied_folder_are_refused() {
    let dir = TempDir::with_prefix("todoke-backup-").unwrap();
    let (kept, empty) = (dir.path().join("kept"), dir.path().join("empty"));
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let data = todoke.data_dir().to_path_buf();
    let backup = ["backup", "--to", path(&kept)];
    cli_over(&data, &backup).await.success();
    let again = cli_over(&data, &backup).await;
    assert!(!again.status.success() && again.stderr.contains("is not empty"), "{}", again.stderr);
    for file in files_below(&kept) {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} can be read by others", file.display());
    }
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);

    let restore = ["restore", "--from", path(&kept)];
    let beside = cli_over(&data, &restore).await;
    assert!(!beside.status.success() && beside.stderr.contains("a server runs"), "{}", beside.stderr);
    todoke.stop().await;
    let over = cli_over(&data, &restore).await;
    assert!(!over.status.success() && over.stderr.contains("already"), "{}", over.stderr);

    let record = kept.join("record.sqlite");
    let whole = std::fs::read(&record).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&record, &flipped).unwrap();
    refused(&kept, &empty, "record.sqlite is not what was backed up").await;
    std::fs::write(&record, &whole).unwrap();

    let rows = files_below(&kept.join("lake")).into_iter().find(|file| !file.to_string_lossy().contains("_delta_log"));
    let rows = rows.expect("a demo has rows in its lake");
    std::fs::rename(&rows, dir.path().join("aside")).unwrap();
    refused(&kept, &empty, rows.file_name().unwrap().to_str().unwrap()).await;
    std::fs::rename(dir.path().join("aside"), &rows).unwrap();

    std::fs::rename(kept.join("manifest.json"), dir.path().join("aside")).unwrap();
    refused(&kept, &empty, "manifest.json cannot be read").await;
    std::fs::rename(dir.path().join("aside"), kept.join("manifest.json")).unwrap();
    let restored = cli_over(&empty, &restore).await.success();
    assert!(restored.ends_with("sound\n"), "{restored}");
}

/// The check and the restore both refuse, naming the file, and the restore leaves nothing behind.
async fn refused(kept: &Path, empty: &Path, named: &str) {
    for asked in [["backup", "--verify", path(kept)], ["restore", "--from", path(kept)]] {
        let output = cli_over(empty, &asked).await;
        assert!(!output.status.success() && output.stderr.contains(named), "{}: {}", asked[0], output.stderr);
    }
    assert!(!empty.exists() || files_below(empty).is_empty());
}
