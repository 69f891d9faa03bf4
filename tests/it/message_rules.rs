//! Rules of messages on the record: who gets them, how often, and what switches do not stop.

use std::time::Duration;

use jiff::civil::date;
use serde_json::json;
use todoke_domain::{
    Role, Timestamp,
    ids::{LotId, MessageId},
    time::add_days,
};
use todoke_store::{
    Wall,
    account::{Account, Preference},
    coupon::LotRow,
    delivery::Delivery,
    message::Message,
};
use todoke_tests::{stores::TestStore, wait::cut_off};
use todoke_workflow::{Actor, Workflow, coupon::ReminderRound};

use crate::{
    city::{City, NOW, account, town},
    coupon_use::{request, workflow},
    register::{events_of, family, inbox},
};

todoke_tests::on_both_databases! {
    a_proxy_is_told_of_a_use_like_the_guardian_and_of_a_reminder_in_the_inbox_only,
    a_daily_reminder_comes_once_and_a_switch_stops_only_what_is_optional,
    what_ends_on_one_day_for_one_child_is_one_reminder_with_its_sum,
    an_address_that_nobody_has_confirmed_gets_no_mail_about_others,
    the_early_and_the_late_reminder_of_one_coupon_may_fall_on_one_day,
    reminders_of_many_children_are_not_one_transaction,
}

/// When the coupon of a city is sixty days from its end, as the first reminder has it.
fn reminder_day() -> Timestamp {
    Timestamp::jst_midnight(add_days(date(2028, 5, 3), -60)).plus(Duration::from_secs(9 * 3_600))
}

/// A round of reminders on the day of `now`; gives the number of coupons.
async fn remind(workflow: &Workflow, round: ReminderRound, now: Timestamp) -> usize {
    let timer = Actor::system(town(), "timer");
    workflow.remind_of_expiry(&timer, round, now.jst_date(), now).await.unwrap().coupons
}

/// What somebody was told about the use that the test booked; the scene has a message of that type of its own.
pub(crate) async fn told(db: &TestStore, city: &City, who: &Account) -> Vec<Message> {
    let mut messages = inbox(db, who, "coupon.used").await;
    messages.retain(|message| message.message_id != city.message.message_id);
    messages
}

pub(crate) async fn deliveries(db: &TestStore, id: MessageId) -> Vec<Delivery> {
    db.begin_read(Wall::None).await.unwrap().deliveries_of(id).await.unwrap()
}

async fn a_proxy_is_told_of_a_use_like_the_guardian_and_of_a_reminder_in_the_inbox_only(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let proxy = Account {
        guardian_id: city.parent.guardian_id,
        ..account(&town(), Role::ProxyGuardian, "proxy@27100.example.jp")
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&proxy, NOW).await.unwrap();
    tx.commit().await.unwrap();
    workflow.use_coupon(&city.parent(), &request(&city, "u-1", 300), NOW).await.unwrap();
    for who in [&city.parent, &proxy] {
        let own = told(db, &city, who).await;
        assert_eq!(own.len(), 1, "{:?}", who.role);
        let targets: Vec<String> = deliveries(db, own[0].message_id).await.into_iter().map(|row| row.target).collect();
        assert_eq!(targets, [who.email.clone().unwrap()], "each to their own address");
    }
    remind(&workflow, ReminderRound::First, reminder_day()).await;
    let reminded = inbox(db, &proxy, "coupon.expiring").await;
    assert_eq!(reminded.len(), 1);
    assert!(deliveries(db, reminded[0].message_id).await.is_empty());
}

async fn a_daily_reminder_comes_once_and_a_switch_stops_only_what_is_optional(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let off = Preference { category: "money".to_owned(), channel: "email".to_owned(), enabled: false };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.set_preference(city.parent.account_id, &off).await.unwrap();
    tx.commit().await.unwrap();
    workflow.use_coupon(&city.parent(), &request(&city, "u-1", 300), NOW).await.unwrap();
    let used = told(db, &city, &city.parent).await.remove(0);
    let channels: Vec<String> = deliveries(db, used.message_id).await.into_iter().map(|row| row.channel).collect();
    assert_eq!(channels, ["email"], "a mandatory message does not ask");
    for hours in [0, 3] {
        let now = reminder_day().plus(Duration::from_secs(hours * 3_600));
        assert_eq!(remind(&workflow, ReminderRound::First, now).await, 1);
    }
    let reminded = inbox(db, &city.parent, "coupon.expiring").await;
    assert_eq!(reminded.len(), 1, "once a day");
    let dropped = events_of(db, "message.suppressed").await;
    assert_eq!(dropped.len(), 1);
    assert_eq!(
        (&dropped[0].payload["message_id"], &dropped[0].payload["reason"]),
        (&json!(reminded[0].message_id), &json!("duplicate"))
    );
    assert!(deliveries(db, reminded[0].message_id).await.is_empty(), "mail about money is switched off");
}

async fn what_ends_on_one_day_for_one_child_is_one_reminder_with_its_sum(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    city.another_coupon(db, 2_500).await;
    assert_eq!(remind(&workflow(db.store()), ReminderRound::First, reminder_day()).await, 2);
    let reminded = inbox(db, &city.parent, "coupon.expiring").await;
    assert_eq!(reminded.len(), 1);
    assert!(reminded[0].body.contains("3,500円"), "{}", reminded[0].body);
}

async fn an_address_that_nobody_has_confirmed_gets_no_mail_about_others(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let address = "proxy@example.jp";
    let proxy =
        workflow.add_proxy(&city.parent(), address, "大阪 太郎", "オオサカ タロウ", "spouse", NOW).await.unwrap();
    workflow.use_coupon(&city.parent(), &request(&city, "u-1", 300), NOW).await.unwrap();
    let waiting = told(db, &city, &proxy).await;
    assert_eq!(waiting.len(), 1, "it waits in the inbox");
    assert!(deliveries(db, waiting[0].message_id).await.is_empty());
    let mails = db.begin_read(Wall::None).await.unwrap().mails(Some(address), 10).await.unwrap();
    let subjects: Vec<&str> = mails.iter().map(|mail| mail.subject.as_str()).collect();
    assert_eq!(subjects, ["アカウント発行のお知らせ"], "the link to the first password has to go there");

    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.update_account(&Account { state: "active".to_owned(), ..proxy.clone() }).await.unwrap();
    tx.commit().await.unwrap();
    workflow.use_coupon(&city.parent(), &request(&city, "u-2", 200), NOW).await.unwrap();
    let newest = told(db, &city, &proxy).await.remove(0);
    assert_eq!(deliveries(db, newest.message_id).await.len(), 1, "the holder has come");
}

async fn the_early_and_the_late_reminder_of_one_coupon_may_fall_on_one_day(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let late = add_days(reminder_day().jst_date(), 14);
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let first = tx.lots(city.coupon.coupon_id).await.unwrap().remove(0);
    tx.insert_lot(&LotRow { lot_id: LotId::new(NOW), expires_on: late, ..first }, NOW).await.unwrap();
    tx.commit().await.unwrap();
    let workflow = workflow(db.store());
    for round in [ReminderRound::First, ReminderRound::Last] {
        assert_eq!(remind(&workflow, round, reminder_day()).await, 1);
    }
    let reminded = inbox(db, &city.parent, "coupon.expiring").await;
    let of = |day: &str| reminded.iter().filter(|message| message.body.contains(day)).count();
    assert_eq!((reminded.len(), of("5月3日"), of("3月18日")), (2, 1, 1), "{late}");
}

async fn reminders_of_many_children_are_not_one_transaction(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    for no in 0..249 {
        let family = family(db, &town(), no + 10, "27127", NOW.jst_date()).await;
        city.coupon_of(db, &family.child, 500).await;
    }
    let workflow = workflow(db.store());
    let reminded = async || {
        let mut created = events_of(db, "message.created").await;
        created.retain(|event| event.payload["message_type"] == json!("coupon.expiring"));
        created.len()
    };
    let timer = Actor::system(town(), "timer");
    let now = reminder_day();
    // A third more polls each time: the first cut after which anybody has been reminded lies before the end.
    let mut n = 64;
    while reminded().await == 0 {
        let run = workflow.remind_of_expiry(&timer, ReminderRound::First, now.jst_date(), now);
        assert!(cut_off(run, n).await.is_none(), "all were reminded at once");
        n += n / 3;
    }
    assert!(reminded().await < 250, "a run that was cut off has done a part of it");
    assert_eq!(remind(&workflow, ReminderRound::First, now).await, 250);
    assert_eq!(reminded().await, 250, "each once");
}
