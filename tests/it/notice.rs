//! Notices: each reader is told once, from the first day on, until it is taken back.

use std::time::Duration;

use jiff::civil::Date;
use todoke_domain::{Role, Timestamp, time::add_days};
use todoke_store::message::MessageStep;
use todoke_tests::stores::TestStore;
use todoke_workflow::{Actor, WorkflowError, notice::NoticeDraft};

use crate::{
    city::{City, NOW, neighbour, town},
    coupon_use::workflow,
    register::{events_of, family, inbox},
};

todoke_tests::on_both_databases! {
    its_audience_is_told_once,
    it_stands_from_its_first_to_its_last_day,
    what_is_taken_back_is_told_nobody_else,
}

fn draft(audience: &str, valid_from: Option<Date>, days: i32) -> NoticeDraft {
    NoticeDraft {
        title: "年末年始の窓口".to_owned(),
        body: "12月29日から休みます。".to_owned(),
        audience: audience.to_owned(),
        valid_from,
        valid_to: add_days(valid_from.unwrap_or_else(|| NOW.jst_date()), days),
        push: true,
    }
}

fn day(n: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(n * 86_400))
}

async fn its_audience_is_told_once(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let other = City::found(db, &neighbour(), 1_000).await;
    let mut families = Vec::new();
    for no in 0..450 {
        families.push(family(db, &town(), no + 10, "27127", NOW.jst_date()).await);
    }
    let (first, second) = (workflow(db.store()), workflow(db.open_again().await));
    let operator = city.operator();
    let timer = Actor::system(town(), "timer");
    let notice = first.publish_notice(&operator, draft("guardians", None, 10), NOW).await.unwrap();
    let (one, two) = tokio::join!(first.due_notices(&timer, NOW), second.due_notices(&timer, NOW));
    assert_eq!(one.unwrap() + two.unwrap(), 451);
    assert_eq!(first.due_notices(&timer, day(1)).await.unwrap(), 0);
    let published = events_of(db, "notice.published").await;
    assert_eq!(published.len(), 1);
    for reader in families.iter().map(|family| &family.parent).chain([&city.parent]).step_by(50) {
        let told = inbox(db, reader, "notice.published").await;
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].title.as_str(), told[0].cause_event_id), ("年末年始の窓口", published[0].event_id));
    }
    assert!(inbox(db, &city.staff, "notice.published").await.is_empty());
    assert!(inbox(db, &other.parent, "notice.published").await.is_empty());
    assert_eq!(first.notices(&city.parent(), NOW).await.unwrap()[0].notice_id, notice.notice_id);
    assert!(first.notices(&city.staff(), NOW).await.unwrap().is_empty());
    assert!(first.notices(&other.parent(), NOW).await.unwrap().is_empty());
    assert!(matches!(
        first.publish_notice(&city.parent(), draft("all", None, 1), NOW).await,
        Err(WorkflowError::Denied)
    ));
    first.publish_notice(&operator, draft("all", None, 10), NOW).await.unwrap();
    assert_eq!(first.due_notices(&timer, NOW).await.unwrap(), 453, "the facility and the operator too");
    let own = inbox(db, &city.staff, "notice.published").await.remove(0);
    let seen = first.note_cause_step(&city.staff(), own.cause_event_id, MessageStep::Read, NOW).await.unwrap();
    assert_eq!(seen.unread, 0);
    assert!(inbox(db, &city.staff, "notice.published").await[0].read_at.is_some());
    let others = inbox(db, &city.operator, "notice.published").await;
    assert!(others[0].read_at.is_none(), "each reads the own one");
    second.store().close().await;
}

async fn it_stands_from_its_first_to_its_last_day(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let timer = Actor::system(town(), "timer");
    let tomorrow = add_days(NOW.jst_date(), 1);
    workflow.publish_notice(&city.operator(), draft("all", Some(tomorrow), 1), NOW).await.unwrap();
    let stands = async |n: u64| workflow.notices(&city.parent(), day(n)).await.unwrap().len();
    assert_eq!((stands(0).await, stands(1).await, stands(2).await, stands(3).await), (0, 1, 1, 0));
    assert_eq!(workflow.due_notices(&timer, NOW).await.unwrap(), 0);
    assert_eq!(workflow.due_notices(&timer, day(1)).await.unwrap(), 3, "parent, staff and operator");
    assert_eq!(inbox(db, &city.staff, "notice.published").await.len(), 1);
    assert_eq!(workflow.notices(&city.operator(), day(9)).await.unwrap().len(), 1, "who publishes sees all of them");
    let late = workflow.publish_notice(&city.operator(), draft("nobody", Some(add_days(tomorrow, -9)), 1), NOW).await;
    let Err(WorkflowError::Invalid(errors)) = late else { panic!("such a notice is refused") };
    assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), ["audience", "valid_to"]);
}

async fn what_is_taken_back_is_told_nobody_else(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let other = City::found(db, &neighbour(), 1_000).await;
    let workflow = workflow(db.store());
    let operator = city.operator();
    let notice = workflow.publish_notice(&operator, draft("all", None, 5), NOW).await.unwrap();
    let stranger = Actor { role: Some(Role::Operator), ..other.operator() };
    assert!(matches!(
        workflow.withdraw_notice(&stranger, notice.notice_id, NOW).await,
        Err(WorkflowError::NotFound(_))
    ));
    workflow.withdraw_notice(&operator, notice.notice_id, NOW).await.unwrap();
    assert!(matches!(
        workflow.withdraw_notice(&operator, notice.notice_id, NOW).await,
        Err(WorkflowError::Conflict(_))
    ));
    assert_eq!(workflow.due_notices(&Actor::system(town(), "timer"), NOW).await.unwrap(), 0);
    assert!(workflow.notices(&city.parent(), NOW).await.unwrap().is_empty());
    assert_eq!(events_of(db, "notice.withdrawn").await.len(), 1);
}
