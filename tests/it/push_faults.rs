//! Faults of networks and servers on every push channel: nothing is lost, and a device shows nothing twice.

use std::{collections::HashSet, sync::Arc, time::Duration};

use todoke_notifier::{
    Address, Channel, Outcome, Outgoing,
    apns::{Apns, ApnsSettings},
    fcm::Fcm,
    web_push::{VapidKeys, WebPush, WebPushSettings},
};
use todoke_tests::standin::{
    Answer, Apple, Fault, Google, PrivateAuthority, RsaKey, Seen, Setup, Speaks, Standin, Subscriber,
};

use crate::{
    push_apns, push_fcm,
    push_message::{NOW, message},
    push_web,
};

const MESSAGES: usize = 60;
const ATTEMPTS_MAX: usize = 60;

/// Faults that a message survives, and what one attempt says about each.
fn faults() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::Answer(Answer::new(429, "{}").with("retry-after", "1")), "later"),
        (Fault::Answer(Answer::new(503, "{}").with("retry-after", "1")), "later"),
        (Fault::Answer(Answer::new(500, "not JSON")), "later"),
        (Fault::Late(Duration::from_millis(200)), "accepted"),
        (Fault::Late(Duration::from_secs(30)), "doubtful"),
        (Fault::Reset, "doubtful"),
        (Fault::HangUp, "doubtful"),
        // Named as not processed by the server, so it is safely sent again at once, over a new connection.
        (Fault::Refuse, "accepted"),
    ]
}

fn said(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted { .. } => "accepted",
        Outcome::Later { .. } => "later",
        Outcome::Doubtful { .. } => "doubtful",
        Outcome::Gone { .. } => "gone",
        Outcome::Refused { .. } => "refused",
    }
}

/// What each fault is to a channel, one at a time.
async fn each_fault_is_told(channel: &dyn Channel, standin: &Standin, address: &Address) {
    for (fault, expected) in faults() {
        standin.fail_next([fault.clone()]);
        let outcome = channel.send(&message(address.clone()), NOW).await;
        assert_eq!(said(&outcome), expected, "{}: {fault:?}: {outcome:?}", channel.name());
        let outcome = channel.send(&message(address.clone()), NOW).await;
        assert_eq!(said(&outcome), "accepted", "{} after {fault:?}: {outcome:?}", channel.name());
    }
}

/// Sends a message until it is accepted, as whoever retries does.
async fn until_accepted(channel: &dyn Channel, outgoing: &Outgoing) {
    for _ in 0..ATTEMPTS_MAX {
        match channel.send(outgoing, NOW).await {
            Outcome::Accepted { .. } => return,
            Outcome::Later { .. } | Outcome::Doubtful { .. } => {}
            outcome => panic!("{}: {outcome:?}", channel.name()),
        }
    }
    panic!("{}: not accepted in {ATTEMPTS_MAX} attempts", channel.name());
}

/// Many messages at once through a shower of faults: every one is shown, none as two.
async fn nothing_is_lost_or_doubled(
    channel: &dyn Channel,
    standin: &Standin,
    address: &Address,
    tag_of: fn(&Seen) -> String,
) {
    let before = standin.shown(tag_of).len();
    let shower = faults().into_iter().map(|(fault, _)| fault);
    let shower: Vec<Fault> = shower.filter(|fault| !matches!(fault, Fault::Late(by) if by.as_secs() > 1)).collect();
    standin.fail_next(shower.iter().cycle().take(MESSAGES).cloned());
    let all: Vec<Outgoing> =
        (0..MESSAGES).map(|_| Outgoing { collapse_key: None, ..message(address.clone()) }).collect();
    futures_util::future::join_all(all.iter().map(|outgoing| until_accepted(channel, outgoing))).await;
    let shown = standin.shown(tag_of);
    assert_eq!(shown.len() - before, MESSAGES, "{}", channel.name());
    let expected: HashSet<String> = all.iter().map(todoke_notifier::tag).collect();
    assert!(expected.iter().all(|tag| shown.contains_key(tag)));
    // Some were taken twice without our knowing; the tag makes them one on the device.
    assert!(standin.taken().len() > shown.len(), "{}", channel.name());
}

#[tokio::test]
async fn fcm_survives_every_fault() {
    let google = Google::start(RsaKey::generate().await, 3_600, true).await;
    let fcm = Fcm::new(&push_fcm::settings(&google)).unwrap();
    let address = push_fcm::to_device("device-1");
    each_fault_is_told(&fcm, &google.messages, &address).await;
    let tag = |seen: &Seen| seen.json()["message"]["data"]["tag"].as_str().unwrap().to_owned();
    nothing_is_lost_or_doubled(&fcm, &google.messages, &address, tag).await;
}

#[tokio::test]
async fn apns_survives_every_fault() {
    let apple = Apple::start(true).await;
    let apns = Apns::new(&push_apns::settings(&apple)).unwrap();
    let address = push_apns::to_device(false);
    each_fault_is_told(&apns, &apple.production, &address).await;
    let tag = |seen: &Seen| seen.header("apns-collapse-id").to_owned();
    nothing_is_lost_or_doubled(&apns, &apple.production, &address, tag).await;
}

#[tokio::test]
async fn web_push_survives_every_fault() {
    let (service, subscriber) = (Subscriber::service(Speaks::Both, true).await, Subscriber::new().await);
    let web_push = WebPush::new(&push_web::settings(&service, &VapidKeys::generate().unwrap())).unwrap();
    let address = push_web::to_browser(&service, &subscriber);
    each_fault_is_told(&web_push, &service, &address).await;
    let tag = |seen: &Seen| seen.header("topic").to_owned();
    nothing_is_lost_or_doubled(&web_push, &service, &address, tag).await;
}

#[tokio::test]
async fn a_provider_that_is_gone_is_told_from_a_message_that_is_wrong() {
    let apple = Apple::start(true).await;
    let apns = Apns::new(&push_apns::settings(&apple)).unwrap();
    let address = push_apns::to_device(false);
    assert_eq!(said(&apns.send(&message(address.clone()), NOW).await), "accepted");
    drop(apple);
    // The first is written to the dying connection, or still answered by it; a new connection is refused.
    let outcome = apns.send(&message(address.clone()), NOW).await;
    assert!(matches!(said(&outcome), "accepted" | "later" | "doubtful"), "{outcome:?}");
    let outcome = apns.send(&message(address), NOW).await;
    assert_eq!(outcome, Outcome::Later { code: "unreachable", after: None });
}

/// Firebase's own is in `push_fcm`, the mail server's in `push_mail`.
#[tokio::test]
async fn whoever_has_a_wrong_certificate_is_told_nothing() {
    let (trusted, stranger) = (PrivateAuthority::default(), PrivateAuthority::default());
    let roots = trusted.identity("localhost").roots_pem().to_owned();
    let (apple, subscriber, keys) = (Apple::start(true).await, Subscriber::new().await, VapidKeys::generate().unwrap());
    let untold = Outcome::Later { code: "bad_certificate", after: None };
    for identity in [stranger.identity("localhost"), trusted.identity("elsewhere.example")] {
        let setup = Setup { identity: &identity, speaks: Speaks::Both, remembers: true };
        let impostor = Standin::start(setup, Arc::new(|_| Answer::new(200, ""))).await;
        let settings = push_apns::settings(&apple);
        let settings = ApnsSettings { base_url: impostor.url(), extra_roots_pem: roots.clone(), ..settings };
        let apns = Apns::new(&settings).unwrap();
        assert_eq!(apns.send(&message(push_apns::to_device(false)), NOW).await, untold);
        let settings = push_web::settings(&impostor, &keys);
        let web_push = WebPush::new(&WebPushSettings { extra_roots_pem: roots.clone(), ..settings }).unwrap();
        assert_eq!(web_push.send(&message(push_web::to_browser(&impostor, &subscriber)), NOW).await, untold);
        assert!(impostor.seen().is_empty());
    }
}

#[tokio::test]
async fn an_address_of_another_channel_is_refused() {
    let apple = Apple::start(true).await;
    let apns = Apns::new(&push_apns::settings(&apple)).unwrap();
    let outcome = apns.send(&message(push_fcm::to_device("device-1")), NOW).await;
    assert_eq!(outcome, Outcome::Refused { code: "wrong_channel" });
}
