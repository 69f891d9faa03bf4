//! Broadcasts, for those who write, release and follow them.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_workflow::broadcast::{BroadcastDraft, TRIALS_PER_MIN};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body, all, path_id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, change))
        .routes(routes!(try_out))
        .routes(routes!(submit))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(cancel))
        .routes(routes!(resends))
}

#[utoipa::path(get, path = "/v1/broadcasts", tag = "broadcasts",
    responses((status = 200, description = "newest first, with the counters last counted")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(all(app.workflow.broadcasts(&caller.actor).await?)))
}

#[utoipa::path(post, path = "/v1/broadcasts", tag = "broadcasts",
    request_body(content = Value, description = "kind, title, body, link, event_on, place, push, email, segment_id or segment, starts_at, pace_per_s, resend_after_min"),
    responses((status = 201, description = "a draft"), (status = 422, description = "fields to correct")))]
async fn create(
    State(app): State<AppState>,
    caller: Caller,
    Body(draft): Body<BroadcastDraft>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let broadcast = app.workflow.create_broadcast(&caller.actor, draft, app.now()).await?;
    Ok((StatusCode::CREATED, Json(json!(broadcast))))
}

#[utoipa::path(get, path = "/v1/broadcasts/{broadcast_id}", tag = "broadcasts", params(("broadcast_id" = String, Path)),
    responses((status = 200, description = "with its rounds, counted now")))]
async fn read(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.broadcast(&caller.actor, path_id(&id)?).await?)))
}

#[utoipa::path(put, path = "/v1/broadcasts/{broadcast_id}", tag = "broadcasts", params(("broadcast_id" = String, Path)), request_body = Value,
    responses((status = 200, description = "changed"), (status = 409, description = "no longer a draft")))]
async fn change(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    Body(draft): Body<BroadcastDraft>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.update_broadcast(&caller.actor, path_id(&id)?, draft, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/broadcasts/{broadcast_id}/test", tag = "broadcasts", params(("broadcast_id" = String, Path)),
    responses((status = 200, description = "sent to the caller alone, marked as a test: message_id, devices, email"), (status = 409, description = "it has begun"), (status = 429, description = "five a minute")))]
async fn try_out(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    let (id, now) = (path_id(&id)?, app.now());
    let key = format!("broadcast-test:{}", caller.actor.account()?);
    app.limiter.count(key, TRIALS_PER_MIN, now).map_err(Problem::rate_limited)?;
    Ok(Json(json!(app.workflow.try_broadcast(&caller.actor, id, now).await?)))
}

#[utoipa::path(post, path = "/v1/broadcasts/{broadcast_id}/submit", tag = "broadcasts", params(("broadcast_id" = String, Path)),
    responses((status = 200, description = "waits for its time, or for a second person"), (status = 409, description = "no longer a draft")))]
async fn submit(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.submit_broadcast(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/broadcasts/{broadcast_id}/approve", tag = "broadcasts", params(("broadcast_id" = String, Path)),
    responses((status = 200, description = "released"), (status = 409, description = "the caller wrote, changed or submitted it, or it does not wait for approval")))]
async fn approve(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.approve_broadcast(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct RejectBody {
    /// Why, for the author
    note: String,
}

#[utoipa::path(post, path = "/v1/broadcasts/{broadcast_id}/reject", tag = "broadcasts", params(("broadcast_id" = String, Path)), request_body = RejectBody,
    responses((status = 200, description = "a draft again"), (status = 409, description = "the caller wrote, changed or submitted it, or it does not wait for approval")))]
async fn reject(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<RejectBody>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.reject_broadcast(&caller.actor, path_id(&id)?, &body.note, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/broadcasts/{broadcast_id}/pause", tag = "broadcasts", params(("broadcast_id" = String, Path)),
    responses((status = 200, description = "nothing more goes out for now, also of what is queued; `under_way` people had theirs at a provider already"), (status = 409, description = "nothing of it is left, or it is not under way")))]
async fn pause(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.pause_broadcast(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/broadcasts/{broadcast_id}/resume", tag = "broadcasts", params(("broadcast_id" = String, Path)),
    responses((status = 200, description = "goes on where it was; in the night push waits for the morning")))]
async fn resume(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.resume_broadcast(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/broadcasts/{broadcast_id}/cancel", tag = "broadcasts", params(("broadcast_id" = String, Path)),
    responses((status = 200, description = "ended; what went out stays, what is queued is suppressed; `under_way` people had theirs at a provider already"), (status = 409, description = "nothing of it is left")))]
async fn cancel(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.cancel_broadcast(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct ResendBody {
    /// Any of 15, 30 and 60; a time that has passed means now, an empty list takes back what waits
    after_min: Vec<u32>,
}

#[utoipa::path(put, path = "/v1/broadcasts/{broadcast_id}/resends", tag = "broadcasts", params(("broadcast_id" = String, Path)), request_body = ResendBody,
    responses((status = 200, description = "goes again to those who have not read it, minutes after its start")))]
async fn resends(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ResendBody>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.plan_resends(&caller.actor, path_id(&id)?, &body.after_min, app.now()).await?)))
}
