//! Push through the real binary: from a payment to an Android phone, an iPhone and a browser, and back.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_tests::{
    http::Client,
    live::Live,
    standin::{Fault, Google, Provider, Providers, Seen},
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};

use crate::scene::{Scene, inbox, sql, text};

const LIMIT: Duration = Duration::from_secs(60);

/// What the phone was sent about a message, once it has been.
pub(crate) async fn on_the_phone(providers: &Providers, message_id: &str) -> Value {
    eventually("Google has the push", LIMIT, async || {
        let mut sent = providers.google.messages.taken().into_iter().map(|seen| seen.json()["message"].clone());
        sent.find(|push| push["data"]["message_id"] == message_id)
    })
    .await
}

/// The pushes that a provider took under a tag.
pub(crate) fn tagged(provider: &Provider<'_>, tag: &str) -> Vec<Seen> {
    let mut taken = provider.standin.taken();
    taken.retain(|seen| (provider.tag_of)(seen).as_deref() == Some(tag));
    taken
}

pub(crate) async fn message_about(guardian: &Client, use_id: &str) -> Value {
    let all = inbox(guardian).await;
    all.into_iter().find(|message| message["subject"]["id"] == use_id).expect("the message of the use")
}

async fn tell(client: &Client, receipt: &str, kind: &str) -> Value {
    let body = json!({ "receipts": [{ "receipt": receipt, "kind": kind }] });
    client.post("/v1/receipts", &body).await.expect(200)["changed"].clone()
}

/// How many pushes of a message have come to a state, as the operator sees it.
async fn n_in_state(operator: &Client, message_id: &str, state: &str) -> usize {
    let life = operator.get(&format!("/v1/messages/{message_id}/deliveries")).await.expect(200);
    let rows = life["deliveries"].as_array().expect("deliveries");
    let shown = |row: &&Value| row["channel"] == "push" && row["purpose"] == "notification" && row["state"] == state;
    rows.iter().filter(shown).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_reaches_three_devices_and_opening_it_on_one_takes_it_off_the_iphone() {
    let providers = Providers::start().await;
    let todoke = Todoke::demo_with(DemoOptions::small(), &providers.settings()).await;
    let scene = Scene::of(&todoke).await;
    providers.equip(&scene.guardian, 1).await;
    let operator = todoke.sign_in("operator").await;

    let used = scene.pay("push-1", 300).await.expect(201);
    let id = text(&message_about(&scene.guardian, &text(&used, "use_id")).await, "message_id");
    let phone = on_the_phone(&providers, &id).await;
    assert_eq!((&phone["token"], &phone["data"]["kind"]), (&json!("phone-1"), &json!("notification")));
    let words = text(&phone["notification"], "body");
    assert!(words.contains("お子さま"), "no name on a lock screen: {words}");
    let (tag, receipt) = (text(&phone["data"], "tag"), text(&phone["data"], "receipt"));
    eventually("each provider has taken one", LIMIT, async || {
        (n_in_state(&operator, &id, "accepted").await == 3).then_some(())
    })
    .await;
    let [_, apple, service] = providers.all();
    for provider in providers.all() {
        assert_eq!(tagged(&provider, &tag).len(), 1, "{}", provider.name);
    }
    assert_eq!(tagged(&apple, &tag)[0].header("apns-id"), id);
    let opened = providers.subscriber.open(&tagged(&service, &tag)[0]).await;
    assert_eq!((&opened.plain["message_id"], &opened.plain["body"]), (&json!(id), &json!(words)));
    let key = todoke.client().get("/v1/push/web-key").await.expect(200);
    assert_eq!(key["key"], opened.sender_key.as_str(), "browsers subscribe with the key that signs");

    let open = todoke.client();
    assert_eq!(tell(&open, &receipt, "displayed").await, 1);
    assert_eq!(n_in_state(&operator, &id, "delivered").await, 1);
    assert_eq!(tell(&open, &receipt, "opened").await, 1);
    assert_eq!(tell(&open, &receipt, "opened").await, 0, "told twice is told once");
    assert!(message_about(&scene.guardian, &text(&used, "use_id")).await["read_at"].is_string());
    assert_eq!(n_in_state(&operator, &id, "superseded").await, 2);
    let taken_back = eventually("the iPhone is told to take it away", LIMIT, async || {
        tagged(&apple, &tag).into_iter().map(|seen| seen.json()).find(|push| push["kind"] == "withdraw")
    })
    .await;
    assert_eq!(taken_back["message_id"], id.as_str());

    // A phone that has lost the app is forgotten, and the others still hear.
    providers.google.messages.fail_next([Fault::Answer(Google::error(404, "NOT_FOUND", "UNREGISTERED"))]);
    let used = scene.pay("push-2", 300).await.expect(201);
    let id = text(&message_about(&scene.guardian, &text(&used, "use_id")).await, "message_id");
    eventually("the phone is gone", LIMIT, async || {
        let devices = scene.guardian.get("/v1/devices").await.expect(200);
        let kinds = devices["items"].as_array()?.iter().map(|device| device["kind"].clone());
        (!kinds.collect::<Vec<_>>().contains(&json!("fcm"))).then_some(())
    })
    .await;
    eventually("the others have it", LIMIT, async || (n_in_state(&operator, &id, "accepted").await == 2).then_some(()))
        .await;
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_push_reaches_and_what_was_opened_are_in_the_reports() {
    let providers = Providers::start().await;
    let todoke = Todoke::demo_with(DemoOptions::small(), &providers.settings()).await;
    let scene = Scene::of(&todoke).await;
    scene.guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await.expect(204);
    providers.equip(&scene.guardian, 1).await;
    let used = scene.pay("counted-1", 300).await.expect(201);
    let id = text(&message_about(&scene.guardian, &text(&used, "use_id")).await, "message_id");
    let receipt = text(&on_the_phone(&providers, &id).await["data"], "receipt");
    assert_eq!(tell(&todoke.client(), &receipt, "opened").await, 1);

    let analyst = todoke.sign_in("analyst").await;
    let lake = async |query: &str| sql(&analyst, query).await;
    let opened =
        format!("SELECT message_type FROM events_app WHERE event_type = 'app.push_opened' AND message_id = '{id}'");
    eventually("the lake knows that the push was opened", LIMIT, async || {
        (lake(&opened).await == [[json!("coupon.used")]]).then_some(())
    })
    .await;
    let reached = "SELECT COUNT(DISTINCT device_key) FROM events_app
        WHERE event_type = 'app.push_permission_changed' AND granted";
    eventually("the lake knows the three devices", LIMIT, async || {
        (lake(reached).await[0][0].as_i64()? >= 3).then_some(())
    })
    .await;
    let now = scene.guardian.get("/v1/session").await.expect(200)["server_time"].as_str().unwrap().to_owned();
    let today = now.parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    let report =
        async |name: &str| analyst.get(&format!("/v1/reports/{name}?from={today}&to={today}")).await.expect(200);
    let column = |report: &Value, name: &str| {
        let columns = report["columns"].as_array().unwrap();
        columns.iter().position(|column| column["name"] == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let kpi = report("kpi").await;
    let [id_at, measure_at, value_at] = ["kpi_id", "measure", "value"].map(|name| column(&kpi, name));
    let mut lines = kpi["rows"].as_array().unwrap().iter();
    let line = lines.find(|row| row[id_at] == "K08" && row[measure_at] == "reachable").unwrap();
    assert!(line[value_at].as_f64().unwrap() >= 3.0, "{kpi}");
    let usage = report("app_usage").await;
    assert!(usage["rows"][0][column(&usage, "push_opened")].as_i64() >= Some(1), "{usage}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_go_over_the_socket_too_and_what_was_shown_is_in_the_log() {
    let providers = Providers::start().await;
    let todoke = Todoke::demo_with(DemoOptions::small(), &providers.settings()).await;
    let scene = Scene::of(&todoke).await;
    providers.equip(&scene.guardian, 1).await;
    let live = Live::connect(&scene.guardian).await;
    let used = scene.pay("socket-1", 300).await.expect(201);
    let id = text(&message_about(&scene.guardian, &text(&used, "use_id")).await, "message_id");
    let phone = on_the_phone(&providers, &id).await;
    let receipt = text(&phone["data"], "receipt");
    live.rpc("message.displayed", json!({ "message_id": id })).await;
    let told = [("delivered", 1), ("displayed", 1), ("displayed", 0), ("opened", 1)];
    for (kind, changed) in told {
        let answer = live.rpc(&format!("message.{kind}"), json!({ "receipt": receipt })).await;
        assert_eq!(answer["changed"], changed, "{kind}");
    }
    let unknown = json!({ "receipt": "0".repeat(48) });
    assert_eq!(live.rpc("message.opened", unknown).await["changed"], 0);
    assert_eq!(live.rpc("message.opened", json!({ "receipt": "nonsense" })).await["changed"], 0);

    let operator = todoke.sign_in("operator").await;
    let life = operator.get(&format!("/v1/messages/{id}/deliveries")).await.expect(200);
    let rows = life["deliveries"].as_array().expect("deliveries");
    assert!(rows.iter().any(|row| row["displayed_at"].is_string() && row["state"] == "opened"), "{life}");
    let analyst = todoke.sign_in("analyst").await;
    let query =
        format!("SELECT channel, displayed_at IS NOT NULL FROM messages WHERE message_id = '{id}' ORDER BY channel");
    eventually("the lake knows on which channels it was shown", LIMIT, async || {
        let rows = sql(&analyst, &query).await;
        let shown = rows.iter().filter(|row| row[1] == true).map(|row| row[0].clone());
        (shown.collect::<Vec<_>>() == [json!("live"), json!("push")]).then_some(())
    })
    .await;
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_before_the_answer_sends_again_what_replaces_itself() {
    let providers = Providers::start().await;
    let dir = TempDir::with_prefix("todoke-push-").unwrap();
    let mut settings = providers.settings();
    settings.push(("TODOKE_DELIVERY__LEASE_S", "5".to_owned()));
    settings.push(("TODOKE_DELIVERY__RETRIES_S", "[1, 1, 1]".to_owned()));
    let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let scene = Scene::of(&todoke).await;
    providers.equip(&scene.guardian, 1).await;
    let google = &providers.google.messages;
    // It is handed over, and whether it was taken nobody will ever know here.
    google.fail_next([Fault::Late(Duration::from_secs(3_600))]);
    let used = scene.pay("kill-1", 300).await.expect(201);
    let id = text(&message_about(&scene.guardian, &text(&used, "use_id")).await, "message_id");
    let sent = || -> Vec<Value> {
        let all = google.seen().into_iter().map(|seen| seen.json()["message"]["data"].clone());
        all.filter(|data| data["message_id"] == id.as_str()).collect()
    };
    eventually("the push is under way", LIMIT, async || (!sent().is_empty()).then_some(())).await;
    todoke.kill().await;
    let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    on_the_phone(&providers, &id).await;
    let operator = todoke.sign_in("operator").await;
    eventually("each provider has taken it", LIMIT, async || {
        (n_in_state(&operator, &id, "accepted").await == 3).then_some(())
    })
    .await;
    let sent = sent();
    assert!(sent.len() >= 2, "handed over before the kill and after it");
    assert!(sent.iter().all(|data| data["tag"] == sent[0]["tag"]), "a device shows one: {sent:?}");
    todoke.stop().await;
}
