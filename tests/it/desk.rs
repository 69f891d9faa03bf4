//! The offices' desk: what the city asks of the operator, who looked at what, and two windows on one form.

use std::time::Duration;

use jiff::{ToSpan, civil::Date};
use todoke_domain::{Event, Role, Timestamp, Yen, channel::Channel};
use todoke_store::{Wall, account::Account};
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor, WorkflowError,
    account::{OfficeChange, ProfileChange, account_revision, profile_revision},
    audit::Access,
    coupon::{Adjustment, Payer, Place, Purpose, UseAnswer, UseRequest},
    municipality::RequestDraft,
    survey::SurveyDraft,
};

use crate::{
    city::{City, NOW, PROGRAMME, account, after, neighbour, town},
    coupon_use::workflow,
    register::{events_of, inbox},
};

todoke_tests::on_both_databases! {
    a_request_of_the_city_is_carried_out_and_settled_in_one_step,
    a_request_is_settled_once_whoever_is_faster,
    a_request_is_declined_with_words_or_taken_back,
    every_intervention_and_every_view_leaves_an_audit_event,
    the_second_of_two_windows_gets_a_conflict,
    a_parameter_holds_from_its_day_on,
}

async fn official(db: &TestStore) -> Account {
    let row = account(&town(), Role::MunicipalAdmin, "official@example.jp");
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&row, NOW).await.unwrap();
    tx.commit().await.unwrap();
    row
}

fn revoke(city: &City) -> RequestDraft {
    RequestDraft {
        kind: "revoke_decision".to_owned(),
        application_id: Some(city.application.application_id.to_string()),
        reason_code: "city_request".to_owned(),
        ..RequestDraft::default()
    }
}

fn suspend(city: &City, kind: &str) -> RequestDraft {
    RequestDraft {
        kind: kind.to_owned(),
        guardian_id: Some(city.guardian.guardian_id.to_string()),
        reason_code: "misuse".to_owned(),
        ..RequestDraft::default()
    }
}

/// Types of what was published on a channel.
async fn published(db: &TestStore, channel: Channel) -> Vec<String> {
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let page = tx.publications_since(&channel.to_string(), 0, 1_000).await.unwrap();
    let kind =
        |data: &str| serde_json::from_str::<serde_json::Value>(data).unwrap()["type"].as_str().unwrap().to_owned();
    page.publications.iter().map(|publication| kind(&publication.data)).collect()
}

async fn a_request_of_the_city_is_carried_out_and_settled_in_one_step(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let official = Actor::of(&official(db).await, None);
    let by_operator = workflow.ask_operator(&city.operator(), &revoke(&city), NOW).await;
    assert!(matches!(by_operator, Err(WorkflowError::Denied)), "the operator asks nobody: {by_operator:?}");

    let asked = workflow.ask_operator(&official, &revoke(&city), after(1)).await.unwrap();
    assert_eq!((asked.state.as_str(), asked.subject_no.as_str()), ("open", city.application.application_no.as_str()));
    assert!(published(db, Channel::OperatorQueue(town())).await.contains(&"city_request.opened".to_owned()));
    let twice = workflow.ask_operator(&official, &revoke(&city), after(2)).await;
    assert!(matches!(twice, Err(WorkflowError::Conflict(_))), "{twice:?}");
    let by_city = workflow.execute_request(&official, asked.request_id, after(3)).await;
    assert!(matches!(by_city, Err(WorkflowError::Denied)), "{by_city:?}");

    let done = workflow.execute_request(&city.operator(), asked.request_id, after(4)).await.unwrap();
    assert_eq!(done.state, "executed");
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let coupon = tx.coupon(city.coupon.coupon_id).await.unwrap().unwrap();
    drop(tx);
    assert_eq!((coupon.balance_yen, coupon.state.as_str()), (Yen::ZERO, "revoked"));
    assert_eq!(inbox(db, &city.parent, "application.coupon.revoked").await.len(), 1);
    assert!(published(db, Channel::CityBoard(town())).await.contains(&"city_request.executed".to_owned()));
    assert_eq!(workflow.city_requests(&official).await.unwrap()[0].state, "executed");

    let wanted = workflow.ask_operator(&official, &suspend(&city, "suspend"), after(5)).await.unwrap();
    workflow.execute_request(&city.operator(), wanted.request_id, after(6)).await.unwrap();
    let nothing_to_do = workflow.ask_operator(&official, &suspend(&city, "suspend"), after(7)).await;
    assert!(matches!(nothing_to_do, Err(WorkflowError::Conflict(_))), "{nothing_to_do:?}");
    let resume = workflow.ask_operator(&official, &suspend(&city, "resume"), after(8)).await.unwrap();
    workflow.execute_request(&city.operator(), resume.request_id, after(9)).await.unwrap();
    assert_eq!(inbox(db, &city.parent, "coupon.resumed").await.len(), 1);

    let other = City::found(db, &neighbour(), 1_000).await;
    let foreign = workflow.execute_request(&other.operator(), asked.request_id, after(10)).await;
    assert!(matches!(foreign, Err(WorkflowError::NotFound(_))), "{foreign:?}");
}

async fn a_request_is_settled_once_whoever_is_faster(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (first, second) = (workflow(db.store()), workflow(db.open_again().await));
    let official = Actor::of(&official(db).await, None);
    let asked = first.ask_operator(&official, &suspend(&city, "suspend"), NOW).await.unwrap();
    let operator = city.operator();
    let (one, two) = tokio::join!(
        first.execute_request(&operator, asked.request_id, after(1)),
        second.execute_request(&operator, asked.request_id, after(1))
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
    assert_eq!(inbox(db, &city.parent, "coupon.suspended").await.len(), 1);
    second.store().close().await;
}

async fn a_request_is_declined_with_words_or_taken_back(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let official = Actor::of(&official(db).await, None);
    let asked = workflow.ask_operator(&official, &suspend(&city, "suspend"), NOW).await.unwrap();
    let silent = workflow.decline_request(&city.operator(), asked.request_id, "", after(1)).await;
    assert!(matches!(silent, Err(WorkflowError::Invalid(_))), "{silent:?}");
    workflow.decline_request(&city.operator(), asked.request_id, "番号をご確認ください", after(1)).await.unwrap();
    let seen = workflow.city_requests(&official).await.unwrap().remove(0);
    assert_eq!((seen.state.as_str(), seen.note.as_deref()), ("declined", Some("番号をご確認ください")));
    let again = workflow.ask_operator(&official, &suspend(&city, "suspend"), after(2)).await.unwrap();
    workflow.withdraw_request(&official, again.request_id, after(3)).await.unwrap();
    let late = workflow.execute_request(&city.operator(), again.request_id, after(4)).await;
    assert!(matches!(late, Err(WorkflowError::Conflict(_))), "{late:?}");
    assert!(inbox(db, &city.parent, "coupon.suspended").await.is_empty());
}

/// What, on what, how many rows: of each audit event, in order.
async fn audited(db: &TestStore) -> Vec<(String, String, i64)> {
    let text = |event: &Event, field: &str| event.payload[field].as_str().unwrap().to_owned();
    let events = events_of(db, "access.audited").await;
    events
        .iter()
        .map(|event| (text(event, "what"), text(event, "object_kind"), event.payload["rows"].as_i64().unwrap()))
        .collect()
}

async fn every_intervention_and_every_view_leaves_an_audit_event(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let official = Actor::of(&official(db).await, None);
    let operator = city.operator();
    let request = UseRequest {
        idempotency_key: "a".to_owned(),
        body_hash: "a".to_owned(),
        payer: Payer::Coupon(city.coupon.coupon_id),
        place: Place::Facility(city.facility.facility_id),
        programme_code: PROGRAMME.to_owned(),
        amount: Yen::new(100),
        purpose: Purpose::Service,
        fee_total: None,
        application_id: None,
        confirm_repeat: true,
    };
    let UseAnswer::Settled(paid) = workflow.use_coupon(&city.parent(), &request, NOW).await.unwrap() else {
        panic!("a new key is settled")
    };
    workflow.note_access(&operator, Access::View, "guardian", 3, after(1)).await.unwrap();
    workflow.note_access(&operator, Access::View, "guardian", 0, after(1)).await.unwrap();
    workflow.note_access(&city.parent(), Access::View, "coupon_use", 1, after(1)).await.unwrap();
    workflow.reverse_use(&operator, paid.use_id, "input_error", None, after(2)).await.unwrap();
    let adjustment = Adjustment { delta: Yen::new(-50), reason_code: "input_error".to_owned(), reason_text: None };
    workflow.adjust_coupon(&operator, city.coupon.coupon_id, &adjustment, after(3)).await.unwrap();
    let guardian = city.guardian.guardian_id;
    workflow.set_suspended(&operator, guardian, true, "misuse", None, after(4)).await.unwrap();
    workflow.set_suspended(&operator, guardian, false, "misuse", None, after(5)).await.unwrap();
    let id = city.application.application_id;
    workflow.revoke_decision(&operator, id, "", "city_request", None, after(6)).await.unwrap();
    workflow.set_parameter(&official, "resolicit_max_count", "3", None, None, after(7)).await.unwrap();
    let expected = [
        ("view", "guardian", 3),
        ("reverse", "coupon_use", 1),
        ("adjust", "coupon", 1),
        ("suspend", "guardian", 1),
        ("resume", "guardian", 1),
        ("revoke", "application", 1),
        ("parameter_set", "parameter", 1),
    ];
    let seen = audited(db).await;
    let seen: Vec<(&str, &str, i64)> =
        seen.iter().map(|(what, kind, rows)| (what.as_str(), kind.as_str(), *rows)).collect();
    assert_eq!(seen, expected, "nothing of households, nothing of no rows");
    let events = events_of(db, "access.audited").await;
    assert!(events[..6].iter().all(|event| event.actor_key == city.operator.person_key), "each names who acted");
    let told = serde_json::to_string(&events).unwrap();
    assert!(!told.contains(&guardian.to_string()) && !told.contains(&city.guardian.name), "and nobody by name");
}

fn stale<T: std::fmt::Debug>(outcome: Result<T, WorkflowError>) {
    assert!(matches!(outcome, Err(WorkflowError::Stale)), "{outcome:?}");
}

async fn the_second_of_two_windows_gets_a_conflict(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let official = Actor::of(&official(db).await, None);
    let parent = city.parent();

    let (shown, household) = workflow.profile(&parent).await.unwrap();
    let version = profile_revision(&shown, household.as_ref()).unwrap().to_string();
    let moved = |address: &str, expected: Option<&str>| ProfileChange {
        address: Some(address.to_owned()),
        expected: expected.map(str::to_owned),
        ..ProfileChange::default()
    };
    workflow.change_profile(&parent, &moved("北区1", Some(&version)), after(1)).await.unwrap();
    stale(workflow.change_profile(&parent, &moved("北区2", Some(&version)), after(2)).await);
    assert_eq!(workflow.profile(&parent).await.unwrap().1.unwrap().address, "北区1", "the second changed nothing");
    workflow.change_profile(&parent, &moved("北区3", None), after(3)).await.unwrap();

    let contact = async || {
        let all = workflow.parameters(&official, NOW).await.unwrap();
        all.into_iter().find(|parameter| parameter.name == "contact").unwrap()
    };
    let version = contact().await.version.to_string();
    let set = async |value: &str, now: Timestamp| {
        workflow.set_parameter(&official, "contact", value, None, Some(&version), now).await
    };
    set("窓口1", NOW).await.unwrap();
    stale(set("窓口2", NOW).await);
    assert_eq!(contact().await.value, "窓口1");

    let draft = |title: &str| SurveyDraft {
        title: title.to_owned(),
        text: String::new(),
        anonymous: false,
        opens_at: after(100),
        closes_at: after(200),
        minutes_needed: 1,
        questions: vec![todoke_domain::survey::Question {
            question_no: 1,
            kind: todoke_domain::survey::QuestionKind::Text,
            text: "ご意見".to_owned(),
            options: Vec::new(),
            required: false,
            min: None,
            max: None,
            kpi: None,
        }],
    };
    let operator = city.operator();
    let survey = workflow.create_survey(&operator, draft("案"), NOW).await.unwrap();
    let version = survey.version.unwrap().to_string();
    let update = async |title: &str| {
        workflow.update_survey(&operator, survey.survey_id, draft(title), Some(&version), after(1)).await
    };
    update("一つ目").await.unwrap();
    stale(update("二つ目").await);
    assert_eq!(workflow.survey(&operator, survey.survey_id).await.unwrap().title, "一つ目");

    let version = account_revision(&city.staff).unwrap().to_string();
    let rename = async |name: &str| {
        let change =
            OfficeChange { name: Some(name.to_owned()), expected: Some(version.clone()), ..OfficeChange::default() };
        workflow.change_account(&official, city.staff.account_id, &change, after(1)).await
    };
    rename("一つ目").await.unwrap();
    stale(rename("二つ目").await);
    race(&workflow, &official, db).await;
}

/// Two windows that save in the same instant: one of them wins.
async fn race(workflow: &todoke_workflow::Workflow, official: &Actor, db: &TestStore) {
    let second = crate::coupon_use::workflow(db.open_again().await);
    let all = workflow.parameters(official, NOW).await.unwrap();
    let version = all.iter().find(|p| p.name == "resolicit_max_count").unwrap().version.to_string();
    let (one, two) = tokio::join!(
        workflow.set_parameter(official, "resolicit_max_count", "4", None, Some(&version), NOW),
        second.set_parameter(official, "resolicit_max_count", "5", None, Some(&version), NOW)
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
    second.store().close().await;
}

async fn a_parameter_holds_from_its_day_on(db: &TestStore) {
    let (city, other) = (City::found(db, &town(), 1_000).await, City::found(db, &neighbour(), 1_000).await);
    let workflow = workflow(db.store());
    let official = Actor::of(&official(db).await, None);
    let day = |n: i64| NOW.jst_date() + n.days();
    let set = async |name: &str, value: &str, from: Option<Date>| {
        workflow.set_parameter(&official, name, value, from, None, NOW).await
    };
    set("contact", "窓口1", None).await.unwrap();
    set("contact", "窓口2", Some(day(2))).await.unwrap();
    let refused = async |name: &str, value: &str, from: Option<Date>| match set(name, value, from).await {
        Err(WorkflowError::Invalid(errors)) => errors[0].field.clone(),
        other => panic!("{name} {value}: {other:?}"),
    };
    assert_eq!(refused("contact", "窓口3", Some(day(-1))).await, "effective_from", "what has been stays as it was");
    assert_eq!(refused("resolicit_max_count", "13", None).await, "value");
    assert_eq!(refused("contact", "外字\u{e000}", None).await, "value");
    let all = workflow.parameters(&official, NOW).await.unwrap();
    let shown = all.iter().find(|parameter| parameter.name == "contact").unwrap();
    let next = shown.next.as_ref().map(|next| (next.value.as_str(), next.effective_from.clone()));
    assert_eq!((shown.value.as_str(), next), ("窓口1", Some(("窓口2", day(2).to_string()))));

    // What a use case says depends on the day it runs.
    let change = Timestamp::jst_midnight(day(2));
    let suspend = async |city: &City, suspended: bool, now: Timestamp| {
        let guardian = city.guardian.guardian_id;
        workflow.set_suspended(&city.operator(), guardian, suspended, "other", Some("確認のため"), now).await
    };
    let told = async |city: &City| inbox(db, &city.parent, "coupon.suspended").await[0].body.clone();
    suspend(&city, true, change.minus(Duration::from_micros(1))).await.unwrap();
    assert!(told(&city).await.contains("窓口1"), "{}", told(&city).await);
    suspend(&city, false, change).await.unwrap();
    suspend(&city, true, change).await.unwrap();
    assert!(told(&city).await.contains("窓口2"), "{}", told(&city).await);
    suspend(&other, true, change).await.unwrap();
    assert!(!told(&other).await.contains("窓口"), "a neighbour's parameters are its own: {}", told(&other).await);
}
