//! `kill -9` under load, again and again: what was acknowledged is in the record, in the inbox and in the lake,
//! each exactly once, and nothing else is (invariants 1, 2 and 4).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use tempfile::TempDir;
use todoke_tests::{
    http::Client,
    todoke::{DemoOptions, Todoke, cli_over},
};

use crate::scene::{Scene, text};

const KILLS: usize = 20;
const AT_ONCE: usize = 8;
/// Attempts begun per round; the kill comes while some of them are under way.
const ATTEMPTS: usize = 24;

/// One attempt and the answer it got, if any, by key.
pub(crate) type Acknowledged = BTreeMap<String, String>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_equals_inbox_equals_lake_after_twenty_kills() {
    let dir = TempDir::with_prefix("todoke-kill-").unwrap();
    let mut todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let mut scene = Scene::of(&todoke).await;
    let (guardian, staff) = (scene.guardian.bearer().unwrap().to_owned(), scene.staff.bearer().unwrap().to_owned());
    let opening = scene.balance();
    let mut acknowledged = Acknowledged::new();
    let mut open_keys: Vec<String> = Vec::new();
    for round in 0..KILLS {
        // What was cut off is asked again with its key, as a phone does, before anything new.
        let fresh = (0..ATTEMPTS).map(|n| format!("kill-{round}-{n}"));
        let keys: Vec<String> = open_keys.drain(..).chain(fresh).collect();
        let enough = 1 + (round * 7) % ATTEMPTS;
        let pid = todoke.pid();
        let outcome = load(&scene, keys, enough, || todoke_tests::process::signal(pid, "KILL")).await;
        acknowledged.extend(outcome.acknowledged);
        open_keys = outcome.unanswered;
        todoke.gone().await;
        todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
        scene.guardian = todoke.client().with_bearer(&guardian);
        scene.staff = todoke.client().with_bearer(&staff);
    }
    let last = load(&scene, open_keys, usize::MAX, || ()).await;
    assert!(last.unanswered.is_empty());
    acknowledged.extend(last.acknowledged);
    assert!(acknowledged.len() > KILLS, "too little happened to show anything");
    audit(&scene, opening, &acknowledged).await;
    todoke.stop().await;
    in_lake(dir.path(), &acknowledged).await;
}

struct Outcome {
    acknowledged: Acknowledged,
    unanswered: Vec<String>,
}

/// Pays one yen per key, some at once, and calls `kill` after `enough` acknowledgements while others are under way.
async fn load(scene: &Scene, keys: Vec<String>, enough: usize, kill: impl Fn()) -> Outcome {
    let n_acknowledged = AtomicUsize::new(0);
    let mut waiting = keys.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut outcome = Outcome { acknowledged: Acknowledged::new(), unanswered: Vec::new() };
    let pay = |key: String| {
        let client = scene.guardian.with_header("idempotency-key", &key);
        let body = scene.payment(1);
        async move { (settled(&client, &body).await, key) }
    };
    under_way.extend(waiting.by_ref().take(AT_ONCE).map(pay));
    while let Some((use_id, key)) = under_way.next().await {
        match use_id {
            Some(use_id) => {
                outcome.acknowledged.insert(key, use_id);
                if n_acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == enough {
                    kill();
                }
            }
            None => outcome.unanswered.push(key),
        }
        under_way.extend(waiting.next().map(pay));
    }
    outcome
}

/// The id of the booked use; none when the server went away before it answered.
pub(crate) async fn settled(client: &Client, body: &Value) -> Option<String> {
    let answer = client
        .try_request("POST", "/v1/coupon-uses", &[("content-type", "application/json")], body.to_string())
        .await
        .ok()?;
    assert!(matches!(answer.status, 201 | 200), "{}: {}", answer.status, answer.text());
    Some(text(&answer.json(), "use_id"))
}

/// The record and the inbox hold what was acknowledged, each once, and nothing that was not.
pub(crate) async fn audit(scene: &Scene, opening: i64, acknowledged: &Acknowledged) {
    let told = scene.uses_told().await;
    let booked: BTreeSet<&String> = acknowledged.values().collect();
    assert_eq!(booked.len(), acknowledged.len(), "two keys, one use");
    for use_id in &booked {
        assert_eq!(told.iter().filter(|told| told == use_id).count(), 1, "messages about {use_id}");
    }
    let spent = i64::try_from(acknowledged.len()).unwrap();
    let balance = scene.balance_now().await;
    assert_eq!(balance, opening - spent, "yen left the coupon that nobody was told of, or the reverse");
}

/// The lake holds each acknowledged use exactly once, and of this coupon no other use of one yen.
async fn in_lake(dir: &std::path::Path, acknowledged: &Acknowledged) {
    let ready: Value = serde_json::from_slice(&std::fs::read(dir.join("ready.json")).unwrap()).unwrap();
    let town = text(&ready["municipalities"][0], "municipality_code");
    let query = "SELECT use_id, COUNT(*) AS n FROM events_coupon WHERE event_type = 'coupon.used' AND amount_yen = 1 GROUP BY use_id";
    let answer =
        cli_over(&dir.join("data"), &["sql", query, "--municipality", &town, "--format", "json"]).await.success();
    let answer: Value = serde_json::from_str(&answer).expect("JSON on standard output");
    let times: BTreeMap<String, i64> = answer["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_i64().unwrap()))
        .collect();
    assert!(
        times.values().all(|n| *n == 1),
        "in the lake more than once: {:?}",
        times.iter().filter(|(_, n)| **n > 1).collect::<Vec<_>>()
    );
    let in_lake: BTreeSet<&String> = times.keys().collect();
    assert_eq!(in_lake, acknowledged.values().collect(), "lake and acknowledged");
}
