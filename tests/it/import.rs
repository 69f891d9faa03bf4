//! Files of other systems: all of a file or nothing, in every encoding, with every error named.

use std::time::Instant;

use jiff::civil::date;
use todoke_domain::Yen;
use todoke_store::Wall;
use todoke_tests::stores::TestStore;
use todoke_workflow::{WorkflowError, import::ImportKind};

use crate::{
    city::{City, NOW, PROGRAMME, after, neighbour, town},
    coupon_use::workflow,
    register::{MOVEMENT_HEADER, RELATION_HEADER, events_of, file, import, inbox, kana, move_people, movement},
};

todoke_tests::on_both_databases! {
    ten_thousand_rows_are_taken_at_once_in_either_encoding,
    one_wrong_row_leaves_nothing_behind,
    the_same_file_is_refused_unless_forced,
    a_child_follows_its_resident_out_and_back_in,
    files_of_two_months_may_come_in_either_order,
    relations_and_uses_are_kept_as_delivered,
    results_stay_behind_the_wall,
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
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let linked = todoke_store::child::Child { resident_no: Some("A1".to_owned()), ..city.child.clone() };
    tx.update_child(&linked).await.unwrap();
    tx.commit().await.unwrap();

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
