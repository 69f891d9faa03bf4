//! Apple's push service against a stand-in.

use serde_json::json;
use todoke_domain::Timestamp;
use todoke_notifier::{
    Address, Channel, Kind, Outcome, Outgoing, Speed,
    apns::{Apns, ApnsSettings},
};
use todoke_tests::standin::{APPLE_KEY_ID, APPLE_TEAM_ID, APPLE_TOPIC, Answer, Apple, Fault};

use crate::push_message::{NOW, endless, later, message};

pub(crate) fn settings(apple: &Apple) -> ApnsSettings {
    ApnsSettings {
        key_pem: apple.key_pem.clone(),
        key_id: APPLE_KEY_ID.to_owned(),
        team_id: APPLE_TEAM_ID.to_owned(),
        topic: APPLE_TOPIC.to_owned(),
        base_url: apple.production.url(),
        sandbox_url: apple.sandbox.url(),
        extra_roots_pem: apple.production.roots_pem(),
        answer_timeout_ms: 10_000,
        ..ApnsSettings::default()
    }
}

pub(crate) fn to_device(sandbox: bool) -> Address {
    Address::Apns { token: "a1".repeat(32), sandbox }
}

async fn apple() -> (Apple, Apns) {
    let apple = Apple::start(true).await;
    let apns = Apns::new(&settings(&apple)).unwrap();
    (apple, apns)
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted { .. })
}

#[tokio::test]
async fn a_notification_says_everything_that_apple_and_the_app_need() {
    let (apple, apns) = apple().await;
    let outgoing = message(to_device(false));
    let id = outgoing.message_id.to_string();
    assert_eq!(apns.send(&outgoing, NOW).await, Outcome::Accepted { provider_id: Some(id.clone()) });
    let seen = &apple.production.taken()[0];
    let tag = todoke_notifier::tag(&outgoing);
    assert_eq!(seen.path, format!("/3/device/{}", "a1".repeat(32)));
    for (name, value) in [
        ("apns-id", id.as_str()),
        ("apns-collapse-id", tag.as_str()),
        ("apns-expiration", &later(3_600).as_seconds().to_string()),
        ("apns-priority", "10"),
        ("apns-topic", APPLE_TOPIC),
        ("apns-push-type", "alert"),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    assert_eq!(
        seen.json(),
        json!({
            "aps": { "alert": { "title": outgoing.title, "body": outgoing.body }, "badge": 3, "sound": "default",
                     "thread-id": tag, "interruption-level": "active", "mutable-content": 1 },
            "message_id": id, "kind": "notification", "tag": tag, "link": outgoing.link, "receipt": "receipt-token",
        })
    );
}

#[tokio::test]
async fn a_withdrawal_runs_in_the_background_and_a_batch_does_not_hurry() {
    let (apple, apns) = apple().await;
    let shown = message(to_device(false));
    assert!(is_accepted(&apns.send(&Outgoing { kind: Kind::Withdraw, ..shown.clone() }, NOW).await));
    assert!(is_accepted(&apns.send(&Outgoing { speed: Speed::Batch, ..shown }, NOW).await));
    let taken = apple.production.taken();
    assert_eq!((taken[0].header("apns-push-type"), taken[0].header("apns-priority")), ("background", "5"));
    assert_eq!(taken[0].json()["aps"], json!({ "content-available": 1 }), "no keys for eye or ear");
    assert_eq!(taken[0].json()["badge"], 3);
    assert_eq!((taken[1].header("apns-push-type"), taken[1].header("apns-priority")), ("alert", "5"));
    assert_eq!(taken[0].header("apns-collapse-id"), taken[1].header("apns-collapse-id"));
}

#[tokio::test]
async fn development_builds_are_reached_by_their_own_host_with_the_same_token() {
    let (apple, apns) = apple().await;
    assert!(is_accepted(&apns.send(&message(to_device(true)), NOW).await));
    assert!(is_accepted(&apns.send(&message(to_device(false)), NOW).await));
    let (sandbox, production) = (apple.sandbox.taken(), apple.production.taken());
    assert_eq!((sandbox.len(), production.len()), (1, 1));
    assert_eq!(sandbox[0].header("authorization"), production[0].header("authorization"));
}

#[tokio::test]
async fn one_provider_token_is_used_for_40_minutes() {
    let (apple, apns) = apple().await;
    for minute in [0, 10, 39, 41, 60, 80, 82] {
        assert!(is_accepted(
            &apns.send(&Outgoing { expires_at: None, ..message(to_device(false)) }, later(minute * 60)).await
        ));
    }
    let tokens: Vec<String> = apple.production.seen().iter().map(|s| s.header("authorization").to_owned()).collect();
    assert!(tokens[0] == tokens[1] && tokens[1] == tokens[2]);
    assert!(tokens[2] != tokens[3] && tokens[3] == tokens[4] && tokens[4] == tokens[5] && tokens[5] != tokens[6]);
    assert_eq!(apple.production.n_connections(), 1);
}

#[tokio::test]
async fn an_expired_provider_token_is_renewed_but_never_twice_in_20_minutes() {
    let (apple, apns) = apple().await;
    let outgoing = Outgoing { expires_at: None, ..message(to_device(false)) };
    let expired = || Fault::Answer(Apple::error(403, "ExpiredProviderToken"));
    let given_up = Outcome::Later { code: "expired_provider_token", after: None };
    apple.production.fail_next([expired()]);
    assert_eq!(apns.send(&outgoing, NOW).await, given_up);
    assert_eq!(apple.production.seen().len(), 1);
    apple.production.fail_next([expired()]);
    assert!(is_accepted(&apns.send(&outgoing, later(21 * 60)).await));
    let seen = apple.production.seen();
    assert_eq!(seen.len(), 3);
    assert_ne!(seen[1].header("authorization"), seen[2].header("authorization"));
}

#[tokio::test]
async fn a_text_that_is_too_long_is_shortened_and_arrives() {
    let (apple, apns) = apple().await;
    assert!(is_accepted(&apns.send(&endless(to_device(false)), NOW).await));
    let seen = &apple.production.taken()[0];
    assert!((4_080..=4_096).contains(&seen.body.len()), "{} bytes", seen.body.len());
    assert!(seen.json()["aps"]["alert"]["body"].as_str().unwrap().ends_with('…'));
}

#[tokio::test]
async fn every_reason_is_understood() {
    let (apple, apns) = apple().await;
    let gone = |code| Outcome::Gone { code, since: None };
    let wait = |code| Outcome::Later { code, after: None };
    let since = Timestamp::from_micros(1_795_000_000_123_000);
    let unregistered = Answer::new(410, "{\"reason\":\"Unregistered\",\"timestamp\":1795000000123}");
    let table = [
        (unregistered, Outcome::Gone { code: "unregistered", since: Some(since) }),
        (Answer::new(410, "{\"reason\":\"ExpiredToken\"}"), gone("expired_token")),
        (Apple::error(400, "BadDeviceToken"), wait("bad_device_token")),
        (Apple::error(400, "DeviceTokenNotForTopic"), wait("device_token_not_for_topic")),
        (Apple::error(400, "TopicDisallowed"), wait("topic_refused")),
        (Apple::error(400, "BadCollapseId"), Outcome::Refused { code: "refused" }),
        (Apple::error(403, "InvalidProviderToken"), wait("provider_token_refused")),
        (Apple::error(413, "PayloadTooLarge"), Outcome::Refused { code: "too_large" }),
        (Apple::error(429, "TooManyRequests"), wait("device_busy")),
        (Apple::error(429, "TooManyProviderTokenUpdates"), wait("too_many_provider_token_updates")),
        (Apple::error(500, "InternalServerError"), wait("internal")),
        (Apple::error(503, "Shutdown"), wait("unavailable")),
        (Answer::new(502, "<html>"), wait("unavailable")),
    ];
    for (answer, expected) in table {
        apple.production.fail_next([Fault::Answer(answer.clone())]);
        assert_eq!(apns.send(&message(to_device(false)), NOW).await, expected, "{answer:?}");
    }
    assert!(apple.production.taken().is_empty());
}

/// With the other environment's base URL, or another app's topic, every device is answered so.
#[tokio::test]
async fn a_bad_token_costs_its_device_only_where_others_are_taken() {
    let (apple, apns) = apple().await;
    let refused = |reason| Fault::Answer(Apple::error(400, reason));
    let later = |code| Outcome::Later { code, after: None };
    let bad = later("bad_device_token");
    apple.production.fail_next([refused("BadDeviceToken")]);
    assert_eq!(apns.send(&message(to_device(false)), NOW).await, bad);
    assert!(is_accepted(&apns.send(&message(to_device(true)), NOW).await));
    apple.production.fail_next([refused("BadDeviceToken")]);
    assert_eq!(apns.send(&message(to_device(false)), NOW).await, bad, "the other environment proves nothing");
    assert!(is_accepted(&apns.send(&message(to_device(false)), NOW).await));
    apple.production.fail_next([refused("BadDeviceToken"), refused("DeviceTokenNotForTopic")]);
    let gone = Outcome::Gone { code: "bad_device_token", since: None };
    assert_eq!(apns.send(&message(to_device(false)), NOW).await, gone);
    assert_eq!(apns.send(&message(to_device(false)), NOW).await, later("device_token_not_for_topic"));
}

#[tokio::test]
async fn a_token_that_is_none_leads_nowhere() {
    let (apple, apns) = apple().await;
    for token in ["", "../../2/other", "a1b2?x=1", "日本"] {
        let address = Address::Apns { token: token.to_owned(), sandbox: false };
        let outcome = apns.send(&message(address), NOW).await;
        assert_eq!(outcome, Outcome::Gone { code: "bad_device_token", since: None });
    }
    assert!(apple.production.seen().is_empty());
}
