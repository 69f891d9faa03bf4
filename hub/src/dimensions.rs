//! Facilities, programmes, coupon sets and surveys, copied into the lake for reports and SQL: no names of people.

use std::{collections::HashMap, sync::Arc, time::Duration};

use todoke_analytics::reference::{self, CouponSetRow, FacilityRow, ProgrammeRow, QuestionRow, SurveyRow};
use todoke_lake::{Dimension, Lake};
use todoke_store::{Store, Wall};
use tokio_util::sync::CancellationToken;

/// A change shows in reports after at most this long. Writing what has not changed costs nothing.
const EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Rows {
    facilities: Vec<FacilityRow>,
    programmes: Vec<ProgrammeRow>,
    coupon_sets: Vec<CouponSetRow>,
    surveys: Vec<SurveyRow>,
    questions: Vec<QuestionRow>,
}

/// Copies until stopped.
pub async fn run(store: Store, lake: Arc<Lake>, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        if let Err(error) = copy(&store, &lake).await {
            tracing::warn!(error = format!("{error:#}"), "dimensions of the lake are behind");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Copies once.
pub async fn copy(store: &Store, lake: &Lake) -> anyhow::Result<()> {
    let rows = read(store).await?;
    lake.write_dimension(Dimension::Facilities, &reference::facilities(&rows.facilities)?).await?;
    lake.write_dimension(Dimension::Programmes, &reference::programmes(&rows.programmes)?).await?;
    lake.write_dimension(Dimension::CouponSets, &reference::coupon_sets(&rows.coupon_sets)?).await?;
    lake.write_dimension(Dimension::Surveys, &reference::surveys(&rows.surveys)?).await?;
    lake.write_dimension(Dimension::SurveyQuestions, &reference::survey_questions(&rows.questions)?).await?;
    Ok(())
}

async fn read(store: &Store) -> anyhow::Result<Rows> {
    let mut tx = store.begin_read(Wall::None).await?;
    let mut rows = Rows::default();
    for municipality in tx.municipalities().await? {
        let code = municipality.municipality_code;
        let mut offered: HashMap<String, Vec<String>> = HashMap::new();
        for (facility, programme) in tx.facility_programmes(&code).await? {
            offered.entry(facility).or_default().push(programme);
        }
        rows.facilities.extend(tx.facilities(&code).await?.into_iter().map(|row| FacilityRow {
            municipality_code: code.clone(),
            programme_codes: offered.remove(&row.facility_id.to_string()).unwrap_or_default(),
            facility_id: row.facility_id.to_string(),
            facility_no: Some(row.facility_no),
            name: row.name,
            ward_code: Some(row.ward_code),
            provider_kind: None,
            is_public: row.is_public,
        }));
        for row in tx.programmes(&code).await? {
            if rows.programmes.iter().all(|known| known.programme_code != row.programme_code) {
                rows.programmes.push(ProgrammeRow { programme_code: row.programme_code, name: row.name });
            }
        }
        rows.coupon_sets.extend(tx.coupon_sets(&code).await?.into_iter().map(|set| CouponSetRow {
            municipality_code: code.clone(),
            coupon_set_id: set.coupon_set_id.to_string(),
            title: set.title,
            coupon_kind: "yen".to_owned(),
        }));
        for survey in tx.surveys(&code).await? {
            let survey_id = survey.survey_id.to_string();
            rows.questions.extend(survey.questions.iter().map(|question| QuestionRow {
                municipality_code: code.clone(),
                survey_id: survey_id.clone(),
                question_id: question.question_no.to_string(),
                question_no: i32::try_from(question.question_no).unwrap_or(i32::MAX),
                kind: kind_code(question.kind).to_owned(),
                text: question.text.clone(),
                options: question.options.clone(),
                required: question.required,
                min: question.min,
                max: question.max,
                kpi: question.kpi.clone(),
            }));
            rows.surveys.push(SurveyRow {
                municipality_code: code.clone(),
                survey_id,
                title: survey.title,
                anonymous: survey.anonymous,
                opens_at: Some(survey.opens_at),
                closes_at: Some(survey.closes_at),
                state: survey.state,
            });
        }
    }
    Ok(rows)
}

const fn kind_code(kind: todoke_domain::survey::QuestionKind) -> &'static str {
    use todoke_domain::survey::QuestionKind as K;
    match kind {
        K::Single => "single",
        K::Multiple => "multiple",
        K::Scale => "scale",
        K::Number => "number",
        K::Text => "text",
    }
}
