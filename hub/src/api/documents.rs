//! Uploaded documents.

use axum::{
    Json,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_workflow::{application::NewDocument, audit::Access};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

/// A little above the largest document, so that the use case can say what is wrong.
const BODY_BYTES_MAX: usize = 9 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(upload)).routes(routes!(read)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// `guardian_identity`, `child_identity` or `other`
    kind: String,
}

#[utoipa::path(post, path = "/v1/documents", tag = "applications", params(Query), request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "kept; attach it within a day"), (status = 422, description = "not a JPEG, PNG or PDF, or too large")))]
async fn upload(
    State(app): State<AppState>,
    caller: Caller,
    Asked(query): Asked<Query>,
    content: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let document = NewDocument { kind: &query.kind, content: &content };
    let id = app.workflow.upload_document(&caller.actor, &document, app.now()).await?;
    Ok((StatusCode::CREATED, Json(json!({ "document_id": id }))))
}

#[utoipa::path(get, path = "/v1/documents/{document_id}", tag = "applications", params(("document_id" = String, Path)),
    responses((status = 200, description = "the bytes")))]
async fn read(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<impl IntoResponse, Problem> {
    let (document, content) = app.workflow.document(&caller.actor, path_id(&id)?).await?;
    audited(&app, &caller, Access::View, "document", 1).await?;
    let headers = [(header::CONTENT_TYPE, document.content_type), (header::CONTENT_DISPOSITION, "inline".to_owned())];
    Ok((headers, content))
}
