//! Rows leave when their time is over: whole days, from all that queries see, and later from the disk.

use std::time::Duration;

use serde_json::json;
use todoke_domain::{Event, Timestamp};
use todoke_lake::{CompactOptions, Expired, Lake, LakeView, Origin, QUARANTINE, Retention, Scope};

use crate::support::*;

fn seen(n: u64, code: &str, day: &str) -> Event {
    let payload = json!({ "session_id": "s", "screen_id": "G01", "dwell_ms": n });
    event(n, "app.screen_viewed", code, at(&format!("{day}T03:00:00Z")), payload)
}

fn sent(n: u64, day: &str) -> Event {
    let payload = json!({ "message_id": "m", "channel": "mail", "attempt": 1, "latency_ms": 5 });
    event(n, "message.sent", CHIYODA, at(&format!("{day}T03:00:00Z")), payload)
}

async fn days(lake: &Lake, group: &str) -> Vec<String> {
    let days = lake.view().snapshot().days(group, &Scope::All);
    days.keys().map(ToString::to_string).collect()
}

/// Long ago, so that a vacuum by the clock of this machine finds that what left did so long ago.
fn long_ago() -> Timestamp {
    at("2020-05-01T03:00:00Z")
}

#[tokio::test]
async fn each_class_of_rows_leaves_when_its_own_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let history = [
        seen(1, CHIYODA, "2010-03-30"),
        seen(2, MINATO, "2010-03-31"),
        seen(3, CHIYODA, "2010-04-01"),
        seen(4, CHIYODA, "2020-04-30"),
        sent(5, "2019-03-31"),
        sent(6, "2019-04-01"),
        sent(7, "2020-04-30"),
    ];
    assert_eq!(lake.append(Origin::new("record", 1), &rows(&history), long_ago()).await.unwrap().rows, 7);
    let before = lake.view().snapshot();
    let reader = LakeView::open_readonly(dir.path()).await.unwrap();

    let retention = Retention::default();
    let app = lake.expire("app", &retention, long_ago()).await.unwrap();
    assert_eq!(app, Expired { files: 2, rows: 2 });
    assert_eq!(days(&lake, "app").await, ["2010-04-01", "2020-04-30"]);
    let deliveries = lake.expire("message", &retention, long_ago()).await.unwrap();
    assert_eq!(deliveries, Expired { files: 1, rows: 1 });
    assert_eq!(days(&lake, "message").await, ["2019-04-01", "2020-04-30"]);
    for group in ["app", "message", "coupon"] {
        let again = lake.expire(group, &retention, long_ago()).await.unwrap();
        assert_eq!(again, Expired::default(), "{group}: nothing more to do, and no commit for it");
    }
    assert_eq!(lake.stats().iter().find(|table| table.table == "app").unwrap().version, 2);

    // Who began before goes on; who looks again sees what is left, also another process.
    assert_eq!(number(&session(&before, &Scope::All), "SELECT count(session_id) FROM events_app").await, 4);
    assert!(reader.refresh().await.unwrap());
    let there = session(&reader.snapshot(), &one(CHIYODA));
    assert_eq!(number(&there, "SELECT count(session_id) FROM events_app").await, 2);
    // What left is no reason to take it again.
    assert_eq!(lake.append(Origin::new("record", 1), &rows(&history), long_ago()).await.unwrap().rows, 0);
    // The vacuum takes the files, not the commit.
    let folders = [(CHIYODA, "2010-03-30"), (MINATO, "2010-03-31")]
        .map(|(code, day)| dir.path().join(format!("app/municipality_code={code}/jst_date={day}")));
    let n_files = || folders.iter().map(|folder| std::fs::read_dir(folder).map_or(0, Iterator::count)).sum::<usize>();
    assert_eq!(n_files(), 2);
    for folder in &folders {
        let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        std::fs::File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
    }
    assert_eq!(lake.vacuum("app", Duration::from_secs(7_200)).await.unwrap(), 2);
    assert_eq!(n_files(), 0);
    drop(lake);
    let lake = open(dir.path()).await;
    assert_each_once(&lake, "app", 2).await;
    assert_each_once(&lake, "message", 2).await;
}

#[tokio::test]
async fn rows_that_are_staged_and_the_time_of_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.append(Origin::new("record", 1), &rows(&[seen(1, CHIYODA, "2009-01-01")]), long_ago()).await.unwrap();
    lake.stage(Origin::new("record", 2), &rows(&[seen(2, CHIYODA, "2020-04-30")])).await.unwrap();
    let longer = Retention { fiscal_years: 12, ..Retention::default() };
    assert_eq!(lake.expire("app", &longer, long_ago()).await.unwrap(), Expired::default());
    assert_eq!(lake.expire("app", &Retention::default(), long_ago()).await.unwrap(), Expired { files: 1, rows: 1 });
    assert_each_once(&lake, "app", 1).await;
    assert_eq!(lake.flush(long_ago()).await.unwrap().rows, 1);
    assert_each_once(&lake, "app", 1).await;
}

/// An event of a type that the catalogue does not have.
fn unheard_of(n: u64, group: &str, code: &str, day: &str) -> Event {
    event(n, &format!("{group}.unheard_of"), code, at(&format!("{day}T03:00:00Z")), json!({}))
}

fn version(lake: &Lake) -> u64 {
    lake.stats().iter().find(|table| table.table == QUARANTINE).unwrap().version
}

/// Rows of the quarantine about deliveries, and others.
async fn left(lake: &Lake) -> (i64, i64) {
    let session = session(&lake.view().snapshot(), &Scope::All);
    let deliveries = "SELECT count(*) FROM events_quarantine WHERE event_type = 'message.unheard_of'";
    let others = "SELECT count(*) FROM events_quarantine WHERE event_type <> 'message.unheard_of'";
    (number(&session, deliveries).await, number(&session, others).await)
}

#[tokio::test]
async fn details_of_deliveries_leave_the_quarantine_in_their_own_time() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let history = [
        unheard_of(1, "app", CHIYODA, "2010-03-30"),
        unheard_of(2, "message", CHIYODA, "2010-03-30"),
        // By its bounds this file may hold deliveries.
        unheard_of(3, "app", CHIYODA, "2019-03-30"),
        unheard_of(4, "survey", CHIYODA, "2019-03-30"),
        unheard_of(5, "app", CHIYODA, "2019-03-31"),
        unheard_of(6, "message", CHIYODA, "2019-03-31"),
        unheard_of(7, "survey", CHIYODA, "2019-03-31"),
        unheard_of(8, "message", MINATO, "2019-03-31"),
        unheard_of(9, "message", CHIYODA, "2019-04-01"),
    ];
    lake.append(Origin::new("record", 1), &rows(&history), long_ago()).await.unwrap();
    let retention = Retention::default();
    let before = version(&lake);
    let expired = lake.expire(QUARANTINE, &retention, long_ago()).await.unwrap();
    assert_eq!(expired, Expired { files: 3, rows: 4 });
    assert_eq!(left(&lake).await, (1, 4));
    assert_eq!(version(&lake), before + 1, "in one commit");
    assert_eq!(lake.expire(QUARANTINE, &retention, long_ago()).await.unwrap(), Expired::default());
    drop(lake);

    let lake = open(dir.path()).await;
    lake.compact(QUARANTINE, &CompactOptions::default(), long_ago()).await.unwrap();
    let version_now = version(&lake);
    assert_eq!(lake.expire(QUARANTINE, &retention, long_ago()).await.unwrap(), Expired::default());
    assert_eq!((left(&lake).await, version(&lake)), ((1, 4), version_now));
    let a_day_later = at("2020-05-02T03:00:00Z");
    assert_eq!(lake.expire(QUARANTINE, &retention, a_day_later).await.unwrap(), Expired { files: 1, rows: 1 });
    assert_eq!(left(&lake).await, (0, 4));
}
