//! R01: the reference figure, the rows behind the figures, the check line, the wall.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use todoke_analytics::{ErrorKind, Format, ReportError, ReportId, ReportRequest, RowsKind, format};
use todoke_domain::Timestamp;

use crate::{
    city::{City, Fixture, OSAKA, Row, at, check, request, rows},
    ledger::{Coupon, Seed, register},
};

const R01: ReportId = ReportId::StatisticsSimple;
const HERE: (&str, &str) = ("temp_care_public", "f-1");

fn reference_city() -> City {
    let mut city = City::new(OSAKA);
    register(&mut city, 10, at("2026-06-01", "09:00"), "271021", 1, Some(at("2026-06-20", "09:00")));
    let mut coupon = Coupon::new("c-1", 10, "set-1");
    coupon.distribute(&mut city, at("2026-06-01", "10:00"), 10_000);
    coupon.spend(&mut city, at("2026-06-02", "10:00"), "u-1", 1_200, "service", HERE);
    coupon.spend(&mut city, at("2026-06-03", "10:00"), "u-2", 800, "service", HERE);
    coupon.reverse(&mut city, at("2026-06-04", "10:00"), "u-2", 800, "service", HERE);
    coupon.revoke(&mut city, at("2026-06-20", "10:00"));
    city
}

#[tokio::test]
async fn the_reference_ledger_gives_the_reference_figures() {
    let lake = Fixture::new(&[&reference_city()]).await;
    let figures = lake.figures(R01, "2026-06-01", "2026-06-30", "").await;
    assert_eq!(figures.len(), 1);
    check(
        &figures[0],
        json!({
            "coupon_registrations": 1, "coupon_registrations_revoked": 1, "coupon_guardians": 1, "registered_end": 0,
            "balance_start_yen": 0, "distributed_yen": 10_000, "adjusted_yen": 0, "service_uses": 1, "used_yen": 1_200,
            "of_which_cancel_fee_yen": 0, "users": 1, "expired_yen": 0, "revoked_yen": 8_800, "balance_end_yen": 0,
            "usage_rate_yen": 12.0, "usage_rate_units": null, "used_units": 0,
            "period_from": "2026-06-01", "period_to": "2026-06-30", "created_at": "2026-11-21T01:00:00.000000Z",
        }),
    );
}

#[tokio::test]
async fn a_reversal_counts_where_it_happened_and_empty_places_show_zero() {
    let mut city = City::new(OSAKA);
    register(&mut city, 10, at("2026-06-01", "09:00"), "271021", 1, None);
    let mut coupon = Coupon::new("c-1", 10, "set-1");
    coupon.distribute(&mut city, at("2026-06-01", "10:00"), 10_000);
    // The last microsecond of June in Japan is still June, whatever UTC says.
    let last = at("2026-07-01", "00:00").minus(Duration::from_micros(1));
    coupon.spend(&mut city, last, "u-1", 800, "service", HERE);
    coupon.reverse(&mut city, at("2026-07-01", "00:00"), "u-1", 800, "service", HERE);
    let lake = Fixture::new(&[&city]).await;
    let months = lake.figures(R01, "2026-05-01", "2026-08-31", "month").await;
    let column = |name: &str| months.iter().map(|row| row[name].clone()).collect::<Vec<Value>>();
    assert_eq!(column("month"), ["2026-05", "2026-06", "2026-07", "2026-08"]);
    assert_eq!(column("service_uses"), [0, 1, -1, 0]);
    assert_eq!(column("used_yen"), [0, 800, -800, 0]);
    assert_eq!(column("users"), [0, 1, 0, 0]);
    assert_eq!(column("registered_end"), [0, 1, 1, 1]);
    assert_eq!(column("balance_start_yen"), [0, 0, 9_200, 10_000]);
    assert_eq!(column("balance_end_yen"), [0, 9_200, 10_000, 10_000]);
    assert_eq!(column("usage_rate_yen"), [json!(null), json!(8.0), json!(-8.7), json!(0.0)]);
}

#[tokio::test]
async fn an_empty_lake_gives_one_line_of_zeros() {
    let lake = Fixture::new(&[]).await;
    let figures = lake.figures(R01, "2026-06-01", "2026-06-30", "").await;
    assert_eq!(figures.len(), 1);
    check(&figures[0], json!({"coupon_registrations": 0, "used_yen": 0, "balance_end_yen": 0, "usage_rate_yen": null}));
    assert!(lake.underlying(R01, "2026-06-01", "2026-06-30", "rows").await.is_empty());
}

#[tokio::test]
async fn a_ledger_that_does_not_add_up_blocks_figures_and_rows() {
    let mut city = reference_city();
    city.events.retain(|event| event.payload.get("use_id") != Some(&json!("u-1")));
    let lake = Fixture::new(&[&city]).await;
    for rows in [RowsKind::Figures, RowsKind::Underlying(None)] {
        let asked = ReportRequest { rows, ..request(R01, "2026-06-01", "2026-06-30", "") };
        let error = lake.engine.report(&asked).await.unwrap_err();
        assert!(matches!(error, ReportError::CheckFailed { n_coupons: 1, .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
}

#[tokio::test]
async fn an_offline_use_noted_for_an_earlier_day_does_not_break_the_check() {
    let mut city = City::new(OSAKA);
    let mut coupon = Coupon::new("c-1", 10, "set-1");
    coupon.distribute(&mut city, at("2026-05-01", "10:00"), 1_000);
    coupon.distribute(&mut city, at("2026-06-01", "00:05"), 1_000);
    coupon.spend(&mut city, at("2026-05-31", "15:00"), "u-1", 300, "service", HERE);
    let lake = Fixture::new(&[&city]).await;
    let figures = lake.figures(R01, "2026-05-01", "2026-06-30", "month").await;
    check(&figures[0], json!({"balance_end_yen": 700, "used_yen": 300}));
    check(&figures[1], json!({"balance_start_yen": 700, "balance_end_yen": 1_700}));
}

/// Fourteen months of forty coupons.
fn random_city(seed: u64, raw: &str) -> City {
    let mut city = City::new(raw);
    let mut seed = Seed(seed);
    for n in 0..40_i64 {
        let child = 1_000 + n * 10;
        let mut now = at("2025-05-01", "00:00").plus(Duration::from_secs(seed.below(200 * 86_400)));
        let ward = format!("27102{}", seed.below(3));
        let revoked = (n % 9 == 0).then(|| now.plus(Duration::from_secs(seed.below(200 * 86_400))));
        register(&mut city, child, now, &ward, i64::try_from(seed.below(3)).unwrap(), revoked);
        let mut coupon = Coupon::new(&format!("c-{n}"), child, if n % 2 == 0 { "set-old" } else { "set-new" });
        let mut open: Vec<(String, i64, &str, (&str, &str))> = Vec::new();
        coupon.distribute(&mut city, now, 10_000);
        for step in 0..seed.below(20) {
            now = now.plus(Duration::from_secs(1 + seed.below(25 * 86_400)));
            let place = [("temp_care_public", "f-1"), ("temp_care_public", "f-2"), ("short_stay", "f-2")]
                [seed.below(3) as usize];
            match seed.below(10) {
                0 => coupon.distribute(&mut city, now, 5_000),
                1 => coupon.adjust(&mut city, now, 300),
                2 if coupon.balance > 400 => coupon.adjust(&mut city, now, -400),
                3 => {
                    let rest = coupon.balance / 2;
                    coupon.expire(&mut city, now, rest);
                }
                4 | 5 if !open.is_empty() => {
                    let (id, yen, purpose, place) = open.remove(seed.below(open.len() as u64) as usize);
                    coupon.reverse(&mut city, now, &id, yen, purpose, place);
                }
                _ if coupon.balance > 0 => {
                    let yen = 1 + i64::try_from(seed.below(coupon.balance.unsigned_abs())).unwrap() % 900;
                    let purpose = if seed.below(5) == 0 { "cancellation_fee" } else { "service" };
                    let id = format!("u-{raw}-{n}-{step}");
                    coupon.spend(&mut city, now, &id, yen, purpose, place);
                    open.push((id, yen, purpose, place));
                }
                _ => {}
            }
        }
        if n % 9 == 0 {
            coupon.revoke(&mut city, now.plus(Duration::from_secs(60)));
        }
    }
    city
}

fn sum(rows: &[&Row], types: &[&str], sign: i64) -> i64 {
    let counted = rows.iter().filter(|row| types.contains(&row["event_type"].as_str().unwrap()));
    counted.map(|row| sign * row["amount_yen"].as_i64().unwrap()).sum()
}

fn count(rows: &[&Row], event_type: &str, purpose: Option<&str>) -> i64 {
    let same = |row: &&&Row| row["event_type"] == event_type && purpose.is_none_or(|purpose| row["purpose"] == purpose);
    rows.iter().filter(same).count() as i64
}

fn distinct(rows: &[&Row], name: &str) -> usize {
    rows.iter().map(|row| row[name].to_string()).collect::<BTreeSet<_>>().len()
}

/// Every column of one line of the report, made again from nothing but the underlying rows.
fn added_up(all: &[&Row]) -> Value {
    let opening: Vec<&Row> = all.iter().copied().filter(|row| row["line"] == "opening").collect();
    let period: Vec<&Row> = all.iter().copied().filter(|row| row["line"] == "period").collect();
    let money = |rows: &[&Row]| rows.iter().filter_map(|row| row["amount_yen"].as_i64()).sum::<i64>();
    let undone: BTreeSet<String> =
        period.iter().filter(|r| r["event_type"] == "coupon.use_reversed").map(|r| r["use_id"].to_string()).collect();
    let net: Vec<&Row> = period
        .iter()
        .copied()
        .filter(|row| row["event_type"] == "coupon.used" && !undone.contains(&row["use_id"].to_string()))
        .collect();
    let approved: Vec<&Row> = period.iter().copied().filter(|row| row["event_type"] == "application.decided").collect();
    let revoked: BTreeSet<String> = all
        .iter()
        .filter(|r| r["event_type"] == "application.decision_revoked")
        .map(|r| r["application_id"].to_string())
        .collect();
    let standing: Vec<&Row> = all
        .iter()
        .copied()
        .filter(|row| {
            row["event_type"] == "application.decided" && !revoked.contains(&row["application_id"].to_string())
        })
        .collect();
    let fees: Vec<&Row> = period.iter().copied().filter(|row| row["purpose"] == "cancellation_fee").collect();
    let used = ["coupon.used", "coupon.use_reversed"];
    json!({
        "coupon_registrations": approved.len(),
        "coupon_registrations_revoked": count(&period, "application.decision_revoked", None),
        "coupon_guardians": distinct(&approved, "guardian_key"),
        "registered_end": distinct(&standing, "child_key"),
        "balance_start_yen": money(&opening),
        "distributed_yen": sum(&period, &["coupon.distributed"], 1),
        "adjusted_yen": sum(&period, &["coupon.adjusted"], 1),
        "service_uses": count(&period, "coupon.used", Some("service")) - count(&period, "coupon.use_reversed", Some("service")),
        "used_yen": sum(&period, &used, -1),
        "of_which_cancel_fee_yen": sum(&fees, &used, -1),
        "users": distinct(&net, "child_key"),
        "expired_yen": sum(&period, &["coupon.expired"], -1),
        "revoked_yen": sum(&period, &["coupon.revoked"], -1),
        "balance_end_yen": money(all),
    })
}

#[tokio::test]
async fn underlying_rows_add_up_to_every_figure() {
    let osaka = random_city(7, OSAKA);
    let sakai = random_city(11, "271403");
    let lake = Fixture::new(&[&osaka, &sakai]).await;
    let alone = Fixture::new(&[&osaka]).await;
    for (from, to) in [("2025-04-01", "2026-10-31"), ("2025-09-01", "2025-12-31"), ("2026-01-15", "2026-01-15")] {
        let rows = lake.underlying(R01, from, to, "rows").await;
        let all: Vec<&Row> = rows.iter().collect();
        for by in ["", "ward_code", "class_age", "coupon_set_id", "coupon_kind", "ward_code,class_age"] {
            let figures = lake.figures(R01, from, to, by).await;
            if by.is_empty() {
                assert_eq!(
                    strip(&figures),
                    strip(&alone.figures(R01, from, to, by).await),
                    "another city changes nothing"
                );
            }
            for line in &figures {
                let names: Vec<&str> = by.split(',').filter(|name| !name.is_empty()).collect();
                let of_line: Vec<&Row> =
                    all.iter().copied().filter(|row| names.iter().all(|n| row[*n] == line[*n])).collect();
                let mut expected = added_up(&of_line);
                if by.contains("coupon") {
                    // Registrations are not told by coupon set.
                    for name in
                        ["coupon_registrations", "coupon_registrations_revoked", "coupon_guardians", "registered_end"]
                    {
                        expected[name] = Value::Null;
                    }
                }
                check(line, expected);
            }
        }
        for (by, name) in [("programme_code", "programme"), ("facility_id", "facility")] {
            for line in &lake.figures(R01, from, to, by).await {
                let of_line: Vec<&Row> = all.iter().copied().filter(|row| row[name] == line[by]).collect();
                let expected = added_up(&of_line);
                for name in ["service_uses", "used_yen", "of_which_cancel_fee_yen", "users"] {
                    assert_eq!(line[name], expected[name], "{name} by {by}");
                }
                assert!(line["balance_end_yen"].is_null() && line["distributed_yen"].is_null());
            }
        }
    }
}

/// Rows without the snapshot, which names the lake.
fn strip(rows: &[Row]) -> Vec<Row> {
    let without = |row: &Row| {
        row.iter().filter(|(name, _)| *name != "snapshot_id").map(|(n, v)| (n.clone(), v.clone())).collect()
    };
    rows.iter().map(without).collect()
}

#[tokio::test]
async fn months_add_up_and_balances_carry_over() {
    let lake = Fixture::new(&[&random_city(3, OSAKA)]).await;
    let total = &lake.figures(R01, "2025-04-01", "2026-10-31", "").await[0];
    let months = lake.figures(R01, "2025-04-01", "2026-10-31", "month").await;
    assert_eq!(months.len(), 19);
    for name in [
        "service_uses",
        "used_yen",
        "distributed_yen",
        "adjusted_yen",
        "expired_yen",
        "revoked_yen",
        "coupon_registrations",
    ] {
        let sum: i64 = months.iter().map(|row| row[name].as_i64().unwrap()).sum();
        assert_eq!(json!(sum), total[name], "{name}");
    }
    for pair in months.windows(2) {
        assert_eq!(pair[0]["balance_end_yen"], pair[1]["balance_start_yen"]);
    }
    let number = |row: &Row, name: &str| row[name].as_i64().unwrap();
    for row in &months {
        let end = number(row, "balance_start_yen") + number(row, "distributed_yen") + number(row, "adjusted_yen")
            - number(row, "used_yen")
            - number(row, "expired_yen")
            - number(row, "revoked_yen");
        assert_eq!(end, number(row, "balance_end_yen"), "check line");
    }
    let one_set =
        ReportRequest { coupon_set_id: Some("set-old".to_owned()), ..request(R01, "2025-04-01", "2026-10-31", "") };
    let one_set = rows(&lake.engine.report(&one_set).await.unwrap());
    let sets = lake.figures(R01, "2025-04-01", "2026-10-31", "coupon_set_id").await;
    let same = sets.iter().find(|row| row["coupon_set_id"] == "set-old").unwrap();
    assert_eq!(one_set[0]["used_yen"], same["used_yen"]);
}

#[tokio::test]
async fn a_hostile_set_id_is_only_a_value() {
    let lake = Fixture::new(&[&reference_city()]).await;
    let asked =
        ReportRequest { coupon_set_id: Some("' OR 1=1 --".to_owned()), ..request(R01, "2026-06-01", "2026-06-30", "") };
    check(&rows(&lake.engine.report(&asked).await.unwrap())[0], json!({"used_yen": 0, "distributed_yen": 0}));
}

#[tokio::test]
async fn the_same_snapshot_gives_the_same_file() {
    let lake = Fixture::new(&[&random_city(5, OSAKA)]).await;
    let csv = || async {
        let table = lake.report(R01, "2025-04-01", "2026-10-31", "month,ward_code").await.unwrap();
        String::from_utf8(format::report_bytes(&table, Format::Csv).unwrap()).unwrap()
    };
    let (first, second) = (csv().await, csv().await);
    assert_eq!(first, second);
    assert!(first.starts_with('\u{feff}') && first.ends_with("\r\n"));
    let header = first.trim_start_matches('\u{feff}').lines().next().unwrap();
    assert!(header.starts_with("month,ward_code,coupon_registrations,"), "{header}");
    assert!(header.ends_with(",period_from,period_to,snapshot_id,created_at"), "{header}");
    assert!(first.contains(",2026-11-21T10:00:00+09:00\r\n"));
    let _: Timestamp = at("2026-11-21", "10:00");
}
