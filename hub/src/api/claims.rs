//! Coupon claims: what facilities claim, and its way to the city.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_domain::{claim::ClaimState, ids::ClaimId};
use todoke_workflow::{
    audit::Access,
    claim::{ClaimQuery, claim_csv, line_csv},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, Body, all, id, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read))
        .routes(routes!(lines))
        .routes(routes!(submit))
        .routes(routes!(receive))
        .routes(routes!(send_back))
        .routes(routes!(forward))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// `YYYY-MM`; all months by default
    month: Option<String>,
    /// Code of the state
    state: Option<String>,
    /// `csv` for a file
    format: Option<String>,
}

/// The first day of a month.
fn month(raw: &str) -> Result<Date, Problem> {
    format!("{raw}-01").parse().map_err(|_| Problem::invalid_field("month", "YYYY-MM の形式で指定してください。"))
}

/// The ids of a list in a body.
pub(super) fn claim_ids(raw: &[String]) -> Result<Vec<ClaimId>, Problem> {
    raw.iter().map(|text| id("claim_ids", text)).collect()
}

fn csv(name: &str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, text).into_response()
}

#[utoipa::path(get, path = "/v1/claims", tag = "claims", params(Query),
    responses((status = 200, description = "newest month first: the own facility's, the operator's all, the city's forwarded ones; JSON or CSV (O06)")))]
async fn list(State(app): State<AppState>, caller: Caller, Asked(query): Asked<Query>) -> Result<Response, Problem> {
    let month = query.month.as_deref().filter(|text| !text.is_empty()).map(month).transpose()?;
    let state = match query.state.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => Some(
            ClaimState::parse(text).ok_or_else(|| Problem::invalid_field("state", "状態の指定が正しくありません。"))?,
        ),
        None => None,
    };
    let claims = app.workflow.claims(&caller.actor, ClaimQuery { month, state }).await?;
    let is_file = query.format.as_deref() == Some("csv");
    audited(&app, &caller, if is_file { Access::Export } else { Access::View }, "claim", claims.len()).await?;
    if is_file {
        return Ok(csv("claims.csv", claim_csv(&claims)));
    }
    Ok(Json(all(claims)).into_response())
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct CreateBody {
    programme_code: String,
    /// `YYYY-MM`, at the latest the present one
    month: String,
}

#[utoipa::path(post, path = "/v1/claims", tag = "claims", request_body = CreateBody,
    responses((status = 200, description = "computed from the uses; again as long as it is not handed in"),
        (status = 409, description = "handed in already, or nothing to claim")))]
async fn create(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<CreateBody>,
) -> Result<Json<Value>, Problem> {
    let month = month(&body.month)?;
    Ok(Json(json!(app.workflow.create_claim(&caller.actor, &body.programme_code, month, app.now()).await?)))
}

#[utoipa::path(get, path = "/v1/claims/{claim_id}", tag = "claims", params(("claim_id" = String, Path)),
    responses((status = 200, description = "one claim with its uses and reversals, which add up to it")))]
async fn read(State(app): State<AppState>, caller: Caller, At(claim): At<String>) -> Result<Json<Value>, Problem> {
    let (claim, lines) = app.workflow.claim(&caller.actor, path_id(&claim)?).await?;
    audited(&app, &caller, Access::View, "claim_line", lines.len()).await?;
    Ok(Json(json!({ "claim": claim, "lines": lines })))
}

#[utoipa::path(get, path = "/v1/claims/{claim_id}/lines.csv", tag = "claims", params(("claim_id" = String, Path)),
    responses((status = 200, description = "the uses and reversals of a claim", content_type = "text/csv")))]
async fn lines(State(app): State<AppState>, caller: Caller, At(claim): At<String>) -> Result<Response, Problem> {
    let (claim, lines) = app.workflow.claim(&caller.actor, path_id(&claim)?).await?;
    audited(&app, &caller, Access::Export, "claim_line", lines.len()).await?;
    Ok(csv(&format!("claim_{}.csv", claim.claim_no), line_csv(&claim, &lines)))
}

#[utoipa::path(post, path = "/v1/claims/{claim_id}/submit", tag = "claims", params(("claim_id" = String, Path)),
    responses((status = 200, description = "handed in; the operator sees it at once"), (status = 409, description = "handed in before")))]
async fn submit(State(app): State<AppState>, caller: Caller, At(claim): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.submit_claim(&caller.actor, path_id(&claim)?, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/claims/{claim_id}/receive", tag = "claims", params(("claim_id" = String, Path)),
    responses((status = 200, description = "taken by the operator"), (status = 409, description = "not handed in, or taken before")))]
async fn receive(State(app): State<AppState>, caller: Caller, At(claim): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.receive_claim(&caller.actor, path_id(&claim)?, app.now()).await?)))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct SendBackBody {
    /// `amount_mismatch`, `content_mismatch`, `city_request` or `other`
    reason_code: String,
    /// Needed for `other`
    reason_text: Option<String>,
}

#[utoipa::path(post, path = "/v1/claims/{claim_id}/send-back", tag = "claims", request_body = SendBackBody, params(("claim_id" = String, Path)),
    responses((status = 200, description = "open at the facility again"), (status = 409, description = "its payment was ordered")))]
async fn send_back(
    State(app): State<AppState>,
    caller: Caller,
    At(claim): At<String>,
    Body(body): Body<SendBackBody>,
) -> Result<Json<Value>, Problem> {
    let reason_text = body.reason_text.as_deref();
    let view = app
        .workflow
        .send_back_claim(&caller.actor, path_id(&claim)?, &body.reason_code, reason_text, app.now())
        .await?;
    Ok(Json(json!(view)))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct ForwardBody {
    claim_ids: Vec<String>,
}

#[utoipa::path(post, path = "/v1/claims/forward", tag = "claims", request_body = ForwardBody,
    responses((status = 200, description = "all are with the city, which is told once for each month"), (status = 409, description = "one is not received: none was forwarded")))]
async fn forward(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<ForwardBody>,
) -> Result<Json<Value>, Problem> {
    let ids = claim_ids(&body.claim_ids)?;
    Ok(Json(all(app.workflow.forward_claims(&caller.actor, ids, app.now()).await?)))
}
