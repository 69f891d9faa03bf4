//! The same event from two logs, or long after its id was forgotten: compaction leaves it once.

use datafusion::arrow::array::AsArray;
use todoke_domain::Event;
use todoke_lake::{CompactOptions, Origin, QUARANTINE, Scope};

use crate::support::*;

fn views(range: std::ops::RangeInclusive<u64>) -> Vec<Event> {
    range.map(|n| view(n, CHIYODA)).collect()
}

fn tomorrow() -> todoke_domain::Timestamp {
    at("2026-11-22T03:00:00Z")
}

#[tokio::test]
async fn a_repetition_is_left_out_and_the_first_to_arrive_stays() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.append(Origin::new("usage:a", 1), &rows(&views(1..=20)), now()).await.unwrap();
    // Another node takes the same batch, with events of its own, hours later and by another request.
    let again: Vec<Event> = views(11..=30)
        .into_iter()
        .map(|event| Event { recorded_at: now(), correlation_id: Some("another request".to_owned()), ..event })
        .collect();
    let later = todoke_lake::EventRows::build(&again, at("2026-11-21T09:00:00Z")).unwrap();
    lake.append(Origin::new("usage:b", 1), &later, now()).await.unwrap();
    assert_eq!(count(&lake, "app").await, 40);
    let done = lake.compact("app", &CompactOptions::default(), tomorrow()).await.unwrap();
    assert_eq!((done.files_before, done.repetitions, done.conflicts), (2, 10, 0));
    assert_each_once(&lake, "app", 30).await;
    let session = session(&lake.view().snapshot(), &Scope::All);
    let first = "SELECT count(*) FROM events_app WHERE correlation_id IS NULL";
    assert_eq!(number(&session, first).await, 20);
    assert_eq!(count(&lake, QUARANTINE).await, 0);
    // Replays of what was left out add nothing: the table still knows both applications.
    assert_eq!(lake.append(Origin::new("usage:b", 1), &later, now()).await.unwrap().rows, 0);
}

#[tokio::test]
async fn the_same_id_with_other_content_goes_to_the_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.append(Origin::new("usage:a", 1), &rows(&views(1..=3)), now()).await.unwrap();
    let mut forged = view(2, CHIYODA);
    forged.payload.insert("dwell_ms".to_owned(), 999.into());
    let later = todoke_lake::EventRows::build(&[forged], at("2026-11-21T09:00:00Z")).unwrap();
    lake.append(Origin::new("usage:b", 1), &later, now()).await.unwrap();
    let done = lake.compact("app", &CompactOptions::default(), tomorrow()).await.unwrap();
    assert_eq!((done.repetitions, done.conflicts), (0, 1));
    assert_each_once(&lake, "app", 3).await;
    let session = session(&lake.view().snapshot(), &one(CHIYODA));
    assert_eq!(number(&session, "SELECT dwell_ms FROM events_app WHERE subject_id = '2'").await, 2);
    let found = query(&session, "SELECT event_id, fault, field FROM events_quarantine").await;
    let cell = |column: usize| found[0].column(column).as_string_view().value(0).to_owned();
    assert_eq!((cell(0), cell(1)), (view(2, CHIYODA).event_id.to_string(), "id_reused".to_owned()));
}
