//! A hand-made municipality: events, the lake they go to, and the engine over it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::civil::{Date, Time};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use todoke_analytics::{
    ClaimsOf, Dimension, Engine, EngineConfig, LakeSource, ReportError, ReportId, ReportRequest, ReportTable, RowsKind,
    SqlAnswer, SqlError, SqlLimits, SqlRequest, format,
};
use todoke_domain::{Event, MunicipalityCode, Timestamp, ids::EventId};
use todoke_lake::{EventRows, Lake, LakeOptions, Origin};

/// A row as its columns.
pub(crate) type Row = BTreeMap<String, Value>;

pub(crate) const OSAKA: &str = "271004";

pub(crate) fn code(raw: &str) -> MunicipalityCode {
    raw.parse().unwrap()
}

pub(crate) fn day(raw: &str) -> Date {
    raw.parse().unwrap()
}

/// `at("2026-06-01", "23:50")`, Japanese time.
pub(crate) fn at(date: &str, clock: &str) -> Timestamp {
    Timestamp::from_jst(day(date), clock.parse::<Time>().unwrap())
}

/// Events of one municipality.
pub(crate) struct City {
    code: MunicipalityCode,
    pub(crate) events: Vec<Event>,
}

impl City {
    pub(crate) fn new(raw: &str) -> Self {
        Self { code: code(raw), events: Vec::new() }
    }

    /// Adds an event. Envelope fields in the payload move to the envelope.
    pub(crate) fn event(&mut self, event_type: &str, at: Timestamp, payload: Value) -> &mut Event {
        let Value::Object(mut payload) = payload else { panic!("a payload is an object") };
        let mut text = |name: &str| payload.remove(name).map(|value| value.as_str().unwrap().to_owned());
        let event = Event {
            programme_code: text("programme_code"),
            facility_id: text("facility_id"),
            actor_role: text("actor_role").unwrap_or_else(|| "guardian".to_owned()),
            subject_id: text("subject_id").unwrap_or_else(|| "1".to_owned()),
            event_id: EventId::new(at),
            event_type: event_type.to_owned(),
            schema_version: 1,
            occurred_at: at,
            recorded_at: at,
            municipality_code: self.code.clone(),
            actor_key: None,
            source_channel: "app".to_owned(),
            subject_kind: "test".to_owned(),
            subject_seq: self.events.len() as u64 + 1,
            correlation_id: None,
            causation_id: None,
            recorded_offline: false,
            payload: Map::from_iter(payload),
        };
        self.events.push(event);
        self.events.last_mut().unwrap()
    }

    pub(crate) fn session(&mut self, id: &str, guardian: i64, start: Timestamp) {
        self.event(
            "app.session_started",
            start,
            json!({
                "session_id": id, "guardian_key": guardian, "device_key": guardian + 1_000_000, "platform": "ios",
                "os_version": "18", "app_version": "1.0.0", "entry": "icon",
            }),
        );
    }

    pub(crate) fn view(&mut self, session: &str, screen: &str, at: Timestamp) {
        self.event(
            "app.screen_viewed",
            at,
            json!({
                "session_id": session, "screen_id": screen, "previous_screen_id": null, "dwell_ms": 1000,
            }),
        );
    }

    pub(crate) fn end(&mut self, session: &str, at: Timestamp, duration_ms: i64) {
        self.event(
            "app.session_ended",
            at,
            json!({
                "session_id": session, "duration_ms": duration_ms, "screens": 1, "end_reason": "background_30min",
            }),
        );
    }
}

/// A lake in a folder that goes with it.
pub(crate) struct Fixture {
    pub(crate) lake: Arc<Lake>,
    pub(crate) engine: Engine,
    _dir: TempDir,
}

impl Fixture {
    /// Half of the events committed, half only staged: reports must not tell them apart.
    pub(crate) async fn new(cities: &[&City]) -> Self {
        let dir = TempDir::new().unwrap();
        let lake = Lake::open(dir.path(), LakeOptions { fsync: false, ..LakeOptions::default() }).await.unwrap();
        let now = at("2026-11-21", "10:00");
        let events: Vec<Event> = cities.iter().flat_map(|city| city.events.iter().cloned()).collect();
        let (early, late) = events.split_at(events.len() / 2);
        for (version, part) in [(1, early), (2, late)] {
            let rows = EventRows::build(part, now).unwrap();
            assert!(rows.rejected().is_empty(), "{:?}", rows.rejected());
            lake.stage(Origin::new("record", version), &rows).await.unwrap();
            if version == 1 {
                lake.flush(now).await.unwrap();
            }
        }
        let engine = Engine::new(Arc::new(LakeSource::new(lake.view())), EngineConfig::default()).unwrap();
        Self { lake, engine, _dir: dir }
    }

    pub(crate) async fn report(
        &self,
        report: ReportId,
        from: &str,
        to: &str,
        by: &str,
    ) -> Result<ReportTable, ReportError> {
        self.engine.report(&request(report, from, to, by)).await
    }

    pub(crate) async fn figures(&self, report: ReportId, from: &str, to: &str, by: &str) -> Vec<Row> {
        rows(&self.report(report, from, to, by).await.unwrap())
    }

    pub(crate) async fn underlying(&self, report: ReportId, from: &str, to: &str, set: &str) -> Vec<Row> {
        let request =
            ReportRequest { rows: RowsKind::Underlying(Some(set.to_owned())), ..request(report, from, to, "") };
        rows(&self.engine.report(&request).await.unwrap())
    }

    pub(crate) async fn sql(&self, text: &str) -> Result<SqlAnswer, SqlError> {
        let limits = SqlLimits::shown();
        self.engine.sql(&SqlRequest { municipality: code(OSAKA), text: text.to_owned(), limits }).await
    }
}

pub(crate) fn request(report: ReportId, from: &str, to: &str, by: &str) -> ReportRequest {
    ReportRequest {
        report,
        municipality: code(OSAKA),
        from: day(from),
        to: day(to),
        by: Dimension::parse_list(by).unwrap(),
        rows: RowsKind::Figures,
        survey_id: None,
        coupon_set_id: None,
        claims: ClaimsOf::Municipality,
        created_at: at("2026-11-21", "10:00"),
    }
}

pub(crate) fn rows(table: &ReportTable) -> Vec<Row> {
    let json = format::report_json(table);
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let to_row =
        |row: &Value| names.iter().zip(row.as_array().unwrap()).map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
    json["rows"].as_array().unwrap().iter().map(to_row).collect()
}

/// Compares the named columns of a row.
#[track_caller]
pub(crate) fn check(row: &Row, expected: Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&row[name], value, "{name} of {row:?}");
    }
}
