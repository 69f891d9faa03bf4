use serde_json::json;
use todoke_domain::Event;

use super::*;
use crate::row::{Dictionary, LogRows};

const NOW: &str = "2026-11-21T03:00:00Z";

fn parsed(records: &[String]) -> ParsedHistory {
    let mut lines = Lines::default();
    records.iter().for_each(|record| lines.push(record));
    HistoryReader::new("131016".parse().unwrap()).read(&lines, NOW.parse().unwrap())
}

fn events(parsed: &ParsedHistory) -> Vec<Event> {
    let mut bytes = Vec::new();
    parsed.events.blocks.iter().for_each(|block| block.write(None, &mut bytes));
    let meanings = Dictionary::present().meanings().unwrap();
    let mut rows = LogRows::default();
    rows.add(&bytes, &meanings).unwrap();
    rows.to_events().unwrap()
}

fn view(change: Value) -> String {
    let mut record = json!({
        "event_id": "019a0000-0000-7000-8000-000000000001", "event_type": "app.screen_viewed",
        "occurred_at": "2019-04-01T00:00:00Z", "session_id": "s-1", "screen_id": "G01", "dwell_ms": 12,
    });
    record.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    record.to_string()
}

fn reason(record: String) -> (RejectReason, Option<String>) {
    let parsed = parsed(&[record]);
    assert_eq!(parsed.events.n_events(), 0);
    let (place, rejected) = parsed.rejected.into_iter().next().unwrap();
    assert_eq!(place, 0);
    (rejected.reason, rejected.field)
}

#[test]
fn years_old_events_of_any_group_come_with_their_envelope() {
    let used = json!({
        "event_id": "019a0000-0000-7000-8000-000000000002", "event_type": "coupon.used", "schema_version": 1,
        "occurred_at": "2019-04-01T09:00:00+09:00", "recorded_at": "2019-04-01T00:00:01Z", "fiscal_year": 2019,
        "jst_date": "2019-04-01", "ingested_at": "2019-04-01T00:00:02Z", "municipality_code": "131016",
        "actor_role": "guardian", "actor_key": 8, "source_channel": "app", "subject_kind": "coupon",
        "subject_id": "c", "subject_seq": 2, "correlation_id": "r", "recorded_offline": true, "programme_code": "P1",
        "facility_id": "F1", "use_id": "u", "coupon_id": "c", "child_key": 7, "guardian_key": 8,
        "coupon_set_id": "s", "coupon_kind": "yen", "purpose": "service", "amount_yen": 1_200, "amount_units": 0,
        "lines": [{"lot_id": "l", "bucket": null, "amount": 1_200}], "fee_total_yen": 3_000, "application_id": "a",
        "initiated_by": "guardian", "device_less": false, "balance_after_yen": 8_800, "balance_after_units": 0,
        "ledger_seq": 2, "used_on": "2019-04-01", "screen_id": null,
    });
    let parsed = parsed(&[used.to_string(), view(json!({}))]);
    assert_eq!(parsed.rejected, []);
    let events = events(&parsed);
    let coupon = &events[0];
    assert_eq!((coupon.actor_key, coupon.subject_seq, coupon.recorded_offline), (Some(8), 2, true));
    assert_eq!((coupon.subject_kind.as_str(), coupon.subject_id.as_str()), ("coupon", "c"));
    assert_eq!(coupon.recorded_at, "2019-04-01T00:00:01Z".parse().unwrap());
    assert_eq!(events::check(coupon), Ok(()));
    let view = &events[1];
    assert_eq!((view.actor_role.as_str(), view.source_channel.as_str()), ("system", "import"));
    assert_eq!((view.subject_kind.as_str(), view.subject_id.as_str()), ("device_session", "s-1"));
    assert_eq!(view.recorded_at, view.occurred_at);
    let rows = parsed.events.lake_rows(NOW.parse().unwrap()).unwrap();
    assert_eq!((rows.n_rows(), rows.rejected().len()), (2, 0));
}

#[test]
fn each_fault_has_its_reason() {
    use RejectReason as R;
    for (record, expected, field) in [
        ("{broken".to_owned(), R::NotJson, None),
        ("7".to_owned(), R::NotAnObject, None),
        (view(json!({"event_id": "x"})), R::IdInvalid, Some("event_id")),
        (view(json!({"event_type": "app.no_such_thing"})), R::UnknownType, Some("event_type")),
        (view(json!({"occurred_at": "yesterday"})), R::TimeInvalid, Some("occurred_at")),
        (view(json!({"occurred_at": "2099-01-01T00:00:00Z"})), R::InFuture, Some("occurred_at")),
        (view(json!({"recorded_at": "2099-01-01T00:00:00Z"})), R::InFuture, Some("recorded_at")),
        (view(json!({"municipality_code": "131024"})), R::ForbiddenField, Some("municipality_code")),
        (view(json!({"colour": "red"})), R::UnknownField, Some("colour")),
        (view(json!({"screen_id": null})), R::MissingField, Some("screen_id")),
        (view(json!({"screen_id": "佐藤花子です"})), R::IllTyped, Some("screen_id")),
        (view(json!({"dwell_ms": "soon"})), R::IllTyped, Some("dwell_ms")),
        (view(json!({"actor_key": 0})), R::IllTyped, Some("actor_key")),
        (view(json!({"subject_id": "s-1"})), R::MissingField, Some("subject_kind")),
        (view(json!({"platform": "web"})), R::UnknownField, Some("platform")),
    ] {
        assert_eq!(reason(record.clone()), (expected, field.map(str::to_owned)), "{record}");
    }
    let email = json!({
        "event_id": "019a0000-0000-7000-8000-000000000003", "event_type": "account.registration_started",
        "occurred_at": "2019-04-01T00:00:00Z", "guardian_key": 1, "email": "a@example.jp",
    });
    assert_eq!(reason(email.to_string()), (R::ForbiddenField, Some("email".to_owned())));
}

#[test]
fn a_repetition_is_one_event_and_another_event_with_its_id_is_none() {
    let parsed = parsed(&[view(json!({})), view(json!({})), view(json!({"dwell_ms": 13}))]);
    assert_eq!((parsed.events.n_events(), parsed.repeated), (1, 1));
    let (place, rejected) = &parsed.rejected[0];
    assert_eq!((*place, rejected.reason), (2, RejectReason::IdReused));
    assert_eq!(rejected.content.as_deref(), Some(view(json!({"dwell_ms": 13})).as_str()));
    assert_eq!(events(&parsed).len(), 1);
}

#[test]
fn a_kept_record_is_read_again_by_the_same_rules() {
    let code = "131016".parse().unwrap();
    let now = NOW.parse().unwrap();
    assert_eq!(read_again(&view(json!({})), &code, now).map(|events| events.n_events()), Some(1));
    assert!(read_again(&view(json!({"colour": "red"})), &code, now).is_none());
    assert!(read_again("", &code, now).is_none());
}
