//! Signing in (N-SEC-01 to 04 and 24), against the record on both databases.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{ToSpan, civil::Date};
use todoke_domain::{
    Role, Timestamp,
    concurrent_use::ConcurrentUse,
    ids::{AccountId, ChallengeId, SessionId},
};
use todoke_store::{Wall, publication::Publication};
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor, Live, Workflow, WorkflowError,
    account::{Entrance, Opened, SignIn},
    error::SignInError,
};

use crate::{
    city::{City, NOW, account, after, neighbour, town},
    coupon_use::workflow,
    register::events_of,
};

const PASSWORD: &str = "Abcdefghi1";

todoke_tests::on_both_databases! {
    a_password_needs_ten_characters_of_three_classes,
    the_first_password_is_set_through_a_mailed_link_that_works_once_and_for_an_hour,
    a_code_is_single_use_and_ends_after_ten_minutes_or_five_wrong_tries,
    sign_in_is_possible_from_the_first_to_the_last_day_only,
    a_session_ends_with_the_accounts_last_day,
    the_day_after_the_last_one_ends_the_account_its_sessions_and_sockets,
    a_session_ends_when_idle_or_too_long,
    an_account_in_use_twice_at_once_is_told_to_who_manages_it,
    every_failed_sign_in_looks_the_same,
    a_reset_answers_the_same_for_an_unknown_address,
    ten_wrong_passwords_lock_and_a_reset_unlocks,
    a_guardian_does_not_get_through_the_staff_entrance,
}

/// The operator of [`City`] with a password, and the use cases.
async fn operator(db: &TestStore) -> (Workflow, City) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    // Earlier, so that the newest mail of a test is the one it caused.
    let earlier = NOW.minus(Duration::from_secs(60));
    set_password(&workflow, db, city.operator.email.as_deref().unwrap(), earlier).await;
    (workflow, city)
}

/// The newest mail to an address.
async fn mail(db: &TestStore, to: &str) -> String {
    let mails = db.begin_read(Wall::None).await.unwrap().mails(Some(to), 1).await.unwrap();
    mails.first().unwrap_or_else(|| panic!("no mail to {to}")).body.clone()
}

async fn n_mails(db: &TestStore) -> usize {
    db.begin_read(Wall::None).await.unwrap().mails(None, 1_000).await.unwrap().len()
}

async fn link_token(db: &TestStore, to: &str) -> String {
    let body = mail(db, to).await;
    let rest = body.split("token=").nth(1).unwrap_or_else(|| panic!("no link in: {body}"));
    rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).next().unwrap().to_owned()
}

async fn code(db: &TestStore, to: &str) -> String {
    let body = mail(db, to).await;
    let digits = body.split(|c: char| !c.is_ascii_digit()).find(|part| part.len() == 6);
    digits.unwrap_or_else(|| panic!("no code in: {body}")).to_owned()
}

async fn set_password(workflow: &Workflow, db: &TestStore, email: &str, now: Timestamp) {
    workflow.request_password_reset(email, now).await.unwrap();
    let token = link_token(db, email).await;
    workflow.set_password_by_link(&token, PASSWORD.to_owned(), now).await.unwrap();
}

fn email(city: &City) -> &str {
    city.operator.email.as_deref().unwrap()
}

async fn challenge(workflow: &Workflow, email: &str, now: Timestamp) -> ChallengeId {
    match workflow.sign_in(email, PASSWORD, Entrance::Office, None, now).await.unwrap() {
        SignIn::CodeSent { challenge_id, .. } => challenge_id,
        SignIn::Open(_) => panic!("opened without a code"),
    }
}

async fn open(workflow: &Workflow, db: &TestStore, email: &str, now: Timestamp) -> Opened {
    let challenge = challenge(workflow, email, now).await;
    workflow.enter_code(challenge, &code(db, email).await, false, now).await.unwrap()
}

/// Why a sign-in failed; any other outcome is a fault of the test.
fn failure<T: std::fmt::Debug>(outcome: Result<T, WorkflowError>) -> SignInError {
    match outcome {
        Err(WorkflowError::SignIn(error)) => error,
        other => panic!("not a failed sign-in: {other:?}"),
    }
}

fn other_than(code: &str) -> &'static str {
    if code == "000000" { "000001" } else { "000000" }
}

async fn a_password_needs_ten_characters_of_three_classes(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let actor = city.operator();
    for refused in ["Abcdefgh1", "abcdefghij", "Abcdefghij", "1234567890"] {
        let outcome = workflow.change_password(&actor, PASSWORD, refused.to_owned(), NOW).await;
        assert!(matches!(outcome, Err(WorkflowError::Invalid(_))), "{refused}: {outcome:?}");
    }
    workflow.change_password(&actor, PASSWORD, "Abcdefghi2".to_owned(), NOW).await.unwrap();
    let outcome = workflow.change_password(&actor, PASSWORD, "Abcdefghi3".to_owned(), NOW).await;
    assert!(matches!(outcome, Err(WorkflowError::Invalid(_))), "the old password was accepted: {outcome:?}");
}

async fn the_first_password_is_set_through_a_mailed_link_that_works_once_and_for_an_hour(db: &TestStore) {
    let workflow = workflow(db.store());
    let mut issued = account(&town(), Role::MunicipalStaff, "new@example.jp");
    issued.state = "issued".to_owned();
    City::found(db, &town(), 1_000).await;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&issued, NOW).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        failure(workflow.sign_in("new@example.jp", "", Entrance::Office, None, NOW).await),
        SignInError::Credentials
    );
    workflow.request_password_reset("new@example.jp", NOW).await.unwrap();
    let token = link_token(db, "new@example.jp").await;
    let late = workflow.set_password_by_link(&token, PASSWORD.to_owned(), after(3_600)).await;
    assert_eq!(failure(late), SignInError::Link);
    let weak = workflow.set_password_by_link(&token, "short".to_owned(), after(3_599)).await;
    assert!(matches!(weak, Err(WorkflowError::Invalid(_))), "{weak:?}");
    workflow.set_password_by_link(&token, PASSWORD.to_owned(), after(3_599)).await.unwrap();
    assert_eq!(
        failure(workflow.set_password_by_link(&token, PASSWORD.to_owned(), after(3_599)).await),
        SignInError::Link
    );
    open(&workflow, db, "new@example.jp", after(3_600)).await;
}

async fn a_code_is_single_use_and_ends_after_ten_minutes_or_five_wrong_tries(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let email = email(&city);
    let spent = async |challenge, code: &str, at| failure(workflow.enter_code(challenge, code, false, at).await);
    let first = challenge(&workflow, email, NOW).await;
    let right = code(db, email).await;
    workflow.enter_code(first, &right, false, NOW).await.unwrap();
    assert_eq!(spent(first, &right, NOW).await, SignInError::CodeSpent);
    let second = challenge(&workflow, email, after(1)).await;
    let right = code(db, email).await;
    for _ in 0..5 {
        assert_eq!(spent(second, other_than(&right), after(2)).await, SignInError::Code);
    }
    assert_eq!(spent(second, &right, after(2)).await, SignInError::CodeSpent, "the sixth try needs a new code");
    let third = challenge(&workflow, email, after(3)).await;
    let right = code(db, email).await;
    assert_eq!(spent(third, &right, after(3 + 600)).await, SignInError::CodeSpent, "a code lives ten minutes");
    let (old, old_code) = (challenge(&workflow, email, after(700)).await, code(db, email).await);
    challenge(&workflow, email, after(701)).await;
    assert_eq!(spent(old, &old_code, after(702)).await, SignInError::CodeSpent, "a new code ends the earlier one");
}

async fn change_validity(db: &TestStore, city: &City, from: Date, to: Date) {
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let mut row = tx.account(city.operator.account_id).await.unwrap().unwrap();
    (row.valid_from, row.valid_to) = (from, to);
    tx.update_account(&row).await.unwrap();
    tx.commit().await.unwrap();
}

async fn sign_in_is_possible_from_the_first_to_the_last_day_only(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let today = NOW.jst_date();
    let try_at = async |now| workflow.sign_in(email(&city), PASSWORD, Entrance::Office, None, now).await;
    change_validity(db, &city, today + 1.day(), today + 2.days()).await;
    assert_eq!(
        failure(try_at(NOW).await),
        SignInError::NotYet(today + 1.day()),
        "before the first day a person is told which it is"
    );
    let midnight = Timestamp::jst_midnight(today + 1.day());
    assert_eq!(failure(try_at(midnight.minus(Duration::from_micros(1))).await), SignInError::NotYet(today + 1.day()));
    assert!(try_at(midnight).await.is_ok());
    let end = Timestamp::jst_midnight(today + 3.days());
    assert!(try_at(end.minus(Duration::from_micros(1))).await.is_ok());
    assert_eq!(failure(try_at(end).await), SignInError::Credentials);
}

async fn a_session_ends_with_the_accounts_last_day(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let end = Timestamp::jst_midnight(NOW.jst_date() + 1.day());
    let opened = open(&workflow, db, email(&city), end.minus(Duration::from_secs(60))).await;
    change_validity(db, &city, NOW.jst_date(), NOW.jst_date()).await;
    workflow.session(&opened.session_token, end.minus(Duration::from_secs(1))).await.unwrap();
    assert_eq!(failure(workflow.session(&opened.session_token, end).await), SignInError::Session);
}

/// Hears whose sockets are to go.
#[derive(Debug, Default)]
struct Ears(Mutex<Vec<AccountId>>);

impl Live for Ears {
    fn committed(&self, _: Vec<Publication>) {}
    fn account_ended(&self, account: AccountId) {
        self.0.lock().unwrap().push(account);
    }
    fn session_ended(&self, _: SessionId) {}
}

async fn the_day_after_the_last_one_ends_the_account_its_sessions_and_sockets(db: &TestStore) {
    let (_, city) = operator(db).await;
    let ears = Arc::new(Ears::default());
    let workflow = Workflow::new(db.store(), ears.clone(), "http://todoke.test");
    let opened = open(&workflow, db, email(&city), NOW).await;
    change_validity(db, &city, NOW.jst_date(), NOW.jst_date()).await;
    let (timer, elsewhere) = (Actor::system(town(), "timer"), Actor::system(neighbour(), "timer"));
    let end = Timestamp::jst_midnight(NOW.jst_date() + 1.day());
    assert_eq!(workflow.end_accounts(&timer, end.minus(Duration::from_micros(1))).await.unwrap(), 0);
    assert_eq!(workflow.end_accounts(&elsewhere, end).await.unwrap(), 0, "not over the wall");
    assert!(ears.0.lock().unwrap().is_empty());
    assert_eq!(workflow.end_accounts(&timer, end).await.unwrap(), 1);
    assert_eq!(*ears.0.lock().unwrap(), [city.operator.account_id]);
    assert_eq!(failure(workflow.session(&opened.session_token, end).await), SignInError::Session);
    assert_eq!(workflow.end_accounts(&timer, end).await.unwrap(), 0, "once");
    let ended = events_of(db, "account.ended").await;
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].payload["reason"], "end_date");
}

async fn a_session_ends_when_idle_or_too_long(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let opened = open(&workflow, db, email(&city), NOW).await;
    let token = &opened.session_token;
    workflow.session(token, after(3_599)).await.unwrap();
    assert_eq!(failure(workflow.session(token, after(3_600)).await), SignInError::Session);
    let mut at = 0;
    while at + 1_800 < 12 * 3_600 {
        at += 1_800;
        workflow.session(token, after(at)).await.unwrap();
        workflow.touch_session(opened.session.session_id, after(at)).await.unwrap();
    }
    assert_eq!(failure(workflow.session(token, after(12 * 3_600)).await), SignInError::Session);
    let second = open(&workflow, db, email(&city), after(50_000)).await;
    workflow.sign_out(second.session.session_id, after(50_001)).await.unwrap();
    assert_eq!(failure(workflow.session(&second.session_token, after(50_001)).await), SignInError::Session);
}

async fn every_failed_sign_in_looks_the_same(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let wrong = async |email: &str, password: &str| {
        failure(workflow.sign_in(email, password, Entrance::Office, None, NOW).await)
    };
    assert_eq!(wrong(email(&city), "Wrongpass1").await, SignInError::Credentials);
    assert_eq!(wrong("nobody@example.jp", PASSWORD).await, SignInError::Credentials);
    assert_eq!(
        wrong(city.staff.email.as_deref().unwrap(), "").await,
        SignInError::Credentials,
        "an account without a password"
    );
    assert_eq!(wrong("", "").await, SignInError::Credentials);
}

async fn a_reset_answers_the_same_for_an_unknown_address(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let before = n_mails(db).await;
    workflow.request_password_reset("nobody@example.jp", NOW).await.unwrap();
    assert_eq!(n_mails(db).await, before);
    workflow.request_password_reset(email(&city), NOW).await.unwrap();
    assert_eq!(n_mails(db).await, before + 1);
}

async fn ten_wrong_passwords_lock_and_a_reset_unlocks(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let email = email(&city);
    for n in 0..9 {
        assert_eq!(
            failure(workflow.sign_in(email, "Wrongpass1", Entrance::Office, None, after(n)).await),
            SignInError::Credentials
        );
    }
    assert!(workflow.sign_in(email, PASSWORD, Entrance::Office, None, after(10)).await.is_ok(), "nine are forgiven");
    for n in 20..30 {
        assert_eq!(
            failure(workflow.sign_in(email, "Wrongpass1", Entrance::Office, None, after(n)).await),
            SignInError::Credentials
        );
    }
    let locked = workflow.sign_in(email, PASSWORD, Entrance::Office, None, after(31)).await;
    assert_eq!(
        failure(locked),
        SignInError::Credentials,
        "the right password does not open a locked account, nor tell that it is right"
    );
    set_password(&workflow, db, email, after(40)).await;
    open(&workflow, db, email, after(50)).await;
}

async fn a_guardian_does_not_get_through_the_staff_entrance(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let parent = city.parent.email.as_deref().unwrap();
    set_password(&workflow, db, parent, NOW.minus(Duration::from_secs(60))).await;
    assert_eq!(
        failure(workflow.sign_in(parent, PASSWORD, Entrance::Office, None, NOW).await),
        SignInError::Credentials
    );
    let opened = workflow.sign_in(parent, PASSWORD, Entrance::Household, None, NOW).await;
    assert!(matches!(opened, Ok(SignIn::CodeSent { .. })), "{opened:?}");
    let actor = Actor::of(&city.parent, None);
    assert!(actor.household().is_ok());
}

async fn an_account_in_use_twice_at_once_is_told_to_who_manages_it(db: &TestStore) {
    let (workflow, city) = operator(db).await;
    let official = Actor::of(&account(&town(), Role::MunicipalAdmin, "official@example.jp"), None);
    let told = async |now| {
        let shared = workflow.shared_accounts(&official, now).await.unwrap();
        shared.iter().map(|one| (one.account.account_id, one.concurrent)).collect::<Vec<_>>()
    };
    let first = open(&workflow, db, email(&city), NOW).await;
    open(&workflow, db, email(&city), after(60)).await;
    assert!(told(after(61)).await.is_empty(), "who signs in again has left the first session");
    workflow.touch_session(first.session.session_id, after(120)).await.unwrap();
    workflow.sign_out(first.session.session_id, after(130)).await.unwrap();
    let concurrent = ConcurrentUse { sessions: 2, at_once_max: 2, last_at: after(60) };
    assert_eq!(told(after(131)).await, [(city.operator.account_id, concurrent)]);
    assert!(told(after(31 * 86_400)).await.is_empty(), "after a month it is forgotten");
    let refused = workflow.shared_accounts(&city.operator(), after(131)).await;
    assert!(matches!(refused, Err(WorkflowError::Denied)), "{refused:?}");
    let stranger = Actor { municipality_code: neighbour(), ..official.clone() };
    assert!(workflow.shared_accounts(&stranger, after(131)).await.unwrap().is_empty());
    let mut tx = db.begin_read(Wall::Around(neighbour())).await.unwrap();
    assert!(tx.overlapping_sessions(&town(), NOW).await.unwrap().is_empty(), "not over the wall");
}
