//! Pausing and stopping a broadcast of which something still waits in the queue, and what a fault of one leaves to the
//! others.

use std::{collections::BTreeSet, time::Duration};

use jiff::civil::date;
use serde_json::json;
use tempfile::TempDir;
use todoke_domain::{
    Role,
    broadcast::{BroadcastKind, BroadcastState},
    delivery::{DeliveryState, Provider},
    ids::{BroadcastId, MessageId},
    segment::Condition,
};
use todoke_notifier::Kind;
use todoke_store::{Durability, Store, Wall, broadcast::Broadcast, message::MessageStep};
use todoke_tests::{
    crowd::crowd,
    stores::TestStore,
    todoke::{DemoOptions, Todoke},
    wait::cut_off,
};
use todoke_workflow::{
    Actor, WorkflowError,
    broadcast::{BroadcastDraft, BroadcastView, Sender, TRIALS_PER_MIN, Trial},
};

use crate::{
    broadcast::{NORTH, SOUTH, Scene, draft, ward},
    city::{NOW, account, town},
    coupon_use::workflow,
    delivery_scene,
    register::{events_of, inbox},
    scene::text,
};

todoke_tests::on_both_databases! {
    what_waits_for_the_morning_is_held_by_a_pause_and_goes_after_it,
    what_waits_for_the_morning_is_suppressed_by_a_stop,
    what_was_read_while_it_was_held_does_not_go,
    what_comes_back_to_be_tried_again_is_held_or_suppressed_too,
    one_of_which_only_what_is_under_way_is_left_can_be_paused_and_stopped,
    what_a_crash_leaves_of_a_stop_the_sender_finishes,
    who_changed_or_submitted_it_cannot_release_it,
    a_broken_broadcast_keeps_no_other_from_going_out,
    words_that_lack_a_value_cost_their_messages_and_the_operator_is_told,
    words_that_lose_a_value_on_the_way_cost_what_leaves_the_app,
    a_test_goes_to_who_tries_it_out_and_counts_nowhere,
    a_test_goes_no_way_that_the_audience_is_not_told,
}

const HOUR: u64 = 3_600;

/// A town whose one parent has a phone, a push service that answers as told, and a sender.
struct Night {
    scene: delivery_scene::Scene,
    sender: Sender,
}

impl Night {
    /// It is 22:00.
    async fn of(db: &TestStore) -> Self {
        let scene = delivery_scene::Scene::of(db).await;
        let parent = scene.city.parent.clone();
        scene.device(&parent, Provider::Fcm, "phone").await;
        scene.pass(10 * HOUR);
        assert_eq!(scene.now().jst().hour(), 22);
        Self { sender: Sender::new(scene.workflow.clone()), scene }
    }

    fn author(&self) -> Actor {
        self.scene.city.operator()
    }

    /// Sends until nothing has happened for two seconds.
    async fn stride(&self) {
        let (timer, mut now, mut idle) = (Actor::system(town(), "timer"), self.scene.now(), 0);
        while idle < 8 {
            let stride = self.sender.stride(&timer, now).await.unwrap();
            idle = if stride.worked() { 0 } else { idle + 1 };
            now = now.plus(Duration::from_millis(250));
        }
    }

    /// A broadcast to the parent that everybody has been handed.
    async fn sent(&self) -> BroadcastId {
        let (workflow, author, now) = (&self.scene.workflow, self.author(), self.scene.now());
        let made = workflow.create_broadcast(&author, draft(BroadcastKind::Segment, ward(NORTH)), now).await.unwrap();
        workflow.submit_broadcast(&author, made.broadcast_id, now).await.unwrap();
        self.stride().await;
        assert_eq!(self.view(made.broadcast_id).await.state, BroadcastState::Sent);
        made.broadcast_id
    }

    async fn view(&self, id: BroadcastId) -> BroadcastView {
        self.scene.workflow.broadcast(&self.author(), id).await.unwrap()
    }

    async fn pause(&self, id: BroadcastId) -> Result<BroadcastView, WorkflowError> {
        self.scene.workflow.pause_broadcast(&self.author(), id, self.scene.now()).await
    }

    async fn resume(&self, id: BroadcastId) -> BroadcastView {
        self.scene.workflow.resume_broadcast(&self.author(), id, self.scene.now()).await.unwrap()
    }

    async fn cancel(&self, id: BroadcastId) -> Result<BroadcastView, WorkflowError> {
        self.scene.workflow.cancel_broadcast(&self.author(), id, self.scene.now()).await
    }

    async fn message(&self) -> MessageId {
        self.scene.message(&self.scene.city.parent, "broadcast.segment").await
    }

    /// Where the pushes of the message stand.
    async fn states(&self) -> Vec<&'static str> {
        let states = self.scene.states(self.message().await).await;
        states.into_iter().map(|(_, _, state)| state).collect()
    }

    fn pushed(&self) -> usize {
        self.scene.sent(Provider::Fcm).len()
    }
}

async fn what_waits_for_the_morning_is_held_by_a_pause_and_goes_after_it(db: &TestStore) {
    let mut night = Night::of(db).await;
    let id = night.sent().await;
    assert_eq!(night.view(id).await.counters["waiting"], 1);
    assert_eq!(night.pause(id).await.unwrap().state, BroadcastState::Paused);
    assert!(matches!(night.pause(id).await, Err(WorkflowError::Conflict(_))), "it is paused already");
    night.scene.pass(11 * HOUR);
    night.stride().await;
    night.scene.send().await;
    assert_eq!((night.pushed(), night.states().await), (0, vec!["held"]), "in the morning nothing goes");
    assert_eq!(night.view(id).await.counters["waiting"], 1);
    // It goes on in the next night, and a push does not leave in the quiet hours; it lives on from then.
    night.scene.pass(5 * 24 * HOUR + 13 * HOUR);
    assert_eq!(night.resume(id).await.state, BroadcastState::Sent, "everybody had been handed");
    night.scene.send().await;
    assert_eq!((night.pushed(), night.states().await), (0, vec!["queued"]));
    night.scene.pass(10 * HOUR);
    night.scene.send().await;
    assert_eq!((night.pushed(), night.states().await), (1, vec!["accepted"]));
    assert!(matches!(night.pause(id).await, Err(WorkflowError::Conflict(_))), "nothing waits any more");
    assert!(matches!(night.cancel(id).await, Err(WorkflowError::Conflict(_))));
    assert_eq!(night.view(id).await.state, BroadcastState::Sent);
}

async fn what_waits_for_the_morning_is_suppressed_by_a_stop(db: &TestStore) {
    let mut night = Night::of(db).await;
    let id = night.sent().await;
    night.pause(id).await.unwrap();
    let stopped = night.cancel(id).await.unwrap();
    assert_eq!(stopped.state, BroadcastState::Cancelled, "a paused one too");
    let counts = &stopped.counters;
    assert_eq!((&counts["suppressed"], &counts["waiting"], &counts["sent"]), (&json!(1), &json!(0), &json!(0)));
    assert_eq!(night.states().await, ["suppressed"]);
    let told = night.scene.events("message.suppressed").await;
    assert_eq!(told, [json!({ "message_id": night.message().await, "reason": "broadcast_stopped" })]);
    night.scene.pass(11 * HOUR);
    night.stride().await;
    night.scene.send().await;
    assert_eq!((night.pushed(), night.scene.events("message.suppressed").await.len()), (0, 1));
    assert!(matches!(night.cancel(id).await, Err(WorkflowError::Conflict(_))));
    assert_eq!(inbox(db, &night.scene.city.parent, "broadcast.segment").await.len(), 1, "the inbox stays");
    let left = db.begin_read(Wall::None).await.unwrap().broadcast(id).await.unwrap().unwrap();
    assert!(!left.stopping, "nobody looks at it any more");
}

async fn what_was_read_while_it_was_held_does_not_go(db: &TestStore) {
    let mut night = Night::of(db).await;
    let id = night.sent().await;
    night.pause(id).await.unwrap();
    let (parent, message) = (night.scene.city.parent(), night.message().await);
    let now = night.scene.now();
    night.scene.workflow.note_message_step(&parent, message, MessageStep::Read, now).await.unwrap();
    assert_eq!(night.states().await, ["superseded"]);
    night.scene.pass(11 * HOUR);
    night.resume(id).await;
    night.scene.send().await;
    assert_eq!(night.pushed(), 0);
}

/// One of two devices is being handed its push when the broadcast is held; nobody notes what became of that.
async fn what_comes_back_to_be_tried_again_is_held_or_suppressed_too(db: &TestStore) {
    let mut night = Night::of(db).await;
    let parent = night.scene.city.parent.clone();
    night.scene.device(&parent, Provider::Fcm, "tablet").await;
    let id = night.sent().await;
    night.scene.pass(11 * HOUR);
    let now = night.scene.now();
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let lease = now.plus(Duration::from_secs(60));
    assert_eq!(tx.claim_deliveries(Provider::Fcm, 1, now, lease).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    night.pause(id).await.unwrap();
    let states = async |night: &Night| {
        let mut states = night.states().await;
        states.sort_unstable();
        states
    };
    assert_eq!(states(&night).await, ["held", "sent"]);
    night.scene.pass(61);
    night.scene.send().await;
    night.stride().await;
    assert_eq!(states(&night).await, ["held", "held"], "its lease ended, and it would be tried again");
    night.resume(id).await;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let (now, lease) = (night.scene.now(), night.scene.now().plus(Duration::from_secs(60)));
    assert_eq!(tx.claim_deliveries(Provider::Fcm, 1, now, lease).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    night.cancel(id).await.unwrap();
    assert_eq!(states(&night).await, ["sent", "suppressed"]);
    night.scene.pass(61);
    night.scene.send().await;
    night.stride().await;
    assert_eq!(states(&night).await, ["suppressed", "suppressed"]);
    assert_eq!(night.scene.events("message.suppressed").await.len(), 1, "one for the message");
    night.scene.pass(HOUR);
    night.scene.send().await;
    assert_eq!(night.pushed(), 0);
}

async fn one_of_which_only_what_is_under_way_is_left_can_be_paused_and_stopped(db: &TestStore) {
    let mut night = Night::of(db).await;
    let id = night.sent().await;
    let hand_over = async |night: &Night| {
        let (now, lease) = (night.scene.now(), night.scene.now().plus(Duration::from_secs(60)));
        let mut tx = db.begin_write(Wall::None).await.unwrap();
        assert_eq!(tx.claim_deliveries(Provider::Fcm, 1, now, lease).await.unwrap().len(), 1);
        tx.commit().await.unwrap();
        assert_eq!(night.states().await, ["sent"], "a provider has it, and has not answered");
    };
    night.scene.pass(11 * HOUR);
    hand_over(&night).await;
    let paused = night.pause(id).await.unwrap();
    assert_eq!((paused.state, paused.under_way), (BroadcastState::Paused, Some(1)));
    night.scene.pass(61);
    night.scene.send().await;
    night.stride().await;
    assert_eq!(night.states().await, ["held"], "what comes back does not go again");
    let resumed = night.resume(id).await;
    assert_eq!((resumed.state, resumed.under_way), (BroadcastState::Sent, Some(0)));

    night.scene.pass(HOUR);
    hand_over(&night).await;
    let stopped = night.cancel(id).await.unwrap();
    assert_eq!((stopped.state, stopped.under_way), (BroadcastState::Cancelled, Some(1)));
    night.scene.pass(61);
    night.scene.send().await;
    night.stride().await;
    assert_eq!((night.pushed(), night.states().await), (0, vec!["suppressed"]));
    assert!(matches!(night.cancel(id).await, Err(WorkflowError::Conflict(_))), "nothing is left");
}

async fn what_a_crash_leaves_of_a_stop_the_sender_finishes(db: &TestStore) {
    let scene = Scene::of(db).await;
    crowd(db, &town(), SOUTH, 1_150, NOW).await;
    let urgent = BroadcastDraft { email: true, ..draft(BroadcastKind::Emergency, Condition::everybody()) };
    let sent = scene.released(urgent, NOW).await;
    let now = scene.send_all(NOW).await;
    assert_eq!(scene.view(&sent).await.state, BroadcastState::Sent);
    // One poll more each time: the first cut after which it is stopped lies before the queue is empty.
    let mut n = 1;
    while scene.view(&sent).await.state != BroadcastState::Cancelled {
        let _ = cut_off(scene.workflow.cancel_broadcast(&scene.author(), sent.broadcast_id, now), n).await;
        n += 1;
    }
    let states = async |state: DeliveryState| {
        let mut tx = db.begin_read(Wall::None).await.unwrap();
        let mails = tx.mails(None, 10_000).await.unwrap();
        mails.iter().filter(|mail| mail.state == state).count()
    };
    assert!(states(DeliveryState::Held).await > 0, "the stop was cut off");
    assert_eq!(states(DeliveryState::Queued).await, 0, "and nothing can leave all the same");
    scene.send_all(now).await;
    assert_eq!(states(DeliveryState::Suppressed).await, 1_151);
    let told = events_of(db, "message.suppressed").await;
    let messages: BTreeSet<&str> = told.iter().map(|event| event.subject_id.as_str()).collect();
    assert_eq!((told.len(), messages.len()), (1_151, 1_151), "one for each message");
    let later = now.plus(Duration::from_secs(7 * 24 * HOUR));
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    assert!(tx.deliveries_past_their_time(Provider::Smtp, later, 10).await.unwrap().is_empty(), "nothing expires");
}

async fn who_changed_or_submitted_it_cannot_release_it(db: &TestStore) {
    let scene = Scene::of(db).await;
    let third = account(&town(), Role::MunicipalStaff, "third@27100.example.jp");
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&third, NOW).await.unwrap();
    tx.commit().await.unwrap();
    let (author, second, third) = (scene.author(), scene.second(), Actor::of(&third, None));
    let workflow = &scene.workflow;
    let everybody = || draft(BroadcastKind::Segment, Condition::everybody());
    let refused = async |actor: &Actor, id: BroadcastId| {
        assert!(!workflow.broadcast(actor, id).await.unwrap().may_approve);
        let approved = workflow.approve_broadcast(actor, id, NOW).await;
        assert!(matches!(approved, Err(WorkflowError::Conflict(_))), "{approved:?}");
        let rejected = workflow.reject_broadcast(actor, id, "直してください", NOW).await;
        assert!(matches!(rejected, Err(WorkflowError::Conflict(_))), "{rejected:?}");
    };
    // The second person rewrites what the author submits.
    let id = workflow.create_broadcast(&author, everybody(), NOW).await.unwrap().broadcast_id;
    workflow.update_broadcast(&second, id, everybody(), NOW).await.unwrap();
    workflow.submit_broadcast(&author, id, NOW).await.unwrap();
    refused(&author, id).await;
    refused(&second, id).await;
    assert!(workflow.broadcast(&third, id).await.unwrap().may_approve);
    // The third gives it back, rewrites it and submits it.
    workflow.reject_broadcast(&third, id, "直します", NOW).await.unwrap();
    workflow.update_broadcast(&third, id, everybody(), NOW).await.unwrap();
    workflow.submit_broadcast(&third, id, NOW).await.unwrap();
    refused(&third, id).await;
    refused(&author, id).await;
    assert_eq!(workflow.approve_broadcast(&second, id, NOW).await.unwrap().state, BroadcastState::Scheduled);
    // Who only submits it has a hand in it too.
    let id = workflow.create_broadcast(&author, everybody(), NOW).await.unwrap().broadcast_id;
    workflow.submit_broadcast(&second, id, NOW).await.unwrap();
    refused(&second, id).await;
    assert_eq!(workflow.approve_broadcast(&third, id, NOW).await.unwrap().state, BroadcastState::Scheduled);
}

async fn a_broken_broadcast_keeps_no_other_from_going_out(db: &TestStore) {
    let scene = Scene::of(db).await;
    crowd(db, &town(), SOUTH, 3, NOW).await;
    let broken = scene.released(draft(BroadcastKind::Emergency, ward(SOUTH)), NOW).await;
    let sound = scene.released(draft(BroadcastKind::Segment, ward(SOUTH)), NOW).await;
    let write = async |definition: &str| {
        let mut tx = db.begin_write(Wall::None).await.unwrap();
        let mut row = tx.lock_broadcast(broken.broadcast_id).await.unwrap().unwrap();
        let before = std::mem::replace(&mut row.definition, definition.to_owned());
        tx.update_broadcast(&row).await.unwrap();
        tx.commit().await.unwrap();
        before
    };
    let definition = write(r#"{"people":"households","when":{"kind":"no_longer_known"}}"#).await;
    let now = scene.send_all(NOW).await;
    assert_eq!(scene.view(&sound).await.state, BroadcastState::Sent, "the emergency before it cannot be read");
    write(&definition).await;
    scene.send_all(now.plus(Duration::from_secs(2))).await;
    assert_eq!(scene.view(&broken).await.state, BroadcastState::Sent, "it is tried again");
}

/// A meeting for a ward, with a place.
fn meeting(ward_code: &str) -> BroadcastDraft {
    BroadcastDraft {
        event_on: Some(date(2026, 6, 20)),
        place: "区民センター".to_owned(),
        ..draft(BroadcastKind::Event, ward(ward_code))
    }
}

/// The record loses the place of a meeting.
async fn lose_the_place(db: &TestStore, id: BroadcastId) {
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let row = tx.lock_broadcast(id).await.unwrap().unwrap();
    tx.update_broadcast(&Broadcast { place: String::new(), ..row }).await.unwrap();
    tx.commit().await.unwrap();
}

async fn words_that_lack_a_value_cost_their_messages_and_the_operator_is_told(db: &TestStore) {
    let scene = Scene::of(db).await;
    crowd(db, &town(), SOUTH, 3, NOW).await;
    let meeting = scene.released(meeting(SOUTH), NOW).await;
    lose_the_place(db, meeting.broadcast_id).await;
    let trial = scene.workflow.try_broadcast(&scene.author(), meeting.broadcast_id, NOW).await;
    assert!(matches!(trial, Err(WorkflowError::Conflict(_))), "{trial:?}");
    scene.send_all(NOW).await;
    let over = scene.view(&meeting).await;
    assert_eq!((over.state, &over.counters["created"]), (BroadcastState::Sent, &json!(0)), "it is not tried for ever");
    assert_eq!(over.rounds[0].suppressed, 3);
    let suppressed = events_of(db, "message.suppressed").await;
    assert!(suppressed.iter().all(|event| event.payload["reason"] == json!("template_error")), "{suppressed:?}");
    let created: BTreeSet<String> = events_of(db, "message.created")
        .await
        .into_iter()
        .filter(|event| event.payload["message_type"] == json!("broadcast.event"))
        .map(|event| event.subject_id)
        .collect();
    let dropped: BTreeSet<String> = suppressed.into_iter().map(|event| event.subject_id).collect();
    assert_eq!((dropped.len(), dropped), (3, created), "one for each person");
    let alarms = inbox(db, &scene.city.operator, "operator.message_faulty").await;
    assert_eq!(alarms.len(), 1);
    assert!(alarms[0].body.contains("broadcast.event"), "{}", alarms[0].body);
}

async fn words_that_lose_a_value_on_the_way_cost_what_leaves_the_app(db: &TestStore) {
    let night = Night::of(db).await;
    let (workflow, author, now) = (&night.scene.workflow, night.author(), night.scene.now());
    let id = workflow.create_broadcast(&author, meeting(NORTH), now).await.unwrap().broadcast_id;
    workflow.submit_broadcast(&author, id, now).await.unwrap();
    let first = night.sender.stride(&Actor::system(town(), "timer"), now).await.unwrap();
    assert_eq!((first.created, first.routed), (1, 0), "it is in the inbox, and the push is next");
    lose_the_place(db, id).await;
    night.stride().await;
    assert_eq!(night.view(id).await.state, BroadcastState::Sent);
    let message = night.scene.message(&night.scene.city.parent, "broadcast.event").await;
    assert!(night.scene.deliveries(message).await.is_empty());
    let told = night.scene.events("message.suppressed").await;
    assert_eq!(told, [json!({ "message_id": message, "reason": "template_error" })]);
    assert_eq!(inbox(db, &night.scene.city.operator, "operator.message_faulty").await.len(), 1);
}

async fn a_test_goes_to_who_tries_it_out_and_counts_nowhere(db: &TestStore) {
    let mut scene = delivery_scene::Scene::of(db).await;
    let operator = scene.city.operator.clone();
    let author = scene.city.operator();
    scene.device(&operator, Provider::Fcm, "own phone").await;
    scene.device(&scene.city.parent, Provider::Fcm, "somebody else's phone").await;
    let n_created = scene.events("message.created").await.len();
    let workflow = workflow(db.store());
    let everybody = BroadcastDraft { email: true, ..draft(BroadcastKind::Segment, Condition::everybody()) };
    let id = workflow.create_broadcast(&author, everybody, NOW).await.unwrap().broadcast_id;
    let trial = workflow.try_broadcast(&author, id, NOW).await.unwrap();
    assert_eq!(trial, Trial { message_id: trial.message_id, devices: 1, email: true });
    scene.send().await;
    let (push, mail) = (scene.sent(Provider::Fcm), scene.sent(Provider::Smtp));
    assert_eq!((push.len(), mail.len()), (1, 1), "to nobody else");
    assert_eq!((push[0].kind, mail[0].kind), (Kind::Test, Kind::Test));
    let own = inbox(db, &operator, "broadcast.test").await;
    assert_eq!((own.len(), own[0].message_id, own[0].link.as_str()), (1, trial.message_id, "/notices"));
    for title in [&push[0].title, &mail[0].title, &own[0].title] {
        assert!(title.starts_with("【テスト】"), "{title}");
    }
    assert!(own[0].title.contains("講座のご案内") && own[0].body.contains("11月の講座です。"));
    workflow.note_message_step(&author, trial.message_id, MessageStep::Read, NOW).await.unwrap();
    assert_eq!(scene.events("message.created").await.len(), n_created);
    for event_type in ["message.queued", "message.sent", "message.accepted", "message.opened"] {
        assert!(scene.events(event_type).await.is_empty(), "{event_type}");
    }
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let until = NOW.plus(Duration::from_secs(HOUR));
    let funnel = tx.delivery_funnel(&town(), NOW, until).await.unwrap();
    assert!(funnel.iter().all(|row| row.message_type != "broadcast.test"));
    drop(tx);
    let view = workflow.broadcast(&author, id).await.unwrap();
    assert_eq!((view.state, view.counters["created"].as_i64()), (BroadcastState::Draft, Some(0)));
    let denied = workflow.try_broadcast(&scene.city.parent(), id, NOW).await;
    assert!(matches!(denied, Err(WorkflowError::Denied)));
    workflow.cancel_broadcast(&author, id, NOW).await.unwrap();
    assert!(matches!(workflow.try_broadcast(&author, id, NOW).await, Err(WorkflowError::Conflict(_))));
}

/// A schedule of events has no mail, also where it was chosen before that was refused.
async fn a_test_goes_no_way_that_the_audience_is_not_told(db: &TestStore) {
    let scene = Scene::of(db).await;
    let author = scene.author();
    let id = scene.workflow.create_broadcast(&author, meeting(SOUTH), NOW).await.unwrap().broadcast_id;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let row = tx.lock_broadcast(id).await.unwrap().unwrap();
    tx.update_broadcast(&Broadcast { email: true, ..row }).await.unwrap();
    tx.commit().await.unwrap();
    let trial = scene.workflow.try_broadcast(&author, id, NOW).await.unwrap();
    assert!(!trial.email, "{trial:?}");
    assert!(db.begin_read(Wall::None).await.unwrap().mails(None, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_that_cannot_be_read_is_listed_as_faulty_beside_the_others_and_can_be_cancelled() {
    let dir = TempDir::with_prefix("todoke-faulty-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await;
    let draft = json!({ "kind": "segment", "title": "講座のご案内", "body": "11月の講座です。" });
    let sound = text(&operator.post("/v1/broadcasts", &draft).await.expect(201), "broadcast_id");
    let faulty = text(&operator.post("/v1/broadcasts", &draft).await.expect(201), "broadcast_id");
    todoke.stop().await;
    let record = Store::open_sqlite(&dir.path().join("data/record.sqlite"), Durability::Full).await.unwrap();
    let mut tx = record.begin_write(Wall::None).await.unwrap();
    let row = tx.lock_broadcast(faulty.parse().unwrap()).await.unwrap().unwrap();
    let definition = r#"{"people":"households","when":{"kind":"no_longer_known"}}"#.to_owned();
    tx.update_broadcast(&Broadcast { definition, ..row }).await.unwrap();
    tx.commit().await.unwrap();
    record.close().await;

    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await;
    let listed = operator.get("/v1/broadcasts").await.expect(200);
    let of = |id: &str| {
        let found = listed["items"].as_array().unwrap().iter().find(|item| item["broadcast_id"] == id);
        found.unwrap_or_else(|| panic!("{id} is not listed: {listed}"))
    };
    assert!(of(&sound)["fault"].is_null() && of(&sound)["segment"].is_object(), "{}", of(&sound));
    let told = text(of(&faulty), "fault");
    assert!(told.contains("読み取れません") && of(&faulty)["segment"].is_null(), "{}", of(&faulty));
    let path = format!("/v1/broadcasts/{faulty}");
    assert_eq!(operator.get(&path).await.expect(200)["fault"], told.as_str(), "its page says so too");
    let refused = operator.post(&format!("{path}/submit"), &json!({})).await.expect(409);
    assert!(refused.to_string().contains(&told), "{refused}");
    let cancelled = operator.post(&format!("{path}/cancel"), &json!({})).await.expect(200);
    assert_eq!((&cancelled["state"], &cancelled["under_way"]), (&json!("cancelled"), &json!(0)));
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_of_a_broadcast_are_few_a_minute() {
    let todoke = Todoke::demo_with(DemoOptions::small(), &[]).await;
    let operator = todoke.sign_in("operator").await;
    let draft = json!({ "kind": "segment", "title": "講座のご案内", "body": "11月の講座です。" });
    let id = text(&operator.post("/v1/broadcasts", &draft).await.expect(201), "broadcast_id");
    let path = format!("/v1/broadcasts/{id}/test");
    let first = operator.post(&path, &json!({})).await.expect(200);
    let message = text(&first, "message_id");
    let own = operator.get("/v1/inbox").await.expect(200);
    let own = own["items"].as_array().unwrap().iter().find(|item| item["message_id"] == message.as_str());
    assert_eq!(own.expect("it is in the own inbox")["title"], "【テスト】講座のご案内");
    // A minute of the limiter may end in between, but not two.
    let mut refused = 0;
    for _ in 0..=2 * TRIALS_PER_MIN {
        refused += usize::from(operator.post(&path, &json!({})).await.status == 429);
    }
    assert!(refused > 0, "no more than {TRIALS_PER_MIN} a minute");
    todoke.stop().await;
}
