//! Bad events never vanish: every one of them is kept or its sender is told to come again, nothing that somebody typed
//! is kept, and a replay takes what the rules of now allow.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use todoke_domain::{Timestamp, ids::QuarantineId};
use todoke_tests::{
    http::{Answer, Client},
    todoke::{DemoOptions, Todoke, recently},
    wait::eventually,
};

use crate::{
    ingest::{agreed, files_below, lines, send, system, view},
    scene::sql,
};

const NDJSON: &str = "application/x-ndjson";

async fn send_lines(who: &Client, events: impl IntoIterator<Item = Value>) -> Answer {
    send(who, "/v1/usage", NDJSON, None, lines(events)).await
}

/// A view with a field that no type has.
fn bad(n: u32) -> Value {
    let mut event = view(n);
    event["colour"] = json!("red");
    event
}

fn replied(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/call-centre", "type": "support.replied", "time": recently(),
           "subject": "q-1",
           "data": {"inquiry_id": "held", "topic": "coupon", "channel": "phone", "closed_hours": false}})
}

async fn send_event(who: &Client, event: &Value) -> Value {
    send(who, "/v1/events", "application/cloudevents+json", None, event.to_string().into()).await.expect(202)
}

async fn replay(operator: &Client, path: &str) -> [Value; 2] {
    let done = operator.post(path, &json!({})).await.expect(200);
    ["taken", "held"].map(|what| done[what].clone())
}

/// Everything that is held, oldest first.
async fn held_by_pages(operator: &Client, n_max: usize) -> Vec<Value> {
    let first = format!("/v1/lake/quarantine?limit={n_max}");
    let (mut held, mut path) = (Vec::new(), first.clone());
    loop {
        let page = operator.get(&path).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= n_max, "{page}");
        held.extend(items.clone());
        let Some(next) = page["next"].as_str() else { return held };
        path = format!("{first}&cursor={next}");
    }
}

const REPLAY: &str = "/v1/lake/quarantine/replay";

/// Files have their own test: `backfill`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_takes_app_usage_and_events_of_systems_that_are_acceptable_now() {
    let dir = TempDir::with_prefix("todoke-replay-").unwrap();
    let narrow = [("TODOKE_INGEST__OUTSIDE_TYPES", "[\"system.incident_detected\"]".to_owned())];
    let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &narrow).await;
    let city = todoke.sign_in("municipal_admin").await;
    let system_key = system(&todoke, &city, "call centre", &["/call-centre"]).await;
    let refused = send_event(&system_key, &replied("r-1")).await;
    assert_eq!(refused["rejected"][0]["reason"], "type_not_allowed", "{refused}");
    // A phone that was in a drawer for forty days.
    let drawer = recently().parse::<jiff::Timestamp>().unwrap() - jiff::SignedDuration::from_hours(40 * 24);
    let ms = drawer.as_millisecond();
    let mut old = view(1);
    old["occurred_at"] = json!(drawer.to_string());
    old["event_id"] = json!(format!("{:08x}-{:04x}-7000-8000-000000000001", ms >> 16, ms & 0xffff));
    let guardian = agreed(&todoke).await;
    let refused = send_lines(&guardian, [old]).await.expect(202);
    assert_eq!(refused["rejected"][0]["reason"], "too_old", "{refused}");
    let operator = todoke.sign_in("operator").await;
    assert_eq!(replay(&operator, REPLAY).await, [json!(0), json!(2)], "nothing has changed");
    todoke.stop().await;

    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await;
    assert_eq!(replay(&operator, REPLAY).await, [json!(1), json!(1)], "outside systems may send it now");
    assert_eq!(replay(&operator, "/v1/lake/quarantine/replay?too_old=true").await, [json!(1), json!(0)]);
    assert_eq!(operator.get("/v1/lake/quarantine").await.expect(200)["items"], json!([]));
    // What was taken is known by its door: the system's own repetition is one.
    let again = send_event(&todoke.client().with_bearer(system_key.bearer().unwrap()), &replied("r-1")).await;
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(1)), "{again}");
    let analyst = todoke.sign_in("analyst").await;
    for query in [
        "SELECT COUNT(*) FROM events_support WHERE inquiry_id = 'held'",
        "SELECT COUNT(*) FROM events_app WHERE session_id = 'ways-in' AND screen_id = 'G01'",
    ] {
        eventually("it is in the lake", Duration::from_secs(60), async || {
            (sql(&analyst, query).await == [[json!(1)]]).then_some(())
        })
        .await;
    }
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_event_is_listed_page_by_page_and_no_word_of_it_is_kept() {
    const WORDS: &str = "ひみつの検索語";
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let guardian = agreed(&todoke).await;
    let mut search = view(2);
    search["event_type"] = json!("app.search_performed");
    search["words"] = json!(WORDS);
    let mut newer = search.clone();
    newer["event_type"] = json!("app.search_tried");
    let mut long = view(3);
    long["colour"] = json!("x".repeat(9_000));
    let torn = format!("{{\"words\":\"{WORDS}\n").into_bytes();
    let body = [lines([search, newer, long]), torn].concat();
    let answer = send(&guardian, "/v1/usage", NDJSON, None, body).await.expect(202);
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 4, "{answer}");
    let city = todoke.sign_in("municipal_admin").await;
    let desk = system(&todoke, &city, "call centre", &["/call-centre"]).await;
    let mut long = replied("long");
    long["data"]["colour"] = json!(WORDS.repeat(500));
    assert_eq!(send_event(&desk, &long).await["rejected"][0]["reason"], "unknown_field");
    let mut written = replied("written");
    written["data"]["text"] = json!(WORDS);
    assert_eq!(send_event(&desk, &written).await["rejected"][0]["reason"], "forbidden_field");

    let operator = todoke.sign_in("operator").await;
    let held = held_by_pages(&operator, 4).await;
    let told: Vec<(&str, bool)> = held
        .iter()
        .map(|entry| (entry["reason"].as_str().unwrap(), entry["can_be_replayed"].as_bool().unwrap()))
        .collect();
    for expected in [("unknown_field", false), ("not_json", false), ("unknown_type", true), ("forbidden_field", true)] {
        assert!(told.contains(&expected), "{expected:?} in {told:?}");
    }
    assert_eq!(told.len(), 6, "{told:?}");
    let torn = held.iter().find(|entry| entry["reason"] == "not_json").unwrap();
    assert!(torn["content_bytes"].as_u64() > Some(0), "{torn}");
    eventually("the log is in the lake", Duration::from_secs(60), async || {
        let health = operator.get("/v1/lake/health").await.expect(200);
        (health["staged_rows"] == 0 && health["log_backlog_bytes"] == 0).then_some(())
    })
    .await;
    for file in files_below(todoke.data_dir()) {
        // Files of SQLite come and go with its checkpoints.
        let Ok(bytes) = std::fs::read(&file) else { continue };
        let words = WORDS.as_bytes();
        assert!(!bytes.windows(words.len()).any(|window| window == words), "words in {}", file.display());
    }
    todoke.stop().await;
}

/// An earlier version kept contents as they were sent: with the next start they are looked at by the rule of now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_an_earlier_version_kept_leave_the_record_when_this_one_starts() {
    const WORDS: &str = "ひみつの検索語";
    // More than are looked at in one transaction.
    const SEARCHES: usize = 300;
    let dir = TempDir::with_prefix("todoke-words-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let (file, town) = (todoke.data_dir().join("record.sqlite"), todoke.municipality());
    todoke.stop().await;
    let url = format!("sqlite://{}", file.display());
    let mut search = view(1);
    search["event_type"] = json!("app.search_performed");
    search["words"] = json!(WORDS);
    search["colour"] = json!("red");
    let mut reply = replied("r-1");
    reply["data"]["text"] = json!(WORDS);
    let mut contents = vec![("usage", search.to_string()); SEARCHES];
    contents.push(("events", reply.to_string()));
    contents.push(("usage", format!("{{\"words\":\"{WORDS}")));
    let mut record = SqliteConnection::connect(&url).await.unwrap();
    let received_at: Timestamp = recently().parse().unwrap();
    for (entrance, content) in &contents {
        let entry =
            "INSERT INTO quarantined_event (quarantine_id, municipality_code, entrance, sender, reason, content, state,
                        received_at_us)
                     VALUES ($1, $2, $3, '{}', 'unknown_field', $4, 'held', $5)";
        let id = QuarantineId::new(received_at).to_string();
        let entry = sqlx::query(entry).bind(id).bind(&town).bind(entrance).bind(content);
        entry.bind(received_at.as_micros()).execute(&mut record).await.unwrap();
    }
    record.close().await.unwrap();

    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await;
    let held = eventually("all contents were looked at", Duration::from_secs(60), async || {
        let held = held_by_pages(&operator, 200).await;
        held.iter().all(|entry| entry["content_bytes"].is_u64()).then_some(held)
    })
    .await;
    let mut lengths: Vec<usize> = held.iter().map(|entry| entry["content_bytes"].as_u64().unwrap() as usize).collect();
    let mut expected: Vec<usize> = contents.iter().map(|(_, content)| content.len()).collect();
    lengths.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lengths, expected, "how long they were is known");
    let n_lost = held.iter().filter(|entry| entry["can_be_replayed"] == false).count();
    assert_eq!(n_lost, 1, "nobody can read what is torn, and so none of it is kept");
    todoke.stop().await;

    let mut record = SqliteConnection::connect(&url).await.unwrap();
    let kept: Vec<(String,)> =
        sqlx::query_as("SELECT content FROM quarantined_event").fetch_all(&mut record).await.unwrap();
    // The last one to close brings the log of SQLite into the file.
    record.close().await.unwrap();
    assert!(kept.iter().all(|(content,)| !content.contains(WORDS)), "{kept:?}");
    let counted = kept.iter().filter(|(content,)| content.contains("\"text_length\":7")).count();
    assert_eq!(counted, SEARCHES + 1, "of words the number of characters stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_more_bad_events_than_are_kept_is_refused_as_a_whole() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let guardian = agreed(&todoke).await;
    let too_many = std::iter::once(view(1)).chain((1_000..1_501).map(bad));
    let refused = send_lines(&guardian, too_many).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(refused.json()["type"], "/problems/too-many-bad");
    let city = todoke.sign_in("municipal_admin").await;
    let desk = system(&todoke, &city, "call centre", &["/call-centre"]).await;
    let mut batch = vec![json!(7); 501];
    batch.insert(0, replied("good"));
    let batch = Value::from(batch).to_string().into_bytes();
    let refused = send(&desk, "/v1/events", "application/cloudevents-batch+json", None, batch).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    let operator = todoke.sign_in("operator").await;
    assert_eq!(operator.get("/v1/lake/quarantine").await.expect(200)["items"], json!([]));
    // Nothing of either was stored: the good ones are new.
    let most = std::iter::once(view(1)).chain((1_000..1_500).map(bad));
    assert_eq!(send_lines(&guardian, most).await.expect(202)["accepted"], 1);
    assert_eq!(send_event(&desk, &replied("good")).await["accepted"], 1);
    let health = operator.get("/v1/lake/health").await.expect(200);
    assert_eq!(health["quarantine"]["unknown_field"], 500, "{health}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fills_the_quarantine_is_told_to_come_again_and_the_operator_sees_it() {
    let settings =
        [("TODOKE_INGEST__HELD_PER_SENDER_MAX", "2".to_owned()), ("TODOKE_INGEST__HELD_MAX", "3".to_owned())];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let operator = todoke.sign_in("operator").await;
    let guardian = agreed(&todoke).await;
    assert_eq!(send_lines(&guardian, [bad(1), bad(2)]).await.expect(202)["rejected"][1]["reason"], "unknown_field");
    let refused = send_lines(&guardian, [view(3), bad(4)]).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(refused.json()["type"], "/problems/quarantine-full");
    assert_eq!(refused.header("retry-after"), "3600");
    // Good usage goes on, and nothing of what was refused was stored.
    assert_eq!(send_lines(&guardian, [view(3)]).await.expect(202)["accepted"], 1);
    // What only the log can refuse is not taken for kept either; what is good beside it is there.
    let mut reused = view(3);
    reused["dwell_ms"] = json!(99);
    assert_eq!(send_lines(&guardian, [view(5), reused]).await.status, 429);
    assert_eq!(send_lines(&guardian, [view(5)]).await.expect(202)["duplicates"], 1);
    assert_eq!(operator.get("/v1/lake/health").await.expect(200)["quarantine_full"], false);
    // The others have room until the municipality has none.
    assert_eq!(send_lines(&operator, [bad(6)]).await.expect(202)["rejected"][0]["reason"], "unknown_field");
    assert_eq!(operator.get("/v1/lake/health").await.expect(200)["quarantine_full"], true);
    let refused = send_lines(&operator, [bad(7)]).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["type"], "/problems/quarantine-full");
    let neighbour = todoke.sign_in("neighbour_operator").await;
    send_lines(&neighbour, [bad(8)]).await.expect(202);
    let figures = todoke.client().get("/metrics").await.text();
    for figure in [
        "todoke_quarantined_events 4",
        "todoke_quarantine_refused_total{limit=\"sender\"} 2",
        "todoke_quarantine_refused_total{limit=\"municipality\"} 1",
    ] {
        assert!(figures.contains(figure), "{figure} in\n{figures}");
    }
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_is_let_go_and_makes_room_and_its_reasons_stay() {
    const DISCARD: &str = "/v1/lake/quarantine/discard";
    let settings = [("TODOKE_INGEST__HELD_PER_SENDER_MAX", "2".to_owned())];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let (operator, neighbour) = (todoke.sign_in("operator").await, todoke.sign_in("neighbour_operator").await);
    let guardian = agreed(&todoke).await;
    send_lines(&guardian, [bad(1), bad(2)]).await.expect(202);
    assert_eq!(send_lines(&guardian, [view(3), bad(4)]).await.status, 429);
    let by_reason = json!({"reason": "unknown_field"});
    assert_eq!(guardian.post(DISCARD, &by_reason).await.status, 403);
    assert_eq!(operator.post(DISCARD, &json!({})).await.status, 422, "somebody has to say what is meant");
    assert_eq!(operator.post(DISCARD, &json!({"before": "yesterday"})).await.status, 422);
    assert_eq!(operator.post(DISCARD, &json!({"reason": ""})).await.status, 422, "an empty reason is not every reason");
    let first = held_by_pages(&operator, 200).await.remove(0);
    let not_meant = [
        (&neighbour, by_reason),
        (&operator, json!({"reason": "not_json"})),
        (&operator, json!({"before": first["received_at"]})),
        (&operator, json!({"account_id": first["quarantine_id"]})),
    ];
    for (who, which) in not_meant {
        assert_eq!(who.post(DISCARD, &which).await.expect(200)["discarded"], json!({}), "{which}");
    }
    let of_sender = json!({"reason": "unknown_field", "account_id": first["account_id"]});
    assert_eq!(operator.post(DISCARD, &of_sender).await.expect(200)["discarded"], json!({"unknown_field": 2}));
    assert_eq!(replay(&operator, REPLAY).await, [json!(0), json!(0)], "they do not come back");
    assert_eq!(send_lines(&guardian, [view(3), bad(4)]).await.expect(202)["accepted"], 1);
    let health = operator.get("/v1/lake/health").await.expect(200);
    assert_eq!(health["quarantine"], json!({"unknown_field": 1}));
    assert_eq!(health["quarantine_discarded"], json!({"unknown_field": 2}));

    let town = todoke.municipality();
    let discard = ["lake", "quarantine", "discard", "--municipality", &town];
    let with = |rest: [&'static str; 2]| [&discard[..], &rest].concat();
    let none = todoke.cli(&with(["--before", "2020-01-01T00:00:00Z"])).await.success();
    assert_eq!(none, "{\"discarded\":{}}");
    let gone = todoke.cli(&with(["--reason", "unknown_field"])).await.success();
    assert_eq!(gone, "{\"discarded\":{\"unknown_field\":1}}");
    assert_eq!(held_by_pages(&operator, 200).await, Vec::<Value>::new());
    let analyst = todoke.sign_in("analyst").await;
    let audit = "SELECT actor_role, \"rows\" FROM events_access WHERE what = 'quarantine_discarded'
                 AND object_kind = 'quarantine' AND subject_id = 'unknown_field' ORDER BY occurred_at";
    eventually("the audit has both", Duration::from_secs(60), async || {
        (sql(&analyst, audit).await == [[json!("operator"), json!(2)], [json!("system"), json!(1)]]).then_some(())
    })
    .await;
    todoke.stop().await;
}
