//! R05 over a year of app usage: time per report, and a lake for `duckdb_peer.py` to be timed on.
//!
//! `./bench reports` makes a lake of 5 million events in
//! `$TODOKE_BENCH_DIR` (a temporary folder without it; one that exists is used again) and prints
//! the least and the median time of each variant, from events and from days that are kept; before that, how long
//! it takes to make all days and to read them after a restart.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{
    ToSpan,
    civil::{Date, date},
};
use serde_json::{Map, Value, json};
use todoke_analytics::{
    ClaimsOf, Dimension, Engine, EngineConfig, LakeSource, ReportId, ReportRequest, RollupConfig, RowsKind, format,
};
use todoke_domain::{Event, Timestamp, ids::EventId};
use todoke_lake::{EventRows, Lake, LakeOptions};

const MUNICIPALITY: &str = "271004";
const FIRST: Date = date(2025, 4, 1);
const LAST: Date = date(2026, 3, 31);
const N_PEOPLE: u64 = 20_000;
/// Events of a session on average: start, end nine times in ten, six views, an error now and then.
const EVENTS_PER_SESSION: u64 = 8;
const RUNS: usize = 7;

fn main() {
    let n_events: u64 = std::env::var("TODOKE_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000_000);
    let kept = std::env::var_os("TODOKE_BENCH_DIR").map(PathBuf::from);
    let temporary = tempfile::TempDir::new().expect("a temporary folder");
    let dir = kept.unwrap_or_else(|| temporary.path().to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if !dir.join("lake").is_dir() {
            let start = Instant::now();
            make(&dir.join("lake"), n_events).await;
            println!("made {n_events} events in {:.1?} at {}", start.elapsed(), dir.display());
        }
        measure(&dir).await;
    });
}

async fn measure(dir: &Path) {
    let lake = Lake::open(&dir.join("lake"), LakeOptions::default()).await.expect("the lake");
    let by_events = Engine::new(Arc::new(LakeSource::new(lake.view())), EngineConfig::default()).expect("an engine");
    let folder = tempfile::TempDir::new_in(dir).expect("a folder for days");
    // A new engine knows only what is on disk.
    let by_days = || {
        let rollups = Some(RollupConfig { dir: folder.path().to_owned(), bytes_max: 256 << 20 });
        Engine::new(Arc::new(LakeSource::new(lake.view())), EngineConfig { rollups, ..EngineConfig::default() })
            .expect("an engine")
    };
    let (made, _) = timed(&by_days(), &request("")).await;
    println!("R05, first report ever, days made from events: {} ms; {}", made.as_millis(), size(folder.path()));
    let warm = by_days();
    let (read, _) = timed(&warm, &request("")).await;
    println!("R05, first report after a restart, days read from disk: {} ms", read.as_millis());
    for by in ["", "day", "month,platform"] {
        let request = request(by);
        let (counted, events_ms) = several(&by_events, &request, "events", by).await;
        let (told, days_ms) = several(&warm, &request, "days", by).await;
        let same = if counted == told { "same figures" } else { "FIGURES DIFFER" };
        println!("R05 by [{by}]: from days {:.1} times as fast, {same}", events_ms / days_ms);
        let name = format!("figures_{}.json", if by.is_empty() { "total" } else { by });
        std::fs::write(dir.join(name), serde_json::to_vec(&told).expect("JSON")).expect("the figures");
    }
}

fn request(by: &str) -> ReportRequest {
    ReportRequest {
        report: ReportId::AppUsage,
        municipality: MUNICIPALITY.parse().expect("a code"),
        from: FIRST,
        to: LAST,
        by: Dimension::parse_list(by).expect("dimensions"),
        rows: RowsKind::Figures,
        survey_id: None,
        coupon_set_id: None,
        claims: ClaimsOf::Municipality,
        created_at: Timestamp::jst_midnight(LAST),
    }
}

async fn timed(engine: &Engine, request: &ReportRequest) -> (Duration, Value) {
    let start = Instant::now();
    let table = engine.report(request).await.expect("a report");
    (start.elapsed(), format::report_json(&table))
}

/// The figures, and the median time in milliseconds.
async fn several(engine: &Engine, request: &ReportRequest, from: &str, by: &str) -> (Value, f64) {
    let mut times = Vec::with_capacity(RUNS);
    let mut figures = Value::Null;
    for _ in 0..RUNS {
        let (time, made) = timed(engine, request).await;
        times.push(time);
        figures = made;
    }
    times.sort();
    let (least, median) = (times[0], times[RUNS / 2]);
    println!("R05 by [{by}] from {from}: least {} ms, median {} ms of {RUNS}", least.as_millis(), median.as_millis());
    (figures, median.as_secs_f64() * 1_000.0)
}

fn size(folder: &Path) -> String {
    let days = std::fs::read_dir(folder.join(MUNICIPALITY)).expect("a folder of days");
    let sizes: Vec<u64> = days.map(|day| day.and_then(|day| day.metadata()).expect("a file").len()).collect();
    format!("{} files, {} KiB", sizes.len(), sizes.iter().sum::<u64>() / 1_024)
}

/// The same numbers every time.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

async fn make(dir: &Path, n_events: u64) {
    let options = LakeOptions { fsync: false, ..LakeOptions::default() };
    let lake = Lake::open(dir, options).await.expect("a lake");
    let days: Vec<Date> = FIRST.series(1.day()).take_while(|day| *day <= LAST).collect();
    let n_sessions = n_events / EVENTS_PER_SESSION / days.len() as u64;
    let mut seed = Seed(42);
    for (at, day) in days.iter().enumerate() {
        let mut events = Vec::new();
        for n in 0..n_sessions {
            session(&mut events, &mut seed, *day, at as u64 * n_sessions + n);
        }
        let now = Timestamp::jst_midnight(*day).plus(Duration::from_secs(86_400));
        let rows = EventRows::build(&events, now).expect("rows");
        assert!(rows.rejected().is_empty(), "{:?}", rows.rejected().first());
        lake.append_bulk(&rows, now).await.expect("a commit");
    }
}

fn session(events: &mut Vec<Event>, seed: &mut Seed, day: Date, number: u64) {
    let (a, b) = (seed.below(N_PEOPLE), seed.below(N_PEOPLE));
    let person = a.min(b);
    let id = format!(
        "{:08x}-{:04x}-7{:03x}-8{:03x}-{number:012x}",
        seed.below(1 << 32),
        seed.below(1 << 16),
        seed.below(1 << 12),
        seed.below(1 << 12)
    );
    let start = Timestamp::jst_midnight(day).plus(Duration::from_secs(6 * 3_600 + seed.below(17 * 3_600)));
    let length = Duration::from_millis(5_000 + seed.below(600_000));
    let known = seed.below(20) > 0;
    let role = if person.is_multiple_of(10) { "proxy_guardian" } else { "guardian" };
    let mut add = |event_type: &str, at: Timestamp, payload: Value| events.push(event(event_type, at, role, payload));
    add(
        "app.session_started",
        start,
        json!({
            "session_id": id, "guardian_key": if known { json!(key(person)) } else { Value::Null }, "device_key": key(person + N_PEOPLE),
            "platform": (["ios", "android", "web"][person as usize % 3]), "os_version": "18",
            "app_version": (if day.month() < 9 { "1.1.0" } else { "1.0.0" }), "entry": "icon",
        }),
    );
    for _ in 0..=seed.below(11) {
        let at = start.plus(length.mul_f64(seed.below(1_000) as f64 / 1_000.0));
        let screen = ["GA01", "GA02", "GA05", "GA08", "GA12"][seed.below(5) as usize];
        add(
            "app.screen_viewed",
            at,
            json!({"session_id": id, "screen_id": screen, "previous_screen_id": null, "dwell_ms": seed.below(60_000)}),
        );
    }
    if seed.below(50) == 0 {
        let fatal = seed.below(5) == 0;
        add(
            "app.error_occurred",
            start,
            json!({"session_id": id, "screen_id": "GA02", "error_kind": "network", "code": null, "fatal": fatal}),
        );
    }
    if seed.below(10) > 0 {
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        add(
            "app.session_ended",
            start.plus(length),
            json!({
                "session_id": id, "duration_ms": millis, "screens": 6, "end_reason": "background_30min",
            }),
        );
    }
}

/// A number that looks like a key: large and without order.
fn key(n: u64) -> i64 {
    i64::try_from((n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1).unwrap_or(i64::MAX)
}

fn event(event_type: &str, at: Timestamp, role: &str, payload: Value) -> Event {
    Event {
        event_id: EventId::new(at),
        event_type: event_type.to_owned(),
        schema_version: 1,
        occurred_at: at,
        recorded_at: at,
        municipality_code: MUNICIPALITY.parse().expect("a code"),
        actor_role: role.to_owned(),
        actor_key: None,
        source_channel: "app".to_owned(),
        subject_kind: "session".to_owned(),
        subject_id: String::new(),
        subject_seq: 0,
        correlation_id: None,
        causation_id: None,
        recorded_offline: false,
        programme_code: None,
        facility_id: None,
        payload: match payload {
            Value::Object(payload) => payload,
            _ => Map::new(),
        },
    }
}
