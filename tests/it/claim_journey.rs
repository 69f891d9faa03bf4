//! A claim through the real binary over HTTP: facility, operator and city each do their part and see the others'
//! live; the bank's answers come over the command line and over HTTP.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use todoke_tests::{
    http::{Answer, Client},
    live::Live,
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};

use crate::{
    reports::rows,
    scene::{Scene, inbox, text},
};

/// The present day and month in Japan by the server's clock.
async fn today(who: &Client) -> (String, String) {
    let now = text(&who.get("/v1/session").await.expect(200), "server_time");
    let day = now.parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    (day.to_string(), day.strftime("%Y-%m").to_string())
}

async fn import(section: &Client, csv: &str) -> Answer {
    let headers = [("content-type", "text/csv"), ("x-file-name", "result.csv")];
    section.request("POST", "/v1/imports/transfer_result", &headers, csv.to_owned()).await
}

fn result_file(claim: &Value, code: u8, day: &str) -> String {
    format!(
        "claim_no,result_code,transferred_on,amount\r\n{},{code},{day},{}\r\n",
        text(claim, "claim_no"),
        claim["net_yen"]
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_goes_from_the_facility_to_the_bank_before_the_eyes_of_all() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let scene = Scene::of(&todoke).await;
    let (manager, operator) = (todoke.sign_in("facility_manager").await, todoke.sign_in("operator").await);
    let section = todoke.sign_in("app_section").await;
    let (office, desk, city) =
        (Live::connect(&manager).await, Live::connect(&operator).await, Live::connect(&section).await);
    scene.pay("claim-1", 300).await.expect(201);
    let (_, month) = today(&manager).await;

    let body = json!({"programme_code": scene.programme_code, "month": month});
    assert_eq!(scene.staff.post("/v1/claims", &body).await.status, 403, "staff do not claim");
    assert_eq!(operator.post("/v1/claims", &body).await.status, 403);
    assert_eq!(manager.post("/v1/claims", &json!({"month": "June"})).await.status, 422);
    let claim = manager.post("/v1/claims", &body).await.expect(200);
    let (id, net) = (text(&claim, "claim_id"), claim["net_yen"].as_i64().unwrap());
    assert!(net >= 300, "{claim}");
    let at = async |who: &Client, step: &str, body: Value| who.post(&format!("/v1/claims/{id}/{step}"), &body).await;
    assert_eq!(at(&manager, "submit", json!({})).await.expect(200)["state"], "submitted");
    desk.wait_for("the claim at the operator", |p| p.data["type"] == "claim.submitted").await;
    assert_eq!(at(&manager, "submit", json!({})).await.status, 409);
    let back = at(&operator, "send-back", json!({"reason_code": "content_mismatch"})).await.expect(200);
    assert_eq!((&back["state"], &back["n_returned"]), (&json!("created"), &json!(1)));
    office.wait_for("the return at the facility", |p| p.data["type"] == "claim.returned").await;
    manager.post("/v1/claims", &body).await.expect(200);
    at(&manager, "submit", json!({})).await.expect(200);
    at(&operator, "receive", json!({})).await.expect(200);
    assert_eq!(section.get(&format!("/v1/claims/{id}")).await.status, 404, "not with the city yet");
    told(&operator, &claim, "received").await;
    assert_eq!(in_report(&section, &claim).await, None, "not with the city yet");
    let ids = json!({"claim_ids": [id]});
    assert_eq!(operator.post("/v1/claims/forward", &ids).await.expect(200)["items"][0]["state"], "forwarded");
    city.wait_for("the claim at the city", |p| p.data["type"] == "claim.forwarded").await;
    let seen = office.wait_for("the progress at the facility", |p| p.data["state"] == "forwarded").await;
    assert_eq!(seen.channel, format!("facility:{}:claims", scene.facility_id));
    assert_eq!(seen.data["data"]["claim"]["net_yen"], net);

    what_it_is_for(&section, &claim).await;
    pay_it(&todoke, &scene, (&manager, &operator, &section), &claim).await;
    office.wait_for("the payment at the facility", |p| p.data["state"] == "paid").await;
    who_is_told(&todoke, &scene, (&manager, &operator, &section), &claim).await;
    let told = inbox(&manager).await;
    let of_type = |kind: &str| told.iter().filter(|message| message["type"] == kind).count();
    assert_eq!((of_type("claim.transfer_failed"), of_type("claim.transfer_completed")), (1, 1));
    todoke.stop().await;
}

fn report_path(claim: &Value) -> String {
    let month = text(claim, "month");
    format!("/v1/reports/coupon_claim?from={month}-01&to={month}-01")
}

/// The claim in R08 as `who` gets it.
async fn in_report(who: &Client, claim: &Value) -> Option<BTreeMap<String, Value>> {
    let report = who.get(&report_path(claim)).await.expect(200);
    rows(&report).into_iter().find(|row| row["claim_id"] == claim["claim_id"])
}

/// The claim in R08 once the lake knows that it came to `state`.
async fn told(who: &Client, claim: &Value, state: &str) -> BTreeMap<String, Value> {
    eventually("the claim's state is in the report", Duration::from_secs(60), async || {
        in_report(who, claim).await.filter(|row| row["state"] == state)
    })
    .await
}

/// R08 says of the claim what the record says, and to nobody else than facility, operator and city.
async fn who_is_told(
    todoke: &Todoke,
    scene: &Scene,
    (manager, operator, section): (&Client, &Client, &Client),
    claim: &Value,
) {
    let record = section.get(&format!("/v1/claims/{}", text(claim, "claim_id"))).await.expect(200)["claim"].clone();
    for who in [manager, operator, section] {
        let row = told(who, claim, "paid").await;
        for (name, value) in row.iter().filter(|(name, _)| !["units", "result_code"].contains(&name.as_str())) {
            assert_eq!(value, &record[name.as_str()], "{name}");
        }
        assert_eq!((&row["units"], &row["result_code"]), (&json!(0), &json!("ok")));
        let lines = who.get(&format!("{}&rows=true", report_path(claim))).await.expect(200);
        let lines = rows(&lines).into_iter().filter(|row| row["claim_id"] == claim["claim_id"]);
        assert_eq!(lines.map(|row| row["amount_yen"].as_i64().unwrap()).sum::<i64>(), claim["net_yen"]);
    }
    let offered = manager.get("/v1/reports").await.expect(200);
    let ids: Vec<&Value> = offered["items"].as_array().unwrap().iter().map(|report| &report["report_id"]).collect();
    assert_eq!(ids, ["coupon_claim"], "of all reports a facility gets its own");
    let alien = manager.get("/v1/reports/statistics_simple?from=2026-06-01&to=2026-06-01").await;
    assert_eq!(alien.status, 403);
    for who in [&scene.staff, &scene.guardian, &todoke.sign_in("analyst").await] {
        assert_eq!(who.get(&report_path(claim)).await.status, 403);
    }
}

/// Its lines add up to it, on the screen and in the file.
async fn what_it_is_for(section: &Client, claim: &Value) {
    let id = text(claim, "claim_id");
    let read = section.get(&format!("/v1/claims/{id}")).await.expect(200);
    let lines = read["lines"].as_array().unwrap();
    assert_eq!(lines.iter().map(|line| line["amount_yen"].as_i64().unwrap()).sum::<i64>(), claim["net_yen"]);
    let csv = section.get(&format!("/v1/claims/{id}/lines.csv")).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(csv.text().lines().count(), lines.len() + 1);
    let list = section.get("/v1/claims?format=csv&state=forwarded").await.text();
    assert!(list.starts_with("\u{feff}claim_no,month,") && list.contains(&text(claim, "claim_no")), "{list}");
}

/// Ordered, refused by the bank over the command line, ordered again, paid over HTTP.
async fn pay_it(
    todoke: &Todoke,
    scene: &Scene,
    (manager, operator, section): (&Client, &Client, &Client),
    claim: &Value,
) {
    let (id, no) = (text(claim, "claim_id"), text(claim, "claim_no"));
    let ids = json!({"claim_ids": [id]});
    assert_eq!(operator.post("/v1/transfer-files", &ids).await.status, 403);
    assert_eq!(section.post("/v1/transfer-files", &ids).await.status, 409, "there is no account yet");
    let path = format!("/v1/facilities/{}/bank-account", scene.facility_id);
    assert_eq!(scene.staff.get(&path).await.status, 403);
    let shown = manager.get(&path).await.expect(200);
    assert!(shown["account"].is_null(), "{shown}");
    let account = json!({
        "bank_code": "0001", "branch_code": "012", "account_type": "ordinary", "account_no": "0123456",
        "holder_kana": "フク）ミドリカイ",
    });
    let form = manager.with_header("if-match", shown["version"].as_str().unwrap());
    form.put(&path, &account).await.expect(200);
    assert_eq!(form.put(&path, &account).await.status, 409, "the form of before the first save");

    let file = section.post("/v1/transfer-files", &ids).await.expect(201);
    assert_eq!(file["amount_yen"], claim["net_yen"]);
    let data = section.get(&format!("/v1/transfer-files/{}/data.csv", text(&file, "transfer_file_id"))).await.text();
    assert!(
        data.ends_with(&format!("{no},0001,012,ordinary,0123456,フク)ミドリカイ,{}\r\n", claim["net_yen"])),
        "{data}"
    );
    let (day, _) = today(section).await;
    let answer = todoke.data_dir().join("result.csv");
    std::fs::write(&answer, result_file(claim, 4, &day)).unwrap();
    let town = todoke.municipality();
    let arguments = ["import", "transfer_result", answer.to_str().unwrap(), "--municipality", &town];
    let printed = todoke.cli(&arguments).await.success();
    assert!(printed.contains("completed result.csv: 1 rows, 0 errors"), "{printed}");
    let read = section.get(&format!("/v1/claims/{id}")).await.expect(200)["claim"].clone();
    assert_eq!((&read["state"], &read["result_code"]), (&json!("transfer_failed"), &json!("4")));

    section.post("/v1/transfer-files", &ids).await.expect(201);
    assert_eq!(section.get("/v1/transfer-files").await.expect(200)["items"].as_array().unwrap().len(), 2);
    let (day, _) = today(section).await;
    let paid = result_file(claim, 0, &day);
    assert_eq!(import(operator, &paid).await.status, 403);
    let refused = import(section, &paid.replace(&no, "L00-0000000")).await.expect(422);
    assert_eq!(refused["errors"][0]["field"], "2.claim_no", "{refused}");
    let result = section.get(&format!("/v1/imports/{}/result.csv", text(&refused, "import_id"))).await;
    assert!(result.text().contains("2,claim_no,"), "{}", result.text());
    import(section, &paid).await.expect(201);
    assert_eq!(import(section, &paid).await.status, 409, "the same file twice needs to be meant");
    assert_eq!(section.get(&format!("/v1/claims/{id}")).await.expect(200)["claim"]["state"], "paid");
}
