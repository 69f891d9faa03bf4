//! Tokens, rights that end, presence, and the end of the server.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::super::{Disconnect, RealtimeConfig};
use super::client::{Client, Frame, token};
use super::stub::Rig;

#[tokio::test]
async fn a_token_is_renewed_or_the_connection_ends() {
    let config =
        RealtimeConfig { expired_close_delay_s: 5, ping_interval_s: 1, pong_timeout_s: 1, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let with_ttl = |user: &str, ttl_s: i64, channels: Value| {
        json!({"user": user, "session": "s", "ttl_s": ttl_s, "channels": channels}).to_string()
    };
    let none = || json!([]);
    let (mut client, result) = Client::connect(&rig, &with_ttl("u", 60, none())).await;
    assert_eq!((&result["expires"], &result["ttl"]), (&json!(true), &json!(60)));
    rig.gate().now_unix_s.fetch_add(59, Ordering::SeqCst);
    let reply = client.call("refresh", json!({"token": with_ttl("u", 90, none())})).await;
    assert_eq!((&reply["refresh"]["expires"], &reply["refresh"]["ttl"]), (&json!(true), &json!(90)));
    assert_eq!(reply["refresh"]["client"], result["client"]);
    assert_eq!(client.error("refresh", json!({"token": with_ttl("u", 0, none())})).await, 110);
    assert_eq!(client.error("refresh", json!({"token": json!({"refusal": "unavailable"}).to_string()})).await, 100);
    rig.gate().now_unix_s.fetch_add(60, Ordering::SeqCst);
    assert_eq!(client.call("rpc", json!({"method": "echo", "data": 1})).await["rpc"]["data"], 1, "the new time counts");
    rig.gate().now_unix_s.fetch_add(40, Ordering::SeqCst);
    assert_eq!(client.close_code().await, 3005);

    for (renewed, code) in [
        (with_ttl("other", 60, none()), 3500),
        (with_ttl("u", 60, json!([{"name": "facility:1:queue"}])), 3011),
        ("nonsense".to_owned(), 3500),
        (String::new(), 3501),
    ] {
        let (mut client, _) = Client::connect(&rig, &with_ttl("u", 60, none())).await;
        client.command("refresh", json!({"token": renewed})).await;
        assert_eq!(client.close_code().await, code, "{renewed}");
    }
}

#[tokio::test]
async fn a_subscription_is_renewed_or_ends_alone() {
    let config =
        RealtimeConfig { expired_close_delay_s: 5, ping_interval_s: 1, pong_timeout_s: 1, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let (mut client, _) = Client::connect(&rig, &token("u", &[])).await;
    let reply = client.call("subscribe", json!({"channel": "expiring:1", "token": "60"})).await;
    assert_eq!((&reply["subscribe"]["expires"], &reply["subscribe"]["ttl"]), (&json!(true), &json!(60)));
    let reply = client.call("sub_refresh", json!({"channel": "expiring:1", "token": "100"})).await;
    assert_eq!(reply["sub_refresh"], json!({"expires": true, "ttl": 100}));
    assert_eq!(client.error("sub_refresh", json!({"channel": "expiring:1", "token": "bad"})).await, 109);
    assert_eq!(client.error("subscribe", json!({"channel": "expiring:2", "token": "-1"})).await, 110);
    rig.gate().now_unix_s.fetch_add(105, Ordering::SeqCst);
    let push = client.next().await;
    assert_eq!(
        push["push"],
        json!({"channel": "expiring:1", "unsubscribe": {"code": 2501, "reason": "subscription expired"}})
    );
    assert_eq!(client.call("rpc", json!({"method": "who"})).await["rpc"]["data"]["user"], "u");
}

#[tokio::test]
async fn an_ended_account_or_session_is_cut_and_others_are_not() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let (mut phone, _) = Client::connect(&rig, &token("u", &[])).await;
    let (mut tablet, _) = Client::connect(&rig, &json!({"user": "u", "session": "tablet"}).to_string()).await;
    let (mut other, _) = Client::connect(&rig, &token("v", &[])).await;
    assert_eq!((rig.hub().n_connections(), rig.hub().n_users()), (3, 2));
    rig.hub().disconnect_session("tablet", Disconnect::INVALID_TOKEN);
    assert_eq!(tablet.close_code().await, 3500);
    rig.hub().disconnect_user("u", Disconnect::FORCE_RECONNECT);
    assert_eq!(phone.close_code().await, 3011);
    assert_eq!(other.call("rpc", json!({"method": "who"})).await["rpc"]["data"]["user"], "v");
    rig.until_n_connections(1).await;
    rig.hub().disconnect_user("v", Disconnect::FORCE_NO_RECONNECT);
    assert_eq!(other.close_code().await, 3503);
}

#[tokio::test]
async fn rights_that_end_during_an_admission_are_not_granted() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let gate = rig.gate();
    gate.is_holding.store(true, Ordering::SeqCst);
    let mut client = Client::open(&rig).await;
    client.command("connect", json!({"token": token("u", &[])})).await;
    gate.waiting.notified().await;
    gate.ended_users.lock().unwrap().insert("u".to_owned());
    rig.hub().disconnect_user("u", Disconnect::INVALID_TOKEN);
    gate.released.notify_one();
    assert_eq!(client.close_code().await, 3500, "nobody could be cut, so the door is asked again");

    let (mut client, _) = Client::connect(&rig, &token("v", &[])).await;
    gate.is_holding.store(true, Ordering::SeqCst);
    let id = client.command("subscribe", json!({"channel": "open:1"})).await;
    gate.waiting.notified().await;
    gate.revoked_channels.lock().unwrap().insert("open:1".to_owned());
    rig.hub().unsubscribe_user("v", "open:1");
    gate.released.notify_one();
    let reply = client.next().await;
    assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(id), &json!(103)));
}

#[tokio::test]
async fn a_channel_can_be_taken_away() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let (mut client, _) = Client::connect(&rig, &token("u", &["facility:1:claims", "guardian:u"])).await;
    rig.hub().unsubscribe_user("u", "facility:1:claims");
    let push = client.next().await;
    assert_eq!(push["push"]["unsubscribe"]["code"], 2000);
    rig.publish("facility:1:claims", json!(1)).await;
    rig.publish("guardian:u", json!(2)).await;
    assert_eq!(client.publication().await.0, "guardian:u");
}

#[tokio::test]
async fn members_of_a_room_see_each_other_come_and_go() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let staff = |user: &str| {
        let channels = json!([{"name": "room:1", "presence": true, "join_leave": true}]);
        json!({"user": user, "session": "s", "channels": channels, "info": {"name": user}}).to_string()
    };
    let (mut first, result) = Client::connect(&rig, &staff("u")).await;
    let join = first.next().await;
    let info = json!({"user": "u", "client": result["client"], "conn_info": {"name": "u"}});
    assert_eq!(join["push"], json!({"channel": "room:1", "join": {"info": info}}), "it hears of itself");
    let (mut second, _) = Client::connect(&rig, &token("v", &[])).await;
    second.call("subscribe", json!({"channel": "room:1"})).await;
    let join = first.next().await;
    assert_eq!(join["push"]["join"]["info"]["chan_info"], json!({"seat": "v"}));
    let reply = first.call("presence", json!({"channel": "room:1"})).await;
    assert_eq!(reply["presence"]["presence"].as_object().unwrap().len(), 2);
    assert_eq!(reply["presence"]["presence"][result["client"].as_str().unwrap()], info);
    let reply = first.call("presence_stats", json!({"channel": "room:1"})).await;
    assert_eq!(reply["presence_stats"], json!({"num_clients": 2, "num_users": 2}));
    drop(second);
    let leave = first.next().await;
    assert_eq!(leave["push"]["leave"]["info"]["user"], "v");
    let reply = first.call("presence_stats", json!({"channel": "room:1"})).await;
    assert_eq!(reply["presence_stats"], json!({"num_clients": 1, "num_users": 1}));
}

#[tokio::test]
async fn samples_reach_whoever_is_there() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let channels = json!([{"name": "system", "live": true}]);
    let token = json!({"user": "u", "session": "s", "channels": channels}).to_string();
    let (mut client, result) = Client::connect(&rig, &token).await;
    assert_eq!(result["subs"]["system"], json!({}), "no position, so nothing to recover");
    rig.hub().publish_ephemeral("system", "{\"a\":\n1}".into()).await.unwrap();
    assert_eq!(client.publication().await, ("system".to_owned(), 0, json!({"a": 1})));
}

#[tokio::test]
async fn a_stopping_server_closes_everything_and_waits() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let (mut polite, _) = Client::connect(&rig, &token("u", &["guardian:u"])).await;
    let (mut deaf, _) = Client::connect(&rig, &token("v", &[])).await;
    let mut unconnected = Client::open(&rig).await;
    rig.publish("guardian:u", json!(1)).await;
    let stopping = rig.restart();
    let watching = async {
        assert_eq!(polite.publication().await.1, 1, "what was queued still goes out");
        assert_eq!(polite.close_code().await, 3001);
        polite.send(0x88, &[0x0B, 0xB9]).await;
        assert_eq!(polite.frame().await, Frame::End);
        assert_eq!(unconnected.close_code().await, 3001);
        assert_eq!(deaf.close_code().await, 3001);
        assert_eq!(deaf.frame().await, Frame::End, "it never answered the close frame");
    };
    tokio::join!(stopping, watching);
}
