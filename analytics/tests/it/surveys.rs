//! R04: the reference figure, revisions, cross tables, masking.

use serde_json::{Value, json};
use todoke_analytics::{
    Format, ReportId, ReportRequest, aggregate, format,
    reference::{self, QuestionRow, SurveyRow},
};
use todoke_domain::Timestamp;
use todoke_lake::Dimension;

use crate::{
    city::{City, Fixture, OSAKA, Row, at, check, code, request, rows},
    ledger::Coupon,
};

const R04: ReportId = ReportId::SurveyAggregate;

fn question(no: i32, kind: &str, options: &[&str]) -> QuestionRow {
    QuestionRow {
        municipality_code: code(OSAKA),
        survey_id: "v-1".to_owned(),
        question_id: format!("q{no}"),
        question_no: no,
        kind: kind.to_owned(),
        text: format!("設問{no}"),
        options: options.iter().map(|text| (*text).to_owned()).collect(),
        required: true,
        min: (kind == "scale").then_some(1.0),
        max: (kind == "scale").then_some(5.0),
        kpi: None,
    }
}

async fn describe(lake: &Fixture, anonymous: bool) {
    let survey = SurveyRow {
        municipality_code: code(OSAKA),
        survey_id: "v-1".to_owned(),
        title: "満足度調査".to_owned(),
        anonymous,
        opens_at: None,
        closes_at: None,
        state: "closed".to_owned(),
    };
    let questions = [
        question(1, "scale", &[]),
        question(2, "multiple", &["予約", "支払", "=1+1"]),
        question(3, "text", &[]),
        question(4, "number", &[]),
    ];
    let (surveys, questions) =
        (reference::surveys(&[survey]).unwrap(), reference::survey_questions(&questions).unwrap());
    lake.lake.write_dimension(Dimension::Surveys, &surveys).await.unwrap();
    lake.lake.write_dimension(Dimension::SurveyQuestions, &questions).await.unwrap();
}

fn answer(
    city: &mut City,
    person: Option<i64>,
    ticket: &str,
    when: Timestamp,
    revision: i64,
    ward: &str,
    scale: i64,
    option: i64,
) {
    city.event("survey.answered", when, json!({
        "survey_id": "v-1", "target_key": person, "subject_id": ticket, "ward_code": ward, "class_age": 1, "revision": revision,
        "answers": [
            {"question_id": "q1", "option_ids": [], "number": scale, "text_length": null},
            {"question_id": "q2", "option_ids": [option, 3], "number": null, "text_length": null},
            {"question_id": "q3", "option_ids": [], "number": null, "text_length": if scale > 3 { 12 } else { 0 }},
            {"question_id": "q4", "option_ids": [], "number": scale as f64 * 1.5, "text_length": null},
        ],
    }));
}

const SCALE: [(i64, usize); 4] = [(5, 20), (4, 15), (3, 10), (2, 5)];

fn city(anonymous: bool) -> City {
    let mut city = City::new(OSAKA);
    for target in 1..=200 {
        let asked = city.event(
            "survey.requested",
            at("2026-06-01", "09:00"),
            json!({"survey_id": "v-1", "target_key": target}),
        );
        let cause = asked.event_id.to_string();
        if target <= 150 {
            let message = format!("m-{target}");
            city.event("message.created", at("2026-06-01", "09:00"), json!({
                "message_id": message, "message_type": "survey.requested", "template_version": 1, "locale": "ja", "recipient_key": target,
                "recipient_role": "guardian", "class": "optional", "channels": ["push"], "collapse_key": null, "deadline": null,
                "cause_event_id": cause,
            }));
            city.event(
                "message.delivered",
                at("2026-06-01", "09:01"),
                json!({"message_id": message, "channel": "push", "latency_ms": 1}),
            );
        }
    }
    let mut person = 0;
    for (scale, n) in SCALE {
        for _ in 0..n {
            person += 1;
            let who = (!anonymous).then_some(person);
            let ward = if person <= 3 { "271022" } else { "271021" };
            if person == 1 {
                // A first answer that is taken back later must not count.
                answer(&mut city, who, &format!("t-{person}"), at("2026-06-02", "09:00"), 1, ward, 1, 2);
            }
            answer(&mut city, who, &format!("t-{person}"), at("2026-06-03", "09:00"), 2, ward, scale, 1 + person % 2);
        }
    }
    city.event("survey.closed", at("2026-06-10", "00:00"), json!({"survey_id": "v-1", "answer_count": 50}));
    answer(&mut city, Some(199), "late", at("2026-06-10", "09:00"), 1, "271021", 1, 1);
    let mut coupon = Coupon::new("c-1", 1, "set-1");
    coupon.distribute(&mut city, at("2026-05-01", "09:00"), 1_000);
    coupon.spend(&mut city, at("2026-05-02", "09:00"), "u-1", 100, "service", ("short_stay", "f-1"));
    city
}

fn find<'a>(rows: &'a [Row], wanted: &[(&str, Value)]) -> &'a Row {
    rows.iter()
        .find(|row| wanted.iter().all(|(name, value)| &row[*name] == value))
        .unwrap_or_else(|| panic!("no row {wanted:?}"))
}

#[tokio::test]
async fn the_reference_survey_gives_the_reference_figures() {
    let lake = Fixture::new(&[&city(false)]).await;
    describe(&lake, false).await;
    let rows = lake.figures(R04, "2026-06-01", "2026-06-30", "").await;
    let item = |name: &str| find(&rows, &[("item", json!(name))]);
    check(item("targets"), json!({"count": 200, "title": "満足度調査"}));
    check(item("delivered"), json!({"count": 150}));
    check(item("answers"), json!({"count": 50}));
    check(item("response_rate"), json!({"share": 25.0}));
    check(item("top2_share"), json!({"count": 35, "base": 50, "share": 70.0}));
    check(find(&rows, &[("item", json!("mean")), ("question_no", json!(1))]), json!({"value": 4.0}));
    for (value, n) in [(5, 20), (4, 15), (3, 10), (2, 5), (1, 0)] {
        check(find(&rows, &[("item", json!("value")), ("option_no", json!(value))]), json!({"count": n, "base": 50}));
    }
    check(find(&rows, &[("option", json!("=1+1"))]), json!({"count": 50, "share": 100.0}));
    check(item("non_empty"), json!({"count": 35, "base": 50}));
    check(find(&rows, &[("item", json!("median"))]), json!({"value": 6.0}));
    check(find(&rows, &[("item", json!("max"))]), json!({"value": 7.5}));
    check(find(&rows, &[("item", json!("mean")), ("question_no", json!(4))]), json!({"value": 6.0}));
    let alien = ReportRequest { survey_id: Some("v-2".to_owned()), ..request(R04, "2026-06-01", "2026-06-30", "") };
    assert!(crate::city::rows(&lake.engine.report(&alien).await.unwrap()).is_empty());
}

#[tokio::test]
async fn an_authority_sees_neither_small_groups_nor_one_persons_answer() {
    let lake = Fixture::new(&[&city(false)]).await;
    describe(&lake, false).await;
    let made = aggregate(&lake.report(R04, "2026-06-01", "2026-06-30", "").await.unwrap());
    let names: Vec<&str> = made.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(
        names,
        ["title", "item", "question_no", "question", "option_no", "option", "count", "share", "base", "value"]
    );
    let named = |row: &Vec<Value>| -> Row {
        names.iter().zip(row).map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    let rows: Vec<Row> = made.rows.iter().map(named).collect();
    let step = |value: i64| find(&rows, &[("item", json!("value")), ("option_no", json!(value))]);
    check(step(2), json!({"count": 5, "share": 10.0, "base": 50}));
    check(step(1), json!({"count": "*", "share": "*", "base": 50}));
    check(find(&rows, &[("item", json!("mean")), ("question_no", json!(4))]), json!({"value": 6.0}));
    assert!(rows.iter().all(|row| !["min", "max", "median"].contains(&row["item"].as_str().unwrap())), "{rows:?}");
}

#[tokio::test]
async fn answers_add_up_to_the_figures() {
    let lake = Fixture::new(&[&city(false)]).await;
    describe(&lake, false).await;
    let figures = lake.figures(R04, "2026-06-01", "2026-06-30", "ward_code,programme_code").await;
    let answers = lake.underlying(R04, "2026-06-01", "2026-06-30", "answers").await;
    let targets = lake.underlying(R04, "2026-06-01", "2026-06-30", "targets").await;
    assert_eq!(targets.len(), 200);
    assert_eq!(targets.iter().filter(|row| !row["delivered_at"].is_null()).count(), 150);
    for line in figures
        .iter()
        .filter(|row| row["item"] == "option" || row["item"] == "cross" && row["question_kind"] == "multiple")
    {
        let placed = |row: &&Row| match line["dimension"].as_str() {
            None => true,
            Some("ward_code") => row["ward_code"] == line["dimension_value"],
            Some(_) => row["programmes"].as_str().unwrap_or("none") == line["dimension_value"],
        };
        let n = answers
            .iter()
            .filter(placed)
            .filter(|row| row["question_no"] == line["question_no"] && row["option_no"] == line["option_no"])
            .count();
        assert_eq!(line["count"], json!(n), "{line:?}");
    }
    let cross = find(
        &figures,
        &[("dimension", json!("programme_code")), ("dimension_value", json!("short_stay")), ("option", json!("=1+1"))],
    );
    check(cross, json!({"count": 1, "base": 1, "share": 100.0}));
}

#[tokio::test]
async fn small_cells_of_anonymous_surveys_are_masked() {
    let lake = Fixture::new(&[&city(true)]).await;
    describe(&lake, true).await;
    let table = lake.report(R04, "2026-06-01", "2026-06-30", "ward_code,programme_code").await.unwrap();
    let figures = rows(&table);
    let cross: Vec<&Row> = figures.iter().filter(|row| row["item"] == "cross").collect();
    assert!(cross.iter().all(|row| row["dimension"] == "ward_code"), "programmes are not known of nobody");
    for row in &cross {
        let hidden = row["count"] == "*";
        assert_eq!(hidden, row["masked"] == json!(true));
        assert!(hidden || row["count"].as_i64().unwrap() >= 5, "{row:?}");
    }
    let small =
        find(&figures, &[("dimension_value", json!("271022")), ("option_no", json!(3)), ("question_no", json!(2))]);
    check(small, json!({"count": "*", "share": "*", "base": "*"}));
    check(find(&figures, &[("item", json!("value")), ("option_no", json!(1))]), json!({"count": 0}));
    let csv = String::from_utf8(format::report_bytes(&table, Format::Csv).unwrap()).unwrap();
    assert!(csv.contains(",'=1+1,*,*,*,"), "masked, and a formula made harmless");
    let answers = lake.underlying(R04, "2026-06-01", "2026-06-30", "answers").await;
    assert!(
        answers.iter().all(|row| row.values().all(|value| !value.to_string().contains("t-"))),
        "no ticket, no person"
    );
}
