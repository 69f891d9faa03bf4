//! Parameters with effective dates.

use axum::{Json, extract::State, http::StatusCode};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body, IfMatch, all, id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(set))
}

#[utoipa::path(get, path = "/v1/parameters", tag = "parameters", responses((status = 200, description = "values in force and the next ones")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(all(app.workflow.parameters(&caller.actor, app.now()).await?)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct ValueBody {
    value: String,
    /// `YYYY-MM-DD`, today by default
    effective_from: Option<String>,
}

#[utoipa::path(put, path = "/v1/parameters/{name}", tag = "parameters", request_body = ValueBody, params(("name" = String, Path)),
    responses((status = 204, description = "holds from its day on"), (status = 409, description = "`If-Match` names another version")))]
async fn set(
    State(app): State<AppState>,
    caller: Caller,
    At(name): At<String>,
    IfMatch(version): IfMatch,
    Body(body): Body<ValueBody>,
) -> Result<StatusCode, Problem> {
    let from = match body.effective_from.filter(|day| !day.is_empty()) {
        Some(day) => Some(id::<Date>("effective_from", &day)?),
        None => None,
    };
    app.workflow.set_parameter(&caller.actor, &name, &body.value, from, version.as_deref(), app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
