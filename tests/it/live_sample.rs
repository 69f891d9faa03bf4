//! The samples of live connections: from open sockets to the delivery report (R13), each town its own.

use std::time::Duration;

use serde_json::{Value, json};
use todoke_tests::{
    live::Live,
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};

use crate::scene::{Scene, sql};

const SAMPLES: &str = "SELECT MAX(sessions), SUM(recovered), SUM(republished) FROM events_system
    WHERE event_type = 'system.live_sampled'";

fn whole(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_sockets_and_what_they_got_again_are_in_the_delivery_report() {
    let settings = [("TODOKE_REALTIME__SAMPLE_EVERY_S", "1".to_owned())];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let scene = Scene::of(&todoke).await;
    let (phone, tablet) = (Live::connect(&scene.guardian).await, Live::connect(&scene.guardian).await);
    phone.cut().await;
    scene.pay("while-away", 10).await.expect(201);
    tablet.wait_for("the payment", |p| p.data["type"] == "coupon.used").await;
    phone.resume().await;
    let analyst = todoke.sign_in("analyst").await;
    eventually("the samples can be queried", Duration::from_secs(20), async || {
        let rows = sql(&analyst, SAMPLES).await;
        let figures: Vec<i64> = rows[0].iter().map(whole).collect();
        (figures[0] >= 2 && figures[1] >= 1 && figures[2] >= 1).then_some(())
    })
    .await;
    let neighbour = todoke.sign_in("neighbour_analyst").await;
    assert_eq!(sql(&neighbour, "SELECT COUNT(*) FROM events_system").await, [[json!(0)]], "nobody is connected there");

    let city = todoke.sign_in("municipal_staff").await;
    let now = city.get("/v1/session").await.expect(200)["server_time"].as_str().unwrap().to_owned();
    let today = now.parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    let report = city.get(&format!("/v1/reports/message_delivery?from={today}&to={today}")).await.expect(200);
    let columns = report["columns"].as_array().unwrap();
    let figure = |name: &str| {
        let at = columns.iter().position(|column| column["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        whole(&report["rows"][0][at])
    };
    assert!(figure("live_sessions_peak") >= 2, "{report}");
    assert!(figure("resume_gaps") >= 1, "{report}");
    todoke.stop().await;
}
