//! R13 and the KPIs on giving out information: figures from hand-made deliveries, and the rows behind them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use todoke_analytics::ReportId;
use todoke_domain::Timestamp;

use crate::city::{City, Fixture, OSAKA, Row, at, check};

const R13: ReportId = ReportId::MessageDelivery;
const CAUSE: &str = "01932b5c-0000-7000-8000-00000000000a";

fn made(city: &mut City, id: &str, kind: &str, class: &str, channels: &[&str], when: Timestamp) {
    city.event(
        "message.created",
        when,
        json!({
            "message_id": id, "message_type": kind, "template_version": 1, "locale": "ja", "recipient_key": 7,
            "recipient_role": "guardian", "class": class, "channels": channels, "collapse_key": "k",
            "cause_event_id": CAUSE,
        }),
    );
}

fn step(city: &mut City, id: &str, step: &str, channel: &str, when: Timestamp, more: Value) {
    let Value::Object(mut payload) = more else { panic!("an object") };
    payload.insert("message_id".to_owned(), json!(id));
    payload.insert("channel".to_owned(), json!(channel));
    city.event(&format!("message.{step}"), when, Value::Object(payload));
}

/// Three payments told by push, live and mail; one opted out; one mandatory message that nobody got.
fn told() -> City {
    let mut city = City::new(OSAKA);
    let noon = at("2026-06-01", "12:00");
    made(&mut city, "m-1", "coupon.used", "mandatory", &["live", "inbox", "push"], noon);
    step(&mut city, "m-1", "sent", "push", noon, json!({"attempt": 1, "latency_ms": 400}));
    step(&mut city, "m-1", "accepted", "push", noon, json!({"provider_ms": 100}));
    step(&mut city, "m-1", "delivered", "push", noon, json!({"latency_ms": 900}));
    step(&mut city, "m-1", "opened", "push", at("2026-06-02", "08:00"), json!({"open_latency_ms": 72_000_000}));
    made(&mut city, "m-2", "coupon.used", "mandatory", &["live", "inbox", "push"], noon);
    step(&mut city, "m-2", "sent", "push", noon, json!({"attempt": 1, "latency_ms": 5_000}));
    step(
        &mut city,
        "m-2",
        "failed",
        "push",
        noon,
        json!({"attempt": 1, "error_code": "unregistered", "permanent": true}),
    );
    step(&mut city, "m-2", "sent", "email", noon, json!({"attempt": 1, "latency_ms": 6_000}));
    step(&mut city, "m-2", "accepted", "email", noon, json!({"provider_ms": 500}));
    made(&mut city, "m-3", "survey.requested", "optional", &[], at("2026-06-01", "13:30"));
    city.event("message.suppressed", at("2026-06-01", "13:30"), json!({"message_id": "m-3", "reason": "opt_out"}));
    made(&mut city, "m-4", "coupon.used", "mandatory", &["live", "inbox"], at("2026-06-02", "09:00"));
    // The lake knows a later day, so the day of m-4 is over.
    city.view("s-1", "GA01", at("2026-06-04", "09:00"));
    city
}

#[tokio::test]
async fn a_message_counts_once_however_many_ways_it_went() {
    let lake = Fixture::new(&[&told()]).await;
    let all = &lake.figures(R13, "2026-06-01", "2026-06-03", "").await[0];
    check(
        all,
        json!({
            "created": 4, "suppressed": 1, "suppressed_opt_out": 1, "sent": 2, "accepted": 2, "delivered": 2, "failed": 1,
            "delivery_rate": 66.7, "opened": 1, "open_rate": 50.0, "p50_latency_ms": 900, "p99_latency_ms": 6_500,
            // Handed over within 2 s: m-1 of m-1 and m-2.
            "within_2s_share": 50.0, "unreached_mandatory": 1,
        }),
    );
    let days = lake.figures(R13, "2026-06-01", "2026-06-03", "day").await;
    let created: Vec<i64> = days.iter().map(|row| row["created"].as_i64().unwrap()).collect();
    assert_eq!(created, [3, 1, 0], "what becomes of a message counts on the day it was made");
    assert_eq!(days[0]["opened"], 1);
    assert_eq!(days[2]["delivery_rate"], Value::Null, "nothing divided by nothing is empty");
}

#[tokio::test]
async fn by_channel_each_way_stands_for_itself_and_the_rows_add_up() {
    let lake = Fixture::new(&[&told()]).await;
    let ways = lake.figures(R13, "2026-06-01", "2026-06-03", "channel").await;
    let of = |channel: &str| ways.iter().find(|row| row["channel"] == channel).unwrap();
    check(of("push"), json!({"created": 2, "sent": 2, "delivered": 1, "failed": 1, "delivery_rate": 50.0}));
    check(
        of("email"),
        json!({"created": 1, "delivered": 1, "delivered_means": "mail_accepted", "delivery_rate": 100.0}),
    );
    check(of("inbox"), json!({"created": 3, "delivered": 0, "unreached_mandatory": null}));
    let rows = lake.underlying(R13, "2026-06-01", "2026-06-03", "messages").await;
    for way in &ways {
        let own = || rows.iter().filter(|row| row["channel"] == way["channel"]);
        assert_eq!(own().count() as u64, way["created"].as_u64().unwrap(), "{}", way["channel"]);
        for state in ["sent", "delivered", "opened", "failed"] {
            let n = own().filter(|row| !row[state].is_null()).count() as u64;
            assert_eq!(n, way[state].as_u64().unwrap(), "{state} by {}", way["channel"]);
        }
    }
    let dropped = rows.iter().find(|row| row["message_id"] == "m-3").unwrap();
    check(dropped, json!({"channel": null, "suppressed_reason": "opt_out", "category": "survey"}));
    let failed = rows.iter().find(|row| row["message_id"] == "m-2" && row["channel"] == "push").unwrap();
    assert_eq!(failed["failed_code"], "unregistered");
}

#[tokio::test]
async fn types_hours_and_broadcasts_split_the_messages() {
    let mut city = told();
    let released = at("2026-06-02", "10:00");
    let broadcast = json!({"broadcast_id": "b-1", "kind": "segment", "segment_id": null, "targets": 2});
    city.event("broadcast.released", released, broadcast.clone());
    let cause = city.event("broadcast.started", released, broadcast.clone()).event_id;
    for id in ["m-8", "m-9"] {
        made(&mut city, id, "broadcast.segment", "optional", &["inbox"], at("2026-06-02", "10:01"));
        city.events.last_mut().unwrap().payload.insert("cause_event_id".to_owned(), json!(cause));
    }
    let mut done = broadcast;
    done["first_sent_at"] = json!(at("2026-06-02", "10:01").as_micros());
    done["last_sent_at"] = json!(at("2026-06-02", "10:03").as_micros());
    city.event("broadcast.completed", at("2026-06-02", "10:04"), done);
    // Its queue is empty after that: one push leaves the first time, another again. It goes again to who has not read it.
    for (id, attempt, clock) in [("m-8", 1, "10:02"), ("m-9", 1, "10:07"), ("m-8", 2, "10:20")] {
        let sent = json!({"attempt": attempt, "latency_ms": 60_000});
        step(&mut city, id, "sent", "push", at("2026-06-02", clock), sent);
    }
    made(&mut city, "m-10", "broadcast.segment", "optional", &["inbox"], at("2026-06-02", "10:31"));
    city.events.last_mut().unwrap().payload.insert("cause_event_id".to_owned(), json!(cause));
    step(&mut city, "m-10", "sent", "push", at("2026-06-02", "10:32"), json!({"attempt": 1, "latency_ms": 1_920_000}));
    let lake = Fixture::new(&[&city]).await;
    let lines = lake.figures(R13, "2026-06-01", "2026-06-03", "broadcast_id").await;
    let of = |id: &str| lines.iter().find(|row| row["broadcast_id"] == id).unwrap()["created"].clone();
    assert_eq!((of("b-1"), of("unknown")), (json!(3), json!(4)));
    let hours = lake.figures(R13, "2026-06-01", "2026-06-03", "hour,category").await;
    let at_noon = hours.iter().find(|row| row["hour"] == "12" && row["category"] == "money").unwrap();
    assert_eq!(at_noon["created"], 2);
    let at_noon = hours.iter().find(|row| row["hour"] == "12" && row["category"] == "survey").unwrap();
    assert_eq!(at_noon["created"], 0, "a value without rows shows 0");
    let sent = lake.underlying(R13, "2026-06-01", "2026-06-03", "broadcasts").await;
    check(&sent[0], json!({"broadcast_id": "b-1", "targets": 2, "duration_s": 420}));

    let lines = lake.figures(ReportId::Kpi, "2026-06-01", "2026-06-30", "").await;
    let value = |kpi: &str, measure: &str| {
        let line = lines.iter().find(|row| row["kpi_id"] == kpi && row["measure"] == measure).unwrap();
        assert_eq!(line["month"], "2026-06");
        line["value"].clone()
    };
    assert_eq!(value("K13", "released"), json!(1.0));
    assert_eq!(value("K13", "delivered"), json!(2.0), "one by push, one by mail");
    assert_eq!((value("K14", "opened"), value("K14", "open_rate")), (json!(1.0), json!(100.0)));
    assert_eq!((value("K21", "median_s"), value("K21", "broadcasts")), (json!(420.0), json!(1.0)));
}

#[tokio::test]
async fn what_arrived_before_its_broadcast_was_stopped_is_not_suppressed() {
    let mut city = City::new(OSAKA);
    let (ten, stopped) = (at("2026-06-02", "10:00"), at("2026-06-02", "10:05"));
    for id in ["m-1", "m-2", "m-3", "m-4"] {
        made(&mut city, id, "broadcast.segment", "optional", &["inbox", "push"], ten);
    }
    // Two had it in the open app; the pushes of these and of a third were kept back.
    for id in ["m-1", "m-2"] {
        step(&mut city, id, "delivered", "live", ten, json!({"latency_ms": 300}));
    }
    for id in ["m-1", "m-2", "m-3"] {
        city.event("message.suppressed", stopped, json!({"message_id": id, "reason": "broadcast_stopped"}));
    }
    let lake = Fixture::new(&[&city]).await;
    let all = &lake.figures(R13, "2026-06-01", "2026-06-03", "").await[0];
    check(all, json!({"created": 4, "suppressed": 1, "suppressed_other": 1, "delivered": 2, "delivery_rate": 66.7}));
    let ways = lake.figures(R13, "2026-06-01", "2026-06-03", "channel").await;
    let of = |channel: &str| ways.iter().find(|row| row["channel"] == channel).unwrap();
    check(of("push"), json!({"created": 4, "suppressed": 3, "delivered": 0}));
    check(of("live"), json!({"created": 2, "suppressed": 0, "delivered": 2, "delivery_rate": 100.0}));
    let rows = lake.underlying(R13, "2026-06-01", "2026-06-03", "messages").await;
    let reason = |channel: &str| {
        let row = rows.iter().find(|row| row["message_id"] == "m-1" && row["channel"] == channel).unwrap();
        row["suppressed_reason"].clone()
    };
    assert_eq!((reason("live"), reason("push")), (Value::Null, json!("broadcast_stopped")));
}

#[tokio::test]
async fn a_message_whose_repetition_was_dropped_went_out_itself() {
    let mut city = City::new(OSAKA);
    let noon = at("2026-06-01", "12:00");
    for id in ["m-1", "m-2"] {
        made(&mut city, id, "coupon.used", "mandatory", &["live", "inbox", "push"], noon);
        city.event("message.suppressed", noon, json!({"message_id": id, "reason": "duplicate"}));
    }
    step(&mut city, "m-1", "delivered", "push", noon, json!({"latency_ms": 900}));
    // The lake knows a later day, so it is known that nobody got m-2.
    city.view("s-1", "GA01", at("2026-06-04", "09:00"));
    let lake = Fixture::new(&[&city]).await;
    let all = &lake.figures(R13, "2026-06-01", "2026-06-03", "").await[0];
    check(
        all,
        json!({
            "created": 2, "suppressed": 0, "suppressed_duplicate": 2, "suppressed_other": 0, "delivered": 1,
            "delivery_rate": 50.0, "unreached_mandatory": 1,
        }),
    );
}

#[tokio::test]
async fn a_letter_that_came_back_has_reached_nobody() {
    let mut city = City::new(OSAKA);
    let noon = at("2026-06-01", "12:00");
    let mut letter = |id: &str, step: &str, when: Timestamp| {
        city.event(&format!("message.paper_{step}"), when, json!({"message_id": id, "letter_kind": "message"}));
    };
    for id in ["m-1", "m-2", "m-3", "m-4"] {
        letter(id, "posted", at("2026-06-01", "15:00"));
    }
    // Long after the 24 hours; and within them, where another letter followed, in time and too late.
    letter("m-2", "returned", at("2026-06-20", "09:00"));
    for (id, day) in [("m-3", "2026-06-02"), ("m-4", "2026-06-03")] {
        letter(id, "returned", at("2026-06-02", "09:00"));
        letter(id, "posted", at(day, "10:00"));
    }
    for id in ["m-1", "m-2", "m-3", "m-4"] {
        made(&mut city, id, "coupon.suspended", "mandatory", &["inbox", "paper"], noon);
    }
    city.view("s-1", "GA01", at("2026-06-21", "09:00"));
    let lake = Fixture::new(&[&city]).await;
    let all = &lake.figures(R13, "2026-06-01", "2026-06-03", "").await[0];
    check(all, json!({"created": 4, "paper_posted": 4, "paper_returned": 3, "unreached_mandatory": 2}));
}

#[tokio::test]
async fn a_mail_that_came_back_has_reached_nobody() {
    let mut city = City::new(OSAKA);
    let noon = at("2026-06-01", "12:00");
    let took = |minute: &str| at("2026-06-01", &format!("12:{minute}"));
    for id in ["m-1", "m-2", "m-3"] {
        made(&mut city, id, "coupon.used", "mandatory", &["inbox", "email"], noon);
        step(&mut city, id, "sent", "email", noon, json!({"attempt": 1, "latency_ms": 1_000}));
        step(&mut city, id, "accepted", "email", took("01"), json!({"provider_ms": 500}));
    }
    let bounced = json!({"attempt": 1, "error_code": "bounced:5.1.1", "permanent": true});
    // Next month, and on the same day with another mail after it; the third mail stayed where it was.
    step(&mut city, "m-1", "failed", "email", at("2026-07-01", "09:00"), bounced.clone());
    step(&mut city, "m-2", "failed", "email", took("02"), bounced);
    step(&mut city, "m-2", "accepted", "email", took("30"), json!({"provider_ms": 700}));
    city.view("s-1", "GA01", at("2026-07-04", "09:00"));
    let lake = Fixture::new(&[&city]).await;
    let all = &lake.figures(R13, "2026-06-01", "2026-06-30", "").await[0];
    check(
        all,
        json!({
            "created": 3, "accepted": 3, "delivered": 2, "failed": 2, "delivery_rate": 66.7, "unreached_mandatory": 1,
            // That of m-2 is of the mail that arrived.
            "p50_latency_ms": 1_500, "p99_latency_ms": 1_700,
        }),
    );
    let rows = lake.underlying(R13, "2026-06-01", "2026-06-30", "messages").await;
    let arrived = |id: &str| {
        let row = rows.iter().find(|row| row["message_id"] == id && row["channel"] == "email").unwrap();
        (!row["accepted"].is_null(), !row["delivered"].is_null())
    };
    assert_eq!((arrived("m-1"), arrived("m-2"), arrived("m-3")), ((true, false), (true, true), (true, true)));
    let lines = lake.figures(ReportId::Kpi, "2026-06-01", "2026-06-30", "").await;
    let line = lines.iter().find(|row| row["kpi_id"] == "K13" && row["measure"] == "delivered").unwrap();
    assert_eq!(line["value"], json!(2.0));
    let counted = lake.underlying(ReportId::Kpi, "2026-06-01", "2026-06-30", "counted").await;
    assert_eq!(ids(&counted, "K13"), ["m-2", "m-3"]);
}

/// The messages among the rows of an indicator, each once.
fn ids(rows: &[Row], kpi: &str) -> Vec<String> {
    let of_kpi = rows.iter().filter(|row| row["kpi_id"] == kpi && row["measure"] != "released");
    let ids: BTreeSet<&str> = of_kpi.map(|row| row["counted_id"].as_str().unwrap()).collect();
    ids.into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn no_more_pushes_are_opened_than_arrive() {
    let mut city = City::new(OSAKA);
    let (may, june) = (at("2026-05-31", "23:00"), at("2026-06-01", "08:00"));
    // Opened a month later; opened without a word that it had come, one of them as only the app saw; not opened.
    for (id, when) in [("m-1", may), ("m-2", june), ("m-3", june), ("m-4", june)] {
        made(&mut city, id, "coupon.used", "mandatory", &["inbox", "push"], when);
    }
    step(&mut city, "m-1", "delivered", "push", may, json!({"latency_ms": 900}));
    step(&mut city, "m-4", "delivered", "push", june, json!({"latency_ms": 900}));
    for id in ["m-1", "m-2"] {
        step(&mut city, id, "opened", "push", june, json!({"open_latency_ms": 60_000}));
    }
    let opened = json!({"message_id": "m-3", "message_type": "coupon.used", "open_latency_ms": 60_000});
    city.event("app.push_opened", june, opened);
    let lake = Fixture::new(&[&city]).await;
    let months = lake.figures(R13, "2026-05-01", "2026-06-30", "month,channel").await;
    let lines = lake.figures(ReportId::Kpi, "2026-05-01", "2026-06-30", "").await;
    for (month, delivered, opened, rate) in [("2026-05", 1, 1, 100.0), ("2026-06", 3, 2, 66.7)] {
        let push = months.iter().find(|row| row["month"] == month && row["channel"] == "push").unwrap();
        check(push, json!({"delivered": delivered, "opened": opened, "open_rate": rate}));
        let value = |kpi: &str, measure: &str| {
            let mut of_month = lines.iter().filter(|row| row["month"] == month);
            of_month.find(|row| row["kpi_id"] == kpi && row["measure"] == measure).unwrap()["value"].clone()
        };
        assert_eq!(value("K13", "delivered"), json!(f64::from(delivered)), "{month}");
        assert_eq!(value("K14", "opened"), json!(f64::from(opened)), "{month}");
        assert_eq!(value("K14", "open_rate"), json!(rate), "{month}");
    }
    let counted = lake.underlying(ReportId::Kpi, "2026-06-01", "2026-06-30", "counted").await;
    assert_eq!((ids(&counted, "K13").len(), ids(&counted, "K14").len()), (3, 2));
}

#[tokio::test]
async fn reachable_devices_are_those_whose_last_word_was_yes() {
    let mut city = City::new(OSAKA);
    let mut word = |device: i64, granted: bool, when: Timestamp| {
        let payload = json!({"device_key": device, "granted": granted});
        city.event("app.push_permission_changed", when, payload);
    };
    word(1, true, at("2026-05-10", "10:00"));
    word(2, true, at("2026-05-11", "10:00"));
    word(2, false, at("2026-06-05", "10:00"));
    word(3, true, at("2026-06-06", "10:00"));
    word(4, true, at("2026-06-07", "10:00"));
    let lake = Fixture::new(&[&city]).await;
    let lines = lake.figures(ReportId::Kpi, "2026-05-01", "2026-06-30", "").await;
    let value = |measure: &str, month: &str| {
        let line =
            lines.iter().find(|r| r["kpi_id"] == "K08" && r["measure"] == measure && r["month"] == month).unwrap();
        (line["value"].clone(), line["cumulative"].clone())
    };
    assert_eq!(value("reachable", "2026-05").0, json!(2.0));
    assert_eq!(value("reachable", "2026-06").0, json!(3.0));
    assert_eq!(value("increase", "2026-06"), (json!(1.0), json!(3.0)), "two in May and one in June");
}
