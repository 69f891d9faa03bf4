//! Notices: each reader is told once, from the first day on, until it is taken back.

use std::time::Duration;

use jiff::civil::Date;
use serde_json::json;
use todoke_domain::{Role, Timestamp, channel::Channel, delivery::Provider, time::add_days};
use todoke_store::{Wall, guardian::Guardian, message::MessageStep};
use todoke_tests::stores::TestStore;
use todoke_workflow::{Actor, WorkflowError, notice::NoticeDraft};

use crate::{
    city::{City, NOW, neighbour, town},
    coupon_use::workflow,
    delivery_scene::Scene,
    register::{events_of, family, inbox},
};

todoke_tests::on_both_databases! {
    its_audience_is_told_once,
    it_stands_from_its_first_to_its_last_day,
    what_is_taken_back_is_told_nobody_else,
    who_wants_letters_is_told_in_the_inbox_only,
    what_is_taken_back_leaves_every_inbox_and_does_not_ring_in_the_morning,
    what_is_taken_back_leaves_the_devices_that_show_it,
}

fn draft(audience: &str, valid_from: Option<Date>, days: i32) -> NoticeDraft {
    NoticeDraft {
        title: "年末年始の窓口".to_owned(),
        body: "12月29日から休みます。".to_owned(),
        audience: audience.to_owned(),
        valid_from,
        valid_to: add_days(valid_from.unwrap_or_else(|| NOW.jst_date()), days),
        push: true,
    }
}

fn day(n: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(n * 86_400))
}

async fn its_audience_is_told_once(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let other = City::found(db, &neighbour(), 1_000).await;
    let mut families = Vec::new();
    for no in 0..450 {
        families.push(family(db, &town(), no + 10, "27127", NOW.jst_date()).await);
    }
    let (first, second) = (workflow(db.store()), workflow(db.open_again().await));
    let operator = city.operator();
    let timer = Actor::system(town(), "timer");
    let notice = first.publish_notice(&operator, draft("guardians", None, 10), NOW).await.unwrap();
    let (one, two) = tokio::join!(first.due_notices(&timer, NOW), second.due_notices(&timer, NOW));
    assert_eq!(one.unwrap() + two.unwrap(), 451);
    assert_eq!(first.due_notices(&timer, day(1)).await.unwrap(), 0);
    let published = events_of(db, "notice.published").await;
    assert_eq!(published.len(), 1);
    for reader in families.iter().map(|family| &family.parent).chain([&city.parent]).step_by(50) {
        let told = inbox(db, reader, "notice.published").await;
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].title.as_str(), told[0].cause_event_id), ("年末年始の窓口", published[0].event_id));
    }
    assert!(inbox(db, &city.staff, "notice.published").await.is_empty());
    assert!(inbox(db, &other.parent, "notice.published").await.is_empty());
    assert_eq!(first.notices(&city.parent(), NOW).await.unwrap()[0].notice_id, notice.notice_id);
    assert!(first.notices(&city.staff(), NOW).await.unwrap().is_empty());
    assert!(first.notices(&other.parent(), NOW).await.unwrap().is_empty());
    assert!(matches!(
        first.publish_notice(&city.parent(), draft("all", None, 1), NOW).await,
        Err(WorkflowError::Denied)
    ));
    first.publish_notice(&operator, draft("all", None, 10), NOW).await.unwrap();
    assert_eq!(first.due_notices(&timer, NOW).await.unwrap(), 453, "the facility and the operator too");
    let own = inbox(db, &city.staff, "notice.published").await.remove(0);
    let seen = first.note_cause_step(&city.staff(), own.cause_event_id, MessageStep::Read, NOW).await.unwrap();
    assert_eq!(seen.unread, 0);
    assert!(inbox(db, &city.staff, "notice.published").await[0].read_at.is_some());
    let others = inbox(db, &city.operator, "notice.published").await;
    assert!(others[0].read_at.is_none(), "each reads the own one");
    second.store().close().await;
}

async fn it_stands_from_its_first_to_its_last_day(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let timer = Actor::system(town(), "timer");
    let tomorrow = add_days(NOW.jst_date(), 1);
    workflow.publish_notice(&city.operator(), draft("all", Some(tomorrow), 1), NOW).await.unwrap();
    let stands = async |n: u64| workflow.notices(&city.parent(), day(n)).await.unwrap().len();
    assert_eq!((stands(0).await, stands(1).await, stands(2).await, stands(3).await), (0, 1, 1, 0));
    assert_eq!(workflow.due_notices(&timer, NOW).await.unwrap(), 0);
    assert_eq!(workflow.due_notices(&timer, day(1)).await.unwrap(), 3, "parent, staff and operator");
    assert_eq!(inbox(db, &city.staff, "notice.published").await.len(), 1);
    assert_eq!(workflow.notices(&city.operator(), day(9)).await.unwrap().len(), 1, "who publishes sees all of them");
    let late = workflow.publish_notice(&city.operator(), draft("nobody", Some(add_days(tomorrow, -9)), 1), NOW).await;
    let Err(WorkflowError::Invalid(errors)) = late else { panic!("such a notice is refused") };
    assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), ["audience", "valid_to"]);
}

async fn what_is_taken_back_is_told_nobody_else(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let other = City::found(db, &neighbour(), 1_000).await;
    let workflow = workflow(db.store());
    let operator = city.operator();
    let notice = workflow.publish_notice(&operator, draft("all", None, 5), NOW).await.unwrap();
    let stranger = Actor { role: Some(Role::Operator), ..other.operator() };
    assert!(matches!(
        workflow.withdraw_notice(&stranger, notice.notice_id, NOW).await,
        Err(WorkflowError::NotFound(_))
    ));
    workflow.withdraw_notice(&operator, notice.notice_id, NOW).await.unwrap();
    assert!(matches!(
        workflow.withdraw_notice(&operator, notice.notice_id, NOW).await,
        Err(WorkflowError::Conflict(_))
    ));
    assert_eq!(workflow.due_notices(&Actor::system(town(), "timer"), NOW).await.unwrap(), 0);
    assert!(workflow.notices(&city.parent(), NOW).await.unwrap().is_empty());
    assert_eq!(events_of(db, "notice.withdrawn").await.len(), 1);
}

async fn who_wants_letters_is_told_in_the_inbox_only(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let by_app = family(db, &town(), 10, "27127", NOW.jst_date()).await;
    let guardian = Guardian { contact_channel: "paper".to_owned(), ..city.guardian.clone() };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.update_guardian(&guardian).await.unwrap();
    tx.commit().await.unwrap();
    let workflow = workflow(db.store());
    workflow.publish_notice(&city.operator(), draft("guardians", None, 10), NOW).await.unwrap();
    assert_eq!(workflow.due_notices(&Actor::system(town(), "timer"), NOW).await.unwrap(), 2);
    let created = events_of(db, "message.created").await;
    for (reader, channels) in
        [(&city.parent, json!(["live", "inbox"])), (&by_app.parent, json!(["live", "inbox", "push"]))]
    {
        let own = created.iter().find(|event| event.payload["recipient_key"] == json!(reader.person_key));
        assert_eq!(own.expect("everybody is told").payload["channels"], channels, "{}", reader.name);
    }
}

async fn what_is_taken_back_leaves_every_inbox_and_does_not_ring_in_the_morning(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let mut readers = vec![scene.city.staff.clone(), scene.city.parent.clone()];
    for no in 0..250 {
        readers.push(family(db, &town(), no + 10, "27127", NOW.jst_date()).await.parent);
    }
    scene.device(&scene.city.parent, Provider::Fcm, "phone").await;
    let (timer, operator) = (Actor::system(town(), "timer"), scene.city.operator());
    // 22:00: paced push waits for the morning.
    scene.pass(10 * 3_600);
    let notice = scene.workflow.publish_notice(&operator, draft("all", None, 5), scene.now()).await.unwrap();
    assert_eq!(scene.workflow.due_notices(&timer, scene.now()).await.unwrap(), 253);
    assert_eq!(scene.send().await, 0);
    let message = scene.message(&scene.city.parent, "notice.published").await;
    assert_eq!(scene.states(message).await, [("fcm", "notification", "queued")]);
    scene.workflow.withdraw_notice(&operator, notice.notice_id, scene.now()).await.unwrap();
    let (other, now) = (workflow(db.open_again().await), scene.now());
    let (one, two) = tokio::join!(scene.workflow.due_notices(&timer, now), other.due_notices(&timer, now));
    assert_eq!((one.unwrap(), two.unwrap()), (0, 0), "nobody is told of it");
    other.store().close().await;
    for reader in &readers {
        assert!(inbox(db, reader, "notice.published").await.is_empty(), "{:?}", reader.email);
    }
    assert_eq!(scene.states(message).await, [("fcm", "notification", "superseded")]);
    scene.pass(12 * 3_600);
    assert_eq!(scene.send().await, 0, "it is 10:00, and nothing rings");
    assert_eq!(scene.events("message.superseded").await.len(), 1);
}

async fn what_is_taken_back_leaves_the_devices_that_show_it(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    scene.device(&scene.city.parent, Provider::Fcm, "phone").await;
    let (timer, operator) = (Actor::system(town(), "timer"), scene.city.operator());
    let notice = scene.workflow.publish_notice(&operator, draft("guardians", None, 5), NOW).await.unwrap();
    assert_eq!(scene.workflow.due_notices(&timer, NOW).await.unwrap(), 1);
    assert_eq!(scene.send().await, 1);
    let message = scene.message(&scene.city.parent, "notice.published").await;
    scene.workflow.withdraw_notice(&operator, notice.notice_id, scene.now()).await.unwrap();
    for _ in 0..2 {
        scene.workflow.due_notices(&timer, scene.now()).await.unwrap();
        scene.send().await;
    }
    let states = [("fcm", "notification", "superseded"), ("fcm", "withdraw", "accepted")];
    assert_eq!(scene.states(message).await, states);
    let channel = Channel::Guardian(scene.city.parent.account_id).to_string();
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let live = tx.publications_since(&channel, 0, 10).await.unwrap().publications;
    let last = &live.last().expect("an open inbox hears of it").data;
    assert!(last.contains("message.withdrawn") && !last.contains("年末年始"), "{last}");
}
