//! Accounts through the real binary: the forgotten password, the first day, the terms, the last moment; and what
//! offices do there, in the audit report.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use todoke_tests::{
    account::{self, Credentials, mailed_codes},
    http::{Answer, Client},
    live::Live,
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};

use crate::scene::{Scene, text};

const PASSWORD: &str = "Shokuin-2026";

/// The secret of the newest mailed link to an address, and the page it opens.
async fn mailed_link(api: &Client, to: &str) -> (String, String) {
    let mails = api.get(&format!("/demo/mail.json?to={to}")).await.expect(200);
    let links = mails.as_array().unwrap().iter().filter_map(|mail| mail["links"][0].as_str());
    let link = links.into_iter().find(|link| link.contains("token=")).unwrap_or_else(|| panic!("no link: {mails}"));
    let page = link.strip_prefix(&api.base_url()).unwrap_or_else(|| panic!("another server: {link}"));
    (page.split("token=").nth(1).unwrap().to_owned(), page.to_owned())
}

/// Has the manager of the demo's facility issue an account for staff, and gives it its first password.
async fn staff(todoke: &Todoke, manager: &Client, name: &str, valid_from: Option<&str>) -> (Credentials, String) {
    let who = Credentials { email: format!("{name}@example.jp"), password: PASSWORD.to_owned() };
    let body = json!({"email": who.email, "name": name, "role": "facility_staff", "valid_from": valid_from});
    let issued = manager.post("/v1/accounts", &body).await.expect(201);
    let (token, _) = mailed_link(&todoke.client(), &who.email).await;
    let set = json!({"token": token, "password": PASSWORD});
    todoke.client().post("/v1/password-resets/confirm", &set).await.expect(204);
    (who, text(&issued, "account_id"))
}

async fn begin(api: &Client, who: &Credentials) -> Answer {
    let body = json!({"email": who.email, "password": who.password, "entrance": "staff"});
    api.post("/v1/sessions", &body).await
}

/// Signs in and leaves the terms as they are.
async fn sign_in_only(api: &Client, who: &Credentials) -> (Client, Value) {
    let before = mailed_codes(api, &who.email).await.len();
    let begun = begin(api, who).await.expect(200);
    let code = eventually("the one-time code is mailed", Duration::from_secs(60), async || {
        let codes = mailed_codes(api, &who.email).await;
        (codes.len() > before).then(|| codes[0].clone())
    })
    .await;
    let body = json!({"challenge_id": begun["challenge_id"], "code": code});
    let opened = api.post("/v1/sessions/otp", &body).await.expect(201);
    (api.with_bearer(opened["session_token"].as_str().unwrap()), opened)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_password_is_reset_from_the_page_to_the_sign_in() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let api = todoke.client();
    let who = todoke.account("facility_staff");
    let open = todoke.sign_in("facility_staff").await;
    assert_eq!(api.get("/staff/password-reset").await.status, 200);
    let asked = api.post("/v1/password-resets", &json!({"email": who.email})).await;
    let unknown = api.post("/v1/password-resets", &json!({"email": "nobody@example.jp"})).await;
    assert_eq!((asked.status, asked.text()), (unknown.status, unknown.text()), "the answer does not tell who exists");
    let (token, page) = mailed_link(&api, &who.email).await;
    assert!(page.starts_with("/staff/password-reset/confirm?token="), "{page}");
    let shown = api.get(&page).await;
    assert_eq!((shown.status, shown.header("content-type").starts_with("text/html")), (200, true));
    let confirm = json!({"token": token, "password": PASSWORD});
    api.post("/v1/password-resets/confirm", &confirm).await.expect(204);
    assert_eq!(api.post("/v1/password-resets/confirm", &confirm).await.status, 410, "a link works once");
    assert_eq!(open.get("/v1/session").await.status, 401, "sessions of the old password are over");
    assert_eq!(begin(&api, &who).await.status, 401, "so is the old password");
    let renewed = Credentials { password: PASSWORD.to_owned(), ..who };
    let (session, _) = account::sign_in(&api, &renewed, "staff").await;
    assert_eq!(session.get("/v1/session").await.status, 200);
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_day_the_day_is_shown() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let manager = todoke.sign_in("facility_manager").await;
    let (who, _) = staff(&todoke, &manager, "later", Some("2999-04-01")).await;
    let problem = begin(&todoke.client(), &who).await.expect(401);
    assert_eq!(problem["type"], "/problems/not-yet");
    assert!(problem["detail"].as_str().unwrap().contains("2999年4月1日"), "{problem}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_come_before_everything_else_and_once_per_version() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let api = todoke.client();
    let manager = todoke.sign_in("facility_manager").await;
    let (who, _) = staff(&todoke, &manager, "fresh", None).await;
    let (session, opened) = sign_in_only(&api, &who).await;
    assert_eq!(opened["terms_required"], true);
    for path in ["/v1/facility/today", "/v1/me", "/v1/inbox", "/v1/coupon-uses"] {
        let problem = session.get(path).await.expect(403);
        assert_eq!(problem["type"], "/problems/terms-required", "{path}: {problem}");
    }
    let socket = session.post("/v1/realtime/token", &json!({})).await.expect(403);
    assert_eq!(socket["type"], "/problems/terms-required");
    assert_eq!(session.get("/v1/session").await.expect(200)["terms_required"], true, "the app can ask");
    session.post("/v1/session/terms", &json!({})).await.expect(204);
    assert_eq!(session.get("/v1/facility/today").await.status, 200);
    let (again, opened) = sign_in_only(&api, &who).await;
    assert_eq!(opened["terms_required"], false, "asked once per version");
    assert_eq!(again.get("/v1/me").await.status, 200);
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_member_of_staff_is_found_changed_and_cut_off_at_once() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let manager = todoke.sign_in("facility_manager").await;
    let (who, id) = staff(&todoke, &manager, "leaving", None).await;
    let found = manager.get("/v1/accounts?q=LEAV").await.expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "{found}");
    let change = json!({"name": "退職者"}).to_string();
    let path = format!("/v1/accounts/{id}");
    let version = text(&found["items"][0], "version");
    let headers = [("content-type", "application/json"), ("if-match", version.as_str())];
    manager.request("PATCH", &path, &headers, change.clone()).await.expect(200);
    let stale = manager.request("PATCH", &path, &headers, change).await.expect(409);
    assert_eq!(stale["type"], "/problems/stale", "a second window is told: {stale}");

    let (session, _) = account::sign_in(&todoke.client(), &who, "staff").await;
    let socket = Live::connect(&session).await;
    let begun = Instant::now();
    manager.delete(&path).await.expect(204);
    socket.wait_for_line("the socket is cut", |line| line["event"] == "disconnected").await;
    println!("cut {:?} after the deletion was asked for", begun.elapsed());
    assert_eq!(session.get("/v1/session").await.status, 401);
    assert_eq!(begin(&todoke.client(), &who).await.status, 401);
    todoke.stop().await;
}

/// The demo's first facility has an account that two people use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_account_is_shown_to_those_who_manage_it_and_to_nobody_else() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let (staff, guardian) = (todoke.sign_in("facility_staff").await, todoke.sign_in("guardian").await);
    let address = todoke.account("facility_staff").email;
    for role in ["facility_manager", "municipal_admin"] {
        let shared = todoke.sign_in(role).await.get("/v1/accounts/shared").await.expect(200);
        assert_eq!(shared["items"].as_array().unwrap().len(), 1, "{role}: {shared}");
        let one = &shared["items"][0];
        assert_eq!(
            (text(one, "email"), &one["sessions"], &one["at_once_max"]),
            (address.clone(), &json!(2), &json!(2))
        );
        assert!(text(one, "last_at").ends_with('Z'), "{one}");
    }
    for nobody in [&staff, &guardian, &todoke.sign_in("operator").await] {
        assert_eq!(nobody.get("/v1/accounts/shared").await.status, 403);
    }
    let neighbour = todoke.sign_in("neighbour_municipal_admin").await;
    let theirs = neighbour.get("/v1/accounts/shared").await.expect(200);
    assert!(!theirs.to_string().contains(&address), "{theirs}");
    todoke.stop().await;
}

/// Rows of the audit report as (action, object, accesses).
pub(crate) fn accesses(report: &Value) -> Vec<(String, String, i64)> {
    let columns = report["columns"].as_array().unwrap();
    let at = |name: &str| columns.iter().position(|column| column["name"] == name).unwrap();
    let rows = report["rows"].as_array().unwrap().iter();
    rows.map(|row| {
        let cell = |name: &str| row[at(name)].as_str().unwrap_or_default().to_owned();
        (cell("action"), cell("object"), row[at("accesses")].as_i64().unwrap())
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_offices_look_at_and_change_is_in_the_audit_report() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let scene = Scene::of(&todoke).await;
    let (city, operator) = (todoke.sign_in("municipal_admin").await, todoke.sign_in("operator").await);
    let home = scene.guardian.get("/v1/me").await.expect(200);
    let guardian_no = text(&home, "guardian_no");
    assert_eq!(operator.get(&format!("/v1/guardians?q={guardian_no}")).await.status, 200);
    let file = operator.get("/v1/applications?state=matching&format=csv").await;
    assert_eq!((file.status, file.header("content-type")), (200, "text/csv; charset=utf-8"));
    assert!(file.text().starts_with("\u{feff}error_code,application_no,"), "{}", file.text());
    assert_eq!(operator.get("/v1/applications?format=csv").await.status, 422);
    let guardian_id = text(&scene.coupon, "guardian_id");
    let ask = json!({"kind": "suspend", "guardian_id": guardian_id, "reason_code": "misuse"});
    let asked = city.post("/v1/city-requests", &ask).await.expect(201);
    let execute = format!("/v1/city-requests/{}/execute", text(&asked, "request_id"));
    operator.post(&execute, &json!({})).await.expect(200);
    assert_eq!(scene.pay("suspended", 1).await.expect(409)["reason_code"], "guardian_suspended");

    assert_eq!(operator.get("/v1/reports/access_audit?from=2026-01-01&to=2026-01-01").await.status, 403);
    let offered = operator.get("/v1/reports").await.expect(200).to_string();
    assert!(!offered.contains("access_audit") && offered.contains("app_usage"));
    let now = city.get("/v1/session").await.expect(200)["server_time"].as_str().unwrap().to_owned();
    let today = now.parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    let path = format!("/v1/reports/access_audit?from={today}&to={}", today.tomorrow().unwrap());
    let wanted = [("view", "guardian"), ("request", "city_request"), ("suspend", "guardian")];
    let report = eventually("the accesses are in the lake", Duration::from_secs(60), async || {
        let report = city.get(&path).await.expect(200);
        let seen = accesses(&report);
        wanted
            .iter()
            .all(|(what, object)| seen.iter().any(|(a, o, _)| (a.as_str(), o.as_str()) == (*what, *object)))
            .then_some(report)
    })
    .await;
    let figures: i64 = accesses(&report).iter().filter(|(what, ..)| what == "suspend").map(|(.., n)| n).sum();
    let rows = city.get(&format!("{path}&rows=true")).await.expect(200);
    let counted = rows["rows"].as_array().unwrap().iter().filter(|row| row.to_string().contains("\"suspend\"")).count();
    assert_eq!(i64::try_from(counted).unwrap(), figures, "each figure is its rows");
    assert!(!rows.to_string().contains(&guardian_no), "and names nobody");
    todoke.stop().await;
}
