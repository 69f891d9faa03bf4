//! Notices.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};
use todoke_workflow::notice::NoticeDraft;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body, all, path_id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, publish)).routes(routes!(withdraw))
}

#[utoipa::path(get, path = "/v1/notices", tag = "notices",
    responses((status = 200, description = "for those who publish all of them, for others those that stand now")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(all(app.workflow.notices(&caller.actor, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/notices", tag = "notices", request_body(content = Value, description = "title, body, audience, valid_from, valid_to, push"),
    responses((status = 201, description = "published; its audience is told on its first day"), (status = 422, description = "fields to correct")))]
async fn publish(
    State(app): State<AppState>,
    caller: Caller,
    Body(draft): Body<NoticeDraft>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let notice = app.workflow.publish_notice(&caller.actor, draft, app.now()).await?;
    Ok((StatusCode::CREATED, Json(json!(notice))))
}

#[utoipa::path(delete, path = "/v1/notices/{notice_id}", tag = "notices", params(("notice_id" = String, Path)),
    responses((status = 204, description = "nobody sees it any more")))]
async fn withdraw(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<StatusCode, Problem> {
    app.workflow.withdraw_notice(&caller.actor, path_id(&id)?, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
