//! Nothing lost, nothing twice, or an honest `recovered: false`.

use std::sync::Arc;

use serde_json::{Value, json};
use todoke_workflow::live_sample::LiveSample;
use tokio::task::JoinSet;

use super::super::RealtimeConfig;
use super::client::{Client, Frame, token};
use super::stub::Rig;

const CHANNEL: &str = "guardian:u";

async fn come_back(rig: &Rig, offset: u64, epoch: &str) -> (Client, Value) {
    let subs = json!({CHANNEL: {"recover": true, "epoch": epoch, "offset": offset}});
    let (client, mut result) = Client::connect_with(rig, json!({"token": token("u", &[CHANNEL]), "subs": subs})).await;
    (client, result["subs"][CHANNEL].take())
}

#[tokio::test]
async fn the_first_connect_tells_where_the_channel_is() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    rig.publish(CHANNEL, json!(1)).await;
    rig.publish(CHANNEL, json!(2)).await;
    let (mut client, result) = Client::connect(&rig, &token("u", &[CHANNEL])).await;
    let expected = json!({"recoverable": true, "positioned": true, "offset": 2, "epoch": "e1"});
    assert_eq!(result["subs"][CHANNEL], expected);
    rig.publish(CHANNEL, json!({"n": 3})).await;
    assert_eq!(client.publication().await, (CHANNEL.to_owned(), 3, json!({"n": 3})));
}

#[tokio::test]
async fn a_short_absence_is_bridged_by_the_ring_and_a_long_one_by_the_record() {
    let rig = Rig::start_with_ring(RealtimeConfig::default(), 5).await;
    let (client, _) = Client::connect(&rig, &token("u", &[CHANNEL])).await;
    for n in 1..=20 {
        rig.publish(CHANNEL, json!(n)).await;
    }
    drop(client);
    for (offset, what) in [(20, "nothing missed"), (17, "the ring"), (3, "the record"), (0, "everything")] {
        let (_client, sub) = come_back(&rig, offset, "e1").await;
        assert_eq!(sub["recovered"], true, "{what}");
        assert_eq!(sub["was_recovering"], true, "{what}");
        assert_eq!(Client::offsets(&sub), (offset + 1..=20).collect::<Vec<_>>(), "{what}");
        assert_eq!(Client::position(&sub), (offset, "e1"), "the position it came with, to which it adds");
    }
    rig.restart().await;
    let (mut client, sub) = come_back(&rig, 18, "e1").await;
    assert_eq!((&sub["recovered"], Client::offsets(&sub)), (&json!(true), vec![19, 20]), "after a restart");
    rig.publish(CHANNEL, json!(21)).await;
    assert_eq!(client.publication().await.1, 21);
}

#[tokio::test]
async fn who_comes_back_is_in_the_sample_with_what_was_sent_again() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let (client, _) = Client::connect(&rig, &token("u", &[CHANNEL])).await;
    rig.publish(CHANNEL, json!(1)).await;
    rig.publish(CHANNEL, json!(2)).await;
    drop(client);
    rig.until_n_connections(0).await;
    let town: Arc<str> = "990001".into();
    let came = LiveSample { sessions: 1, ..LiveSample::default() };
    assert_eq!(rig.hub().take_samples(), [(Arc::clone(&town), came)], "a first connect recovers nothing");
    let (_client, _) = come_back(&rig, 0, "e1").await;
    let back = LiveSample { sessions: 1, recovered: 1, republished: 2 };
    assert_eq!(rig.hub().take_samples(), [(town, back)]);
    assert!(rig.hub().take_samples().iter().all(|(_, sample)| *sample == came), "told once");
}

#[tokio::test]
async fn what_cannot_be_proven_is_not_recovered() {
    let config = RealtimeConfig { recovery_n_max: 8, ..RealtimeConfig::default() };
    let rig = Rig::start_with_ring(config, 2).await;
    for n in 1..=20 {
        rig.publish(CHANNEL, json!(n)).await;
    }
    rig.record().prune(CHANNEL, 14);
    for (offset, epoch, what) in [(19, "e0", "another epoch"), (12, "e1", "pruned"), (21, "e1", "ahead of the record")]
    {
        let (mut client, sub) = come_back(&rig, offset, epoch).await;
        assert_eq!(sub["recovered"], Value::Null, "{what}");
        assert_eq!(sub["was_recovering"], true, "{what}");
        assert_eq!((Client::position(&sub), Client::offsets(&sub)), ((20, "e1"), vec![]), "{what}");
        let reply = client.error("subscribe", json!({"channel": CHANNEL})).await;
        assert_eq!(reply, 105);
    }
    let (_client, sub) = come_back(&rig, 14, "e1").await;
    assert_eq!(Client::offsets(&sub), (15..=20).collect::<Vec<_>>(), "the last position that is whole");
    for n in 21..=30 {
        rig.publish(CHANNEL, json!(n)).await;
    }
    let (_client, sub) = come_back(&rig, 15, "e1").await;
    assert_eq!((&sub["recovered"], Client::position(&sub)), (&Value::Null, (30, "e1")), "too much to send");
}

#[tokio::test]
async fn another_database_is_another_epoch() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    rig.publish(CHANNEL, json!(1)).await;
    let (_, sub) = come_back(&rig, 1, "e1").await;
    assert_eq!(sub["recovered"], true);
    rig.record().restore_other("e2");
    rig.restart().await;
    rig.publish(CHANNEL, json!("other")).await;
    let (_, sub) = come_back(&rig, 1, "e1").await;
    assert_eq!((&sub["recovered"], Client::position(&sub)), (&Value::Null, (1, "e2")));
}

#[tokio::test]
async fn client_side_subscriptions_recover_or_refuse_to_start() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let (mut client, _) = Client::connect(&rig, &token("u", &[])).await;
    for n in 1..=3 {
        rig.publish("open:1", json!(n)).await;
    }
    let request =
        |epoch: &str, flag| json!({"channel": "open:1", "recover": true, "offset": 1, "epoch": epoch, "flag": flag});
    assert_eq!(client.error("subscribe", request("e0", 2)).await, 112);
    let mut reply = client.call("subscribe", request("e1", 2)).await;
    let sub = reply["subscribe"].take();
    assert_eq!((&sub["recovered"], Client::offsets(&sub)), (&json!(true), vec![2, 3]));
    rig.publish("open:1", json!(4)).await;
    assert_eq!(client.publication().await.1, 4);
}

#[tokio::test]
async fn history_pages_in_both_directions() {
    let rig = Rig::start_with_ring(RealtimeConfig { history_n_max: 6, ..RealtimeConfig::default() }, 4).await;
    for n in 1..=10 {
        rig.publish(CHANNEL, json!(n)).await;
    }
    rig.record().prune(CHANNEL, 2);
    let (mut client, _) = Client::connect(&rig, &token("u", &[CHANNEL])).await;
    rig.publish(CHANNEL, json!(11)).await;
    assert_eq!(client.publication().await.1, 11);
    let mut ask = async |body: Value| {
        let mut request = json!({"channel": CHANNEL});
        request.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let reply = client.call("history", request).await;
        if let Some(code) = reply["error"]["code"].as_u64() {
            return Err(code);
        }
        assert_eq!(Client::position(&reply["history"]), (11, "e1"));
        Ok(Client::offsets(&reply["history"]))
    };
    let since = |offset: u64| json!({"offset": offset, "epoch": "e1"});
    assert_eq!(ask(json!({})).await, Ok(vec![]), "only the position");
    assert_eq!(ask(json!({"limit": 3})).await, Ok(vec![3, 4, 5]), "the oldest there are");
    assert_eq!(ask(json!({"limit": -1})).await, Ok((3..=8).collect()), "as many as allowed");
    assert_eq!(ask(json!({"limit": 2, "reverse": true})).await, Ok(vec![11, 10]));
    assert_eq!(ask(json!({"limit": 2, "since": since(9)})).await, Ok(vec![10, 11]));
    assert_eq!(ask(json!({"limit": 2, "since": since(4)})).await, Ok(vec![5, 6]));
    assert_eq!(ask(json!({"limit": 2, "since": since(11)})).await, Ok(vec![]));
    assert_eq!(ask(json!({"limit": 2, "since": since(9), "reverse": true})).await, Ok(vec![8, 7]));
    assert_eq!(ask(json!({"limit": 9, "since": since(5), "reverse": true})).await, Ok(vec![4, 3]));
    assert_eq!(ask(json!({"limit": 2, "since": since(0)})).await, Err(112), "pruned");
    assert_eq!(ask(json!({"limit": 2, "since": {"offset": 9, "epoch": "e0"}})).await, Err(112));
}

/// Clients that come and go while publications arrive out of order, from several tasks at once:
/// whatever a client has seen, in replies and pushes together, is 1, 2, 3 … without hole or repeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recovery_and_live_delivery_meet_without_seam() {
    const N: u64 = 400;
    let rig = Rig::start_with_ring(RealtimeConfig::default(), 10).await;
    let mut tasks: JoinSet<()> = JoinSet::new();
    for _ in 0..8 {
        let rig = rig.clone();
        tasks.spawn(async move { restless_reader(&rig, N).await });
    }
    let record = rig.record();
    let numbers = Arc::new(tokio::sync::Mutex::new(0));
    for _ in 0..3 {
        let (rig, record, numbers) = (rig.clone(), Arc::clone(&record), Arc::clone(&numbers));
        tasks.spawn(async move {
            loop {
                let mut number = numbers.lock().await;
                if *number == N {
                    return;
                }
                *number += 1;
                let publication = record.commit(CHANNEL, number.to_string());
                drop(number);
                // Between commit and hand-over anything may happen; a few are never handed over at all.
                tokio::task::yield_now().await;
                if publication.position % 29 != 0 || publication.position == N {
                    rig.hub().publish(CHANNEL, publication).await.unwrap();
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn restless_reader(rig: &Rig, n: u64) {
    let mut seen = 0;
    let mut n_connects = 0;
    while seen < n {
        let (mut client, sub) = come_back(rig, seen, "e1").await;
        n_connects += 1;
        assert_eq!(sub["recovered"], true);
        for offset in Client::offsets(&sub) {
            assert_eq!(offset, seen + 1, "in the reply of connect {n_connects}");
            seen = offset;
        }
        for _ in 0..(n_connects % 7) {
            if seen == n {
                break;
            }
            let (_, offset, data) = client.publication().await;
            assert_eq!((offset, data), (seen + 1, json!(seen + 1)), "live after connect {n_connects}");
            seen = offset;
        }
        if n_connects % 2 == 0 {
            client.send(0x88, &[]).await;
            while client.frame().await != Frame::Close(None) {}
        }
    }
}

#[tokio::test]
async fn a_hole_that_stays_ends_the_subscriptions_it_concerns() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let (mut server_side, _) = Client::connect(&rig, &token("u", &["open:1"])).await;
    let (mut client_side, _) = Client::connect(&rig, &token("v", &[])).await;
    client_side.call("subscribe", json!({"channel": "open:1"})).await;
    rig.record().commit("open:1", "1");
    let second = rig.record().commit("open:1", "2");
    rig.record().prune("open:1", 1);
    rig.hub().publish("open:1", second).await.unwrap();
    assert_eq!(server_side.close_code().await, 3010);
    let push = client_side.next().await;
    assert_eq!(
        push["push"],
        json!({"channel": "open:1", "unsubscribe": {"code": 2500, "reason": "insufficient state"}})
    );
    let reply = client_side.call("subscribe", json!({"channel": "open:1"})).await;
    assert_eq!(Client::position(&reply["subscribe"]), (2, "e1"));
}
