//! Saved segments, and a look at whom a definition selects.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_domain::{
    broadcast::BroadcastKind,
    segment::{Condition, People},
};
use todoke_workflow::segment::SegmentDraft;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body, all, path_id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(change, remove)).routes(routes!(preview))
}

#[derive(Debug, Deserialize, ToSchema)]
struct SegmentBody {
    /// Unique in the municipality
    name: String,
    /// `guardians`, or `households` for their proxies too
    #[serde(default)]
    #[schema(value_type = String)]
    people: People,
    /// Tree of conditions by `kind`: groups `all`, `any`, `not` over `of`; `ward`, `child_age_months`, `child_class_age`,
    /// `child_count`, `programme_used`, `facility_used`, `coupon_state`, `coupon_balance`, `application_state`, `topic`,
    /// `inactive`, `survey_answered`
    #[serde(default = "Condition::everybody")]
    #[schema(value_type = Value)]
    when: Condition,
}

#[derive(Debug, Deserialize, ToSchema)]
struct PreviewBody {
    /// `guardians`, or `households` for their proxies too
    #[serde(default)]
    #[schema(value_type = String)]
    people: People,
    /// As in `POST /v1/segments`
    #[serde(default = "Condition::everybody")]
    #[schema(value_type = Value)]
    when: Condition,
    /// `segment`, `event` or `emergency`: what is counted is who would get such a broadcast by push and by mail
    #[serde(default = "ordinary")]
    #[schema(value_type = String)]
    kind: BroadcastKind,
}

const fn ordinary() -> BroadcastKind {
    BroadcastKind::Segment
}

#[utoipa::path(get, path = "/v1/segments", tag = "broadcasts", responses((status = 200, description = "by name")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(all(app.workflow.segments(&caller.actor).await?)))
}

#[utoipa::path(post, path = "/v1/segments", tag = "broadcasts", request_body = SegmentBody,
    responses((status = 201, description = "saved"), (status = 422, description = "fields to correct, or the name is taken")))]
async fn create(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<SegmentBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let draft = SegmentDraft { people: body.people, when: body.when };
    let segment = app.workflow.create_segment(&caller.actor, &body.name, draft, app.now()).await?;
    Ok((StatusCode::CREATED, Json(json!(segment))))
}

#[utoipa::path(put, path = "/v1/segments/{segment_id}", tag = "broadcasts", params(("segment_id" = String, Path)), request_body = SegmentBody,
    responses((status = 200, description = "changed; what was made from it before keeps the old definition")))]
async fn change(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<SegmentBody>,
) -> Result<Json<Value>, Problem> {
    let draft = SegmentDraft { people: body.people, when: body.when };
    let segment = app.workflow.update_segment(&caller.actor, path_id(&id)?, &body.name, draft, app.now()).await?;
    Ok(Json(json!(segment)))
}

#[utoipa::path(delete, path = "/v1/segments/{segment_id}", tag = "broadcasts", params(("segment_id" = String, Path)),
    responses((status = 204, description = "deleted; what was made from it stays")))]
async fn remove(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<StatusCode, Problem> {
    app.workflow.delete_segment(&caller.actor, path_id(&id)?, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/v1/segments/preview", tag = "broadcasts", request_body = PreviewBody,
    responses((status = 200, description = "count, count per channel, and up to 10 people without names")))]
async fn preview(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<PreviewBody>,
) -> Result<Json<Value>, Problem> {
    let draft = SegmentDraft { people: body.people, when: body.when };
    Ok(Json(json!(app.workflow.preview_segment(&caller.actor, draft, body.kind, app.now()).await?)))
}
