//! Two nodes on one PostgreSQL record and one lake in a bucket, each with a data folder of its own: what either of them
//! has acknowledged is in the record, in the inbox and in the lake once, also when one of them is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use futures_util::future::{join, join_all};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_tests::{
    http::Client,
    object_store::ObjectStore,
    postgres,
    process::signal,
    todoke::{DemoOptions, Todoke, cli_with, recently},
};

use crate::{
    backup::drop_schema,
    kill_loop::{Acknowledged, audit, settled},
    lake_places::{Settings, rows},
    scene::Scene,
    usage::visit,
};

/// People at each node at once, and what each of them does.
const PEOPLE: u32 = 4;
const ACTS: u32 = 12;
/// Acts at the one node after which it is killed; others of it are under way.
const ENOUGH: u32 = 17;

/// What people did: payments by key, visits of the app that were answered, and numbers whose payment or visit got no
/// answer.
#[derive(Default)]
struct Acts {
    paid: Acknowledged,
    visited: BTreeSet<u32>,
    unanswered: BTreeSet<u32>,
}

impl Acts {
    fn extend(&mut self, other: Self) {
        self.paid.extend(other.paid);
        self.visited.extend(other.visited);
        self.unanswered.extend(other.unanswered);
    }
}

/// A visit of a day that is over: compaction looks for repetitions in whatever it holds.
fn visit_of_yesterday(n: u32) -> Vec<Value> {
    let now: Timestamp = recently().parse().unwrap();
    let at = (now - SignedDuration::from_hours(23)).to_string();
    let mut events = visit(n);
    events.iter_mut().for_each(|event| event["occurred_at"] = json!(at));
    events
}

/// Pays a yen and visits the app for each number, at one node.
async fn act(guardian: &Client, payment: &Value, numbers: impl Iterator<Item = u32>, acted: &dyn Fn()) -> Acts {
    let mut acts = Acts::default();
    for n in numbers {
        let key = format!("nodes-{n}");
        match settled(&guardian.with_header("idempotency-key", &key), payment).await {
            Some(use_id) => {
                acts.paid.insert(key, use_id);
            }
            None => {
                acts.unanswered.insert(n);
            }
        }
        let batch = json!({"device_key": 4_711, "events": visit_of_yesterday(n)}).to_string();
        let headers = [("content-type", "application/json")];
        match guardian.try_request("POST", "/v1/usage", &headers, batch).await {
            Ok(answer) => {
                assert_eq!(answer.expect(202)["rejected"], json!([]), "visit {n}");
                acts.visited.insert(n);
            }
            Err(_) => {
                acts.unanswered.insert(n);
            }
        }
        acted();
    }
    acts
}

/// As many people as there are act at a node at once, with numbers from `first` on.
async fn crowd(guardian: &Client, payment: &Value, first: u32, acted: &dyn Fn()) -> Acts {
    let numbers = |person: u32| -> Range<u32> { first + person * ACTS..first + (person + 1) * ACTS };
    let people = join_all((0..PEOPLE).map(|person| act(guardian, payment, numbers(person), acted)));
    let mut acts = Acts::default();
    people.await.into_iter().for_each(|one| acts.extend(one));
    acts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_nodes_acknowledge_is_there_once_although_one_is_killed() {
    let schema = format!("todoke_nodes_{}", std::process::id());
    drop_schema(&schema).await;
    let store = ObjectStore::start(&["lake"]).await;
    let mut settings = store.settings("s3://lake/city");
    settings.push(("TODOKE_RECORD__URL", postgres::shared_url().to_owned()));
    settings.push(("TODOKE_RECORD__SCHEMA", schema.clone()));
    let dir = TempDir::with_prefix("todoke-nodes-").unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    std::fs::create_dir(&first).unwrap();
    std::fs::create_dir(&second).unwrap();
    let demo = Todoke::demo_in_with(&first, DemoOptions::small(), &settings).await;
    let (town, mut scene) = (demo.municipality(), Scene::of(&demo).await);
    scene.guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    let (token, opening, payment) = (scene.guardian.bearer().unwrap().to_owned(), scene.balance(), scene.payment(1));
    demo.stop().await;

    let one = Todoke::serve_in_with(&first, &settings).await;
    let other = Todoke::serve_in_with(&second, &settings).await;
    let here = one.client().with_bearer(&token);
    let there = other.client().with_bearer(&token);
    let (pid, n_acted) = (other.pid(), AtomicU32::new(0));
    let kill = || {
        if n_acted.fetch_add(1, Ordering::Relaxed) + 1 == ENOUGH {
            signal(pid, "KILL");
        }
    };
    let (mut acts, killed) = join(crowd(&here, &payment, 0, &|| ()), crowd(&there, &payment, 1_000, &kill)).await;
    other.gone().await;
    assert!(acts.unanswered.is_empty(), "the node that goes on answers everybody: {:?}", acts.unanswered);
    let unanswered = killed.unanswered.clone();
    assert!(!unanswered.is_empty() && !killed.paid.is_empty(), "the kill came in the middle");
    acts.extend(killed);
    acts.unanswered.clear();
    // People whose node went away turn to the other one, with the same keys and ids, while the node comes back.
    let again = act(&here, &payment, unanswered.into_iter(), &|| ());
    let (again, other) = join(again, Todoke::serve_in_with(&second, &settings)).await;
    acts.extend(again);
    let there = other.client().with_bearer(&token);
    let (at_one, at_other) = join(crowd(&here, &payment, 2_000, &|| ()), crowd(&there, &payment, 3_000, &|| ())).await;
    acts.extend(at_one);
    acts.extend(at_other);
    assert!(acts.unanswered.is_empty(), "{:?}", acts.unanswered);
    assert_eq!(acts.paid.len(), (4 * PEOPLE * ACTS) as usize);

    for node in [here, there] {
        scene.guardian = node;
        audit(&scene, opening, &acts.paid).await;
    }
    one.stop().await;
    other.stop().await;
    in_lake(&first.join("data"), &town, &acts, &settings).await;
    drop_schema(&schema).await;
}

/// Every use is in the lake once, and every visit once its days were compacted: what went to the log of the killed
/// node without an answer was sent again to the other one, which cannot know.
async fn in_lake(data: &Path, town: &str, acts: &Acts, settings: Settings<'_>) {
    cli_with(data, &["lake", "compact"], settings).await.success();
    let uses = "SELECT use_id, COUNT(*) FROM events_coupon WHERE event_type = 'coupon.used' AND amount_yen = 1 GROUP BY use_id";
    let uses = times(rows(data, town, uses, settings).await);
    assert!(uses.values().all(|n| *n == 1), "{uses:?}");
    assert_eq!(uses.into_keys().collect::<BTreeSet<_>>(), acts.paid.values().cloned().collect(), "lake and answers");
    let visits = "SELECT session_id, COUNT(*) FROM events_app WHERE session_id LIKE 'session-%' GROUP BY session_id";
    let visits = times(rows(data, town, visits, settings).await);
    let expected = acts.visited.iter().map(|n| (format!("session-{n}"), 2)).collect();
    assert_eq!(visits, expected, "two events of each visit");
    let sound = cli_with(data, &["lake", "verify"], settings).await.success();
    assert!(sound.ends_with("sound\n"), "{sound}");
}

fn times(rows: Vec<Vec<Value>>) -> BTreeMap<String, i64> {
    rows.iter().map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_i64().unwrap())).collect()
}
