//! Households, for offices.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_workflow::audit::Access;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    children::child_json,
    input::{Asked, all},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

/// Most households of one search.
const FOUND_MAX: i64 = 50;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(find))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Part of number, name or kana; nothing is listed without it
    q: Option<String>,
}

#[utoipa::path(get, path = "/v1/guardians", tag = "guardians", params(Query), responses((status = 200, description = "at most 50")))]
async fn find(State(app): State<AppState>, caller: Caller, Asked(query): Asked<Query>) -> Result<Json<Value>, Problem> {
    let today = app.now().jst_date();
    let found = app.workflow.find_households(&caller.actor, query.q.as_deref().unwrap_or_default(), FOUND_MAX).await?;
    audited(&app, &caller, Access::View, "guardian", found.len()).await?;
    let items = found.into_iter().map(|household| {
        json!({
            "guardian_id": household.guardian.guardian_id,
            "guardian_no": household.guardian.guardian_no,
            "name": household.guardian.name,
            "name_kana": household.guardian.name_kana,
            "email": household.accounts.iter().find_map(|account| account.email.clone()),
            "contact_channel": household.guardian.contact_channel,
            "suspended": household.guardian.suspended,
            "children": household.children.iter().map(|child| child_json(child, today)).collect::<Vec<_>>(),
        })
    });
    Ok(Json(all(items.collect())))
}
