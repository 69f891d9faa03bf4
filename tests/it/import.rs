//! Files of other systems: all of a file or nothing, in every encoding, with every error named.

use std::time::Instant;

use jiff::civil::{date, time};
use todoke_domain::{Event, Timestamp, Yen, external_application::LinkedSystem, ids::FacilityId, time::add_days};
use todoke_store::{Wall, facility::Facility, municipality::Programme};
use todoke_tests::stores::TestStore;
use todoke_workflow::{Actor, Workflow, WorkflowError, coupon::ReminderRound, import::ImportKind};

use crate::{
    city::{City, NOW, PROGRAMME, after, neighbour, town},
    coupon_use::workflow,
    register::{
        MOVEMENT_HEADER, RELATION_HEADER, events, events_of, family, file, import, inbox, kana, link, move_people,
        movement,
    },
};

todoke_tests::on_both_databases! {
    ten_thousand_rows_are_taken_at_once_in_either_encoding,
    one_wrong_row_leaves_nothing_behind,
    the_same_file_is_refused_unless_forced,
    a_child_follows_its_resident_out_and_back_in,
    nothing_is_given_or_said_for_a_child_that_died,
    files_of_two_months_may_come_in_either_order,
    relations_and_uses_are_kept_as_delivered,
    results_stay_behind_the_wall,
    a_fact_of_a_linked_system_is_recorded_once_and_follows_corrections,
    a_fact_is_read_in_either_encoding_with_either_number_of_the_child,
    an_approval_ahead_is_told_with_the_paper_to_bring,
    every_wrong_cell_of_a_fact_is_named_and_nothing_is_taken,
    a_number_of_a_linked_system_stays_with_its_child,
    facts_about_those_who_left_are_passed_over,
}

const ROWS: usize = 10_000;

fn year_of_births(prefix: &str) -> String {
    let row = |n: usize| {
        let no = format!("{prefix}{n:05}");
        // 髙 and ﾊﾅ are what a register delivers: a letter that only Windows-31J has, and half-width kana.
        format!(
            "{no},ﾀｶﾊｼ ﾊﾅ{},髙橋 花,female,2025-0{}-15,H{n},birth,2025-09-20,530-0001,\"大阪市北区,梅田{n}\"",
            kana(&no),
            1 + n % 9
        )
    };
    file(MOVEMENT_HEADER, &(0..ROWS).map(row).collect::<Vec<_>>())
}

async fn ten_thousand_rows_are_taken_at_once_in_either_encoding(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let windows = {
        let text = year_of_births("W");
        let (bytes, _, lossy) = encoding_rs::SHIFT_JIS.encode(&text);
        assert!(!lossy);
        bytes.into_owned()
    };
    let marked = format!("\u{feff}{}", year_of_births("U")).into_bytes();
    for (bytes, prefix) in [(windows, "W"), (marked, "U")] {
        let started = Instant::now();
        let outcome =
            workflow.import_file(&city.operator(), ImportKind::Movement, "異動.csv", &bytes, false, NOW).await.unwrap();
        let took = started.elapsed();
        println!("{ROWS} rows, {prefix}: {took:?}");
        assert!(outcome.is_completed(), "{:?}", outcome.first_errors);
        assert_eq!(outcome.rows, ROWS);
        let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
        let last = tx.resident(&city.code, &format!("{prefix}09999")).await.unwrap().unwrap();
        assert_eq!((last.name.as_str(), last.address.as_str()), ("髙橋 花", "大阪市北区,梅田9999"));
        assert_eq!(last.name_kana, format!("タカハシ ハナ{}", kana(&format!("{prefix}09999"))));
    }
    let told = inbox(db, &city.operator, "import.completed").await;
    assert_eq!(told.len(), 2);
    assert!(told[0].body.contains("異動情報「異動.csv」（対象世帯10000）"), "{}", told[0].body);
}

async fn one_wrong_row_leaves_nothing_behind(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let mut rows: Vec<String> =
        (0..300).map(|n| movement(&format!("A{n}"), "2025-06-01", "birth", "2025-06-10")).collect();
    rows[250] = rows[250].replace("2025-06-01", "2025-06-31").replace("female", "girl");
    rows[260] = rows[0].clone();
    let broken = file(MOVEMENT_HEADER, &rows);
    let outcome = import(&workflow, &city, ImportKind::Movement, &broken, NOW).await;
    assert_eq!((outcome.state, outcome.rows, outcome.errors), ("failed", 300, 3));
    let found: Vec<(usize, &str)> =
        outcome.first_errors.iter().map(|error| (error.row, error.column.as_str())).collect();
    assert_eq!(found, [(252, "sex"), (252, "birth_date"), (262, "resident_no")]);

    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    assert!(tx.residents(&city.code).await.unwrap().is_empty());
    drop(tx);
    let refused = events_of(db, "import.failed").await;
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].payload["rows"].as_i64(), refused[0].payload["errors"].as_i64()), (Some(300), Some(3)));
    assert_eq!(inbox(db, &city.operator, "import.failed").await.len(), 1);
    let csv = workflow.import_result(&city.operator(), outcome.import_id).await.unwrap();
    assert!(csv.starts_with("\u{feff}行番号,列,内容\r\n252,sex,"), "{csv}");
    assert_eq!(csv.lines().count(), 4);

    // A refused file may be sent again; what is wrong with its encoding is named too.
    assert_eq!(import(&workflow, &city, ImportKind::Movement, &broken, NOW).await.state, "failed");
    let unreadable = workflow
        .import_file(&city.operator(), ImportKind::Movement, "x", b"resident_no\n\xFF\xFF\n", false, NOW)
        .await
        .unwrap();
    assert_eq!((unreadable.state, unreadable.first_errors[0].row), ("failed", 2));
}

async fn the_same_file_is_refused_unless_forced(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let content = file(MOVEMENT_HEADER, &[movement("A1", "2025-06-01", "birth", "2025-06-10")]);
    assert!(import(&workflow, &city, ImportKind::Movement, &content, NOW).await.is_completed());
    let again = workflow
        .import_file(&city.operator(), ImportKind::Movement, "other name.csv", content.as_bytes(), false, after(9))
        .await;
    assert!(matches!(again, Err(WorkflowError::Conflict(_))), "{again:?}");
    let forced = workflow
        .import_file(&city.operator(), ImportKind::Movement, "other name.csv", content.as_bytes(), true, after(9))
        .await;
    assert!(forced.unwrap().is_completed());
    assert_eq!(workflow.imports(&city.operator()).await.unwrap().len(), 2);
    let denied = workflow.import_file(&city.parent(), ImportKind::Movement, "x", content.as_bytes(), true, NOW).await;
    assert!(matches!(denied, Err(WorkflowError::Denied)));
}

async fn a_child_follows_its_resident_out_and_back_in(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    move_people(&workflow, &city, &[movement("A1", "2025-05-05", "birth", "2025-05-10")], NOW).await;
    link(db, &city.child, "A1").await;

    move_people(&workflow, &city, &[movement("A1", "2025-05-05", "move_out", "2026-05-20")], after(60)).await;
    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    assert_eq!(tx.child(city.child.child_id).await.unwrap().unwrap().moved_out_on, Some(date(2026, 5, 20)));
    let lots = tx.lots(city.coupon.coupon_id).await.unwrap();
    assert_eq!(
        (lots[0].expires_on, lots[0].expiry_rule.as_str(), lots[0].rest_yen),
        (date(2027, 5, 20), "moved_out", Yen::new(1_000))
    );
    drop(tx);
    let out = events_of(db, "child.moved_out").await;
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].payload["movement_date"], "2026-05-20");
    assert_eq!(events_of(db, "coupon.expiry_changed").await.len(), 1);
    assert_eq!(inbox(db, &city.parent, "coupon.expiry_changed").await.len(), 1);

    move_people(&workflow, &city, &[movement("A1", "2025-05-05", "move_in", "2026-06-01")], after(120)).await;
    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    assert_eq!(tx.child(city.child.child_id).await.unwrap().unwrap().moved_out_on, None);
    assert_eq!(tx.lots(city.coupon.coupon_id).await.unwrap()[0].expires_on, date(2028, 5, 3));
    drop(tx);
    assert_eq!(events_of(db, "child.moved_in").await.len(), 1);
}

/// A child that moved out is still reminded of what it may use up; one that died is not, nor is it given anything.
async fn nothing_is_given_or_said_for_a_child_that_died(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    link(db, &city.child, "A1").await;
    let timer = Actor::system(town(), "timer");
    let now = Timestamp::from_jst(add_days(date(2028, 5, 3), -60), time(9, 0, 0, 0));
    let remind = async || {
        let run = workflow.remind_of_expiry(&timer, ReminderRound::First, now.jst_date(), now).await;
        (run.unwrap().coupons, inbox(db, &city.parent, "coupon.expiring").await.len())
    };
    let next_cycle = async || {
        let mut tx = db.begin_write(Wall::None).await.unwrap();
        let coupon = tx.coupon(city.coupon.coupon_id).await.unwrap().unwrap();
        tx.set_cycle(coupon.coupon_id, coupon.cycle_no, Some(NOW.jst_date())).await.unwrap();
        tx.commit().await.unwrap();
        workflow.distribute_due(&timer, NOW).await.unwrap().coupons
    };
    for (kind, on) in [("death", "2027-05-20"), ("change", "2027-05-21"), ("delete", "2027-05-22")] {
        move_people(&workflow, &city, &[movement("A1", "2025-05-05", kind, on)], NOW).await;
        if kind == "change" {
            assert_eq!(next_cycle().await, 1, "it was an error of the register");
        } else {
            assert_eq!((next_cycle().await, remind().await), (0, (0, 0)), "{kind}");
        }
    }
    move_people(&workflow, &city, &[movement("A1", "2025-05-05", "move_out", "2027-06-01")], after(1)).await;
    assert_eq!((next_cycle().await, remind().await), (1, (1, 1)), "it moves next year only");
}

async fn files_of_two_months_may_come_in_either_order(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let newer = [movement("A1", "2025-05-05", "move_out", "2026-05-20")];
    let older =
        [movement("A1", "2025-05-05", "birth", "2025-05-10"), movement("A2", "2025-05-05", "change", "2025-05-10")];
    move_people(&workflow, &city, &newer, NOW).await;
    let late = move_people(&workflow, &city, &older, after(1)).await;
    let csv = workflow.import_result(&city.operator(), late.import_id).await.unwrap();
    assert!(csv.contains("2,movement_date,取込み済みの異動より古い"), "{csv}");
    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    assert!(tx.resident(&city.code, "A1").await.unwrap().unwrap().is_gone());
    assert_eq!(tx.resident(&city.code, "A2").await.unwrap().unwrap().arrived_by, "change");
}

async fn relations_and_uses_are_kept_as_delivered(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let relation = |relative: &str, name: &str| format!("A1,{relative},{name},1992-02-03,母");
    let both = file(RELATION_HEADER, &[relation("P1", "おおさか　ハナコ"), relation("P2", "ｵｵｻｶ ﾀﾛｳ")]);
    assert!(import(&workflow, &city, ImportKind::HouseholdRelation, &both, NOW).await.is_completed());
    let one = file(RELATION_HEADER, &[relation("P1", "オオサカ ハナコ")]);
    assert!(import(&workflow, &city, ImportKind::HouseholdRelation, &one, after(1)).await.is_completed());
    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    assert!(tx.household_has(&city.code, "A1", "オオサカハナコ", date(1992, 2, 3)).await.unwrap());
    assert_eq!(
        tx.relations_of(&city.code, "A1").await.unwrap().len(),
        1,
        "the newest file replaces a child's relations"
    );
    drop(tx);

    let header = "resident_no,facility_no,programme,from,to";
    let good = file(header, &[format!("A1,1000001,{PROGRAMME},2026-05-01,2026-05-31")]);
    assert!(import(&workflow, &city, ImportKind::FacilityUsage, &good, NOW).await.is_completed());
    let bad = file(header, &["A1,1000001,unknown,2026-05-31,2026-05-01".to_owned()]);
    let outcome = import(&workflow, &city, ImportKind::FacilityUsage, &bad, NOW).await;
    let found: Vec<&str> = outcome.first_errors.iter().map(|error| error.column.as_str()).collect();
    assert_eq!(found, ["programme", "to"]);
    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    assert_eq!(tx.facility_usage_of(&city.code, "A1").await.unwrap()[0].used_to, date(2026, 5, 31));
}

async fn results_stay_behind_the_wall(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let other = City::found(db, &neighbour(), 1_000).await;
    let workflow = workflow(db.store());
    let outcome = move_people(&workflow, &city, &[movement("A1", "2025-05-05", "birth", "2025-05-10")], NOW).await;
    assert!(matches!(
        workflow.import_result(&other.operator(), outcome.import_id).await,
        Err(WorkflowError::NotFound(_))
    ));
    assert!(workflow.imports(&other.operator()).await.unwrap().is_empty());
    let mut tx = db.begin_read(other.operator().wall()).await.unwrap();
    assert!(tx.resident(&city.code, "A1").await.unwrap().is_none());
    assert!(tx.residents_born_on(&city.code, date(2025, 5, 5)).await.unwrap().is_empty());
    assert_eq!(tx.households_with_child(&city.code, date(2020, 1, 1)).await.unwrap(), 0);
    assert!(tx.import_files(&city.code, 10).await.unwrap().is_empty());
}

const FACT_HEADER: &str = "external_no,child,facility,programme,from,to,status";
const HELPER: &str = "childrearing_helper";
const NURSERY: &str = "open_nursery";

/// The town with the programmes of linked systems and facility 2000001, which gives both.
async fn linked_town(db: &TestStore) -> (City, Workflow) {
    let city = City::found(db, &town(), 1_000).await;
    let codes = LinkedSystem::ALL.map(|system| system.programme_code().to_owned());
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for (code, name) in codes.iter().zip(["子育て応援ヘルパー派遣事業", "こども誰でも通園制度"])
    {
        let programme = Programme { programme_code: code.clone(), name: name.to_owned(), coupon_enabled: true };
        tx.insert_programme(&city.code, &programme).await.unwrap();
    }
    let facility = Facility {
        facility_id: FacilityId::new(NOW),
        facility_no: "2000001".to_owned(),
        coupon_qr: "another".to_owned(),
        ..city.facility.clone()
    };
    tx.insert_facility(&facility, &codes, NOW).await.unwrap();
    tx.commit().await.unwrap();
    (city, workflow(db.store()))
}

/// A row about the town's child, from 9 to 12 on `day`.
fn fact(no: &str, programme: &str, day: &str, status: &str) -> String {
    format!("{no},K26-0000001,2000001,{programme},{day} 09:00,{day} 12:00,{status}")
}

/// Imports facts that must be taken, `at` seconds after the beginning.
async fn take_facts(workflow: &Workflow, city: &City, rows: &[String], at: u64) {
    let outcome = import(workflow, city, ImportKind::ExternalApplication, &file(FACT_HEADER, rows), after(at)).await;
    assert!(outcome.is_completed(), "{:?}", outcome.first_errors);
}

/// Every event about an application, in order.
async fn application_events(db: &TestStore) -> Vec<Event> {
    let mut all = events(db).await;
    all.retain(|event| event.group() == "application");
    all
}

/// What the events say, without `application.`; of a decision what was decided, of a cancellation by whom.
async fn application_steps(db: &TestStore) -> Vec<String> {
    let step = |event: &Event| {
        let said = event.payload.get("decision").or_else(|| event.payload.get("by"));
        let name = event.event_type.trim_start_matches("application.");
        said.and_then(|said| said.as_str()).map_or_else(|| name.to_owned(), |said| format!("{name} {said}"))
    };
    application_events(db).await.iter().map(step).collect()
}

async fn a_fact_of_a_linked_system_is_recorded_once_and_follows_corrections(db: &TestStore) {
    let (city, workflow) = linked_town(db).await;
    take_facts(&workflow, &city, &[fact("H-1", HELPER, "2026-06-10", "approved")], 0).await;
    let told = application_events(db).await;
    assert_eq!(application_steps(db).await, ["submitted", "decided approved"]);
    let submitted = &told[0];
    assert_eq!(submitted.payload["application_kind"], "external");
    assert_eq!(submitted.payload["child_key"].as_i64(), city.child.person_key);
    assert_eq!(submitted.payload["guardian_key"].as_i64(), city.parent.person_key);
    assert_eq!(submitted.payload["desired_date"], "2026-06-10");
    // 9 o'clock in Japan is midnight in UTC.
    assert_eq!(submitted.payload["desired_from"].as_i64(), Some(1_781_049_600_000_000));
    for (event, seq) in told.iter().zip(1..) {
        assert_eq!((event.subject_kind.as_str(), event.subject_seq), ("application", seq));
        assert_eq!(event.subject_id, submitted.subject_id);
        assert_eq!(event.programme_code.as_deref(), Some(HELPER));
        assert!(event.facility_id.is_some());
        let text = serde_json::to_string(event).unwrap();
        for number in ["H-1", "K26-0000001"] {
            assert!(!text.contains(number), "{number} in {text}");
        }
    }

    // The same fact in the file of another day changes nothing; new ones beside it are taken.
    let second = [fact("H-1", HELPER, "2026-06-10", "approved"), fact("H-2", HELPER, "2026-06-11", "rejected")];
    take_facts(&workflow, &city, &second, 60).await;
    assert_eq!(application_steps(db).await[2..], ["submitted", "decided rejected"]);
    // The other system may use the same number.
    take_facts(&workflow, &city, &[fact("H-1", NURSERY, "2026-05-10", "used")], 120).await;
    assert_eq!(application_steps(db).await[4..], ["submitted", "decided approved", "used"]);

    let third = [fact("H-1", HELPER, "2026-06-12", "used"), fact("H-2", HELPER, "2026-06-11", "approved")];
    take_facts(&workflow, &city, &third, 180).await;
    assert_eq!(application_steps(db).await[7..], ["used", "decided approved"]);
    assert_eq!(application_events(db).await[7].subject_id, submitted.subject_id);
    take_facts(&workflow, &city, &[fact("H-1", HELPER, "2026-06-13", "used")], 240).await;
    assert_eq!(application_events(db).await.len(), 9, "another time is no step");

    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    let kept = tx.external_application(&city.code, HELPER, "H-1").await.unwrap().unwrap();
    assert_eq!((kept.state.as_str(), kept.use_from.jst_date()), ("used", date(2026, 6, 13)));
    assert_eq!(kept.application_id.to_string(), submitted.subject_id);
    drop(tx);
    assert!(inbox(db, &city.parent, "programme.approval_notified").await.is_empty(), "the helper system tells itself");

    let again = file(FACT_HEADER, &third);
    let refused = workflow
        .import_file(&city.operator(), ImportKind::ExternalApplication, "x", again.as_bytes(), false, after(300))
        .await;
    assert!(matches!(refused, Err(WorkflowError::Conflict(_))), "{refused:?}");
}

async fn a_fact_is_read_in_either_encoding_with_either_number_of_the_child(db: &TestStore) {
    let (city, workflow) = linked_town(db).await;
    link(db, &city.child, "9900000001").await;
    let labels = "状態,外部番号,児童,施設,事業,利用開始日時,利用終了日時";
    let row = |no: &str, child: &str| {
        file(labels, &[format!("approved,{no},{child},2000001,{HELPER},2026-06-10 09:00,2026-06-10 12:00")])
    };
    let by_no = row("H-1", "K26-0000001");
    let (windows, _, lossy) = encoding_rs::SHIFT_JIS.encode(&by_no);
    assert!(!lossy);
    let marked = format!("\u{feff}{}", row("H-2", "9900000001")).into_bytes();
    for (bytes, no) in [(windows.into_owned(), "H-1"), (marked, "H-2")] {
        let outcome = workflow
            .import_file(&city.operator(), ImportKind::ExternalApplication, "外部.csv", &bytes, false, NOW)
            .await
            .unwrap();
        assert!(outcome.is_completed(), "{:?}", outcome.first_errors);
        let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
        let kept = tx.external_application(&city.code, HELPER, no).await.unwrap().unwrap();
        assert_eq!(kept.child_id, city.child.child_id);
    }
    let told = inbox(db, &city.operator, "import.completed").await;
    assert!(told[0].body.contains("外部申請情報「外部.csv」"), "{}", told[0].body);
}

async fn an_approval_ahead_is_told_with_the_paper_to_bring(db: &TestStore) {
    let (city, workflow) = linked_town(db).await;
    let rows = [
        fact("N-1", NURSERY, "2026-06-10", "approved"),
        fact("N-2", NURSERY, "2026-05-20", "approved"),
        fact("N-3", NURSERY, "2026-06-10", "rejected"),
        fact("N-4", NURSERY, "2026-05-20", "used"),
        fact("N-5", NURSERY, "2026-06-10", "cancelled_by_operator"),
    ];
    take_facts(&workflow, &city, &rows, 0).await;
    let told = inbox(db, &city.parent, "programme.approval_notified").await;
    assert_eq!(told.len(), 1, "only what is approved and still ahead");
    assert_eq!(told[0].subject_no.as_deref(), Some("N-1"));
    assert_eq!(told[0].body, "こども誰でも通園制度の利用が承認されました。利用当日は利用承認書をお持ちください。");

    take_facts(&workflow, &city, &[fact("N-1", NURSERY, "2026-06-10", "cancelled_by_guardian")], 60).await;
    assert_eq!(application_steps(db).await.last().unwrap(), "cancelled guardian");
    assert!(application_steps(db).await.contains(&"cancelled operator".to_owned()));
    assert_eq!(inbox(db, &city.parent, "programme.approval_notified").await.len(), 1);

    take_facts(&workflow, &city, &[fact("N-1", NURSERY, "2026-06-10", "approved")], 120).await;
    assert_eq!(inbox(db, &city.parent, "programme.approval_notified").await.len(), 2, "it stands again");
}

async fn every_wrong_cell_of_a_fact_is_named_and_nothing_is_taken(db: &TestStore) {
    let (city, workflow) = linked_town(db).await;
    let good = |n: usize| fact(&format!("N-{n}"), NURSERY, "2026-06-10", "approved");
    let rows = [
        good(2),
        good(3).replace("K26-0000001", "K26-9999999"),
        good(4).replace("2000001", "9999999"),
        good(5).replace(NURSERY, "unknown"),
        good(6).replace(NURSERY, PROGRAMME),
        good(7).replace("2000001", "1000001"),
        good(8).replace("12:00", "09:00"),
        good(9).replace("2026-06-10 09:00", "2026-06-10"),
        good(10).replace("approved", "done"),
        good(2),
        good(12).replace("N-12", ""),
        good(13).replace("12:00", "08:00").replace("K26-0000001", "K26-9999999"),
    ];
    let outcome = import(&workflow, &city, ImportKind::ExternalApplication, &file(FACT_HEADER, &rows), NOW).await;
    let found: Vec<(usize, &str)> =
        outcome.first_errors.iter().map(|error| (error.row, error.column.as_str())).collect();
    let expected = [
        (3, "child"),
        (4, "facility"),
        (5, "programme"),
        (6, "programme"),
        (7, "facility"),
        (8, "to"),
        (9, "from"),
        (10, "status"),
        (11, "external_no"),
        (12, "external_no"),
        (13, "child"),
        (13, "to"),
    ];
    assert_eq!(found, expected);
    let csv = workflow.import_result(&city.operator(), outcome.import_id).await.unwrap();
    assert!(csv.contains("11,external_no,2行目と同じ番号です。"), "{csv}");
    assert!(application_events(db).await.is_empty());
    assert_eq!(events_of(db, "import.failed").await.len(), 1);
    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    assert!(tx.external_application(&city.code, NURSERY, "N-2").await.unwrap().is_none());
}

async fn a_number_of_a_linked_system_stays_with_its_child(db: &TestStore) {
    let (city, workflow) = linked_town(db).await;
    let neighbours = family(db, &city.code, 7, "27127", date(2025, 8, 8)).await;
    let approved = fact("N-1", NURSERY, "2026-06-10", "approved");
    take_facts(&workflow, &city, std::slice::from_ref(&approved), 0).await;
    let wandering = file(FACT_HEADER, &[approved.replace("K26-0000001", &neighbours.child.child_no)]);
    let outcome = import(&workflow, &city, ImportKind::ExternalApplication, &wandering, after(60)).await;
    assert_eq!((outcome.state, outcome.first_errors[0].column.as_str()), ("failed", "child"));
    assert!(inbox(db, &neighbours.parent, "programme.approval_notified").await.is_empty());

    // One text that is the number of one child and the resident's number of another names neither.
    link(db, &neighbours.child, "K26-0000001").await;
    let unclear = file(FACT_HEADER, &[fact("N-2", NURSERY, "2026-06-10", "approved")]);
    let outcome = import(&workflow, &city, ImportKind::ExternalApplication, &unclear, after(120)).await;
    assert_eq!((outcome.state, outcome.first_errors[0].column.as_str()), ("failed", "child"));
}

async fn facts_about_those_who_left_are_passed_over(db: &TestStore) {
    let (city, workflow) = linked_town(db).await;
    let stayed = family(db, &city.code, 7, "27127", date(2025, 8, 8)).await;
    workflow.delete_own_account(&city.parent(), NOW).await.unwrap();
    let gone = fact("N-1", NURSERY, "2026-06-10", "approved");
    let here = fact("N-2", NURSERY, "2026-06-10", "approved").replace("K26-0000001", &stayed.child.child_no);
    let content = file(FACT_HEADER, &[gone, here]);
    let outcome = import(&workflow, &city, ImportKind::ExternalApplication, &content, after(60)).await;
    assert_eq!((outcome.state, outcome.rows, outcome.errors), ("completed", 2, 0));
    let csv = workflow.import_result(&city.operator(), outcome.import_id).await.unwrap();
    assert!(csv.contains("2,child,退会した利用者の児童"), "{csv}");
    assert_eq!(application_steps(db).await, ["submitted", "decided approved"]);
    assert_eq!(inbox(db, &stayed.parent, "programme.approval_notified").await.len(), 1);
    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    assert!(tx.external_application(&city.code, NURSERY, "N-1").await.unwrap().is_none());
}
