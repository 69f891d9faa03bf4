//! What fires by the clock, over the real binary.

use std::time::Duration;

use jiff::civil::{date, time};
use tempfile::TempDir;
use todoke_domain::{Timestamp, parameter::EXPIRY_REMINDER_DAYS, time::add_days};
use todoke_store::{Durability, Store, Wall, municipality::ParameterValue};
use todoke_tests::{
    todoke::{Todoke, recently},
    wait::eventually,
};
use todoke_workflow::notice::NoticeDraft;

use crate::{
    city::{City, NOW, neighbour, town},
    coupon_use::workflow,
    register::inbox,
};

const LIMIT: Duration = Duration::from_secs(60);

/// The record of the server over `dir`, opened beside it.
async fn record(dir: &TempDir) -> Store {
    Store::open_sqlite(&dir.path().join("data").join("record.sqlite"), Durability::Full).await.unwrap()
}

/// Two cities whose reminders (T06) failed or fell out on the day before yesterday, each with a notice to be told. The
/// one has a parameter that nobody can read.
async fn found(store: &Store, now: Timestamp) -> (City, City) {
    let (broken, sound) = (City::found(store, &town(), 1_000).await, City::found(store, &neighbour(), 1_000).await);
    let missed = add_days(now.jst_date(), -2);
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    let illegible = ParameterValue {
        name: EXPIRY_REMINDER_DAYS.name.to_owned(),
        effective_from: date(2025, 4, 1),
        value: "sixty".to_owned(),
    };
    tx.set_parameter(&broken.code, &illegible, "test", NOW).await.unwrap();
    let last = Timestamp::from_jst(add_days(missed, -1), time(9, 0, 0, 0));
    assert!(tx.claim_firing("T06", sound.code.as_str(), last, now).await.unwrap());
    let lot = tx.lots(sound.coupon.coupon_id).await.unwrap().remove(0);
    tx.set_lot_expiry(lot.lot_id, add_days(missed, 60), "age").await.unwrap();
    tx.commit().await.unwrap();
    for city in [&broken, &sound] {
        let draft = NoticeDraft {
            title: "年末年始の窓口".to_owned(),
            body: "12月29日から休みます。".to_owned(),
            audience: "all".to_owned(),
            valid_from: None,
            valid_to: add_days(now.jst_date(), 9),
            push: false,
        };
        workflow(store.clone()).publish_notice(&city.operator(), draft, now).await.unwrap();
    }
    (broken, sound)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_city_whose_timer_fails_keeps_back_nothing_else_and_a_missed_day_is_caught_up() {
    let dir = TempDir::with_prefix("todoke-timers-").unwrap();
    Todoke::serve_in_with(dir.path(), &[]).await.stop().await;
    let store = record(&dir).await;
    let (broken, sound) = found(&store, recently().parse().unwrap()).await;
    store.close().await;

    let todoke = Todoke::serve_in_with(dir.path(), &[]).await;
    let store = record(&dir).await;
    for city in [&broken, &sound] {
        eventually("what falls due after the reminders happens", LIMIT, async || {
            let told = inbox(&store, &city.parent, "notice.published").await;
            (!told.is_empty()).then_some(())
        })
        .await;
    }
    let reminded = inbox(&store, &sound.parent, "coupon.expiring").await;
    assert_eq!(reminded.len(), 1, "of what would have been told the day before yesterday");
    assert!(inbox(&store, &broken.parent, "coupon.expiring").await.is_empty());
    assert!(todoke.log().contains("a timer failed"), "{}", todoke.log());
    store.close().await;
    todoke.stop().await;
}
