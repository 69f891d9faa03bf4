//! The inbox.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_domain::ids::MessageId;
use todoke_store::message::MessageStep;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{Asked, At, page_size, path_id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(read_all))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    cursor: Option<String>,
    limit: Option<i64>,
    /// 1: only what has not been opened
    unread: Option<String>,
}

#[utoipa::path(get, path = "/v1/inbox", tag = "inbox", params(Query), responses((status = 200, description = "newest first")))]
async fn list(State(app): State<AppState>, caller: Caller, Asked(query): Asked<Query>) -> Result<Json<Value>, Problem> {
    let n_max = page_size(query.limit);
    let before = match query.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => Some(path_id::<MessageId>(cursor)?),
        None => None,
    };
    let unread_only = matches!(query.unread.as_deref(), Some("1" | "true"));
    let inbox = app.workflow.inbox(&caller.actor, unread_only, before, n_max).await?;
    let full = i64::try_from(inbox.messages.len()).unwrap_or(i64::MAX) >= n_max;
    let next = inbox.messages.last().filter(|_| full).map(|message| message.message_id);
    let items: Vec<Value> = inbox
        .messages
        .iter()
        .map(|message| {
            json!({
                "message_id": message.message_id,
                "type": message.message_type,
                "category": message.category,
                "title": message.title,
                "body": message.body,
                "link": message.link,
                "subject": { "kind": message.subject_kind, "id": message.subject_id, "no": message.subject_no },
                "created_at": message.created_at,
                "read_at": message.read_at,
                "cause_event_id": message.cause_event_id,
            })
        })
        .collect();
    Ok(Json(json!({ "items": items, "next": next, "unread": inbox.unread })))
}

#[utoipa::path(post, path = "/v1/inbox/{message_id}/read", tag = "inbox", params(("message_id" = String, Path)),
    responses((status = 200, description = "read on every device")))]
async fn read(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    let outcome = app.workflow.note_message_step(&caller.actor, path_id(&id)?, MessageStep::Read, app.now()).await?;
    Ok(Json(json!({ "unread": outcome.unread })))
}

#[utoipa::path(post, path = "/v1/inbox/read-all", tag = "inbox", responses((status = 200, description = "everything read")))]
async fn read_all(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let outcome = app.workflow.read_all_messages(&caller.actor, app.now()).await?;
    Ok(Json(json!({ "unread": outcome.unread })))
}
