//! Forgetting people: nothing on the disk knows them any more, and everybody else is as before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use todoke_domain::Event;
use todoke_lake::{CompactOptions, Erasure, EventRows, Lake, Origin, QUARANTINE, Scope, search_keys};

use crate::support::*;

const FORGOTTEN: i64 = 1_234_567_890_123_456_789;
const STAND_IN: i64 = 8_765_432_109_876_543_210;
const OTHER: i64 = 4_444_444_444_444_444_444;

fn of(key: i64, mut event: Event) -> Event {
    event.actor_key = Some(key);
    event
}

fn suspended(n: u64, code: &str, key: i64) -> Event {
    let mut event = suspension(n, code);
    event.payload.insert("guardian_key".to_owned(), json!(key));
    event.actor_key = None;
    event.subject_kind = "account".to_owned();
    event.subject_id = key.to_string();
    event
}

fn forgotten() -> Erasure {
    Erasure {
        municipality: CHIYODA.parse().unwrap(),
        stand_ins: BTreeMap::from([(FORGOTTEN, STAND_IN)]),
        removed_from: BTreeSet::from(["app".to_owned()]),
    }
}

async fn one_number(lake: &Lake, sql: &str) -> i64 {
    number(&session(&lake.view().snapshot(), &Scope::All), sql).await
}

/// Rows of three people over several versions, compacted once, so that old versions lie beside the newest.
async fn filled(dir: &std::path::Path) -> std::sync::Arc<Lake> {
    let lake = open(dir).await;
    for n in 0..30_u64 {
        let key = [FORGOTTEN, OTHER, 5][usize::try_from(n % 3).unwrap()];
        let events =
            [of(key, view(3 * n + 1, CHIYODA)), suspended(3 * n + 2, CHIYODA, key), of(key, view(3 * n + 3, MINATO))];
        lake.append(Origin::new("record", i64::try_from(n).unwrap() + 1), &rows(&events), now()).await.unwrap();
    }
    lake.compact("app", &CompactOptions::default(), now()).await.unwrap();
    lake
}

#[tokio::test]
async fn one_person_leaves_every_file_and_everybody_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    let lake = filled(dir.path()).await;
    let keys = BTreeSet::from([FORGOTTEN]);
    assert!(!search_keys(dir.path(), &keys).unwrap().found.is_empty(), "the search can find");
    let erased = lake.erase(&forgotten(), now()).await.unwrap();
    assert_eq!((erased["app"].rows_removed, erased["app"].rows_unlinked), (10, 0));
    assert_eq!((erased["coupon"].rows_removed, erased["coupon"].rows_unlinked), (0, 10));
    assert!(erased["app"].files_deleted > erased["app"].files_replaced, "files of old versions go too: {erased:?}");

    let in_chiyoda = format!("municipality_code = '{CHIYODA}'");
    assert_eq!(one_number(&lake, &format!("SELECT count(*) FROM events_app WHERE {in_chiyoda}")).await, 20);
    assert_eq!(one_number(&lake, "SELECT count(*) FROM events_coupon").await, 30, "business stays, without the person");
    assert_eq!(one_number(&lake, "SELECT count(DISTINCT guardian_key) FROM events_coupon").await, 3);
    assert_eq!(
        one_number(&lake, &format!("SELECT count(*) FROM events_coupon WHERE subject_id = '{STAND_IN}'")).await,
        10,
        "a key as a subject's id is a key too"
    );
    assert_eq!(
        one_number(
            &lake,
            &format!("SELECT count(*) FROM events_app WHERE actor_key = {FORGOTTEN} AND NOT {in_chiyoda}")
        )
        .await,
        10,
        "the same number elsewhere is somebody else"
    );
    let searched = search_keys(&dir.path().join(format!("app/municipality_code={CHIYODA}")), &keys).unwrap();
    assert_eq!(searched.found, Vec::<String>::new());
    assert!(searched.rows >= 20);
    let searched = search_keys(&dir.path().join("coupon"), &keys).unwrap();
    assert_eq!(searched.found, Vec::<String>::new(), "nor does the log of the table");

    // It goes on: a second time finds nobody, appends and replays work, another process reads the same.
    assert_eq!(lake.erase(&forgotten(), now()).await.unwrap(), BTreeMap::new());
    drop(lake);
    let lake = open(dir.path()).await;
    assert_eq!(lake.append(Origin::new("record", 30), &rows(&[view(90, CHIYODA)]), now()).await.unwrap().rows, 0);
    lake.append(Origin::new("record", 31), &rows(&[of(OTHER, view(91, CHIYODA))]), now()).await.unwrap();
    assert_eq!(one_number(&lake, &format!("SELECT count(*) FROM events_app WHERE {in_chiyoda}")).await, 21);
}

#[tokio::test]
async fn what_a_cut_off_erasure_left_goes_with_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let lake = filled(dir.path()).await;
    let folder = dir.path().join(format!("app/municipality_code={CHIYODA}/jst_date=2026-11-21"));
    let some = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    // As after a crash between the commit and the deletion: a file that no version names.
    std::fs::copy(&some, folder.join("part-left-behind.parquet")).unwrap();
    lake.erase(&forgotten(), now()).await.unwrap();
    assert!(!folder.join("part-left-behind.parquet").exists());
    let searched = search_keys(&folder, &BTreeSet::from([FORGOTTEN])).unwrap();
    assert_eq!(searched.found, Vec::<String>::new());
}

/// What went to the quarantine with its content is no hiding place.
#[tokio::test]
async fn a_person_leaves_the_quarantine_as_the_table_its_rows_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let business = |key: i64| {
        let mut event = suspended(2, CHIYODA, key);
        event.subject_id = "2".to_owned();
        event
    };
    let first = [of(OTHER, view(1, CHIYODA)), business(OTHER)];
    lake.append(Origin::new("usage:a", 1), &rows(&first), now()).await.unwrap();
    // Who says the same under an id repeats it, whoever it is.
    let mut other = of(FORGOTTEN, view(1, CHIYODA));
    other.payload.insert("dwell_ms".to_owned(), 999.into());
    let later = [other, business(FORGOTTEN)];
    let later = EventRows::build(&later, at("2026-11-21T09:00:00Z")).unwrap();
    lake.append(Origin::new("usage:b", 1), &later, now()).await.unwrap();
    for table in ["app", "coupon"] {
        let done = lake.compact(table, &CompactOptions::default(), at("2026-11-22T03:00:00Z")).await.unwrap();
        assert_eq!(done.conflicts, 1, "{table}");
    }
    let named = format!("SELECT count(*) FROM events_quarantine WHERE content LIKE '%{FORGOTTEN}%'");
    assert_eq!(one_number(&lake, &named).await, 1, "the coupon's guardian");
    let erased = lake.erase(&forgotten(), now()).await.unwrap();
    assert_eq!((erased[QUARANTINE].rows_removed, erased[QUARANTINE].rows_unlinked), (1, 1));
    let left = format!("SELECT count(*) FROM events_quarantine WHERE content LIKE '%\"guardian_key\":{STAND_IN}%'");
    assert_eq!(one_number(&lake, &left).await, 1, "business stays, without the person");
    assert_eq!(one_number(&lake, "SELECT count(*) FROM events_quarantine").await, 1);
    let searched = search_keys(dir.path(), &BTreeSet::from([FORGOTTEN])).unwrap();
    assert_eq!(searched.found, Vec::<String>::new());
}
