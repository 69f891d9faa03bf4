//! What offices decide about coupons, and what the calendar does: from the commit on it holds, and the guardian knows.

use std::time::Duration;

use jiff::{ToSpan, civil::date};
use todoke_domain::{Timestamp, Yen};
use todoke_store::{Wall, coupon_set::CouponSet};
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor, WorkflowError,
    application::{ApplicationView, Submission, Verdict},
    coupon::{Payer, Place, Purpose, UseAnswer, UseRequest},
};

use crate::{
    city::{City, NOW, PROGRAMME, after, town},
    coupon_use::workflow,
    register::{events_of, family, inbox},
};

todoke_tests::on_both_databases! {
    after_a_revocation_nothing_can_be_paid,
    a_suspension_refuses_every_payment_and_is_told,
    a_cancellation_fee_comes_off_the_balance_and_is_told,
    each_cycle_credits_each_child_once_with_the_right_last_day,
    a_household_sees_its_own_uses_only,
}

fn payment(city: &City, key: &str, amount: i64) -> UseRequest {
    UseRequest {
        idempotency_key: key.to_owned(),
        body_hash: key.to_owned(),
        payer: Payer::Coupon(city.coupon.coupon_id),
        place: Place::Facility(city.facility.facility_id),
        programme_code: PROGRAMME.to_owned(),
        amount: Yen::new(amount),
        purpose: Purpose::Service,
        fee_total: None,
        application_id: None,
        confirm_repeat: true,
    }
}

fn by_code(city: &City, key: &str, amount: i64) -> UseRequest {
    UseRequest { payer: Payer::ChildQr(city.child_qr.clone()), ..payment(city, key, amount) }
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, WorkflowError>) -> &'static str {
    match outcome {
        Err(WorkflowError::UseRefused { reason, .. }) => reason.as_str(),
        other => panic!("not refused: {other:?}"),
    }
}

async fn after_a_revocation_nothing_can_be_paid(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    workflow.use_coupon(&city.parent(), &payment(&city, "before", 100), NOW).await.unwrap();
    let id = city.application.application_id;
    workflow.revoke_decision(&city.operator(), id, "", "city_request", None, after(1)).await.unwrap();
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let coupon = tx.coupon(city.coupon.coupon_id).await.unwrap().unwrap();
    drop(tx);
    assert_eq!((coupon.balance_yen, coupon.state.as_str()), (Yen::ZERO, "revoked"));
    assert_eq!(
        refusal(workflow.use_coupon(&city.parent(), &payment(&city, "own", 1), after(2)).await),
        "coupon_revoked"
    );
    assert_eq!(
        refusal(workflow.use_coupon(&city.staff(), &by_code(&city, "code", 1), after(2)).await),
        "coupon_revoked"
    );
    let told = inbox(db, &city.parent, "application.coupon.revoked").await;
    assert_eq!(told.len(), 1);
    assert!(told[0].body.contains("残高は0円"), "{}", told[0].body);
    assert_eq!(events_of(db, "coupon.revoked").await[0].payload["written_off_yen"], 900);
}

async fn a_suspension_refuses_every_payment_and_is_told(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let guardian = city.guardian.guardian_id;
    workflow.set_suspended(&city.operator(), guardian, true, "misuse", None, NOW).await.unwrap();
    for (actor, request) in [(city.parent(), payment(&city, "own", 1)), (city.staff(), by_code(&city, "code", 1))] {
        assert_eq!(refusal(workflow.use_coupon(&actor, &request, after(1)).await), "guardian_suspended");
    }
    let told = inbox(db, &city.parent, "coupon.suspended").await;
    assert_eq!(told.len(), 1);
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let channel = todoke_domain::channel::Channel::Guardian(city.parent.account_id).to_string();
    let live = tx.publications_since(&channel, 0, 10).await.unwrap().publications;
    assert!(live.iter().any(|publication| publication.data.contains("coupon.suspended")), "{live:?}");
    let email = city.parent.email.as_deref();
    assert!(!tx.mails(email, 10).await.unwrap().is_empty(), "a mandatory message goes by mail too");
    drop(tx);
    workflow.set_suspended(&city.operator(), guardian, false, "misuse", None, after(2)).await.unwrap();
    assert_eq!(inbox(db, &city.parent, "coupon.resumed").await.len(), 1);
    workflow.use_coupon(&city.parent(), &payment(&city, "again", 1), after(3)).await.unwrap();
}

async fn a_cancellation_fee_comes_off_the_balance_and_is_told(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let fee = |key: &str| UseRequest { purpose: Purpose::CancellationFee, ..by_code(&city, key, 300) };
    let own = UseRequest { purpose: Purpose::CancellationFee, ..payment(&city, "own", 300) };
    let told_before = inbox(db, &city.parent, "coupon.used").await.len();
    let guardian = workflow.use_coupon(&city.parent(), &own, NOW).await;
    assert!(matches!(guardian, Err(WorkflowError::Denied)), "nobody charges a fee to oneself: {guardian:?}");
    let UseAnswer::Settled(charged) = workflow.use_coupon(&city.staff(), &fee("a"), NOW).await.unwrap() else {
        panic!("a new key is settled")
    };
    assert_eq!((charged.purpose.as_str(), charged.balance_after_yen), ("cancellation_fee", Yen::new(700)));
    let told = inbox(db, &city.parent, "coupon.cancellation_fee_charged").await;
    assert_eq!(told.len(), 1);
    assert!(told[0].body.contains("300円") && told[0].body.contains("700円"), "{}", told[0].body);
    let told_of_uses = inbox(db, &city.parent, "coupon.used").await.len();
    assert_eq!(told_of_uses, told_before, "one message, that of the fee");
    assert_eq!(inbox(db, &city.staff, "coupon.cancellation_fee_charged").await.len(), 1);
    assert_eq!(events_of(db, "coupon.used").await[0].payload["purpose"], "cancellation_fee");
}

/// A set whose coupons are credited every month from the day of approval.
pub(crate) async fn monthly_set(db: &TestStore, city: &City) -> CouponSet {
    let mut set = city.set.clone();
    set.coupon_set_id = todoke_domain::ids::CouponSetId::new(after(1));
    set.terms.distribution_cycle = todoke_domain::coupon::DistributionCycle::Monthly;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_coupon_set(&set, after(1)).await.unwrap();
    tx.commit().await.unwrap();
    set
}

/// Noon of a day.
pub(crate) fn noon(day: jiff::civil::Date) -> Timestamp {
    Timestamp::jst_midnight(day).plus(Duration::from_secs(12 * 3_600))
}

async fn each_cycle_credits_each_child_once_with_the_right_last_day(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (first, second) = (workflow(db.store()), workflow(db.open_again().await));
    let set = monthly_set(db, &city).await;
    // One stays young enough throughout, the other's right ends between the second and the third cycle.
    let young = family(db, &town(), 10, "271004", date(2026, 3, 10)).await;
    let grown = family(db, &town(), 11, "271004", date(2023, 7, 20)).await;
    let mut coupons = Vec::new();
    for family in [&young, &grown] {
        let approved = approve(&first, &city, &Actor::of(&family.parent, None), family.child.child_id, &set).await;
        let mut tx = db.begin_read(Wall::None).await.unwrap();
        coupons.push(tx.coupon_of_application(approved.application_id).await.unwrap().unwrap().coupon_id);
    }
    let lots = async |coupon| db.begin_read(Wall::None).await.unwrap().lots(coupon).await.unwrap();
    let timer = Actor::system(town(), "timer");
    let approved_on = NOW.jst_date();

    let early = first.distribute_due(&timer, noon(approved_on + 1.month() - 1.day())).await.unwrap();
    assert_eq!(early.coupons, 0, "not before its day");
    let day = noon(approved_on + 1.month());
    let (one, two) = tokio::join!(first.distribute_due(&timer, day), second.distribute_due(&timer, day));
    assert_eq!(one.unwrap().coupons + two.unwrap().coupons, 2, "two runs at once credit each child once");
    assert_eq!(first.distribute_due(&timer, day).await.unwrap().coupons, 0, "nor does a run after them");
    for (coupon, last_day) in [(coupons[0], date(2029, 3, 8)), (coupons[1], date(2026, 7, 18))] {
        let lots = lots(coupon).await;
        assert_eq!(lots.len(), 2);
        assert!(lots.iter().all(|lot| lot.expires_on == last_day && lot.amount_yen == Yen::new(15_000)), "{lots:?}");
        assert_eq!(lots.iter().map(|lot| lot.cycle_no).collect::<Vec<_>>(), [1, 2]);
    }
    assert_eq!(inbox(db, &young.parent, "coupon.distributed").await.len(), 2);

    // The machine was down for two cycles: each is caught up, and who has grown out gets none.
    let late = noon(approved_on + 3.months() + 5.days());
    assert_eq!(second.distribute_due(&timer, late).await.unwrap().coupons, 2);
    let mut cycles: Vec<_> = lots(coupons[0]).await.iter().map(|lot| lot.cycle_no).collect();
    cycles.sort_unstable();
    assert_eq!(cycles, [1, 2, 3, 4]);
    assert_eq!(lots(coupons[1]).await.len(), 2);
    assert_eq!(first.distribute_due(&timer, late).await.unwrap().coupons, 0);
    let credited = events_of(db, "coupon.distributed").await;
    let of_young = credited.iter().filter(|event| event.payload["coupon_id"] == coupons[0].to_string().as_str());
    assert_eq!(of_young.count(), 4, "one event per lot");
    second.store().close().await;
}

/// Has a child without a code applied for and approved into `set`.
async fn approve(
    workflow: &todoke_workflow::Workflow,
    city: &City,
    parent: &Actor,
    child_id: todoke_domain::ids::ChildId,
    set: &CouponSet,
) -> ApplicationView {
    let document = todoke_workflow::application::NewDocument { kind: "child_identity", content: b"%PDF-1.4\n%%EOF\n" };
    let document = workflow.upload_document(parent, &document, NOW).await.unwrap();
    let submission =
        Submission::Online { child_id, child_qr: None, documents: vec![document], relation: "母".to_owned() };
    let operator = city.operator();
    let id = workflow.submit_application(parent, &submission, NOW).await.unwrap().application_id;
    let waiting = workflow.complete_documents(&operator, id, NOW).await.unwrap();
    assert_eq!(waiting.state, "matching", "nobody in the register fits");
    let no = format!("M{}", &child_id.to_string()[30..]);
    let row = format!(
        "{no},ヤマダ ハナ,山田 花,male,{},H{no},birth,2026-04-01,530-0001,大阪市北区1-1",
        waiting.child_birth_date
    );
    crate::register::move_people(workflow, city, &[row], NOW).await;
    workflow.link_by_hand(&operator, id, &no, "書類で確認", NOW).await.unwrap();
    workflow.decide_application(&operator, id, &Verdict::Approve(Some(set.coupon_set_id)), NOW).await.unwrap()
}

async fn a_household_sees_its_own_uses_only(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let other = family(db, &town(), 10, "271004", date(2026, 3, 10)).await;
    for (key, amount) in [("a", 100), ("b", 200)] {
        workflow.use_coupon(&city.parent(), &payment(&city, key, amount), NOW).await.unwrap();
    }
    let own = workflow.uses(&city.parent(), None, NOW, after(60), None, 10).await.unwrap();
    let amounts: Vec<i64> = own.iter().map(|item| item.amount_yen.get()).collect();
    assert_eq!(amounts.len(), 2);
    assert!(amounts.contains(&100) && amounts.contains(&200));
    assert!(own.iter().all(|item| item.facility_name == city.facility.name && item.child_id == city.child.child_id));
    assert!(workflow.uses(&city.parent(), None, after(60), after(120), None, 10).await.unwrap().is_empty());
    let stranger = Actor::of(&other.parent, None);
    assert!(workflow.uses(&stranger, None, NOW, after(60), None, 10).await.unwrap().is_empty());
    let theirs = workflow.uses(&stranger, Some(city.child.child_id), NOW, after(60), None, 10).await;
    assert!(matches!(theirs, Err(WorkflowError::NotFound(_))), "{theirs:?}");
}
