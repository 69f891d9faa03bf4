//! The ways in: forms, compressions, limits, outside systems, and what becomes of bad events.

use std::{io::Write, time::Duration};

use serde_json::{Value, json};
use todoke_tests::{
    http::{Answer, Client},
    todoke::{DemoOptions, Todoke, recent_id, recently},
    wait::eventually,
};

use crate::scene::sql;

pub(crate) fn id(n: u32) -> String {
    format!("{}-8000-{n:012}", recent_id())
}

pub(crate) fn view(n: u32) -> Value {
    json!({"event_id": id(n), "event_type": "app.screen_viewed", "occurred_at": recently(),
           "session_id": "ways-in", "screen_id": "G01", "dwell_ms": n})
}

pub(crate) async fn send(who: &Client, path: &str, media_type: &str, coding: Option<&str>, body: Vec<u8>) -> Answer {
    let mut headers = vec![("content-type", media_type)];
    headers.extend(coding.map(|coding| ("content-encoding", coding)));
    who.request("POST", path, &headers, body).await
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn lines(events: impl IntoIterator<Item = Value>) -> Vec<u8> {
    events.into_iter().map(|event| format!("{event}\n")).collect::<String>().into_bytes()
}

pub(crate) async fn agreed(todoke: &Todoke) -> Client {
    let guardian = todoke.sign_in("guardian").await;
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    guardian
}

/// An outside system with a key for these sources.
pub(crate) async fn system(todoke: &Todoke, city: &Client, name: &str, sources: &[&str]) -> Client {
    let wanted = json!({"name": name, "role": "support_desk", "sources": sources});
    let made = city.post("/v1/api-keys", &wanted).await.expect(201);
    todoke.client().with_bearer(made["api_key"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_and_compression_says_the_same_and_bombs_are_refused() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let guardian = agreed(&todoke).await;
    let ndjson = "application/x-ndjson";
    let text = lines((1..=3).map(view));
    let zstd = zstd::stream::encode_all(text.as_slice(), 3).unwrap();
    let first = send(&guardian, "/v1/usage", ndjson, None, text.clone()).await.expect(202);
    assert_eq!((&first["accepted"], &first["duplicates"]), (&json!(3), &json!(0)), "{first}");
    let batch = json!({"events": [view(1), view(2), view(3)]}).to_string().into_bytes();
    for (media_type, coding, body) in [
        (ndjson, Some("gzip"), gzip(&text)),
        (ndjson, Some("zstd"), zstd),
        ("application/json", Some("gzip"), gzip(&batch)),
        ("application/json", None, batch),
    ] {
        let again = send(&guardian, "/v1/usage", media_type, coding, body).await.expect(202);
        assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(3)), "{media_type} {coding:?}");
    }
    let bomb = vec![b' '; 64 << 20];
    let packed = zstd::stream::encode_all(bomb.as_slice(), 3).unwrap();
    for (coding, body, status) in [
        (Some("gzip"), gzip(&bomb), 413),
        (Some("zstd"), packed, 413),
        (None, vec![b' '; 9 << 20], 413),
        (Some("br"), vec![1, 2, 3], 415),
        (Some("gzip"), text.clone(), 400),
    ] {
        let refused = send(&guardian, "/v1/usage", ndjson, coding, body).await;
        assert_eq!(refused.status, status, "{coding:?}: {}", refused.text());
        assert!(refused.header("content-type").starts_with("application/problem+json"));
    }
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_systems_send_cloudevents_with_a_key_of_their_own() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await;
    let city = todoke.sign_in("municipal_admin").await;
    let system = system(&todoke, &city, "call centre", &["/call-centre", "/x"]).await;
    let event = |id: &str, data: Value| {
        json!({"specversion": "1.0", "id": id, "source": "/call-centre", "type": "support.replied", "time": recently(),
               "subject": "q-1", "data": data})
    };
    let good = json!({"inquiry_id": "ways-in", "topic": "coupon", "channel": "phone", "closed_hours": false});
    let structured = event("1", good.clone()).to_string().into_bytes();
    let answer = send(&system, "/v1/events", "application/cloudevents+json", None, structured).await.expect(202);
    assert_eq!(answer["accepted"], 1, "{answer}");
    let named = json!({"inquiry_id": "ways-in", "topic": "coupon", "channel": "phone", "closed_hours": false, "text": "佐藤花子"});
    let batch = json!([event("1", good.clone()), event("2", good.clone()), event("3", named)]).to_string().into_bytes();
    let packed = zstd::stream::encode_all(batch.as_slice(), 3).unwrap();
    let answer =
        send(&system, "/v1/events", "application/cloudevents-batch+json", Some("zstd"), packed).await.expect(202);
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(1), &json!(1)), "{answer}");
    assert_eq!(answer["rejected"], json!([{"event_id": "3", "reason": "forbidden_field", "field": "data.text"}]));
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "4"),
        ("ce-source", "/call-centre"),
        ("ce-type", "support.replied"),
        ("ce-time", recently()),
    ];
    let answer = system.request("POST", "/v1/events", &binary, good.to_string()).await.expect(202);
    assert_eq!(answer["accepted"], 1, "{answer}");
    let forged =
        json!({"specversion": "1.0", "id": "5", "source": "/x", "type": "coupon.used", "time": recently(), "data": {}});
    let answer = send(&system, "/v1/events", "application/cloudevents+json", None, forged.to_string().into()).await;
    assert_eq!(answer.expect(202)["rejected"][0]["reason"], "type_not_allowed");
    let plain = send(&system, "/v1/events", "application/json", None, b"{}".to_vec()).await;
    assert_eq!(plain.status, 415);
    let person = send(&operator, "/v1/events", "application/cloudevents+json", None, b"{}".to_vec()).await;
    assert_eq!(person.status, 403);
    let analyst = todoke.sign_in("analyst").await;
    let query = "SELECT COUNT(*), COUNT(DISTINCT event_id) FROM events_support WHERE inquiry_id = 'ways-in'";
    eventually("three replies are in the lake", Duration::from_secs(60), async || {
        (sql(&analyst, query).await == [[json!(3), json!(3)]]).then_some(())
    })
    .await;
    todoke.stop().await;
}

/// Whoever has a key speaks for the sources that were named when it was issued, and for no other system.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_speaks_for_its_own_sources_only() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let city = todoke.sign_in("municipal_admin").await;
    let event = |source: &str| {
        json!({"specversion": "1.0", "id": "1", "source": source, "type": "support.replied", "time": recently(),
               "data": {"inquiry_id": "q", "topic": "coupon", "channel": "phone", "closed_hours": false}})
    };
    let desk = system(&todoke, &city, "desk", &["/call-centre", "/desk/*"]).await;
    let batch = ["/call-centre", "/desk/night", "/call-centre/night", "/facilities"].map(event);
    let batch = json!(batch).to_string().into_bytes();
    let answer = send(&desk, "/v1/events", "application/cloudevents-batch+json", None, batch).await.expect(202);
    assert_eq!(answer["accepted"], 2, "{answer}");
    let foreign = json!({"event_id": "1", "reason": "source_not_allowed", "field": "source"});
    assert_eq!(answer["rejected"], json!([foreign, foreign]));
    let mute = system(&todoke, &city, "figures", &[]).await;
    let refused =
        send(&mute, "/v1/events", "application/cloudevents+json", None, event("/desk/1").to_string().into()).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(refused.json()["type"], "/problems/no-source");
    for bad in ["", "*", "a*b", "窓口"] {
        let wanted = json!({"name": "desk", "role": "support_desk", "sources": [bad]});
        let refused = city.post("/v1/api-keys", &wanted).await.expect(422);
        assert_eq!(refused["errors"][0]["field"], "sources", "{refused}");
    }
    let keys = city.get("/v1/api-keys").await.expect(200);
    let of_desk = keys["items"].as_array().unwrap().iter().find(|key| key["name"] == "desk").unwrap();
    assert_eq!(of_desk["sources"], json!(["/call-centre", "/desk/*"]));
    todoke.stop().await;
}

/// The sources of a key are changed by whoever may issue keys, count at once, and are noted like its begin and end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_of_a_key_are_changed_at_once_and_each_step_is_in_the_audit() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let city = todoke.sign_in("municipal_admin").await;
    let desk = system(&todoke, &city, "desk", &["/desk"]).await;
    let listed = async || {
        let keys = city.get("/v1/api-keys").await.expect(200);
        keys["items"].as_array().unwrap().iter().find(|key| key["name"] == "desk").unwrap().clone()
    };
    let from = async |source: &str| {
        let event = json!({"specversion": "1.0", "id": "1", "source": source, "type": "support.replied", "time": recently(),
                           "data": {"inquiry_id": "q", "topic": "coupon", "channel": "phone", "closed_hours": false}});
        send(&desk, "/v1/events", "application/cloudevents+json", None, event.to_string().into()).await
    };
    let key = listed().await;
    assert_eq!(
        (&key["used_at"], &key["revoked_at"], &key["role"]),
        (&Value::Null, &Value::Null, &json!("support_desk"))
    );
    assert_ne!(key["issued_by"], "", "{key}");
    let path = format!("/v1/api-keys/{}", key["api_key_id"].as_str().unwrap());
    let version = key["version"].as_str().unwrap();
    let change = async |who: &Client, sources: Value| {
        let headers = [("content-type", "application/json"), ("if-match", version)];
        who.request("PATCH", &path, &headers, json!({ "sources": sources }).to_string()).await
    };
    assert_eq!(from("/night").await.expect(202)["rejected"][0]["reason"], "source_not_allowed");
    assert_ne!(listed().await["used_at"], Value::Null);
    for (who, status) in [("operator", 403), ("neighbour_municipal_admin", 404)] {
        let refused = change(&todoke.sign_in(who).await, json!(["/night"])).await;
        assert_eq!(refused.status, status, "{who}: {}", refused.text());
    }
    assert_eq!(change(&city, json!(["*"])).await.expect(422)["errors"][0]["field"], "sources");
    assert_eq!(listed().await["sources"], json!(["/desk"]));
    assert_eq!(change(&city, json!(["/night"])).await.expect(200)["sources"], json!(["/night"]));
    let stale = change(&city, json!(["/desk"])).await;
    assert_eq!(stale.status, 409, "somebody else changed them meanwhile: {}", stale.text());
    assert_eq!(from("/night").await.expect(202)["accepted"], 1);
    assert_eq!(from("/desk").await.expect(202)["rejected"][0]["reason"], "source_not_allowed");
    assert_eq!(city.delete(&path).await.status, 204);
    assert_eq!(from("/night").await.status, 401);
    assert_eq!(change(&city, json!(["/desk"])).await.status, 404, "what has ended is not changed");
    let ended = listed().await;
    assert_ne!(ended["revoked_at"], Value::Null, "{ended}");
    assert_eq!(ended["sources"], json!(["/night"]));
    let analyst = todoke.sign_in("analyst").await;
    let id = ended["api_key_id"].as_str().unwrap();
    let query = format!("SELECT what FROM events_access WHERE subject_id = '{id}' ORDER BY occurred_at");
    let expected = ["api_key_issued", "api_key_sources_set", "api_key_revoked"].map(|what| [json!(what)]);
    eventually("the audit has each step", Duration::from_secs(60), async || {
        (sql(&analyst, &query).await == expected).then_some(())
    })
    .await;
    todoke.stop().await;
}

/// What two cities' systems call the same are two events, and a system that got another key repeats its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outside_id_belongs_to_its_city_and_its_source_and_not_to_a_key() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let event = |id: &str, topic: &str| {
        let data = json!({"inquiry_id": "whose", "topic": topic, "channel": "phone", "closed_hours": false});
        json!({"specversion": "1.0", "id": id, "source": "/call-centre", "type": "support.replied", "time": recently(),
               "data": data})
    };
    let uuid = id(1);
    let batch = |topic: &str| json!([event("1", topic), event(&uuid, topic)]).to_string().into_bytes();
    let media_type = "application/cloudevents-batch+json";
    let city = todoke.sign_in("municipal_admin").await;
    let neighbour = todoke.sign_in("neighbour_municipal_admin").await;
    // The neighbour is first, and cannot use the ids up.
    for (city, topic) in [(&neighbour, "survey"), (&city, "coupon")] {
        let desk = system(&todoke, city, "desk", &["/call-centre"]).await;
        let taken = send(&desk, "/v1/events", media_type, None, batch(topic)).await.expect(202);
        assert_eq!((&taken["accepted"], &taken["rejected"]), (&json!(2), &json!([])), "{taken}");
    }
    let keys = city.get("/v1/api-keys").await.expect(200);
    let old = keys["items"].as_array().unwrap().iter().find(|key| key["name"] == "desk").unwrap();
    let old = format!("/v1/api-keys/{}", old["api_key_id"].as_str().unwrap());
    assert_eq!(city.delete(&old).await.status, 204);
    let renewed = system(&todoke, &city, "desk again", &["/call-centre"]).await;
    let again = send(&renewed, "/v1/events", media_type, None, batch("coupon")).await.expect(202);
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(2)), "{again}");
    // Other content under the same id is told by the id that its sender knows.
    let reused = send(&renewed, "/v1/events", media_type, None, batch("claim")).await.expect(202);
    let told = |id: &str| json!({"event_id": id, "reason": "id_reused", "field": "id"});
    assert_eq!(reused["rejected"], json!([told("1"), told(&uuid)]));
    todoke.stop().await;
}

/// Each key has a quota of its own, and who is over it is told when to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_over_its_quota_is_asked_to_wait_and_others_go_on() {
    // The least that can be set: as many as a batch may have.
    const QUOTA: u32 = 5_000;
    let quota = [("TODOKE_INGEST__OUTSIDE_EVENTS_PER_MIN", QUOTA.to_string())];
    let todoke = Todoke::demo_with(DemoOptions::small(), &quota).await;
    let city = todoke.sign_in("municipal_admin").await;
    let mut systems = Vec::new();
    for name in ["call centre", "night shift"] {
        systems.push(system(&todoke, &city, name, &["/call-centre"]).await);
    }
    let batch = |n: u32| {
        let events = (n * QUOTA..(n + 1) * QUOTA).map(|id| {
            json!({"specversion": "1.0", "id": format!("quota-{id}"), "source": "/call-centre", "type": "support.replied",
                   "time": recently(), "subject": "q-1",
                   "data": {"inquiry_id": "q", "topic": "coupon", "channel": "phone", "closed_hours": false}})
        });
        Value::from(events.collect::<Vec<_>>()).to_string().into_bytes()
    };
    let media_type = "application/cloudevents-batch+json";
    // A minute may end between two of them, not between three.
    let mut n = 0;
    let refused = loop {
        let answer = send(&systems[0], "/v1/events", media_type, None, batch(n)).await;
        if answer.status != 202 {
            break answer;
        }
        assert_eq!(answer.json()["accepted"], QUOTA, "the longest batch is within the quota");
        n += 1;
        assert!(n < 3, "three batches of a minute were taken");
    };
    assert_eq!((n > 0, refused.status), (true, 429), "{}", refused.text());
    let wait: u32 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // Nothing of it was kept: by another key all of them are new.
    let taken = send(&systems[1], "/v1/events", media_type, None, batch(n)).await.expect(202);
    assert_eq!((&taken["accepted"], &taken["duplicates"]), (&json!(QUOTA), &json!(0)), "{taken}");
    todoke.stop().await;
}

/// One bad event never blocks a batch and never vanishes: it is held, listed without its content, and taken
/// when the rules allow it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_events_are_held_and_replayed_and_their_contents_never_reach_the_lake() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let guardian = agreed(&todoke).await;
    let mut named = view(11);
    named["screen_id"] = json!("佐藤花子です");
    // A phone whose clock is years ahead.
    let mut early = view(12);
    early["occurred_at"] = json!("2099-01-01T00:00:00Z");
    early["event_id"] = json!("03b3d512-ac00-7000-8000-000000000012");
    let body = [lines([view(10), named, early]), b"{broken\n".to_vec()].concat();
    let answer = send(&guardian, "/v1/usage", "application/x-ndjson", None, body).await.expect(202);
    assert_eq!(answer["accepted"], 1, "{answer}");
    let mut reused = view(10);
    reused["dwell_ms"] = json!(99);
    let answer = send(&guardian, "/v1/usage", "application/x-ndjson", None, lines([reused])).await.expect(202);
    assert_eq!(answer["rejected"][0]["reason"], "id_reused", "{answer}");
    let operator = todoke.sign_in("operator").await;
    let held = operator.get("/v1/lake/quarantine").await.expect(200);
    let reasons: Vec<&str> = held["items"].as_array().unwrap().iter().map(|e| e["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 4, "{held}");
    for reason in ["ill_typed", "in_future", "not_json", "id_reused"] {
        assert!(reasons.contains(&reason), "{reason} in {held}");
    }
    assert!(!held.to_string().contains("佐藤"), "contents are not listed");
    let health = operator.get("/v1/lake/health").await.expect(200);
    assert_eq!(health["quarantine"]["ill_typed"], 1, "{health}");
    assert_eq!(health["log_failure"], Value::Null);
    let figures = todoke.client().get("/metrics").await.text();
    for figure in [
        "todoke_quarantined_events 4",
        "todoke_lake_failing 0",
        "todoke_lake_files{table=\"app\"}",
        "todoke_lake_small_files{table=\"app\"}",
        "todoke_lake_new_files{table=\"app\"}",
        "todoke_lake_too_large_files{table=\"app\"} 0",
        "todoke_lake_oldest_unflushed_seconds ",
        "todoke_ingest_log_waiting_bytes ",
    ] {
        assert!(figures.contains(figure), "{figure} in\n{figures}");
    }
    // Nothing has changed: all are as bad as before.
    let replayed = operator.post("/v1/lake/quarantine/replay", &json!({})).await.expect(200);
    assert_eq!((&replayed["taken"], &replayed["held"]), (&json!(0), &json!(4)), "{replayed}");
    // The neighbour sees none of it.
    let neighbour = todoke.sign_in("neighbour_operator").await;
    assert_eq!(neighbour.get("/v1/lake/quarantine").await.expect(200)["items"], json!([]));
    let data = todoke.data_dir().to_path_buf();
    let listed = todoke.cli(&["lake", "quarantine", "list", "--municipality", &todoke.municipality()]).await.success();
    assert!(listed.contains("id_reused") && !listed.contains("佐藤"), "{listed}");
    eventually("everything is in files", Duration::from_secs(60), async || {
        let health = operator.get("/v1/lake/health").await.expect(200);
        (health["staged_rows"] == 0 && health["log_backlog_bytes"] == 0).then_some(())
    })
    .await;
    let name = "佐藤花子".as_bytes();
    for file in files_below(&data.join("lake")).into_iter().chain(files_below(&data.join("ingest"))) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(name.len()).any(|window| window == name), "a name in {}", file.display());
    }
    todoke.stop().await;
}

pub(crate) fn files_below(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

const KILLS: u32 = 6;
const BATCH: u32 = 50;

/// Sends batches from several connections until the server is gone. Returns the batches that were answered.
async fn until_killed(guardian: &Client, first: u32, pid: u32, kill_after: usize) -> Vec<u32> {
    let mut senders = tokio::task::JoinSet::new();
    let answered = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for connection in 0..4 {
        let (guardian, answered) = (guardian.clone(), answered.clone());
        senders.spawn(async move {
            for n in 0.. {
                let batch = first + n * 4 + connection;
                let body = lines((batch * BATCH..(batch + 1) * BATCH).map(view));
                let headers = [("content-type", "application/x-ndjson")];
                let Ok(answer) = guardian.try_request("POST", "/v1/usage", &headers, body).await else { return };
                answer.expect(202);
                let n_answered = {
                    let mut answered = answered.lock().unwrap();
                    answered.push(batch);
                    answered.len()
                };
                if n_answered == kill_after {
                    todoke_tests::process::signal(pid, "KILL");
                }
            }
        });
    }
    senders.join_all().await;
    let answered = answered.lock().unwrap().clone();
    answered
}

/// Killed at any point of writing, staging or committing: what was acknowledged is in the lake once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_usage_equals_the_lake_after_kills_under_load() {
    let dir = tempfile::TempDir::with_prefix("todoke-ingest-kill-").unwrap();
    let mut todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let token = agreed(&todoke).await.bearer().unwrap().to_owned();
    let (mut answered, mut first) = (Vec::new(), 100);
    for round in 0..KILLS {
        let guardian = todoke.client().with_bearer(&token);
        // Early kills meet the first commits of the lake, late ones a log of many frames.
        answered.extend(until_killed(&guardian, first, todoke.pid(), 3 + (round as usize) * 40).await);
        todoke.gone().await;
        first += 10_000;
        todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    }
    let guardian = todoke.client().with_bearer(&token);
    // Sent again, every acknowledged batch is known to the last event, also those of earlier rounds.
    for batch in answered.iter().step_by(17) {
        let body = lines((batch * BATCH..(batch + 1) * BATCH).map(view));
        let again = send(&guardian, "/v1/usage", "application/x-ndjson", None, body).await.expect(202);
        assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(BATCH)), "batch {batch}");
    }
    let analyst = todoke.sign_in("analyst").await;
    let query = "SELECT dwell_ms / 50 AS batch, COUNT(*), COUNT(DISTINCT event_id) FROM events_app
                 WHERE session_id = 'ways-in' GROUP BY 1 LIMIT 10000";
    let batches = eventually("all batches are in the lake", Duration::from_secs(60), async || {
        let rows = sql(&analyst, query).await;
        (rows.len() >= answered.len()).then_some(rows)
    })
    .await;
    let whole: std::collections::BTreeMap<u64, (u64, u64)> = batches
        .iter()
        .map(|row| (row[0].as_u64().unwrap(), (row[1].as_u64().unwrap(), row[2].as_u64().unwrap())))
        .collect();
    for batch in &answered {
        assert_eq!(whole.get(&u64::from(*batch)), Some(&(50, 50)), "acknowledged batch {batch}");
    }
    // A batch that was not answered may be there, whole or not, and never twice.
    assert!(whole.values().all(|(rows, ids)| rows == ids));
    todoke.stop().await;
}
