//! Every misuse has its defined end.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::super::RealtimeConfig;
use super::super::frame::tests::masked;
use super::client::{Client, Frame, TEXT, token};
use super::stub::Rig;

#[tokio::test]
async fn whatever_breaks_the_protocol_ends_with_its_code() {
    let config = RealtimeConfig { frame_bytes_max: 2_000, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let cases: &[(&str, u8, &[u8], u16)] = &[
        ("before connect", TEXT, br#"{"id":9,"rpc":{"method":"echo"}}"#, 3501),
        ("a pong before connect", TEXT, b"{}", 3501),
        ("no JSON", TEXT, b"\x7bhello", 3501),
        ("not a command", TEXT, b"[1]", 3501),
        ("empty", TEXT, b"", 3501),
        ("a command without id", TEXT, br#"{"connect":{"token":"{}"}}"#, 3501),
        (
            "two connects",
            TEXT,
            b"{\"id\":1,\"connect\":{\"token\":\"{}\"}}\n{\"id\":2,\"connect\":{\"token\":\"{}\"}}",
            3501,
        ),
        (
            "an id twice",
            TEXT,
            b"{\"id\":1,\"connect\":{\"token\":\"{}\"}}\n{\"id\":1,\"rpc\":{\"method\":\"echo\"}}",
            3501,
        ),
        ("a pong nobody asked for", TEXT, b"{\"id\":1,\"connect\":{\"token\":\"{}\"}}\n{}", 3501),
        ("a message nobody wants", TEXT, b"{\"id\":1,\"connect\":{\"token\":\"{}\"}}\n{\"send\":{\"data\":1}}", 3508),
        ("no channel", TEXT, b"{\"id\":1,\"connect\":{\"token\":\"{}\"}}\n{\"id\":2,\"subscribe\":{}}", 3501),
        ("binary", 0x82, b"{}", 3506),
        ("too big", TEXT, &[b' '; 2_001], 1009),
        ("not UTF-8", TEXT, b"\xFF", 1007),
        ("an opcode of the future", 0x83, b"", 1002),
        ("a bad token", TEXT, br#"{"id":1,"connect":{"token":"x"}}"#, 3500),
        ("a token without rights", TEXT, br#"{"id":1,"connect":{"token":"{\"refusal\":\"denied\"}"}}"#, 3507),
    ];
    for (name, first, payload, code) in cases {
        let mut client = Client::open(&rig).await;
        client.send(*first, payload).await;
        assert_eq!(client.close_code().await, *code, "{name}");
        client.send(0x88, &code.to_be_bytes()).await;
        assert_eq!(client.frame().await, Frame::End, "{name}");
    }
    let mut client = Client::open(&rig).await;
    client.write(&[0x81, 1, b'a']).await;
    assert_eq!(client.close_code().await, 1002, "not masked");
    rig.until_n_connections(0).await;
}

#[tokio::test]
async fn refused_connects_say_whether_to_come_back() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    for (refusal, code, is_temporary) in [("expired", 109, false), ("unavailable", 100, true)] {
        let mut client = Client::open(&rig).await;
        let reply = client.call("connect", json!({"token": json!({"refusal": refusal}).to_string()})).await;
        assert_eq!(reply["error"]["code"], code);
        assert_eq!(reply["error"]["temporary"], if is_temporary { json!(true) } else { Value::Null });
        client.command("connect", json!({"token": "{}"})).await;
        assert_eq!(client.close_code().await, 3501, "no second try on the same connection");
    }
}

#[tokio::test]
async fn commands_have_their_errors_and_the_connection_goes_on() {
    let config = RealtimeConfig { subscriptions_max: 4, channel_bytes_max: 30, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let (mut client, _) = Client::connect(&rig, &token("u", &["guardian:u"])).await;
    for (channel, code) in
        [("guardian:other", 103), ("missing:1", 102), ("guardian:u", 105), ("broken:1", 100), (&"x".repeat(31), 107)]
    {
        assert_eq!(client.error("subscribe", json!({"channel": channel})).await, code, "{channel}");
    }
    for channel in ["open:1", "sample:1", "room:1"] {
        let reply = client.call("subscribe", json!({"channel": channel})).await;
        assert!(reply["subscribe"].is_object(), "{reply}");
        if channel == "room:1" {
            assert_eq!(client.next().await["push"]["join"]["info"]["user"], "u");
        }
    }
    assert_eq!(client.error("subscribe", json!({"channel": "open:1"})).await, 105);
    assert_eq!(client.error("subscribe", json!({"channel": "open:2"})).await, 106);
    assert_eq!(client.error("history", json!({"channel": "sample:1", "limit": 1})).await, 108);
    assert_eq!(client.error("history", json!({"channel": "open:9", "limit": 1})).await, 103);
    assert_eq!(client.error("presence", json!({"channel": "open:1"})).await, 108);
    assert_eq!(client.error("presence_stats", json!({"channel": "room:9"})).await, 103);
    assert_eq!(client.error("publish", json!({"channel": "open:1", "data": 1})).await, 103);
    assert_eq!(client.error("sub_refresh", json!({"channel": "open:1", "token": "1"})).await, 108);
    assert_eq!(client.error("sub_refresh", json!({"channel": "open:9", "token": "1"})).await, 103);
    assert_eq!(client.error("rpc", json!({"method": "nothing"})).await, 104);
    assert_eq!(client.error("rpc", json!({"method": "fail"})).await, 450);
    assert_eq!(client.call("rpc", json!({"method": "echo"})).await["rpc"]["data"], Value::Null);
    assert_eq!(client.call("ping", json!({})).await["ping"], json!({}));
    assert_eq!(client.call("unsubscribe", json!({"channel": "open:1"})).await["unsubscribe"], json!({}));
    assert_eq!(client.call("unsubscribe", json!({"channel": "guardian:u"})).await["unsubscribe"], json!({}));
    rig.publish("guardian:u", json!(1)).await;
    assert_eq!(client.publication().await.0, "guardian:u", "a server-side subscription is not the client's to end");
}

#[tokio::test]
async fn a_silent_socket_is_stale_and_a_dead_one_is_noticed() {
    let config =
        RealtimeConfig { connect_timeout_s: 1, ping_interval_s: 1, pong_timeout_s: 0, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let mut silent = Client::open(&rig).await;
    let (mut half_open, result) = Client::connect(&rig, &token("u", &[])).await;
    assert_eq!((&result["ping"], &result["pong"]), (&json!(1), &json!(true)));
    assert_eq!(silent.close_code().await, 3502);
    assert_eq!(half_open.close_code().await, 3012, "the ping was read, but not answered");
    rig.until_n_connections(0).await;
}

#[tokio::test]
async fn a_socket_that_answers_pings_stays() {
    // The second ping proves that the answer to the first was taken.
    let config = RealtimeConfig { ping_interval_s: 1, pong_timeout_s: 1, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let (mut client, _) = Client::connect(&rig, &token("u", &["guardian:u"])).await;
    for _ in 0..2 {
        assert_eq!(client.frame().await, Frame::Text(vec![json!({})]));
        client.send_text("{}").await;
    }
    rig.publish("guardian:u", json!(1)).await;
    assert_eq!(client.publication().await.1, 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_recovers() {
    let config = RealtimeConfig { queue_bytes_max: 64 * 1024, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let (mut client, result) = Client::connect(&rig, &token("u", &["guardian:u"])).await;
    let (_, epoch) = Client::position(&result["subs"]["guardian:u"]);
    let epoch = epoch.to_owned();
    let data = "x".repeat(50_000);
    let mut n = 0;
    // The kernel takes some megabytes before the queue begins to fill.
    while rig.hub().n_connections() == 1 {
        n = rig.publish("guardian:u", json!(data)).await;
        tokio::task::yield_now().await;
        assert!(n < 2_000, "a client that never reads must be cut");
    }
    let mut last = 0;
    let code = loop {
        match client.frame().await {
            Frame::Text(values) => {
                last += 1;
                assert_eq!(values[0]["push"]["pub"]["offset"], last, "no hole before the cut");
            }
            Frame::Close(Some((code, reason))) => {
                assert_eq!(reason, "slow");
                break code;
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 3008);
    assert!(last < n);
    let (client, result) = Client::connect_with(
        &rig,
        json!({
            "token": token("u", &["guardian:u"]),
            "subs": {"guardian:u": {"recover": true, "epoch": epoch, "offset": n - 3}},
        }),
    )
    .await;
    let sub = &result["subs"]["guardian:u"];
    assert_eq!((&sub["recovered"], Client::offsets(sub)), (&json!(true), (n - 2..=n).collect()));
    drop(client);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_given_up() {
    let config = RealtimeConfig { command_timeout_s: 1, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let (mut client, _) = Client::connect(&rig, &token("u", &["guardian:u"])).await;
    let hanging = client.command("subscribe", json!({"channel": "hang:1"})).await;
    let after = client.command("rpc", json!({"method": "echo", "data": 5})).await;
    let reply = client.next().await;
    assert_eq!(
        (&reply["id"], &reply["error"]["code"], &reply["error"]["temporary"]),
        (&json!(hanging), &json!(100), &json!(true))
    );
    let reply = client.next().await;
    assert_eq!((&reply["id"], &reply["rpc"]["data"]), (&json!(after), &json!(5)));
    let hanging = client.command("rpc", json!({"method": "hang"})).await;
    rig.publish("guardian:u", json!(1)).await;
    assert_eq!(client.publication().await.1, 1, "publications do not wait for commands");
    let reply = client.next().await;
    assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(hanging), &json!(100)));

    rig.gate().is_holding.store(true, Ordering::SeqCst);
    let mut kept_waiting = Client::open(&rig).await;
    kept_waiting.command("connect", json!({"token": token("v", &[])})).await;
    assert_eq!(kept_waiting.close_code().await, 3004, "who cannot be let in in time comes back");
}

#[tokio::test]
async fn commands_and_replies_are_joined_by_line_breaks() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let mut client = Client::open(&rig).await;
    let commands = [
        json!({"id": 1, "connect": {"token": token("u", &[])}}),
        json!({"id": 2, "subscribe": {"channel": "open:1"}}),
        json!({"id": 3, "rpc": {"method": "echo", "data": "a\nb"}}),
        json!({"id": 4, "rpc": {"method": "nothing"}}),
        json!({"id": 5, "unsubscribe": {"channel": "open:1"}}),
    ];
    let lines: Vec<String> = commands.iter().map(Value::to_string).collect();
    client.send_text(&format!("{}\n", lines.join("\n"))).await;
    let mut frames = Vec::new();
    while frames.iter().map(Vec::len).sum::<usize>() < 5 {
        match client.frame().await {
            Frame::Text(values) => frames.push(values),
            other => panic!("{other:?}"),
        }
    }
    let ids: Vec<Vec<u64>> =
        frames.iter().map(|frame| frame.iter().map(|reply| reply["id"].as_u64().unwrap()).collect()).collect();
    assert_eq!(ids, [vec![1], vec![2], vec![3, 4, 5]]);
    assert_eq!(frames[2][0]["rpc"]["data"], "a\nb");
}

#[tokio::test]
async fn websocket_details() {
    let rig = Rig::start(RealtimeConfig::default()).await;
    let connect = json!({"id": 1, "connect": {"token": token("u", &["guardian:u"])}}).to_string();
    // Together with the upgrade request, in two fragments with a ping between them.
    let (begin, end) = connect.as_bytes().split_at(20);
    let mut early = masked(0x01, begin, [1, 2, 3, 4]);
    early.extend(masked(0x89, b"are you there", [4, 3, 2, 1]));
    early.extend(masked(0x80, end, [0, 0, 0, 1]));
    let mut client = Client::open_with(&rig, &early).await;
    assert_eq!(client.frame().await, Frame::Pong(b"are you there".to_vec()));
    assert_eq!(client.next().await["id"], 1);
    // Byte by byte.
    for byte in masked(TEXT, br#"{"id":2,"rpc":{"method":"who"}}"#, [5, 6, 7, 8]) {
        client.write(&[byte]).await;
    }
    assert_eq!(client.next().await["rpc"]["data"], json!({"user": "u"}));
    // A big reply, then one more: neither is lost, and the small buffer grows as needed.
    client.send_text("{\"id\":3,\"rpc\":{\"method\":\"big\"}}\n{\"id\":4,\"rpc\":{\"method\":\"big\"}}\n{\"id\":5,\"rpc\":{\"method\":\"who\"}}").await;
    for id in 3..=5 {
        assert_eq!(client.next().await["id"], id);
    }
    let long = "y".repeat(60_000);
    client.next_id = 6;
    assert_eq!(client.call("rpc", json!({"method": "echo", "data": long})).await["rpc"]["data"], long);
    // The peer closes: its code comes back, and the connection is gone.
    client.send(0x88, &[0x03, 0xE8, b'b', b'y', b'e']).await;
    assert_eq!(client.frame().await, Frame::Close(Some((1000, String::new()))));
    assert_eq!(client.frame().await, Frame::End);
    let (client, _) = Client::connect(&rig, &token("u", &[])).await;
    drop(client);
    rig.until_n_connections(0).await;
    assert_eq!(rig.hub().n_users(), 0);
}

#[tokio::test]
async fn upgrades_are_checked() {
    let config = RealtimeConfig { connections_max: 1, user_connections_max: 1, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let (_, head) = Client::request(&rig, "Origin: https://evil.example\r\n", &[]).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let same = format!("Origin: http://{}\r\nSec-WebSocket-Protocol: other, centrifuge-json\r\n", rig.address);
    let (first, head) = Client::request(&rig, &same, &[]).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=")
            && head.contains("sec-websocket-protocol: centrifuge-json")
    );
    rig.until_n_connections(1).await;
    let (_, head) = Client::request(&rig, "", &[]).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    drop(first);
    rig.until_n_connections(0).await;

    let config = RealtimeConfig { user_connections_max: 1, subscriptions_max: 1, ..RealtimeConfig::default() };
    let rig = Rig::start(config).await;
    let (_first, _) = Client::connect(&rig, &token("u", &[])).await;
    let mut second = Client::open(&rig).await;
    second.command("connect", json!({"token": token("u", &[])})).await;
    assert_eq!(second.close_code().await, 3504);
    let mut greedy = Client::open(&rig).await;
    greedy.command("connect", json!({"token": token("v", &["a", "b"])})).await;
    assert_eq!(greedy.close_code().await, 3505);
}
