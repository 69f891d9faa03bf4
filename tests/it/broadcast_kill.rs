//! `kill -9` in the middle of a broadcast to ten thousand people, again and again: everybody has it once, in the
//! record, on the live channel and in the lake.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_domain::{Timestamp, channel::Channel, ids::AccountId};
use todoke_store::{Durability, Store, Wall};
use todoke_tests::{
    crowd::crowd,
    http::Client,
    todoke::{DemoOptions, Todoke, cli_over},
    wait::eventually,
};

use crate::scene::text;

const PEOPLE: usize = 10_000;
/// One kill for about each share of the messages.
const KILLS: i64 = 8;
const LIMIT: Duration = Duration::from_secs(120);
/// Of nobody else in the demo.
const WARD: &str = "99999";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_people_are_told_once_however_often_the_server_is_killed() {
    let dir = TempDir::with_prefix("todoke-broadcast-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await.bearer().unwrap().to_owned();
    let town = todoke.municipality();
    todoke.stop().await;
    let people = gather(dir.path(), &town).await;

    let mut todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let id = send(&todoke.client().with_bearer(&operator)).await;
    for kill in 1..=KILLS {
        let api = todoke.client().with_bearer(&operator);
        let share = kill * i64::try_from(PEOPLE).unwrap() / (KILLS + 1);
        eventually("so many have it", LIMIT, async || (created(&api, &id).await >= share).then_some(())).await;
        todoke.kill().await;
        todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    }
    let api = todoke.client().with_bearer(&operator);
    let sent = eventually("everybody has it", LIMIT, async || {
        let sent = api.get(&format!("/v1/broadcasts/{id}")).await.expect(200);
        (sent["state"] == "sent").then_some(sent)
    })
    .await;
    assert_eq!(sent["counters"]["created"], PEOPLE);
    todoke.stop().await;
    each_once(dir.path(), &people, &id).await;
    in_lake(dir.path(), &town).await;
}

/// The record of the stopped server, opened beside it.
async fn record(dir: &std::path::Path) -> Store {
    Store::open_sqlite(&dir.join("data").join("record.sqlite"), Durability::Full).await.unwrap()
}

async fn gather(dir: &std::path::Path, town: &str) -> Vec<AccountId> {
    let store = record(dir).await;
    let now = Timestamp::from_micros(1_780_282_800_000_000);
    let people = crowd(&store, &town.parse().unwrap(), WARD, PEOPLE, now).await;
    store.close().await;
    people
}

async fn send(operator: &Client) -> String {
    let draft = json!({
        "kind": "emergency", "title": "避難のお知らせ", "body": "安全な場所へ避難してください。",
        "segment": { "people": "households", "when": { "kind": "ward", "codes": [WARD] } },
    });
    let id = text(&operator.post("/v1/broadcasts", &draft).await.expect(201), "broadcast_id");
    let released = operator.post(&format!("/v1/broadcasts/{id}/submit"), &json!({})).await.expect(200);
    assert_eq!(released["state"], "scheduled", "an emergency needs no second person");
    id
}

async fn created(api: &Client, id: &str) -> i64 {
    let sent = api.get(&format!("/v1/broadcasts/{id}")).await.expect(200);
    sent["counters"]["created"].as_i64().unwrap()
}

async fn each_once(dir: &std::path::Path, people: &[AccountId], id: &str) {
    let store = record(dir).await;
    let mut tx = store.begin_read(Wall::None).await.unwrap();
    for account in people {
        let inbox = tx.inbox(*account, false, None, 10).await.unwrap();
        assert_eq!(inbox.iter().filter(|message| message.subject_id == id).count(), 1, "{account}");
        let channel = Channel::Guardian(*account).to_string();
        let live = tx.publications_since(&channel, 0, 10).await.unwrap();
        assert_eq!((live.publications.len(), live.complete), (1, true), "{account}");
        let data: Value = serde_json::from_str(&live.publications[0].data).unwrap();
        assert_eq!(data["data"]["message"]["message_id"], json!(inbox[0].message_id));
    }
    let mails = tx.mails(None, 1_000_000).await.unwrap();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for mail in mails.iter().filter(|mail| mail.target.ends_with("@crowd.example.jp")) {
        *times.entry(&mail.target).or_default() += 1;
    }
    assert_eq!((times.len(), times.values().max()), (PEOPLE, Some(&1)), "one mail each");
    drop(tx);
    store.close().await;
}

/// The lake has one creation per person and message.
async fn in_lake(dir: &std::path::Path, town: &str) {
    let query = "SELECT COUNT(*) AS n, COUNT(DISTINCT message_id) AS messages, COUNT(DISTINCT recipient_key) AS people \
                 FROM events_message WHERE event_type = 'message.created' AND message_type = 'broadcast.emergency'";
    let answer =
        cli_over(&dir.join("data"), &["sql", query, "--municipality", town, "--format", "json"]).await.success();
    let answer: Value = serde_json::from_str(&answer).expect("JSON on standard output");
    assert_eq!(answer["rows"][0], json!([PEOPLE, PEOPLE, PEOPLE]));
}
