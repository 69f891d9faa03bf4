//! Nothing personal enters: marked data in every field of every event type, by every way in from
//! outside, and from the record where its own check failed to see them; none of it in the log or in any
//! column of the lake.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use datafusion::{arrow::util::pretty::pretty_format_batches, prelude::SessionContext};
use serde_json::{Map, Value, json};
use todoke_domain::{
    Event,
    catalogue::events::{self, EventType, Field, FieldType, LakeUse},
};
use todoke_ingest::{
    EncodedEvents, FeedError, LakeBatch, LakeSink, RecordFeed, SinkConfig, UsageLog, UsageLogConfig,
    cloud_event::{self, Mode, SourceContext},
    usage::{self, UsageContext},
};
use todoke_lake::{Lake, LakeOptions, QUARANTINE, Scope};

use crate::support::*;

/// Names, addresses and numbers of persons; the last four are written with nothing but characters of codes.
const MARKS: [&str; 7] = [
    "佐藤しるし花子",
    "shirushi@example.jp",
    "しるし町1-2-3",
    "Sato Shirushi",
    "090-7319-4682",
    "0373194682",
    "731946820517",
];

/// A value that fits the type.
fn sample(ty: &FieldType) -> Value {
    match ty {
        FieldType::Bool => json!(true),
        FieldType::F64 => json!(1.5),
        FieldType::Date => json!("2026-11-21"),
        FieldType::Str | FieldType::Id | FieldType::Text => json!("code"),
        FieldType::List(item) => json!([sample(item)]),
        FieldType::Struct(parts) => parts.iter().map(|part| (part.name.clone(), sample(&part.ty))).collect(),
        _ => json!(7),
    }
}

/// The same with a mark wherever text can be.
fn marked(ty: &FieldType, mark: &str) -> Value {
    match ty {
        FieldType::List(item) => json!([marked(item, mark)]),
        FieldType::Struct(parts) => parts.iter().map(|part| (part.name.clone(), marked(&part.ty, mark))).collect(),
        _ => json!(mark),
    }
}

/// A payload of a type that is in order.
fn in_order(event_type: &EventType) -> Map<String, Value> {
    let lake = |field: &&Field| field.lake == LakeUse::Yes && field.null_with.is_none();
    let value = |field: &Field| field.codes.first().map_or_else(|| sample(&field.ty), |code| json!(code));
    event_type.fields.iter().filter(lake).map(|field| (field.name.clone(), value(field))).collect()
}

/// Payloads of a type: in order, then with marks in each field alone, in a field it does not have, and in all.
fn payloads(event_type: &EventType) -> Vec<Map<String, Value>> {
    let good = in_order(event_type);
    let mut all = vec![good.clone()];
    for mark in MARKS {
        let mut everywhere = good.clone();
        for field in &event_type.fields {
            let mut one = good.clone();
            one.insert(field.name.clone(), marked(&field.ty, mark));
            all.push(one);
            everywhere.insert(field.name.clone(), marked(&field.ty, mark));
        }
        all.push(everywhere);
        all.push(good.clone().into_iter().chain([("memo".to_owned(), json!(mark))]).collect());
    }
    all
}

/// Made at [`now`].
fn id(n: usize) -> String {
    format!("01a1fc0b-e380-7000-8000-{n:012}")
}

/// A system that may send everything.
fn source() -> SourceContext {
    SourceContext {
        municipality_code: CHIYODA.parse().unwrap(),
        role: "operator".to_owned(),
        actor_key: Some(5),
        allowed: events::groups().iter().map(|group| group.name().to_owned()).collect(),
        sources: None,
        correlation_id: None,
        received_at: now(),
    }
}

fn phone() -> UsageContext {
    UsageContext {
        municipality_code: CHIYODA.parse().unwrap(),
        role: "guardian".to_owned(),
        actor_key: Some(5),
        guardian_key: Some(5),
        source_channel: "web".to_owned(),
        agreed_since: None,
        correlation_id: None,
        received_at: now(),
    }
}

/// Every payload of every type through both doors. Returns what came through and how much was refused.
fn through_the_doors() -> (Vec<EncodedEvents>, usize) {
    let (source, phone) = (source(), phone());
    let (mut accepted, mut n_refused, mut n) = (Vec::new(), 0, 0);
    for event_type in events::all() {
        for payload in payloads(event_type) {
            n += 1;
            let event = json!({
                "specversion": "1.0", "id": id(n), "source": "/test", "type": event_type.name, "time": now().to_string(),
                "subject": "s", "facilityid": "f-1", "programmecode": "p-1", "data": payload,
            });
            let parsed = cloud_event::parse(event.to_string().as_bytes(), &Mode::Structured, &source).unwrap();
            n_refused += parsed.rejected.len();
            accepted.push(parsed.events);
            if event_type.group != "app" {
                continue;
            }
            let mut line = payload;
            line.retain(|name, value| !name.ends_with("_key") || MARKS.iter().any(|mark| value == mark));
            n += 1;
            line.insert("event_id".to_owned(), json!(id(n)));
            line.insert("event_type".to_owned(), json!(event_type.name));
            line.insert("occurred_at".to_owned(), json!(now().to_string()));
            line.insert("facility_id".to_owned(), json!("f-1"));
            let lines = format!("{{\"device_key\":9}}\n{}", Value::Object(line));
            let parsed = usage::parse_lines(lines.as_bytes(), &phone).unwrap();
            n_refused += parsed.rejected.len();
            accepted.push(parsed.events);
        }
    }
    (accepted, n_refused)
}

#[test]
fn marked_personal_data_around_the_fields_are_refused_at_both_doors() {
    let event_type = events::get("support.replied").unwrap();
    let event = json!({
        "specversion": "1.0", "id": "a-1", "source": "/test", "type": event_type.name, "time": now().to_string(),
        "data": in_order(event_type),
    });
    let view = events::get("app.screen_viewed").unwrap();
    let mut line = in_order(view);
    line.insert("event_id".to_owned(), json!(id(1)));
    line.insert("event_type".to_owned(), json!(view.name));
    line.insert("occurred_at".to_owned(), json!(now().to_string()));
    let n_taken_and_refused = |event: &Value, line: &Map<String, Value>| {
        let system = cloud_event::parse(event.to_string().as_bytes(), &Mode::Structured, &source()).unwrap();
        let line = Value::Object(line.clone()).to_string();
        let app = usage::parse_lines(line.as_bytes(), &phone()).unwrap();
        [(system.events.n_events(), system.rejected.len()), (app.events.n_events(), app.rejected.len())]
    };
    assert_eq!(n_taken_and_refused(&event, &line), [(1, 0), (1, 0)]);
    for mark in MARKS {
        // Without a subject of its own an event is about itself.
        for name in ["id", "subject", "subjectkind", "facilityid", "programmecode"] {
            let mut planted = event.clone();
            planted[name] = json!(mark);
            assert_eq!(n_taken_and_refused(&planted, &line)[0], (0, 1), "{name}: {mark}");
        }
        for name in ["event_id", "facility_id", "programme_code", "session_id", "screen_id"] {
            let mut planted = line.clone();
            planted.insert(name.to_owned(), json!(mark));
            assert_eq!(n_taken_and_refused(&event, &planted)[1], (0, 1), "{name}: {mark}");
        }
    }
}

fn bytes_below(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { bytes.extend(bytes_below(&path)) } else { bytes.extend(std::fs::read(path).unwrap()) }
    }
    bytes
}

fn assert_unmarked(bytes: &[u8], place: &str) {
    for mark in MARKS {
        assert!(!bytes.windows(mark.len()).any(|window| window == mark.as_bytes()), "{mark} in {place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marked_personal_data_in_every_field_of_every_event_stays_out() {
    let dir = tempfile::tempdir().unwrap();
    let (accepted, n_refused) = through_the_doors();
    let lake =
        Lake::open(&dir.path().join("lake"), LakeOptions { fsync: false, ..LakeOptions::default() }).await.unwrap();
    let log = UsageLog::open(&dir.path().join("ingest"), UsageLogConfig::default()).unwrap();
    let mut n_accepted = 0;
    let mut sends = tokio::task::JoinSet::new();
    for events in accepted.into_iter().filter(|events| events.n_events() > 0) {
        let log = log.clone();
        sends.spawn(async move { log.append(events, now()).await.unwrap().accepted });
    }
    for accepted in sends.join_all().await {
        n_accepted += i64::from(accepted);
    }
    assert!(n_accepted as usize >= events::all().len(), "what is in order is taken: {n_accepted}");
    assert!(n_refused > 3 * events::all().len(), "marks are refused: {n_refused}");
    assert_unmarked(&bytes_below(&dir.path().join("ingest")), "the log");
    let mut sink = LakeSink::new(lake.clone(), Some(log), None, Arc::new(now), SinkConfig::default());
    sink.collect_and_flush().await.unwrap();
    let (rows, quarantined) = rows_without_marks(&lake, &dir.path().join("lake")).await;
    assert_eq!(rows + quarantined, n_accepted);
}

/// Looks at every byte and every column of the lake. Returns how many rows it has, and how many in quarantine.
async fn rows_without_marks(lake: &Lake, dir: &Path) -> (i64, i64) {
    assert_unmarked(&bytes_below(dir), "the lake's bytes");
    // Parquet's pages are compressed: what they hold is looked at as well, column by column.
    let session = SessionContext::new();
    let snapshot = lake.view().snapshot();
    let (mut n_rows, mut n_quarantined) = (0, 0);
    for group in snapshot.groups() {
        session.register_table(group, snapshot.table_provider(group, &Scope::All).unwrap()).unwrap();
        let rows = session.sql(&format!("SELECT * FROM {group}")).await.unwrap().collect().await.unwrap();
        let n = rows.iter().map(|batch| batch.num_rows() as i64).sum::<i64>();
        if group == QUARANTINE {
            n_quarantined += n;
        } else {
            n_rows += n;
        }
        assert_unmarked(pretty_format_batches(&rows).unwrap().to_string().as_bytes(), group);
    }
    (n_rows, n_quarantined)
}

/// A record that hands out these events.
struct Record(Vec<Event>);

#[async_trait]
impl RecordFeed for Record {
    async fn assign(&self, after_batch_no: i64, _n_max: u32) -> Result<Option<LakeBatch>, FeedError> {
        Ok((after_batch_no == 0).then(|| LakeBatch { batch_no: 1, events: self.0.clone() }))
    }

    async fn finish(&self, _through_batch_no: i64) -> Result<(), FeedError> {
        Ok(())
    }
}

/// An event of the record, as its use case made it.
fn recorded(n: usize, event_type: &EventType, payload: Map<String, Value>) -> Event {
    Event {
        event_id: id(n).parse::<uuid::Uuid>().unwrap().into(),
        event_type: event_type.name.clone(),
        facility_id: Some("f-1".to_owned()),
        programme_code: Some("p-1".to_owned()),
        payload,
        ..view(1)
    }
}

/// Fields that take codes take no words, whichever use case fills them.
#[test]
fn words_in_any_field_of_the_records_events_are_refused_at_its_commit() {
    for event_type in events::all() {
        let good = recorded(1, event_type, in_order(event_type));
        assert_eq!(events::check(&good), Ok(()), "{}", event_type.name);
        for mark in MARKS {
            for field in &event_type.fields {
                let mut planted = good.clone();
                planted.payload.insert(field.name.clone(), marked(&field.ty, mark));
                assert!(events::check(&planted).is_err(), "{}.{}: {mark}", event_type.name, field.name);
            }
            for place in [
                Event { programme_code: Some(mark.to_owned()), ..good.clone() },
                Event { facility_id: Some(mark.to_owned()), ..good.clone() },
            ] {
                assert!(events::check(&place).is_err(), "{}: {mark}", event_type.name);
            }
        }
    }
}

#[tokio::test]
async fn personal_data_of_the_record_are_refused_at_its_commit_and_once_more_by_the_lake() {
    let (mut made, mut n_planted) = (Vec::new(), 0);
    let text = FieldType::Text;
    for event_type in events::all() {
        let good = in_order(event_type);
        let event = recorded(made.len(), event_type, good.clone());
        assert_eq!(events::check(&event), Ok(()), "{}", event_type.name);
        made.push(event);
        // What may not leave the record, people by name where their key belongs, and a field nobody knows.
        let closed = event_type.fields.iter().filter(|field| field.lake != LakeUse::Yes || field.ty == FieldType::Key);
        let closed: Vec<(&str, &FieldType)> =
            closed.map(|field| (field.name.as_str(), &field.ty)).chain([("memo", &text)]).collect();
        for (mark, (name, ty)) in MARKS.iter().flat_map(|mark| closed.iter().map(move |field| (mark, field))) {
            let mut planted = good.clone();
            planted.insert((*name).to_owned(), marked(ty, mark));
            let event = recorded(made.len(), event_type, planted);
            assert!(events::check(&event).is_err(), "{}.{name}", event_type.name);
            made.push(event);
            n_planted += 1;
        }
    }
    assert!(n_planted > 3 * events::all().len() as i64);
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path(), LakeOptions { fsync: false, ..LakeOptions::default() }).await.unwrap();
    let record = Some(Arc::new(Record(made)) as Arc<dyn RecordFeed>);
    let mut sink = LakeSink::new(lake.clone(), None, record, Arc::new(now), SinkConfig::default());
    sink.collect_and_flush().await.unwrap();
    let (rows, quarantined) = rows_without_marks(&lake, dir.path()).await;
    assert_eq!((rows, quarantined), (events::all().len() as i64, n_planted));
    assert_eq!(u64::try_from(n_planted).unwrap(), sink.status().borrow().quarantined, "and each of them was told");
}
