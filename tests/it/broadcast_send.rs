//! Sending broadcasts: everybody of the segment gets each round once, whatever is paused, cut off or run twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use todoke_domain::{
    Timestamp,
    broadcast::{BroadcastKind, BroadcastState},
    catalogue::messages::{Channel as Via, Speed},
    channel::Channel,
    delivery::{DeliveryState, Provider, leaves_at},
    ids::{AccountId, EventId, MessageId, SessionId},
    segment::Condition,
};
use todoke_store::{
    Store, Wall,
    account::Preference,
    message::{Message, MessageStep},
    publication::Publication,
};
use todoke_tests::{
    crowd::crowd,
    stores::TestStore,
    wait::{cut_off, eventually},
};
use todoke_workflow::{
    Actor, Live, Workflow, WorkflowError,
    broadcast::{BroadcastDraft, BroadcastView, Sender},
};

use crate::{
    broadcast::{NORTH, SOUTH, Scene, draft, ward},
    city::{NOW, neighbour, town},
    coupon_use::workflow,
    delivery_scene::device_of,
    register::{events, events_of, inbox},
};

todoke_tests::on_both_databases! {
    many_rows_are_what_single_rows_are,
    it_goes_out_at_its_time_to_its_segment,
    a_pause_holds_and_a_cancellation_ends_it_but_what_went_out_stays,
    what_a_stop_keeps_back_is_an_event_for_each_message,
    only_who_has_not_read_it_gets_it_again,
    a_batch_cut_off_anywhere_loses_nobody_and_doubles_nobody,
    a_batch_cut_off_in_its_commit_is_told_live_all_the_same,
    two_nodes_send_each_batch_once,
    push_and_mail_follow_at_the_pace_and_an_emergency_does_not_wait,
    it_goes_to_every_device_of_those_who_want_push,
    a_person_gets_three_ordinary_ones_a_day,
    one_that_is_sent_again_is_one_of_the_three,
    the_counters_follow_what_people_do,
}

fn seconds(n: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(n))
}

/// How often each account was told of broadcasts of a type: messages, live publications and events.
async fn told(db: &Store, message_type: &str) -> BTreeMap<AccountId, usize> {
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let mut messages: BTreeMap<AccountId, Vec<Message>> = BTreeMap::new();
    let causes: BTreeSet<EventId> = {
        let started = events_of(db, "broadcast.started").await;
        started.into_iter().map(|event| event.event_id).collect()
    };
    for code in [town(), neighbour()] {
        for account in tx.notice_readers(&code, "all", "", 10_000).await.unwrap() {
            for cause in &causes {
                let own = tx.messages_of_cause(*cause, account).await.unwrap();
                let own: Vec<Message> =
                    own.into_iter().filter(|message| message.message_type == message_type).collect();
                if !own.is_empty() {
                    messages.entry(account).or_default().extend(own);
                }
            }
        }
    }
    let enough = kept_back(db).await;
    let created: BTreeSet<String> = events_of(db, "message.created")
        .await
        .into_iter()
        .filter(|event| event.payload["message_type"] == message_type && !enough.contains(&event.subject_id))
        .map(|event| {
            assert_eq!(
                (event.subject_seq, event.subject_id.as_str()),
                (1, event.payload["message_id"].as_str().unwrap())
            );
            event.subject_id
        })
        .collect();
    let ids: BTreeSet<String> = messages.values().flatten().map(|message| message.message_id.to_string()).collect();
    assert_eq!(created, ids, "one event per message");
    for (account, own) in &messages {
        let channel = Channel::Guardian(*account).to_string();
        let page = tx.publications_since(&channel, 0, 100).await.unwrap();
        assert!(page.complete, "positions of {channel} have no gap");
        let live = page.publications.iter().filter(|publication| {
            let data: serde_json::Value = serde_json::from_str(&publication.data).unwrap();
            data["type"] == message_type
                && own.iter().any(|m| data["data"]["message"]["message_id"] == json!(m.message_id))
        });
        assert_eq!(live.count(), own.len(), "one publication per message");
    }
    messages.into_iter().map(|(account, own)| (account, own.len())).collect()
}

/// The messages that people who had had enough that day were spared.
async fn kept_back(db: &Store) -> BTreeSet<String> {
    let mut suppressed = events_of(db, "message.suppressed").await;
    suppressed.retain(|event| event.payload["reason"] == "daily_limit");
    suppressed.into_iter().map(|event| event.subject_id).collect()
}

async fn many_rows_are_what_single_rows_are(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 700, NOW).await;
    let model = Message { title: "題".to_owned(), dedupe_key: String::new(), ..scene.city.message.clone() };
    let copies: Vec<Message> = people
        .iter()
        .map(|account| Message {
            message_id: MessageId::new(NOW),
            account_id: *account,
            dedupe_key: format!("k:{account}"),
            ..model.clone()
        })
        .collect();
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let single = Message { message_id: MessageId::new(NOW), ..copies[3].clone() };
    assert_eq!(tx.insert_messages(&[single]).await.unwrap().len(), 1);
    let added = tx.insert_messages(&copies).await.unwrap();
    assert_eq!(added.len(), 699);
    assert!(!added.contains(&copies[3].message_id), "its key was there");
    assert!(tx.insert_messages(&copies).await.unwrap().is_empty());
    let drafts: Vec<(Channel, String)> =
        people.iter().map(|id| (Channel::Guardian(*id), format!("\"{id}\""))).collect();
    tx.publish(&drafts[..1], NOW).await.unwrap();
    let published = tx.publish(&drafts, NOW).await.unwrap();
    let top = |account: AccountId| {
        published.iter().find(|one| one.channel == Channel::Guardian(account).to_string()).unwrap().position
    };
    assert_eq!((published.len(), top(people[0]), top(people[1])), (700, 2, 1));
    let own = tx.message(people[699], copies[699].message_id).await.unwrap().unwrap();
    assert_eq!((own.title.as_str(), own.in_inbox, own.subject_no.as_deref()), ("題", true, None));
    assert_eq!(own.created_at, NOW);
    tx.commit().await.unwrap();
}

async fn it_goes_out_at_its_time_to_its_segment(db: &TestStore) {
    let scene = Scene::of(db).await;
    let south = crowd(db, &town(), SOUTH, 620, NOW).await;
    crowd(db, &town(), NORTH, 5, NOW).await;
    crowd(db, &neighbour_of(db).await, SOUTH, 5, NOW).await;
    let planned = BroadcastDraft { starts_at: Some(seconds(3_600)), ..draft(BroadcastKind::Segment, ward(SOUTH)) };
    let planned = scene.released(planned, NOW).await;
    scene.send_all(seconds(3_590)).await;
    assert_eq!(scene.view(&planned).await.state, BroadcastState::Scheduled);
    // The server was down when its time came.
    scene.send_all(seconds(7_200)).await;
    let told = told(db, "broadcast.segment").await;
    assert_eq!(told, south.iter().map(|account| (*account, 1)).collect());
    let sent = scene.view(&planned).await;
    assert_eq!((sent.state, sent.targets, sent.counters["created"].as_i64()), (BroadcastState::Sent, 620, Some(620)));
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let message = tx.inbox(south[0], false, None, 10).await.unwrap().remove(0);
    drop(tx);
    assert_eq!((message.title.as_str(), message.link.as_str()), ("講座のご案内", "/notices"));
    for said in ["11月の講座です。", "発信：271004市", "条件に合う方", "設定"] {
        assert!(message.body.contains(said), "{said} in {}", message.body);
    }
    let all = events(db).await;
    let names: Vec<&str> = all.iter().map(|e| e.event_type.as_str()).filter(|t| t.starts_with("broadcast.")).collect();
    assert_eq!(names, ["broadcast.created", "broadcast.released", "broadcast.started", "broadcast.completed"]);
    let completed = &events_of(db, "broadcast.completed").await[0].payload;
    assert_eq!(completed["targets"], 620);
    assert!(completed["first_sent_at"].as_i64().unwrap() <= completed["last_sent_at"].as_i64().unwrap());
    let done = inbox(db, &scene.city.operator, "broadcast.completed").await;
    assert_eq!(done[0].body, "620件を配信しました。未達は配信結果でご確認ください。");
}

async fn neighbour_of(db: &Store) -> todoke_domain::MunicipalityCode {
    crate::city::City::found(db, &neighbour(), 1_000).await.code
}

async fn a_pause_holds_and_a_cancellation_ends_it_but_what_went_out_stays(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 1_700, NOW).await;
    let sent = scene.released(draft(BroadcastKind::Segment, ward(SOUTH)), NOW).await;
    let id = sent.broadcast_id;
    scene.sender.stride(&scene.timer, NOW).await.unwrap();
    let begun = told(db, "broadcast.segment").await.len();
    assert!(begun > 0 && begun < people.len());
    let (workflow, author) = (&scene.workflow, scene.author());
    assert_eq!(workflow.pause_broadcast(&author, id, NOW).await.unwrap().state, BroadcastState::Paused);
    let now = scene.send_all(NOW).await;
    assert_eq!(told(db, "broadcast.segment").await.len(), begun);
    assert!(matches!(workflow.pause_broadcast(&author, id, now).await, Err(WorkflowError::Conflict(_))));
    workflow.resume_broadcast(&author, id, now).await.unwrap();
    scene.sender.stride(&scene.timer, now).await.unwrap();
    let further = told(db, "broadcast.segment").await;
    assert!(further.len() > begun && further.len() < people.len());
    workflow.cancel_broadcast(&author, id, now).await.unwrap();
    scene.send_all(now).await;
    assert_eq!(told(db, "broadcast.segment").await, further);
    assert!(matches!(workflow.resume_broadcast(&author, id, now).await, Err(WorkflowError::Conflict(_))));
    let stopped = scene.view(&sent).await;
    assert_eq!(stopped.rounds[0].state, "cancelled");
    assert_eq!(events_of(db, "broadcast.stopped").await.len(), 1);
}

async fn what_a_stop_keeps_back_is_an_event_for_each_message(db: &TestStore) {
    let scene = Scene::of(db).await;
    crowd(db, &town(), SOUTH, 1_150, NOW).await;
    let urgent = BroadcastDraft { email: true, ..draft(BroadcastKind::Emergency, Condition::everybody()) };
    let sent = scene.released(urgent, NOW).await;
    let n_routed = loop {
        scene.sender.stride(&scene.timer, NOW).await.unwrap();
        let routed = usize::try_from(scene.view(&sent).await.rounds[0].routed).unwrap();
        if routed > 500 {
            break routed;
        }
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let left = tx.claim_deliveries(Provider::Smtp, 1, NOW, seconds(60)).await.unwrap().remove(0);
    tx.commit().await.unwrap();
    scene.workflow.cancel_broadcast(&scene.author(), sent.broadcast_id, seconds(1)).await.unwrap();
    let suppressed = events_of(db, "message.suppressed").await;
    let messages: BTreeSet<&str> = suppressed.iter().map(|event| event.subject_id.as_str()).collect();
    assert_eq!((suppressed.len(), messages.len()), (n_routed - 1, n_routed - 1), "one for each message");
    assert!(suppressed.iter().all(|event| event.payload["reason"] == "broadcast_stopped"));
    assert!(!messages.contains(left.message_id.to_string().as_str()), "one had left already");
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    assert!(!tx.has_due_deliveries(Provider::Smtp, seconds(7 * 86_400)).await.unwrap(), "nothing is left to send");
}

async fn only_who_has_not_read_it_gets_it_again(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 40, NOW).await;
    let plan = BroadcastDraft { resend_after_min: vec![30, 15], ..draft(BroadcastKind::Emergency, ward(SOUTH)) };
    let sent = scene.released(plan, NOW).await;
    scene.send_all(NOW).await;
    read(db, &people[..10], seconds(60)).await;
    scene.send_all(seconds(14 * 60)).await;
    assert!(told(db, "broadcast.emergency").await.values().all(|n| *n == 1), "not before its time");
    scene.send_all(seconds(15 * 60)).await;
    read(db, &people[10..20], seconds(16 * 60)).await;
    scene.send_all(seconds(30 * 60)).await;
    let times = told(db, "broadcast.emergency").await;
    let expected = people.iter().enumerate().map(|(at, account)| (*account, [1, 2, 3, 3][at / 10])).collect();
    assert_eq!(times, expected);
    let view = scene.view(&sent).await;
    assert_eq!(
        view.counters,
        json!({"created": 40, "routed": 90, "waiting": 40, "sent": 0, "suppressed": 0, "delivered": 20, "opened": 20, "unread": 20})
    );
    assert_eq!(view.rounds.iter().map(|round| round.created).collect::<Vec<_>>(), [40, 30, 20]);
    // A time that has passed means now; a plan can be taken back.
    let author = scene.author();
    scene.workflow.plan_resends(&author, sent.broadcast_id, &[15, 30, 60], seconds(31 * 60)).await.unwrap();
    assert_eq!(scene.view(&sent).await.rounds.len(), 4);
    scene.workflow.plan_resends(&author, sent.broadcast_id, &[15, 30], seconds(32 * 60)).await.unwrap();
    scene.send_all(seconds(90 * 60)).await;
    assert_eq!(scene.view(&sent).await.rounds.len(), 3);
    scene.workflow.plan_resends(&author, sent.broadcast_id, &[60], seconds(90 * 60)).await.unwrap();
    scene.send_all(seconds(90 * 60)).await;
    assert_eq!(scene.view(&sent).await.rounds[3].created, 20);
    for minutes in [0, 14, 20, 61] {
        let refused = scene.workflow.plan_resends(&author, sent.broadcast_id, &[15, minutes], seconds(91 * 60)).await;
        let Err(WorkflowError::Invalid(errors)) = refused else { panic!("no resend after {minutes} minutes") };
        assert_eq!(
            (errors[0].field.as_str(), errors[0].detail.as_str()),
            ("resend_after_min", "再送は15分後、30分後、60分後から選んでください。")
        );
    }
    assert_eq!(scene.view(&sent).await.resend_after_min, [60], "what is refused changes nothing");
}

async fn read(db: &Store, people: &[AccountId], now: Timestamp) {
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for account in people {
        let newest = tx.inbox(*account, true, None, 1).await.unwrap().remove(0);
        assert!(tx.note_step(*account, newest.message_id, MessageStep::Read, now).await.unwrap());
    }
    tx.commit().await.unwrap();
}

async fn a_batch_cut_off_anywhere_loses_nobody_and_doubles_nobody(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 1_150, NOW).await;
    let urgent = BroadcastDraft { email: true, ..draft(BroadcastKind::Emergency, Condition::everybody()) };
    let sent = scene.released(urgent, NOW).await;
    let mut now = NOW;
    for n in 1..80 {
        now = now.plus(Duration::from_secs(5));
        let node = Sender::new(workflow(db.store()));
        if let Some(stride) = cut_off(node.stride(&scene.timer, now), n).await {
            stride.unwrap();
        }
    }
    scene.send_all(now.plus(Duration::from_secs(5))).await;
    let times = told(db, "broadcast.emergency").await;
    let everybody = people.iter().chain([&scene.city.parent.account_id]).map(|account| (*account, 1)).collect();
    assert_eq!(times, everybody);
    let view = scene.view(&sent).await;
    assert_eq!((view.state, view.counters["created"].as_i64()), (BroadcastState::Sent, Some(1_151)));
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let mails = tx.mails(None, 10_000).await.unwrap();
    let addresses: BTreeSet<&str> = mails.iter().map(|mail| mail.target.as_str()).collect();
    assert_eq!((mails.len(), addresses.len()), (1_151, 1_151), "one mail each");
    assert_eq!(events_of(db, "broadcast.completed").await.len(), 1);
}

/// Keeps what it is told of commits.
#[derive(Debug, Default)]
struct Listener(Mutex<Vec<String>>);

impl Live for Listener {
    fn committed(&self, publications: Vec<Publication>) {
        self.0.lock().unwrap().extend(publications.into_iter().map(|publication| publication.channel));
    }

    fn account_ended(&self, _: AccountId) {}

    fn session_ended(&self, _: SessionId) {}
}

impl Listener {
    /// How often it was told of each of these channels.
    fn times(&self, channels: &BTreeSet<String>) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for channel in self.0.lock().unwrap().iter().filter(|channel| channels.contains(*channel)) {
            *times.entry(channel.clone()).or_default() += 1;
        }
        times
    }
}

async fn a_batch_cut_off_in_its_commit_is_told_live_all_the_same(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 120, NOW).await;
    let channels: BTreeSet<String> = people.iter().map(|account| Channel::Guardian(*account).to_string()).collect();
    let sent = scene.released(draft(BroadcastKind::Emergency, ward(SOUTH)), NOW).await;
    let listener = Arc::new(Listener::default());
    let workflow = Workflow::new(db.store(), listener.clone(), "http://todoke.test");
    // One poll more each time: the first cut after which a batch is there lies in its commit.
    let (mut now, mut n) = (NOW, 1);
    while scene.view(&sent).await.state != BroadcastState::Sent {
        now = now.plus(Duration::from_secs(5));
        let node = Sender::new(workflow.clone());
        if let Some(stride) = cut_off(node.stride(&scene.timer, now), n).await {
            stride.unwrap();
        }
        n += 1;
    }
    let once: BTreeMap<String, usize> = channels.iter().map(|channel| (channel.clone(), 1)).collect();
    let all_told = async || (listener.times(&channels) == once).then_some(());
    eventually("everybody is told live once", Duration::from_secs(20), all_told).await;
}

async fn two_nodes_send_each_batch_once(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 2_300, NOW).await;
    let sent = scene.released(draft(BroadcastKind::Segment, ward(SOUTH)), NOW).await;
    let second = db.open_again().await;
    let nodes = [Sender::new(workflow(db.store())), Sender::new(workflow(second.clone()))];
    let run = async |node: &Sender, slow: u64| {
        // Leases run out all the time: each instant is four seconds after the one before.
        for n in 0..40 {
            match node.stride(&scene.timer, seconds(4 * n + slow)).await {
                Ok(_) | Err(WorkflowError::Conflict(_) | WorkflowError::Store(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    tokio::join!(run(&nodes[0], 0), run(&nodes[1], 2));
    assert_eq!(told(db, "broadcast.segment").await, people.iter().map(|account| (*account, 1)).collect());
    assert_eq!(scene.view(&sent).await.state, BroadcastState::Sent);
    assert_eq!(events_of(db, "broadcast.started").await.len(), 1);
    assert_eq!(events_of(db, "broadcast.completed").await.len(), 1);
    second.close().await;
}

async fn push_and_mail_follow_at_the_pace_and_an_emergency_does_not_wait(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 300, NOW).await;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for account in &people[..200] {
        let wish = Preference { category: "broadcast".to_owned(), channel: "email".to_owned(), enabled: true };
        tx.set_preference(*account, &wish).await.unwrap();
    }
    tx.commit().await.unwrap();
    let paced = BroadcastDraft { email: true, pace_per_s: Some(100), ..draft(BroadcastKind::Segment, ward(SOUTH)) };
    let paced = scene.released(paced, NOW).await;
    let routed = async |sent: &BroadcastView| scene.view(sent).await.rounds[0].routed;
    let stride =
        async |millis: u64| scene.sender.stride(&scene.timer, NOW.plus(Duration::from_millis(millis))).await.unwrap();
    stride(0).await;
    assert_eq!((scene.view(&paced).await.rounds[0].created, routed(&paced).await), (300, 0), "the inbox does not wait");
    stride(10).await;
    assert_eq!(routed(&paced).await, 100);
    stride(200).await;
    assert_eq!(routed(&paced).await, 100, "less than a quarter of a second's worth");
    stride(510).await;
    assert_eq!(routed(&paced).await, 150);
    scene.workflow.cancel_broadcast(&scene.author(), paced.broadcast_id, seconds(1)).await.unwrap();
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let mails = tx.mails(None, 1_000).await.unwrap();
    drop(tx);
    assert!(mails.iter().all(|mail| mail.state == DeliveryState::Suppressed), "what was queued is not sent");
    let wanted: BTreeSet<String> = people[..200].iter().map(|id| format!("{id}@crowd.example.jp")).collect();
    assert!(mails.len() <= 150 && mails.iter().all(|mail| wanted.contains(&mail.target)), "only who wants mail");
    let urgent = scene.released(draft(BroadcastKind::Emergency, ward(SOUTH)), seconds(2)).await;
    scene.sender.stride(&scene.timer, seconds(2)).await.unwrap();
    scene.sender.stride(&scene.timer, seconds(2)).await.unwrap();
    assert_eq!((routed(&urgent).await, scene.view(&urgent).await.state), (300, BroadcastState::Sent));
}

async fn it_goes_to_every_device_of_those_who_want_push(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 3, NOW).await;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for (account, kind, address) in [
        (people[0], Provider::Fcm, "phone"),
        (people[0], Provider::WebPush, "browser"),
        (people[1], Provider::Apns, "switched off"),
    ] {
        assert!(tx.put_device(&device_of(&town(), account, kind, address, NOW)).await.unwrap());
    }
    let no_push = Preference { category: "broadcast".to_owned(), channel: "push".to_owned(), enabled: false };
    tx.set_preference(people[1], &no_push).await.unwrap();
    tx.commit().await.unwrap();
    let sent = scene.released(draft(BroadcastKind::Segment, ward(SOUTH)), NOW).await;
    scene.send_all(NOW).await;
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let mut providers = Vec::new();
    for account in &people {
        let inbox = tx.inbox(*account, false, None, 10).await.unwrap();
        let deliveries = tx.deliveries_of(inbox[0].message_id).await.unwrap();
        for delivery in &deliveries {
            assert_eq!(delivery.collapse_key, format!("broadcast.segment:{}", sent.broadcast_id));
            assert_eq!(
                (delivery.link.as_str(), delivery.due_at),
                ("/notices", leaves_at(Via::Push, Speed::Batch, delivery.created_at))
            );
        }
        let mut own: Vec<&str> = deliveries.iter().map(|delivery| delivery.provider.as_str()).collect();
        own.sort_unstable();
        providers.push(own);
    }
    assert_eq!(providers, [vec!["fcm", "webpush"], vec![], vec![]]);
    let queued = events_of(db, "message.queued").await;
    assert_eq!(queued.len(), 1, "one event per message and channel: {queued:?}");
}

async fn a_person_gets_three_ordinary_ones_a_day(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 3, NOW).await;
    for n in 0..4 {
        scene.released(draft(BroadcastKind::Segment, ward(SOUTH)), seconds(60 * n)).await;
        scene.send_all(seconds(60 * n)).await;
    }
    assert_eq!(told(db, "broadcast.segment").await, people.iter().map(|account| (*account, 3)).collect());
    let suppressed: Vec<i64> =
        scene.workflow.broadcasts(&scene.author()).await.unwrap().iter().map(|one| one.rounds[0].suppressed).collect();
    assert_eq!(suppressed, [3, 0, 0, 0]);
    let created: BTreeMap<String, Option<i64>> = events_of(db, "message.created")
        .await
        .into_iter()
        .map(|event| (event.subject_id, event.payload["recipient_key"].as_i64()))
        .collect();
    let spared: Vec<Option<i64>> = kept_back(db).await.iter().map(|id| created[id]).collect();
    let whom: BTreeSet<i64> = spared.iter().copied().flatten().collect();
    assert_eq!((spared.len(), whom.len()), (3, 3), "the record says so for each person");
    scene.released(draft(BroadcastKind::Emergency, ward(SOUTH)), seconds(600)).await;
    scene.send_all(seconds(600)).await;
    assert_eq!(told(db, "broadcast.emergency").await.len(), 3, "an emergency comes through");
    let tomorrow = seconds(86_400);
    scene.released(draft(BroadcastKind::Segment, ward(SOUTH)), tomorrow).await;
    scene.send_all(tomorrow).await;
    assert!(told(db, "broadcast.segment").await.values().all(|n| *n == 4));
}

async fn one_that_is_sent_again_is_one_of_the_three(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), SOUTH, 2, NOW).await;
    let again = BroadcastDraft { resend_after_min: vec![15, 30, 60], ..draft(BroadcastKind::Segment, ward(SOUTH)) };
    scene.released(again, NOW).await;
    for minutes in [0, 15, 30, 60] {
        scene.send_all(seconds(60 * minutes)).await;
    }
    let all = |n: usize| people.iter().map(|account| (*account, n)).collect::<BTreeMap<_, _>>();
    assert_eq!(told(db, "broadcast.segment").await, all(4), "once, and three times again");
    for (n, expected) in [(2, 5), (3, 6), (4, 6)] {
        scene.released(draft(BroadcastKind::Segment, ward(SOUTH)), seconds(3_600 * n)).await;
        scene.send_all(seconds(3_600 * n)).await;
        assert_eq!(told(db, "broadcast.segment").await, all(expected), "number {n} of the day");
    }
    assert_eq!(kept_back(db).await.len(), 2);
}

async fn the_counters_follow_what_people_do(db: &TestStore) {
    let scene = Scene::of(db).await;
    let sent = scene.released(draft(BroadcastKind::Segment, ward(NORTH)), NOW).await;
    let now = scene.send_all(NOW).await;
    let parent = scene.city.parent();
    let progress = async || {
        let channel = Channel::OperatorQueue(town()).to_string();
        let page = db.begin_read(Wall::None).await.unwrap().publications_since(&channel, 0, 1_000).await.unwrap();
        let all = page.publications.iter().map(|one| serde_json::from_str::<serde_json::Value>(&one.data).unwrap());
        let own =
            all.filter(|one| one["type"] == "broadcast.progress" && one["subject"]["id"] == json!(sent.broadcast_id));
        own.last().map(|one| one["data"].clone())
    };
    let before = progress().await.expect("counters are published");
    assert_eq!((before["created"].as_i64(), before["unread"].as_i64()), (Some(1), Some(1)));
    let message = inbox(db, &scene.city.parent, "broadcast.segment").await.remove(0);
    scene.workflow.note_message_step(&parent, message.message_id, MessageStep::Delivered, now).await.unwrap();
    scene.workflow.note_message_step(&parent, message.message_id, MessageStep::Read, now).await.unwrap();
    scene.send_all(now.plus(Duration::from_secs(30))).await;
    let after = progress().await.unwrap();
    assert_eq!(
        (after["delivered"].as_i64(), after["opened"].as_i64(), after["unread"].as_i64()),
        (Some(1), Some(1), Some(0))
    );
    let board = scene.workflow.board(&scene.author(), now).await.unwrap();
    assert!(board.recent.iter().any(|text| text.contains("broadcast.started")));
    assert!(!board.recent.iter().any(|text| text.contains("broadcast.progress")), "moving counters are no news");
    assert!(matches!(scene.workflow.broadcasts(&parent).await, Err(WorkflowError::Denied)));
    let stranger = Actor { municipality_code: neighbour(), ..scene.author() };
    assert!(scene.workflow.broadcasts(&stranger).await.unwrap().is_empty());
    assert!(matches!(scene.workflow.broadcast(&stranger, sent.broadcast_id).await, Err(WorkflowError::NotFound(_))));
}
