//! The lake away from the data folder, through the real binary: in a bucket of an S3-compatible server, and in a
//! folder that several nodes write.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use todoke_tests::{
    object_store::{self, ObjectStore},
    process::signal,
    todoke::{DemoOptions, Todoke, cli_with, command_over},
    wait::eventually,
};

use crate::scene::{Scene, text};

const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) type Settings<'a> = &'a [(&'a str, String)];

async fn answer(data: &Path, arguments: &[&str], settings: Settings<'_>) -> Value {
    let printed = cli_with(data, arguments, settings).await.success();
    serde_json::from_str(&printed).expect("JSON on standard output")
}

pub(crate) async fn rows(data: &Path, town: &str, query: &str, settings: Settings<'_>) -> Vec<Vec<Value>> {
    let asked = ["sql", query, "--municipality", town, "--format", "json"];
    serde_json::from_value(answer(data, &asked, settings).await["rows"].clone()).expect("rows")
}

/// A month before the demo's history begins to the day after today.
async fn period(todoke: &Todoke) -> (String, String) {
    let analyst = todoke.sign_in("analyst").await;
    let now = text(&analyst.get("/v1/session").await.expect(200), "server_time");
    let today = now.parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    let day = |days: i64| today.saturating_add(jiff::Span::new().days(days)).to_string();
    (day(-70), day(1))
}

/// What R01 says was used, and what the record says.
async fn used(data: &Path, town: &str, (from, to): (&str, &str), settings: Settings<'_>) -> (i64, i64) {
    let asked = ["report", "statistics_simple", "--municipality", town, "--from", from, "--to", to, "--format", "json"];
    let report = answer(data, &asked, settings).await;
    let columns = report["columns"].as_array().unwrap();
    let at = columns.iter().position(|column| column["name"] == "used_yen").expect("used_yen in R01");
    let value = &report["rows"][0][at];
    let reported = value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{report}"));
    let url = format!("sqlite://{}", data.join("record.sqlite").display());
    let mut record = SqliteConnection::connect(&url).await.unwrap();
    let booked: (i64,) = sqlx::query_as(
        "SELECT COALESCE(SUM(amount_yen), 0) FROM coupon_use WHERE municipality_code = $1 AND state = 'settled'",
    )
    .bind(town)
    .fetch_one(&mut record)
    .await
    .unwrap();
    (reported, booked.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_are_in_the_bucket_once_after_kills_and_the_report_equals_the_record() {
    let store = ObjectStore::start(&["lake"]).await;
    let settings = store.settings("s3://lake/city");
    let dir = TempDir::with_prefix("todoke-bucket-").unwrap();
    let mut todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let (town, data) = (todoke.municipality(), todoke.data_dir().to_path_buf());
    let (from, to) = period(&todoke).await;
    let period = (from.as_str(), to.as_str());
    let mut scene = Scene::of(&todoke).await;
    let (guardian, staff) = (scene.guardian.bearer().unwrap().to_owned(), scene.staff.bearer().unwrap().to_owned());
    let mut paid: BTreeSet<String> = BTreeSet::new();
    for round in 0..3 {
        for n in 0..5 {
            paid.insert(text(&scene.pay(&format!("bucket-{round}-{n}"), 1).await.expect(201), "use_id"));
        }
        todoke.kill().await;
        todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
        scene.guardian = todoke.client().with_bearer(&guardian);
        scene.staff = todoke.client().with_bearer(&staff);
    }
    todoke.stop().await;
    assert!(!data.join("lake").exists(), "nothing of the lake is in the data folder");
    assert!(!store.keys("lake", "city/coupon/_delta_log/").await.is_empty());

    let query = "SELECT use_id, COUNT(*) FROM events_coupon WHERE event_type = 'coupon.used' AND amount_yen = 1 GROUP BY use_id";
    let found = rows(&data, &town, query, &settings).await;
    let times: BTreeMap<String, i64> =
        found.iter().map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_i64().unwrap())).collect();
    assert!(times.values().all(|n| *n == 1), "{times:?}");
    assert_eq!(times.into_keys().collect::<BTreeSet<_>>(), paid);
    let (reported, booked) = used(&data, &town, period, &settings).await;
    assert_eq!(reported, booked, "R01 and the record");
    assert!(booked >= 15, "{booked}");
    let sound = cli_with(&data, &["lake", "verify"], &settings).await.success();
    assert!(sound.ends_with("sound\n"), "{sound}");
    cli_with(&data, &["lake", "compact"], &settings).await.success();
    let after = used(&data, &town, period, &settings).await;
    assert_eq!(after, (reported, booked), "compaction changes no figure");

    let doctor = cli_with(&data, &["doctor"], &settings).await.success();
    assert!(doctor.contains("lake     ok") && doctor.contains("s3://lake/city/"), "{doctor}");
    let config = cli_with(&data, &["config"], &settings).await.success();
    assert!(config.contains("url = \"s3://lake/city\"") && !config.contains(object_store::SECRET), "{config}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_lake_in_a_bucket_is_restored_into_another_bucket_and_into_a_folder() {
    let store = ObjectStore::start(&["lake", "other"]).await;
    let settings = store.settings("s3://lake/city");
    let dir = TempDir::with_prefix("todoke-bucket-").unwrap();
    let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let (town, data) = (todoke.municipality(), todoke.data_dir().to_path_buf());
    let period = period(&todoke).await;
    let period = (period.0.as_str(), period.1.as_str());
    let scene = Scene::of(&todoke).await;
    scene.pay("backed-up", 7).await.expect(201);
    let backup = dir.path().join("backup");
    let backup = backup.to_str().unwrap();
    cli_with(&data, &["backup", "--to", backup], &settings).await.success();
    todoke.stop().await;
    let before = used(&data, &town, period, &settings).await;

    let there = dir.path().join("there");
    let elsewhere = store.settings("s3://other/city");
    cli_with(&there, &["restore", "--from", backup], &elsewhere).await.success();
    assert_eq!(used(&there, &town, period, &elsewhere).await, before, "in another bucket");
    assert!(!there.join("lake").exists());
    let here = dir.path().join("here");
    cli_with(&here, &["restore", "--from", backup], &[]).await.success();
    assert_eq!(used(&here, &town, period, &[]).await, before, "in the data folder");
    let over = cli_with(&dir.path().join("over"), &["restore", "--from", backup], &elsewhere).await;
    assert!(!over.status.success() && over.stderr.contains("holds something already"), "{}", over.stderr);
}

/// A lake is never made where it would not be safe, and the sentence says what is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_and_server_say_what_is_wrong_with_a_bucket() {
    let store = ObjectStore::start(&["lake"]).await;
    let dir = TempDir::with_prefix("todoke-bucket-").unwrap();
    // A port that was free a moment ago, and nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (settings, said) in [
        (store.settings("s3://nowhere/city"), "there is no bucket `nowhere`"),
        (object_store::settings("s3://lake/city", port), "the object store with the bucket `lake` does not answer"),
        (store.settings("gs://lake/city"), "lake.url must be"),
        (store.settings("s3://lake/a b"), "lake.url cannot be used"),
    ] {
        for command in [&["doctor"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let refused = cli_with(&dir.path().join("data"), command, &settings).await;
            assert!(!refused.status.success() && refused.stderr.contains(said), "{command:?}: {}", refused.stderr);
            assert!(!refused.stderr.contains(object_store::SECRET), "{}", refused.stderr);
        }
    }
}

/// A view of long ago.
fn view(n: u32) -> Value {
    json!({
        "event_id": format!("019a0000-0000-7000-8000-{n:012}"), "event_type": "app.screen_viewed",
        "occurred_at": format!("2019-04-{:02}T03:00:{:02}Z", 1 + n % 10, n % 60), "session_id": "history",
        "screen_id": "G01", "dwell_ms": n, "actor_role": "guardian", "actor_key": 4_711, "source_channel": "app",
    })
}

/// Several pieces of a file each.
const MANY: u32 = 160_000;
const COUNT: &str = "SELECT COUNT(*), COUNT(DISTINCT event_id) FROM events_app WHERE session_id = 'history'";

/// Two nodes, each with a data folder of its own, load history into the same tables at once; one of them is killed.
async fn two_nodes_load_at_once(dir: &Path, settings: Settings<'_>, n_commits: impl AsyncFn() -> usize) {
    let todoke = Todoke::demo_in_with(dir, DemoOptions::small(), settings).await;
    let (town, first) = (todoke.municipality(), todoke.data_dir().to_path_buf());
    todoke.stop().await;
    let second = dir.join("second");
    let copied = std::process::Command::new("cp").arg("-r").arg(&first).arg(&second).status().unwrap();
    assert!(copied.success());
    let file = |name: &str, numbers: std::ops::Range<u32>| {
        let text: String = numbers.map(|n| format!("{}\n", view(n))).collect();
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (a, b) = (file("a.ndjson", 0..MANY), file("b.ndjson", MANY..2 * MANY));
    let before = n_commits().await;
    let run = |data: &Path, path: &str| {
        let mut command = command_over(data, &["ingest", path, "--municipality", &town]);
        command.envs(settings.iter().map(|(name, value)| (*name, value.as_str())));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (mut one, mut other) = (run(&first, &a), run(&second, &b));
    eventually("pieces are committed", PATIENCE, async || (n_commits().await > before + 1).then_some(())).await;
    signal(other.id().expect("it is waited for below"), "KILL");
    other.wait().await.unwrap();
    assert!(one.wait().await.unwrap().success(), "the other node does not notice");
    cli_with(&second, &["ingest", &b, "--municipality", &town], settings).await.success();
    for data in [&first, &second] {
        assert_eq!(rows(data, &town, COUNT, settings).await, [[json!(2 * MANY), json!(2 * MANY)]]);
    }
    for (data, path, said) in [(&second, &a, "a.ndjson"), (&first, &b, "b.ndjson")] {
        let again = cli_with(data, &["ingest", path, "--municipality", &town], settings).await.success();
        assert_eq!(again, format!("{said}: already taken\n"), "by whichever node");
    }
    let sound = cli_with(&first, &["lake", "verify"], settings).await.success();
    assert!(sound.ends_with("sound\n"), "{sound}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_and_a_kill_lose_and_double_nothing_in_a_bucket() {
    let store = ObjectStore::start(&["lake"]).await;
    let dir = TempDir::with_prefix("todoke-nodes-").unwrap();
    let settings = store.settings("s3://lake/city");
    let n_commits = async || {
        let keys = store.keys("lake", "city/app/_delta_log/").await;
        keys.iter().filter(|key| key.ends_with(".json")).count()
    };
    two_nodes_load_at_once(dir.path(), &settings, n_commits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_and_a_kill_lose_and_double_nothing_in_a_folder() {
    let dir = TempDir::with_prefix("todoke-nodes-").unwrap();
    let lake = dir.path().join("shared");
    let settings = [("TODOKE_LAKE__URL", format!("file://{}", lake.display()))];
    let n_commits = async || {
        let entries = std::fs::read_dir(lake.join("app/_delta_log")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).count()
    };
    two_nodes_load_at_once(dir.path(), &settings, n_commits).await;
}

/// What another node's log may hold is never certified as gone, and a backup has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_erased_while_another_node_runs_or_was_killed() {
    let dir = TempDir::with_prefix("todoke-nodes-").unwrap();
    let shared = dir.path().join("shared");
    let settings = [("TODOKE_LAKE__URL", format!("file://{}", shared.display()))];
    let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let (town, first) = (todoke.municipality(), todoke.data_dir().to_path_buf());
    let email = todoke.account("guardian").email;
    let notes = shared.join("nodes");
    let noted = || std::fs::read_dir(&notes).map_or(0, Iterator::count);
    assert_eq!(noted(), 1, "a server says that it runs");
    todoke.stop().await;
    assert_eq!(noted(), 0, "and that its log is empty");

    // A second node: the same city with a log of its own.
    let elsewhere = dir.path().join("elsewhere");
    let second = elsewhere.join("data");
    std::fs::create_dir(&elsewhere).unwrap();
    let copied = std::process::Command::new("cp").arg("-r").arg(&first).arg(&second).status().unwrap();
    assert!(copied.success());
    std::fs::remove_dir_all(second.join("ingest")).unwrap();
    let other = Todoke::demo_in_with(&elsewhere, DemoOptions::small(), &settings).await;
    let certificate = dir.path().join("certificate.json");
    let erase = ["lake", "erase", &email, "--municipality", &town, "--certificate", certificate.to_str().unwrap()];
    let (kept, unmade) = (dir.path().join("kept"), dir.path().join("unmade"));
    let refused = async |when: &str| {
        let refused = cli_with(&first, &erase, &settings).await;
        let said = refused.stderr.contains("logs of other nodes") && refused.stderr.contains("elsewhere/data");
        assert!(!refused.status.success() && said, "{when}: {}", refused.stderr);
        assert!(!certificate.exists());
    };
    refused("while it runs").await;
    let printed = cli_with(&first, &["backup", "--to", kept.to_str().unwrap()], &settings).await.success();
    assert!(printed.contains("with the log") && printed.contains("elsewhere/data"), "{printed}");
    other.kill().await;
    refused("after it was killed").await;
    Todoke::demo_in_with(&elsewhere, DemoOptions::small(), &settings).await.stop().await;

    // Nothing begins while somebody is being erased, and nobody is erased while a backup copies.
    let backup = ["backup", "--to", unmade.to_str().unwrap()];
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let commands = [(&second, &serve[..]), (&first, &erase[..]), (&first, &backup[..])];
    for (note, text, commands) in [
        ("erasing", "host-3:/srv/todoke", &commands[..]),
        ("backup", r#"{"id": "1", "place": "host-3:/srv/todoke"}"#, &commands[1..]),
    ] {
        std::fs::write(notes.join(note), text).unwrap();
        for (data, command) in commands {
            let refused = cli_with(data, command, &settings).await;
            assert!(!refused.status.success() && refused.stderr.contains("host-3:/srv/todoke"), "{}", refused.stderr);
        }
        assert_eq!(noted(), 1, "who was refused leaves no note");
        std::fs::remove_file(notes.join(note)).unwrap();
    }
    assert!(!unmade.exists());
    cli_with(&first, &erase, &settings).await.success();
    assert!(certificate.exists());
    assert_eq!(noted(), 0);
}
