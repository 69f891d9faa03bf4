//! The same event from two logs, or long after its id was forgotten: compaction leaves it once.

use datafusion::arrow::{array::AsArray, compute::cast, datatypes::DataType};
use serde_json::json;
use todoke_domain::Event;
use todoke_lake::{CompactOptions, EventRows, Lake, Origin, QUARANTINE, Scope};

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
    // Another node takes the same batch, with events of its own, hours later, by another request and with another key.
    let again: Vec<Event> = views(11..=30)
        .into_iter()
        .map(|event| Event {
            recorded_at: now(),
            correlation_id: Some("another request".to_owned()),
            actor_key: Some(8),
            ..event
        })
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
    let found = query(&session, "SELECT event_id, fault, field, content FROM events_quarantine").await;
    let cell = |column: usize| found[0].column(column).as_string_view().value(0).to_owned();
    assert_eq!((cell(0), cell(1)), (view(2, CHIYODA).event_id.to_string(), "id_reused".to_owned()));
    // It was acknowledged, and its file goes with vacuum: what it said is here.
    let content: serde_json::Value = serde_json::from_str(&cell(3)).unwrap();
    assert_eq!(content, json!({ "session_id": format!("s-{CHIYODA}"), "screen_id": "G01", "dwell_ms": 999 }));
}

/// A screen view at another time than [`view`]'s.
fn viewed(n: u64, code: &str, occurred_at: &str) -> Event {
    event(n, "app.screen_viewed", code, at(occurred_at), json!({ "session_id": "s", "screen_id": "G02" }))
}

fn arrived(events: &[Event], arrived_at: &str) -> EventRows {
    EventRows::build(events, at(arrived_at)).unwrap()
}

async fn days_of(lake: &Lake, n: u64) -> Vec<String> {
    let id = view(n, CHIYODA).event_id;
    let query_text = format!(
        "SELECT CAST(jst_date AS VARCHAR) FROM events_app WHERE event_id = '{id}' AND municipality_code = '{CHIYODA}'"
    );
    let session = session(&lake.view().snapshot(), &Scope::All);
    let mut days = Vec::new();
    for batch in query(&session, &query_text).await {
        let texts = cast(batch.column(0), &DataType::Utf8).unwrap();
        days.extend(texts.as_string::<i32>().iter().map(|day| day.unwrap().to_owned()));
    }
    days
}

#[tokio::test]
async fn an_id_used_again_on_another_day_goes_to_the_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.append(Origin::new("usage:a", 1), &arrived(&views(1..=3), "2026-11-21T03:00:00Z"), now()).await.unwrap();
    lake.compact("app", &CompactOptions::default(), tomorrow()).await.unwrap();
    // The day is merged; weeks later the id comes once more, for something that happened on another day.
    let (later, much_later) = ("2026-11-22T01:00:00Z", "2026-12-20T01:00:00Z");
    let again = [viewed(2, CHIYODA, later), viewed(3, CHIYODA, much_later), viewed(4, CHIYODA, later)];
    lake.append(Origin::new("usage:b", 1), &arrived(&again, "2026-12-20T02:00:00Z"), now()).await.unwrap();
    assert_eq!(count(&lake, "app").await, 6);
    let done = lake.compact("app", &CompactOptions::default(), at("2026-12-22T03:00:00Z")).await.unwrap();
    // Of the day that had nothing else no file is left.
    assert_eq!((done.files_before, done.files_after, done.repetitions, done.conflicts), (2, 1, 0, 2));
    assert_each_once(&lake, "app", 4).await;
    assert_eq!(count(&lake, QUARANTINE).await, 2);
    for (n, day) in [(2, "2026-11-21"), (3, "2026-11-21"), (4, "2026-11-22")] {
        assert_eq!(days_of(&lake, n).await, [day], "{n}");
    }
    assert_eq!(
        lake.compact("app", &CompactOptions::default(), at("2026-12-22T04:00:00Z")).await.unwrap().partitions,
        0
    );
}

#[tokio::test]
async fn of_two_days_that_are_both_new_the_earlier_arrival_keeps_the_id() {
    for (first, second) in
        [("2026-11-22T01:00:00Z", "2026-11-23T01:00:00Z"), ("2026-11-23T01:00:00Z", "2026-11-22T01:00:00Z")]
    {
        let dir = tempfile::tempdir().unwrap();
        let lake = open(dir.path()).await;
        let rows = arrived(&[viewed(1, CHIYODA, first), viewed(1, MINATO, first)], "2026-11-24T01:00:00Z");
        lake.append(Origin::new("usage:a", 1), &rows, now()).await.unwrap();
        let rows = arrived(&[viewed(1, CHIYODA, second)], "2026-11-24T02:00:00Z");
        lake.append(Origin::new("usage:b", 1), &rows, now()).await.unwrap();
        let done = lake.compact("app", &CompactOptions::default(), at("2026-11-25T03:00:00Z")).await.unwrap();
        assert_eq!((done.repetitions, done.conflicts), (0, 1), "{first}");
        assert_eq!(days_of(&lake, 1).await, [first[..10].to_owned()]);
        // Ids of another municipality are its own.
        assert_eq!(count(&lake, "app").await, 2);
    }
}

#[tokio::test]
async fn a_repetition_of_an_event_in_a_large_file_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let options = CompactOptions { small_file_rows_max: 10, output_rows_max: 25, ..CompactOptions::default() };
    lake.append(Origin::new("usage:a", 1), &rows(&views(1..=20)), now()).await.unwrap();
    lake.append(Origin::new("usage:a", 2), &rows(&views(21..=40)), now()).await.unwrap();
    // Too large to be merged with another; each is looked at once all the same.
    let done = lake.compact("app", &options, tomorrow()).await.unwrap();
    assert_eq!((done.files_before, done.files_after, done.repetitions), (2, 2, 0));
    lake.append(Origin::new("usage:b", 1), &rows(&views(15..=45)), now()).await.unwrap();
    let done = lake.compact("app", &options, tomorrow()).await.unwrap();
    assert_eq!((done.files_before, done.files_after, done.repetitions, done.conflicts), (1, 1, 26, 0));
    assert_each_once(&lake, "app", 45).await;
    assert_eq!(lake.compact("app", &options, tomorrow()).await.unwrap().partitions, 0);
}

#[tokio::test]
async fn files_far_away_are_asked_up_to_a_limit_and_neighbours_always() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    for (n, day) in [(1, "2026-11-01"), (2, "2026-11-19"), (3, "2026-11-20")] {
        let rows = arrived(&[viewed(n, CHIYODA, &format!("{day}T01:00:00Z"))], "2026-11-20T02:00:00Z");
        lake.append(Origin::new("usage:a", i64::try_from(n).unwrap()), &rows, now()).await.unwrap();
    }
    lake.compact("app", &CompactOptions::default(), tomorrow()).await.unwrap();
    let again: Vec<Event> = (1..=3).map(|n| viewed(n, CHIYODA, "2026-11-21T01:00:00Z")).collect();
    let rows = arrived(&again, "2026-11-21T02:00:00Z");
    lake.append(Origin::new("usage:b", 1), &rows, now()).await.unwrap();
    let options = CompactOptions { compared_rows_max: 2, ..CompactOptions::default() };
    let done = lake.compact("app", &options, tomorrow()).await.unwrap();
    assert_eq!((done.conflicts, done.files_not_asked), (2, 1));
    assert_eq!(days_of(&lake, 1).await.len(), 2, "it was not asked for");
}
