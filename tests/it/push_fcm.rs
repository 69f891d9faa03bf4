//! Firebase Cloud Messaging against a stand-in of Google's servers.

use std::time::Duration;

use serde_json::json;
use todoke_notifier::{
    Address, Channel, Kind, Outcome, Outgoing, Speed,
    fcm::{Fcm, FcmSettings},
};
use todoke_tests::standin::{Answer, Fault, Google, PrivateAuthority, RsaKey, Setup, Speaks, Standin};

use crate::push_message::{NOW, endless, later, message};

pub(crate) fn settings(google: &Google) -> FcmSettings {
    FcmSettings {
        service_account_json: google.account_json(),
        base_url: google.messages.url(),
        token_url: format!("{}/token", google.tokens.url()),
        extra_roots_pem: google.messages.roots_pem(),
        answer_timeout_ms: 10_000,
        ..FcmSettings::default()
    }
}

pub(crate) fn to_device(token: &str) -> Address {
    Address::Fcm { token: token.to_owned() }
}

async fn google() -> (Google, Fcm) {
    let google = Google::start(RsaKey::generate().await, 3_600, true).await;
    let fcm = Fcm::new(&settings(&google)).unwrap();
    (google, fcm)
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted { .. })
}

#[tokio::test]
async fn a_notification_says_everything_that_google_and_the_app_need() {
    let (google, fcm) = google().await;
    let outgoing = message(to_device("device-1"));
    let outcome = fcm.send(&outgoing, NOW).await;
    assert_eq!(outcome, Outcome::Accepted { provider_id: Some("projects/test-project/messages/0:1".to_owned()) });
    let sent = google.messages.taken()[0].json();
    let tag = todoke_notifier::tag(&outgoing);
    assert_eq!(
        sent["message"],
        json!({
            "token": "device-1",
            "data": { "message_id": outgoing.message_id.to_string(), "kind": "notification", "tag": tag,
                      "link": outgoing.link, "badge": "3", "receipt": "receipt-token" },
            "notification": { "title": outgoing.title, "body": outgoing.body },
            "android": { "collapse_key": tag, "priority": "high", "ttl": "3600s",
                         "notification": { "tag": tag, "notification_count": 3 } },
            "apns": { "headers": { "apns-push-type": "alert", "apns-priority": "10", "apns-collapse-id": tag,
                                   "apns-expiration": later(3_600).as_seconds().to_string() },
                      "payload": { "aps": { "badge": 3, "sound": "default" } } },
            "webpush": { "headers": { "TTL": "3600", "Urgency": "high", "Topic": tag },
                         "notification": { "tag": tag, "silent": false },
                         "fcm_options": { "link": outgoing.link } },
            "fcm_options": { "analytics_label": "reservation.confirmed" },
        })
    );
}

#[tokio::test]
async fn a_withdrawal_is_silent_and_a_test_is_quiet() {
    let (google, fcm) = google().await;
    let shown = message(to_device("device-1"));
    assert!(is_accepted(&fcm.send(&Outgoing { kind: Kind::Withdraw, ..shown.clone() }, NOW).await));
    assert!(is_accepted(&fcm.send(&Outgoing { kind: Kind::Test, speed: Speed::Batch, ..shown.clone() }, NOW).await));
    let taken = google.messages.taken();
    let (withdrawn, test) = (taken[0].json(), taken[1].json());
    assert_eq!(withdrawn["message"]["notification"], json!(null));
    assert_eq!(withdrawn["message"]["data"]["kind"], "withdraw");
    assert_eq!(withdrawn["message"]["data"]["tag"], todoke_notifier::tag(&shown));
    assert_eq!(withdrawn["message"]["apns"]["payload"]["aps"], json!({ "content-available": 1 }));
    assert_eq!(withdrawn["message"]["data"]["badge"], "3");
    assert_eq!(withdrawn["message"]["apns"]["headers"]["apns-push-type"], "background");
    assert_eq!(test["message"]["apns"]["payload"]["aps"]["sound"], json!(null));
    assert_eq!(test["message"]["android"]["priority"], "normal");
}

#[tokio::test]
async fn an_app_that_draws_by_itself_gets_data_only() {
    let (google, _) = google().await;
    let fcm = Fcm::new(&FcmSettings { data_only: true, ..settings(&google) }).unwrap();
    let about = message(to_device("device-1"));
    assert!(is_accepted(&fcm.send(&about, NOW).await));
    assert!(is_accepted(&fcm.send(&Outgoing { collapse_key: None, ..about.clone() }, NOW).await));
    let taken = google.messages.taken();
    let (sent, alone) = (taken[0].json(), taken[1].json());
    assert_eq!(sent["message"]["android"]["collapse_key"], todoke_notifier::tag(&about));
    assert_eq!(
        alone["message"]["android"]["collapse_key"],
        json!(null),
        "takes no other's place while the phone is off"
    );
    assert_eq!(sent["message"]["notification"], json!(null));
    assert_eq!(sent["message"]["android"]["notification"], json!(null));
    assert_eq!(sent["message"]["data"]["title"], "予約が確定しました");
    assert_eq!(sent["message"]["apns"]["payload"]["aps"], json!({ "content-available": 1 }));
}

#[tokio::test]
async fn a_text_that_is_too_long_is_shortened_and_arrives() {
    let (google, fcm) = google().await;
    let outgoing = endless(to_device("device-1"));
    assert!(is_accepted(&fcm.send(&outgoing, NOW).await));
    let seen = &google.messages.taken()[0];
    assert!((4_080..=4_096).contains(&seen.body.len()), "{} bytes", seen.body.len());
    let body = seen.json()["message"]["notification"]["body"].as_str().unwrap().to_owned();
    assert!(body.ends_with('…') && outgoing.body.starts_with(body.trim_end_matches('…')));
}

#[tokio::test]
async fn one_token_serves_all_and_is_renewed_before_it_ends() {
    let (google, fcm) = google().await;
    let all: Vec<_> = (0..100).map(|n| message(to_device(&format!("device-{n}")))).collect();
    let outcomes = futures_util::future::join_all(all.iter().map(|outgoing| fcm.send(outgoing, NOW))).await;
    assert!(outcomes.iter().all(is_accepted), "{outcomes:?}");
    assert_eq!((google.tokens.seen().len(), google.messages.n_connections()), (1, 1));
    assert!(is_accepted(&fcm.send(&all[0], later(3_200)).await));
    assert_eq!(google.tokens.seen().len(), 1);
    let early = futures_util::future::join_all(all.iter().map(|outgoing| fcm.send(outgoing, later(3_400)))).await;
    assert!(early.iter().all(is_accepted));
    assert_eq!(google.tokens.seen().len(), 2);
}

#[tokio::test]
async fn a_renewal_that_fails_does_not_stop_a_token_that_still_works() {
    let (google, fcm) = google().await;
    assert!(is_accepted(&fcm.send(&message(to_device("device-1")), NOW).await));
    google.tokens.fail_next([Fault::Answer(Answer::new(503, ""))]);
    assert!(is_accepted(&fcm.send(&message(to_device("device-1")), later(3_400)).await));
    google.tokens.fail_next([Fault::Answer(Answer::new(503, ""))]);
    let lasting = Outgoing { expires_at: Some(later(7_200)), ..message(to_device("device-1")) };
    let ended = fcm.send(&lasting, later(3_700)).await;
    assert_eq!(ended, Outcome::Later { code: "token_unavailable", after: None });
    assert!(is_accepted(&fcm.send(&lasting, later(3_710)).await));
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let (google, fcm) = google().await;
    assert!(is_accepted(&fcm.send(&message(to_device("device-1")), NOW).await));
    google.revoke_tokens();
    assert!(is_accepted(&fcm.send(&message(to_device("device-1")), NOW).await));
    assert_eq!(google.tokens.seen().len(), 2);
    google.messages.fail_next([Fault::Answer(Answer::new(401, "{}")), Fault::Answer(Answer::new(401, "{}"))]);
    let outcome = fcm.send(&message(to_device("device-1")), NOW).await;
    assert_eq!(outcome, Outcome::Later { code: "unauthenticated", after: None });
    assert_eq!(google.tokens.seen().len(), 3);
}

#[tokio::test]
async fn every_error_is_understood() {
    let (google, fcm) = google().await;
    let gone = |code| Outcome::Gone { code, since: None };
    let wait = |code| Outcome::Later { code, after: None };
    let about_token = json!({ "error": { "code": 400, "status": "INVALID_ARGUMENT", "message": "Invalid",
        "details": [{ "@type": "type.googleapis.com/google.rpc.BadRequest",
                      "fieldViolations": [{ "field": "message.token", "description": "Invalid registration token" }] },
                    { "errorCode": "INVALID_ARGUMENT" }] } });
    let table = [
        (Google::error(404, "NOT_FOUND", "UNREGISTERED"), gone("unregistered")),
        (Google::error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), Outcome::Refused { code: "invalid_argument" }),
        (Answer::new(400, about_token.to_string()), gone("invalid_token")),
        (
            Google::error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
            Outcome::Refused { code: "sender_id_mismatch" },
        ),
        (
            Google::error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
            Outcome::Later { code: "quota_exceeded", after: Some(Duration::from_secs(60)) },
        ),
        (Google::error(503, "UNAVAILABLE", "UNAVAILABLE"), wait("unavailable")),
        (Google::error(500, "INTERNAL", "INTERNAL"), wait("internal")),
        (Google::error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), wait("third_party_auth_error")),
        (Answer::new(403, "{}"), wait("permission_denied")),
        (Answer::new(404, "<html>not here</html>"), wait("project_not_found")),
        (Answer::new(502, "bad gateway"), wait("unavailable")),
    ];
    for (answer, expected) in table {
        google.messages.fail_next([Fault::Answer(answer.clone())]);
        assert_eq!(fcm.send(&message(to_device("device-1")), NOW).await, expected, "{answer:?}");
    }
    assert!(google.messages.taken().is_empty());
}

#[tokio::test]
async fn the_wait_that_google_asks_for_is_kept() {
    let (google, fcm) = google().await;
    for (value, seconds) in [("120", 120..=150), ("Sat, 21 Nov 2026 06:01:40 GMT", 100..=125)] {
        let busy = Google::error(503, "UNAVAILABLE", "UNAVAILABLE").with("retry-after", value);
        google.messages.fail_next([Fault::Answer(busy)]);
        let outcome = fcm.send(&message(to_device("device-1")), NOW).await;
        let Outcome::Later { code: "unavailable", after: Some(after) } = outcome else { panic!("{outcome:?}") };
        assert!(seconds.contains(&after.as_secs()), "{value}: {after:?}");
    }
}

#[tokio::test]
async fn a_message_past_its_time_does_not_go_out() {
    let (google, fcm) = google().await;
    let outcome = fcm.send(&message(to_device("device-1")), later(3_600)).await;
    assert_eq!(outcome, Outcome::Refused { code: "expired" });
    assert!(google.messages.seen().is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_google_gets_no_token() {
    let (google, _) = google().await;
    let (trusted, stranger) = (PrivateAuthority::default(), PrivateAuthority::default());
    let roots = format!("{}\n{}", trusted.identity("localhost").roots_pem(), google.tokens.roots_pem());
    for identity in [stranger.identity("localhost"), trusted.identity("elsewhere.example")] {
        let setup = Setup { identity: &identity, speaks: Speaks::Both, remembers: true };
        let impostor = Standin::start(setup, std::sync::Arc::new(|_| Answer::new(200, "{}"))).await;
        let settings = FcmSettings { base_url: impostor.url(), extra_roots_pem: roots.clone(), ..settings(&google) };
        let outcome = Fcm::new(&settings).unwrap().send(&message(to_device("device-1")), NOW).await;
        assert_eq!(outcome, Outcome::Later { code: "bad_certificate", after: None });
        assert!(impostor.seen().is_empty());
    }
}
