//! Breakers: what is out holds up nobody else, finds back by itself, and one recipient's trouble is not the provider's.

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use todoke_domain::delivery::{DeliveryState, Provider};
use todoke_notifier::{Address, Outcome, Outgoing};
use todoke_tests::stores::TestStore;

use crate::delivery_scene::Scene;

todoke_tests::on_both_databases! {
    one_dead_push_service_holds_up_no_other,
    what_concerns_one_recipient_holds_up_nobody,
    keys_that_a_push_service_does_not_take_cost_no_message,
    a_record_that_fails_when_a_probe_is_due_stops_nothing,
}

fn is_for(outgoing: &Outgoing, origin: &str) -> bool {
    matches!(&outgoing.address, Address::WebPush { endpoint, .. } if endpoint.starts_with(origin))
}

async fn one_dead_push_service_holds_up_no_other(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    for no in 0..12 {
        scene.device(&parent, Provider::WebPush, &format!("https://dead.example/{no}")).await;
    }
    for no in 0..3 {
        scene.device(&parent, Provider::WebPush, &format!("https://live.example/{no}")).await;
    }
    let dead = |outgoing: &Outgoing| {
        is_for(outgoing, "https://dead.example/").then_some(Outcome::Later { code: "unknown_host", after: None })
    };
    scene.channels[&Provider::WebPush].answer_by(dead);
    scene.resumed("c1").await;
    let id = scene.message(&parent, "coupon.resumed").await;
    scene.send().await;
    // What found no place at first comes back after two seconds.
    scene.pass(3);
    scene.send().await;
    let rows = scene.deliveries(id).await;
    let pushes: Vec<_> = rows.iter().filter(|row| row.provider == Provider::WebPush).collect();
    let n_accepted = pushes.iter().filter(|row| row.state == DeliveryState::Accepted).count();
    assert_eq!(n_accepted, 3, "those of the service that is there: {rows:?}");
    let waiting = pushes.iter().filter(|row| row.state == DeliveryState::Queued);
    let n_untried = waiting.filter(|row| row.attempts == 0 && row.sent_at.is_none()).count();
    assert!(n_untried >= 6, "waiting costs no attempt: {rows:?}");
    let tried = scene.sent(Provider::WebPush).len();
    scene.pass(5);
    assert_eq!(scene.send().await, 0, "the dead one is left alone");
    scene.pass(3);
    scene.send().await;
    assert_eq!(scene.sent(Provider::WebPush).len(), tried + 1, "one probe, which fails");
    assert_eq!(scene.events("message.sent").await.len(), tried + 2, "told when it leaves, and the mail");
    scene.channels[&Provider::WebPush].answer_by(|_| None);
    for _ in 0..6 {
        scene.pass(60);
        scene.send().await;
    }
    let rows = scene.deliveries(id).await;
    assert!(rows.iter().all(|row| row.state == DeliveryState::Accepted), "nothing is lost: {rows:?}");
}

async fn what_concerns_one_recipient_holds_up_nobody(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    for no in 0..8 {
        scene.device(&parent, Provider::Apns, &format!("token-{no}")).await;
    }
    for (provider, code) in [(Provider::Apns, "device_busy"), (Provider::Smtp, "mailbox_busy")] {
        scene.channels[&provider].answer(vec![Outcome::Later { code, after: None }; 10]);
    }
    for no in 0..12 {
        scene.resumed(&format!("c{no}")).await;
    }
    scene.send().await;
    assert_eq!(scene.sent(Provider::Apns).len(), 96, "three failures in a row would have been enough");
    assert_eq!(scene.sent(Provider::Smtp).len(), 12);
}

/// A wrong clock or key: nothing is given up, and before anything was taken the breaker keeps the attempts.
async fn keys_that_a_push_service_does_not_take_cost_no_message(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    for no in 0..8 {
        scene.device(&parent, Provider::WebPush, &format!("https://push.example/{no}")).await;
    }
    let refused = |_: &Outgoing| Some(Outcome::Later { code: "vapid_refused", after: None });
    scene.channels[&Provider::WebPush].answer_by(refused);
    scene.resumed("c1").await;
    for _ in 0..3 {
        scene.send().await;
        scene.pass(3);
    }
    assert!(scene.sent(Provider::WebPush).len() < 8, "three in a row are enough");
    scene.channels[&Provider::WebPush].answer_by(|_| None);
    for _ in 0..6 {
        scene.pass(60);
        scene.send().await;
    }
    let id = scene.message(&parent, "coupon.resumed").await;
    let rows = scene.deliveries(id).await;
    assert!(rows.iter().all(|row| row.state == DeliveryState::Accepted), "{rows:?}");
    // From now on it is one subscription, made for another key: the others go on.
    let stale = |outgoing: &Outgoing| {
        is_for(outgoing, "https://push.example/0").then_some(Outcome::Later { code: "vapid_refused", after: None })
    };
    scene.channels[&Provider::WebPush].answer_by(stale);
    for subject in ["c2", "c3", "c4", "c5"] {
        scene.resumed(subject).await;
    }
    let before = scene.sent(Provider::WebPush).len();
    scene.send().await;
    assert_eq!(scene.sent(Provider::WebPush).len() - before, 32);
}

async fn a_record_that_fails_when_a_probe_is_due_stops_nothing(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    for no in 0..3 {
        scene.device(&parent, Provider::Fcm, &format!("token-{no}")).await;
    }
    scene.channels[&Provider::Fcm].answer((0..3).map(|_| Outcome::Later { code: "unavailable", after: None }));
    scene.resumed("c1").await;
    scene.send().await;
    scene.pass(13);
    let tried = scene.sent(Provider::Fcm).len();
    rename(db, "device", "device_elsewhere").await;
    assert!(scene.dispatcher.send_due().await.is_err(), "the probe's claim needs the devices");
    rename(db, "device_elsewhere", "device").await;
    assert_eq!(scene.sent(Provider::Fcm).len(), tried);
    scene.send().await;
    let id = scene.message(&parent, "coupon.resumed").await;
    let rows = scene.deliveries(id).await;
    assert!(rows.iter().all(|row| row.state == DeliveryState::Accepted), "the lane goes on: {rows:?}");
}

/// Renames a table from outside.
async fn rename(db: &TestStore, from: &str, to: &str) {
    let rename = AssertSqlSafe(format!("ALTER TABLE {from} RENAME TO {to}"));
    match db.sqlite_file() {
        Some(file) => {
            let mut outside = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
            sqlx::query(rename).execute(&mut outside).await.unwrap();
            outside.close().await.unwrap();
        }
        None => {
            let mut outside = db.postgres_connection().await;
            sqlx::query(rename).execute(&mut outside).await.unwrap();
            outside.close().await.unwrap();
        }
    }
}
