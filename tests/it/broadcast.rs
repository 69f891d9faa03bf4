//! Segments and the release of broadcasts: each condition selects, and many are told only with four eyes.

use std::{collections::BTreeSet, time::Duration};

use jiff::civil::date;
use serde_json::json;
use todoke_domain::{
    Role, Timestamp,
    application::ApplicationState,
    broadcast::{BroadcastKind, BroadcastState},
    delivery::{DevicePermission, Provider},
    ids::{AccountId, ApplicationId, ChildId},
    segment::{Condition, People, Segment},
    topic::Topic,
};
use todoke_store::{
    Store, Wall,
    account::{Account, Preference},
    application::Application,
    child::Child,
    device::Device,
    segment::Who,
};
use todoke_tests::{crowd::crowd, stores::TestStore};
use todoke_workflow::{
    Actor, Workflow, WorkflowError,
    broadcast::{BroadcastDraft, BroadcastView, Sender},
    coupon::UseAnswer,
    segment::SegmentDraft,
    survey::{Conditions, SurveyDraft},
};

use crate::{
    city::{City, NOW, PROGRAMME, account, after, neighbour, town},
    coupon_use::{request, workflow},
    delivery_scene::device_of,
    register::{Family, events_of, family, link, move_people, movement},
};

todoke_tests::on_both_databases! {
    each_condition_selects,
    a_child_counts_until_the_day_it_leaves_and_not_once_it_has_died,
    the_newest_application_for_a_child_is_the_one_that_counts,
    what_offices_do_to_broadcasts_and_segments_stays_in_the_log,
    groups_are_what_logic_says,
    a_saved_segment_serves_broadcasts_and_surveys,
    a_preview_counts_and_names_nobody,
    everybody_is_told_only_with_four_eyes,
    a_grown_audience_is_held_back,
    what_cannot_be_sent_is_refused,
}

pub(crate) const NORTH: &str = "27127";
pub(crate) const SOUTH: &str = "27128";

/// A city with its parent in the north, families, two who may send, and a sender.
pub(crate) struct Scene {
    pub(crate) city: City,
    pub(crate) workflow: Workflow,
    pub(crate) sender: Sender,
    pub(crate) staff: Account,
    pub(crate) timer: Actor,
}

impl Scene {
    pub(crate) async fn of(store: &Store) -> Self {
        let city = City::found(store, &town(), 1_000).await;
        let staff = account(&town(), Role::MunicipalStaff, "city@27100.example.jp");
        let mut tx = store.begin_write(Wall::None).await.unwrap();
        tx.insert_account(&staff, NOW).await.unwrap();
        tx.commit().await.unwrap();
        let workflow = workflow(store.clone());
        Self { city, sender: Sender::new(workflow.clone()), workflow, staff, timer: Actor::system(town(), "timer") }
    }

    pub(crate) fn author(&self) -> Actor {
        self.city.operator()
    }

    pub(crate) fn second(&self) -> Actor {
        Actor::of(&self.staff, None)
    }

    /// A draft, submitted and, where it needs that, approved.
    pub(crate) async fn released(&self, draft: BroadcastDraft, now: Timestamp) -> BroadcastView {
        let made = self.workflow.create_broadcast(&self.author(), draft, now).await.unwrap();
        let submitted = self.workflow.submit_broadcast(&self.author(), made.broadcast_id, now).await.unwrap();
        if submitted.state == BroadcastState::AwaitingApproval {
            return self.workflow.approve_broadcast(&self.second(), made.broadcast_id, now).await.unwrap();
        }
        submitted
    }

    pub(crate) async fn view(&self, of: &BroadcastView) -> BroadcastView {
        self.workflow.broadcast(&self.author(), of.broadcast_id).await.unwrap()
    }

    /// Sends until nothing has happened for two seconds; gives the time it then is.
    pub(crate) async fn send_all(&self, mut now: Timestamp) -> Timestamp {
        let mut idle = 0;
        while idle < 8 {
            let stride = self.sender.stride(&self.timer, now).await.unwrap();
            idle = if stride.worked() { 0 } else { idle + 1 };
            now = now.plus(Duration::from_millis(250));
        }
        now
    }
}

/// An ordinary broadcast to a segment.
pub(crate) fn draft(kind: BroadcastKind, when: Condition) -> BroadcastDraft {
    BroadcastDraft {
        kind,
        title: "講座のご案内".to_owned(),
        body: "11月の講座です。".to_owned(),
        link: "/notices".to_owned(),
        event_on: None,
        place: String::new(),
        push: true,
        email: false,
        segment_id: None,
        segment: Some(SegmentDraft { people: People::Households, when }),
        starts_at: None,
        pace_per_s: None,
        resend_after_min: Vec::new(),
    }
}

pub(crate) fn ward(code: &str) -> Condition {
    Condition::Ward { codes: vec![code.to_owned()] }
}

async fn selected(db: &TestStore, when: Condition) -> BTreeSet<AccountId> {
    selected_at(db, when, NOW).await
}

async fn selected_at(db: &TestStore, when: Condition, now: Timestamp) -> BTreeSet<AccountId> {
    let segment = Segment::parse(People::Households, when).unwrap();
    let mut tx = db.begin_read(Wall::Around(town())).await.unwrap();
    let members = tx.members(&town(), Who::Of(&segment, now), "", 10_000, now).await.unwrap();
    let counted = tx.count_members(&town(), &segment, now).await.unwrap();
    assert_eq!(counted, i64::try_from(members.len()).unwrap(), "what is counted is what is selected");
    members.into_iter().map(|member| member.account_id).collect()
}

/// The city's parent (north, child of 12 months, coupon with 1,000 yen, approved application) and two families:
/// a boy of 2026-01-10 in the south, and one of 2023-12-03 in the north.
async fn households(db: &TestStore) -> (Scene, Family, Family) {
    let scene = Scene::of(db).await;
    City::found(db, &neighbour(), 1_000).await;
    let baby = family(db, &town(), 20, SOUTH, date(2026, 1, 10)).await;
    let toddler = family(db, &town(), 21, NORTH, date(2023, 12, 3)).await;
    (scene, baby, toddler)
}

async fn each_condition_selects(db: &TestStore) {
    let (scene, baby, toddler) = households(db).await;
    let (parent, baby, toddler) = (scene.city.parent.account_id, baby.parent.account_id, toddler.parent.account_id);
    let mut proxy = account(&town(), Role::ProxyGuardian, "proxy@27100.example.jp");
    proxy.guardian_id = scene.city.parent.guardian_id;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&proxy, NOW).await.unwrap();
    tx.set_topics(baby, &[Topic::Health, Topic::Safety], NOW).await.unwrap();
    tx.commit().await.unwrap();
    let proxy = proxy.account_id;
    let all = vec![parent, baby, toddler, proxy];
    let text = str::to_owned;
    for (expected, when) in [
        (all.clone(), Condition::everybody()),
        (vec![parent, toddler, proxy], ward(NORTH)),
        (vec![parent, proxy], Condition::ChildAgeMonths { from: 12, to: 12 }),
        (vec![baby], Condition::ChildAgeMonths { from: 0, to: 11 }),
        (vec![toddler], Condition::ChildAgeMonths { from: 29, to: 29 }),
        (vec![], Condition::ChildAgeMonths { from: 30, to: 215 }),
        (vec![parent, baby, proxy], Condition::ChildClassAge { ages: vec![0] }),
        (vec![toddler], Condition::ChildClassAge { ages: vec![1, 2] }),
        (all.clone(), Condition::ChildCount { from: 1, to: 1 }),
        (vec![], Condition::ChildCount { from: 2, to: 20 }),
        (vec![parent, proxy], Condition::CouponState { state: text("active") }),
        (vec![baby, toddler], Condition::CouponState { state: text("none") }),
        (vec![parent, proxy], Condition::CouponBalance { from_yen: 1_000, to_yen: 1_000 }),
        (vec![], Condition::CouponBalance { from_yen: 0, to_yen: 999 }),
        (all.clone(), Condition::Not { of: Box::new(Condition::CouponBalance { from_yen: 0, to_yen: 999 }) }),
        (vec![parent, proxy], Condition::ApplicationState { state: ApplicationState::Approved }),
        (vec![baby], Condition::Topic { topics: vec![Topic::Events, Topic::Health] }),
        (vec![], Condition::Topic { topics: vec![Topic::Benefits] }),
        (all.clone(), Condition::Inactive { days: 30 }),
        (vec![], Condition::ProgrammeUsed { codes: Vec::new(), from: None, to: None }),
        (vec![], Condition::FacilityUsed { facility_ids: vec![scene.city.facility.facility_id] }),
    ] {
        assert_eq!(selected(db, when.clone()).await, expected.into_iter().collect(), "{when:?}");
    }
    let paid = scene.workflow.use_coupon(&scene.city.parent(), &request(&scene.city, "key", 100), NOW).await;
    assert!(matches!(paid, Ok(UseAnswer::Settled(_))));
    for (expected, when) in [
        (2, Condition::ProgrammeUsed { codes: Vec::new(), from: None, to: None }),
        (
            2,
            Condition::ProgrammeUsed {
                codes: vec![text(PROGRAMME)],
                from: Some(NOW.jst_date()),
                to: Some(NOW.jst_date()),
            },
        ),
        (0, Condition::ProgrammeUsed { codes: vec![text("other")], from: None, to: None }),
        (0, Condition::ProgrammeUsed { codes: Vec::new(), from: None, to: Some(date(2026, 5, 31)) }),
        (2, Condition::FacilityUsed { facility_ids: vec![scene.city.facility.facility_id] }),
    ] {
        assert_eq!(selected(db, when.clone()).await.len(), expected, "{when:?}");
    }
}

/// A later application for a child takes the place of the one before; those of its siblings stand for themselves.
async fn the_newest_application_for_a_child_is_the_one_that_counts(db: &TestStore) {
    let (scene, ..) = households(db).await;
    let of = async |state: ApplicationState| selected(db, Condition::ApplicationState { state }).await.len();
    let approved = &scene.city.application;
    assert_eq!((of(ApplicationState::Approved).await, of(ApplicationState::Rejected).await), (1, 0));
    let sibling = Child {
        child_id: ChildId::new(after(1)),
        child_no: "K26-0000002".to_owned(),
        person_key: None,
        ..scene.city.child.clone()
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_child(&sibling, NOW).await.unwrap();
    tx.insert_application(&Application {
        application_id: ApplicationId::new(after(60)),
        application_no: "A26-9000001".to_owned(),
        state: ApplicationState::Rejected.as_str().to_owned(),
        ..approved.clone()
    })
    .await
    .unwrap();
    tx.commit().await.unwrap();
    assert_eq!((of(ApplicationState::Approved).await, of(ApplicationState::Rejected).await), (0, 1));
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_application(&Application {
        application_id: ApplicationId::new(after(30)),
        application_no: "A26-9000002".to_owned(),
        child_id: sibling.child_id,
        ..approved.clone()
    })
    .await
    .unwrap();
    tx.commit().await.unwrap();
    assert_eq!((of(ApplicationState::Approved).await, of(ApplicationState::Rejected).await), (1, 1));
}

async fn what_offices_do_to_broadcasts_and_segments_stays_in_the_log(db: &TestStore) {
    let (scene, ..) = households(db).await;
    let (workflow, author, second) = (&scene.workflow, scene.author(), scene.second());
    let north = SegmentDraft { people: People::Guardians, when: ward(NORTH) };
    let segment = workflow.create_segment(&author, "北区", north.clone(), NOW).await.unwrap().segment_id;
    workflow.update_segment(&author, segment, "北", north, NOW).await.unwrap();
    workflow.delete_segment(&author, segment, NOW).await.unwrap();
    let everybody = || draft(BroadcastKind::Segment, Condition::everybody());
    let id = workflow.create_broadcast(&author, everybody(), NOW).await.unwrap().broadcast_id;
    workflow.submit_broadcast(&author, id, NOW).await.unwrap();
    workflow.reject_broadcast(&second, id, "件名を直してください", NOW).await.unwrap();
    workflow.update_broadcast(&author, id, everybody(), NOW).await.unwrap();
    workflow.plan_resends(&author, id, &[15], NOW).await.unwrap();
    workflow.submit_broadcast(&author, id, NOW).await.unwrap();
    workflow.approve_broadcast(&second, id, NOW).await.unwrap();
    scene.sender.stride(&scene.timer, NOW).await.unwrap();
    workflow.pause_broadcast(&second, id, NOW).await.unwrap();
    workflow.resume_broadcast(&author, id, NOW).await.unwrap();

    let (segment, id) = (segment.to_string(), id.to_string());
    let (author, second) = (scene.city.operator.person_key, scene.staff.person_key);
    let done = events_of(db, "access.audited").await;
    let done: Vec<_> = done
        .iter()
        .map(|event| (event.payload["what"].as_str().unwrap(), event.subject_id.as_str(), event.actor_key))
        .collect();
    let expected = [
        ("segment_saved", segment.as_str(), author),
        ("segment_saved", segment.as_str(), author),
        ("segment_deleted", segment.as_str(), author),
        ("broadcast_rejected", id.as_str(), second),
        ("broadcast_changed", id.as_str(), author),
        ("resends_planned", id.as_str(), author),
        ("broadcast_paused", id.as_str(), second),
        ("broadcast_resumed", id.as_str(), author),
    ];
    assert_eq!(done, expected);
}

async fn a_child_counts_until_the_day_it_leaves_and_not_once_it_has_died(db: &TestStore) {
    let (scene, baby, toddler) = households(db).await;
    let mut movements = Vec::new();
    for (child, no, kind, on) in [
        (&scene.city.child, "A1", "death", "2026-05-20"),
        (&baby.child, "A2", "move_out", "2026-06-11"),
        (&toddler.child, "A3", "delete", "2026-05-20"),
    ] {
        link(db, child, no).await;
        movements.push(movement(no, &child.birth_date.to_string(), kind, on));
    }
    move_people(&scene.workflow, &scene.city, &movements, NOW).await;
    for (days, expected) in [(0, vec![baby.parent.account_id]), (9, vec![baby.parent.account_id]), (10, vec![])] {
        let now = NOW.plus(Duration::from_secs(days * 86_400));
        for when in [
            Condition::ChildAgeMonths { from: 0, to: 215 },
            Condition::ChildClassAge { ages: vec![0, 1, 2, 3] },
            Condition::ChildCount { from: 1, to: 20 },
        ] {
            let selected = selected_at(db, when.clone(), now).await;
            assert_eq!(selected, expected.iter().copied().collect(), "{when:?} after {days} days");
        }
        let mut tx = db.begin_read(Wall::Around(town())).await.unwrap();
        let today = now.jst_date();
        assert_eq!(tx.birth_dates(&town(), today).await.unwrap().len(), expected.len(), "strata after {days} days");
        assert_eq!(tx.birth_dates_of(baby.child.guardian_id, today).await.unwrap().len(), expected.len());
        assert!(tx.birth_dates_of(toddler.child.guardian_id, today).await.unwrap().is_empty());
    }
}

/// What a group selects follows from what its members select, whatever they are.
async fn groups_are_what_logic_says(db: &TestStore) {
    let (_scene, ..) = households(db).await;
    crowd(db, &town(), SOUTH, 7, NOW).await;
    let everybody = selected(db, Condition::everybody()).await;
    let leaves = [
        ward(NORTH),
        ward(SOUTH),
        Condition::ChildClassAge { ages: vec![0] },
        Condition::ChildCount { from: 0, to: 0 },
        Condition::CouponState { state: "active".to_owned() },
    ];
    for a in &leaves {
        for b in &leaves {
            let (of_a, of_b) = (selected(db, a.clone()).await, selected(db, b.clone()).await);
            let both = selected(db, Condition::All { of: vec![a.clone(), b.clone()] }).await;
            assert_eq!(both, &of_a & &of_b, "{a:?} and {b:?}");
            let either = Condition::Any { of: vec![a.clone(), b.clone()] };
            assert_eq!(selected(db, either.clone()).await, &of_a | &of_b, "{a:?} or {b:?}");
            let neither = selected(db, Condition::Not { of: Box::new(either) }).await;
            assert_eq!(neither, &(&everybody - &of_a) - &of_b, "neither {a:?} nor {b:?}");
        }
    }
}

async fn a_saved_segment_serves_broadcasts_and_surveys(db: &TestStore) {
    let (scene, ..) = households(db).await;
    let north = SegmentDraft { people: People::Guardians, when: ward(NORTH) };
    let author = scene.author();
    let saved = scene.workflow.create_segment(&author, " 北区の方 ", north.clone(), NOW).await.unwrap();
    assert_eq!(saved.name, "北区の方");
    let twice = scene.workflow.create_segment(&author, "北区の方", north.clone(), NOW).await;
    assert!(matches!(twice, Err(WorkflowError::Invalid(errors)) if errors[0].field == "name"));
    let by_segment = BroadcastDraft {
        segment: None,
        segment_id: Some(saved.segment_id),
        ..draft(BroadcastKind::Segment, ward(SOUTH))
    };
    let made = scene.workflow.create_broadcast(&author, by_segment, NOW).await.unwrap();
    assert_eq!((made.targets, made.segment_name.as_str()), (2, "北区の方"));
    let changed = BroadcastDraft { segment_id: Some(saved.segment_id), ..draft(BroadcastKind::Segment, ward(SOUTH)) };
    let changed = scene.workflow.create_broadcast(&author, changed, NOW).await.unwrap();
    assert_eq!((changed.segment_id, changed.segment_name.as_str()), (None, "条件に合う方"), "it is not that segment");
    let survey = SurveyDraft {
        title: "北区について".to_owned(),
        text: String::new(),
        anonymous: false,
        opens_at: NOW,
        closes_at: NOW.plus(Duration::from_secs(86_400)),
        minutes_needed: 3,
        questions: serde_json::from_value(
            json!([{ "question_no": 1, "kind": "text", "text": "いかがですか", "required": false }]),
        )
        .unwrap(),
    };
    let survey = scene.workflow.create_survey(&author, survey, NOW).await.unwrap().survey_id;
    let conditions = Conditions { segment_id: Some(saved.segment_id), ..Conditions::default() };
    assert_eq!(scene.workflow.survey_audience(&author, survey, conditions, true, NOW).await.unwrap(), 2);
    let extracted = events_of(db, "survey.audience_extracted").await;
    assert_eq!(extracted[0].payload["segment_id"], json!(saved.segment_id));
    let south = SegmentDraft { people: People::Guardians, when: ward(SOUTH) };
    scene.workflow.update_segment(&author, saved.segment_id, "北区の方", south, NOW).await.unwrap();
    let kept = scene.view(&made).await.segment.unwrap();
    assert_eq!(kept.when(), &ward(NORTH), "what was made from it keeps the old definition");
    scene.workflow.delete_segment(&author, saved.segment_id, NOW).await.unwrap();
    assert!(scene.workflow.segments(&author).await.unwrap().is_empty());
}

async fn a_preview_counts_and_names_nobody(db: &TestStore) {
    let (scene, ..) = households(db).await;
    let people = crowd(db, &town(), SOUTH, 30, NOW).await;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for (account, permission) in people.iter().zip([
        DevicePermission::Granted,
        DevicePermission::Granted,
        DevicePermission::Granted,
        DevicePermission::Denied,
    ]) {
        let device = device_of(&town(), *account, Provider::Fcm, &account.to_string(), NOW);
        assert!(tx.put_device(&Device { permission, ..device }).await.unwrap());
    }
    for (account, channel, enabled) in [(people[0], "push", false), (people[4], "email", true)] {
        let chosen = Preference { category: "broadcast".to_owned(), channel: channel.to_owned(), enabled };
        tx.set_preference(account, &chosen).await.unwrap();
    }
    tx.commit().await.unwrap();
    let south = SegmentDraft { people: People::Households, when: ward(SOUTH) };
    for (kind, push, email) in
        [(BroadcastKind::Segment, 2, 1), (BroadcastKind::Event, 2, 0), (BroadcastKind::Emergency, 3, 31)]
    {
        let preview = scene.workflow.preview_segment(&scene.author(), south.clone(), kind, NOW).await.unwrap();
        assert_eq!((preview.count, preview.push, preview.email, preview.everybody), (31, push, email, false));
    }
    let ordinary = BroadcastKind::Segment;
    let preview = scene.workflow.preview_segment(&scene.author(), south.clone(), ordinary, NOW).await.unwrap();
    assert_eq!(preview.sample.len(), 10);
    let shown = serde_json::to_string(&preview).unwrap();
    assert!(shown.matches("****").count() == 10, "numbers are cut short: {shown}");
    for hidden in ["群衆", "田中", "example.jp"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
    let denied = scene.workflow.preview_segment(&scene.city.parent(), south, ordinary, NOW).await;
    assert!(matches!(denied, Err(WorkflowError::Denied)));
}

async fn everybody_is_told_only_with_four_eyes(db: &TestStore) {
    let (scene, ..) = households(db).await;
    let theirs = Actor { role: Some(Role::MunicipalStaff), municipality_code: neighbour(), ..scene.second() };
    let (workflow, author) = (&scene.workflow, scene.author());
    let everybody = draft(BroadcastKind::Segment, Condition::everybody());
    let id = workflow.create_broadcast(&author, everybody, NOW).await.unwrap().broadcast_id;
    let waiting = workflow.submit_broadcast(&author, id, NOW).await.unwrap();
    assert_eq!((waiting.state, waiting.may_approve), (BroadcastState::AwaitingApproval, false));
    assert!(matches!(workflow.approve_broadcast(&author, id, NOW).await, Err(WorkflowError::Conflict(_))));
    assert!(matches!(workflow.reject_broadcast(&author, id, "自分で", NOW).await, Err(WorkflowError::Conflict(_))));
    assert!(matches!(workflow.approve_broadcast(&theirs, id, NOW).await, Err(WorkflowError::NotFound(_))));
    assert!(matches!(workflow.approve_broadcast(&scene.city.parent(), id, NOW).await, Err(WorkflowError::Denied)));
    assert!(matches!(workflow.approve_broadcast(&scene.timer, id, NOW).await, Err(WorkflowError::Denied)));
    // The author's own machine is no second person, nor is anybody else's.
    let (_, key) = workflow.issue_api_key(&scene.second(), "連携", Role::MunicipalStaff, &[], NOW).await.unwrap();
    let (machine, _) = workflow.account_of_key(&key).await.unwrap();
    let machine = Actor::of(&machine, None);
    assert!(matches!(workflow.approve_broadcast(&machine, id, NOW).await, Err(WorkflowError::Conflict(_))));
    assert!(matches!(workflow.reject_broadcast(&machine, id, "機械", NOW).await, Err(WorkflowError::Conflict(_))));
    scene.send_all(NOW).await;
    assert!(events_of(db, "broadcast.started").await.is_empty(), "nothing goes out unapproved");
    assert!(workflow.broadcast(&scene.second(), id).await.unwrap().may_approve);
    let back = workflow.reject_broadcast(&scene.second(), id, "日付を直してください", NOW).await.unwrap();
    assert_eq!((back.state, back.note.as_str()), (BroadcastState::Draft, "日付を直してください"));
    workflow.submit_broadcast(&author, id, NOW).await.unwrap();
    let released = workflow.approve_broadcast(&scene.second(), id, NOW).await.unwrap();
    assert_eq!(released.state, BroadcastState::Scheduled);
    assert!(matches!(workflow.approve_broadcast(&scene.second(), id, NOW).await, Err(WorkflowError::Conflict(_))));
    scene.send_all(NOW).await;
    let sent = workflow.broadcast(&author, id).await.unwrap();
    assert_eq!((sent.state, sent.counters["created"].as_i64()), (BroadcastState::Sent, Some(3)));
    // A segment of few, and an emergency, need nobody else.
    let few = workflow.create_broadcast(&author, draft(BroadcastKind::Segment, ward(SOUTH)), NOW).await.unwrap();
    assert_eq!(
        workflow.submit_broadcast(&author, few.broadcast_id, NOW).await.unwrap().state,
        BroadcastState::Scheduled
    );
    let urgent = draft(BroadcastKind::Emergency, Condition::everybody());
    let urgent = workflow.create_broadcast(&author, urgent, NOW).await.unwrap().broadcast_id;
    assert_eq!(workflow.submit_broadcast(&author, urgent, NOW).await.unwrap().state, BroadcastState::Scheduled);
}

async fn a_grown_audience_is_held_back(db: &TestStore) {
    let (scene, ..) = households(db).await;
    let later = NOW.plus(Duration::from_secs(86_400));
    let planned = BroadcastDraft { starts_at: Some(later), ..draft(BroadcastKind::Segment, ward(SOUTH)) };
    let planned = scene.released(planned, NOW).await;
    assert_eq!(planned.state, BroadcastState::Scheduled);
    crowd(db, &town(), SOUTH, 1_000, NOW).await;
    scene.send_all(later).await;
    let held = scene.view(&planned).await;
    assert_eq!((held.state, held.targets), (BroadcastState::AwaitingApproval, 1_001));
    scene.workflow.approve_broadcast(&scene.second(), planned.broadcast_id, later).await.unwrap();
    scene.sender.stride(&scene.timer, later).await.unwrap();
    assert_eq!(scene.view(&planned).await.state, BroadcastState::Sending);
}

async fn what_cannot_be_sent_is_refused(db: &TestStore) {
    let scene = Scene::of(db).await;
    let bad = BroadcastDraft {
        title: " ".to_owned(),
        body: String::new(),
        link: "https://elsewhere.example.com/".to_owned(),
        email: true,
        pace_per_s: Some(0),
        resend_after_min: vec![15, 7],
        segment: Some(SegmentDraft { people: People::Households, when: ward("") }),
        ..draft(BroadcastKind::Event, Condition::everybody())
    };
    let refused = scene.workflow.create_broadcast(&scene.author(), bad, NOW).await;
    let Err(WorkflowError::Invalid(errors)) = refused else { panic!("such a broadcast is refused") };
    let fields: BTreeSet<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    let expected =
        ["body", "email", "event_on", "link", "pace_per_s", "place", "resend_after_min", "title", "when.codes"];
    assert_eq!(fields, expected.into_iter().collect());
    let draft = draft(BroadcastKind::Segment, ward(NORTH));
    let denied = scene.workflow.create_broadcast(&scene.city.parent(), draft, NOW).await;
    assert!(matches!(denied, Err(WorkflowError::Denied)));
}
