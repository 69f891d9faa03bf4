//! Segments and the release of broadcasts: each condition selects, and many are told only with four eyes.

use std::{collections::BTreeSet, time::Duration};

use jiff::civil::date;
use serde_json::json;
use todoke_domain::{
    Role, Timestamp,
    application::ApplicationState,
    broadcast::{BroadcastKind, BroadcastState},
    ids::AccountId,
    segment::{Condition, People, Segment},
    topic::Topic,
};
use todoke_store::{Store, Wall, account::Account, segment::Who};
use todoke_tests::{crowd::crowd, stores::TestStore};
use todoke_workflow::{
    Actor, Workflow, WorkflowError,
    broadcast::{BroadcastDraft, BroadcastView, Sender},
    coupon::UseAnswer,
    segment::SegmentDraft,
    survey::{Conditions, SurveyDraft},
};

use crate::{
    city::{City, NOW, PROGRAMME, account, neighbour, town},
    coupon_use::{request, workflow},
    register::{Family, events_of, family},
};

todoke_tests::on_both_databases! {
    each_condition_selects,
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
    let segment = Segment::parse(People::Households, when).unwrap();
    let mut tx = db.begin_read(Wall::Around(town())).await.unwrap();
    let members = tx.members(&town(), Who::Of(&segment, NOW), "", 10_000, NOW).await.unwrap();
    let counted = tx.count_members(&town(), &segment, NOW).await.unwrap();
    assert_eq!(counted.n, i64::try_from(members.len()).unwrap(), "what is counted is what is selected");
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
        (vec![baby, toddler], Condition::CouponBalance { from_yen: 0, to_yen: 999 }),
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
    crowd(db, &town(), SOUTH, 30, NOW).await;
    let south = SegmentDraft { people: People::Households, when: ward(SOUTH) };
    let preview = scene.workflow.preview_segment(&scene.author(), south.clone(), NOW).await.unwrap();
    assert_eq!((preview.count, preview.push, preview.email, preview.everybody), (31, 31, 0, false));
    assert_eq!(preview.sample.len(), 10);
    let shown = serde_json::to_string(&preview).unwrap();
    assert!(shown.matches("****").count() == 10, "numbers are cut short: {shown}");
    for hidden in ["群衆", "田中", "example.jp"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
    let denied = scene.workflow.preview_segment(&scene.city.parent(), south, NOW).await;
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
        pace_per_s: Some(0),
        resend_after_min: vec![15, 7],
        segment: Some(SegmentDraft { people: People::Households, when: ward("") }),
        ..draft(BroadcastKind::Event, Condition::everybody())
    };
    let refused = scene.workflow.create_broadcast(&scene.author(), bad, NOW).await;
    let Err(WorkflowError::Invalid(errors)) = refused else { panic!("such a broadcast is refused") };
    let fields: BTreeSet<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    let expected = ["body", "event_on", "link", "pace_per_s", "place", "resend_after_min", "title", "when.codes"];
    assert_eq!(fields, expected.into_iter().collect());
    let draft = draft(BroadcastKind::Segment, ward(NORTH));
    let denied = scene.workflow.create_broadcast(&scene.city.parent(), draft, NOW).await;
    assert!(matches!(denied, Err(WorkflowError::Denied)));
}
