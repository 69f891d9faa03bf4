//! The night: paced push rings nobody between 21:00 and 8:00, whatever kept it from leaving in the evening.

use std::time::Duration;

use serde_json::json;
use todoke_domain::{
    delivery::{DeliveryState, Provider},
    ids::MessageId,
    time::add_days,
};
use todoke_notifier::{Kind, Outcome};
use todoke_store::Wall;
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor,
    messaging::{Correction, ReceiptKind},
    notice::NoticeDraft,
};

use crate::{
    city::{NOW, town},
    delivery_scene::Scene,
    register::inbox,
};

todoke_tests::on_both_databases! {
    a_retry_after_nine_in_the_evening_waits_for_the_morning,
    what_a_provider_that_was_out_left_behind_waits_for_the_morning,
    a_correction_at_night_waits_for_the_morning,
    what_a_person_sends_again_at_night_waits_for_the_morning,
    a_correction_of_what_nobody_has_seen_keeps_its_time,
    what_is_urgent_rings_at_night_and_what_was_read_goes_quietly,
}

/// Seconds after noon, when scenes begin.
const EVENING: u64 = 9 * 3_600 - 5;
const TEN_AT_NIGHT: u64 = 10 * 3_600;
const MORNING: u64 = 20 * 3_600;

/// A paced message with a push, to every guardian.
async fn notice(scene: &Scene) -> MessageId {
    let draft = NoticeDraft {
        title: "休館のお知らせ".to_owned(),
        body: "明日は休みます。".to_owned(),
        audience: "guardians".to_owned(),
        valid_from: None,
        valid_to: add_days(NOW.jst_date(), 3),
        push: true,
    };
    scene.workflow.publish_notice(&scene.city.operator(), draft, scene.now()).await.unwrap();
    scene.workflow.due_notices(&Actor::system(town(), "timer"), scene.now()).await.unwrap();
    scene.message(&scene.city.parent, "notice.published").await
}

async fn correct(scene: &Scene, id: MessageId) {
    let correction = Correction { title: "休館の訂正".to_owned(), body: "明後日は休みます。".to_owned() };
    scene.workflow.correct_message(&scene.city.operator(), id, &correction, scene.now()).await.unwrap();
}

fn later() -> Outcome {
    Outcome::Later { code: "unavailable", after: None }
}

async fn a_retry_after_nine_in_the_evening_waits_for_the_morning(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    scene.device(&scene.city.parent.clone(), Provider::Fcm, "token").await;
    scene.pass_until(EVENING);
    let id = notice(&scene).await;
    scene.channels[&Provider::Fcm].answer([later()]);
    assert_eq!(scene.send().await, 1, "the last seconds of the evening");
    let row = scene.deliveries(id).await.remove(0);
    assert_eq!((row.state, row.due_at), (DeliveryState::Queued, NOW.plus(Duration::from_secs(MORNING))));
    for seconds in [EVENING + 60, TEN_AT_NIGHT, MORNING - 1] {
        scene.pass_until(seconds);
        assert_eq!(scene.send().await, 0, "{seconds} s after noon");
    }
    scene.pass_until(MORNING);
    assert_eq!(scene.send().await, 1);
    assert_eq!(scene.deliveries(id).await[0].state, DeliveryState::Accepted);
}

async fn what_a_provider_that_was_out_left_behind_waits_for_the_morning(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    for no in 0..9 {
        scene.device(&parent, Provider::Fcm, &format!("token-{no}")).await;
    }
    scene.pass_until(EVENING);
    let id = notice(&scene).await;
    scene.channels[&Provider::Fcm].answer((0..7).map(|_| later()));
    assert_eq!(scene.send().await, 7, "as many as go at once");
    let due = scene.deliveries(id).await.iter().filter(|row| row.due_at <= scene.now()).count();
    assert_eq!(due, 2, "two are due this evening, and the provider is left alone");
    scene.pass_until(TEN_AT_NIGHT);
    assert_eq!(scene.send().await, 0, "the provider answers again, and it is night");
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    assert!(!tx.has_due_deliveries(Provider::Fcm, scene.now()).await.unwrap());
    let waiting = tx.queue_depths(scene.now()).await.unwrap();
    assert!(waiting.is_empty(), "what waits for the morning alarms nobody: {waiting:?}");
    drop(tx);
    scene.pass_until(MORNING);
    assert_eq!(scene.send().await, 9, "deferred, not dropped");
}

async fn a_correction_at_night_waits_for_the_morning(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    scene.pass_until(EVENING);
    let id = notice(&scene).await;
    assert_eq!(scene.send().await, 1);
    scene.pass_until(TEN_AT_NIGHT);
    correct(&scene, id).await;
    assert_eq!(inbox(db, &parent, "notice.published").await[0].body, "明後日は休みます。", "the inbox has it at once");
    assert_eq!(scene.send().await, 0);
    scene.pass_until(MORNING);
    assert_eq!(scene.send().await, 1);
    let pushes = scene.sent(Provider::Fcm);
    assert_eq!(pushes[1].title, "お知らせを訂正しました");
    assert_eq!(todoke_notifier::tag(&pushes[0]), todoke_notifier::tag(&pushes[1]));
}

async fn what_a_person_sends_again_at_night_waits_for_the_morning(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    scene.device(&scene.city.parent.clone(), Provider::Fcm, "token").await;
    scene.pass_until(EVENING);
    let id = notice(&scene).await;
    scene.channels[&Provider::Fcm].answer([Outcome::Refused { code: "too_big" }]);
    assert_eq!(scene.send().await, 1);
    let failed = scene.deliveries(id).await.remove(0);
    assert_eq!(failed.state, DeliveryState::Failed);
    scene.pass_until(TEN_AT_NIGHT);
    let operator = scene.city.operator();
    scene.workflow.resend_delivery(&operator, failed.delivery_id, scene.now()).await.unwrap();
    assert_eq!(scene.send().await, 0);
    scene.pass_until(MORNING);
    assert_eq!(scene.send().await, 1);
}

async fn a_correction_of_what_nobody_has_seen_keeps_its_time(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    scene.raise("coupon.use_rejected", "u1", json!({ "by": "facility" })).await;
    assert_eq!(scene.send().await, 1, "the push; its mail waits ten minutes for somebody to look");
    let urgent = scene.message(&parent, "coupon.use_rejected").await;
    scene.pass(300);
    correct(&scene, urgent).await;
    assert_eq!(scene.send().await, 1, "the push again");
    assert_eq!(scene.sent(Provider::Fcm)[1].title, "お知らせを訂正しました");
    assert!(scene.sent(Provider::Smtp).is_empty());
    scene.pass(300);
    assert_eq!(scene.send().await, 1, "the mail, when it was to go");
    let mail = scene.sent(Provider::Smtp).remove(0);
    assert!(!mail.title.contains("訂正") && !mail.body.contains("訂正"), "{}: no mail came before", mail.title);
    assert!(!mail.body.contains("明後日"), "words that nobody checked for names do not travel");
    assert_eq!(scene.events("message.escalated").await.len(), 1);

    scene.pass_until(TEN_AT_NIGHT);
    let paced = notice(&scene).await;
    correct(&scene, paced).await;
    let rows = scene.deliveries(paced).await;
    assert_eq!((rows.len(), rows[0].due_at), (1, NOW.plus(Duration::from_secs(MORNING))));
    assert_eq!(scene.send().await, 0);
    scene.pass_until(MORNING);
    assert_eq!(scene.send().await, 1);
    assert!(!scene.sent(Provider::Fcm)[2].title.contains("訂正"));
}

async fn what_is_urgent_rings_at_night_and_what_was_read_goes_quietly(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "phone").await;
    scene.device(&parent, Provider::Apns, "tablet").await;
    scene.pass_until(EVENING);
    notice(&scene).await;
    assert_eq!(scene.send().await, 2);
    scene.pass_until(TEN_AT_NIGHT);
    let opened = scene.sent(Provider::Fcm)[0].receipt.clone().unwrap().parse().unwrap();
    assert!(scene.workflow.note_receipt(opened, ReceiptKind::Opened, scene.now()).await.unwrap());
    assert_eq!(scene.send().await, 1, "taking a notification away makes no sound");
    assert_eq!(scene.sent(Provider::Apns)[1].kind, Kind::Withdraw);
    scene.resumed("c1").await;
    assert_eq!(scene.send().await, 3, "two devices and a mail");
}
