//! What prefecture and state see of a municipality: figures that enough persons are behind, from the real reports.

use serde_json::{Value, json};
use todoke_analytics::{ReportId, aggregate};

use crate::{
    city::{City, Fixture, OSAKA, at},
    ledger::{Coupon, register},
};

/// A report of June and July as it is offered: names of the columns, and a row for each month.
async fn offered(city: &City, report: ReportId) -> (Vec<String>, Vec<Vec<Value>>) {
    let lake = Fixture::new(&[city]).await;
    let made = aggregate(&lake.report(report, "2026-06-01", "2026-07-31", "month").await.unwrap());
    (made.columns.into_iter().map(|column| column.name).collect(), made.rows)
}

#[tokio::test]
async fn a_month_with_five_users_shows_their_uses_and_one_with_four_does_not() {
    let mut city = City::new(OSAKA);
    for n in 1..=6 {
        register(&mut city, n * 10, at("2026-06-01", "09:00"), "271021", 1, None);
        let mut coupon = Coupon::new(&format!("c-{n}"), n * 10, "set-1");
        coupon.distribute(&mut city, at("2026-06-01", "10:00"), 10_000);
        for (month, users) in [("2026-06", 5), ("2026-07", 4)] {
            if n <= users {
                let (when, use_id) = (at(&format!("{month}-02"), "10:00"), format!("u-{month}-{n}"));
                coupon.spend(&mut city, when, &use_id, 1_000, "service", ("temp_care_public", "f-1"));
            }
        }
    }
    let (columns, rows) = offered(&city, ReportId::StatisticsSimple).await;
    assert_eq!(
        columns,
        [
            "month",
            "coupon_registrations",
            "coupon_registrations_revoked",
            "coupon_guardians",
            "registered_end",
            "service_uses",
            "used_yen",
            "used_units",
            "users",
        ]
    );
    let june = json!(["2026-06", 6, "*", 6, 6, 5, 5_000, 0, 5]);
    let july = json!(["2026-07", "*", "*", "*", 6, "*", "*", "*", "*"]);
    assert_eq!(json!(rows), json!([june, july]));
}

#[tokio::test]
async fn a_month_with_five_active_people_shows_what_they_did_and_one_with_four_does_not() {
    let mut city = City::new(OSAKA);
    for (month, people) in [("2026-06", 5), ("2026-07", 4)] {
        for person in 1..=people {
            let session = format!("s-{month}-{person}");
            city.session(&session, person, at(&format!("{month}-10"), "10:00"));
            city.end(&session, at(&format!("{month}-10"), "10:01"), 60_000);
        }
    }
    let (columns, rows) = offered(&city, ReportId::AppUsage).await;
    let cells = |name: &str| {
        let at = columns.iter().position(|column| column == name).unwrap_or_else(|| panic!("no {name}: {columns:?}"));
        [rows[0][at].clone(), rows[1][at].clone()]
    };
    for (name, june) in
        [("active_users", json!(5)), ("mau", json!(5)), ("sessions", json!(5)), ("screen_views", json!(0))]
    {
        assert_eq!(cells(name), [june, json!("*")], "{name}");
    }
    assert_eq!(cells("avg_session_sec"), [json!(60.0), json!("*")]);
    assert_eq!(cells("cohort_users"), [json!(5), json!("*")], "nobody came for the first time in July");
    for uncounted in ["errors", "push_reachable", "crashed_users", "first_opens", "push_opened", "snapshot_id"] {
        assert!(!columns.iter().any(|column| column == uncounted), "{uncounted}");
    }
}
