//! Tokens for sockets.

use axum::{Json, extract::State};
use serde_json::{Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(make))
}

#[utoipa::path(post, path = "/v1/realtime/token", tag = "realtime", responses((status = 200, description = "a token of five minutes for /connection/websocket")))]
async fn make(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let session = caller.session.as_ref().ok_or_else(Problem::denied)?;
    let made = app.tokens.make(caller.account.account_id, session.session_id, app.now());
    let (token, expires_at) = made.ok_or_else(Problem::denied)?;
    Ok(Json(json!({ "token": token, "expires_at": expires_at })))
}
