//! R05: reference figures, sessions, returns, rolling users, and the rows behind the figures.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use todoke_analytics::ReportId;

use crate::{
    city::{City, Fixture, OSAKA, Row, at, check, day},
    ledger::Seed,
};

const R05: ReportId = ReportId::AppUsage;

#[tokio::test]
async fn a_session_belongs_to_the_day_of_its_start() {
    let mut city = City::new(OSAKA);
    city.session("s-1", 7, at("2026-06-01", "23:50"));
    city.view("s-1", "GA01", at("2026-06-02", "00:10"));
    city.session("s-2", 7, at("2026-06-02", "00:45"));
    city.end("s-2", at("2026-06-02", "00:50"), 300_000);
    let lake = Fixture::new(&[&city]).await;
    let days = lake.figures(R05, "2026-06-01", "2026-06-03", "day").await;
    assert_eq!(days.len(), 3, "a day without rows shows");
    check(&days[0], json!({"day": "2026-06-01", "dau": 1, "sessions": 1, "avg_session_sec": 1200.0}));
    check(&days[1], json!({"day": "2026-06-02", "dau": 1, "sessions": 1, "avg_session_sec": 300.0}));
    check(&days[2], json!({"day": "2026-06-03", "sessions": 0, "avg_session_sec": null}));
    let sessions = lake.sql("SELECT session_id, duration_ms, screens FROM sessions ORDER BY session_id").await.unwrap();
    let text =
        String::from_utf8(todoke_analytics::format::answer_bytes(&sessions, "csv".parse().unwrap()).unwrap()).unwrap();
    assert_eq!(
        text.trim_start_matches('\u{feff}'),
        "session_id,duration_ms,screens\r\ns-1,1200000,1\r\ns-2,300000,0\r\n"
    );
}

#[tokio::test]
async fn silence_ends_a_session_and_four_hours_are_the_most() {
    let mut city = City::new(OSAKA);
    city.session("silent", 1, at("2026-06-01", "09:00"));
    city.view("silent", "GA01", at("2026-06-01", "09:30"));
    city.view("silent", "GA02", at("2026-06-01", "10:01"));
    city.session("long", 2, at("2026-06-01", "09:00"));
    city.end("long", at("2026-06-01", "19:00"), 36_000_000);
    city.session("alone", 3, at("2026-06-01", "09:00"));
    let lake = Fixture::new(&[&city]).await;
    let row = &lake.figures(R05, "2026-06-01", "2026-06-01", "").await[0];
    // 30 minutes exactly are no silence yet; 31 are. 1,800 s, 14,400 s and 0 s.
    check(row, json!({"sessions": 3, "avg_session_sec": 5400.0, "screen_views": 2, "views_per_session": 0.7}));
    let rows = lake.underlying(R05, "2026-06-01", "2026-06-01", "sessions").await;
    let durations: BTreeSet<i64> = rows.iter().map(|row| row["duration_ms"].as_i64().unwrap()).collect();
    assert_eq!(durations, BTreeSet::from([0, 1_800_000, 14_400_000]));
}

#[tokio::test]
async fn cohorts_return_on_the_reference_days() {
    let mut city = City::new(OSAKA);
    for guardian in 1..=10 {
        city.session(&format!("a-{guardian}"), guardian, at("2026-06-01", "10:00"));
    }
    for guardian in 1..=4 {
        city.session(&format!("b-{guardian}"), guardian, at("2026-06-08", "10:00"));
    }
    for guardian in 1..=2 {
        city.session(&format!("c-{guardian}"), guardian, at("2026-06-02", "10:00"));
    }
    let lake = Fixture::new(&[&city]).await;
    let row = &lake.figures(R05, "2026-06-01", "2026-06-01", "").await[0];
    check(
        row,
        json!({
            "cohort_users": 10, "cohort_d1": 10, "retained_users_d1": 2, "retention_d1": 20.0,
            "cohort_d7": 10, "retained_users_d7": 4, "retention_d7": 40.0,
            // The lake knows nothing after 8 June: the cohort is too young for day 30 and for month 1.
            "cohort_d30": 0, "retention_d30": null, "cohort_m1": 0, "retention_m1": null,
        }),
    );
    // Later data make it old enough.
    let mut later = City::new(OSAKA);
    later.events = city.events.clone();
    later.session("d-9", 9, at("2026-07-31", "10:00"));
    let lake = Fixture::new(&[&later]).await;
    let row = &lake.figures(R05, "2026-06-01", "2026-06-30", "month").await[0];
    check(
        row,
        json!({"cohort_d30": 10, "retention_d30": 0.0, "cohort_m1": 10, "retained_users_m1": 1, "retention_m1": 10.0}),
    );
}

#[tokio::test]
async fn devices_consent_push_and_errors_are_counted() {
    let mut city = City::new(OSAKA);
    for guardian in 1..=4 {
        let registered = at("2026-05-01", "10:00");
        city.event("account.registered", registered, json!({
            "guardian_key": guardian, "method": "mail", "ward_code": "271021", "age_band": null, "contact_channel": "app", "children": 1,
        }));
    }
    let consent = |city: &mut City, what: &str, guardian: i64, date: &str| {
        let payload = json!({"guardian_key": guardian, "consent_kind": "usage_analytics", "version": 1});
        city.event(&format!("account.consent_{what}"), at(date, "10:00"), payload);
    };
    consent(&mut city, "granted", 1, "2026-05-02");
    consent(&mut city, "granted", 2, "2026-05-02");
    consent(&mut city, "withdrawn", 2, "2026-06-05");
    consent(&mut city, "granted", 3, "2026-06-06");
    city.event(
        "account.deleted",
        at("2026-06-07", "10:00"),
        json!({"account_key": 3, "role": "guardian", "reason": "self", "cascaded": false}),
    );
    for device in 1..=3 {
        city.event(
            "app.first_opened",
            at("2026-06-01", "10:00"),
            json!({"device_key": device, "platform": "ios", "app_version": "1.0.0"}),
        );
        city.event(
            "app.push_permission_changed",
            at("2026-06-01", "10:01"),
            json!({"device_key": device, "granted": true}),
        );
    }
    city.event("app.push_permission_changed", at("2026-06-03", "10:01"), json!({"device_key": 1, "granted": false}));
    city.session("s-1", 1, at("2026-06-02", "10:00"));
    city.session("s-2", 2, at("2026-06-02", "11:00"));
    for at_view in ["10:01", "10:02", "10:03", "10:04"] {
        city.view("s-1", "GA01", at("2026-06-02", at_view));
    }
    city.event(
        "app.error_occurred",
        at("2026-06-02", "10:05"),
        json!({
            "session_id": "s-1", "screen_id": "GA01", "error_kind": "crash", "code": null, "fatal": true,
        }),
    );
    for n in 1..=3 {
        let message = format!("m-{n}");
        city.event("message.created", at("2026-06-02", "09:00"), json!({
            "message_id": message, "message_type": "coupon.used", "template_version": 1, "locale": "ja", "recipient_key": 1,
            "recipient_role": "guardian", "class": "mandatory", "channels": ["push"], "collapse_key": null, "deadline": null, "cause_event_id": "e",
        }));
        city.event(
            "message.delivered",
            at("2026-06-02", "09:01"),
            json!({"message_id": message, "channel": "push", "latency_ms": 1000}),
        );
    }
    city.event(
        "app.push_opened",
        at("2026-06-02", "09:05"),
        json!({
            "session_id": null, "message_id": "m-1", "message_type": "coupon.used", "open_latency_ms": 1,
        }),
    );
    let lake = Fixture::new(&[&city]).await;
    let row = &lake.figures(R05, "2026-06-01", "2026-06-30", "").await[0];
    check(
        row,
        json!({
            "first_opens": 3, "push_reachable": 2, "push_opened": 1, "push_delivered": 3, "push_open_rate": 33.3,
            "registered": 3, "consenting": 1, "coverage": 33.3,
            "errors": 1, "sessions_with_error": 1, "error_rate_sessions": 50.0, "crashed_users": 1, "crash_free_users": 50.0,
            "errors_per_1000_views": 250.0, "mau": 2, "active_users": 2,
        }),
    );
    let days = lake.figures(R05, "2026-06-01", "2026-06-07", "day").await;
    let column = |name: &str| days.iter().map(|row| row[name].clone()).collect::<Vec<Value>>();
    assert_eq!(column("push_reachable"), [3, 3, 2, 2, 2, 2, 2]);
    assert_eq!(column("consenting"), [2, 2, 2, 2, 1, 2, 1]);
    let by_screen = lake.figures(R05, "2026-06-01", "2026-06-30", "screen_id,error_kind").await;
    check(
        &by_screen[0],
        json!({"screen_id": "GA01", "error_kind": "crash", "screen_views": 4, "errors": 1, "errors_per_1000_views": 250.0}),
    );
    let by_type = lake.figures(R05, "2026-06-01", "2026-06-30", "message_type").await;
    check(
        &by_type[0],
        json!({"message_type": "coupon.used", "push_opened": 1, "push_delivered": 3, "push_open_rate": 33.3}),
    );
    let members = lake.underlying(R05, "2026-06-01", "2026-06-30", "members").await;
    let sum = |name: &str| members.iter().map(|row| row[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!((sum("registered"), sum("consenting")), (3, 1));
}

fn random_city(seed: u64) -> City {
    let mut city = City::new(OSAKA);
    let mut seed = Seed(seed);
    for n in 0..400_u64 {
        let guardian = 1 + i64::try_from(seed.below(40)).unwrap();
        let start = at("2026-03-01", "00:00").plus(Duration::from_secs(seed.below(120 * 86_400)));
        let id = format!("s-{n}");
        let known = seed.below(12) > 0;
        let platform = ["ios", "android", "web"][guardian as usize % 3];
        city.event("app.session_started", start, json!({
            "session_id": id, "guardian_key": if known { json!(guardian) } else { Value::Null }, "device_key": guardian + 1_000_000,
            "platform": platform, "os_version": "18",
            "app_version": if seed.below(2) == 0 { "1.0.0" } else { "1.1.0" }, "entry": "icon",
            "actor_role": if guardian % 5 == 0 { "proxy_guardian" } else { "guardian" },
        }));
        let mut now = start;
        for _ in 0..seed.below(6) {
            now = now.plus(Duration::from_secs(seed.below(2_400)));
            city.view(&id, ["GA01", "GA02"][seed.below(2) as usize], now);
        }
        if seed.below(10) == 0 {
            city.event("app.error_occurred", now, json!({
                "session_id": id, "screen_id": "GA02", "error_kind": "network", "code": null, "fatal": seed.below(2) == 0,
            }));
        }
        if seed.below(4) > 0 {
            let length = now.since(start).as_millis() as i64;
            city.end(&id, now, length);
        }
    }
    city
}

fn users(rows: &[&Row], days: std::ops::RangeInclusive<jiff::civil::Date>) -> usize {
    let active = rows
        .iter()
        .filter(|row| !row["guardian_key"].is_null() && days.contains(&day(row["jst_date"].as_str().unwrap())));
    active.map(|row| row["guardian_key"].to_string()).collect::<BTreeSet<_>>().len()
}

#[tokio::test]
async fn underlying_rows_add_up_to_every_figure() {
    use jiff::ToSpan;
    let lake = Fixture::new(&[&random_city(42)]).await;
    let (from, to) = ("2026-04-10", "2026-05-20");
    let sessions = lake.underlying(R05, from, to, "sessions").await;
    let views = lake.underlying(R05, from, to, "views").await;
    let errors = lake.underlying(R05, from, to, "errors").await;
    let cohorts = lake.underlying(R05, from, to, "cohorts").await;
    for by in ["day", "week", "month", "", "platform", "app_version", "role", "month,platform,role"] {
        for line in lake.figures(R05, from, to, by).await {
            let (mut first, mut last) = (day(from), day(to));
            if let Some(name) = ["day", "week", "month"].into_iter().find(|name| by.contains(name)) {
                let text = line[name].as_str().unwrap();
                let start = if name == "month" { day(&format!("{text}-01")) } else { day(text) };
                let end = match name {
                    "day" => start,
                    "week" => start.saturating_add(6.days()),
                    _ => start.last_of_month(),
                };
                (first, last) = (first.max(start), last.min(end));
            }
            let of_line = |row: &&Row| {
                ["platform", "app_version", "role"].iter().all(|name| !by.contains(name) || row[*name] == line[*name])
            };
            let inside = |row: &&Row| (first..=last).contains(&day(row["jst_date"].as_str().unwrap()));
            let all: Vec<&Row> = sessions.iter().filter(of_line).collect();
            let now: Vec<&Row> = all.iter().copied().filter(|row| inside(row)).collect();
            let views = views.iter().filter(of_line).filter(inside).count();
            let errors = errors.iter().filter(of_line).filter(inside).count();
            let week = last.saturating_sub(i64::from(last.weekday().to_monday_zero_offset()).days());
            let total_ms: i64 = now.iter().map(|row| row["duration_ms"].as_i64().unwrap()).sum();
            let n = now.len() as i64;
            let average = (n > 0).then(|| ((2 * total_ms + 100 * n).div_euclid(200 * n)) as f64 / 10.0);
            check(
                &line,
                json!({
                    "sessions": n,
                    "avg_session_sec": average,
                    "dau": users(&all, last..=last),
                    "wau": users(&all, week..=week.saturating_add(6.days())),
                    "mau": users(&all, last.first_of_month()..=last.last_of_month()),
                    "active_7d": users(&all, last.saturating_sub(6.days())..=last),
                    "active_30d": users(&all, last.saturating_sub(29.days())..=last),
                    "active_users": users(&all, first..=last),
                    "screen_views": views,
                    "errors": errors,
                    "sessions_with_error": now.iter().filter(|row| row["errors"].as_i64().unwrap() > 0).count(),
                }),
            );
            let cohort: Vec<&Row> = cohorts
                .iter()
                .filter(of_line)
                .filter(|row| (first..=last).contains(&day(row["first_day"].as_str().unwrap())))
                .collect();
            for n in ["d1", "d7", "d30", "m1", "m2", "m11"] {
                let told: Vec<i64> = cohort.iter().filter_map(|row| row[n].as_i64()).collect();
                assert_eq!(line[&format!("cohort_{n}")], json!(told.len()), "{n} {by}");
                assert_eq!(line[&format!("retained_users_{n}")], json!(told.iter().sum::<i64>()), "{n} {by}");
            }
        }
    }
}
