use serde_json::json;
use todoke_domain::Event;

use super::*;
use crate::row::{Dictionary, LogRows};

/// The events as whoever reads the log gets them.
fn decoded(encoded: &EncodedEvents) -> Vec<Event> {
    let mut bytes = Vec::new();
    encoded.blocks.iter().for_each(|block| block.write(None, &mut bytes));
    let meanings = Dictionary::present().meanings().unwrap();
    let mut rows = LogRows::default();
    rows.add(&bytes, &meanings).unwrap();
    rows.to_events().unwrap()
}

fn context(role: &str) -> UsageContext {
    UsageContext {
        municipality_code: "131016".parse().unwrap(),
        role: role.to_owned(),
        actor_key: Some(77),
        guardian_key: (role == "guardian").then_some(77),
        source_channel: "web".to_owned(),
        agreed_since: None,
        correlation_id: Some("req-1".to_owned()),
        received_at: "2026-11-21T01:02:04Z".parse().unwrap(),
    }
}

fn view(extra: Value) -> Value {
    let mut event = json!({
        "event_id": "01a1fb9f-e6f8-7000-8000-000000000001",
        "event_type": "app.screen_viewed",
        "occurred_at": "2026-11-21T01:02:03.000004Z",
        "session_id": "s-1",
        "screen_id": "G01",
    });
    event.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    event
}

fn one(event: Value, role: &str) -> Result<Event, RejectReason> {
    let body = json!({ "device_key": "9007199254740993", "events": [event] }).to_string();
    let mut parsed = parse(body.as_bytes(), &context(role)).unwrap();
    match decoded(&parsed.events).pop() {
        Some(event) => Ok(event),
        None => Err(parsed.rejected.pop().unwrap().reason),
    }
}

#[test]
fn the_server_fills_who_and_where() {
    let session = json!({
        "event_id": "01a1fb9f-e6f8-7000-8000-000000000001", "event_type": "app.session_started",
        "occurred_at": "2026-11-21T10:02:03+09:00", "session_id": "s-1", "platform": "web",
        "os_version": "17.4", "app_version": "1.0.0", "entry": "icon",
    });
    let event = one(session.clone(), "guardian").unwrap();
    assert_eq!(event.municipality_code.as_str(), "131016");
    assert_eq!(event.payload["guardian_key"], 77);
    assert_eq!(event.payload["device_key"], 9_007_199_254_740_993_i64);
    assert_eq!(event.payload["platform"], "web");
    assert_eq!(event.occurred_at.to_string(), "2026-11-21T01:02:03.000000Z");
    assert_eq!((event.subject_kind.as_str(), event.subject_id.as_str()), ("device_session", "s-1"));
    let staff = one(session, "facility_staff").unwrap();
    assert_eq!(staff.payload["platform"], "dashboard");
    assert!(!staff.payload.contains_key("guardian_key"));
}

#[test]
fn a_client_cannot_say_who_it_is() {
    for field in ["guardian_key", "actor_key", "child_key", "municipality_code", "recorded_at", "device_key"] {
        assert_eq!(one(view(json!({ field: 1 })), "guardian"), Err(RejectReason::ForbiddenField), "{field}");
    }
}

#[test]
fn each_fault_has_its_reason() {
    let cases = [
        (json!({ "event_id": "7" }), RejectReason::IdInvalid),
        (json!({ "event_id": "01a1fb9f-e6f8-4000-8000-000000000001" }), RejectReason::IdInvalid),
        // Made a day and a millisecond before and after.
        (json!({ "occurred_at": "2026-11-20T01:02:02.999Z" }), RejectReason::IdInvalid),
        (json!({ "occurred_at": "2026-11-22T01:02:03.001Z" }), RejectReason::IdInvalid),
        (json!({ "event_type": "coupon.used" }), RejectReason::UnknownType),
        (json!({ "event_type": "app.nothing" }), RejectReason::UnknownType),
        (json!({ "occurred_at": "yesterday" }), RejectReason::TimeInvalid),
        (json!({ "colour": "red" }), RejectReason::UnknownField),
        (json!({ "dwell_ms": "long" }), RejectReason::IllTyped),
        (json!({ "dwell_ms": -1 }), RejectReason::IllTyped),
        (json!({ "screen_id": "佐藤花子" }), RejectReason::IllTyped),
        (json!({ "screen_id": "hanako@example.jp" }), RejectReason::IllTyped),
        (json!({ "screen_id": "Sato Hanako" }), RejectReason::IllTyped),
        (json!({ "session_id": "090-1234-5678" }), RejectReason::IllTyped),
        (json!({ "screen_id": "x".repeat(65) }), RejectReason::TooLong),
        (json!({ "session_id": null }), RejectReason::MissingField),
    ];
    for (extra, reason) in cases {
        assert_eq!(one(view(extra.clone()), "guardian"), Err(reason), "{extra}");
    }
}

#[test]
fn a_field_with_known_codes_takes_no_other() {
    let action = |code: &str| {
        let event = json!({
            "event_id": "01a1fb9f-e6f8-7000-8000-000000000001", "event_type": "app.action_completed",
            "occurred_at": "2026-11-21T01:02:03Z", "session_id": "s-1", "action": code, "duration_ms": 5,
        });
        one(event, "guardian").map(|_| ())
    };
    assert_eq!(action("payment"), Ok(()));
    assert_eq!(action("Hanako"), Err(RejectReason::IllTyped));
}

#[test]
fn an_id_may_be_made_up_to_a_day_from_its_event() {
    for occurred_at in ["2026-11-20T01:02:03Z", "2026-11-22T01:02:03Z"] {
        assert!(one(view(json!({ "occurred_at": occurred_at })), "guardian").is_ok(), "{occurred_at}");
    }
}

#[test]
fn typed_words_are_counted_and_dropped() {
    let search = json!({
        "event_id": "01a1fb9f-e6f8-7000-8000-000000000002", "event_type": "app.search_performed",
        "occurred_at": "2026-11-21T01:02:03Z", "session_id": "s-1", "search_mode": "keyword",
        "filters": ["open_now"], "hits": 3,
    });
    let class_e = todoke_domain::catalogue::events::get("app.search_performed")
        .unwrap()
        .fields
        .iter()
        .find(|f| f.class == DataClass::E);
    let mut with_words = search.clone();
    if let Some(words) = class_e {
        with_words[words.name.as_str()] = json!("ひかり保育園");
    }
    let event = one(with_words, "guardian").unwrap();
    assert!(!serde_json::to_string(&event).unwrap().contains("ひかり"));
    if class_e.is_some() {
        assert_eq!(event.payload.get("text_length"), Some(&json!(6)));
    }
}

#[test]
fn one_bad_event_costs_only_itself() {
    let good = view(json!({}));
    let bad = view(json!({ "colour": "red" }));
    let body = json!({ "events": [bad, 7, good] }).to_string();
    let parsed = parse(body.as_bytes(), &context("guardian")).unwrap();
    assert_eq!((parsed.events.n_events(), parsed.rejected.len()), (1, 2));
    assert_eq!(parsed.rejected[0].reason.code(), "unknown_field");
    assert_eq!(parsed.rejected[0].field.as_deref(), Some("colour"));
    assert_eq!(parsed.rejected[1].event_id, None);
}

#[test]
fn what_is_no_batch_is_an_error() {
    let twice = [r#"{"events": [], "events": []}"#, r#"{"device_key": 1, "events": [], "device_key": 1}"#];
    for body in ["", "[]", "{}", r#"{"events": 1}"#, r#"{"events": [], "x": 1}"#, r#"{"events": [], "device_key": -1}"#]
        .into_iter()
        .chain(twice)
    {
        assert!(matches!(parse(body.as_bytes(), &context("guardian")), Err(IngestError::NotABatch { .. })), "{body}");
    }
    let many = json!({ "events": vec![view(json!({})); EVENTS_MAX + 1] }).to_string();
    assert!(parse(many.as_bytes(), &context("guardian")).is_err());
}

#[test]
fn the_device_key_may_come_after_its_events() {
    let opened = json!({
        "event_id": "01a1fb9f-e6f8-7000-8000-000000000001", "event_type": "app.push_permission_changed",
        "occurred_at": "2026-11-21T01:02:03Z", "granted": true,
    });
    let body = format!(r#"{{"events":[{opened},{opened}],"device_key":"42"}}"#);
    let parsed = parse(body.as_bytes(), &context("guardian")).unwrap();
    assert_eq!((parsed.events.n_events(), parsed.rejected.len(), parsed.places.len()), (2, 0, 2));
    let event = &decoded(&parsed.events)[0];
    assert_eq!((event.subject_kind.as_str(), event.subject_id.as_str()), ("device", "42"));
    let without = format!(r#"{{"events":[{opened}]}}"#);
    assert_eq!(parse(without.as_bytes(), &context("guardian")).unwrap().rejected[0].reason, RejectReason::MissingField);
}

#[test]
fn a_line_that_cannot_be_read_is_one_bad_event() {
    let good = view(json!({}));
    let body = format!("{{\"device_key\":7}}\n{good}\n\n{{\"event_id\":\n[1]\n{good}{good}\n{good}\r\n");
    let parsed = parse_lines(body.as_bytes(), &context("guardian")).unwrap();
    assert_eq!(parsed.events.n_events(), 2);
    let reasons: Vec<&str> = parsed.rejected.iter().map(|rejected| rejected.reason.code()).collect();
    assert_eq!(reasons, ["not_json", "not_an_object", "not_json"]);
    assert_eq!(parsed.rejected[1].content.as_deref(), Some("[1]"));
    let (begin, end) = parsed.places[0];
    assert_eq!(&body[begin..end], good.to_string());
    let many = "{}\n".repeat(LINES_MAX + 1);
    assert!(parse_lines(many.as_bytes(), &context("guardian")).is_err());
}

/// Whatever order the sender wrote the fields in, and in whichever request: the mark is that of the content.
#[test]
fn the_mark_is_of_the_content() {
    let mark = |body: &str, role: &str| {
        let mut context = context(role);
        context.correlation_id = None;
        let parsed = parse_lines(body.as_bytes(), &context).unwrap();
        parsed.events.blocks[0].marks[0].mark
    };
    let head = r#""event_id":"01a1fb9f-e6f8-7000-8000-000000000001","event_type":"app.screen_viewed""#;
    let a =
        format!(r#"{{{head},"occurred_at":"2026-11-21T01:02:03Z","session_id":"s","screen_id":"G01","dwell_ms":5}}"#);
    let b = format!(
        r#"{{"dwell_ms":5,"screen_id":"G\u00301","occurred_at":"2026-11-21T10:02:03+09:00","session_id":"s",{head}}}"#
    );
    let c = a.replace(":5", ":6");
    let d = a.replace("G01", "G02");
    let e = a.replace(r#""session_id":"s""#, r#""session_id":"t""#);
    assert_eq!(mark(&a, "guardian"), mark(&b, "guardian"));
    let others = [mark(&a, "guardian"), mark(&c, "guardian"), mark(&d, "guardian"), mark(&e, "guardian")];
    assert_eq!(std::collections::HashSet::from(others).len(), 4);
}

/// A few bytes a member and a list in a list would take a dozen times their own memory if they were kept.
#[test]
fn what_no_event_holds_is_refused_and_not_kept() {
    let members: String = (0..5_000).map(|n| format!(",\"m{n}\":0")).collect();
    let with = |more: &str| {
        view(json!({})).to_string().replace("\"session_id\"", &format!("\"filters\":{more},\"session_id\""))
    };
    let list = format!("[{}]", vec!["\"a\""; 9_000].join(","));
    let wide = view(json!({})).to_string().replace('}', &format!("{members}}}"));
    let body = format!("{wide}\n{}\n{}\n", with(&list), with("[1e999]"));
    let parsed = parse_lines(body.as_bytes(), &context("guardian")).unwrap();
    assert_eq!(parsed.events.n_events(), 0);
    let reasons: Vec<_> = parsed.rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [RejectReason::TooLong, RejectReason::UnknownField, RejectReason::NotJson]);
}

#[test]
fn events_of_several_forms_are_read_beside_each_other() {
    let viewed = view(json!({"event_id": "01a1fb9f-e6f8-7000-8000-00000000000a"}));
    let opened = json!({
        "event_id": "01a1fb9f-e6f8-7000-8000-00000000000b", "occurred_at": "2026-11-21T01:02:03Z",
        "event_type": "app.search_performed", "session_id": "s-1", "search_mode": "near_me", "filters": [], "hits": 3,
    });
    // The same names, another type: a field that the first one has and this one has not.
    let mut other = view(json!({"event_id": "01a1fb9f-e6f8-7000-8000-00000000000c"}));
    other["event_type"] = "app.search_performed".into();
    let mut again = view(json!({"event_id": "01a1fb9f-e6f8-7000-8000-00000000000d"}));
    again["screen_id"] = "G02".into();
    let lines = [&viewed, &opened, &other, &again, &viewed].map(Value::to_string).join("\n");
    let parsed = parse_lines(lines.as_bytes(), &context("guardian")).unwrap();
    let events = decoded(&parsed.events);
    let screens: Vec<_> = events.iter().map(|event| event.payload.get("screen_id").cloned()).collect();
    assert_eq!(screens, [Some(json!("G01")), None, Some(json!("G02")), Some(json!("G01"))]);
    assert_eq!(parsed.rejected.len(), 1);
    assert_eq!(parsed.rejected[0].field.as_deref(), Some("screen_id"));
}

/// Good or bad: a bad one would be held with its content.
#[test]
fn what_happened_before_the_consent_is_dropped_and_counted() {
    let mut context = context("guardian");
    context.agreed_since = Some("2026-11-21T01:02:03.000005Z".parse().unwrap());
    let (before, bad) = (view(json!({})), view(json!({"colour": "red"})));
    let after = view(json!({
        "event_id": "01a1fb9f-e6f8-7000-8000-000000000002", "occurred_at": "2026-11-21T01:02:03.000005Z",
    }));
    // The key comes last, so that the events are read twice.
    let body = format!(r#"{{"events":[{before},{bad},{after}],"device_key":7}}"#);
    let parsed = parse(body.as_bytes(), &context).unwrap();
    assert_eq!((parsed.events.n_events(), parsed.places.len(), parsed.rejected.len()), (1, 1, 0));
    assert_eq!(parsed.n_not_agreed, 2);
    assert_eq!(decoded(&parsed.events)[0].occurred_at, context.agreed_since.unwrap());
}
