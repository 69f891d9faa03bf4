//! Prefecture and state: masked figures of the municipalities below them, and no other door (N-SEC-10).

use std::time::Duration;

use serde_json::{Value, json};
use todoke_domain::{MunicipalityCode, Role};
use todoke_store::{Wall, municipality::Municipality};
use todoke_tests::{
    http::Client,
    live::Live,
    stores::TestStore,
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};
use todoke_workflow::{Actor, WorkflowError, account::OfficeDraft};

use crate::{
    city::{NOW, neighbour, town},
    coupon_use::workflow,
    register::events_of,
};

todoke_tests::on_both_databases! {
    an_authority_oversees_what_is_below_it,
    viewers_belong_to_authorities_and_authorities_have_nobody_else,
}

const PREFECTURE: &str = "270000";
const STATE: &str = "000000";
const ELSEWHERE: &str = "130000";

fn code(raw: &str) -> MunicipalityCode {
    raw.parse().unwrap()
}

/// Two towns of one prefecture, their authorities, and a prefecture without towns.
async fn found(db: &TestStore) {
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for municipality_code in [town(), neighbour(), code(PREFECTURE), code(STATE), code(ELSEWHERE)] {
        let name = format!("{municipality_code}の団体");
        tx.insert_municipality(&Municipality { municipality_code, name }, NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
}

fn draft(role: Role, code: &MunicipalityCode) -> OfficeDraft {
    OfficeDraft {
        email: format!("{role}@{code}.example.jp"),
        name: "統計 花子".to_owned(),
        role: role.as_str().to_owned(),
        ..OfficeDraft::default()
    }
}

async fn an_authority_oversees_what_is_below_it(db: &TestStore) {
    found(db).await;
    let workflow = workflow(db.store());
    for (authority, below) in
        [(PREFECTURE, vec![town(), neighbour()]), (STATE, vec![town(), neighbour()]), (ELSEWHERE, vec![])]
    {
        let authority = code(authority);
        let system = Actor::system(authority.clone(), "console");
        let account = workflow.issue_account(&system, &draft(Role::StatsViewer, &authority), NOW).await.unwrap();
        let viewer = Actor::of(&account, None);
        let seen = workflow.overseen(&viewer).await.unwrap();
        assert_eq!(seen.into_iter().map(|place| place.municipality_code).collect::<Vec<_>>(), below, "{authority}");
        let noted = workflow.note_oversight(&viewer, &town(), 3, NOW).await;
        assert_eq!(noted.is_ok(), below.contains(&town()), "{authority}: {noted:?}");
    }
    let views = events_of(db, "access.audited").await;
    assert_eq!(views.len(), 2, "{views:?}");
    for view in views {
        assert_eq!(
            (view.municipality_code, view.actor_role.as_str()),
            (town(), "stats_viewer"),
            "in the town's own audit"
        );
        assert_eq!(view.actor_key, None, "a key is of one municipality");
        assert_eq!(view.payload["object_kind"], "aggregate");
    }
}

async fn viewers_belong_to_authorities_and_authorities_have_nobody_else(db: &TestStore) {
    found(db).await;
    let workflow = workflow(db.store());
    for (place, role, is_issued) in [
        (town(), Role::StatsViewer, false),
        (code(PREFECTURE), Role::MunicipalAdmin, false),
        (code(PREFECTURE), Role::Analyst, false),
        (town(), Role::Analyst, true),
    ] {
        let system = Actor::system(place.clone(), "console");
        let issued = workflow.issue_account(&system, &draft(role, &place), NOW).await;
        assert_eq!(issued.is_ok(), is_issued, "{role} of {place}: {issued:?}");
    }
    let key = workflow.issue_api_key(&Actor::system(town(), "console"), "集計", Role::StatsViewer, &[], NOW).await;
    assert!(matches!(key, Err(WorkflowError::Invalid(_))), "{key:?}");
}

/// A report's first row by column name.
fn first_row(report: &Value) -> impl Fn(&str) -> Value + use<> {
    let names: Vec<Value> = report["columns"].as_array().unwrap().iter().map(|column| column["name"].clone()).collect();
    let row = report["rows"][0].as_array().unwrap_or_else(|| panic!("no row: {report}")).clone();
    move |name| {
        let at = names.iter().position(|known| known == name).unwrap_or_else(|| panic!("no {name}: {names:?}"));
        row[at].clone()
    }
}

/// Today in Japan, as the server knows it.
async fn today(who: &Client) -> jiff::civil::Date {
    let now = who.get("/v1/session").await.expect(200)["server_time"].as_str().unwrap().to_owned();
    now.parse::<todoke_domain::Timestamp>().unwrap().jst_date()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prefecture_sees_each_towns_own_figures_with_small_ones_masked() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let viewer = todoke.sign_in("stats_viewer").await;
    let catalogue = viewer.get("/v1/aggregates").await.expect(200);
    let towns: Vec<Value> =
        catalogue["municipalities"].as_array().unwrap().iter().map(|town| town["municipality_code"].clone()).collect();
    assert_eq!(towns, [json!(todoke.municipality()), json!(todoke.municipality_at(1))]);

    let today = today(&viewer).await;
    let begin = today.saturating_sub(jiff::Span::new().days(40)).first_of_month();
    let month = |day: jiff::civil::Date| day.to_string()[..7].to_owned();
    let period = format!("from={}&to={}", month(begin), month(today));
    let mut shown = Vec::new();
    for (place, official) in [(0, "municipal_staff"), (1, "neighbour_municipal_staff")] {
        let town = todoke.municipality_at(place);
        let city = todoke.sign_in(official).await;
        let path = format!("/v1/reports/statistics_simple?from={begin}&to={}", today.last_of_month());
        let own = first_row(&city.get(&path).await.expect(200));
        let path = format!("/v1/aggregates/statistics_simple?{period}&municipality_code={town}");
        let report = viewer.get(&path).await.expect(200);
        assert_eq!(report["rows"].as_array().unwrap().len(), 1, "{report}");
        let seen = first_row(&report);
        assert_eq!(seen("municipality_code"), town.as_str());
        for (figure, persons) in [
            ("coupon_registrations", "coupon_registrations"),
            ("coupon_guardians", "coupon_guardians"),
            ("registered_end", "registered_end"),
            ("users", "users"),
            ("service_uses", "users"),
            ("used_yen", "users"),
        ] {
            let enough = own(persons).as_i64().unwrap() >= 5;
            let expected = if enough { own(figure) } else { json!("*") };
            assert_eq!(seen(figure), expected, "{figure} of {town}, {} persons", own(persons));
        }
        shown.push(seen("coupon_guardians"));
    }
    assert!(shown[0].is_i64() && shown[1] == "*", "a city of 40 families and a town of 4: {shown:?}");

    let both = viewer.get(&format!("/v1/aggregates/app_usage?{period}")).await.expect(200);
    assert_eq!(both["rows"].as_array().unwrap().len(), 2, "a line for each town: {both}");
    assert_eq!(both["missing"], json!([]));
    let surveys = viewer.get(&format!("/v1/aggregates/survey_aggregate?{period}")).await;
    assert_eq!(surveys.status, 200, "{}", surveys.text());
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_door_but_the_aggregates_opens_to_the_prefecture() {
    /// What a viewer has of its own, and the aggregates.
    const OWN: [&str; 6] =
        ["/v1/session", "/v1/me", "/v1/me/consents", "/v1/me/preferences", "/v1/inbox", "/v1/aggregates"];
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let (anybody, viewer) = (todoke.client(), todoke.sign_in("stats_viewer").await);
    let document = anybody.get("/openapi.json").await.expect(200);
    let mut n_closed = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let filled = crate::demo::filled(path);
        // What is open to the street is no door of a municipality.
        if methods.get("get").is_none() || anybody.get(&filled).await.status != 401 {
            continue;
        }
        let answer = viewer.get(&filled).await;
        let is_empty = || answer.json()["items"] == json!([]);
        let is_refused = (400..500).contains(&answer.status);
        assert!(is_refused || OWN.contains(&path.as_str()) || is_empty(), "{path}: {}", answer.text());
        n_closed += usize::from(answer.status == 403);
    }
    assert!(n_closed > 15, "{n_closed} doors said no");

    let period = "from=2026-04-01&to=2027-03-31";
    for path in [
        format!("/v1/reports/statistics_simple?{period}"),
        format!("/v1/reports/statistics_simple?{period}&rows=true&format=csv"),
        format!("/v1/reports/access_audit?{period}"),
        "/v1/aggregates/access_audit?from=2026-04&to=2026-04".to_owned(),
        "/v1/aggregates/message_delivery?from=2026-04&to=2026-04".to_owned(),
        "/v1/sql/schema".to_owned(),
    ] {
        assert_eq!(viewer.get(&path).await.status, 403, "{path}");
    }
    assert_eq!(viewer.post("/v1/sql", &json!({"sql": "SELECT 1"})).await.status, 403);
    for path in
        ["/v1/matching/run", "/v1/solicitations/run", "/v1/lake/quarantine/replay", "/v1/lake/quarantine/discard"]
    {
        assert_eq!(viewer.post(path, &json!({})).await.status, 403, "{path}");
    }
    let asked = "/v1/aggregates/statistics_simple";
    assert_eq!(viewer.get(&format!("{asked}?{period}")).await.status, 422, "whole months only");
    let alien = viewer.get(&format!("{asked}?from=2026-04&to=2026-04&municipality_code=271004")).await;
    assert_eq!(alien.status, 404, "{}", alien.text());
    let with_rows = viewer.get(&format!("{asked}?from=2026-04&to=2026-04&rows=true&format=csv")).await;
    assert!(with_rows.header("content-type").starts_with("application/json"), "there are no files of it");
    assert!(!with_rows.text().contains("child_key"), "{}", with_rows.text());
    for other in ["municipal_admin", "operator", "analyst", "guardian"] {
        let who = todoke.sign_in(other).await;
        assert_eq!(who.get("/v1/aggregates").await.status, 403, "{other} does not look at other towns");
    }

    let socket = Live::connect(&viewer).await;
    socket.wait_for_line("its only channel", |line| line["channel"] == "system").await;
    let joined: Vec<Value> = socket.events().into_iter().filter(|line| line["event"] == "subscribed").collect();
    assert!(joined.iter().all(|line| line["channel"] == "system"), "{joined:?}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_town_sees_that_the_prefecture_looked() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let viewer = todoke.sign_in("stats_viewer").await;
    let neighbour = todoke.sign_in("neighbour_municipal_admin").await;
    let today = today(&viewer).await;
    let month = today.to_string()[..7].to_owned();
    let town = todoke.municipality_at(1);
    let path = format!("/v1/aggregates/app_usage?from={month}&to={month}&municipality_code={town}");
    viewer.get(&path).await.expect(200);
    let audit = format!("/v1/reports/access_audit?from={today}&to={}&rows=true", today.tomorrow().unwrap());
    let is_view = |row: &Value| {
        let text = row.to_string();
        text.contains("\"stats_viewer\"") && text.contains("\"view\"") && text.contains("\"aggregate\"")
    };
    eventually("the view is in the town's audit", Duration::from_secs(60), async || {
        let report = neighbour.get(&audit).await.expect(200);
        report["rows"].as_array().unwrap().iter().any(is_view).then_some(())
    })
    .await;
    let city = todoke.sign_in("municipal_admin").await;
    let report = city.get(&audit).await.expect(200);
    assert!(!report["rows"].as_array().unwrap().iter().any(is_view), "the other town was not looked at: {report}");
    todoke.stop().await;
}
