//! Payment of claims: the accounts of facilities, and the files for the bank. Its answers come over `imports`.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_workflow::{audit::Access, claim::AccountDraft};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    claims::claim_ids,
    input::{At, Body, IfMatch, all, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, order)).routes(routes!(data)).routes(routes!(read_account, set_account))
}

#[utoipa::path(get, path = "/v1/transfer-files", tag = "claims", responses((status = 200, description = "newest first; app section only")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(all(app.workflow.transfer_files(&caller.actor).await?)))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct OrderBody {
    claim_ids: Vec<String>,
}

#[utoipa::path(post, path = "/v1/transfer-files", tag = "claims", request_body = OrderBody,
    responses((status = 201, description = "ordered, with a line for each account; their sum is that of the claims"),
        (status = 409, description = "a claim is not to be paid now, has no account, or an account would get nothing: nothing was ordered")))]
async fn order(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<OrderBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let ids = claim_ids(&body.claim_ids)?;
    let file = app.workflow.order_transfers(&caller.actor, ids, app.now()).await?;
    Ok((StatusCode::CREATED, Json(json!(file))))
}

#[utoipa::path(get, path = "/v1/transfer-files/{transfer_file_id}/data.csv", tag = "claims", params(("transfer_file_id" = String, Path)),
    responses((status = 200, description = "the lines as they were ordered (O07)", content_type = "text/csv")))]
async fn data(State(app): State<AppState>, caller: Caller, At(file): At<String>) -> Result<impl IntoResponse, Problem> {
    let (csv, n_lines) = app.workflow.transfer_data(&caller.actor, path_id(&file)?).await?;
    audited(&app, &caller, Access::Export, "transfer_line", n_lines).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"transfer_data.csv\""),
    ];
    Ok((headers, csv))
}

#[utoipa::path(get, path = "/v1/facilities/{facility_id}/bank-account", tag = "claims", params(("facility_id" = String, Path)),
    responses((status = 200, description = "`account` is null before one was entered; `version` for `If-Match`; the own manager, operator and app section")))]
async fn read_account(
    State(app): State<AppState>,
    caller: Caller,
    At(facility): At<String>,
) -> Result<Json<Value>, Problem> {
    let (account, version) = app.workflow.bank_account(&caller.actor, path_id(&facility)?).await?;
    audited(&app, &caller, Access::View, "bank_account", usize::from(account.is_some())).await?;
    Ok(Json(json!({ "account": account, "version": version })))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct BankAccountBody {
    /// Four digits
    bank_code: String,
    /// Three digits
    branch_code: String,
    /// `ordinary` or `current`
    account_type: String,
    /// Seven digits
    account_no: String,
    /// Kana, capital letters and digits
    holder_kana: String,
}

#[utoipa::path(put, path = "/v1/facilities/{facility_id}/bank-account", tag = "claims", request_body = BankAccountBody, params(("facility_id" = String, Path)),
    responses((status = 200, description = "set; payments ordered before keep theirs"), (status = 409, description = "`If-Match` names another version")))]
async fn set_account(
    State(app): State<AppState>,
    caller: Caller,
    At(facility): At<String>,
    IfMatch(version): IfMatch,
    Body(body): Body<BankAccountBody>,
) -> Result<Json<Value>, Problem> {
    let draft = AccountDraft {
        bank_code: body.bank_code,
        branch_code: body.branch_code,
        account_type: body.account_type,
        account_no: body.account_no,
        holder_kana: body.holder_kana,
    };
    let facility = path_id(&facility)?;
    let view = app.workflow.set_bank_account(&caller.actor, facility, &draft, version.as_deref(), app.now()).await?;
    Ok(Json(json!(view)))
}
