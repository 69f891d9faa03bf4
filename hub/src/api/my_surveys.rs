//! Surveys, for those who are asked.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_domain::survey::AnswerItem;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body, all, path_id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(answer))
}

#[utoipa::path(get, path = "/v1/my/surveys", tag = "surveys", responses((status = 200, description = "those that can be answered now, and those answered")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(all(app.workflow.own_surveys(&caller.actor, app.now()).await?)))
}

#[utoipa::path(get, path = "/v1/my/surveys/{survey_id}", tag = "surveys", params(("survey_id" = String, Path)),
    responses((status = 200, description = "with the caller's answer, if there is one")))]
async fn read(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.own_survey(&caller.actor, path_id(&id)?, app.now()).await?)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct AnswerBody {
    /// Items {question_no, options?, number?, text?}
    #[schema(value_type = Vec<Value>)]
    answers: Vec<AnswerItem>,
}

#[utoipa::path(put, path = "/v1/my/surveys/{survey_id}/answer", tag = "surveys", params(("survey_id" = String, Path)), request_body = AnswerBody, responses(
    (status = 200, description = "kept; it can be changed until the close"), (status = 409, description = "closed"), (status = 422, description = "questions to correct")))]
async fn answer(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<AnswerBody>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.answer_survey(&caller.actor, path_id(&id)?, body.answers, app.now()).await?)))
}
