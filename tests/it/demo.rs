//! First contact: the demo comes up with accounts for every role, walls, and its papers in order.

use serde_json::{Value, json};
use todoke_tests::{
    account,
    todoke::{DemoOptions, Todoke},
};

use crate::scene::{Scene, sql};

const ROLES: [&str; 8] = [
    "guardian",
    "facility_manager",
    "facility_staff",
    "operator",
    "municipal_admin",
    "municipal_staff",
    "app_section",
    "analyst",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_printed_account_signs_in_and_sees_its_home() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let api = todoke.client();
    assert_eq!(api.get("/healthz").await.status, 200);
    assert_eq!(api.get("/readyz").await.status, 200);
    let page = api.get("/").await;
    assert_eq!((page.status, page.header("content-type").starts_with("text/html")), (200, true));
    for role in ROLES {
        let session = todoke.sign_in(role).await;
        let account = session.get("/v1/session").await.expect(200)["account"].clone();
        assert_eq!(account["role"], role);
        assert_eq!(account["municipality_code"], todoke.municipality().as_str());
        assert_eq!(session.delete("/v1/session").await.status / 100, 2);
        assert_eq!(session.get("/v1/session").await.status, 401, "{role}: the session goes on after signing out");
    }
    no_personal_data_in(&todoke.log());
    todoke.stop().await;
}

/// After the printed accounts, no line names an address (N-OPS-06).
fn no_personal_data_in(log: &str) {
    let lines = log.lines().filter(|line| line.contains("INFO") || line.contains("WARN") || line.contains("ERROR"));
    let telling: Vec<&str> = lines.filter(|line| line.contains(".example.jp") || line.contains("tdk_")).collect();
    assert!(telling.is_empty(), "{telling:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_refused_with_a_problem_document() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let (api, guardian) = (todoke.client(), todoke.sign_in("guardian").await);
    let refusals = [
        (api.get("/v1/home").await, 401),
        (guardian.get("/v1/reports").await, 403),
        (guardian.get("/v1/accounts").await, 403),
        (guardian.get("/v1/no-such-thing").await, 404),
        (guardian.get("/v1/coupons/01900000-0000-7000-8000-000000000000/ledger").await, 404),
        (guardian.request("POST", "/v1/children", &[("content-type", "application/json")], "{").await, 400),
    ];
    for (answer, status) in refusals {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text());
        let problem = answer.json();
        for field in ["type", "title", "detail", "request_id"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {problem}");
        }
        assert_eq!(problem["status"], status);
    }
    todoke.stop().await;
}

/// Who follows a link in a browser reads the text and the number, not a document for programs (N-OPS-04).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_browser_opens_in_vain_is_told_on_a_page() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let visitor = todoke.client().with_header("accept", accept);
    let guardian = todoke.sign_in("guardian").await.with_header("accept", accept);
    let letters = "/v1/print-runs/01900000-0000-7000-8000-000000000000/letters.pdf";
    let pages = [
        (visitor.get(letters).await, 401, "ログインしてください。"),
        (guardian.get(letters).await, 403, "この画面を表示する権限がありません。"),
        (guardian.get("/v1/no-such-thing").await, 404, "対象が見つかりません。"),
    ];
    for (answer, status, words) in pages {
        let number = answer.header("x-request-id").to_owned();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.header("content-type").starts_with("text/html"), "{:?}", answer.headers);
        let page = answer.text();
        assert!(!number.is_empty() && page.contains(words) && page.contains(&number), "{page}");
    }
    let script = guardian.with_header("accept", "application/json").get(letters).await;
    assert_eq!((script.status, script.header("content-type")), (403, "application/problem+json"));
    for (path, words) in [("/unavailable.html", "ただいま一時的にご利用いただけません。"), ("/error.css", "main")]
    {
        let page = visitor.get(path).await;
        assert!(page.status == 200 && page.text().contains(words), "{path}: {}", page.text());
    }
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_with_the_cookie_needs_the_csrf_token() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let api = todoke.client();
    let (session, opened) = account::sign_in(&api, &todoke.account("guardian"), "guardian").await;
    let cookie = api.with_header("cookie", &format!("todoke_session={}", session.bearer().unwrap()));
    assert_eq!(cookie.get("/v1/session").await.status, 200);
    assert_eq!(cookie.post("/v1/inbox/read-all", &json!({})).await.status, 403);
    let with_token = cookie.with_header("x-csrf-token", opened["csrf_token"].as_str().unwrap());
    assert_eq!(with_token.post("/v1/inbox/read-all", &json!({})).await.status / 100, 2);
    todoke.stop().await;
}

/// What was made up of the past looks like what the dispatcher would have written, in the lake and in the record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_messages_went_by_every_channel() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await;
    let now = operator.get("/v1/session").await.expect(200)["server_time"].as_str().unwrap().to_owned();
    let today = now.parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    let (from, to) = (today.saturating_sub(jiff::Span::new().days(40)).to_string(), today.to_string());
    let town = todoke.municipality();
    let arguments = ["report", "message_delivery", "--municipality", &town, "--from", &from, "--to", &to];
    let report = todoke.cli(&[&arguments[..], &["--by", "channel", "--format", "json"]].concat()).await.success();
    let report: Value = serde_json::from_str(&report).expect("JSON on standard output");
    let columns = report["columns"].as_array().unwrap();
    let at = |name: &str| columns.iter().position(|column| column["name"] == name).unwrap();
    let figure = |channel: &str, name: &str| {
        let rows = report["rows"].as_array().unwrap();
        let row =
            rows.iter().find(|row| row[at("channel")] == channel).unwrap_or_else(|| panic!("no {channel}: {report}"));
        let value = &row[at(name)];
        value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
    };
    for (channel, reached) in [
        ("live", "delivered"),
        ("inbox", "opened"),
        ("push", "sent"),
        ("push", "accepted"),
        ("push", "delivered"),
        ("push", "opened"),
        ("email", "sent"),
        ("email", "accepted"),
        ("paper", "paper_posted"),
    ] {
        assert!(figure(channel, reached) > 0, "nothing {reached} by {channel}: {report}");
    }
    assert!(figure("push", "delivered") > figure("push", "failed"), "most pushes arrive: {report}");

    let a_month_ago = today.saturating_sub(jiff::Span::new().days(30)).to_string();
    let funnel = operator.get(&format!("/v1/deliveries/funnel?from={a_month_ago}&to={to}")).await.expect(200);
    let pushed = funnel["items"].as_array().unwrap().iter().filter(|row| row["channel"] == "push");
    assert!(pushed.map(|row| row["delivered"].as_i64().unwrap()).sum::<i64>() > 0, "{funnel}");
    todoke.stop().await;
}

/// Every path of the OpenAPI document is answered by a handler, and the document is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_path_has_a_handler() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let (api, operator) = (todoke.client(), todoke.sign_in("operator").await);
    let document = api.get("/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 30, "{} paths", paths.len());
    for (path, methods) in paths {
        let path = filled(path);
        for method in methods.as_object().unwrap().keys().filter(|method| method.as_str() == "get") {
            let answer = operator.request(&method.to_uppercase(), &path, &[], "").await;
            assert!(![405, 500, 501].contains(&answer.status), "{method} {path}: {}", answer.text());
            // An address without a handler names the path itself as what was not found.
            let unrouted = answer.status == 404 && answer.text().contains(r#""what":"path""#);
            assert!(!unrouted, "{method} {path} is documented but not there");
        }
    }
    todoke.stop().await;
}

/// Whoever writes a sender finds every answer of the two doors for events in the document, and each refusal by its type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_names_every_refusal_of_the_doors_for_events() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let document = todoke.client().get("/openapi.json").await.expect(200);
    let of_both = [
        ("400", "bad-batch"),
        ("401", "signed-out"),
        ("408", "too-slow"),
        ("413", "too-large"),
        ("415", "bad-encoding"),
        ("422", "too-many-bad"),
        ("429", "rate-limited"),
        ("429", "quarantine-full"),
        ("500", "internal"),
        ("503", "busy"),
        ("503", "disk-full"),
        ("503", "quarantine-full"),
    ];
    let of_events = [("403", "denied"), ("403", "no-source"), ("415", "not-cloudevents")];
    for (path, own) in [("/v1/usage", [("403", "terms-required")].as_slice()), ("/v1/events", of_events.as_slice())] {
        let post = &document["paths"][path]["post"];
        assert_eq!(post["parameters"][0]["name"], "Content-Encoding", "{path}");
        let taken = &post["responses"]["202"]["content"]["application/json"]["schema"];
        assert!(taken.is_object(), "{path}: {post}");
        for (status, kind) in of_both.iter().chain(own) {
            let refusal = &post["responses"][status];
            let told = refusal["description"].as_str().unwrap_or_default();
            assert!(told.contains(&format!("`{kind}`")), "{path} {status} {kind}: {told}");
            assert!(refusal["content"]["application/problem+json"].is_object(), "{path} {status}");
            let tells_when = matches!(*status, "429" | "503");
            assert_eq!(refusal["headers"]["Retry-After"].is_object(), tells_when, "{path} {status}");
        }
    }
    todoke.stop().await;
}

/// A documented path with something in the place of its parameters.
pub(crate) fn filled(path: &str) -> String {
    let parts =
        path.split('/').map(|part| if part.starts_with('{') { "01900000-0000-7000-8000-000000000000" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_neighbour_comes_over_the_wall() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let own = todoke.municipality();
    let analyst = todoke.sign_in("analyst").await;
    assert_eq!(sql(&analyst, "SELECT DISTINCT municipality_code FROM events_coupon").await, [[json!(own)]]);
    let crafted = format!(
        "SELECT COUNT(*) FROM events_coupon WHERE municipality_code = '{}' OR 1 = 1 AND municipality_code <> '{own}'",
        todoke.municipality_at(1)
    );
    assert_eq!(sql(&analyst, &crafted).await, [[json!(0)]]);
    for forbidden in [
        "SELECT * FROM '/etc/passwd'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "DROP TABLE events_coupon",
        "INSERT INTO events_coupon SELECT * FROM events_coupon",
        "SET datafusion.execution.target_partitions = 1",
        "SELECT 1; SELECT 2",
    ] {
        let answer = analyst.post("/v1/sql", &json!({"sql": forbidden})).await;
        assert_eq!(answer.status, 400, "{forbidden}: {}", answer.text());
    }
    neighbours_ids_lead_nowhere(&todoke).await;
    todoke.stop().await;
}

/// Ids that exist on the other side of the wall are unknown on this one.
async fn neighbours_ids_lead_nowhere(todoke: &Todoke) {
    let scene = Scene::of(todoke).await;
    let neighbour = todoke.sign_in("neighbour_operator").await;
    let coupon = scene.coupon_id();
    for path in [format!("/v1/coupons/{coupon}/ledger"), format!("/v1/facilities/{}", scene.facility_id)] {
        assert_eq!(neighbour.get(&path).await.status, 404, "{path}");
    }
    let body = json!({"delta_yen": 100, "reason_code": "input_error"});
    assert_eq!(neighbour.post(&format!("/v1/coupons/{coupon}/adjust"), &body).await.status, 404);
}
