//! App usage (app.*): durable before it is acknowledged, exactly once in the lake, also across a kill.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_tests::{
    http::Client,
    todoke::{DemoOptions, Todoke, recent_id, recently},
    wait::eventually,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::scene::sql;

/// A session with one view, told by fresh ids that end in `n`.
pub(crate) fn visit(n: u32) -> Vec<Value> {
    let id = |kind: u32| format!("{}-8{kind:03}-{n:012}", recent_id());
    let session = format!("session-{n}");
    let at = recently();
    vec![
        json!({"event_id": id(1), "event_type": "app.session_started", "occurred_at": at, "session_id": session,
               "platform": "web", "os_version": "test", "app_version": "1.0.0", "entry": "icon"}),
        json!({"event_id": id(2), "event_type": "app.screen_viewed", "occurred_at": at, "session_id": session,
               "screen_id": "G01", "dwell_ms": 1200}),
    ]
}

/// The same events, of this moment.
fn just_now(mut events: Vec<Value>) -> Vec<Value> {
    let file = tempfile::tempfile().and_then(|file| file.metadata()?.modified()).unwrap();
    let now = format!("{:.6}", jiff::Timestamp::try_from(file).unwrap());
    events.iter_mut().for_each(|event| event["occurred_at"] = json!(now));
    events
}

async fn report(who: &Client, events: &[Value]) -> Value {
    who.post("/v1/usage", &json!({"device_key": 4_711, "events": events})).await.expect(202)
}

/// How often each of the session's events is in the lake.
async fn times_in_lake(analyst: &Client, n: u32) -> Vec<Vec<Value>> {
    sql(analyst, &format!("SELECT event_type, COUNT(*) FROM events_app WHERE session_id = 'session-{n}' GROUP BY event_type ORDER BY 1")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_usage_survives_a_kill_and_is_in_the_lake_once() {
    let dir = TempDir::with_prefix("todoke-usage-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let guardian = todoke.sign_in("guardian").await;
    let token = guardian.bearer().unwrap().to_owned();
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    let mixed =
        [visit(1), vec![json!({"event_id": "x", "event_type": "app.no_such_thing", "occurred_at": recently()})]]
            .concat();
    let receipt = report(&guardian, &mixed).await;
    assert_eq!((&receipt["accepted"], &receipt["rejected"][0]["event_id"]), (&json!(2), &json!("x")), "{receipt}");
    todoke.kill().await;

    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let guardian = todoke.client().with_bearer(&token);
    let again = report(&guardian, &visit(1)).await;
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(2)), "{again}");
    let analyst = todoke.sign_in("analyst").await;
    let rows = eventually("the session is in the lake", Duration::from_secs(60), async || {
        let rows = times_in_lake(&analyst, 1).await;
        (rows.len() == 2).then_some(rows)
    })
    .await;
    assert_eq!(rows, [vec![json!("app.screen_viewed"), json!(1)], vec![json!("app.session_started"), json!(1)]]);
    todoke.stop().await;
}

/// What was held while somebody agreed is not taken after the consent was withdrawn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_of_somebody_who_withdrew_is_dropped() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let guardian = todoke.sign_in("guardian").await;
    let operator = todoke.sign_in("operator").await;
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    let mut bad = visit(1);
    bad.truncate(1);
    bad[0]["colour"] = json!("red");
    assert_eq!(report(&guardian, &bad).await["rejected"][0]["reason"], "unknown_field");
    let replay = async || {
        let done = operator.post("/v1/lake/quarantine/replay", &json!({})).await.expect(200);
        ["taken", "held", "dropped"].map(|what| done[what].clone())
    };
    assert_eq!(replay().await, [json!(0), json!(1), json!(0)]);
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": false})).await;
    assert_eq!(replay().await, [json!(0), json!(0), json!(1)]);
    // Nor is it after the consent was given again.
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    let mut bad = just_now(visit(2));
    bad.truncate(1);
    bad[0]["colour"] = json!("red");
    assert_eq!(report(&guardian, &bad).await["rejected"][0]["reason"], "unknown_field");
    for granted in [false, true] {
        guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": granted})).await;
    }
    assert_eq!(replay().await, [json!(0), json!(0), json!(1)]);
    assert_eq!(operator.get("/v1/lake/quarantine").await.expect(200)["items"], json!([]));
    todoke.stop().await;
}

/// Nothing is collected that was not agreed to (N-SEC-12).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_consent_nothing_is_collected() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let guardian = todoke.sign_in("guardian").await;
    let analyst = todoke.sign_in("analyst").await;
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": false})).await;
    guardian.post("/v1/usage", &json!({"device_key": 4_711, "events": visit(1)})).await;
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    // Another phone was out of reach and went on recording in between.
    let late = report(&guardian, &visit(3)).await;
    assert_eq!(
        (&late["accepted"], &late["rejected"], &late["not_agreed"]),
        (&json!(0), &json!([]), &json!(2)),
        "{late}"
    );
    let receipt = report(&guardian, &just_now(visit(2))).await;
    assert_eq!((&receipt["accepted"], &receipt["not_agreed"]), (&json!(2), &Value::Null), "{receipt}");
    eventually("what was agreed to arrives", Duration::from_secs(60), async || {
        (times_in_lake(&analyst, 2).await.len() == 2).then_some(())
    })
    .await;
    for n in [1, 3] {
        assert!(times_in_lake(&analyst, n).await.is_empty(), "visit {n} was collected without consent");
    }
    todoke.stop().await;
}

/// A withdrawal holds from its commit on, also for a request that began before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_on_its_way_while_consent_is_withdrawn_is_not_kept() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let guardian = todoke.sign_in("guardian").await;
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await.expect(204);
    let body = json!({"device_key": 4_711, "events": visit(3)}).to_string();
    let base_url = guardian.base_url();
    let address = base_url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/usage HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        guardian.bearer().unwrap(),
        body.len(),
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body when it knows who sends it.
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut asked = vec![0; go_on.len()];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&asked), String::from_utf8_lossy(go_on));
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": false})).await.expect(204);
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("\"consent\":false"), "{answer}");
    todoke.stop().await;
}
