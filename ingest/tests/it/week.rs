//! A week of traffic from two municipalities by both doors, with late, repeated, forged and bad events, on two
//! nodes that die and compact: the lake holds what the generator made, each once, in the partition of its own
//! day, and what was not taken is counted under its reason.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, RecordBatch},
        compute::cast,
        datatypes::{DataType, Date32Type, Int64Type},
    },
    prelude::SessionContext,
};
use serde_json::{Value, json};
use todoke_domain::Timestamp;
use todoke_ingest::{
    LakeSink, RejectReason, SinkConfig, UsageLog, UsageLogConfig,
    cloud_event::{self, Mode, SourceContext},
    usage::{self, UsageContext},
};
use todoke_lake::{CompactOptions, Lake, LakeOptions, QUARANTINE, Scope};
use tokio_util::sync::CancellationToken;

use crate::support::*;

const DAYS: u64 = 7;
const HOURS: u64 = DAYS * 24;
/// By then everything that was made has arrived.
const HOURS_UNTIL_LAST: u64 = HOURS + 120;
const EVENTS_PER_HOUR: u64 = 40;
const CODES: [&str; 2] = [CHIYODA, "131032"];
const TABLES: [&str; 2] = ["app", "support"];
const NODES: [&str; 2] = ["a", "b"];

/// A sequence that looks random and is the same in every run (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn place(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }
}

fn hour(n: u64) -> Timestamp {
    at("2026-11-14T15:00:00Z").plus(Duration::from_secs(n * 3_600))
}

/// The n-th id, made at `at`.
fn id(n: u64, at: Timestamp) -> String {
    let ms = at.as_micros() / 1_000;
    format!("{:08x}-{:04x}-7000-8000-{n:012}", ms >> 16, ms & 0xffff)
}

/// An event as its sender has it.
#[derive(Clone, Copy)]
struct Made {
    n: u64,
    kind: usize,
    code: &'static str,
    at: Timestamp,
}

const KINDS: [&str; 4] = ["app.screen_viewed", "app.session_ended", "app.action_completed", "support.replied"];

impl Made {
    fn outside(self) -> bool {
        self.kind == 3
    }

    fn day(self) -> i32 {
        i32::try_from((self.at.as_seconds() + 9 * 3_600).div_euclid(86_400)).unwrap()
    }

    /// What is sent; another `amount` makes it another content under the same id.
    fn text(self, amount: u64) -> String {
        let (id, name, at) = (id(self.n, self.at), KINDS[self.kind], self.at.to_string());
        let event = match self.kind {
            0 => json!({"session_id": "s", "screen_id": "G01", "dwell_ms": amount}),
            1 => json!({"session_id": "s", "duration_ms": amount, "screens": 3, "end_reason": "logout"}),
            2 => json!({"session_id": "s", "action": "payment", "duration_ms": amount}),
            _ => {
                let data = json!({"inquiry_id": format!("q-{amount}"), "topic": "coupon", "channel": "phone",
                                  "closed_hours": false});
                return json!({"specversion": "1.0", "id": id, "source": "/call-centre", "type": name, "time": at,
                              "subject": "q", "data": data})
                .to_string();
            }
        };
        let envelope = json!({"event_id": id, "event_type": name, "occurred_at": at});
        let members = [envelope, event].into_iter().flat_map(|part| part.as_object().unwrap().clone());
        Value::Object(members.collect()).to_string()
    }
}

/// An event that no door takes, as it is sent, and why not.
fn bad(n: u64) -> (bool, String, RejectReason) {
    let event_at = |at: Timestamp, change: Value| {
        let mut event = json!({"event_id": id(1_000_000 + n, at), "event_type": "app.screen_viewed",
                               "occurred_at": at.to_string(), "session_id": "s", "screen_id": "G01"});
        event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        event.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        event.to_string()
    };
    let event = |change: Value| event_at(hour(n), change);
    let old = hour(n).minus(Duration::from_secs(36 * 86_400));
    let early = hour(n).plus(Duration::from_secs(26 * 3_600));
    match n % 12 {
        0 => (false, event_at(old, json!({})), RejectReason::TooOld),
        1 => (false, event_at(early, json!({})), RejectReason::InFuture),
        10 => (false, event(json!({"event_id": id(1_000_000 + n, old)})), RejectReason::IdInvalid),
        2 => (false, event(json!({"dwell_ms": "long"})), RejectReason::IllTyped),
        3 => (false, event(json!({"colour": "red"})), RejectReason::UnknownField),
        4 => (false, event(json!({"guardian_key": 5})), RejectReason::ForbiddenField),
        5 => (false, event(json!({"session_id": null})), RejectReason::MissingField),
        6 => (false, event(json!({"event_type": "app.no_such_thing"})), RejectReason::UnknownType),
        7 => (false, event(json!({"event_id": "x"})), RejectReason::IdInvalid),
        8 => (false, event(json!({"occurred_at": "yesterday"})), RejectReason::TimeInvalid),
        9 => (false, "{broken".to_owned(), RejectReason::NotJson),
        _ => {
            let forged = json!({"specversion": "1.0", "id": id(1_000_000 + n, hour(n)), "source": "/call-centre",
                                "type": "coupon.used", "time": hour(n).to_string(), "data": {}});
            (true, forged.to_string(), RejectReason::TypeNotAllowed)
        }
    }
}

/// What is sent in which hour to which node.
struct Arrival {
    due: u64,
    node: usize,
    code: &'static str,
    outside: bool,
    text: String,
}

/// Event type, municipality and day.
type Key = (String, String, i32);

/// The generator, and the truth about what it made.
struct Week {
    dice: Dice,
    n_made: u64,
    waiting: Vec<Arrival>,
    rows: BTreeMap<Key, i64>,
    refused: BTreeMap<&'static str, u64>,
    n_forged: u64,
}

impl Week {
    fn begin() -> Self {
        Self {
            dice: Dice(7),
            n_made: 0,
            waiting: Vec::new(),
            rows: BTreeMap::new(),
            refused: BTreeMap::new(),
            n_forged: 0,
        }
    }

    fn make(&mut self, n: u64) {
        for _ in 0..EVENTS_PER_HOUR {
            self.n_made += 1;
            let made = Made {
                n: self.n_made,
                kind: self.dice.place(KINDS.len()),
                code: CODES[self.dice.place(CODES.len())],
                at: hour(n).plus(Duration::from_micros(self.dice.below(3_600_000_000))),
            };
            *self.rows.entry((KINDS[made.kind].to_owned(), made.code.to_owned(), made.day())).or_default() += 1;
            // One in ten comes late, by hours or days.
            let late = if self.dice.below(10) == 0 { self.dice.below(60) } else { 0 };
            let node = self.dice.place(NODES.len());
            let due = n + late;
            self.send(made, due, node, made.n);
            match self.dice.below(16) {
                0 | 1 => {
                    let (later, node) = (self.dice.below(48), self.dice.place(NODES.len()));
                    self.send(made, due + later, node, made.n);
                }
                // The id once more for something else: while the node remembers it,
                2 => self.forge(made, due + 1, node),
                // and long after, when perhaps only the lake can tell.
                3 => {
                    let (later, node) = (12 + self.dice.below(48), self.dice.place(NODES.len()));
                    self.forge(made, due + later, node);
                }
                _ => {}
            }
        }
        let (outside, text, reason) = bad(n);
        let (node, code) = (self.dice.place(NODES.len()), CODES[self.dice.place(CODES.len())]);
        self.waiting.push(Arrival { due: n, node, code, outside, text });
        *self.refused.entry(reason.code()).or_default() += 1;
    }

    fn send(&mut self, made: Made, due: u64, node: usize, amount: u64) {
        let (code, outside, text) = (made.code, made.outside(), made.text(amount));
        self.waiting.push(Arrival { due, node, code, outside, text });
    }

    fn forge(&mut self, made: Made, due: u64, node: usize) {
        self.n_forged += 1;
        self.send(made, due, node, made.n + 1_000_000);
    }

    /// The batches of an hour, each for one node from one municipality by one door, in no order.
    fn due(&mut self, n: u64) -> BTreeMap<(usize, &'static str, bool), Vec<String>> {
        let (mut due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|arrival| arrival.due <= n);
        self.waiting = rest;
        for last in (1..due.len()).rev() {
            due.swap(last, self.dice.place(last + 1));
        }
        let mut batches: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for Arrival { node, code, outside, text, .. } in due {
            batches.entry((node, code, outside)).or_default().push(text);
        }
        batches
    }
}

/// The time of all nodes.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn set(&self, at: Timestamp) {
        self.0.store(at.as_micros(), Ordering::SeqCst);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

struct Node {
    lake: Arc<Lake>,
    log: UsageLog,
    sink: LakeSink,
}

impl Node {
    /// A node over the common lake with a log of its own; few ids are remembered, so that repetitions get through.
    async fn start(dir: &Path, name: &str, clock: &Clock) -> Self {
        let lake = Lake::open(&dir.join("lake"), LakeOptions { fsync: false, ..LakeOptions::default() }).await.unwrap();
        let config = UsageLogConfig { ids_max: 200, file_bytes_max: 4_096, ..UsageLogConfig::default() };
        let log = UsageLog::open(&dir.join(name), config).unwrap();
        // It commits when it is told to.
        let config = SinkConfig { node: name.to_owned(), flush_age_ms_max: 600_000, ..SinkConfig::default() };
        let clock = clock.clone();
        let sink = LakeSink::new(lake.clone(), Some(log.clone()), None, Arc::new(move || clock.now()), config);
        Self { lake, log, sink }
    }

    /// It dies with rows that queries saw and no commit has.
    async fn die(self) {
        let Self { lake, log, sink } = self;
        let stages = log.backlog_bytes() > 0;
        drop(log);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(sink.run(CancellationToken::new()));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut poll = tokio::time::interval(Duration::from_millis(1));
        while stages && lake.staged_rows() == 0 {
            assert!(tokio::time::Instant::now() < deadline, "nothing was staged");
            poll.tick().await;
        }
        tasks.shutdown().await;
    }

    /// A batch by its door, as a request brings it. Returns why events of it were not taken.
    async fn receive(&self, code: &str, outside: bool, texts: &[String], now: Timestamp) -> Vec<RejectReason> {
        let municipality_code = code.parse().unwrap();
        let (events, refused) = if outside {
            let source = SourceContext {
                municipality_code,
                role: "support_desk".to_owned(),
                actor_key: Some(5),
                allowed: vec!["support".to_owned()],
                sources: None,
                correlation_id: None,
                received_at: now,
            };
            let batch = format!("[{}]", texts.join(","));
            let parsed = cloud_event::parse(batch.as_bytes(), &Mode::Batched, &source).unwrap();
            (parsed.events, parsed.rejected)
        } else {
            let phone = UsageContext {
                municipality_code,
                role: "guardian".to_owned(),
                actor_key: Some(7),
                guardian_key: Some(7),
                source_channel: "web".to_owned(),
                agreed_since: None,
                correlation_id: None,
                received_at: now,
            };
            let parsed = usage::parse_lines(texts.join("\n").as_bytes(), &phone).unwrap();
            (parsed.events, parsed.rejected)
        };
        let receipt = self.log.append(events, now).await.unwrap();
        refused.iter().chain(&receipt.rejected).map(|refused| refused.reason).collect()
    }

    async fn compact(&self, now: Timestamp) {
        self.lake.view().refresh().await.unwrap();
        for table in TABLES {
            self.lake.compact(table, &CompactOptions::default(), now).await.unwrap();
        }
    }
}

async fn answer(lake: &Lake, table: &str, query: &str) -> Vec<RecordBatch> {
    let session = SessionContext::new();
    session.register_table(table, lake.view().snapshot().table_provider(table, &Scope::All).unwrap()).unwrap();
    session.sql(query).await.unwrap().collect().await.unwrap()
}

/// Rows by type, municipality and day, and how many ids they have.
async fn rows_by_day(lake: &Lake) -> (BTreeMap<Key, i64>, u64) {
    lake.view().refresh().await.unwrap();
    let (mut rows, mut n_ids) = (BTreeMap::new(), 0);
    for table in TABLES {
        let query = format!(
            "SELECT event_type, municipality_code, jst_date, count(*), count(DISTINCT event_id) FROM {table} \
             GROUP BY event_type, municipality_code, jst_date"
        );
        for batch in answer(lake, table, &query).await {
            let texts = |column: usize| cast(batch.column(column), &DataType::Utf8).unwrap();
            let count = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
            let (types, codes) = (texts(0), texts(1));
            for row in 0..batch.num_rows() {
                let text = |column: &ArrayRef| column.as_string::<i32>().value(row).to_owned();
                let day = batch.column(2).as_primitive::<Date32Type>().value(row);
                rows.insert((text(&types), text(&codes), day), count(3, row));
                n_ids += u64::try_from(count(4, row)).unwrap();
            }
        }
    }
    (rows, n_ids)
}

async fn reused_in_lake(lake: &Lake) -> u64 {
    let query = format!("SELECT count(*), count(DISTINCT event_id) FROM {QUARANTINE} WHERE fault = 'id_reused'");
    let found = answer(lake, QUARANTINE, &query).await;
    let count = |column: usize| found[0].column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!(count(0), count(1), "each of them once");
    u64::try_from(count(0)).unwrap()
}

/// Lets the week go by. Returns the nodes and what their doors refused, by reason.
async fn go_by(week: &mut Week, dir: &Path, clock: &Clock) -> ([Node; 2], BTreeMap<&'static str, u64>) {
    let mut nodes = [Node::start(dir, NODES[0], clock).await, Node::start(dir, NODES[1], clock).await];
    let mut refused: BTreeMap<&'static str, u64> = BTreeMap::new();
    for n in 0..HOURS_UNTIL_LAST {
        if n < HOURS {
            week.make(n);
        }
        let now = hour(n + 1);
        clock.set(now);
        for ((node, code, outside), texts) in week.due(n) {
            for reason in nodes[node].receive(code, outside, &texts, now).await {
                *refused.entry(reason.code()).or_default() += 1;
            }
        }
        if week.dice.below(12) == 0 {
            let [first, second] = nodes;
            nodes = if week.dice.below(2) == 0 {
                first.die().await;
                [Node::start(dir, NODES[0], clock).await, second]
            } else {
                second.die().await;
                [first, Node::start(dir, NODES[1], clock).await]
            };
        }
        let one = week.dice.place(NODES.len());
        for (at, node) in nodes.iter_mut().enumerate() {
            if at == one || n % 6 == 5 {
                node.sink.collect_and_flush().await.unwrap();
            }
        }
        // What arrives after the week is merged at the end.
        if n < HOURS && week.dice.below(12) == 0 {
            nodes[one].compact(now).await;
        }
    }
    assert!(week.waiting.is_empty(), "something is still on its way");
    for node in &mut nodes {
        node.sink.collect_and_flush().await.unwrap();
    }
    (nodes, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_week_with_late_and_repeated_events_equals_what_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let (mut week, clock) = (Week::begin(), Clock::default());
    clock.set(hour(0));
    let (nodes, mut refused) = go_by(&mut week, dir.path(), &clock).await;

    let (before, ids_before) = rows_by_day(&nodes[0].lake).await;
    assert_eq!(ids_before, week.n_made, "nothing is missing");
    assert!(
        before.values().sum::<i64>() > week.n_made as i64,
        "repetitions got through the doors, or nothing is shown"
    );
    nodes[0].compact(hour(HOURS_UNTIL_LAST)).await;
    let (rows, n_ids) = rows_by_day(&nodes[0].lake).await;
    assert_eq!(rows, week.rows);
    assert_eq!(n_ids, week.n_made);

    let reused_at_door = refused.remove(RejectReason::IdReused.code()).unwrap_or_default();
    let reused_in_lake = reused_in_lake(&nodes[0].lake).await;
    assert_eq!(reused_at_door + reused_in_lake, week.n_forged, "{reused_at_door} at the doors");
    assert!(reused_at_door > 0 && reused_in_lake > 0, "{reused_at_door} at the doors, {reused_in_lake} in the lake");
    assert_eq!(refused, week.refused);
}
