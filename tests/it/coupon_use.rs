//! Coupon uses against the record (N-COR-01): whatever comes at once, how often, from how many devices and
//! nodes, no yen is spent twice, and every booking has its ledger line, its event and its message.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use jiff::civil::date;
use todoke_domain::{
    Event, Timestamp, Yen,
    ids::{FacilityId, UseId},
    reason::UseRefusal,
};
use todoke_store::{DbKind, Store, Wall, coupon_use::UsesOf, facility::Facility};
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor, NobodyListens, Workflow, WorkflowError,
    coupon::{Payer, Place, Purpose, UseAnswer, UseRequest, UseView},
};

use crate::city::{City, NOW, PROGRAMME, after, town};

todoke_tests::on_both_databases! {
    a_thousand_attempts_at_one_balance_settle_exactly_what_fits,
    a_thousand_attempts_with_repeated_keys_book_each_key_once,
    a_repeated_key_gets_the_first_answer_and_another_body_is_refused,
    a_use_is_reversed_once_however_often_it_is_asked,
    uses_and_reversals_at_once_keep_the_ledger_true,
    a_repeat_within_a_minute_needs_a_confirmation,
    each_guard_refuses_with_its_reason_and_books_nothing,
}

/// Who acts in these tests.
impl City {
    /// The guardian, acting.
    pub(crate) fn parent(&self) -> Actor {
        Actor::of(&self.parent, None)
    }

    /// A member of the facility's staff, acting.
    pub(crate) fn staff(&self) -> Actor {
        Actor::of(&self.staff, None)
    }

    /// The operator, acting.
    pub(crate) fn operator(&self) -> Actor {
        Actor::of(&self.operator, None)
    }
}

pub(crate) fn workflow(store: Store) -> Workflow {
    Workflow::new(store, Arc::new(NobodyListens), "http://todoke.test")
}

pub(crate) fn request(city: &City, key: &str, amount: i64) -> UseRequest {
    UseRequest {
        idempotency_key: key.to_owned(),
        body_hash: format!("{amount}"),
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

/// The same payment as the facility makes it, by reading the child's code.
fn by_facility(city: &City, key: &str, amount: i64) -> UseRequest {
    UseRequest { payer: Payer::ChildQr(city.child_qr.clone()), ..request(city, key, amount) }
}

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Settled(UseId),
    Refused(&'static str),
}

async fn attempt(workflow: &Workflow, actor: &Actor, request: &UseRequest) -> Outcome {
    match workflow.use_coupon(actor, request, NOW).await {
        Ok(UseAnswer::Settled(view)) => Outcome::Settled(view.use_id),
        Ok(UseAnswer::Repeated(text)) => Outcome::Settled(serde_json::from_str::<UseView>(&text).unwrap().use_id),
        Err(WorkflowError::UseRefused { reason, .. }) => Outcome::Refused(reason.as_str()),
        Err(other) => panic!("neither settled nor refused: {other:?}"),
    }
}

/// What a record says about the one coupon of a city, after checking that its parts agree.
struct Books {
    balance: i64,
    settled: BTreeSet<UseId>,
}

impl Books {
    /// The balance equals the sum of the lots and of the ledger; lines are numbered without gaps and never
    /// fall below zero; each settled use has one line, one event and one message to the parent.
    async fn audit(db: &TestStore, city: &City) -> Self {
        let mut tx = db.begin_read(Wall::Around(city.code.clone())).await.unwrap();
        let coupon = tx.coupon(city.coupon.coupon_id).await.unwrap().unwrap();
        let balance = coupon.balance_yen.get();
        let lots = tx.lots(coupon.coupon_id).await.unwrap();
        assert!(lots.iter().all(|lot| lot.rest_yen >= Yen::ZERO));
        assert_eq!(lots.iter().map(|lot| lot.rest_yen.get()).sum::<i64>(), balance, "lots and balance");
        let mut ledger = tx.ledger(coupon.coupon_id, 10_000).await.unwrap();
        ledger.reverse();
        let mut running = 0;
        for (line, seq) in ledger.iter().zip(1..) {
            running += line.delta_yen;
            assert_eq!((line.seq, line.balance_after_yen), (seq, running));
            assert!(running >= 0, "overspent at line {seq}");
        }
        assert_eq!((running, coupon.ledger_seq), (balance, i64::try_from(ledger.len()).unwrap()), "ledger and balance");
        let uses = tx.uses(UsesOf::Child(city.child.child_id), NOW, after(600), None, 10_000).await.unwrap();
        let lines_used = ledger.iter().filter(|line| line.kind == "used").count();
        assert_eq!(uses.len(), lines_used, "uses and their lines");
        let numbers: BTreeSet<&str> = uses.iter().map(|row| row.use_no.as_str()).collect();
        assert_eq!(numbers.len(), uses.len(), "a number was given twice");
        let inbox = tx.inbox(city.parent.account_id, false, None, 10_000).await.unwrap();
        let told: BTreeSet<String> = inbox
            .iter()
            .filter(|message| message.message_type == "coupon.used")
            .map(|message| message.subject_id.clone())
            .collect();
        let booked: BTreeSet<String> = uses.iter().map(|row| row.use_id.to_string()).collect();
        let told: BTreeSet<String> = told.intersection(&booked).cloned().collect();
        assert_eq!(told, booked, "uses and the messages about them");
        drop(tx);
        assert_eq!(used_events(db).await, booked, "uses and their events");
        let settled = uses.iter().filter(|row| row.state == "settled").map(|row| row.use_id).collect();
        Self { balance, settled }
    }
}

/// Ids of the uses that have an event, each exactly once.
async fn used_events(db: &TestStore) -> BTreeSet<String> {
    let mut events: Vec<Event> = Vec::new();
    let mut batch_no = 0;
    while let Some(batch) = db.assign_lake_batch(batch_no, 100_000).await.unwrap() {
        batch_no = batch.batch_no;
        events.extend(batch.events);
    }
    let mut ids = BTreeSet::new();
    for event in events.iter().filter(|event| event.event_type == "coupon.used") {
        let id = event.payload["use_id"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "two events for one use");
    }
    ids
}

fn counted(outcomes: &[Outcome]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        let name = match outcome {
            Outcome::Settled(_) => "settled",
            Outcome::Refused(reason) => reason,
        };
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

async fn a_thousand_attempts_at_one_balance_settle_exactly_what_fits(db: &TestStore) {
    let city = City::found(db, &town(), 10_000).await;
    let here = workflow(db.store());
    // The second node; SQLite has one node, so there it is a second handle on the first.
    let there = if db.kind() == DbKind::Postgres { workflow(db.open_again().await) } else { workflow(db.store()) };
    let (parent, staff) = (city.parent(), city.staff());
    let outcomes = join_all((0..1_000).map(|n| {
        let node = if n % 2 == 0 { &here } else { &there };
        let (city, parent, staff) = (&city, &parent, &staff);
        async move {
            let key = format!("key-{n}");
            if n % 3 == 0 {
                attempt(node, staff, &by_facility(city, &key, 300)).await
            } else {
                attempt(node, parent, &request(city, &key, 300)).await
            }
        }
    }))
    .await;
    assert_eq!(counted(&outcomes), BTreeMap::from([("insufficient_balance", 967), ("settled", 33)]));
    let books = Books::audit(db, &city).await;
    assert_eq!((books.balance, books.settled.len()), (100, 33));
    there.store().close().await;
}

async fn a_thousand_attempts_with_repeated_keys_book_each_key_once(db: &TestStore) {
    let city = City::found(db, &town(), 10_000).await;
    let workflow = workflow(db.store());
    let parent = city.parent();
    let outcomes = join_all((0..1_000).map(|n| {
        let (workflow, parent, city) = (&workflow, &parent, &city);
        async move {
            let key = n % 200;
            (key, attempt(workflow, parent, &request(city, &format!("key-{key}"), 100)).await)
        }
    }))
    .await;
    let mut by_key: BTreeMap<i32, BTreeSet<Outcome>> = BTreeMap::new();
    for (key, outcome) in outcomes {
        by_key.entry(key).or_default().insert(outcome);
    }
    assert!(by_key.values().all(|answers| answers.len() == 1), "one key, two answers: {by_key:?}");
    let answers: BTreeSet<&Outcome> = by_key.values().flatten().collect();
    let settled = answers.iter().filter(|answer| matches!(answer, Outcome::Settled(_))).count();
    let books = Books::audit(db, &city).await;
    assert_eq!((books.balance, books.settled.len(), settled), (0, 100, 100));
}

async fn a_repeated_key_gets_the_first_answer_and_another_body_is_refused(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let parent = city.parent();
    let first = attempt(&workflow, &parent, &request(&city, "k", 400)).await;
    assert_eq!(attempt(&workflow, &parent, &request(&city, "k", 400)).await, first);
    let other = workflow.use_coupon(&parent, &request(&city, "k", 500), NOW).await;
    assert!(matches!(other, Err(WorkflowError::Conflict(_))), "{other:?}");
    // A refusal is an answer too: it stays one although the balance would do now.
    assert_eq!(attempt(&workflow, &parent, &request(&city, "r", 700)).await, Outcome::Refused("insufficient_balance"));
    let Outcome::Settled(use_id) = first else { panic!("{first:?}") };
    workflow.reverse_use(&city.operator(), use_id, "other", Some("誤り"), NOW).await.unwrap();
    assert_eq!(attempt(&workflow, &parent, &request(&city, "r", 700)).await, Outcome::Refused("insufficient_balance"));
    // Another caller's key of the same text is another key.
    assert_ne!(attempt(&workflow, &city.staff(), &by_facility(&city, "k", 400)).await, first);
    assert_eq!(Books::audit(db, &city).await.balance, 600);
}

async fn a_use_is_reversed_once_however_often_it_is_asked(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let Outcome::Settled(use_id) = attempt(&workflow, &city.parent(), &request(&city, "k", 400)).await else {
        panic!("refused")
    };
    let operator = city.operator();
    let reversals =
        join_all((0..20).map(|_| workflow.reverse_use(&operator, use_id, "other", Some("誤り"), NOW))).await;
    assert_eq!(reversals.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = |outcome: &Result<UseView, WorkflowError>| matches!(outcome, Ok(_) | Err(WorkflowError::Conflict(_)));
    assert!(reversals.iter().all(refused), "{reversals:?}");
    let books = Books::audit(db, &city).await;
    assert_eq!((books.balance, books.settled.len()), (1_000, 0));
}

async fn uses_and_reversals_at_once_keep_the_ledger_true(db: &TestStore) {
    let city = City::found(db, &town(), 2_000).await;
    let workflow = workflow(db.store());
    let (parent, operator) = (city.parent(), city.operator());
    let reversed = join_all((0..60).map(|n| {
        let (workflow, city, parent, operator) = (&workflow, &city, &parent, &operator);
        async move {
            let outcome = attempt(workflow, parent, &request(city, &format!("k{n}"), 100)).await;
            match outcome {
                Outcome::Settled(id) if n % 2 == 0 => {
                    workflow.reverse_use(operator, id, "other", Some("誤り"), NOW).await.is_ok()
                }
                _ => false,
            }
        }
    }))
    .await;
    let books = Books::audit(db, &city).await;
    assert!(reversed.contains(&true));
    let spent = i64::try_from(books.settled.len()).unwrap() * 100;
    assert_eq!(books.balance, 2_000 - spent);
}

async fn a_repeat_within_a_minute_needs_a_confirmation(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let parent = city.parent();
    let unconfirmed = |key: &str, amount| UseRequest { confirm_repeat: false, ..request(&city, key, amount) };
    let pay = async |request: UseRequest, seconds| workflow.use_coupon(&parent, &request, after(seconds)).await;
    pay(unconfirmed("a", 100), 0).await.unwrap();
    let repeat = pay(unconfirmed("b", 100), 59).await;
    assert!(matches!(repeat, Err(WorkflowError::UseRefused { reason: UseRefusal::Duplicate, .. })), "{repeat:?}");
    pay(unconfirmed("c", 101), 59).await.unwrap();
    pay(request(&city, "d", 100), 59).await.unwrap();
    pay(unconfirmed("e", 100), 120).await.unwrap();
    // Confirmed, and a moment older than one that was booked before it.
    pay(request(&city, "f", 100), 119).await.unwrap();
    assert_eq!(Books::audit(db, &city).await.balance, 1_000 - 100 - 101 - 100 - 100 - 100);
}

async fn each_guard_refuses_with_its_reason_and_books_nothing(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let (parent, operator) = (city.parent(), city.operator());
    let refused = async |key: &str, change: fn(&mut UseRequest)| {
        let mut asked = request(&city, key, 100);
        change(&mut asked);
        attempt(&workflow, &parent, &asked).await
    };
    assert_eq!(refused("1", |asked| asked.amount = Yen::new(1_001)).await, Outcome::Refused("insufficient_balance"));
    assert_eq!(refused("2", |asked| asked.amount = Yen::ZERO).await, Outcome::Refused("amount_invalid"));
    assert_eq!(refused("3", |asked| asked.amount = Yen::new(-5)).await, Outcome::Refused("amount_invalid"));
    assert_eq!(
        refused("4", |asked| asked.programme_code = "other".to_owned()).await,
        Outcome::Refused("programme_not_eligible")
    );
    let by_words = refused("4w", |asked| asked.programme_code = "佐藤花子".to_owned()).await;
    assert_eq!(by_words, Outcome::Refused("programme_not_eligible"));
    let events = crate::register::events_of(db, "coupon.use_refused").await;
    let programmes: Vec<_> = events.iter().map(|event| event.programme_code.as_deref()).collect();
    let known = Some(PROGRAMME);
    assert_eq!(programmes, [known, known, known, None, None], "a programme that there is not may be any words");
    let elsewhere = Facility {
        facility_id: FacilityId::new(NOW),
        facility_no: "1000002".to_owned(),
        coupon_qr: "an unused code".to_owned(),
        ..city.facility.clone()
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_facility(&elsewhere, &[], NOW).await.unwrap();
    tx.commit().await.unwrap();
    let there = UseRequest { place: Place::Facility(elsewhere.facility_id), ..request(&city, "4a", 100) };
    assert_eq!(attempt(&workflow, &parent, &there).await, Outcome::Refused("facility_not_eligible"));
    // The day after the lot's last one, before the timer has written it off.
    let late = Timestamp::jst_midnight(date(2028, 5, 4));
    let lapsed = workflow.use_coupon(&parent, &request(&city, "4b", 100), late).await;
    assert!(matches!(lapsed, Err(WorkflowError::UseRefused { reason: UseRefusal::CouponExpired, .. })), "{lapsed:?}");
    let in_time = late.minus(Duration::from_micros(1));
    let too_much = workflow.use_coupon(&parent, &request(&city, "4c", 1_001), in_time).await;
    assert!(
        matches!(too_much, Err(WorkflowError::UseRefused { reason: UseRefusal::InsufficientBalance, .. })),
        "on its last day the money is there: {too_much:?}"
    );
    workflow.set_suspended(&operator, city.guardian.guardian_id, true, "other", Some("調査"), NOW).await.unwrap();
    assert_eq!(refused("5", |_| ()).await, Outcome::Refused("guardian_suspended"));
    let staff = city.staff();
    assert_eq!(attempt(&workflow, &staff, &by_facility(&city, "6", 100)).await, Outcome::Refused("guardian_suspended"));
    let books = Books::audit(db, &city).await;
    assert_eq!((books.balance, books.settled.len()), (1_000, 0));
}
