//! Web Push against a stand-in; what arrives is decrypted and verified by Node.js.

use std::collections::HashMap;

use serde_json::json;
use todoke_notifier::{
    Address, Channel, Kind, Outcome, Outgoing, Speed,
    web_push::{VapidKeys, WebPush, WebPushSettings},
};
use todoke_tests::{
    process::own_program,
    standin::{Answer, Fault, Speaks, Standin, Subscriber},
};

use crate::push_message::{NOW, endless, later, message};

pub(crate) fn settings(service: &Standin, keys: &VapidKeys) -> WebPushSettings {
    WebPushSettings {
        public_key: keys.public_key.clone(),
        private_key: keys.private_key.clone(),
        subject: "mailto:desk@todoke.example.jp".to_owned(),
        extra_roots_pem: service.roots_pem(),
        allow_private_addresses: true,
        answer_timeout_ms: 10_000,
        ..WebPushSettings::default()
    }
}

pub(crate) fn to_browser(service: &Standin, subscriber: &Subscriber) -> Address {
    Address::WebPush {
        endpoint: format!("{}/push/subscription-1", service.url()),
        p256dh: subscriber.p256dh.clone(),
        auth: subscriber.auth.clone(),
    }
}

struct Stage {
    service: Standin,
    subscriber: Subscriber,
    keys: VapidKeys,
    web_push: WebPush,
}

impl Stage {
    async fn new(speaks: Speaks) -> Self {
        let (service, keys) = (Subscriber::service(speaks, true).await, VapidKeys::generate().unwrap());
        let web_push = WebPush::new(&settings(&service, &keys)).unwrap();
        Self { service, subscriber: Subscriber::new().await, keys, web_push }
    }

    fn message(&self) -> Outgoing {
        message(to_browser(&self.service, &self.subscriber))
    }
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted { .. })
}

#[tokio::test]
async fn a_browser_can_read_the_message_and_the_service_knows_the_sender() {
    let stage = Stage::new(Speaks::Both).await;
    let outgoing = stage.message();
    let outcome = stage.web_push.send(&outgoing, NOW).await;
    assert_eq!(outcome, Outcome::Accepted { provider_id: Some("https://localhost/message/1".to_owned()) });
    let seen = &stage.service.taken()[0];
    let tag = todoke_notifier::tag(&outgoing);
    assert_eq!((seen.header("ttl"), seen.header("urgency"), seen.header("topic")), ("3600", "high", tag.as_str()));
    let opened = stage.subscriber.open(seen).await;
    assert_eq!(
        opened.plain,
        json!({ "message_id": outgoing.message_id.to_string(), "kind": "notification", "tag": tag,
                "title": outgoing.title, "body": outgoing.body, "link": outgoing.link, "badge": 3,
                "receipt": "receipt-token" })
    );
    assert_eq!(opened.sender_key, stage.keys.public_key);
    assert_eq!(
        opened.claims,
        json!({ "aud": stage.service.url(), "exp": later(12 * 3_600).as_seconds(), "sub": "mailto:desk@todoke.example.jp" })
    );
}

#[tokio::test]
async fn messages_about_one_subject_share_a_topic_and_others_do_not() {
    let stage = Stage::new(Speaks::Both).await;
    let first = stage.message();
    let other = Outgoing { collapse_key: Some("application:1".to_owned()), speed: Speed::Batch, ..stage.message() };
    let alone = Outgoing { collapse_key: None, ..stage.message() };
    let withdrawn = Outgoing { kind: Kind::Withdraw, ..stage.message() };
    for outgoing in [&first, &other, &alone, &withdrawn] {
        assert!(is_accepted(&stage.web_push.send(outgoing, NOW).await));
    }
    let taken = stage.service.taken();
    let topics: Vec<&str> = taken.iter().map(|seen| seen.header("topic")).collect();
    assert_eq!(topics[0], topics[3]);
    assert!(topics[0] != topics[1] && topics[1] != topics[2] && topics[0] != topics[2]);
    assert!(topics.iter().all(|topic| topic.len() == 32));
    assert_eq!(taken[1].header("urgency"), "low");
    let opened = stage.subscriber.open(&taken[3]).await.plain;
    assert_eq!((&opened["kind"], &opened["title"]), (&json!("withdraw"), &json!(null)));
}

#[tokio::test]
async fn a_service_with_http_1_only_works_too() {
    let stage = Stage::new(Speaks::Http1).await;
    let all: Vec<_> = (0..40).map(|_| stage.message()).collect();
    let outcomes = futures_util::future::join_all(all.iter().map(|m| stage.web_push.send(m, NOW))).await;
    assert!(outcomes.iter().all(is_accepted), "{outcomes:?}");
    assert_eq!(stage.service.taken().len(), 40);
    assert!(stage.service.n_connections() <= 17, "{} connections", stage.service.n_connections());
    let again = stage.service.n_connections();
    assert!(is_accepted(&stage.web_push.send(&all[0], NOW).await));
    assert_eq!(stage.service.n_connections(), again);
}

#[tokio::test]
async fn each_service_gets_a_token_made_out_to_it_once() {
    let stage = Stage::new(Speaks::Both).await;
    let other = Subscriber::service(Speaks::Both, true).await;
    let roots = format!("{}\n{}", stage.service.roots_pem(), other.roots_pem());
    let settings = WebPushSettings { extra_roots_pem: roots, ..settings(&stage.service, &stage.keys) };
    let web_push = WebPush::new(&settings).unwrap();
    let elsewhere = message(to_browser(&other, &stage.subscriber));
    for outgoing in [stage.message(), stage.message(), elsewhere] {
        assert!(is_accepted(&web_push.send(&outgoing, NOW).await));
    }
    let here = stage.service.taken();
    assert_eq!(here[0].header("authorization"), here[1].header("authorization"));
    assert_eq!(stage.subscriber.open(&other.taken()[0]).await.claims["aud"], other.url());
    assert!(is_accepted(
        &web_push.send(&Outgoing { expires_at: None, ..stage.message() }, later(11 * 3_600 + 1)).await
    ));
    let here = stage.service.taken();
    assert_ne!(here[1].header("authorization"), here[2].header("authorization"));
}

#[tokio::test]
async fn a_text_that_is_too_long_is_shortened_and_arrives() {
    let stage = Stage::new(Speaks::Both).await;
    let outgoing = endless(to_browser(&stage.service, &stage.subscriber));
    assert!(is_accepted(&stage.web_push.send(&outgoing, NOW).await));
    stage.service.fail_next([Fault::Answer(Answer::new(413, ""))]);
    assert!(is_accepted(&stage.web_push.send(&outgoing, NOW).await));
    let taken = stage.service.taken();
    assert!((4_080..=4_096).contains(&taken[0].body.len()), "{} bytes", taken[0].body.len());
    assert!(taken[1].body.len() < 1_200, "{} bytes", taken[1].body.len());
    for seen in &taken {
        assert!(stage.subscriber.open(seen).await.plain["body"].as_str().unwrap().ends_with('…'));
    }
    stage.service.fail_next([Fault::Answer(Answer::new(413, "")), Fault::Answer(Answer::new(413, ""))]);
    assert_eq!(stage.web_push.send(&outgoing, NOW).await, Outcome::Refused { code: "too_large" });
}

#[tokio::test]
async fn every_status_is_understood() {
    let stage = Stage::new(Speaks::Both).await;
    let gone = |code| Outcome::Gone { code, since: None };
    let wait = |code| Outcome::Later { code, after: None };
    for (status, expected) in [
        (404, gone("not_found")),
        (410, gone("unsubscribed")),
        (429, wait("too_many_requests")),
        (500, wait("unavailable")),
        (503, wait("unavailable")),
        (400, Outcome::Refused { code: "refused" }),
        (401, wait("vapid_refused")),
        (403, wait("vapid_refused")),
        (301, Outcome::Refused { code: "refused" }),
    ] {
        stage.service.fail_next([Fault::Answer(Answer::new(status, ""))]);
        assert_eq!(stage.web_push.send(&stage.message(), NOW).await, expected, "{status}");
    }
    stage.service.fail_next([Fault::Answer(Answer::new(429, "").with("retry-after", "60"))]);
    let Outcome::Later { after: Some(after), .. } = stage.web_push.send(&stage.message(), NOW).await else { panic!() };
    assert!((60..=75).contains(&after.as_secs()), "{after:?}");
}

#[tokio::test]
async fn an_endpoint_cannot_lead_into_our_own_network() {
    let stage = Stage::new(Speaks::Both).await;
    let strict = WebPushSettings { allow_private_addresses: false, ..settings(&stage.service, &stage.keys) };
    let strict = WebPush::new(&strict).unwrap();
    let port = stage.service.port();
    for (endpoint, code) in [
        (format!("https://localhost:{port}/push/1"), "address_not_allowed"),
        (format!("https://127.0.0.1:{port}/push/1"), "address_not_allowed"),
        (format!("https://[::1]:{port}/push/1"), "address_not_allowed"),
        (format!("https://[::ffff:127.0.0.1]:{port}/push/1"), "address_not_allowed"),
        (format!("https://2130706433:{port}/push/1"), "address_not_allowed"),
        ("https://169.254.169.254/latest/meta-data".to_owned(), "address_not_allowed"),
        (format!("http://localhost:{port}/push/1"), "bad_endpoint"),
        ("file:///etc/passwd".to_owned(), "bad_endpoint"),
    ] {
        let Subscriber { p256dh, auth, .. } = stage.subscriber.clone();
        let outgoing = message(Address::WebPush { endpoint: endpoint.clone(), p256dh, auth });
        assert_eq!(strict.send(&outgoing, NOW).await, Outcome::Gone { code, since: None }, "{endpoint}");
    }
    assert_eq!(stage.service.n_connections(), 0);
}

#[tokio::test]
async fn keys_that_are_none_end_the_subscription() {
    let stage = Stage::new(Speaks::Both).await;
    for (p256dh, auth) in [("", ""), ("BAAA", "AAAA"), ("日本", "日本")] {
        let endpoint = format!("{}/push/1", stage.service.url());
        let address = Address::WebPush { endpoint, p256dh: p256dh.to_owned(), auth: auth.to_owned() };
        let outcome = stage.web_push.send(&message(address), NOW).await;
        assert_eq!(outcome, Outcome::Gone { code: "bad_subscription", since: None });
    }
}

#[tokio::test]
async fn keys_that_the_binary_makes_work_as_they_are_printed() {
    let mut command = tokio::process::Command::new(own_program("todoke"));
    let made = command.args(["admin", "web-push-key"]).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut printed: HashMap<String, WebPushSettings> =
        toml::from_str(&String::from_utf8(made.stdout).unwrap()).unwrap();
    let WebPushSettings { public_key, private_key, .. } = printed.remove("web_push").unwrap();
    let keys = VapidKeys { public_key, private_key };
    let (service, subscriber) = (Subscriber::service(Speaks::Both, true).await, Subscriber::new().await);
    let web_push = WebPush::new(&settings(&service, &keys)).unwrap();
    assert!(is_accepted(&web_push.send(&message(to_browser(&service, &subscriber)), NOW).await));
    assert_eq!(subscriber.open(&service.taken()[0]).await.sender_key, keys.public_key);
}
