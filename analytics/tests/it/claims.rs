//! R08: what a claim holds, how far it has come, who is told of it, and the rows behind its figures.

use std::collections::BTreeSet;

use serde_json::json;
use todoke_analytics::{ClaimsOf, ReportId, ReportRequest, RowsKind};
use todoke_domain::{Timestamp, ids::FacilityId};

use crate::{
    city::{City, Fixture, OSAKA, Row, at, check, request, rows},
    ledger::Coupon,
};

const R08: ReportId = ReportId::CouponClaim;
const PROGRAMME: &str = "temp_care_public";
const SERVICE: &str = "service";

fn compute(city: &mut City, at: Timestamp, (id, facility, month): (&str, &str, &str), uses: &[&str], undone: &[&str]) {
    city.event(
        "claim.created",
        at,
        json!({
            "claim_id": id, "month": month, "use_ids": uses, "reversal_ids": undone, "amount_yen": 0,
            "facility_id": facility, "programme_code": PROGRAMME,
        }),
    );
}

/// In June three uses of two children, one of them a fee; in July a use, and one of June's is undone.
fn used_in_two_months(facility: &str) -> City {
    let mut city = City::new(OSAKA);
    let here = (PROGRAMME, facility);
    let (mut one, mut two) = (Coupon::new("c-1", 10, "set-1"), Coupon::new("c-2", 20, "set-1"));
    one.distribute(&mut city, at("2026-06-01", "09:00"), 10_000);
    two.distribute(&mut city, at("2026-06-01", "09:00"), 10_000);
    one.spend(&mut city, at("2026-06-02", "10:00"), "u-1", 1_200, SERVICE, here);
    one.spend(&mut city, at("2026-06-03", "10:00"), "u-2", 800, SERVICE, here);
    two.spend(&mut city, at("2026-06-04", "10:00"), "u-3", 500, "cancellation_fee", here);
    one.reverse(&mut city, at("2026-07-02", "10:00"), "u-2", 800, SERVICE, here);
    two.spend(&mut city, at("2026-07-03", "10:00"), "u-4", 300, SERVICE, here);
    city
}

fn yen(rows: &[&Row], counts: impl Fn(&Row) -> bool) -> i64 {
    rows.iter().filter(|row| counts(row)).map(|row| row["amount_yen"].as_i64().unwrap()).sum()
}

#[tokio::test]
async fn a_claim_is_the_sum_of_its_rows_and_each_use_is_in_one() {
    let mut city = used_in_two_months("f-1");
    compute(&mut city, at("2026-07-04", "09:00"), ("cl-6", "f-1", "2026-06-01"), &["u-1", "u-2", "u-3"], &[]);
    compute(&mut city, at("2026-07-04", "09:05"), ("cl-7", "f-1", "2026-07-01"), &["u-4"], &["r-u-2"]);
    let lake = Fixture::new(&[&city]).await;
    // Two days are enough to touch two months.
    let figures = lake.figures(R08, "2026-06-30", "2026-07-01", "").await;
    assert_eq!(figures.len(), 2);
    check(
        &figures[0],
        json!({
            "month": "2026-06", "facility_id": "f-1", "programme_code": PROGRAMME, "claim_id": "cl-6", "state": "created",
            "uses": 3, "children": 2, "gross_yen": 2_500, "reversed_yen": 0, "net_yen": 2_500, "units": 0, "cancel_fee_yen": 500,
        }),
    );
    check(
        &figures[1],
        json!({
            "month": "2026-07", "claim_id": "cl-7",
            "uses": 1, "children": 1, "gross_yen": 300, "reversed_yen": 800, "net_yen": -500, "units": 0, "cancel_fee_yen": 0,
        }),
    );
    let all = lake.underlying(R08, "2026-06-30", "2026-07-01", "lines").await;
    for line in &figures {
        let own: Vec<&Row> = all.iter().filter(|row| row["claim_id"] == line["claim_id"]).collect();
        let is_use = |row: &Row| row["event_type"] == "coupon.used";
        let uses: Vec<&Row> = own.iter().copied().filter(|row| is_use(row)).collect();
        let children: BTreeSet<String> = uses.iter().map(|row| row["child_key"].to_string()).collect();
        let expected = json!({
            "uses": uses.len(), "children": children.len(), "gross_yen": yen(&own, is_use),
            "reversed_yen": -yen(&own, |row| !is_use(row)), "net_yen": yen(&own, |_| true),
            "cancel_fee_yen": yen(&own, |row| row["purpose"] == "cancellation_fee"),
        });
        check(line, expected);
    }
    let ids: BTreeSet<String> = all.iter().map(|row| row["event_id"].to_string()).collect();
    assert_eq!((ids.len(), all.len()), (5, 5), "every use and reversal once");
    assert_eq!(lake.figures(R08, "2026-07-31", "2026-08-31", "").await.len(), 1, "June is not touched");
}

/// The claim of June, which is sent back and computed anew with what was forgotten; the bank cannot pay at first.
/// One step a day, of which the first `n` have happened.
fn after(n: u8) -> City {
    let mut city = used_in_two_months("f-1");
    let claim = ("cl-6", "f-1", "2026-06-01");
    for step in 0..n {
        let at = at(&format!("2026-07-{:02}", 10 + step), "09:00");
        let mut event = |event_type: &str, payload| {
            city.event(event_type, at, payload);
        };
        let of_claim = || json!({"claim_id": claim.0, "amount_yen": 0, "facility_id": claim.1});
        let order = |file: &str| json!({"transfer_file_id": file, "claim_ids": ["cl-5", claim.0], "amount_yen": 0});
        let answer = |code: &str| json!({"claim_id": claim.0, "result_code": code, "transferred_on": "2026-07-31", "amount_yen": 0});
        match step {
            0 => compute(&mut city, at, claim, &["u-1"], &[]),
            1 | 6 => event("claim.submitted", of_claim()),
            2 | 7 => event("claim.received", of_claim()),
            3 | 8 => event("claim.forwarded", of_claim()),
            4 => event("claim.returned", of_claim()),
            5 => compute(&mut city, at, claim, &["u-1", "u-2"], &[]),
            9 => event("claim.transfer_requested", order("t-1")),
            10 => event("claim.transfer_result", answer("4")),
            11 => event("claim.transfer_requested", order("t-2")),
            _ => {
                event("claim.transfer_result", answer("ok"));
                event("claim.paid", of_claim());
            }
        }
    }
    city
}

#[tokio::test]
async fn a_claim_is_told_as_it_was_computed_last_and_from_the_day_it_was_sent_back() {
    let with_city = ReportRequest { claims: ClaimsOf::WithCity, ..request(R08, "2026-06-01", "2026-06-30", "") };
    let day = |day: u8| json!(format!("2026-07-{day:02}T00:00:00.000000Z"));
    for (n, is_with_city, expected) in [
        (1, false, json!({"state": "created", "submitted_at": null, "net_yen": 1_200})),
        (2, false, json!({"state": "submitted", "submitted_at": day(11), "received_at": null})),
        (
            4,
            true,
            json!({"state": "forwarded", "submitted_at": day(11), "received_at": day(12), "forwarded_at": day(13)}),
        ),
        (5, false, json!({"state": "created", "submitted_at": null, "forwarded_at": null, "net_yen": 1_200})),
        (6, false, json!({"state": "created", "submitted_at": null, "forwarded_at": null, "net_yen": 2_000})),
        (
            9,
            true,
            json!({"state": "forwarded", "submitted_at": day(16), "forwarded_at": day(18), "transfer_file_id": null}),
        ),
        (10, true, json!({"state": "transfer_requested", "transfer_requested_at": day(19), "transfer_file_id": "t-1"})),
        (11, true, json!({"state": "transfer_failed", "result_code": "4", "transferred_on": "2026-07-31"})),
        (
            12,
            true,
            json!({"state": "transfer_requested", "transfer_file_id": "t-2", "result_code": null, "transferred_on": null}),
        ),
        (
            13,
            true,
            json!({"state": "paid", "transfer_requested_at": day(21), "result_code": "ok", "forwarded_at": day(18)}),
        ),
    ] {
        let lake = Fixture::new(&[&after(n)]).await;
        let figures = lake.figures(R08, "2026-06-01", "2026-06-30", "").await;
        assert_eq!(figures.len(), 1, "after {n} steps: {figures:?}");
        check(&figures[0], expected);
        let seen = rows(&lake.engine.report(&with_city).await.unwrap());
        assert_eq!(seen.len(), usize::from(is_with_city), "after {n} steps: {seen:?}");
    }
}

#[tokio::test]
async fn a_facility_is_told_of_its_own_claims_only() {
    let [own, other] = ["09:00", "09:01"].map(|clock| FacilityId::new(at("2026-01-05", clock)));
    let (here, there) = (own.to_string(), other.to_string());
    let mut city = used_in_two_months(&here);
    let mut coupon = Coupon::new("c-3", 30, "set-1");
    coupon.distribute(&mut city, at("2026-06-01", "09:00"), 10_000);
    coupon.spend(&mut city, at("2026-06-05", "10:00"), "u-5", 700, SERVICE, (PROGRAMME, &there));
    compute(&mut city, at("2026-07-04", "09:00"), ("cl-6", &here, "2026-06-01"), &["u-1"], &[]);
    compute(&mut city, at("2026-07-04", "09:05"), ("cl-8", &there, "2026-06-01"), &["u-5"], &[]);
    let lake = Fixture::new(&[&city]).await;
    assert_eq!(lake.figures(R08, "2026-06-01", "2026-06-30", "").await.len(), 2, "the operator is told of both");
    for kind in [RowsKind::Figures, RowsKind::Underlying(None)] {
        let asked = request(R08, "2026-06-01", "2026-06-30", "");
        let asked = ReportRequest { claims: ClaimsOf::Facility(own), rows: kind, ..asked };
        let told = rows(&lake.engine.report(&asked).await.unwrap());
        assert_eq!(told.len(), 1, "{told:?}");
        check(&told[0], json!({"facility_id": here, "claim_id": "cl-6"}));
    }
}
