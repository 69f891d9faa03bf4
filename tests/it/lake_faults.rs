//! A lake in a bucket whose store fails while the real server commits: by refusing, by not answering, and by answering
//! wrongly what it has done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use todoke_tests::{
    http::Client,
    object_store::{Fault, ObjectStore},
    todoke::{DemoOptions, Todoke, cli_with},
    wait::eventually,
};

use crate::{
    lake_places::rows,
    scene::{Scene, sql, text},
};

const PATIENCE: Duration = Duration::from_secs(120);
/// Any number of requests.
const ALL: u32 = 1_000_000;
/// The entry of a table's log that makes a commit.
const ENTRY: &str = r"/_delta_log/\d{20}\.json$";
const ANY: &str = "/city/";
const USES: &str =
    "SELECT use_id, COUNT(*) FROM events_coupon WHERE event_type = 'coupon.used' AND amount_yen = 1 GROUP BY use_id";

/// How often each use of 1 yen is in these rows.
fn times(rows: Vec<Vec<Value>>) -> BTreeMap<String, i64> {
    rows.iter().map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_i64().unwrap())).collect()
}

/// Each of `paid` once.
fn once(paid: &BTreeSet<String>) -> BTreeMap<String, i64> {
    paid.iter().map(|id| (id.clone(), 1)).collect()
}

/// A server over a lake in a bucket, and what was paid there.
struct City {
    store: ObjectStore,
    todoke: Todoke,
    scene: Scene,
    analyst: Client,
    paid: BTreeSet<String>,
}

impl City {
    async fn start(dir: &TempDir, settings: &[(&str, String)], store: ObjectStore) -> Self {
        let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), settings).await;
        let (scene, analyst) = (Scene::of(&todoke).await, todoke.sign_in("analyst").await);
        let city = Self { store, todoke, scene, analyst, paid: BTreeSet::new() };
        city.all_committed().await;
        city
    }

    async fn pay(&mut self) {
        let key = format!("fault-{}", self.paid.len());
        self.paid.insert(text(&self.scene.pay(&key, 1).await.expect(201), "use_id"));
    }

    async fn health(&self) -> Value {
        self.analyst.get("/v1/lake/health").await.expect(200)
    }

    /// Waits until health tells of a failure, which it does as long as the store fails.
    async fn failing(&self) {
        eventually("health says what is wrong", PATIENCE, async || {
            let health = self.health().await;
            health["sink"]["failure"].as_str().map(|failure| assert!(!failure.is_empty(), "{health}"))
        })
        .await;
        let metrics = self.todoke.client().get("/metrics").await.text();
        assert!(metrics.contains("todoke_lake_failing 1"), "{metrics}");
    }

    async fn all_committed(&self) {
        eventually("all is committed and nothing is wrong", PATIENCE, async || {
            let health = self.health().await;
            let waits = health["staged_rows"] != 0 || health["log_backlog_bytes"] != 0;
            (!waits && health["sink"]["failure"].is_null()).then_some(())
        })
        .await;
    }

    /// Queries see each use once, whether or not it is committed.
    async fn shows_all(&self) {
        let seen = eventually("queries see what is paid", PATIENCE, async || {
            let seen = times(sql(&self.analyst, USES).await);
            (seen.len() >= self.paid.len()).then_some(seen)
        })
        .await;
        assert_eq!(seen, once(&self.paid));
    }

    /// Stops the server and looks again at what is in the bucket.
    async fn ends_sound(self, settings: &[(&str, String)]) {
        let (town, data) = (self.todoke.municipality(), self.todoke.data_dir().to_path_buf());
        self.todoke.stop().await;
        assert_eq!(times(rows(&data, &town, USES, settings).await), once(&self.paid));
        let sound = cli_with(&data, &["lake", "verify"], settings).await.success();
        assert!(sound.ends_with("sound\n"), "{sound}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_or_hangs_is_told_of_in_health_and_costs_no_event() {
    let store = ObjectStore::start(&["lake"]).await;
    let mut settings = store.settings("s3://lake/city");
    // A request that hangs is given up after this time, not after half a minute.
    settings.push(("AWS_TIMEOUT", "5s".to_owned()));
    let dir = TempDir::with_prefix("todoke-faults-").unwrap();
    let mut city = City::start(&dir, &settings, store).await;
    for (fault, path) in [(Fault::Unavailable, ANY), (Fault::Unavailable, ENTRY), (Fault::Hang, ENTRY)] {
        city.store.fail(fault, "PUT", path, ALL).await;
        city.pay().await;
        city.failing().await;
        assert!(city.store.n_met().await > 0, "{fault:?}");
        assert_ne!(city.health().await["staged_rows"], 0, "{fault:?}");
        city.pay().await;
        city.shows_all().await;
        city.store.heal().await;
        city.all_committed().await;
        city.shows_all().await;
    }
    city.ends_sound(&settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_or_wrong_is_not_made_twice() {
    let store = ObjectStore::start(&["lake"]).await;
    let settings = store.settings("s3://lake/city");
    let dir = TempDir::with_prefix("todoke-faults-").unwrap();
    let mut city = City::start(&dir, &settings, store).await;
    // After `Disowned` the request is sent again, and refused because of the object that it made itself (412).
    for fault in [Fault::Lost, Fault::Disowned] {
        for n in [1, 3] {
            city.store.fail(fault, "PUT", ENTRY, n).await;
            city.pay().await;
            eventually("the fault is met", PATIENCE, async || (city.store.n_met().await > 0).then_some(())).await;
            city.pay().await;
            city.all_committed().await;
            city.shows_all().await;
            city.store.heal().await;
        }
    }
    city.ends_sound(&settings).await;
}
