//! Surveys, for those who send them and read their results.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_workflow::survey::{Conditions, SurveyDraft};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body, IfMatch, all, path_id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, change))
        .routes(routes!(audience))
        .routes(routes!(schedule))
        .routes(routes!(close))
        .routes(routes!(aggregate))
        .routes(routes!(present))
        .routes(routes!(results))
}

#[utoipa::path(get, path = "/v1/surveys", tag = "surveys", responses((status = 200, description = "newest first")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(all(app.workflow.surveys(&caller.actor).await?)))
}

#[utoipa::path(post, path = "/v1/surveys", tag = "surveys", request_body(content = Value, description = "title, text, anonymous, opens_at, closes_at, minutes_needed, questions"),
    responses((status = 201, description = "a draft"), (status = 422, description = "fields to correct")))]
async fn create(
    State(app): State<AppState>,
    caller: Caller,
    Body(draft): Body<SurveyDraft>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let survey = app.workflow.create_survey(&caller.actor, draft, app.now()).await?;
    Ok((StatusCode::CREATED, Json(json!(survey))))
}

#[utoipa::path(get, path = "/v1/surveys/{survey_id}", tag = "surveys", params(("survey_id" = String, Path)),
    responses((status = 200, description = "with questions, audience and the count of answers")))]
async fn read(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.survey(&caller.actor, path_id(&id)?).await?)))
}

#[utoipa::path(put, path = "/v1/surveys/{survey_id}", tag = "surveys", params(("survey_id" = String, Path)), request_body = Value,
    responses((status = 200, description = "changed"), (status = 409, description = "no longer a draft, or `If-Match` names another version")))]
async fn change(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    IfMatch(version): IfMatch,
    Body(draft): Body<SurveyDraft>,
) -> Result<Json<Value>, Problem> {
    let id = path_id(&id)?;
    Ok(Json(json!(app.workflow.update_survey(&caller.actor, id, draft, version.as_deref(), app.now()).await?)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct AudienceBody {
    /// All that are given must hold
    #[serde(default)]
    #[schema(value_type = Value)]
    conditions: Conditions,
    /// Keep them as the audience; otherwise only count
    #[serde(default)]
    save: bool,
}

#[utoipa::path(post, path = "/v1/surveys/{survey_id}/audience", tag = "surveys", params(("survey_id" = String, Path)), request_body = AudienceBody,
    responses((status = 200, description = "how many people meet the conditions")))]
async fn audience(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<AudienceBody>,
) -> Result<Json<Value>, Problem> {
    let targets =
        app.workflow.survey_audience(&caller.actor, path_id(&id)?, body.conditions, body.save, app.now()).await?;
    Ok(Json(json!({ "targets": targets })))
}

#[utoipa::path(post, path = "/v1/surveys/{survey_id}/schedule", tag = "surveys", params(("survey_id" = String, Path)),
    responses((status = 200, description = "goes out at its time"), (status = 409, description = "no audience, or no longer a draft")))]
async fn schedule(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.schedule_survey(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/surveys/{survey_id}/close", tag = "surveys", params(("survey_id" = String, Path)),
    responses((status = 200, description = "takes no more answers")))]
async fn close(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.close_survey(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/surveys/{survey_id}/aggregate", tag = "surveys", params(("survey_id" = String, Path)),
    responses((status = 200, description = "counted; the operator is told")))]
async fn aggregate(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.aggregate_survey(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/surveys/{survey_id}/present", tag = "surveys", params(("survey_id" = String, Path)),
    responses((status = 200, description = "the city may read the results and is told")))]
async fn present(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.present_survey(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[utoipa::path(get, path = "/v1/surveys/{survey_id}/results", tag = "surveys", params(("survey_id" = String, Path)),
    responses((status = 200, description = "figures per question; free answers for the operator only")))]
async fn results(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.survey_results(&caller.actor, path_id(&id)?).await?)))
}
