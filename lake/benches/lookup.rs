//! Bloom filters: what looking up one event costs without and with them, and what they cost in the files.
//!
//! `./bench lookup` makes two lakes of 60 days with 50,000 usage events each, one with
//! filters for `event_id` and `subject_id`, and asks both for one event and for one session, again and again, and
//! for sessions that there are none of.

mod usage;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use datafusion::prelude::{SessionConfig, SessionContext};
use jiff::civil::{Date, date};
use todoke_domain::{Event, Timestamp, time::add_days};
use todoke_lake::{EventRows, Lake, LakeOptions, Scope};

use usage::screen_viewed;

const FIRST_DAY: Date = date(2026, 9, 1);
const DAYS: u64 = 60;
const DAY_ROWS: u64 = 50_000;
const LOOKUPS: u64 = 40;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for bloom_columns in [vec![], vec!["event_id".to_owned(), "subject_id".to_owned()]] {
            let dir = tempfile::TempDir::new().expect("a temporary folder");
            println!(
                "bloom filters: {}",
                if bloom_columns.is_empty() { "none".to_owned() } else { bloom_columns.join(", ") }
            );
            let options = LakeOptions { fsync: false, bloom_columns, ..LakeOptions::default() };
            measure(dir.path(), options).await;
        }
    });
}

async fn measure(dir: &Path, options: LakeOptions) {
    let lake = Lake::open(dir, options).await.expect("a lake");
    let mut ids = Vec::new();
    let begun = Instant::now();
    for day in 0..DAYS {
        let events: Vec<Event> = (0..DAY_ROWS).map(|n| event(day, n)).collect();
        ids.push(events[usize::try_from(DAY_ROWS / 2).expect("a small number")].event_id.to_string());
        let rows = EventRows::build(&events, at(day, 0)).expect("rows");
        assert!(rows.rejected().is_empty(), "{:?}", rows.rejected().first());
        lake.append_bulk(&rows, at(day, 0)).await.expect("a commit");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let app = lake.stats().into_iter().find(|table| table.table == "app").expect("the table of usage");
    println!("  written in {seconds:.1} s: {} rows, {:.2} bytes per row", app.rows, app.bytes as f64 / app.rows as f64);
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let table = lake.view().snapshot().table_provider("app", &Scope::All).expect("the table");
    session.register_table("app", table).expect("a new name");
    let event = |n: u64| format!("event_id = '{}'", ids[usize::try_from(n * 7 % DAYS).expect("a small number")]);
    let one_session = |n: u64| format!("subject_id = '{}'", subject(n * 7 % DAYS, n * 97));
    let nobody = |n: u64| format!("subject_id = '{}'", subject(DAYS + n, n));
    lookups("one event by its id", &session, event, 1).await;
    lookups("one session", &session, one_session, 10).await;
    lookups("a session there is not", &session, nobody, 0).await;
}

async fn lookups(what: &str, session: &SessionContext, filter: impl Fn(u64) -> String, expected: usize) {
    let mut times = Vec::new();
    for n in 0..LOOKUPS {
        let begun = Instant::now();
        let query = format!("SELECT * FROM app WHERE {}", filter(n));
        let found = session.sql(&query).await.expect("a query").collect().await.expect("an answer");
        times.push(begun.elapsed());
        let n_rows: usize = found.iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(n_rows, expected, "{query}");
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    println!(
        "  {what}: {:.1} ms in the middle, {:.1} ms at most",
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1])
    );
}

fn at(day: u64, n: u64) -> Timestamp {
    let day = add_days(FIRST_DAY, i32::try_from(day).expect("a small number"));
    Timestamp::jst_midnight(day).plus(Duration::from_micros(n * 86_000_000_000 / DAY_ROWS))
}

/// The session of an event: spread over all texts, as random ids are, and ten events long.
fn subject(day: u64, n: u64) -> String {
    format!("{:016x}", (day * DAY_ROWS + n / 10 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The `n`th event of a day: a screen somebody saw.
fn event(day: u64, n: u64) -> Event {
    screen_viewed(at(day, n), subject(day, n), "GD03", 500 + n % 60_000)
}
