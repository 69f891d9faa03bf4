//! `kill -9` in the middle of a broadcast to ten thousand people, again and again: everybody has it once, in the
//! record, on the live channel, on their device and in the lake.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_domain::{MunicipalityCode, Timestamp, channel::Channel, delivery::Provider, ids::AccountId};
use todoke_store::{Durability, Store, Wall, device::Device};
use todoke_tests::{
    crowd::crowd,
    http::Client,
    standin::{Providers, Subscriber},
    todoke::{DemoOptions, Todoke, cli_over, recently},
    wait::eventually,
};

use crate::{delivery_scene::device_of, scene::text};

const PEOPLE: usize = 10_000;
/// One kill for about each share of the messages.
const KILLS: usize = 8;
/// Pushes under way at a time at each provider: as many may be handed over twice because of a kill.
const UNDER_WAY: usize = 16;
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
    let providers = Providers::start().await;
    let settings = settings(&providers);
    let people = gather(dir.path(), &town, &providers).await;

    let mut todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let id = send(&todoke.client().with_bearer(&operator)).await;
    for kill in 1..=KILLS {
        let api = todoke.client().with_bearer(&operator);
        let share = kill * PEOPLE / (KILLS + 1);
        eventually("so many have it", LIMIT, async || {
            // By turns while inboxes are filled and while devices are told, which takes longer.
            let n = if kill % 2 == 1 { created(&api, &id).await } else { handed(&providers) };
            (n >= share).then_some(())
        })
        .await;
        todoke.kill().await;
        todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    }
    let api = todoke.client().with_bearer(&operator);
    let sent = eventually("everybody has it", LIMIT, async || {
        let sent = api.get(&format!("/v1/broadcasts/{id}")).await.expect(200);
        (sent["state"] == "sent").then_some(sent)
    })
    .await;
    assert_eq!(sent["counters"]["created"], PEOPLE);
    eventually("every push is accepted", LIMIT, async || {
        let funnel = api.get("/v1/deliveries/funnel").await.expect(200);
        let pushes = |row: &&Value| row["type"] == "broadcast.emergency" && row["channel"] == "push";
        let accepted = funnel["items"].as_array()?.iter().find(pushes)?["accepted"].clone();
        (accepted == PEOPLE).then_some(())
    })
    .await;
    todoke.stop().await;
    each_device_once(&providers);
    each_once(dir.path(), &people, &id).await;
    in_lake(dir.path(), &town).await;
}

/// The record of the stopped server, opened beside it.
async fn record(dir: &std::path::Path) -> Store {
    Store::open_sqlite(&dir.join("data").join("record.sqlite"), Durability::Full).await.unwrap()
}

/// Slow enough for kills in between, and soon sure that a killed server does not come back to what it had begun.
fn settings(providers: &Providers) -> Vec<(&'static str, String)> {
    let mut settings = providers.settings();
    settings.push(("TODOKE_DELIVERY__PUSH_PER_SECOND_MAX", "300".to_owned()));
    settings.push(("TODOKE_DELIVERY__PUSH_PARALLEL_MAX", UNDER_WAY.to_string()));
    settings.push(("TODOKE_DELIVERY__LEASE_S", "10".to_owned()));
    settings.push(("TODOKE_DELIVERY__RETRIES_S", format!("{:?}", [1; KILLS])));
    settings
}

async fn gather(dir: &std::path::Path, town: &str, providers: &Providers) -> Vec<AccountId> {
    let store = record(dir).await;
    let now = Timestamp::from_micros(1_780_282_800_000_000);
    let town = town.parse().unwrap();
    let people = crowd(&store, &town, WARD, PEOPLE, now).await;
    equip(&store, &town, &people, providers).await;
    store.close().await;
    people
}

/// The device of the person with that number: who carries push to it, and its address.
fn device(n: usize, providers: &Providers) -> (Provider, String) {
    match n % 3 {
        0 => (Provider::Fcm, format!("phone-{n}")),
        1 => (Provider::Apns, format!("{n:064x}")),
        _ => (Provider::WebPush, format!("{}/push/{n}", providers.service.url())),
    }
}

async fn equip(store: &Store, town: &MunicipalityCode, people: &[AccountId], providers: &Providers) {
    let Subscriber { p256dh, auth, .. } = &providers.subscriber;
    let now = recently().parse().unwrap();
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    for (n, account) in people.iter().enumerate() {
        let (kind, address) = device(n, providers);
        let device = device_of(town, *account, kind, &address, now);
        let device = Device { p256dh: p256dh.clone(), auth: auth.clone(), ..device };
        assert!(tx.put_device(&device).await.unwrap(), "a new device");
    }
    tx.commit().await.unwrap();
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

async fn created(api: &Client, id: &str) -> usize {
    let sent = api.get(&format!("/v1/broadcasts/{id}")).await.expect(200);
    sent["counters"]["created"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap()
}

/// How many pushes the providers have taken.
fn handed(providers: &Providers) -> usize {
    providers.all().iter().map(|provider| provider.standin.n_taken()).sum()
}

/// Every device was told, and shows one message however often a push came to it: only what was under way at a kill
/// came again, under the tag that makes it take its own place.
fn each_device_once(providers: &Providers) {
    let devices: HashSet<String> = (0..PEOPLE).map(|n| device(n, providers).1).collect();
    let mut shown: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut n_handed = 0;
    for provider in providers.all() {
        for seen in provider.standin.taken() {
            let Some(tag) = (provider.tag_of)(&seen) else { continue };
            let (address, message) = match provider.name {
                "fcm" => {
                    let push = seen.json()["message"].clone();
                    (text(&push, "token"), text(&push["data"], "message_id"))
                }
                "apns" => (seen.path.trim_start_matches("/3/device/").to_owned(), seen.header("apns-id").to_owned()),
                // What is in it only the browser can read.
                _ => (format!("{}{}", provider.standin.url(), seen.path), String::new()),
            };
            if devices.contains(&address) {
                n_handed += 1;
                shown.entry(address).or_default().insert(format!("{tag} {message}"));
            }
        }
    }
    assert_eq!(shown.len(), PEOPLE, "nobody is left out");
    assert!(shown.values().all(|one| one.len() == 1), "a device shows one");
    let n_again = n_handed - PEOPLE;
    assert!(n_again <= KILLS * UNDER_WAY * providers.all().len(), "{n_again} came again");
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
