//! The main job through the real binary: from a coupon use to both screens, the inbox, the lake and the report.

use std::time::Duration;

use serde_json::json;
use todoke_tests::{
    live::Live,
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};

use crate::scene::{Scene, inbox, sql, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_on_both_screens_in_the_inbox_and_in_the_lake_once() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let scene = Scene::of(&todoke).await;
    let phone = Live::connect(&scene.guardian).await;
    let tablet = Live::connect(&scene.staff).await;

    let used = scene.pay("payment-1", 300).await.expect(201);
    let use_id = text(&used, "use_id");
    assert_eq!(used["state"], "settled");
    assert_eq!(used["balance_after_yen"], scene.balance() - 300);

    let seen = phone.wait_for("the payment on the guardian's screen", |p| {
        p.data["type"] == "coupon.used" && p.data["subject"]["id"] == use_id.as_str()
    });
    let seen = seen.await;
    assert_eq!(seen.data["data"]["coupon"]["balance_yen"], scene.balance() - 300);
    assert_eq!(seen.data["data"]["coupon"]["coupon_id"], scene.coupon_id());
    let row = tablet
        .wait_for("the payment on the facility's screen", |p| p.data["data"]["use"]["use_id"] == use_id.as_str())
        .await;
    assert_eq!(row.channel, format!("facility:{}:today", scene.facility_id));
    assert_eq!(row.data["data"]["use"]["amount_yen"], 300);

    assert_eq!(
        scene.pay("payment-1", 300).await.expect(201)["use_id"],
        use_id.as_str(),
        "a repeated key is the first answer"
    );
    let refused = scene.pay("payment-1", 301).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let too_much = scene.pay("payment-2", scene.balance()).await.expect(409);
    assert_eq!(too_much["reason_code"], "insufficient_balance");

    let of_use = inbox(&scene.guardian)
        .await
        .into_iter()
        .filter(|message| message["subject"]["id"] == use_id.as_str() || message["subject_id"] == use_id.as_str());
    assert_eq!(of_use.count(), 1, "one message about it in the inbox");
    let today = scene.staff.get("/v1/facility/today").await.expect(200);
    let uses = today["uses"].as_array().unwrap();
    assert_eq!(uses.iter().filter(|row| row["use_id"] == use_id.as_str()).count(), 1);
    let ledger = scene.guardian.get(&format!("/v1/coupons/{}/ledger", scene.coupon_id())).await.expect(200);
    assert_eq!(ledger["items"][0]["delta_yen"], -300);

    let analyst = todoke.sign_in("analyst").await;
    let query =
        format!("SELECT amount_yen FROM events_coupon WHERE event_type = 'coupon.used' AND use_id = '{use_id}'");
    let rows = eventually("the use is a row an analyst can query", Duration::from_secs(60), async || {
        let rows = sql(&analyst, &query).await;
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(rows, [[json!(300)]]);
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_read_on_one_device_is_read_on_the_others() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let scene = Scene::of(&todoke).await;
    let (phone, tablet) = (Live::connect(&scene.guardian).await, Live::connect(&scene.guardian).await);
    scene.pay("k", 100).await.expect(201);
    let told = phone.wait_for("the message", |p| p.data["type"] == "coupon.used").await;
    let message = told.data["data"]["message"]["message_id"].clone();
    let unread = scene.guardian.get("/v1/inbox?unread=1").await.expect(200)["unread"].as_i64().unwrap();
    phone.rpc("message.delivered", json!({"message_id": message})).await;
    phone.rpc("message.opened", json!({"message_id": message})).await;
    let cleared = tablet.wait_for("the other device clears it", |p| p.data["type"] == "message.opened").await;
    assert_eq!(cleared.data["subject"]["id"], message);
    assert_eq!(cleared.data["data"]["unread"], unread - 1);
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guardian_who_was_cut_off_gets_everything_once_and_in_order() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let scene = Scene::of(&todoke).await;
    let (cut_off, connected) = (Live::connect(&scene.guardian).await, Live::connect(&scene.guardian).await);
    scene.pay("before", 10).await.expect(201);
    cut_off.wait_for("the first payment", |p| p.data["type"] == "coupon.used").await;
    cut_off.cut().await;
    for n in 0..20 {
        scene.pay(&format!("during-{n}"), 10).await.expect(201);
    }
    cut_off.resume().await;
    let last = scene.pay("after", 10).await.expect(201);
    let is_last = |p: &todoke_tests::live::Publication| p.data["subject"]["id"] == last["use_id"];
    cut_off.wait_for("the last payment after coming back", is_last).await;
    connected.wait_for("the last payment", is_last).await;
    let offsets = |live: &Live| -> Vec<u64> {
        let own = |p: &todoke_tests::live::Publication| p.channel.starts_with("guardian:");
        live.seen().iter().filter(|p| own(p)).map(|p| p.offset).collect()
    };
    let came = offsets(&cut_off);
    assert!(came.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap or a repeat: {came:?}");
    assert_eq!(came, offsets(&connected), "both devices saw the same");
    let recovered = cut_off.events().into_iter().any(|line| line["event"] == "subscribed" && line["recovered"] == true);
    assert!(recovered, "the server proved that nothing is missing");
    todoke.stop().await;
}
