//! The view of claims: each stands where the record says it does.

use serde_json::{Value, json};
use todoke_analytics::format;

use crate::city::{City, Fixture, OSAKA, at};

/// A claim that was made on the first of July and has come as far as the city.
fn forwarded(city: &mut City, id: &str, yen: i64) {
    city.event(
        "claim.created",
        at("2026-07-01", "09:00"),
        json!({
            "claim_id": id, "month": "2026-06-01", "use_ids": [], "reversal_ids": [], "amount_yen": yen,
            "programme_code": "short_stay", "facility_id": "f-1", "subject_id": id,
        }),
    );
    for (step, time) in [("claim.submitted", "10:00"), ("claim.received", "11:00"), ("claim.forwarded", "12:00")] {
        city.event(
            step,
            at("2026-07-01", time),
            json!({ "claim_id": id, "amount_yen": yen, "reason_code": null, "subject_id": id }),
        );
    }
}

fn ordered(city: &mut City, date: &str, ids: &[&str]) {
    city.event(
        "claim.transfer_requested",
        at(date, "09:00"),
        json!({ "transfer_file_id": format!("t-{date}"), "claim_ids": ids, "amount_yen": 1, "subject_id": date }),
    );
}

/// What the bank did; of a payment the record writes two events in the same instant.
fn answered(city: &mut City, date: &str, id: &str, result_code: &str) {
    let answer = json!({ "claim_id": id, "result_code": result_code, "transferred_on": date, "amount_yen": 1, "subject_id": id });
    city.event("claim.transfer_result", at(date, "15:00"), answer);
    if result_code == "ok" {
        city.event("claim.paid", at(date, "15:00"), json!({ "claim_id": id, "amount_yen": 1, "subject_id": id }));
    }
}

async fn answer(lake: &Fixture, sql: &str) -> Value {
    format::answer_json(&lake.sql(sql).await.unwrap())["rows"].clone()
}

#[tokio::test]
async fn a_claim_shows_whether_its_payment_was_ordered_made_or_failed() {
    let mut city = City::new(OSAKA);
    for id in ["c-forwarded", "c-ordered", "c-failed", "c-paid", "c-again"] {
        forwarded(&mut city, id, 3_000);
    }
    ordered(&mut city, "2026-07-10", &["c-ordered", "c-failed", "c-paid", "c-again"]);
    answered(&mut city, "2026-07-15", "c-failed", "1");
    answered(&mut city, "2026-07-15", "c-paid", "ok");
    // A failed one may be ordered again.
    answered(&mut city, "2026-07-15", "c-again", "1");
    ordered(&mut city, "2026-07-20", &["c-again"]);
    let lake = Fixture::new(&[&city]).await;
    let states = "SELECT claim_id, state FROM claims ORDER BY claim_id";
    assert_eq!(
        answer(&lake, states).await,
        json!([
            ["c-again", "transfer_requested"],
            ["c-failed", "transfer_failed"],
            ["c-forwarded", "forwarded"],
            ["c-ordered", "transfer_requested"],
            ["c-paid", "paid"],
        ])
    );
    let figures = "SELECT COUNT(*), COUNT(paid_at), COUNT(received_at), MAX(facility_id) FROM claims";
    assert_eq!(answer(&lake, figures).await, json!([[5, 1, 5, "f-1"]]));
}

#[tokio::test]
async fn a_claim_that_was_sent_back_and_made_anew_goes_on_from_there() {
    let mut city = City::new(OSAKA);
    for id in ["c-returned", "c-anew"] {
        forwarded(&mut city, id, 3_000);
        let returned = json!({ "claim_id": id, "amount_yen": 3_000, "reason_code": "amount", "subject_id": id });
        city.event("claim.returned", at("2026-07-02", "09:00"), returned);
    }
    let anew = json!({
        "claim_id": "c-anew", "month": "2026-06-01", "use_ids": [], "reversal_ids": [], "amount_yen": 2_500,
        "subject_id": "c-anew",
    });
    city.event("claim.created", at("2026-07-03", "09:00"), anew);
    let lake = Fixture::new(&[&city]).await;
    let sql = "SELECT claim_id, state, amount_yen FROM claims ORDER BY claim_id";
    assert_eq!(answer(&lake, sql).await, json!([["c-anew", "created", 2_500], ["c-returned", "returned", 3_000]]));
}
