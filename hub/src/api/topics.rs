//! The caller's topics of interest.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_domain::topic::Topic;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{Body, all};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read, choose))
}

#[utoipa::path(get, path = "/v1/me/topics", tag = "me",
    responses((status = 200, description = "every topic with its label, and whether the caller chose it")))]
async fn read(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let chosen = app.workflow.topics(&caller.actor).await?;
    let topics = Topic::ALL
        .map(|topic| json!({ "topic": topic, "label": topic.label(), "chosen": chosen.contains(&topic) }))
        .to_vec();
    Ok(Json(all(topics)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct TopicsBody {
    /// All that are wanted; the others are no longer
    #[schema(value_type = Vec<String>)]
    topics: Vec<Topic>,
}

#[utoipa::path(put, path = "/v1/me/topics", tag = "me", request_body = TopicsBody, responses((status = 204, description = "kept")))]
async fn choose(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<TopicsBody>,
) -> Result<StatusCode, Problem> {
    app.workflow.choose_topics(&caller.actor, &body.topics, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
