//! Surveys: exactly the extracted audience is asked, everybody answers once, anonymous answers name nobody.

use std::time::Duration;

use jiff::civil::date;
use serde_json::{Value, json};
use todoke_domain::{
    Timestamp,
    ids::SurveyId,
    survey::{AnswerItem, Question, QuestionKind},
};
use todoke_store::{Store, Wall, municipality::Instance};
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor, Workflow, WorkflowError,
    survey::{Conditions, SurveyDraft, SurveyRun},
};

use crate::{
    city::{City, NOW, after, neighbour, town},
    coupon_use::workflow,
    register::{Family, events, events_of, family, inbox},
};

todoke_tests::on_both_databases! {
    exactly_the_extracted_audience_is_asked_once,
    each_condition_selects,
    an_answer_is_given_once_and_edited_until_the_close,
    an_anonymous_answer_names_nobody,
    a_small_group_is_not_singled_out,
    only_who_has_not_answered_is_reminded_and_only_once,
    results_are_those_of_the_answers,
    two_thousand_people_are_asked,
    surveys_stay_behind_the_wall,
}

const SECRET: &str = "of this record";
const NORTH: &str = "27127";
const SOUTH: &str = "27128";

struct Scene {
    city: City,
    workflow: Workflow,
    families: Vec<Family>,
    timer: Actor,
}

impl Scene {
    /// A city with `n` families of the north and one of the south.
    async fn of(store: &Store, n: usize) -> Self {
        let city = City::found(store, &town(), 1_000).await;
        let mut tx = store.begin_write(Wall::None).await.unwrap();
        tx.insert_instance(&Instance { epoch: "e".to_owned(), token_secret: SECRET.to_owned() }, NOW).await.unwrap();
        tx.commit().await.unwrap();
        let mut families = Vec::new();
        for no in 0..n {
            families.push(family(store, &town(), no + 10, NORTH, date(2025, 3, 3)).await);
        }
        families.push(family(store, &town(), 9, SOUTH, date(2023, 12, 3)).await);
        Self { city, workflow: workflow(store.clone()), families, timer: Actor::system(town(), "timer") }
    }

    async fn draft(&self, anonymous: bool) -> SurveyId {
        let draft = SurveyDraft {
            title: "子育て支援について".to_owned(),
            text: "ご意見をお聞かせください。".to_owned(),
            anonymous,
            opens_at: day(1),
            closes_at: day(11),
            minutes_needed: 3,
            questions: questions(),
        };
        self.workflow.create_survey(&self.city.operator(), draft, NOW).await.unwrap().survey_id
    }

    /// A survey of the north, open.
    async fn open(&self, anonymous: bool) -> SurveyId {
        let id = self.draft(anonymous).await;
        let conditions = Conditions { ward_codes: Some(vec![NORTH.to_owned()]), ..Conditions::default() };
        let operator = self.city.operator();
        self.workflow.survey_audience(&operator, id, conditions, true, NOW).await.unwrap();
        self.workflow.schedule_survey(&operator, id, NOW).await.unwrap();
        self.workflow.due_surveys(&self.timer, day(1)).await.unwrap();
        id
    }

    fn parent(&self, n: usize) -> Actor {
        Actor::of(&self.families[n].parent, Some("request-1".to_owned()))
    }

    async fn answer(&self, id: SurveyId, n: usize, step: f64, now: Timestamp) -> Result<i64, WorkflowError> {
        let answers = vec![
            AnswerItem { question_no: 1, number: Some(step), ..AnswerItem::default() },
            AnswerItem { question_no: 2, options: vec![2, 1], ..AnswerItem::default() },
            AnswerItem { question_no: 3, text: Some("よかったです".to_owned()), ..AnswerItem::default() },
        ];
        self.workflow.answer_survey(&self.parent(n), id, answers, now).await.map(|answer| answer.revision)
    }
}

fn day(n: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(n * 86_400))
}

fn questions() -> Vec<Question> {
    let question = |question_no, kind, required| Question {
        question_no,
        kind,
        text: format!("設問{question_no}"),
        options: Vec::new(),
        required,
        min: None,
        max: None,
        kpi: None,
    };
    vec![
        Question {
            min: Some(1.0),
            max: Some(5.0),
            kpi: Some("K24".to_owned()),
            ..question(1, QuestionKind::Scale, true)
        },
        Question {
            options: vec!["はい".to_owned(), "いいえ".to_owned()],
            ..question(2, QuestionKind::Multiple, false)
        },
        question(3, QuestionKind::Text, false),
    ]
}

async fn exactly_the_extracted_audience_is_asked_once(db: &TestStore) {
    let scene = Scene::of(db, 3).await;
    let id = scene.draft(false).await;
    let operator = scene.city.operator();
    let north = Conditions { ward_codes: Some(vec![NORTH.to_owned()]), ..Conditions::default() };
    let early = scene.workflow.schedule_survey(&operator, id, NOW).await;
    assert!(matches!(early, Err(WorkflowError::Conflict(_))), "there is no audience yet");
    // The parent of the fixture lives in the north too.
    assert_eq!(scene.workflow.survey_audience(&operator, id, north.clone(), false, NOW).await.unwrap(), 4);
    assert_eq!(scene.workflow.survey(&operator, id).await.unwrap().targets, Some(0), "a count is not saved");
    assert_eq!(scene.workflow.survey_audience(&operator, id, north.clone(), true, NOW).await.unwrap(), 4);
    scene.workflow.schedule_survey(&operator, id, NOW).await.unwrap();
    assert!(matches!(
        scene.workflow.survey_audience(&operator, id, north, true, NOW).await,
        Err(WorkflowError::Conflict(_))
    ));
    family(db, &town(), 99, NORTH, date(2025, 3, 3)).await;

    assert_eq!(
        scene.workflow.due_surveys(&scene.timer, day(1).minus(Duration::from_secs(1))).await.unwrap(),
        SurveyRun::default()
    );
    let other_node = workflow(db.open_again().await);
    let (one, two) =
        tokio::join!(scene.workflow.due_surveys(&scene.timer, day(1)), other_node.due_surveys(&scene.timer, day(1)));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.opened + two.opened, one.requested + two.requested), (1, 4));
    assert_eq!(scene.workflow.due_surveys(&scene.timer, day(1)).await.unwrap(), SurveyRun::default());
    let asked = events_of(db, "survey.requested").await;
    assert_eq!(asked.len(), 4);
    for family in &scene.families[..3] {
        let told = inbox(db, &family.parent, "survey.requested").await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].title, "アンケートのお願い");
        assert!(
            told[0].body.contains("子育て支援について（記名）") && told[0].body.contains("約3分"),
            "{}",
            told[0].body
        );
        assert_eq!(told[0].link, format!("/surveys/{id}"));
        let key = family.parent.person_key;
        let own = asked.iter().find(|event| event.payload["target_key"].as_i64() == key).unwrap();
        assert_eq!(own.event_id, told[0].cause_event_id);
    }
    assert!(inbox(db, &scene.families[3].parent, "survey.requested").await.is_empty());
    assert!(
        matches!(scene.answer(id, 3, 5.0, day(2)).await, Err(WorkflowError::NotFound(_))),
        "the south was not asked"
    );
    assert_eq!(scene.workflow.own_surveys(&scene.parent(0), day(2)).await.unwrap().len(), 1);
    other_node.store().close().await;
}

async fn each_condition_selects(db: &TestStore) {
    let scene = Scene::of(db, 2).await;
    let id = scene.draft(false).await;
    let operator = scene.city.operator();
    let count = async |conditions: Value| {
        let conditions: Conditions = serde_json::from_value(conditions).unwrap();
        scene.workflow.survey_audience(&operator, id, conditions, false, NOW).await.unwrap()
    };
    assert_eq!(count(json!({})).await, 4);
    assert_eq!(count(json!({ "ward_codes": [NORTH, SOUTH] })).await, 4);
    assert_eq!(count(json!({ "class_ages": [2] })).await, 1, "born 2023-12-03 is two on 1 April 2026");
    assert_eq!(count(json!({ "class_ages": [0, 1] })).await, 3);
    assert_eq!(count(json!({ "coupon_state": "active" })).await, 1, "the fixture's family has a coupon");
    assert_eq!(count(json!({ "coupon_state": "none" })).await, 3);
    assert_eq!(count(json!({ "application_state": "approved" })).await, 1);
    assert_eq!(count(json!({ "application_state": "rejected" })).await, 0);
    assert_eq!(count(json!({ "balance_min_yen": 1_000, "balance_max_yen": 1_000 })).await, 1);
    assert_eq!(count(json!({ "balance_max_yen": 0 })).await, 0, "whoever has no coupon has no balance");
    assert_eq!(
        count(json!({ "programme_codes_used": ["ichiji"], "used_from": "2026-06-01", "used_to": "2026-06-01" })).await,
        0
    );
    assert_eq!(count(json!({ "inactive_days": 30 })).await, 4, "nobody has signed in");
    let wrong: Conditions = serde_json::from_value(json!({ "coupon_state": "gone", "class_ages": [99] })).unwrap();
    let Err(WorkflowError::Invalid(errors)) = scene.workflow.survey_audience(&operator, id, wrong, false, NOW).await
    else {
        panic!("such conditions are refused")
    };
    assert_eq!(errors.len(), 2);
}

async fn an_answer_is_given_once_and_edited_until_the_close(db: &TestStore) {
    let scene = Scene::of(db, 6).await;
    let id = scene.open(false).await;
    assert_eq!(scene.answer(id, 0, 4.0, day(2)).await.unwrap(), 1);
    assert_eq!(scene.answer(id, 0, 5.0, day(3)).await.unwrap(), 2);
    assert_eq!(scene.answer(id, 1, 3.0, day(3)).await.unwrap(), 1);
    let Err(WorkflowError::Invalid(errors)) = scene.answer(id, 2, 6.0, day(3)).await else { panic!("6 of 5") };
    assert_eq!(errors[0].field, "answers.1");
    let own = scene.workflow.own_survey(&scene.parent(0), id, day(3)).await.unwrap();
    assert_eq!(own.answer.unwrap().answers[1].options, [1, 2]);
    assert_eq!(scene.workflow.survey(&scene.city.operator(), id).await.unwrap().answers, Some(2));

    let answered = events_of(db, "survey.answered").await;
    assert_eq!(answered.len(), 3);
    let edited = &answered[1];
    assert_eq!(edited.subject_id, answered[0].subject_id);
    assert_eq!(edited.actor_key, scene.families[0].parent.person_key);
    assert_eq!(edited.payload["revision"], 2);
    assert_eq!((edited.payload["ward_code"].as_str(), edited.payload["class_age"].as_i64()), (Some(NORTH), Some(1)));
    let words = json!({ "question_id": "3", "option_ids": [], "number": null, "text_length": 6 });
    assert_eq!(edited.payload["answers"][2], words, "of words only the length");
    assert_eq!(edited.payload["answers"][0]["option_ids"], json!([5]), "a step is its own option");

    assert_eq!(scene.workflow.due_surveys(&scene.timer, day(11)).await.unwrap().closed, 1);
    assert!(matches!(scene.answer(id, 2, 4.0, day(11)).await, Err(WorkflowError::Conflict(_))));
    assert!(matches!(scene.answer(id, 0, 4.0, day(12)).await, Err(WorkflowError::Conflict(_))));
    let closed = events_of(db, "survey.closed").await;
    assert_eq!(closed[0].payload["answer_count"], 2);
}

async fn an_anonymous_answer_names_nobody(db: &TestStore) {
    let scene = Scene::of(db, 6).await;
    let id = scene.open(true).await;
    let before = events(db).await.len();
    let late = day(2).plus(Duration::from_secs(1_234));
    assert_eq!(scene.answer(id, 0, 4.0, late).await.unwrap(), 1);
    assert_eq!(scene.answer(id, 0, 5.0, day(3)).await.unwrap(), 2);
    assert_eq!(scene.answer(id, 1, 3.0, late).await.unwrap(), 1);
    let caused = &events(db).await[before..];
    assert_eq!(caused.len(), 3);
    for event in caused {
        assert_eq!((event.actor_key, &event.correlation_id, &event.causation_id), (None, &None, &None));
        assert!(event.payload.get("target_key").is_none_or(Value::is_null));
        assert_eq!(event.occurred_at.as_micros() % 3_600_000_000, 0, "times are cut to the hour");
        assert_eq!(event.recorded_at, event.occurred_at);
        let made_at = |id: &uuid::Uuid| id.get_timestamp().unwrap().to_unix().0;
        assert_eq!(made_at(&event.event_id.as_uuid()) % 3_600, 0, "and so is the time in the id");
        assert_eq!(made_at(&event.subject_id.parse().unwrap()) % 3_600, 0);
    }
    assert_eq!(caused[0].subject_id, caused[1].subject_id, "an edit is the same answer");

    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let rows = tx.survey_answers(id).await.unwrap();
    assert_eq!(rows.len(), 2);
    for (row, family) in rows.iter().flat_map(|row| scene.families.iter().map(move |family| (row, family))) {
        let text = format!("{row:?}");
        assert!(row.account_id.is_none());
        assert!(
            !text.contains(&family.parent.account_id.to_string())
                && !text.contains(&family.parent.person_key.unwrap().to_string())
        );
    }
    drop(tx);
    assert!(scene.workflow.own_survey(&scene.parent(0), id, day(3)).await.unwrap().answered);
    assert!(!scene.workflow.own_survey(&scene.parent(2), id, day(3)).await.unwrap().answered);
}

async fn a_small_group_is_not_singled_out(db: &TestStore) {
    let scene = Scene::of(db, 5).await;
    let id = scene.draft(true).await;
    let operator = scene.city.operator();
    scene.workflow.survey_audience(&operator, id, Conditions::default(), true, NOW).await.unwrap();
    scene.workflow.schedule_survey(&operator, id, NOW).await.unwrap();
    scene.workflow.due_surveys(&scene.timer, day(1)).await.unwrap();
    // Five families share ward and class age; the southern one is alone.
    scene.answer(id, 0, 4.0, day(2)).await.unwrap();
    scene.answer(id, 5, 4.0, day(2)).await.unwrap();
    let answered = events_of(db, "survey.answered").await;
    assert_eq!(
        (answered[0].payload["ward_code"].as_str(), answered[0].payload["class_age"].as_i64()),
        (Some(NORTH), Some(1))
    );
    assert!(!answered[1].payload.contains_key("ward_code") && !answered[1].payload.contains_key("class_age"));
}

async fn only_who_has_not_answered_is_reminded_and_only_once(db: &TestStore) {
    let scene = Scene::of(db, 3).await;
    for anonymous in [false, true] {
        let id = scene.open(anonymous).await;
        scene.answer(id, 0, 4.0, day(2)).await.unwrap();
        assert_eq!(
            scene.workflow.due_surveys(&scene.timer, day(8).minus(Duration::from_secs(1))).await.unwrap().reminded,
            0
        );
        assert_eq!(scene.workflow.due_surveys(&scene.timer, day(8)).await.unwrap().reminded, 3);
        assert_eq!(scene.workflow.due_surveys(&scene.timer, day(9)).await.unwrap(), SurveyRun::default());
        let subject = id.to_string();
        for (n, family) in scene.families[..3].iter().enumerate() {
            let mut told = inbox(db, &family.parent, "survey.reminder").await;
            told.retain(|message| message.subject_id == subject);
            assert_eq!(told.len(), usize::from(n > 0), "anonymous {anonymous}, family {n}");
        }
        assert_eq!(scene.workflow.due_surveys(&scene.timer, day(11)).await.unwrap().closed, 1);
    }
}

async fn results_are_those_of_the_answers(db: &TestStore) {
    let scene = Scene::of(db, 4).await;
    let id = scene.open(true).await;
    for (n, step) in [5.0, 5.0, 2.0].into_iter().enumerate() {
        scene.answer(id, n, step, day(2)).await.unwrap();
    }
    let operator = scene.city.operator();
    let early = scene.workflow.aggregate_survey(&operator, id, day(3)).await;
    assert!(matches!(early, Err(WorkflowError::Conflict(_))), "still open");
    scene.workflow.close_survey(&operator, id, day(3)).await.unwrap();
    let results = scene.workflow.survey_results(&operator, id).await.unwrap();
    assert_eq!((results.targets, results.delivered, results.answers, results.response_rate), (5, 0, 3, Some(60.0)));
    let scale = &results.questions[0];
    assert_eq!((scale.base, scale.mean, scale.median, scale.top2_share), (3, Some(4.0), Some(5.0), Some(66.7)));
    assert_eq!(scale.options.iter().map(|option| option.count).collect::<Vec<_>>(), [0, 1, 0, 0, 2]);
    assert_eq!((results.questions[1].options[0].count, results.questions[1].options[0].share), (3, Some(100.0)));
    assert_eq!((results.questions[2].texts, results.questions[2].samples.as_ref().map(Vec::len)), (Some(3), Some(3)));

    let city = Actor { role: Some(todoke_domain::Role::MunicipalStaff), account_id: None, ..scene.city.operator() };
    assert!(
        matches!(scene.workflow.survey_results(&city, id).await, Err(WorkflowError::NotFound(_))),
        "not presented yet"
    );
    assert!(matches!(scene.workflow.aggregate_survey(&city, id, day(4)).await, Err(WorkflowError::Denied)));
    scene.workflow.aggregate_survey(&operator, id, day(4)).await.unwrap();
    scene.workflow.present_survey(&operator, id, day(5)).await.unwrap();
    let shown = scene.workflow.survey_results(&city, id).await.unwrap();
    assert_eq!(shown.questions[2].samples, None, "words are for the operator only");
    let told = inbox(db, &scene.city.operator, "survey.results_ready").await;
    assert_eq!(told.len(), 1);
    assert!(told[0].body.contains("（回答率60.0%）") && told[0].body.contains("回答 3件"), "{}", told[0].body);
}

async fn two_thousand_people_are_asked(db: &TestStore) {
    let scene = Scene::of(db, 2_000).await;
    let started = std::time::Instant::now();
    let id = scene.open(false).await;
    let took = started.elapsed();
    println!("2,000 people asked: {took:?}");
    assert_eq!(events_of(db, "survey.requested").await.len(), 2_001);
    assert_eq!(scene.workflow.survey(&scene.city.operator(), id).await.unwrap().state, "open");
}

async fn surveys_stay_behind_the_wall(db: &TestStore) {
    let scene = Scene::of(db, 1).await;
    let other = City::found(db, &neighbour(), 1_000).await;
    let id = scene.open(false).await;
    scene.answer(id, 0, 4.0, day(2)).await.unwrap();
    let stranger = other.operator();
    assert!(matches!(scene.workflow.survey(&stranger, id).await, Err(WorkflowError::NotFound(_))));
    assert!(matches!(scene.workflow.survey_results(&stranger, id).await, Err(WorkflowError::NotFound(_))));
    assert!(matches!(scene.workflow.close_survey(&stranger, id, after(9)).await, Err(WorkflowError::NotFound(_))));
    assert!(scene.workflow.surveys(&stranger).await.unwrap().is_empty());
    let mut tx = db.begin_read(stranger.wall()).await.unwrap();
    assert!(tx.survey_answers(id).await.unwrap().is_empty());
    assert!(tx.birth_dates(&town(), NOW.jst_date()).await.unwrap().is_empty());
    assert!(tx.survey_addressee(id, scene.families[0].parent.account_id).await.unwrap().is_none());
    drop(tx);
    assert_eq!(scene.workflow.survey(&scene.city.operator(), id).await.unwrap().state, "open");
}
