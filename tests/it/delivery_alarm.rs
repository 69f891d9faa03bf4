//! Who is told when a message could not do its work: of words that lack a value, of a mail that came back, of a
//! section where nobody looks, and what does not count as looking. And what shows once although two messages tell it.

use serde_json::json;
use todoke_domain::{Role, Timestamp, delivery::Provider, ids::MessageId, parameter::CONTACT, time::add_days};
use todoke_notifier::Outcome;
use todoke_store::{
    Wall, account::Account, escalation::Escalation, message::MessageStep, municipality::ParameterValue,
};
use todoke_tests::stores::TestStore;
use todoke_workflow::{Actor, account::OfficeDraft, messaging::BouncedMail};

use crate::{
    city::{City, NOW, account, after, town},
    coupon_use::{request, workflow},
    delivery_scene::Scene,
    message_rules::told,
    register::{events_of, family, inbox},
};

todoke_tests::on_both_databases! {
    an_approval_and_the_distribution_of_its_child_show_once,
    a_missing_value_costs_its_message_only_and_the_operator_is_told,
    who_issued_an_account_is_told_when_its_mail_comes_back,
    account_managers_are_told_when_who_issued_it_is_gone,
    a_dead_address_of_an_office_is_told_once_until_it_is_another_one,
    a_facilitys_manager_is_told_of_the_dead_address_of_its_staff,
    a_section_is_told_again_on_the_channels_of_the_row,
    a_filter_that_fetches_the_links_of_a_mail_ends_nothing,
    a_mail_that_was_forwarded_comes_back_from_another_address,
    a_failure_during_a_look_is_looked_at_again,
    colleagues_who_have_not_come_yet_get_no_mail,
    the_number_of_people_nothing_reached_is_corrected_once_for_all_that_failed,
}

async fn an_approval_and_the_distribution_of_its_child_show_once(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    let approved = json!({ "application_kind": "coupon", "decision": "approved" });
    scene.raise("application.decided", "a1", approved).await;
    scene.send().await;
    let first = scene.message(&parent, "application.coupon.approved").await;
    scene.pass(60);
    scene.raise("coupon.distributed", "k1", json!({})).await;
    scene.send().await;
    let keys: Vec<_> = scene.sent(Provider::Fcm).into_iter().map(|push| push.collapse_key.unwrap()).collect();
    let shared = format!("coupon.distributed:{}", scene.city.child.child_id);
    assert_eq!(keys, [shared.clone(), shared], "the subjects differ, the child is one");
    assert_eq!(scene.states(first).await[0], ("fcm", "notification", "superseded"));
    for kind in ["application.coupon.approved", "coupon.distributed"] {
        assert_eq!(inbox(db, &parent, kind).await.len(), 1, "the inbox keeps both: {kind}");
    }
}

async fn a_missing_value_costs_its_message_only_and_the_operator_is_told(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let blank = ParameterValue { name: CONTACT.name.to_owned(), effective_from: NOW.jst_date(), value: " ".to_owned() };
    tx.set_parameter(&town(), &blank, "test", NOW).await.unwrap();
    tx.commit().await.unwrap();
    for key in ["u-1", "u-2"] {
        let used = workflow.use_coupon(&city.parent(), &request(&city, key, 300), NOW).await;
        assert!(used.is_ok(), "the coupon is used, whatever the message lacks: {used:?}");
    }
    assert!(told(db, &city, &city.parent).await.is_empty(), "no message with a gap");
    assert_eq!(inbox(db, &city.staff, "coupon.used.facility").await.len(), 2, "the facility's lacks nothing");
    let suppressed = events_of(db, "message.suppressed").await;
    let faulty: Vec<_> = suppressed.iter().filter(|event| event.payload["reason"] == json!("template_error")).collect();
    assert_eq!(faulty.len(), 2);
    let created = events_of(db, "message.created").await;
    assert!(created.iter().any(|event| event.payload["message_id"] == faulty[0].payload["message_id"]));
    let alarms = inbox(db, &city.operator, "operator.message_faulty").await;
    assert_eq!(alarms.len(), 1, "once a day for each type");
    assert!(alarms[0].body.contains("coupon.used"), "{}", alarms[0].body);
}

async fn employ(db: &TestStore, role: Role, email: &str) -> Account {
    let row = account(&town(), role, email);
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&row, NOW).await.unwrap();
    tx.commit().await.unwrap();
    row
}

/// An account is issued, and its mail sent; gives the mail's message.
async fn issue(scene: &mut Scene, by: &Account) -> MessageId {
    let draft = OfficeDraft {
        email: "new.analyst@example.jp".to_owned(),
        name: "分析 一郎".to_owned(),
        role: "analyst".to_owned(),
        ..OfficeDraft::default()
    };
    scene.workflow.issue_account(&Actor::of(by, None), &draft, scene.now()).await.unwrap();
    assert_eq!(scene.send().await, 1);
    scene.sent(Provider::Smtp)[0].message_id
}

async fn comes_back(scene: &Scene, message_id: MessageId) {
    let bounce = BouncedMail { message_id, address: None, permanent: true, code: "5.1.1".to_owned() };
    assert!(scene.workflow.note_bounce(&bounce, scene.now()).await.unwrap());
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 1);
}

async fn who_issued_an_account_is_told_when_its_mail_comes_back(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let issuer = employ(db, Role::MunicipalAdmin, "admin@example.jp").await;
    let colleague = employ(db, Role::MunicipalStaff, "staff@example.jp").await;
    let mail = issue(&mut scene, &issuer).await;
    comes_back(&scene, mail).await;
    let alarms = inbox(db, &issuer, "account.issue_bounced").await;
    assert_eq!(alarms.len(), 1);
    assert!(alarms[0].body.contains("分析 一郎"), "{}", alarms[0].body);
    assert!(inbox(db, &colleague, "account.issue_bounced").await.is_empty());
    assert!(inbox(db, &scene.city.operator, "operator.contact_failed").await.is_empty(), "that is for families");
    assert_eq!(scene.send().await, 1);
    let mail = scene.sent(Provider::Smtp).remove(1);
    assert!(!mail.body.contains("分析"), "no name travels: {}", mail.body);
}

async fn account_managers_are_told_when_who_issued_it_is_gone(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let issuer = employ(db, Role::MunicipalAdmin, "admin@example.jp").await;
    let manager = employ(db, Role::MunicipalStaff, "staff@example.jp").await;
    let mail = issue(&mut scene, &issuer).await;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.delete_account(issuer.account_id, scene.now()).await.unwrap();
    tx.commit().await.unwrap();
    comes_back(&scene, mail).await;
    assert_eq!(inbox(db, &manager, "account.issue_bounced").await.len(), 1);
    assert!(inbox(db, &issuer, "account.issue_bounced").await.is_empty());
}

/// Mails the operator that an import failed, and gives the mail's message.
async fn failed_import(scene: &mut Scene, subject: &str) -> MessageId {
    // The newest message of a type is known by its time.
    scene.pass(1);
    scene.raise("import.failed", subject, json!({})).await;
    assert_eq!(scene.send().await, 1);
    scene.message(&scene.city.operator, "import.failed").await
}

async fn a_dead_address_of_an_office_is_told_once_until_it_is_another_one(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let manager = employ(db, Role::MunicipalAdmin, "admin@example.jp").await;
    let operator = scene.city.operator.clone();
    let first = failed_import(&mut scene, "i1").await;
    comes_back(&scene, first).await;
    let alarms = inbox(db, &manager, "account.mail_failed").await;
    assert_eq!(alarms.len(), 1);
    assert!(alarms[0].body.contains(&operator.name), "{}", alarms[0].body);
    assert!(inbox(db, &operator, "operator.contact_failed").await.is_empty(), "that is for families");
    assert_eq!(scene.send().await, 1);
    let mail = scene.sent(Provider::Smtp).pop().unwrap();
    assert_eq!(mail.label, "account.mail_failed");
    assert!(!mail.body.contains(&operator.name), "no name travels: {}", mail.body);

    scene.channels[&Provider::Smtp].answer([Outcome::Gone { code: "unknown_mailbox", since: None }]);
    failed_import(&mut scene, "i2").await;
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 1);
    assert_eq!(inbox(db, &manager, "account.mail_failed").await.len(), 1, "once for an address");

    let late = failed_import(&mut scene, "i3").await;
    let moved = Account { email: Some("moved@example.jp".to_owned()), ..operator };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.update_account(&moved).await.unwrap();
    tx.commit().await.unwrap();
    comes_back(&scene, late).await;
    assert_eq!(inbox(db, &manager, "account.mail_failed").await.len(), 1, "nobody writes to that one any more");
    scene.channels[&Provider::Smtp].answer([Outcome::Refused { code: "content_refused" }]);
    failed_import(&mut scene, "i4").await;
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 1);
    assert_eq!(inbox(db, &manager, "account.mail_failed").await.len(), 1, "the mail was refused, not its address");
    scene.channels[&Provider::Smtp].answer([Outcome::Gone { code: "unknown_mailbox", since: None }]);
    failed_import(&mut scene, "i5").await;
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 1);
    assert_eq!(inbox(db, &manager, "account.mail_failed").await.len(), 2, "the new one is dead, too");
}

async fn a_facilitys_manager_is_told_of_the_dead_address_of_its_staff(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let admin = employ(db, Role::MunicipalAdmin, "admin@example.jp").await;
    let manager = Account {
        facility_id: scene.city.staff.facility_id,
        ..account(&town(), Role::FacilityManager, "manager@example.jp")
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&manager, NOW).await.unwrap();
    tx.commit().await.unwrap();
    let told = async |who: &Account| inbox(db, who, "account.mail_failed").await.len();
    scene.raise("system.incident_detected", "s1", json!({})).await;
    scene.send().await;
    let of_staff = scene.message(&scene.city.staff, "system.incident").await;
    comes_back(&scene, of_staff).await;
    assert_eq!((told(&manager).await, told(&admin).await), (1, 0));
    let of_manager = scene.message(&manager, "system.incident").await;
    comes_back(&scene, of_manager).await;
    assert_eq!((told(&manager).await, told(&admin).await), (1, 1), "who manages managers");
}

async fn a_section_is_told_again_on_the_channels_of_the_row(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let colleague = employ(db, Role::Operator, "second@example.jp").await;
    scene.raise("import.failed", "i1", json!({})).await;
    scene.raise("child.match_failed", "m1", json!({})).await;
    assert_eq!(scene.send().await, 2, "a failed import is mailed to both");
    // Monday noon until Tuesday noon.
    scene.pass(86_400);
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 2);
    assert_eq!(scene.send().await, 2, "and again; what the row keeps to the inbox stays there");
    let again = scene.sent(Provider::Smtp).split_off(2);
    for mail in &again {
        assert!(mail.title.starts_with("【再通知】") && mail.label == "import.failed", "{}", mail.title);
    }
    assert_ne!(again[0].message_id, again[1].message_id);
    for kind in ["import.failed", "application.coupon.matching_failed"] {
        assert_eq!(inbox(db, &colleague, kind).await.len(), 2, "{kind}");
    }
    let escalated = scene.events("message.escalated").await;
    let mut ways: Vec<_> = escalated.iter().map(|event| event["to_channel"].as_str().unwrap().to_owned()).collect();
    ways.sort_unstable();
    assert_eq!(ways, ["email", "inbox"]);
}

async fn a_filter_that_fetches_the_links_of_a_mail_ends_nothing(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let parent = scene.city.parent.clone();
    scene.device(&parent, Provider::Fcm, "token").await;
    scene.resumed("c1").await;
    scene.raise("import.failed", "i1", json!({})).await;
    scene.send().await;
    let mine = scene.message(&parent, "coupon.resumed").await;
    let theirs = scene.message(&scene.city.operator, "import.failed").await;
    for id in [mine, theirs] {
        let rows = scene.deliveries(id).await;
        let mail = rows.iter().find(|row| row.provider == Provider::Smtp).unwrap();
        scene.workflow.open_link(mail.receipt(), scene.now()).await.unwrap();
    }
    let shown = [("fcm", "notification", "accepted"), ("smtp", "notification", "opened")];
    assert_eq!(scene.states(mine).await, shown, "the phone still shows it");
    assert!(inbox(db, &parent, "coupon.resumed").await[0].read_at.is_none());
    // Monday noon until Tuesday noon.
    scene.pass(86_400);
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 1);
    assert_eq!(inbox(db, &scene.city.operator, "import.failed").await.len(), 2, "nobody of the section has looked");
    scene.workflow.note_message_step(&scene.city.parent(), mine, MessageStep::Read, scene.now()).await.unwrap();
    let taken_back =
        [("fcm", "notification", "superseded"), ("fcm", "withdraw", "queued"), ("smtp", "notification", "opened")];
    assert_eq!(scene.states(mine).await, taken_back);
}

async fn a_mail_that_was_forwarded_comes_back_from_another_address(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    scene.resumed("c1").await;
    scene.send().await;
    let id = scene.message(&scene.city.parent, "coupon.resumed").await;
    let bounce = BouncedMail {
        message_id: id,
        address: Some("inner@elsewhere.example.jp".to_owned()),
        permanent: true,
        code: "5.1.1".to_owned(),
    };
    assert!(scene.workflow.note_bounce(&bounce, scene.now()).await.unwrap());
    assert_eq!(scene.states(id).await, [("smtp", "notification", "failed")]);
    let first = scene.deliveries(id).await.remove(0);
    scene.workflow.resend_delivery(&scene.city.operator(), first.delivery_id, scene.now()).await.unwrap();
    scene.pass(1);
    scene.send().await;
    assert!(!scene.workflow.note_bounce(&bounce, scene.now()).await.unwrap(), "the first one has failed before");
    let again = BouncedMail { message_id: scene.sent(Provider::Smtp)[1].message_id, ..bounce };
    assert!(scene.workflow.note_bounce(&again, scene.now()).await.unwrap());
    let failed = ("smtp", "notification", "failed");
    assert_eq!(scene.states(id).await, [failed, failed]);
}

/// Whoever is looking does not see a failure that commits after that: the claim is lost, and the look is due again.
async fn a_failure_during_a_look_is_looked_at_again(db: &TestStore) {
    let scene = Scene::of(db).await;
    let look = Escalation {
        message_id: scene.city.message.message_id,
        rule: "failed".to_owned(),
        municipality_code: town(),
        due_at: NOW,
        leased_until: Timestamp::from_micros(0),
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_escalations(&[look.clone(), look.clone()]).await.unwrap();
    let claimed = tx.claim_escalations(10, NOW, after(60)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(claimed.len(), 1, "one look for all devices that failed");
    let mut failing = db.begin_write(Wall::None).await.unwrap();
    failing.insert_escalations(&[look]).await.unwrap();
    let looking = async {
        let mut tx = db.begin_write(Wall::None).await.unwrap();
        let is_ours = tx.finish_escalation(&claimed[0]).await.unwrap();
        tx.commit().await.unwrap();
        is_ours
    };
    let committing = async {
        failing.commit().await.unwrap();
    };
    let (is_ours, ()) = tokio::join!(looking, committing);
    assert!(!is_ours, "what it has seen is not all");
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    assert_eq!(tx.claim_escalations(10, NOW, after(60)).await.unwrap().len(), 1, "without waiting for the lease");
    tx.commit().await.unwrap();
}

async fn colleagues_who_have_not_come_yet_get_no_mail(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let later =
        Account { valid_from: add_days(NOW.jst_date(), 30), ..account(&town(), Role::Operator, "later@example.jp") };
    let issued = Account { state: "issued".to_owned(), ..account(&town(), Role::Operator, "issued@example.jp") };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for colleague in [&later, &issued] {
        tx.insert_account(colleague, NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
    scene.raise("import.failed", "i1", json!({})).await;
    assert_eq!(scene.send().await, 1, "to the one who works there");
    scene.pass(86_400);
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 1);
    assert_eq!(scene.send().await, 1, "and again");
    for colleague in [&later, &issued] {
        assert_eq!(inbox(db, colleague, "import.failed").await.len(), 2, "what happened stands in the inbox");
    }
}

async fn the_number_of_people_nothing_reached_is_corrected_once_for_all_that_failed(db: &TestStore) {
    let mut scene = Scene::of(db).await;
    let operator = scene.city.operator();
    let mut mails = Vec::new();
    for no in 10..14 {
        let parent = family(db, &town(), no, "27127", NOW.jst_date()).await.parent;
        let household = parent.guardian_id.unwrap();
        scene.workflow.set_suspended(&operator, household, true, "misuse", None, scene.now()).await.unwrap();
        mails.push(scene.message(&parent, "coupon.suspended").await);
    }
    assert_eq!(scene.send().await, 4);
    let told = async || {
        let mut told = inbox(db, &scene.city.operator, "operator.contact_failed").await;
        assert_eq!(told.len(), 1);
        told.remove(0).body
    };
    comes_back(&scene, mails[0]).await;
    assert!(told().await.contains("1名"));
    for mail in &mails[1..] {
        let bounce = BouncedMail { message_id: *mail, address: None, permanent: true, code: "5.1.1".to_owned() };
        assert!(scene.workflow.note_bounce(&bounce, scene.now()).await.unwrap());
    }
    assert_eq!(scene.workflow.due_escalations(scene.now()).await.unwrap(), 4, "three failures and one count");
    assert!(told().await.contains("4名"));
}
