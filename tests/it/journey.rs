//! A family's way through the real binary over HTTP: registered, applied, corrected, matched, approved, credited,
//! paid without a device, revoked. And a survey from its audience to its results.

use std::time::Duration;

use serde_json::{Value, json};
use todoke_tests::{
    account::{self, Credentials},
    http::{Answer, Client},
    live::Live,
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};

use crate::scene::{inbox, text};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\x00\x00\x00\x0cIDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82";

/// A child the register knows and nobody has registered.
pub(crate) const MOVEMENT: &str = "resident_no,name_kana,name,sex,birth_date,household_no,movement_kind,movement_date,postal_code,address\r\n\
    9900000001,テスト ユズ,試験 ゆず,female,2026-02-03,9900001,birth,2026-02-03,530-0001,大阪市北区1-1\r\n";

async fn import(operator: &Client, csv: &str) -> Answer {
    let headers = [("content-type", "text/csv"), ("x-file-name", "movement.csv")];
    operator.request("POST", "/v1/imports/movement", &headers, csv.to_owned()).await
}

pub(crate) fn credentials() -> Credentials {
    Credentials { email: "yuzu.parent@example.jp".to_owned(), password: "Tesuto-2026".to_owned() }
}

/// Registers a household with one child and confirms the address.
pub(crate) async fn register(todoke: &Todoke) -> Client {
    let (api, who) = (todoke.client(), credentials());
    let body = json!({
        "municipality_code": todoke.municipality(), "email": who.email, "password": who.password,
        "name": "試験 & <太郎> \"^`¥()'", "name_kana": "テスト タロウ", "birth_date": "1990-04-01", "postal_code": "530-0001",
        "address": "大阪市北区1-1", "phone": "090-1234-5678", "contact_channel": "app",
        "children": [{"name": "試験 ゆず", "name_kana": "テスト ユズ", "sex": "female", "birth_date": "2026-02-03"}],
        "consents": {"terms": true, "privacy": true, "usage_analytics": true},
    });
    let mut incomplete = body.clone();
    incomplete["name"] = json!("");
    incomplete["children"][0]["birth_date"] = json!("2026-02-30");
    let problem = api.post("/v1/registrations", &incomplete).await.expect(422);
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert!(fields.contains(&"name") && fields.contains(&"children.0.birth_date"), "all faults at once: {problem}");
    strange_characters_are_refused_where_they_stand(&api, &body).await;
    api.post("/v1/registrations", &body).await.expect(202);
    let mails = api.get(&format!("/demo/mail.json?to={}", who.email)).await.expect(200);
    let link = text(&json!({"link": mails[0]["links"][0]}), "link");
    let token = link.split("token=").nth(1).unwrap();
    api.post("/v1/registrations/confirm", &json!({"token": token})).await.expect(200);
    assert_eq!(api.post("/v1/registrations/confirm", &json!({"token": token})).await.status, 410, "a link works once");
    account::sign_in(&api, &who, "guardian").await.0
}

/// Control and private-use characters get a message at their field; what is no UTF-8 is no request (N-SEC-14).
async fn strange_characters_are_refused_where_they_stand(api: &Client, body: &Value) {
    let mut strange = body.clone();
    strange["name"] = json!("試験\u{7}太郎");
    strange["address"] = json!("大阪市北区\u{e001}1-1");
    strange["children"][0]["name"] = json!("試験 ゆ\u{f8ff}ず");
    let problem = api.post("/v1/registrations", &strange).await.expect(422);
    for field in ["name", "address", "children.0.name"] {
        let named = problem["errors"].as_array().unwrap().iter().find(|error| error["field"] == field);
        let words = named.unwrap_or_else(|| panic!("{field} is not named: {problem}"))["detail"].clone();
        assert_eq!(words, "使用できない文字が含まれています。修正してください。", "{field}");
    }
    let json = [("content-type", "application/json")];
    let broken = api.request("POST", "/v1/registrations", &json, b"{\"name\": \"\xff\xfe\"}".to_vec()).await;
    assert_eq!((broken.status, broken.header("content-type")), (400, "application/problem+json"), "{}", broken.text());
}

pub(crate) async fn upload(who: &Client) -> String {
    let answer = who.request("POST", "/v1/documents?kind=child_identity", &[("content-type", "image/png")], PNG).await;
    text(&answer.expect(201), "document_id")
}

async fn home_child(guardian: &Client) -> Value {
    guardian.get("/v1/home").await.expect(200)["children"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_family_applies_is_corrected_matched_approved_pays_and_is_revoked() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await;
    let completed = import(&operator, MOVEMENT).await.expect(201);
    assert_eq!((&completed["state"], &completed["rows"]), (&json!("completed"), &json!(1)));
    assert_eq!(import(&operator, MOVEMENT).await.status, 409, "the same file twice needs to be meant");
    let guardian = register(&todoke).await;
    let me = guardian.get("/v1/me").await.expect(200);
    assert!(me.to_string().contains("試験 & <太郎> \\\"^`¥()'"), "stored as entered: {me}");
    let (phone, desk) = (Live::connect(&guardian).await, Live::connect(&operator).await);
    let child_id = text(&home_child(&guardian).await, "child_id");

    let bare = json!({"child_id": child_id, "document_ids": [], "relation": "母"});
    assert_eq!(guardian.post("/v1/applications", &bare).await.status, 422, "without QR documents are needed");
    let applied = json!({"child_id": child_id, "document_ids": [upload(&guardian).await], "relation": "母"});
    let application = guardian.post("/v1/applications", &applied).await.expect(201);
    let id = text(&application, "application_id");
    assert_eq!(application["state"], "submitted");
    assert_eq!(guardian.post("/v1/applications", &applied).await.status, 409, "one open application for a child");
    let told = |kind: &'static str| move |p: &todoke_tests::live::Publication| p.data["type"] == kind;
    phone.wait_for("the receipt", told("application.coupon.received")).await;
    desk.wait_for("the new application in the queue", told("application.submitted")).await;

    let step = async |name: &str, body: Value| operator.post(&format!("/v1/applications/{id}/{name}"), &body).await;
    assert_eq!(step("approve", json!({})).await.status, 409, "not before it was examined");
    let unprintable = json!({"items": ["other"], "text": "外字\u{e000}"});
    assert_eq!(step("deficiency", unprintable).await.status, 422, "the words go into messages and letters");
    let deficient = step("deficiency", json!({"items": ["document_unreadable"]})).await.expect(200);
    assert_eq!(deficient["state"], "deficient");
    phone.wait_for("the deficiency", told("application.coupon.deficient")).await;
    let again = json!({"document_ids": [upload(&guardian).await]});
    let corrected = guardian.post(&format!("/v1/applications/{id}/resubmit"), &again).await.expect(200);
    assert_eq!(corrected["state"], "resubmitted");
    assert_eq!(
        step("complete", json!({})).await.expect(200)["state"],
        "under_review",
        "the one child of that name, sex and birth date"
    );
    let shown = phone.wait_for("the review, which has no message", told("application.matching_started")).await;
    assert_eq!(shown.data["data"]["application"]["state"], "under_review", "{}", shown.data);
    assert_eq!(step("approve", json!({})).await.expect(200)["state"], "approved");
    phone.wait_for("the approval", told("application.coupon.approved")).await;
    phone.wait_for("the distribution", told("coupon.distributed")).await;

    let coupon = home_child(&guardian).await["coupons"][0].clone();
    let balance = coupon["balance_yen"].as_i64().unwrap();
    assert!(balance > 0, "{coupon}");
    pay_with_the_childs_code(&todoke, &guardian, &child_id, balance).await;

    let revoked =
        step("revoke", json!({"requested_by": "市こども課", "reason_code": "city_request"})).await.expect(200);
    assert_eq!(revoked["state"], "revoked");
    phone.wait_for("the revocation", told("application.coupon.revoked")).await;
    let coupon = home_child(&guardian).await["coupons"][0].clone();
    assert_eq!((&coupon["balance_yen"], &coupon["state"]), (&json!(0), &json!("revoked")));
    let states: Vec<Value> = guardian.get(&format!("/v1/applications/{id}")).await.expect(200)["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["state"].clone())
        .collect();
    assert_eq!(states, ["submitted", "deficient", "resubmitted", "matching", "under_review", "approved", "revoked"]);
    each_message_came_once(&guardian).await;
    todoke.stop().await;
}

/// The facility reads the child's printed code: no device of the guardian takes part.
async fn pay_with_the_childs_code(todoke: &Todoke, guardian: &Client, child_id: &str, balance: i64) {
    let staff = todoke.sign_in("facility_staff").await;
    let facility = text(&staff.get("/v1/session").await.expect(200)["account"], "facility_id");
    let programme = first_programme(&staff, &facility).await;
    let printed = guardian.get(&format!("/v1/children/{child_id}/qr")).await.expect(200);
    let pay = async |key: &str, code: &str| {
        let body = json!({"child_qr": code, "facility_id": facility, "programme_code": programme, "amount_yen": 100, "confirm_repeat": true});
        staff.with_header("idempotency-key", key).post("/v1/coupon-uses", &body).await
    };
    let used = pay("qr-1", printed["token"].as_str().unwrap()).await.expect(201);
    assert_eq!((&used["device_less"], &used["initiated_by"]), (&json!(true), &json!("facility")));
    let coupon = home_child(guardian).await["coupons"][0].clone();
    assert_eq!(coupon["balance_yen"], balance - 100);
    guardian.post(&format!("/v1/children/{child_id}/qr/reissue"), &json!({})).await.expect(200);
    assert_eq!(pay("qr-2", printed["token"].as_str().unwrap()).await.status, 404, "a reissued code voids the old one");
}

async fn first_programme(staff: &Client, facility: &str) -> String {
    let facility = staff.get(&format!("/v1/facilities/{facility}")).await.expect(200);
    let programmes = facility["programme_codes"].as_array().or_else(|| facility["programmes"].as_array()).unwrap();
    programmes[0].as_str().or_else(|| programmes[0]["programme_code"].as_str()).unwrap().to_owned()
}

/// No message about one subject in one state occurs twice in an inbox.
async fn each_message_came_once(who: &Client) {
    let messages = inbox(who).await;
    let mut bodies: Vec<String> =
        messages.iter().map(|message| format!("{}{}{}", message["type"], message["title"], message["body"])).collect();
    let n_all = bodies.len();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), n_all, "{messages:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survey_goes_from_audience_to_results() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let (operator, guardian) = (todoke.sign_in("operator").await, todoke.sign_in("guardian").await);
    let phone = Live::connect(&guardian).await;
    let now = guardian.get("/v1/session").await.expect(200)["server_time"]
        .as_str()
        .unwrap()
        .parse::<todoke_domain::Timestamp>()
        .unwrap();
    let draft = json!({
        "title": "使いやすさの調査", "text": "ご意見をお聞かせください。", "anonymous": false,
        "opens_at": now.plus(Duration::from_secs(1)), "closes_at": now.plus(Duration::from_secs(7 * 24 * 3_600)), "minutes_needed": 3,
        "questions": [
            {"question_no": 1, "kind": "single", "text": "使いましたか", "options": ["はい", "いいえ"], "required": true},
            {"question_no": 2, "kind": "multiple", "text": "どの事業ですか", "options": ["一時預かり", "病児保育", "その他"], "required": false},
            {"question_no": 3, "kind": "scale", "text": "満足度", "options": [], "required": true, "min": 1, "max": 5},
            {"question_no": 4, "kind": "number", "text": "回数", "options": [], "required": false, "min": 0, "max": 99},
            {"question_no": 5, "kind": "text", "text": "ご意見", "options": [], "required": false},
        ],
    });
    let survey = operator.post("/v1/surveys", &draft).await.expect(201);
    let id = text(&survey, "survey_id");
    let audience = operator
        .post(&format!("/v1/surveys/{id}/audience"), &json!({"conditions": {}, "save": true}))
        .await
        .expect(200);
    assert!(audience["targets"].as_i64() > Some(0), "{audience}");
    operator.post(&format!("/v1/surveys/{id}/schedule"), &json!({})).await.expect(200);
    phone.wait_for("the request to answer", |p| p.data["subject"]["id"] == id.as_str()).await;

    let answer = json!({"answers": [
        {"question_no": 1, "options": [1]}, {"question_no": 2, "options": [1, 3]}, {"question_no": 3, "number": 4},
        {"question_no": 4, "number": 2}, {"question_no": 5, "text": "助かります"},
    ]});
    let path = format!("/v1/my/surveys/{id}/answer");
    let incomplete = json!({"answers": [{"question_no": 1, "options": [1]}]});
    assert_eq!(guardian.put(&path, &incomplete).await.status, 422, "a required question is missing");
    assert_eq!(guardian.put(&path, &answer).await.status / 100, 2);
    let mut edited = answer.clone();
    edited["answers"][2]["number"] = json!(5);
    assert_eq!(guardian.put(&path, &edited).await.status / 100, 2, "an answer may be edited until the survey closes");
    let results = operator.get(&format!("/v1/surveys/{id}/results")).await.expect(200);
    assert_eq!(results["answers"], 1, "an edited answer is one answer: {results}");

    operator.post(&format!("/v1/surveys/{id}/close"), &json!({})).await.expect(200);
    assert_eq!(guardian.put(&path, &answer).await.status, 409, "closed is closed");
    let analyst = todoke.sign_in("analyst").await;
    let query = format!(
        "SELECT COUNT(*), MAX(revision) FROM events_survey WHERE event_type = 'survey.answered' AND survey_id = '{id}'"
    );
    let counts = eventually("the answer and its edit are in the lake", Duration::from_secs(60), async || {
        Some(crate::scene::sql(&analyst, &query).await.remove(0)).filter(|row| row[0] == 2)
    })
    .await;
    assert_eq!(counts[1], 2);
    todoke.stop().await;
}
