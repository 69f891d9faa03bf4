//! Figures of municipalities for the authorities above them (N-SEC-10): whole months, small cells masked, no rows.

use axum::{Json, extract::State};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_analytics::{
    AGGREGATES, ClaimsOf, Dimension, ErrorKind, PERSONS_MIN, ReportColumn, ReportId, ReportRequest, RowsKind, aggregate,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{Asked, At, id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(catalogue)).routes(routes!(run))
}

#[utoipa::path(get, path = "/v1/aggregates", tag = "reports",
    responses((status = 200, description = "which figures there are, and of which municipalities; prefecture and state only")))]
async fn catalogue(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let overseen = app.workflow.overseen(&caller.actor).await?;
    let reports = AGGREGATES.map(|report| {
        let by_month = report.dimensions().contains(&Dimension::Month);
        json!({ "report_id": report.as_str(), "title": report.title(), "by_month": by_month })
    });
    let municipalities: Vec<Value> = overseen
        .iter()
        .map(|place| json!({ "municipality_code": place.municipality_code, "name": place.name }))
        .collect();
    Ok(Json(json!({ "reports": reports, "municipalities": municipalities, "persons_min": PERSONS_MIN })))
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct Query {
    /// First month, `YYYY-MM`. Days are not offered: two periods a day apart would tell that day's few persons
    from: String,
    /// Last month, `YYYY-MM`, included
    to: String,
    /// A line for each month
    by_month: bool,
    /// One municipality; all by default
    municipality_code: Option<String>,
}

#[utoipa::path(get, path = "/v1/aggregates/{report_id}", tag = "reports", params(("report_id" = String, Path), Query),
    responses((status = 200, description = "lines by municipality, `*` where fewer than 5 persons are behind a figure; `missing` names municipalities whose check line does not hold"),
        (status = 403, description = "not prefecture or state"), (status = 404, description = "not a municipality below the caller's authority")))]
async fn run(
    State(app): State<AppState>,
    caller: Caller,
    At(report): At<String>,
    Asked(query): Asked<Query>,
) -> Result<Json<Value>, Problem> {
    let mut overseen = app.workflow.overseen(&caller.actor).await?;
    let report = report.parse::<ReportId>()?;
    if !AGGREGATES.contains(&report) {
        return Err(Problem::denied());
    }
    if let Some(code) = query.municipality_code.as_deref().filter(|code| !code.is_empty()) {
        overseen.retain(|place| place.municipality_code.as_str() == code);
        if overseen.is_empty() {
            return Err(Problem::not_found("municipality"));
        }
    }
    let by = if query.by_month { vec![Dimension::Month] } else { Vec::new() };
    let (from, to) = (first_day("from", &query.from)?, first_day("to", &query.to)?.last_of_month());
    let mut columns = [("municipality_code", "団体コード"), ("municipality", "市区町村")]
        .map(|(name, label)| ReportColumn { name: name.to_owned(), label: label.to_owned() })
        .to_vec();
    let n_own = columns.len();
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for place in overseen {
        let code = place.municipality_code;
        let request = ReportRequest {
            report,
            municipality: code.clone(),
            from,
            to,
            by: by.clone(),
            rows: RowsKind::Figures,
            survey_id: None,
            coupon_set_id: None,
            claims: ClaimsOf::Municipality,
            created_at: app.now(),
        };
        let made = match app.engine.report(&request).await {
            Ok(table) => aggregate(&table),
            // One town whose ledger is off must not keep the figures of the others back.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                missing.push(place.name);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        app.workflow.note_oversight(&caller.actor, &code, made.rows.len(), app.now()).await?;
        columns.truncate(n_own);
        columns.extend(made.columns);
        let whose = [json!(code), json!(place.name)];
        rows.extend(made.rows.into_iter().map(|row| [whose.to_vec(), row].concat()));
    }
    Ok(Json(json!({
        "report_id": report.as_str(),
        "title": report.title(),
        "columns": columns,
        "rows": rows,
        "missing": missing,
    })))
}

/// The first day of a month written as `YYYY-MM`.
fn first_day(field: &str, month: &str) -> Result<Date, Problem> {
    id(field, &format!("{}-01", month.trim()))
}
