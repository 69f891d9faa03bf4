//! The city's board, and what it asks the operator to do.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use todoke_workflow::municipality::RequestDraft;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body, all, path_id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(summary))
        .routes(routes!(requests, ask))
        .routes(routes!(execute))
        .routes(routes!(decline))
        .routes(routes!(withdraw))
}

#[utoipa::path(get, path = "/v1/city/summary", tag = "city", responses((status = 200, description = "applications by state, uses of day and month")))]
async fn summary(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let board = app.workflow.board(&caller.actor, app.now()).await?;
    let counts: Map<String, Value> = board.applications.into_iter().map(|(state, n)| (state, Value::from(n))).collect();
    let recent: Vec<Value> = board.recent.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    Ok(Json(json!({
        "unmatched": counts.get("matching"),
        "applications": counts,
        "uses_today": { "n": board.today.n, "yen": board.today.yen },
        "uses_month": { "n": board.month.n, "yen": board.month.yen },
        "guardians": board.register.guardians,
        "children": board.register.children,
        "coupons_active": board.register.coupons_active,
        "balance_total_yen": board.register.balance_total_yen,
        "surveys_open": board.register.surveys_open,
        "recent": recent,
    })))
}

#[utoipa::path(get, path = "/v1/city-requests", tag = "city", responses((status = 200, description = "open ones first; city and operator see the same")))]
async fn requests(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(all(app.workflow.city_requests(&caller.actor).await?)))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct RequestBody {
    /// `revoke_decision`, `suspend` or `resume`
    kind: String,
    /// For `revoke_decision`
    application_id: Option<String>,
    /// For `suspend` and `resume`
    guardian_id: Option<String>,
    reason_code: String,
    /// Needed for `other`
    reason_text: Option<String>,
}

#[utoipa::path(post, path = "/v1/city-requests", tag = "city", request_body = RequestBody,
    responses((status = 201, description = "the operator sees it at once"), (status = 409, description = "asked for already, or nothing to do")))]
async fn ask(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<RequestBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let draft = RequestDraft {
        kind: body.kind,
        application_id: body.application_id,
        guardian_id: body.guardian_id,
        reason_code: body.reason_code,
        reason_text: body.reason_text,
    };
    let view = app.workflow.ask_operator(&caller.actor, &draft, app.now()).await?;
    Ok((StatusCode::CREATED, Json(json!(view))))
}

#[utoipa::path(post, path = "/v1/city-requests/{request_id}/execute", tag = "city", params(("request_id" = String, Path)),
    responses((status = 200, description = "done and settled in one step"), (status = 409, description = "settled before, or not possible any more")))]
async fn execute(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.execute_request(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct DeclineBody {
    note: String,
}

#[utoipa::path(post, path = "/v1/city-requests/{request_id}/decline", tag = "city", request_body = DeclineBody, params(("request_id" = String, Path)),
    responses((status = 200, description = "given back with the operator's words"), (status = 409, description = "settled before")))]
async fn decline(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<DeclineBody>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.decline_request(&caller.actor, path_id(&id)?, &body.note, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/city-requests/{request_id}/withdraw", tag = "city", params(("request_id" = String, Path)),
    responses((status = 200, description = "taken back by the city"), (status = 409, description = "settled before")))]
async fn withdraw(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.withdraw_request(&caller.actor, path_id(&id)?, app.now()).await?)))
}
