//! Invitations to apply.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_workflow::audit::Access;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, all, id, page_size},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(run)).routes(routes!(own))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// `targeted`, `solicited`, `applied`, `exhausted` or `out_of_target`
    state: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
}

#[utoipa::path(get, path = "/v1/solicitations", tag = "solicitations", params(Query), responses((status = 200, description = "newest first")))]
async fn list(State(app): State<AppState>, caller: Caller, Asked(query): Asked<Query>) -> Result<Json<Value>, Problem> {
    let before = match query.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => Some(id("cursor", cursor)?),
        None => None,
    };
    let n_max = page_size(query.limit);
    let items =
        app.workflow.solicitations(&caller.actor, query.state.as_deref().unwrap_or_default(), before, n_max).await?;
    audited(&app, &caller, Access::View, "solicitation", items.len()).await?;
    Ok(Json(super::input::list(items, n_max, |item| item.solicitation_id.to_string())))
}

#[utoipa::path(post, path = "/v1/solicitations/run", tag = "solicitations",
    responses((status = 200, description = "everybody who is due has been invited; the counts")))]
async fn run(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.run_solicitation(&caller.actor, app.now()).await?)))
}

#[utoipa::path(get, path = "/v1/my/solicitations", tag = "solicitations",
    responses((status = 200, description = "open invitations of the household, with the child's QR")))]
async fn own(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(all(app.workflow.own_solicitations(&caller.actor).await?)))
}
