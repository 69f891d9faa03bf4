//! The web app in Chromium, as people use it.

use std::time::Duration;

use serde_json::{Value, json};
use todoke_tests::{
    node,
    todoke::{DemoOptions, Todoke},
};

const LIMIT: Duration = Duration::from_secs(400);
/// Where the pictures of the README are put; none are made without it.
const PICTURES_VARIABLE: &str = "TODOKE_PICTURES";

/// What a script in the browser printed. Panics when it failed.
async fn script(name: &str, input: &Value, rest: &[&str]) -> Value {
    let mut command = node::node(name);
    command.arg(input.to_string()).args(rest).stderr(std::process::Stdio::piped());
    let run = tokio::time::timeout(LIMIT, command.output()).await.expect("the browser finishes").unwrap();
    assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("JSON from the script")
}

fn credentials(todoke: &Todoke, role: &str) -> Value {
    let account = todoke.account(role);
    json!({"email": account.email, "password": account.password})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_payment_arrives_in_two_windows() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let input = json!({
        "base": todoke.base_url(),
        "guardian": credentials(&todoke, "guardian"),
        "staff": credentials(&todoke, "facility_staff"),
    });
    let seen = script("payment.mjs", &input, &[]).await;
    let total = |field: &str| seen[field].as_array().unwrap().iter().map(|yen| yen.as_i64().unwrap()).sum::<i64>();
    assert_eq!(total("before") - total("after"), 210, "{seen}");
    assert!(seen["top"].as_str().unwrap().contains("210"), "{seen}");
    assert_eq!(seen["faults"], json!([]));
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_audiences_pages_fit_phone_and_desktop_without_a_fault() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let pages = [
        ("guardian", "guardian", "/", "guardian-home"),
        ("guardian", "guardian", "/coupons", "guardian-coupons"),
        ("guardian", "guardian", "/inbox", "guardian-inbox"),
        ("guardian", "guardian", "/history", "guardian-history"),
        ("guardian", "guardian", "/settings", "guardian-settings"),
        ("facility_staff", "staff", "/staff/facility", "facility-today"),
        ("facility_staff", "staff", "/staff/facility/take", "facility-take"),
        ("operator", "staff", "/staff/operator", "operator-queue"),
        ("operator", "staff", "/staff/operator/broadcasts", "operator-broadcasts"),
        ("operator", "staff", "/staff/operator/broadcasts/new", "operator-broadcast"),
        ("municipal_staff", "staff", "/staff/city", "city-board"),
        ("municipal_staff", "staff", "/staff/city/reports", "city-reports"),
        ("operator", "staff", "/staff/operator/data", "operator-data"),
        ("analyst", "staff", "/staff/analyst", "analyst-sql"),
        ("analyst", "staff", "/staff/analyst/data", "analyst-data"),
    ];
    let roles = ["guardian", "facility_staff", "operator", "municipal_staff", "analyst"];
    let input = json!({
        "base": todoke.base_url(),
        "accounts": roles.iter().map(|role| ((*role).to_owned(), credentials(&todoke, role))).collect::<serde_json::Map<_, _>>(),
        "pages": pages.iter().map(|(role, entrance, path, name)| json!({"role": role, "entrance": entrance, "path": path, "name": name})).collect::<Vec<_>>(),
    });
    let folder = std::env::var(PICTURES_VARIABLE).unwrap_or_default();
    let seen = script("pictures.mjs", &input, &[&folder]).await;
    assert_eq!((&seen["wide"], &seen["faults"]), (&json!([]), &json!([])));
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_goes_from_draft_to_inbox_with_four_eyes() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let input = json!({
        "base": todoke.base_url(),
        "guardian": credentials(&todoke, "guardian"),
        "operator": credentials(&todoke, "operator"),
        "city": credentials(&todoke, "municipal_staff"),
    });
    let seen = script("broadcast.mjs", &input, &[]).await;
    assert!(seen["counted"].as_str().unwrap().contains("対象は"), "{seen}");
    assert_eq!((&seen["ownApproval"], &seen["over"], &seen["faults"]), (&json!(0), &json!(0), &json!([])), "{seen}");
    assert_ne!(seen["before"], seen["after"], "{seen}");
    todoke.stop().await;
}
