//! Keys for machines.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_domain::{Role, Timestamp};
use todoke_store::session::ListedKey;
use todoke_workflow::account::key_revision;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body, IfMatch, all, path_id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, issue)).routes(routes!(set_sources, revoke))
}

fn key_item(listed: &ListedKey) -> Value {
    let ListedKey { key, role, issuer_name } = listed;
    let sources = key.sources.as_deref().and_then(|sources| serde_json::from_str::<Value>(sources).ok());
    json!({
        "api_key_id": key.api_key_id,
        "name": key.name,
        "role": role,
        "sources": sources,
        "issued_by": issuer_name,
        "created_at": Timestamp::from_micros(key.created_at_us),
        "used_at": key.used_at,
        "revoked_at": key.revoked_at,
        "version": key_revision(key).ok(),
    })
}

#[utoipa::path(get, path = "/v1/api-keys", tag = "accounts",
    responses((status = 200, description = "keys without their secrets, the revoked ones last; `sources` is null for a key that may name any")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let keys = app.workflow.api_keys(&caller.actor).await?;
    Ok(Json(all(keys.iter().map(key_item).collect())))
}

#[derive(Debug, Deserialize, ToSchema)]
struct KeyBody {
    name: String,
    /// Role the machine acts with, e.g. `analyst`
    role: String,
    /// Sources whose events it may send to `/v1/events`: each a `source` or, with `*` at its end, the begin of some.
    /// Without any it sends no events
    #[serde(default)]
    sources: Vec<String>,
}

#[utoipa::path(post, path = "/v1/api-keys", tag = "accounts", request_body = KeyBody, responses((status = 201, description = "the key is shown this once")))]
async fn issue(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<KeyBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let role: Role = body.role.parse().map_err(|_| Problem::invalid_field("role", "役割を選んでください。"))?;
    let (id, key) = app.workflow.issue_api_key(&caller.actor, &body.name, role, &body.sources, app.now()).await?;
    Ok((StatusCode::CREATED, Json(json!({ "api_key_id": id, "api_key": key }))))
}

#[derive(Debug, Deserialize, ToSchema)]
struct SourcesBody {
    /// All sources whose events the key may send from now on, as when it is issued
    sources: Vec<String>,
}

#[utoipa::path(patch, path = "/v1/api-keys/{api_key_id}", tag = "accounts", request_body = SourcesBody, params(("api_key_id" = String, Path)),
    responses((status = 200, description = "counts from the key's next request on"), (status = 409, description = "`If-Match` names another version")))]
async fn set_sources(
    State(app): State<AppState>,
    caller: Caller,
    At(key): At<String>,
    IfMatch(version): IfMatch,
    Body(body): Body<SourcesBody>,
) -> Result<Json<Value>, Problem> {
    let (id, version) = (path_id(&key)?, version.as_deref());
    let listed = app.workflow.set_key_sources(&caller.actor, id, &body.sources, version, app.now()).await?;
    Ok(Json(key_item(&listed)))
}

#[utoipa::path(delete, path = "/v1/api-keys/{api_key_id}", tag = "accounts", params(("api_key_id" = String, Path)), responses((status = 204, description = "revoked at once")))]
async fn revoke(State(app): State<AppState>, caller: Caller, At(key): At<String>) -> Result<StatusCode, Problem> {
    app.workflow.revoke_api_key(&caller.actor, path_id(&key)?, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
