//! The web app in Chromium, as people use it.

use std::time::Duration;

use serde_json::{Value, json};
use todoke_tests::{
    account,
    http::Client,
    node,
    standin::Providers,
    todoke::{DemoOptions, Todoke, recently},
    wait::eventually,
};

use crate::{
    delivery_api::{MailBox, part, token_after},
    journey,
    push_journey::{message_about, on_the_phone, tagged},
    scene::{Scene, inbox, text},
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
        ("guardian", "guardian", "/apply", "guardian-apply"),
        ("guardian", "guardian", "/pay", "guardian-pay"),
        ("guardian", "guardian", "/children", "guardian-children"),
        ("facility_staff", "staff", "/staff/facility", "facility-today"),
        ("facility_staff", "staff", "/staff/facility/take", "facility-take"),
        ("facility_staff", "staff", "/staff/facility/uses", "facility-uses"),
        ("operator", "staff", "/staff/operator", "operator-queue"),
        ("operator", "staff", "/staff/operator/deliveries", "operator-deliveries"),
        ("operator", "staff", "/staff/operator/solicitations", "operator-solicitations"),
        ("operator", "staff", "/staff/operator/coupons", "operator-coupons"),
        ("operator", "staff", "/staff/operator/surveys", "operator-surveys"),
        ("operator", "staff", "/staff/operator/imports", "operator-imports"),
        ("operator", "staff", "/staff/operator/broadcasts", "operator-broadcasts"),
        ("operator", "staff", "/staff/operator/broadcasts/new", "operator-broadcast"),
        ("municipal_staff", "staff", "/staff/city", "city-board"),
        ("municipal_staff", "staff", "/staff/city/reports", "city-reports"),
        ("municipal_staff", "staff", "/staff/city/api-keys", "city-api-keys"),
        ("operator", "staff", "/staff/operator/data", "operator-data"),
        ("analyst", "staff", "/staff/analyst", "analyst-sql"),
        ("analyst", "staff", "/staff/analyst/data", "analyst-data"),
        ("stats_viewer", "staff", "/staff/statistics", "statistics"),
    ];
    let roles = ["guardian", "facility_staff", "operator", "municipal_staff", "analyst", "stats_viewer"];
    let input = json!({
        "base": todoke.base_url(),
        "accounts": roles.iter().map(|role| ((*role).to_owned(), credentials(&todoke, role))).collect::<serde_json::Map<_, _>>(),
        "pages": pages.iter().map(|(role, entrance, path, name)| json!({"role": role, "entrance": entrance, "path": path, "name": name})).collect::<Vec<_>>(),
    });
    let folder = std::env::var(PICTURES_VARIABLE).unwrap_or_default();
    let seen = script("pictures.mjs", &input, &[&folder]).await;
    assert_eq!((&seen["wide"], &seen["nameless"], &seen["faults"]), (&json!([]), &json!([]), &json!([])));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_city_makes_a_key_for_a_system_changes_its_sources_and_ends_it() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let event = |n: u32, source: &str| {
        json!({"specversion": "1.0", "id": n.to_string(), "source": source, "type": "support.replied", "time": recently(),
               "data": {"inquiry_id": "q", "topic": "coupon", "channel": "phone", "closed_hours": false}})
    };
    let input = json!({
        "base": todoke.base_url(),
        "city": credentials(&todoke, "municipal_staff"),
        "events": [event(1, "/desk"), event(2, "/night")],
    });
    let seen = script("keys.mjs", &input, &[]).await;
    let shows = |field: &str, words: &str| assert!(seen[field].as_str().unwrap().contains(words), "{words}: {seen}");
    shows("refused", "送信元");
    shows("secret", "tdk_");
    for words in ["コールセンター", "/desk", "記録なし", "有効"] {
        shows("made", words);
    }
    shows("changed", "/night");
    assert!(!seen["changed"].as_str().unwrap().contains("記録なし"), "it was used: {seen}");
    assert_eq!(
        (&seen["before"], &seen["after"], &seen["last"]),
        (&json!([1, 0]), &json!([0, 1]), &json!(401)),
        "{seen}"
    );
    shows("ended", "終了");
    assert_eq!((&seen["shownAgain"], &seen["faults"]), (&json!(false), &json!([])), "{seen}");
    todoke.stop().await;
}

/// A payment whose mail came back, as the newest that the operator hears of.
async fn unreached(todoke: &Todoke, server: &MailBox) -> String {
    let scene = Scene::of(todoke).await;
    let use_id = text(&scene.pay("unreached-1", 300).await.expect(201), "use_id");
    let messages = inbox(&scene.guardian).await;
    let message = messages.iter().find(|message| message["subject"]["id"] == use_id.as_str());
    let id = text(message.expect("the message of the use"), "message_id");
    server.wait_for(&id).await;
    let bounce = json!({ "message_id": format!("<{id}@todoke.test>"), "permanent": true, "code": "5.1.1" });
    let mail_system = todoke.client().with_header("authorization", "Bearer hush");
    eventually("the mail counts as failed", LIMIT, async || {
        let told = mail_system.post("/v1/mail/bounces", &bounce).await.expect(200);
        (told["failed"] == 1).then_some(())
    })
    .await;
    id
}

/// The invitation of a household that is not registered, which came back; gives the letter's number.
async fn returned_letter(operator: &Client) -> String {
    let headers = [("content-type", "text/csv"), ("x-file-name", "movement.csv")];
    operator.request("POST", "/v1/imports/movement", &headers, journey::MOVEMENT.to_owned()).await.expect(201);
    operator.post("/v1/solicitations/run", &json!({})).await.expect(200);
    let queue = operator.get("/v1/print-queue?limit=200&state=queued").await.expect(200);
    let letters = queue["items"].as_array().unwrap();
    let letter = letters.iter().find(|letter| letter["recipient"] == "試験 ゆず 様の保護者様");
    let letter_no = text(letter.unwrap_or_else(|| panic!("no letter: {queue}")), "letter_no");
    for state in ["printed", "posted", "returned"] {
        let marks = json!({"letter_nos": [letter_no], "state": state});
        assert_eq!(operator.post("/v1/print-queue/marks", &marks).await.expect(200)["marked"], 1, "{state}");
    }
    letter_no
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sees_whom_nothing_reached_and_what_to_do_next() {
    let server = MailBox::open().await;
    let settings = [
        ("TODOKE_MAIL__SMTP_URL", server.url.clone()),
        ("TODOKE_MAIL__FROM", "Todoke <noreply@todoke.test>".to_owned()),
        ("TODOKE_BOUNCE__SECRET", "hush".to_owned()),
    ];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let id = unreached(&todoke, &server).await;
    let operator = todoke.sign_in("operator").await;
    let letter_no = returned_letter(&operator).await;
    let input =
        json!({ "base": todoke.base_url(), "operator": credentials(&todoke, "operator"), "letterNo": letter_no });
    let seen = script("deliveries.mjs", &input, &[]).await;
    let shows = |field: &str, words: &str| assert!(seen[field].as_str().unwrap().contains(words), "{words}: {seen}");
    shows("row", "クーポンを利用しました");
    shows("row", "次にすること：もう一度送る");
    shows("life", "メール");
    shows("life", "bounced:5.1.1");
    shows("funnel", "coupon.used");
    shows("letter", "試験 ゆず 様の保護者様");
    shows("letter", "返戻");
    shows("letter", "次にすること：住所を確認する、もう一度送る");
    assert_eq!((&seen["over"], &seen["faults"]), (&json!(0), &json!([])), "{seen}");
    let replaced = operator.get("/v1/print-queue?limit=200&state=replaced").await.expect(200);
    assert_eq!(replaced["items"][0]["letter_no"], letter_no.as_str(), "another one waits in its place");
    // Both the repetition and the correction leave; the address is a good one again.
    eventually("the correction is mailed", LIMIT, async || {
        let life = operator.get(&format!("/v1/messages/{id}/deliveries")).await.expect(200);
        life["deliveries"].as_array()?.iter().any(|row| row["state"] == "accepted").then_some(())
    })
    .await;
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_finds_a_message_that_arrived_corrects_it_and_takes_it_back() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let scene = Scene::of(&todoke).await;
    let use_id = text(&scene.pay("searched-1", 300).await.expect(201), "use_id");
    let is_there = async || inbox(&scene.guardian).await.iter().any(|row| row["subject"]["id"] == use_id.as_str());
    assert!(is_there().await);
    let guardian_no = text(&scene.guardian.get("/v1/me").await.expect(200), "guardian_no");
    let input = json!({
        "base": todoke.base_url(),
        "operator": credentials(&todoke, "operator"),
        "guardianNo": guardian_no,
        "type": "coupon.used",
    });
    let seen = script("messages.mjs", &input, &[]).await;
    let shows = |field: &str, words: &str| assert!(seen[field].as_str().unwrap().contains(words), "{words}: {seen}");
    shows("row", "クーポンを利用しました");
    shows("corrected", "訂正済み");
    shows("withdrawn", "取下げ済み");
    assert_eq!((&seen["over"], &seen["faults"]), (&json!(0), &json!([])), "{seen}");
    assert!(!is_there().await, "it is out of the family's inbox");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailed_link_leads_through_the_sign_in_to_its_screen_and_then_the_message_is_read() {
    let server = MailBox::open().await;
    let settings = [
        ("TODOKE_MAIL__SMTP_URL", server.url.clone()),
        ("TODOKE_MAIL__FROM", "Todoke <noreply@todoke.test>".to_owned()),
    ];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let scene = Scene::of(&todoke).await;
    let used = text(&scene.pay("mailed-1", 300).await.expect(201), "use_id");
    let message = message_about(&scene.guardian, &used).await;
    let mail = server.wait_for(&text(&message, "message_id")).await;
    let token = token_after(&part(&mail, "text/plain"), "/m/");
    let input = json!({
        "base": todoke.base_url(),
        "guardian": credentials(&todoke, "guardian"),
        "link": format!("{}/m/{token}", todoke.base_url()),
    });
    let seen = script("mailed.mjs", &input, &[]).await;
    assert_eq!((&seen["screen"], &seen["status"]), (&message["link"], &json!(200)), "{seen}");
    assert!(message_about(&scene.guardian, &used).await["read_at"].is_string());
    assert_eq!(seen["faults"], json!([]), "{seen}");
    todoke.stop().await;
}

/// A child of the register that is invited, but not registered by its family.
const INVITED: &str = "resident_no,name_kana,name,sex,birth_date,household_no,movement_kind,movement_date,postal_code,address\r\n\
    9900000002,テスト ミライ,試験 みらい,male,2026-02-04,9900001,birth,2026-02-04,530-0001,大阪市北区1-1\r\n";
/// The register knows the family of [`journey`] as its household.
const HOUSEHOLD: &str = "resident_no,relation_resident_no,relation_name_kana,relation_birth_date,relation_kind\r\n\
    9900000002,9900000009,テスト タロウ,1990-04-01,father\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_family_sees_an_invited_childs_code_and_each_step_without_a_reload() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let operator = todoke.sign_in("operator").await;
    for (kind, csv) in [("movement", journey::MOVEMENT), ("movement", INVITED), ("household_relation", HOUSEHOLD)] {
        let headers = [("content-type", "text/csv"), ("x-file-name", "register.csv")];
        operator.request("POST", &format!("/v1/imports/{kind}"), &headers, csv).await.expect(201);
    }
    let family = journey::register(&todoke).await;
    operator.post("/v1/solicitations/run", &json!({})).await.expect(200);
    let invited = family.get("/v1/my/solicitations").await.expect(200);
    let invitation = invited["items"].as_array().unwrap().iter().find(|item| item["child_name"] == "試験 みらい");
    let code = invitation.unwrap_or_else(|| panic!("not invited: {invited}"))["display"].clone();
    let child_id = family.get("/v1/home").await.expect(200)["children"][0]["child_id"].clone();
    let document = journey::upload(&family).await;
    let form = json!({"child_id": child_id, "document_ids": [document], "relation": "母"});
    let application = family.post("/v1/applications", &form).await.expect(201);
    let account = journey::credentials();
    let input = json!({
        "base": todoke.base_url(),
        "family": {"email": account.email, "password": account.password},
        "child": "試験 みらい",
        "applicationId": application["application_id"],
        "operator": operator.bearer(),
    });
    let seen = script("family.mjs", &input, &[]).await;
    assert_eq!((&seen["code"], &seen["isTheSamePage"], &seen["faults"]), (&code, &json!(true), &json!([])), "{seen}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_registers_in_the_language_that_the_browser_asks_for_or_another() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let who = journey::credentials();
    let input = json!({
        "base": todoke.base_url(), "email": who.email, "password": who.password,
        "language": "ja-easy", "words": "やさしい にほんご",
    });
    let seen = script("register.mjs", &input, &[]).await;
    assert_eq!(seen["offered"], json!({"en-US": "ja", "ja-easy": "ja-easy", "ja-JP": "ja"}), "{seen}");
    assert_eq!((&seen["over"], &seen["faults"]), (&json!(0), &json!([])), "{seen}");
    let (family, _) = account::sign_in(&todoke.client(), &who, "guardian").await;
    assert_eq!(family.get("/v1/me").await.expect(200)["language"], "ja-easy");
    assert_eq!(inbox(&family).await[0]["title"], "登録（とうろく）ができました");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_of_a_phone_out_of_reach_arrives_once_the_last_screen_by_beacon_and_nothing_as_somebody_elses() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    for role in ["guardian", "guardian_2"] {
        let guardian = todoke.sign_in(role).await;
        guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    }
    let analyst = todoke.sign_in("analyst").await;
    let input = json!({
        "base": todoke.base_url(), "guardian": credentials(&todoke, "guardian"),
        "other": credentials(&todoke, "guardian_2"), "analyst": analyst.bearer(),
    });
    let seen = script("usage.mjs", &input, &[]).await;
    assert_eq!(seen["faults"], json!([]), "{seen}");
    // The survey list was left while there was no connection, the payment page with the site itself.
    assert_eq!(seen["views"], json!([["GD15", 1], ["GD19", 1]]), "{seen}");
    let sessions = &seen["sessions"];
    let of_other = sessions["ofOther"].as_array().unwrap();
    assert!(!of_other.is_empty() && !of_other.contains(&sessions["first"]), "{seen}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_analyst_finds_a_column_runs_a_statement_and_takes_the_rows_along() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let input = json!({"base": todoke.base_url(), "analyst": credentials(&todoke, "analyst")});
    let seen = script("analyst.mjs", &input, &[]).await;
    let rows = seen["rows"].as_u64().unwrap();
    assert!(rows > 1 && seen["shown"] == rows, "{seen}");
    let csv = seen["csv"].as_str().unwrap().trim_start_matches('\u{feff}').to_owned();
    assert!(csv.starts_with("jst_date,programme_code,uses,yen\r\n"), "{csv}");
    assert_eq!(u64::try_from(csv.trim_end().lines().count()), Ok(rows + 1), "{csv}");
    assert!(seen["wrong"].as_str().unwrap().contains("no_such_column"), "{seen}");
    assert_eq!(seen["faults"], json!([]));
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_shown_without_names_leads_to_its_screen_and_the_inbox_is_kept_for_offline() {
    let providers = Providers::start().await;
    let todoke = Todoke::demo_with(DemoOptions::small(), &providers.settings()).await;
    let scene = Scene::of(&todoke).await;
    providers.equip(&scene.guardian, 1).await;
    let used = text(&scene.pay("browser-push-1", 300).await.expect(201), "use_id");
    let message = message_about(&scene.guardian, &used).await;
    // What the server encrypted for a browser, which no push service can bring into this one.
    let tag = text(&on_the_phone(&providers, &text(&message, "message_id")).await["data"], "tag");
    let [_, _, service] = providers.all();
    let sent = eventually("the push service has it", LIMIT, async || tagged(&service, &tag).pop()).await;
    let push = providers.subscriber.open(&sent).await.plain;

    let input = json!({"base": todoke.base_url(), "guardian": credentials(&todoke, "guardian"), "push": push});
    let seen = script("push.mjs", &input, &[]).await;
    assert_eq!(
        (&seen["shown"], &seen["badges"]),
        (&json!([{"title": message["title"], "body": push["body"], "tag": tag}]), &json!([push["badge"]])),
        "{seen}"
    );
    assert!(push["badge"].as_u64() >= Some(1), "{push}");
    assert_eq!((&seen["displayed"], &seen["opened"]), (&json!(200), &json!(200)), "both are told: {seen}");
    let (shown, kept) = (text(&push, "body"), seen["kept"].to_string());
    let home = scene.guardian.get("/v1/home").await.expect(200);
    let coupon_of = |child: &&Value| child["coupons"].to_string().contains(scene.coupon_id());
    let child =
        text(home["children"].as_array().unwrap().iter().find(coupon_of).expect("the child of the coupon"), "name");
    assert!(shown.contains("お子さま") && !shown.contains(&child), "no name on a lock screen: {shown}");
    assert!(kept.contains(&child), "the inbox tells whose coupon it was: {kept}");
    assert_eq!((&seen["screen"], &seen["left"]), (&message["link"], &json!(0)), "{seen}");
    assert!(message_about(&scene.guardian, &used).await["read_at"].is_string(), "tapped is read");
    assert_eq!(seen["faults"], json!([]), "{seen}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_the_browser_changes_takes_the_place_of_the_old_one() {
    let providers = Providers::start().await;
    let todoke = Todoke::demo_with(DemoOptions::small(), &providers.settings()).await;
    let scene = Scene::of(&todoke).await;
    providers.equip(&scene.guardian, 1).await;
    let [_, _, service] = providers.all();
    let input = json!({
        "base": todoke.base_url(), "guardian": credentials(&todoke, "guardian"), "service": service.standin.url(),
    });
    let seen = script("renewal.mjs", &input, &[]).await;
    assert_eq!((&seen["heard"], &seen["pages"]), (&json!([true]), &json!(0)), "by itself, with no page open: {seen}");
    assert_eq!(seen["registered"]["status"], 200, "{seen}");
    assert_eq!(seen["renewed"], seen["registered"], "under the id of before: {seen}");
    assert_eq!(seen["faults"], json!([]), "{seen}");
    let devices = scene.guardian.get("/v1/devices").await.expect(200);
    assert_eq!(devices["items"].as_array().unwrap().len(), 4, "one more than the three of before: {devices}");

    let used = text(&scene.pay("browser-renewal-1", 300).await.expect(201), "use_id");
    let message_id = text(&message_about(&scene.guardian, &used).await, "message_id");
    let tag = text(&on_the_phone(&providers, &message_id).await["data"], "tag");
    let mut paths = eventually("both browsers are sent a push", LIMIT, async || {
        let paths: Vec<String> = tagged(&service, &tag).into_iter().map(|push| push.path).collect();
        (paths.len() >= 2).then_some(paths)
    })
    .await;
    paths.sort_unstable();
    assert_eq!(paths, ["/push/1", "/push/browser-2"], "the subscription of before gets nothing");
    todoke.stop().await;
}
