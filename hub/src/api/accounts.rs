//! Accounts of offices.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_store::account::Account;
use todoke_workflow::{
    account::{OfficeChange, OfficeDraft, account_revision},
    audit::Access,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, Body, IfMatch, all, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, issue)).routes(routes!(shared)).routes(routes!(change, delete))
}

fn account_item(account: &Account) -> Value {
    json!({
        "account_id": account.account_id,
        "email": account.email,
        "name": account.name,
        "role": account.role,
        "state": account.state,
        "facility_id": account.facility_id,
        "valid_from": account.valid_from.to_string(),
        "valid_to": account.valid_to.to_string(),
        "version": account_revision(account).ok(),
    })
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Part of name or address
    q: Option<String>,
}

#[utoipa::path(get, path = "/v1/accounts", tag = "accounts", params(Query), responses((status = 200, description = "those the caller manages")))]
async fn list(State(app): State<AppState>, caller: Caller, Asked(query): Asked<Query>) -> Result<Json<Value>, Problem> {
    let accounts = app.workflow.office_accounts(&caller.actor, query.q.as_deref().unwrap_or_default()).await?;
    Ok(Json(all(accounts.iter().map(account_item).collect())))
}

#[utoipa::path(get, path = "/v1/accounts/shared", tag = "accounts", responses(
    (status = 200, description = "of those the caller manages the ones that were in use more than once at the same time, in the last 30 days")))]
async fn shared(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let found = app.workflow.shared_accounts(&caller.actor, app.now()).await?;
    audited(&app, &caller, Access::View, "account", found.len()).await?;
    let items = found.iter().map(|one| {
        json!({
            "account_id": one.account.account_id,
            "email": one.account.email,
            "name": one.account.name,
            "role": one.account.role,
            "facility_id": one.account.facility_id,
            "sessions": one.concurrent.sessions,
            "at_once_max": one.concurrent.at_once_max,
            "last_at": one.concurrent.last_at,
        })
    });
    Ok(Json(all(items.collect())))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct AccountBody {
    email: String,
    name: String,
    role: String,
    facility_id: Option<String>,
    valid_from: Option<String>,
    valid_to: Option<String>,
}

#[utoipa::path(post, path = "/v1/accounts", tag = "accounts", request_body = AccountBody,
    responses((status = 201, description = "issued; the link for the password is mailed"), (status = 409, description = "a third manager")))]
async fn issue(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<AccountBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let draft = OfficeDraft {
        email: body.email,
        name: body.name,
        role: body.role,
        facility_id: body.facility_id,
        valid_from: body.valid_from,
        valid_to: body.valid_to,
    };
    let account = app.workflow.issue_account(&caller.actor, &draft, app.now()).await?;
    Ok((StatusCode::CREATED, Json(account_item(&account))))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct ChangeBody {
    name: Option<String>,
    valid_from: Option<String>,
    valid_to: Option<String>,
}

#[utoipa::path(patch, path = "/v1/accounts/{account_id}", tag = "accounts", request_body = ChangeBody, params(("account_id" = String, Path)),
    responses((status = 200, description = "changed"), (status = 409, description = "`If-Match` names another version")))]
async fn change(
    State(app): State<AppState>,
    caller: Caller,
    At(account): At<String>,
    IfMatch(version): IfMatch,
    Body(body): Body<ChangeBody>,
) -> Result<Json<Value>, Problem> {
    let change =
        OfficeChange { name: body.name, valid_from: body.valid_from, valid_to: body.valid_to, expected: version };
    let account = app.workflow.change_account(&caller.actor, path_id(&account)?, &change, app.now()).await?;
    Ok(Json(account_item(&account)))
}

#[utoipa::path(delete, path = "/v1/accounts/{account_id}", tag = "accounts", params(("account_id" = String, Path)),
    responses((status = 204, description = "deleted; its sessions and sockets end at once")))]
async fn delete(State(app): State<AppState>, caller: Caller, At(account): At<String>) -> Result<StatusCode, Problem> {
    app.workflow.delete_office_account(&caller.actor, path_id(&account)?, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
