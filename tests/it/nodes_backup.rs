//! A backup of one of two nodes that share a PostgreSQL record and a lake: it holds what the other one has acknowledged,
//! or says that it does not.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use todoke_tests::{
    http::Client,
    object_store::ObjectStore,
    postgres,
    todoke::{DemoOptions, Output, Todoke, cli_with},
};

use crate::{
    backup::drop_schema,
    lake_places::{Settings, rows},
    scene::Scene,
    usage::visit,
};

const LAKE_URL: &str = "TODOKE_LAKE__URL";

/// Visits that only the second node was told of, before a backup and after it.
const BEFORE: std::ops::Range<u32> = 1..6;
const AFTER: std::ops::Range<u32> = 6..9;

/// Two nodes with a data folder each.
struct Nodes {
    dir: TempDir,
    schema: String,
    settings: Vec<(&'static str, String)>,
    town: String,
    guardian: String,
}

impl Nodes {
    /// A city with both data folders, and nobody running; the lake is in a folder or in the bucket `lake`. Nothing
    /// goes to it because of its age.
    async fn prepared(name: &str, bucket: Option<&ObjectStore>) -> Self {
        let dir = TempDir::with_prefix("todoke-nodes-").unwrap();
        let schema = format!("todoke_{name}_{}", std::process::id());
        drop_schema(&schema).await;
        let folder = || vec![(LAKE_URL, format!("file://{}", dir.path().join("shared").display()))];
        let mut settings = bucket.map_or_else(folder, |store| store.settings("s3://lake/shared"));
        settings.extend([
            ("TODOKE_LAKE__FLUSH_AGE_MS_MAX", "86400000".to_owned()),
            ("TODOKE_RECORD__URL", postgres::shared_url().to_owned()),
            ("TODOKE_RECORD__SCHEMA", schema.clone()),
            ("TODOKE_RECORD__PROGRAMS", postgres::programs().unwrap().to_str().unwrap().to_owned()),
        ]);
        for node in ["first", "second"] {
            std::fs::create_dir(dir.path().join(node)).unwrap();
        }
        let demo = Todoke::demo_in_with(&dir.path().join("first"), DemoOptions::small(), &settings).await;
        let (town, scene) = (demo.municipality(), Scene::of(&demo).await);
        scene.guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await.expect(204);
        let guardian = scene.guardian.bearer().unwrap().to_owned();
        demo.stop().await;
        Self { dir, schema, settings, town, guardian }
    }

    async fn serve(&self, node: &str) -> Todoke {
        Todoke::serve_in_with(&self.dir.path().join(node), &self.settings).await
    }

    fn data(&self, node: &str) -> PathBuf {
        self.dir.path().join(node).join("data")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// What the nodes have noted at the lake in the folder.
    fn notes(&self) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(self.dir.path().join("shared/nodes")).unwrap().map(Result::unwrap);
        entries
            .filter_map(|note| {
                Some((note.file_name().into_string().unwrap(), std::fs::read_to_string(note.path()).ok()?))
            })
            .collect()
    }

    /// The name of a node's log.
    fn log_of(&self, node: &str) -> String {
        let place = self.place_of(node);
        let notes = self.notes();
        let note = notes.iter().find(|(_, text)| text.ends_with(&place));
        note.unwrap_or_else(|| panic!("{node} is not among {notes:?}")).0.clone()
    }

    /// How a node's place ends; the host's name stands before it.
    fn place_of(&self, node: &str) -> String {
        format!(":{}", self.data(node).canonicalize().unwrap().display())
    }

    async fn forget(&self, node: &str, more: &[&str]) -> Output {
        let command = [&["lake", "forget-node", node][..], more].concat();
        cli_with(&self.data("first"), &command, &self.settings).await
    }

    /// The nodes that the record says were forgotten, by the names of their logs, each with its municipality.
    async fn forgotten(&self) -> Vec<(String, String)> {
        let mut record = PgConnection::connect(postgres::shared_url()).await.unwrap();
        let query = format!(
            "SELECT municipality_code, body FROM \"{}\".event WHERE event_type = 'access.audited'",
            self.schema
        );
        let events: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(query)).fetch_all(&mut record).await.unwrap();
        let named = events.into_iter().filter_map(|(town, body)| {
            let event: todoke_domain::Event = serde_json::from_str(&body).unwrap();
            (event.payload["what"] == "node_forgotten").then_some((event.subject_id, town))
        });
        named.collect()
    }

    async fn back_up(&self, to: &str, more: &[&str]) -> Output {
        let path = self.path(to);
        let command = [&["backup", "--to", &path][..], more].concat();
        cli_with(&self.data("first"), &command, &self.settings).await
    }

    /// Restores a backup into a schema, a lake and a data folder that are new. Gives what was printed and where the
    /// data are, with their settings.
    async fn restore(&self, from: &str) -> (String, PathBuf, Vec<(&'static str, String)>) {
        drop_schema(&self.schema).await;
        let data = self.dir.path().join(format!("{from}-restored"));
        let mut settings = self.settings.clone();
        let (_, url) = settings.iter_mut().find(|(name, _)| *name == LAKE_URL).expect("a lake");
        *url = match url.strip_suffix("/shared") {
            Some(above) => format!("{above}/{from}-lake"),
            None => panic!("a lake at {url}"),
        };
        let printed = cli_with(&data, &["restore", "--from", &self.path(from)], &settings).await.success();
        (printed, data, settings)
    }
}

async fn report(who: &Client, visits: std::ops::Range<u32>) {
    for n in visits {
        let sent = json!({"device_key": 4_711, "events": visit(n)});
        assert_eq!(who.post("/v1/usage", &sent).await.expect(202)["accepted"], 2, "visit {n}");
    }
}

/// How often each of the visits is in a lake.
async fn visits_in(data: &Path, town: &str, settings: Settings<'_>) -> Vec<(String, i64)> {
    let query =
        "SELECT session_id, COUNT(*) FROM events_app WHERE session_id LIKE 'session-%' GROUP BY session_id ORDER BY 1";
    let found = rows(data, town, query, settings).await;
    found.iter().map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_i64().unwrap())).collect()
}

/// Two events of each visit.
fn all_of(visits: std::ops::Range<u32>) -> Vec<(String, i64)> {
    visits.map(|n| (format!("session-{n}"), 2)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_holds_what_waits_in_the_log_of_another_node_that_runs() {
    let store = ObjectStore::start(&["lake"]).await;
    let nodes = Nodes::prepared("asked", Some(&store)).await;
    let (one, other) = (nodes.serve("first").await, nodes.serve("second").await);
    let there = other.client().with_bearer(&nodes.guardian);
    report(&there, BEFORE).await;
    let unseen = visits_in(&nodes.data("first"), &nodes.town, &nodes.settings).await;
    assert!(unseen.is_empty(), "they are in the log of the other node only: {unseen:?}");
    let printed = nodes.back_up("kept", &[]).await.success();
    for node in ["first", "second"] {
        let with = |line: &str| line.starts_with("with the log ") && line.ends_with(&nodes.place_of(node));
        assert!(printed.lines().any(with), "{node}: {printed}");
    }
    assert!(!printed.contains("without"), "{printed}");
    let noted = store.keys("lake", "shared/nodes/").await;
    assert!(!noted.contains(&"shared/nodes/backup".to_owned()), "it is over: {noted:?}");
    // So that the restored lake shows to which point it was brought.
    report(&there, AFTER).await;
    other.kill().await;
    one.kill().await;

    let (restored, data, settings) = nodes.restore("kept").await;
    assert!(restored.ends_with("sound\n"), "{restored}");
    assert_eq!(visits_in(&data, &nodes.town, &settings).await, all_of(BEFORE));
    let verified = cli_with(&data, &["lake", "verify"], &settings).await.success();
    assert!(verified.contains("complete: all logs (2)") && verified.ends_with("\nsound\n"), "{verified}");
    drop_schema(&nodes.schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_without_the_log_of_a_killed_node_is_refused_unless_it_is_asked_for_and_then_says_so() {
    let nodes = Nodes::prepared("killed", None).await;
    let (one, other) = (nodes.serve("first").await, nodes.serve("second").await);
    report(&other.client().with_bearer(&nodes.guardian), BEFORE).await;
    let log = nodes.log_of("second");
    other.kill().await;

    let refused = nodes.back_up("kept", &["--wait", "1"]).await;
    assert!(!refused.status.success(), "{}", refused.stdout);
    for named in [nodes.place_of("second").as_str(), &log, "--without"] {
        assert!(refused.stderr.contains(named), "{named}: {}", refused.stderr);
    }
    assert!(
        !refused.stderr.contains(&nodes.place_of("first")),
        "this node's own log is no other's: {}",
        refused.stderr
    );
    let left = ["kept", "kept.partial"].map(|name| Path::new(&nodes.path(name)).exists());
    assert_eq!(left, [false, false]);
    assert!(!nodes.notes().contains_key("backup"));
    let unknown = nodes.back_up("kept", &["--without", "host-3:/srv/todoke"]).await;
    assert!(!unknown.status.success() && unknown.stderr.contains("host-3:/srv/todoke"), "{}", unknown.stderr);

    let said = format!("without what waited in the log {log} of ");
    let printed = nodes.back_up("kept", &["--without", &log]).await.success();
    assert!(printed.contains(&said), "{printed}");
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(nodes.path("kept/manifest.json")).unwrap()).unwrap();
    let listed = manifest["nodes"].as_array().unwrap();
    let of_second = listed.iter().find(|node| node["log"] == log.as_str()).unwrap_or_else(|| panic!("{manifest}"));
    assert_eq!((listed.len(), &of_second["through"]), (2, &Value::Null), "{manifest}");
    let checked = cli_with(&nodes.data("first"), &["backup", "--verify", &nodes.path("kept")], &nodes.settings).await;
    let checked = checked.success();
    assert!(checked.contains(&said), "{checked}");

    // Started again it answers; stopped with an empty log it need not.
    nodes.serve("second").await.stop().await;
    let whole = nodes.back_up("whole", &["--wait", "1"]).await.success();
    assert!(!whole.contains("without"), "{whole}");
    one.stop().await;

    let (restored, data, settings) = nodes.restore("kept").await;
    assert!(restored.contains(&said) && restored.ends_with("sound, but for what it is without\n"), "{restored}");
    assert!(visits_in(&data, &nodes.town, &settings).await.is_empty());
    let verified = cli_with(&data, &["lake", "verify"], &settings).await.success();
    assert!(verified.contains(&said) && !verified.contains("complete:"), "{verified}");
    let again = cli_with(&data, &["backup", "--to", &nodes.path("again")], &settings).await.success();
    assert!(again.contains(&said), "what is lacking once is lacking in every backup from there on: {again}");
    let (restored, data, settings) = nodes.restore("whole").await;
    assert!(restored.ends_with("\nsound\n"), "{restored}");
    assert_eq!(visits_in(&data, &nodes.town, &settings).await, all_of(BEFORE));
    drop_schema(&nodes.schema).await;
}

/// Its note would stand in the way of every erasure and backup for ever; while it runs, or may be started, it is no one's
/// to take away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_for_good_is_forgotten_when_somebody_says_so_and_not_while_it_runs() {
    let nodes = Nodes::prepared("forgotten", None).await;
    let (one, other) = (nodes.serve("first").await, nodes.serve("second").await);
    report(&other.client().with_bearer(&nodes.guardian), BEFORE).await;
    let (own, log) = (nodes.log_of("first"), nodes.log_of("second"));
    let running = nodes.forget(&log, &["--yes"]).await;
    assert!(!running.status.success() && running.stderr.contains("runs"), "{}", running.stderr);
    assert!(running.stderr.contains(&nodes.place_of("second")), "{}", running.stderr);
    let here = nodes.forget(&own, &["--yes"]).await;
    assert!(!here.status.success() && here.stderr.contains("is here"), "{}", here.stderr);
    let unknown = nodes.forget("host-3:/srv/todoke", &["--yes"]).await;
    assert!(!unknown.status.success() && unknown.stderr.contains("host-3:/srv/todoke"), "{}", unknown.stderr);
    other.kill().await;

    let place = nodes.notes()[&log].clone();
    let asked = nodes.forget(&place, &["--wait", "3"]).await;
    assert!(!asked.status.success(), "{}", asked.stdout);
    for said in [place.as_str(), &log, "lost", "--yes"] {
        assert!(asked.stderr.contains(said), "{said}: {}", asked.stderr);
    }
    assert!(nodes.notes().contains_key(&log), "nobody said so yet");
    assert!(nodes.forgotten().await.is_empty());
    let done = nodes.forget(&place, &["--wait", "3", "--yes"]).await.success();
    assert!(done.contains(&place) && done.contains(&log), "{done}");
    let notes = nodes.notes();
    assert!(notes.contains_key(&own) && !notes.contains_key(&log) && !notes.contains_key("backup"), "{notes:?}");
    let forgotten = nodes.forgotten().await;
    assert!(forgotten.contains(&(log.clone(), nodes.town.clone())), "{forgotten:?}");
    assert!(forgotten.iter().all(|(named, _)| *named == log), "{forgotten:?}");

    // Nobody waits for it any more, and what runs is in the backup as before.
    let whole = nodes.back_up("whole", &["--wait", "1"]).await.success();
    assert!(!whole.contains("without") && !whole.contains(&log), "{whole}");
    one.stop().await;
    drop_schema(&nodes.schema).await;
}
