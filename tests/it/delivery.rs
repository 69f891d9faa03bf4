//! Delivery: each device and address once, whatever fails in between, and what follows when nobody looks.

use std::time::Duration;

use serde_json::json;
use todoke_domain::{
    Role,
    delivery::{DeliveryState, Provider},
    ids::MessageId,
    number::NumberKind,
    time::add_days,
};
use todoke_notifier::{Kind, Outcome};
use todoke_store::{
    Wall,
    account::Preference,
    delivery::Mark,
    message::{Message, MessageStep},
    print_item::{LettersOf, PrintItem},
};
use todoke_tests::{crowd::crowd, stores::TestStore};
use todoke_workflow::{
    Actor,
    import::ImportKind,
    messaging::{BouncedMail, Correction, DeviceDraft, MessageQuery, ReceiptKind},
    notice::NoticeDraft,
};

use crate::{
    city::{NOW, account, town},
    delivery_scene::Scene,
    register::{RELATION_HEADER, events_of, family, file, import, inbox, move_people, movement},
};

todoke_tests::on_both_databases! {
    each_device_and_address_gets_it_once_and_the_record_says_so,
    a_node_that_dies_after_sending_neither_loses_nor_doubles,
    two_nodes_share_a_queue,
    a_mark_on_an_old_version_changes_nothing,
    retries_follow_the_schedule_and_end,
    a_dead_address_removes_the_device_unless_it_registered_anew,
    a_provider_that_is_out_is_left_alone_until_a_probe_gets_through,
    the_newest_of_a_subject_replaces_what_is_shown,
    paced_push_waits_for_the_morning_and_what_is_switched_off_stays_off,
    an_invitation_to_apply_is_pushed_to_who_is_registered,
    a_push_nobody_acknowledges_becomes_a_mail,
    a_facility_that_does_not_look_gets_a_mail,
    a_mail_that_bounces_leads_to_a_letter_and_to_the_operator,
    a_look_that_fails_keeps_no_other_from_being_done,
    a_section_that_does_not_look_is_told_again,
    reading_on_one_device_takes_it_off_the_others,
    only_the_token_of_a_delivery_speaks_for_it,
    what_a_screen_shows_is_an_event_of_its_own,
    a_correction_replaces_and_a_withdrawal_takes_back,
    who_corrected_withdrew_and_sent_again_stays_in_the_log,
    a_message_is_found_by_whom_it_is_for_its_type_and_its_day,
    a_message_is_found_among_those_of_few_and_of_many,
    a_mail_that_is_sent_again_goes_to_the_address_of_now,
    codes_go_once_their_mail_has_left,
    a_token_belongs_to_who_registered_it_last,
    what_waits_for_somebody_who_left_is_not_sent,
    what_push_reaches_and_opens_is_counted_of_who_lets_it_be,
}

async fn each_device_and_address_gets_it_once_and_the_record_says_so(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token-1").await;
    scene.device(&parent, Provider::Apns, "token-2").await;
    scene.resumed("c1").await;
    assert_eq!(scene.send().await, 3);
    assert_eq!(scene.send().await, 0);
    let push = &scene.sent(Provider::Fcm)[0];
    let mail = &scene.sent(Provider::Smtp)[0];
    let id = scene.message(&parent, "coupon.resumed").await;
    assert_eq!((push.message_id, mail.message_id), (id, id), "one message, whatever the channel");
    assert_eq!(push.link, "http://todoke.test/coupons");
    assert_eq!(push.badge, Some(2), "this one and the city's first");
    assert!(mail.link.starts_with("http://todoke.test/m/") && mail.body.contains(&mail.link));
    assert_eq!((mail.unsubscribe.as_ref(), push.receipt.is_some()), (None, true));
    let accepted = |provider| (provider, "notification", "accepted");
    assert_eq!(scene.states(id).await, [accepted("apns"), accepted("fcm"), accepted("smtp")]);
    assert_eq!(scene.events("message.queued").await.len(), 2, "one per channel");
    for event_type in ["message.sent", "message.accepted"] {
        assert_eq!(scene.events(event_type).await.len(), 3, "{event_type}");
    }
}

/// The node has claimed and sent; nothing of it was noted.
async fn a_node_that_dies_after_sending_neither_loses_nor_doubles(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::WebPush, "https://push.example/1").await;
    scene.resumed("c1").await;
    let id = scene.message(&parent, "coupon.resumed").await;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let lease = NOW.plus(Duration::from_secs(120));
    for provider in [Provider::WebPush, Provider::Smtp] {
        assert_eq!(tx.claim_deliveries(provider, 10, NOW, lease).await.unwrap().len(), 1);
    }
    tx.commit().await.unwrap();
    assert_eq!(scene.send().await, 0, "the lease holds");
    scene.pass(121);
    scene.send().await;
    scene.pass(60);
    scene.send().await;
    let push = scene.sent(Provider::WebPush);
    assert_eq!(push.len(), 1, "sent again");
    assert_eq!(push[0].collapse_key.as_deref(), Some(id.to_string().as_str()), "and replaces the first copy");
    assert!(scene.sent(Provider::Smtp).is_empty(), "a second mail would be a second mail");
    let rows = scene.deliveries(id).await;
    let mail = rows.iter().find(|row| row.provider == Provider::Smtp).unwrap();
    assert_eq!((mail.state, mail.doubtful), (DeliveryState::Sent, true), "the doubt is visible");
    let operator = scene.city.operator();
    let life = scene.workflow.message_life(&operator, id).await.unwrap();
    assert!(life.deliveries.iter().any(|row| row.doubtful && row.can_resend));
    scene.workflow.resend_delivery(&operator, mail.delivery_id, scene.now()).await.unwrap();
    assert_eq!(scene.send().await, 1);
    assert_ne!(scene.sent(Provider::Smtp)[0].message_id, id, "a copy under the first Message-ID would be hidden");
}

async fn two_nodes_share_a_queue(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    for no in 0..60 {
        let family = family(db, &town(), no + 10, "27127", NOW.jst_date()).await;
        scene.device(&family.parent, Provider::Fcm, &format!("token-{no}")).await;
    }
    let draft = NoticeDraft {
        title: "休館のお知らせ".to_owned(),
        body: "明日は休みます。".to_owned(),
        audience: "guardians".to_owned(),
        valid_from: None,
        valid_to: add_days(NOW.jst_date(), 3),
        push: true,
    };
    scene.workflow.publish_notice(&scene.city.operator(), draft, NOW).await.unwrap();
    scene.workflow.due_notices(&Actor::system(town(), "timer"), NOW).await.unwrap();
    let second = db.open_again().await;
    let mut other = scene.other_node(second.clone());
    let (one, two) = tokio::join!(scene.dispatcher.send_due(), other.send_due());
    let mut n = one.unwrap() + two.unwrap();
    n += scene.send().await;
    let sent = scene.sent(Provider::Fcm);
    assert_eq!((n, sent.len()), (60, 60));
    let mut ids: Vec<_> = sent.iter().map(|outgoing| outgoing.message_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 60, "each once");
    second.close().await;
}

async fn a_mark_on_an_old_version_changes_nothing(db: &TestStore) {
    let scene = Scene::of(db).await;
    scene.resumed("c1").await;
    let id = scene.message(&scene.city.parent, "coupon.resumed").await;
    let row = scene.deliveries(id).await.remove(0);
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    assert!(tx.mark_delivery(&row, &Mark::to(DeliveryState::Superseded, NOW)).await.unwrap());
    assert!(!tx.mark_delivery(&row, &Mark::to(DeliveryState::Accepted, NOW)).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(scene.deliveries(id).await[0].state, DeliveryState::Superseded);
}

async fn retries_follow_the_schedule_and_end(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    scene.resumed("c1").await;
    let later = |_| Outcome::Later { code: "unreachable", after: None };
    scene.channels[&Provider::Smtp].answer((0..9).map(later));
    let mut waits = Vec::new();
    for wait in [0, 13, 75, 375, 2_250, 9_000] {
        scene.pass(wait);
        waits.push(scene.send().await);
    }
    assert_eq!(waits, [1, 1, 1, 1, 1, 1], "10 s, 1 min, 5 min, 30 min, 2 h, each a quarter longer at most");
    scene.pass(86_400);
    assert_eq!(scene.send().await, 0);
    let failed = scene.events("message.failed").await;
    assert_eq!(
        failed.iter().map(|event| event["permanent"] == json!(true)).collect::<Vec<_>>(),
        [false, false, false, false, false, true]
    );
    assert_eq!(failed[5]["attempt"], json!(6));
}

async fn a_dead_address_removes_the_device_unless_it_registered_anew(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "dead").await;
    scene.device(&parent, Provider::Apns, "anew").await;
    scene.channels[&Provider::Fcm].answer([Outcome::Gone { code: "unregistered", since: None }]);
    let before = NOW.minus(Duration::from_secs(3_600));
    scene.channels[&Provider::Apns].answer([Outcome::Gone { code: "unregistered", since: Some(before) }]);
    scene.resumed("c1").await;
    scene.send().await;
    let kept = scene.devices(&parent).await;
    assert_eq!(kept.iter().map(|device| device.address.as_str()).collect::<Vec<_>>(), ["anew"]);
    scene.pass(60);
    assert_eq!(scene.send().await, 1, "the one that registered anew gets it");
    let id = scene.message(&parent, "coupon.resumed").await;
    let states = scene.states(id).await;
    assert_eq!(states[..2], [("apns", "notification", "accepted"), ("fcm", "notification", "failed")]);
}

async fn a_provider_that_is_out_is_left_alone_until_a_probe_gets_through(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    for no in 0..8 {
        scene.device(&scene.city.parent.clone(), Provider::Fcm, &format!("token-{no}")).await;
    }
    scene.channels[&Provider::Fcm].answer((0..8).map(|_| Outcome::Later { code: "unavailable", after: None }));
    scene.resumed("c1").await;
    scene.send().await;
    let tried = scene.sent(Provider::Fcm).len();
    assert!(tried < 8, "three failures in a row are enough");
    assert_eq!(scene.sent(Provider::Smtp).len(), 1, "the others go on");
    scene.pass(9);
    assert_eq!(scene.send().await, 0);
    scene.pass(5);
    scene.send().await;
    assert_eq!(scene.sent(Provider::Fcm).len(), tried + 1, "one probe, which fails");
    for _ in 0..6 {
        scene.pass(120);
        scene.send().await;
    }
    let id = scene.message(&scene.city.parent, "coupon.resumed").await;
    let rows = scene.deliveries(id).await;
    assert!(rows.iter().all(|row| row.state == DeliveryState::Accepted), "nothing is lost: {rows:?}");
}

async fn the_newest_of_a_subject_replaces_what_is_shown(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    let deficient = json!({ "application_kind": "coupon" });
    scene.raise("application.deficiency_found", "a1", deficient.clone()).await;
    let first = scene.message(&parent, "application.coupon.deficient").await;
    scene.send().await;
    scene.pass(60);
    scene.raise("application.deficiency_found", "a1", deficient.clone()).await;
    scene.raise("application.deficiency_found", "a2", deficient).await;
    scene.send().await;
    assert_eq!(inbox(db, &parent, "application.coupon.deficient").await.len(), 3, "the inbox keeps all");
    assert_eq!(scene.states(first).await[0], ("fcm", "notification", "superseded"));
    let mut keys: Vec<_> = scene.sent(Provider::Fcm).into_iter().map(|outgoing| outgoing.collapse_key).collect();
    // The last two were due at the same instant.
    keys.sort_unstable();
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "one key per subject: {keys:?}");
    let text = &scene.sent(Provider::Fcm)[0];
    assert!(!text.body.contains("住所の記載"), "no reason on a lock screen: {}", text.body);
}

async fn paced_push_waits_for_the_morning_and_what_is_switched_off_stays_off(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    let other = family(db, &town(), 10, "27127", NOW.jst_date()).await.parent;
    for (account, token) in [(&parent, "on"), (&other, "off")] {
        scene.device(account, Provider::Fcm, token).await;
    }
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let off = Preference { category: "notice".to_owned(), channel: "push".to_owned(), enabled: false };
    tx.set_preference(other.account_id, &off).await.unwrap();
    tx.commit().await.unwrap();
    // From noon to 22:00 in Japan.
    scene.pass(10 * 3_600);
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
    assert_eq!(scene.send().await, 0, "quiet until eight");
    scene.pass(10 * 3_600 - 1);
    assert_eq!(scene.send().await, 0);
    scene.pass(1);
    assert_eq!(scene.send().await, 1, "deferred, not dropped");
    assert_eq!(inbox(db, &other, "notice.published").await.len(), 1, "the inbox is never switched off");
}

async fn an_invitation_to_apply_is_pushed_to_who_is_registered(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    move_people(&scene.workflow, &scene.city, &[movement("A1", "2025-07-07", "birth", "2025-07-10")], NOW).await;
    // The register knows the fixture's guardian as the mother.
    let relation = file(RELATION_HEADER, &["A1,P1,オオサカ ハナコ,1992-02-03,母".to_owned()]);
    let taken = import(&scene.workflow, &scene.city, ImportKind::HouseholdRelation, &relation, NOW).await;
    assert!(taken.is_completed());
    let run = scene.workflow.run_solicitation(&scene.city.operator(), NOW).await.unwrap();
    assert_eq!((run.targets, run.app, run.paper), (1, 1, 0));
    scene.send().await;
    let id = scene.message(&parent, "coupon.solicited").await;
    let pushed = scene.sent(Provider::Fcm);
    let invitations: Vec<_> = pushed.iter().filter(|push| push.message_id == id).collect();
    assert_eq!(invitations.len(), 1, "{pushed:?}");
    assert_eq!(
        (invitations[0].label.as_str(), invitations[0].link.as_str()),
        ("coupon.solicited", "http://todoke.test/apply")
    );
    assert!(scene.states(id).await.contains(&("fcm", "notification", "accepted")));
}

async fn a_push_nobody_acknowledges_becomes_a_mail(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    let rejected = json!({ "by": "facility" });
    scene.raise("coupon.use_rejected", "u1", rejected.clone()).await;
    scene.raise("coupon.use_rejected", "u2", rejected).await;
    assert_eq!(scene.send().await, 2);
    let seen = scene.sent(Provider::Fcm)[1].receipt.clone().unwrap().parse().unwrap();
    assert!(scene.workflow.note_receipt(seen, ReceiptKind::Displayed, scene.now()).await.unwrap());
    scene.pass(9 * 60);
    assert_eq!(scene.send().await, 0);
    scene.pass(61);
    assert_eq!(scene.send().await, 1, "the one nobody acknowledged");
    let escalated = scene.events("message.escalated").await;
    assert_eq!(escalated.len(), 1);
    assert_eq!((&escalated[0]["rule"], &escalated[0]["to_channel"]), (&json!("E1"), &json!("email")));
    assert_eq!(json!(scene.sent(Provider::Smtp)[0].message_id), escalated[0]["message_id"]);
}

async fn a_facility_that_does_not_look_gets_a_mail(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let mut colleague = account(&town(), Role::FacilityStaff, "colleague@example.jp");
    colleague.facility_id = Some(scene.city.facility.facility_id);
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&colleague, NOW).await.unwrap();
    tx.commit().await.unwrap();
    scene.raise("coupon.use_requested", "r1", json!({})).await;
    let looked = scene.message(&colleague, "coupon.use_requested").await;
    scene
        .workflow
        .note_message_step(&Actor::of(&colleague, None), looked, MessageStep::Acknowledged, scene.now())
        .await
        .unwrap();
    scene.pass(1);
    scene.raise("coupon.use_requested", "r2", json!({})).await;
    scene.pass(301);
    assert_eq!(scene.send().await, 2, "both get the one nobody ticked off");
    let mails = scene.sent(Provider::Smtp);
    assert!(mails.iter().all(|mail| mail.body.contains("お子さま（番号 A26-0000001）")), "{}", mails[0].body);
    assert!(mails.iter().all(|mail| !mail.body.contains("ゆい")));
}

async fn a_mail_that_bounces_leads_to_a_letter_and_to_the_operator(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.raise("application.deficiency_found", "a1", json!({ "application_kind": "coupon" })).await;
    let id = scene.message(&parent, "application.coupon.deficient").await;
    scene.send().await;
    let bounce = BouncedMail {
        message_id: id,
        address: parent.email.as_ref().map(|address| address.to_uppercase()),
        permanent: true,
        code: "5.1.1".to_owned(),
    };
    assert!(scene.workflow.note_bounce(&bounce, scene.now()).await.unwrap());
    assert!(!scene.workflow.note_bounce(&bounce, scene.now()).await.unwrap(), "once");
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 1);
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 0);
    assert_eq!(scene.states(id).await, [("paper", "notification", "queued"), ("smtp", "notification", "failed")]);
    let operator = scene.city.operator();
    let letters = scene.workflow.print_queue(&operator, &LettersOf::default(), 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].body.contains("住所の記載がありません"), "an envelope may hold the whole text");
    let told = inbox(db, &scene.city.operator, "operator.contact_failed").await;
    assert_eq!(told.len(), 1);
    assert!(told[0].body.contains("1名"), "{}", told[0].body);
    let unreached = scene.workflow.unreached(&operator, 24, 10, scene.now()).await.unwrap();
    assert!(unreached.is_empty(), "a letter is under way");
    let unreached = scene.workflow.unreached(&operator, 0, 10, scene.now().plus(Duration::from_secs(1))).await.unwrap();
    assert_eq!((unreached.len(), unreached[0].next[0]), (1, "post"));
    let letter = vec![letters[0].letter_no.clone()];
    for step in [todoke_workflow::messaging::LetterStep::Printed, todoke_workflow::messaging::LetterStep::Posted] {
        assert_eq!(scene.workflow.mark_letters(&operator, &letter, step, scene.now()).await.unwrap(), 1);
    }
    assert_eq!(scene.events("message.paper_posted").await.len(), 1);
    assert!(
        scene.workflow.unreached(&operator, 0, 10, scene.now().plus(Duration::from_secs(1))).await.unwrap().is_empty()
    );
}

/// The number of the next letter is taken, so that no letter can be written.
async fn a_look_that_fails_keeps_no_other_from_being_done(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let letter_no = tx.next_number(&town(), NumberKind::Letter, NOW).await.unwrap();
    drop(tx);
    let taken = PrintItem {
        letter_no,
        letter_kind: "message".to_owned(),
        recipient_name: "大阪 花".to_owned(),
        postal_code: String::new(),
        address: "北区1-1".to_owned(),
        title: "題".to_owned(),
        body: "本文".to_owned(),
        qr_token: None,
        state: "queued".to_owned(),
        print_run_id: None,
        created_at: NOW,
        withdrawn_at: None,
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_print_item(&town(), &taken).await.unwrap();
    tx.commit().await.unwrap();
    scene.raise("application.deficiency_found", "a1", json!({ "application_kind": "coupon" })).await;
    scene.resumed("c1").await;
    scene.send().await;
    // What a mail system says in words is no code, and no words go into events.
    for (message_type, code) in
        [("application.coupon.deficient", "5.1.1"), ("coupon.resumed", "hanako@example.jp:gone")]
    {
        let bounce = BouncedMail {
            message_id: scene.message(&parent, message_type).await,
            address: None,
            permanent: true,
            code: code.to_owned(),
        };
        assert!(scene.workflow.note_bounce(&bounce, scene.now()).await.unwrap());
        scene.pass(1);
    }
    let failed = scene.events("message.failed").await;
    let codes: Vec<_> = failed.iter().map(|payload| payload["error_code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["bounced:5.1.1", "bounced"]);
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 1, "the one without letter");
    assert_eq!(inbox(db, &scene.city.operator, "operator.contact_failed").await.len(), 1);
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 0, "the other is left alone for a while");
}

async fn a_section_that_does_not_look_is_told_again(db: &TestStore) {
    let scene = Scene::of(db).await;
    let colleague = account(&town(), Role::Operator, "second@example.jp");
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&colleague, NOW).await.unwrap();
    tx.commit().await.unwrap();
    scene.raise("import.failed", "i1", json!({})).await;
    scene.raise("import.failed", "i2", json!({})).await;
    let read = scene.message(&scene.city.operator, "import.failed").await;
    let operator = scene.city.operator();
    scene.workflow.note_message_step(&operator, read, MessageStep::Read, scene.now()).await.unwrap();
    // Monday noon until Tuesday noon.
    scene.pass(86_400 - 1);
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 0);
    scene.pass(1);
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 2);
    for person in [&scene.city.operator, &colleague] {
        let told = inbox(db, person, "import.failed").await;
        let again = told.iter().filter(|message| message.title.starts_with("【再通知】")).count();
        assert_eq!((told.len(), again), (3, 1), "only the one nobody opened");
    }
}

async fn reading_on_one_device_takes_it_off_the_others(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    for (kind, token) in
        [(Provider::Fcm, "phone"), (Provider::Apns, "tablet"), (Provider::WebPush, "https://p.example/1")]
    {
        scene.device(&parent, kind, token).await;
    }
    scene.channels[&Provider::WebPush].answer([Outcome::Later { code: "unavailable", after: None }]);
    scene.resumed("c1").await;
    scene.send().await;
    let id = scene.message(&parent, "coupon.resumed").await;
    let opened = scene.sent(Provider::Fcm)[0].receipt.clone().unwrap().parse().unwrap();
    assert!(scene.workflow.note_receipt(opened, ReceiptKind::Opened, scene.now()).await.unwrap());
    assert!(!scene.workflow.note_receipt(opened, ReceiptKind::Opened, scene.now()).await.unwrap());
    scene.pass(60);
    scene.send().await;
    assert_eq!(
        scene.states(id).await,
        [
            ("apns", "notification", "superseded"),
            ("apns", "withdraw", "accepted"),
            ("fcm", "notification", "opened"),
            ("smtp", "notification", "accepted"),
            ("webpush", "notification", "superseded"),
        ]
    );
    let tablet = scene.sent(Provider::Apns);
    assert_eq!((tablet[1].kind, &tablet[1].collapse_key), (Kind::Withdraw, &tablet[0].collapse_key));
    let message = inbox(db, &parent, "coupon.resumed").await.remove(0);
    assert!(message.read_at.is_some(), "opened by push is read everywhere");
    assert_eq!(scene.events("message.opened").await.len(), 1);
}

async fn only_the_token_of_a_delivery_speaks_for_it(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.resumed("c1").await;
    scene.send().await;
    let id = scene.message(&parent, "coupon.resumed").await;
    let row = scene.deliveries(id).await.remove(0);
    let mut forged = row.receipt();
    forged.key ^= 1;
    assert!(!scene.workflow.note_receipt(forged, ReceiptKind::Opened, NOW).await.unwrap());
    assert!(scene.workflow.open_link(forged, NOW).await.is_err());
    assert!(scene.workflow.unsubscribe(row.receipt(), NOW).await.is_err(), "a mandatory mail has no end");
    let screen = format!("/coupons?mailed={id}");
    assert_eq!(scene.workflow.open_link(row.receipt(), NOW).await.unwrap().path, screen);
    assert_eq!(scene.states(id).await, [("smtp", "notification", "opened")]);
    assert_eq!(scene.workflow.open_link(row.receipt(), NOW).await.unwrap().path, screen, "a link works twice");
    assert_eq!(scene.events("message.opened").await.len(), 1);
}

async fn what_a_screen_shows_is_an_event_of_its_own(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    scene.resumed("c1").await;
    scene.send().await;
    let id = scene.message(&parent, "coupon.resumed").await;
    let token = scene.sent(Provider::Fcm)[0].receipt.clone().unwrap().parse().unwrap();
    let told = [(ReceiptKind::Delivered, true), (ReceiptKind::Displayed, true), (ReceiptKind::Displayed, false)];
    for (kind, is_new) in told {
        assert_eq!(scene.workflow.note_receipt(token, kind, scene.now()).await.unwrap(), is_new, "{kind:?}");
    }
    for _ in 0..2 {
        let step = MessageStep::Displayed;
        scene.workflow.note_message_step(&scene.city.parent(), id, step, scene.now()).await.unwrap();
    }
    for event_type in ["message.delivered", "message.displayed"] {
        let events = scene.events(event_type).await;
        assert!(events.iter().all(|event| event["message_id"] == json!(id)), "{events:?}");
        let channels: Vec<_> = events.iter().map(|event| event["channel"].clone()).collect();
        assert_eq!(channels, ["push", "live"], "{event_type}: once each, and what is shown has arrived");
    }
}

async fn a_correction_replaces_and_a_withdrawal_takes_back(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    scene.resumed("c1").await;
    scene.send().await;
    let id = scene.message(&parent, "coupon.resumed").await;
    let operator = scene.city.operator();
    let correction = Correction { title: "訂正".to_owned(), body: "大阪様へ訂正します。".to_owned() };
    scene.workflow.correct_message(&operator, id, &correction, scene.now()).await.unwrap();
    scene.send().await;
    let push = scene.sent(Provider::Fcm);
    assert_eq!(push.len(), 2);
    assert_eq!(push[0].collapse_key, push[1].collapse_key);
    assert!(!push[1].body.contains("大阪"), "words that nobody checked for names do not travel");
    assert_eq!(inbox(db, &parent, "coupon.resumed").await[0].body, "大阪様へ訂正します。");
    scene.workflow.withdraw_message(&operator, id, scene.now()).await.unwrap();
    assert!(scene.workflow.withdraw_message(&operator, id, scene.now()).await.is_err());
    scene.send().await;
    assert_eq!(scene.sent(Provider::Fcm)[2].kind, Kind::Withdraw);
    assert!(inbox(db, &parent, "coupon.resumed").await.is_empty());
    assert!(scene.workflow.withdraw_message(&scene.city.parent(), id, scene.now()).await.is_err());
}

/// What was done to which message by whom, of each intervention on a message.
async fn interventions(db: &TestStore) -> Vec<(String, String, Option<i64>)> {
    let mut events = events_of(db, "access.audited").await;
    events.retain(|event| event.payload["object_kind"] == "message");
    let what = |event: &todoke_domain::Event| event.payload["what"].as_str().unwrap().to_owned();
    events.iter().map(|event| (what(event), event.subject_id.clone(), event.actor_key)).collect()
}

async fn who_corrected_withdrew_and_sent_again_stays_in_the_log(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    let operator = scene.city.operator();
    // This one is in the inbox only.
    let id = scene.city.message.message_id;
    let correction = Correction { title: "訂正".to_owned(), body: "訂正します。".to_owned() };
    scene.workflow.correct_message(&operator, id, &correction, scene.now()).await.unwrap();
    scene.workflow.withdraw_message(&operator, id, scene.now()).await.unwrap();
    assert!(scene.workflow.withdraw_message(&operator, id, scene.now()).await.is_err());
    scene.channels[&Provider::Smtp].answer([Outcome::Refused { code: "550" }]);
    scene.resumed("c1").await;
    scene.send().await;
    let mailed = scene.message(&parent, "coupon.resumed").await;
    let mail = scene.deliveries(mailed).await.remove(0);
    scene.workflow.resend_delivery(&operator, mail.delivery_id, scene.now()).await.unwrap();
    let by = scene.city.operator.person_key;
    assert!(by.is_some());
    let expected = [("correct", id), ("withdraw", id), ("resend", mailed)];
    let expected = expected.map(|(what, id)| (what.to_owned(), id.to_string(), by));
    assert_eq!(interventions(db).await, expected, "once each; what was refused is none");
}

async fn a_mail_that_is_sent_again_goes_to_the_address_of_now(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    let operator = scene.city.operator();
    scene.channels[&Provider::Smtp].answer([Outcome::Refused { code: "550" }]);
    scene.resumed("c1").await;
    scene.send().await;
    let id = scene.message(&parent, "coupon.resumed").await;
    let mail = scene.deliveries(id).await.remove(0);
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let mut account = tx.lock_account(parent.account_id).await.unwrap().unwrap();
    account.email = Some("moved@example.jp".to_owned());
    tx.update_account(&account).await.unwrap();
    tx.commit().await.unwrap();
    scene.workflow.resend_delivery(&operator, mail.delivery_id, scene.now()).await.unwrap();
    assert_eq!(scene.send().await, 1);
    let rows = scene.deliveries(id).await;
    let again = rows.iter().find(|row| row.state == DeliveryState::Accepted).unwrap();
    assert_eq!(again.target, "moved@example.jp");
}

async fn a_message_is_found_by_whom_it_is_for_its_type_and_its_day(db: &TestStore) {
    let scene = Scene::of(db).await;
    scene.resumed("c1").await;
    scene.resumed("c2").await;
    let operator = scene.city.operator();
    let today = scene.now().jst_date();
    let asked = MessageQuery {
        words: scene.city.guardian.guardian_no.clone(),
        message_type: "coupon.resumed".to_owned(),
        from: today,
        to: today,
        before: None,
    };
    let found = async |asked: &MessageQuery, n_max| {
        let rows = scene.workflow.find_messages(&operator, asked, n_max).await.unwrap();
        rows.into_iter().map(|row| row.message_id).collect::<Vec<_>>()
    };
    let both = found(&asked, 10).await;
    assert_eq!(both.len(), 2);
    assert!(both[0] > both[1], "the newest first");
    assert_eq!(found(&asked, 1).await, both[..1]);
    assert_eq!(found(&MessageQuery { before: Some(both[0]), ..asked.clone() }, 10).await, both[1..]);
    let name = MessageQuery { words: scene.city.guardian.name.clone(), ..asked.clone() };
    assert_eq!(found(&name, 10).await, both);
    let any_type = MessageQuery { message_type: String::new(), ..asked.clone() };
    assert_eq!(found(&any_type, 10).await.len(), 3, "and the city's first");
    for nobody in ["%", "_", "\\", "いない"] {
        let asked = MessageQuery { words: nobody.to_owned(), ..asked.clone() };
        assert!(found(&asked, 10).await.is_empty(), "{nobody} is no wildcard");
    }
    let yesterday = add_days(today, -1);
    assert!(found(&MessageQuery { from: yesterday, to: yesterday, ..asked.clone() }, 10).await.is_empty());
    scene.workflow.withdraw_message(&operator, both[0], scene.now()).await.unwrap();
    let rows = scene.workflow.find_messages(&operator, &asked, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.withdrawn_at.is_some()).collect::<Vec<_>>(), [true, false], "still found");
    let long = MessageQuery { from: add_days(today, -94), ..asked.clone() };
    assert!(scene.workflow.find_messages(&operator, &long, 10).await.is_err());
    assert!(scene.workflow.find_messages(&scene.city.parent(), &asked, 10).await.is_err());
}

/// Few are looked up first; of many, the newest messages are gone through.
async fn a_message_is_found_among_those_of_few_and_of_many(db: &TestStore) {
    let scene = Scene::of(db).await;
    let people = crowd(db, &town(), "27127", 2_050, NOW).await;
    let told = Message {
        message_id: MessageId::new(scene.now()),
        account_id: people[7],
        dedupe_key: "crowd".to_owned(),
        ..scene.city.message.clone()
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    assert_eq!(tx.insert_messages(std::slice::from_ref(&told)).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    let operator = scene.city.operator();
    let today = scene.now().jst_date();
    for (words, is_found) in
        [("群衆", true), ("グンシュウ", true), ("群衆 7", true), ("G99-0000007-27127", true), ("G99-0000008", false)]
    {
        let asked =
            MessageQuery { words: words.to_owned(), message_type: String::new(), from: today, to: today, before: None };
        let rows = scene.workflow.find_messages(&operator, &asked, 10).await.unwrap();
        let ids: Vec<_> = rows.iter().map(|row| row.message_id).collect();
        assert_eq!(ids, if is_found { vec![told.message_id] } else { Vec::new() }, "{words}");
    }
}

async fn codes_go_once_their_mail_has_left(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let address = scene.city.operator.email.clone().unwrap();
    scene.workflow.request_password_reset(&address, NOW).await.unwrap();
    let mails = async || db.begin_read(Wall::None).await.unwrap().mails(Some(&address), 1).await.unwrap();
    let before = mails().await.remove(0);
    assert!(before.secret && before.body.contains("token="));
    assert_eq!(before.expires_at, Some(NOW.plus(Duration::from_secs(3_600))), "as long as the link");
    assert_eq!(scene.send().await, 1);
    let after = mails().await.remove(0);
    assert_eq!((after.state, after.subject.as_str(), after.body.as_str()), (DeliveryState::Accepted, "", ""));
}

async fn a_token_belongs_to_who_registered_it_last(db: &TestStore) {
    let scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    let other = family(db, &town(), 10, "27127", NOW.jst_date()).await.parent;
    let id = scene.device(&parent, Provider::Fcm, "old-token").await;
    scene.put_device(&parent, id, Provider::Fcm, "new-token").await;
    let rotated = scene.devices(&parent).await;
    assert_eq!((rotated.len(), rotated[0].address.as_str()), (1, "new-token"));
    scene.device(&other, Provider::Fcm, "new-token").await;
    assert!(scene.devices(&parent).await.is_empty(), "the phone was handed on");
    assert_eq!(scene.devices(&other).await.len(), 1);
    let draft = DeviceDraft {
        kind: "fcm".to_owned(),
        address: "third".to_owned(),
        permission: "granted".to_owned(),
        ..DeviceDraft::default()
    };
    let taken = scene.workflow.put_device(&Actor::of(&other, None), id, &draft, NOW).await;
    assert!(matches!(taken, Err(todoke_workflow::WorkflowError::Conflict(_))), "an id is its owner's");
    let mine = scene.workflow.put_device(&scene.city.parent(), id, &draft, NOW).await.unwrap();
    assert_eq!(mine.address, "third");
    scene.workflow.test_device(&scene.city.parent(), id, NOW).await.unwrap();
    scene.workflow.remove_device(&scene.city.parent(), id, NOW).await.unwrap();
    assert!(scene.workflow.test_device(&scene.city.parent(), id, NOW).await.is_err());
}

async fn what_waits_for_somebody_who_left_is_not_sent(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    scene.resumed("c1").await;
    scene.workflow.delete_own_account(&scene.city.parent(), scene.now()).await.unwrap();
    scene.send().await;
    assert!(scene.sent(Provider::Fcm).is_empty());
    let mails = scene.sent(Provider::Smtp);
    assert_eq!(mails.iter().map(|mail| mail.label.as_str()).collect::<Vec<_>>(), ["account.deleted"]);
    assert!(scene.events("message.suppressed").await.iter().all(|event| event["reason"] == json!("recipient_gone")));
    assert!(scene.devices(&parent).await.is_empty());
}

/// What the clock tells the statistics of devices: of each that has changed, whether push reaches it now.
async fn told_of_reach(scene: &Scene) -> Vec<(i64, bool)> {
    let n = scene.workflow.tell_reach(&Actor::system(town(), "timer"), scene.now()).await.unwrap();
    let all = scene.events("app.push_permission_changed").await;
    let newest = all[all.len() - n..].iter();
    newest.map(|event| (event["device_key"].as_i64().unwrap(), event["granted"] == true)).collect()
}

async fn what_push_reaches_and_opens_is_counted_of_who_lets_it_be(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    let may_count = async |scene: &Scene, granted: bool| {
        scene.workflow.set_consent(&scene.city.parent(), "usage_analytics", granted, scene.now()).await.unwrap();
    };
    may_count(&scene, false).await;
    let phone = scene.device(&parent, Provider::Fcm, "dead").await;
    assert!(told_of_reach(&scene).await.is_empty(), "nobody agreed to be counted");
    may_count(&scene, true).await;
    let told = told_of_reach(&scene).await;
    let [(phone_key, true)] = told[..] else { panic!("one that push reaches: {told:?}") };
    scene.put_device(&parent, phone, Provider::Fcm, "dead").await;
    assert!(told_of_reach(&scene).await.is_empty(), "the app was only started again");
    scene.device(&parent, Provider::Apns, "kept").await;
    let told = told_of_reach(&scene).await;
    let [(tablet_key, true)] = told[..] else { panic!("another one: {told:?}") };
    assert!(phone_key != tablet_key && phone_key > 0 && tablet_key > 0);

    scene.channels[&Provider::Fcm].answer([Outcome::Gone { code: "unregistered", since: None }]);
    for (subject, counted) in [("c1", true), ("c2", false)] {
        if !counted {
            may_count(&scene, false).await;
            assert_eq!(told_of_reach(&scene).await, [(tablet_key, false)], "counted out");
        }
        scene.resumed(subject).await;
        scene.send().await;
        if counted {
            assert_eq!(told_of_reach(&scene).await, [(phone_key, false)], "its address is dead");
        }
        let id = scene.message(&parent, "coupon.resumed").await;
        let row = scene.deliveries(id).await.into_iter().find(|row| row.provider == Provider::Apns).unwrap();
        assert!(scene.workflow.note_receipt(row.receipt(), ReceiptKind::Opened, scene.now()).await.unwrap());
        let opened = scene.events("app.push_opened").await;
        assert_eq!((opened.len(), &opened[0]["message_type"]), (1, &json!("coupon.resumed")), "{subject}");
        scene.pass(60);
    }
    assert_eq!(scene.events("message.opened").await.len(), 2);
}
