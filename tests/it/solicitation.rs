//! Invitations to apply: everybody at launch, newborns and movers-in after, exactly the set number of repeats.

use std::{collections::BTreeSet, time::Duration};

use jiff::civil::{date, time};
use todoke_domain::{Role, Timestamp, number::NumberKind, parameter::CONTACT, qr::QrToken, time::add_days};
use todoke_store::{
    Wall,
    child::Child,
    municipality::ParameterValue,
    print_item::{LettersOf, PrintItem},
};
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor, Workflow, WorkflowError,
    account::ChildInput,
    application::{NewDocument, Submission},
    import::ImportKind,
    solicitation::{Resolicited, Solicited},
};

use crate::{
    city::{City, NOW, after, neighbour, town},
    coupon_use::workflow,
    register::{RELATION_HEADER, events_of, file, import, inbox, kana, move_people, movement},
};

todoke_tests::on_both_databases! {
    the_first_run_takes_everybody_and_the_next_only_who_is_new,
    a_registered_guardian_is_told_in_the_app_and_others_by_letter,
    exactly_two_repeats_go_out,
    an_application_ends_the_repeats,
    two_nodes_invite_nobody_twice,
    the_monthly_run_happens_once,
    who_has_moved_out_is_invited_again_after_coming_back,
    a_text_without_its_value_costs_itself_and_not_the_run,
    an_invited_child_is_forgotten_under_both_of_its_keys,
}

async fn letters(workflow: &Workflow, city: &City) -> Vec<PrintItem> {
    workflow.print_queue(&city.operator(), &LettersOf::default(), 1_000).await.unwrap()
}

fn days(n: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(n * 86_400))
}

async fn reasons(db: &TestStore) -> Vec<String> {
    let created = events_of(db, "solicitation.target_created").await;
    created.iter().map(|event| event.payload["reason"].as_str().unwrap().to_owned()).collect()
}

async fn the_first_run_takes_everybody_and_the_next_only_who_is_new(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let rows = [
        movement("A1", "2025-05-05", "change", "2025-05-10"),
        movement("A2", "2023-06-02", "move_in", "2025-05-10"),
        movement("A3", "2026-05-01", "birth", "2026-05-10"),
        movement("B1", "2023-06-01", "change", "2025-05-10"),
        movement("B2", "2025-05-05", "move_out", "2026-05-10"),
        movement("B3", "2025-05-05", "death", "2026-05-10"),
        movement("B4", "2025-05-05", "delete", "2026-05-10"),
    ];
    let outcome = move_people(&workflow, &city, &rows, NOW).await;
    assert_eq!(outcome.target_households, Some(3), "B1 turned three today");
    let operator = city.operator();
    assert_eq!(workflow.run_solicitation(&operator, NOW).await.unwrap(), Solicited { targets: 3, app: 0, paper: 3 });
    assert_eq!(reasons(db).await, ["launch"; 3]);
    assert_eq!(workflow.run_solicitation(&operator, after(60)).await.unwrap(), Solicited::default());

    let rows = [
        movement("A1", "2025-05-05", "change", "2026-06-02"),
        movement("C1", "2026-06-01", "birth", "2026-06-02"),
        movement("C2", "2025-06-01", "move_in", "2026-06-02"),
    ];
    move_people(&workflow, &city, &rows, days(3)).await;
    assert_eq!(workflow.run_solicitation(&operator, days(3)).await.unwrap().targets, 2);
    assert_eq!(reasons(db).await[3..], ["newborn", "moved_in"]);
    let codes = events_of(db, "child.qr_issued").await;
    assert_eq!(codes.len(), 5, "each has a code");
    let listed = workflow.solicitations(&operator, "solicited", None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].n_sent, listed[0].channel), (5, 1, "paper"));
}

async fn a_registered_guardian_is_told_in_the_app_and_others_by_letter(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let other = City::found(db, &neighbour(), 1_000).await;
    let workflow = workflow(db.store());
    move_people(&workflow, &city, &["A1", "A2"].map(|no| movement(no, "2025-07-07", "birth", "2025-07-10")), NOW).await;
    // 大阪花子 of the fixture has an account; the register knows her as A1's mother.
    let relation = file(
        RELATION_HEADER,
        &["A1,P1,オオサカ ハナコ,1992-02-03,母".to_owned(), "A2,P2,オオサカ ハナコ,1992-02-04,母".to_owned()],
    );
    assert!(import(&workflow, &city, ImportKind::HouseholdRelation, &relation, NOW).await.is_completed());
    assert_eq!(
        workflow.run_solicitation(&city.operator(), NOW).await.unwrap(),
        Solicited { targets: 2, app: 1, paper: 1 }
    );

    let told = inbox(db, &city.parent, "coupon.solicited").await;
    assert_eq!(told.len(), 1);
    assert!(told[0].body.contains("佐藤 子A1"), "{}", told[0].body);
    assert_eq!(told[0].link, "/apply");
    let own = workflow.own_solicitations(&city.parent()).await.unwrap();
    assert_eq!((own.len(), own[0].child_name.as_str()), (1, "佐藤 子A1"));
    assert!(QrToken::parse(&own[0].token).is_ok());
    assert!(workflow.own_solicitations(&other.parent()).await.unwrap().is_empty());

    let letters = letters(&workflow, &city).await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert!(letter.letter_no.starts_with(NumberKind::Letter.letter()));
    assert_eq!((letter.recipient_name.as_str(), letter.postal_code.as_str()), ("佐藤 子A2 様の保護者様", "530-0001"));
    assert!(
        letter.body.contains("本人確認書類") && letter.body.contains("子育て応援アプリ登録のご案内"),
        "{}",
        letter.body
    );
    assert!(QrToken::parse(letter.qr_token.as_deref().unwrap()).is_ok());
    assert_eq!(events_of(db, "account.registration_invited").await.len(), 1);
    let run = workflow.make_print_run(&city.operator(), 10, NOW).await.unwrap();
    let (csv, n_letters) = workflow.print_run_csv(&city.operator(), run.print_run_id).await.unwrap();
    assert_eq!(n_letters, 1);
    assert!(csv.contains(letter.qr_token.as_deref().unwrap()));
    let channels: Vec<_> =
        events_of(db, "solicitation.sent").await.iter().map(|event| event.payload["channel"].clone()).collect();
    assert_eq!(channels, ["inbox", "paper"]);
}

async fn exactly_two_repeats_go_out(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    move_people(&workflow, &city, &[movement("A1", "2026-05-05", "birth", "2026-05-10")], NOW).await;
    workflow.run_solicitation(&city.operator(), NOW).await.unwrap();
    let timer = Actor::system(town(), "timer");
    let mut on = Vec::new();
    let mut exhausted = Vec::new();
    for n in 0..200 {
        let nine = Timestamp::from_jst(add_days(NOW.jst_date(), n), time(9, 0, 0, 0));
        // The hours before nine belong to the day before; a second look finds nothing more.
        for now in [nine.minus(Duration::from_secs(1)), nine, nine] {
            let run = workflow.resolicit(&timer, now).await.unwrap();
            assert_eq!(run.out_of_target, 0);
            on.extend((0..run.sent).map(|_| now.jst_date()));
            exhausted.extend((0..run.exhausted).map(|_| now.jst_date()));
        }
    }
    assert_eq!(on, [date(2026, 7, 1), date(2026, 7, 31)]);
    assert_eq!(exhausted, [date(2026, 8, 30)]);
    let letters = letters(&workflow, &city).await;
    let kinds: Vec<&str> = letters.iter().map(|letter| letter.letter_kind.as_str()).collect();
    assert_eq!(kinds, ["resolicitation", "resolicitation", "solicitation"]);
    assert!(letters.iter().all(|letter| letter.qr_token == letters[0].qr_token), "the code stays the same");
    let counts: Vec<i64> = events_of(db, "solicitation.resent")
        .await
        .iter()
        .map(|event| event.payload["count"].as_i64().unwrap())
        .collect();
    assert_eq!(counts, [1, 2]);
    let closed = events_of(db, "solicitation.closed").await;
    assert_eq!((closed.len(), closed[0].payload["outcome"].as_str()), (1, Some("exhausted")));
}

/// Registers the child that the register knows as A1, with or without the code of its letter.
async fn register_a1(db: &TestStore, city: &City, child_qr: Option<String>) -> Child {
    // The fixture's own child has the first number without having drawn it.
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.next_number(&city.code, NumberKind::Child, NOW).await.unwrap();
    tx.commit().await.unwrap();
    let input = ChildInput {
        name: "佐藤 子A1".to_owned(),
        name_kana: format!("サトウ {}", kana("A1")),
        sex: "female".to_owned(),
        birth_date: "2026-05-05".to_owned(),
        child_qr,
    };
    workflow(db.store()).register_child(&city.parent(), &input, days(2)).await.unwrap()
}

async fn an_application_ends_the_repeats(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    move_people(&workflow, &city, &[movement("A1", "2026-05-05", "birth", "2026-05-10")], NOW).await;
    workflow.run_solicitation(&city.operator(), NOW).await.unwrap();
    let code = letters(&workflow, &city).await[0].qr_token.clone();
    let key = events_of(db, "solicitation.sent").await[0].payload["child_key"].as_i64();

    let child = register_a1(db, &city, code).await;
    assert_eq!((child.resident_no.as_deref(), child.person_key), (Some("A1"), key), "one child in the lake");
    let submission = Submission::Online {
        child_id: child.child_id,
        child_qr: None,
        documents: Vec::new(),
        relation: "母".to_owned(),
    };
    workflow.submit_application(&city.parent(), &submission, days(2)).await.unwrap();
    let closed = events_of(db, "solicitation.closed").await;
    assert_eq!(
        (closed[0].payload["outcome"].as_str(), closed[0].payload["child_key"].as_i64()),
        (Some("applied"), key)
    );
    let timer = Actor::system(town(), "timer");
    assert_eq!(workflow.resolicit(&timer, days(40)).await.unwrap(), Resolicited::default());
    assert_eq!(letters(&workflow, &city).await.len(), 1);
    assert_eq!(workflow.run_solicitation(&city.operator(), days(40)).await.unwrap().targets, 0);
}

async fn two_nodes_invite_nobody_twice(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let first = workflow(db.store());
    let second = workflow(db.open_again().await);
    let rows: Vec<String> =
        (0..450).map(|n| movement(&format!("A{n:03}"), "2026-05-05", "birth", "2026-05-10")).collect();
    move_people(&first, &city, &rows, NOW).await;
    let operator = city.operator();
    let (one, two) = tokio::join!(first.run_solicitation(&operator, NOW), second.run_solicitation(&operator, NOW));
    assert_eq!(one.unwrap().targets + two.unwrap().targets, 450);
    let timer = Actor::system(town(), "timer");
    let (one, two) = tokio::join!(first.resolicit(&timer, days(30)), second.resolicit(&timer, days(30)));
    assert_eq!(one.unwrap().sent + two.unwrap().sent, 450);
    assert_eq!(letters(&first, &city).await.len(), 900);
    second.store().close().await;
}

async fn the_monthly_run_happens_once(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let timer = Actor::system(town(), "timer");
    move_people(&workflow, &city, &[movement("A1", "2026-05-05", "birth", "2026-05-10")], NOW).await;
    let first_of_july = |hour: i8| Timestamp::from_jst(date(2026, 7, 1), time(hour, 0, 0, 0));
    assert_eq!(
        workflow.solicitation_due(&timer, NOW).await.unwrap().targets,
        1,
        "the run of 1 June was missed and is made up"
    );
    move_people(&workflow, &city, &[movement("A2", "2026-06-05", "birth", "2026-06-10")], days(20)).await;
    assert_eq!(workflow.solicitation_due(&timer, days(20)).await.unwrap().targets, 0);
    assert_eq!(workflow.solicitation_due(&timer, first_of_july(8)).await.unwrap().targets, 0);
    assert_eq!(workflow.solicitation_due(&timer, first_of_july(9)).await.unwrap().targets, 1);
    assert_eq!(workflow.solicitation_due(&timer, first_of_july(10)).await.unwrap().targets, 0);
}

async fn who_has_moved_out_is_invited_again_after_coming_back(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    move_people(&workflow, &city, &[movement("A1", "2026-01-05", "birth", "2026-01-10")], NOW).await;
    workflow.run_solicitation(&city.operator(), NOW).await.unwrap();
    move_people(&workflow, &city, &[movement("A1", "2026-01-05", "move_out", "2026-06-05")], days(5)).await;
    let closed = events_of(db, "solicitation.closed").await;
    assert_eq!(closed[0].payload["outcome"].as_str(), Some("out_of_target"));
    let timer = Actor::system(town(), "timer");
    assert_eq!(workflow.resolicit(&timer, days(31)).await.unwrap(), Resolicited::default());
    move_people(&workflow, &city, &[movement("A1", "2026-01-05", "move_in", "2026-07-05")], days(35)).await;
    assert_eq!(workflow.run_solicitation(&city.operator(), days(35)).await.unwrap().targets, 1);
    assert_eq!(reasons(db).await, ["launch", "moved_in"]);
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let row = tx.solicitation_of_resident(&city.code, "A1").await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.repeats, row.last_sent_on), ("solicited", 0, Some(days(35).jst_date())));
}

/// The register has no names for A1, whose mother has the app, and A2; and nobody knows the desk that invites to the
/// app.
async fn a_text_without_its_value_costs_itself_and_not_the_run(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let born = ["A1", "A2", "A3"].map(|no| movement(no, "2025-07-07", "birth", "2025-07-10"));
    move_people(&workflow, &city, &born, NOW).await;
    let relation = file(RELATION_HEADER, &["A1,P1,オオサカ ハナコ,1992-02-03,母".to_owned()]);
    assert!(import(&workflow, &city, ImportKind::HouseholdRelation, &relation, NOW).await.is_completed());
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let blank = ParameterValue { name: CONTACT.name.to_owned(), effective_from: NOW.jst_date(), value: " ".to_owned() };
    tx.set_parameter(&town(), &blank, "test", NOW).await.unwrap();
    for no in ["A1", "A2"] {
        let mut nameless = tx.resident(&town(), no).await.unwrap().unwrap();
        nameless.name = " ".to_owned();
        tx.upsert_residents(&[nameless]).await.unwrap();
    }
    tx.commit().await.unwrap();

    let run = workflow.run_solicitation(&city.operator(), NOW).await.unwrap();
    assert_eq!(run, Solicited { targets: 3, app: 1, paper: 1 }, "the run goes on");
    let letters = letters(&workflow, &city).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].recipient_name, "佐藤 子A3 様の保護者様");
    assert!(!letters[0].body.contains("子育て応援アプリ登録のご案内"), "{}", letters[0].body);
    assert!(events_of(db, "account.registration_invited").await.is_empty());
    assert!(inbox(db, &city.parent, "coupon.solicited").await.is_empty());
    let suppressed = events_of(db, "message.suppressed").await;
    let faulty = suppressed.iter().filter(|event| event.payload["reason"].as_str() == Some("template_error"));
    assert_eq!(faulty.count(), 3, "the message to A1, the letter to A2, and the invitation on that to A3");
    let alarms = inbox(db, &city.operator, "operator.message_faulty").await;
    assert_eq!(alarms.len(), 2, "once a day for each type");
    for kind in ["coupon.solicited", "account.registration_invited"] {
        assert!(alarms.iter().any(|alarm| alarm.body.contains(kind)), "{kind}");
    }
}

/// A1 is registered without the code of its letter and matched later; A2 is never registered.
async fn an_invited_child_is_forgotten_under_both_of_its_keys(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let born = ["A1", "A2"].map(|no| movement(no, "2026-05-05", "birth", "2026-05-10"));
    move_people(&workflow, &city, &born, NOW).await;
    workflow.run_solicitation(&city.operator(), NOW).await.unwrap();
    let child = register_a1(db, &city, None).await;
    let document = NewDocument { kind: "child_identity", content: b"%PDF-1.4\n%%EOF\n" };
    let document = workflow.upload_document(&city.parent(), &document, days(2)).await.unwrap();
    let submission = Submission::Online {
        child_id: child.child_id,
        child_qr: None,
        documents: vec![document],
        relation: "母".to_owned(),
    };
    let id = workflow.submit_application(&city.parent(), &submission, days(2)).await.unwrap().application_id;
    let matched = workflow.complete_documents(&city.operator(), id, days(3)).await.unwrap();
    assert_eq!(matched.state, "under_review");

    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let [invited, waiting] = [
        tx.solicitation_of_resident(&city.code, "A1").await.unwrap().unwrap(),
        tx.solicitation_of_resident(&city.code, "A2").await.unwrap().unwrap(),
    ];
    drop(tx);
    assert_eq!([invited.state.as_str(), waiting.state.as_str()], ["applied", "solicited"]);
    let system = Actor::system(town(), "console");
    let keys_of = async |number: &str| -> BTreeSet<i64> {
        workflow.stand_ins(&system, number, Role::Guardian).await.unwrap().into_keys().collect()
    };
    let both = BTreeSet::from([child.person_key.unwrap(), invited.person_key]);
    assert_eq!(both.len(), 2, "the invitation went on under its own key");
    assert_eq!(keys_of(&child.child_no).await, both);
    assert_eq!(keys_of("A1").await, both);
    assert_eq!(keys_of("A2").await, BTreeSet::from([waiting.person_key]));
    let nobody = workflow.stand_ins(&system, "", Role::Guardian).await;
    assert!(matches!(nobody, Err(WorkflowError::NotFound(_))), "{nobody:?}");

    let stand_ins = workflow.stand_ins(&system, &child.child_no, Role::Guardian).await.unwrap();
    assert!(workflow.unlink_events(&system, &stand_ins, days(4)).await.unwrap().events > 0);
    assert_eq!(workflow.reread_events(&system, &stand_ins).await.unwrap().naming, 0);
    let closed = events_of(db, "solicitation.closed").await;
    assert_eq!(closed[0].payload["child_key"].as_i64(), Some(stand_ins[&invited.person_key]));
    workflow.renew_keys(&system, &stand_ins, "certificate", days(4)).await.unwrap();
    let renewed = keys_of(&child.child_no).await;
    assert!(renewed.len() == 2 && renewed.is_disjoint(&both), "{renewed:?}");
    assert_eq!(keys_of("A2").await, BTreeSet::from([waiting.person_key]), "nobody else is touched");
}
