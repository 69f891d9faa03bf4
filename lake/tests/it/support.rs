//! Events, a lake in a temporary folder, and SQL over it.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        datatypes::Int64Type,
        util::pretty::pretty_format_batches,
    },
    prelude::{SessionConfig, SessionContext},
};
use serde_json::{Map, Value, json};
use todoke_domain::{Event, Timestamp, ids::EventId};
use todoke_lake::{EventRows, Lake, LakeOptions, LakeSnapshot, Scope};

pub(crate) const CHIYODA: &str = "131016";
pub(crate) const MINATO: &str = "131032";
pub(crate) const NOW: &str = "2026-11-21T03:00:00Z";

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn now() -> Timestamp {
    at(NOW)
}

pub(crate) fn one(code: &str) -> Scope {
    Scope::One(code.parse().unwrap())
}

/// The n-th test event of a type; `n` decides its id.
pub(crate) fn event(n: u64, event_type: &str, code: &str, occurred_at: Timestamp, payload: Value) -> Event {
    let payload: Map<String, Value> = payload.as_object().unwrap().clone();
    let id = uuid::Uuid::from_u128(0x0193_2b5c_0000_7000_8000_0000_0000_0000 + u128::from(n));
    Event {
        event_id: EventId::from(id),
        event_type: event_type.to_owned(),
        schema_version: 1,
        occurred_at,
        recorded_at: occurred_at,
        municipality_code: code.parse().unwrap(),
        actor_role: "guardian".to_owned(),
        actor_key: Some(7),
        source_channel: "app".to_owned(),
        subject_kind: "coupon_use".to_owned(),
        subject_id: n.to_string(),
        subject_seq: 1,
        correlation_id: None,
        causation_id: None,
        recorded_offline: false,
        programme_code: None,
        facility_id: None,
        payload,
    }
}

/// A screen view, which goes to the table `app`.
pub(crate) fn view(n: u64, code: &str) -> Event {
    let occurred_at = Timestamp::from_micros(at("2026-11-21T01:00:00Z").as_micros() + i64::try_from(n).unwrap());
    event(
        n,
        "app.screen_viewed",
        code,
        occurred_at,
        json!({ "session_id": format!("s-{code}"), "screen_id": "G01", "dwell_ms": n }),
    )
}

/// A reversal of nothing in particular, which goes to the table `coupon`.
pub(crate) fn suspension(n: u64, code: &str) -> Event {
    let occurred_at = at("2026-11-21T01:00:00Z");
    event(n, "coupon.suspended", code, occurred_at, json!({ "guardian_key": 5, "coupons": 1, "reason_code": "test" }))
}

pub(crate) fn rows(events: &[Event]) -> EventRows {
    EventRows::build(events, now()).unwrap()
}

pub(crate) async fn open(dir: &std::path::Path) -> Arc<Lake> {
    // Power loss is not what these tests are about, and fsync would be most of their time.
    Lake::open(dir, LakeOptions { fsync: false, ..LakeOptions::default() }).await.unwrap()
}

/// A session that sees the lake's tables in one scope.
pub(crate) fn session(snapshot: &LakeSnapshot, scope: &Scope) -> SessionContext {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    for group in snapshot.groups() {
        session.register_table(format!("events_{group}"), snapshot.table_provider(group, scope).unwrap()).unwrap();
    }
    session
}

pub(crate) async fn query(session: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    session
        .sql(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
        .collect()
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
}

pub(crate) async fn table(session: &SessionContext, sql: &str) -> String {
    pretty_format_batches(&query(session, sql).await).unwrap().to_string()
}

/// The only cell of an answer, as a number.
pub(crate) async fn number(session: &SessionContext, sql: &str) -> i64 {
    query(session, sql).await[0].column(0).as_primitive::<Int64Type>().value(0)
}

pub(crate) async fn count(lake: &Lake, group: &str) -> i64 {
    number(&session(&lake.view().snapshot(), &Scope::All), &format!("SELECT count(*) FROM events_{group}")).await
}

/// Fails unless the table holds exactly the events 1..=n, each once.
pub(crate) async fn assert_each_once(lake: &Lake, group: &str, n: i64) {
    let session = session(&lake.view().snapshot(), &Scope::All);
    let sql = format!("SELECT count(*), count(DISTINCT event_id) FROM events_{group}");
    let answer = query(&session, &sql).await;
    let rows = answer[0].column(0).as_primitive::<Int64Type>().value(0);
    let ids = answer[0].column(1).as_primitive::<Int64Type>().value(0);
    assert_eq!((rows, ids), (n, n), "{group}");
}
