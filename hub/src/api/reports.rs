//! Reports over HTTP: JSON, CSV, Parquet.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_analytics::{ClaimsOf, Dimension, Format, ReportId, ReportRequest, RowsKind, format};
use todoke_domain::role::Permission;
use todoke_workflow::{Actor, audit::Access, claim::Scope};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(catalogue)).routes(routes!(run))
}

#[utoipa::path(get, path = "/v1/reports", tag = "reports", responses((status = 200, description = "reports with dimensions and their SQL")))]
async fn catalogue(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let is_offered = |id: ReportId| seen(&caller.actor, id).is_ok();
    let items: Vec<_> =
        app.engine.reports().iter().filter(|doc| doc.report_id.parse::<ReportId>().is_ok_and(is_offered)).collect();
    if items.is_empty() {
        return Err(Problem::denied());
    }
    Ok(Json(json!({ "items": items, "next": null })))
}

/// What the caller sees of a report: of R08 its own claims, of the others everything in the municipality.
///
/// Errors: the report is for others.
fn seen(actor: &Actor, report: ReportId) -> Result<ClaimsOf, Problem> {
    let permission = match report {
        ReportId::CouponClaim => {
            return Ok(match Scope::of(actor)? {
                Scope::Municipality => ClaimsOf::Municipality,
                Scope::Facility(own) => ClaimsOf::Facility(own),
                Scope::WithCity => ClaimsOf::WithCity,
            });
        }
        ReportId::AccessAudit => Permission::ReadAudit,
        ReportId::StatisticsSimple
        | ReportId::SurveyAggregate
        | ReportId::AppUsage
        | ReportId::MessageDelivery
        | ReportId::Kpi => Permission::RunReports,
    };
    actor.require(permission)?;
    Ok(ClaimsOf::Municipality)
}

/// Parameters of a report.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Query {
    /// First day, `YYYY-MM-DD`
    pub(super) from: String,
    /// Last day, `YYYY-MM-DD`
    pub(super) to: String,
    /// Dimensions, comma-separated
    pub(super) by: String,
    /// `true`, or the name of a row set: the underlying rows
    pub(super) rows: Option<String>,
    /// `json` (default), `csv` or `parquet`
    pub(super) format: Option<String>,
    pub(super) survey_id: Option<String>,
    pub(super) coupon_set_id: Option<String>,
}

#[utoipa::path(get, path = "/v1/reports/{report_id}", tag = "reports", params(("report_id" = String, Path), Query),
    responses((status = 200, description = "figures or their rows, with provenance"), (status = 409, description = "the check line does not hold")))]
async fn run(
    State(app): State<AppState>,
    caller: Caller,
    At(report): At<String>,
    Asked(query): Asked<Query>,
) -> Result<Response, Problem> {
    let report = report.parse::<ReportId>()?;
    let claims = seen(&caller.actor, report)?;
    let rows = match query.rows.as_deref() {
        None | Some("" | "false" | "0") => RowsKind::Figures,
        Some("true" | "1") => RowsKind::Underlying(None),
        Some(name) => RowsKind::Underlying(Some(name.to_owned())),
    };
    let request = ReportRequest {
        report,
        municipality: caller.actor.municipality_code.clone(),
        from: id("from", &query.from)?,
        to: id("to", &query.to)?,
        by: Dimension::parse_list(&query.by)?,
        rows,
        survey_id: query.survey_id.filter(|id| !id.is_empty()),
        coupon_set_id: query.coupon_set_id.filter(|id| !id.is_empty()),
        claims,
        created_at: app.now(),
    };
    let format = output(query.format.as_deref())?;
    let table = app.engine.report(&request).await?;
    if request.rows != RowsKind::Figures {
        let what = if format == Format::Json { Access::View } else { Access::Export };
        let n_rows = table.batches.iter().map(|batch| batch.num_rows()).sum();
        audited(&app, &caller, what, "report", n_rows).await?;
    }
    let bytes = format::report_bytes(&table, format).map_err(|error| Problem::internal(&error))?;
    Ok(file(bytes, format, &table.file_stem))
}

/// The asked form of an answer; JSON by default.
pub(super) fn output(raw: Option<&str>) -> Result<Format, Problem> {
    raw.filter(|name| !name.is_empty())
        .unwrap_or("json")
        .parse()
        .map_err(|_| Problem::invalid_field("format", "json、csv、parquet、arrow のいずれかを指定してください。"))
}

/// An answer in its form; everything but JSON is a file.
pub(super) fn file(bytes: Vec<u8>, format: Format, stem: &str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], bytes).into_response();
    if format != Format::Json {
        let name = format!("attachment; filename=\"{stem}.{}\"", format.extension());
        if let Ok(value) = name.parse() {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
        }
    }
    response
}
