//! Coupon applications.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use todoke_domain::application::ApplicationState;
use todoke_workflow::{
    application::{Deficiency, PaperApplicant, Submission, Verdict},
    audit::Access,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, Body, id, page_size, path_id},
    registrations::ChildBody,
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, submit))
        .routes(routes!(read))
        .routes(routes!(resubmit))
        .routes(routes!(withdraw))
        .routes(routes!(deficiency))
        .routes(routes!(complete))
        .routes(routes!(link))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(revoke))
        .routes(routes!(match_waiting))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    state: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
    /// `csv` with `state=matching`: the matching errors as a file (O01)
    format: Option<String>,
}

#[utoipa::path(get, path = "/v1/applications", tag = "applications", params(Query),
    responses((status = 200, description = "the household's own, or the municipality's with counts per state")))]
async fn list(State(app): State<AppState>, caller: Caller, Asked(query): Asked<Query>) -> Result<Response, Problem> {
    let state = match query.state.as_deref().filter(|state| !state.is_empty()) {
        Some(code) => Some(
            ApplicationState::parse(code)
                .ok_or_else(|| Problem::invalid_field("state", "状態の指定が正しくありません。"))?,
        ),
        None => None,
    };
    match query.format.as_deref().unwrap_or_default() {
        "" | "json" => {}
        "csv" if state == Some(ApplicationState::Matching) => return matching_errors(&app, &caller).await,
        _ => return Err(Problem::invalid_field("format", "CSVで出力できるのは、同定エラーだけです。")),
    }
    let cursor = match query.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => Some(id("cursor", cursor)?),
        None => None,
    };
    let n_max = page_size(query.limit);
    let page = app.workflow.applications(&caller.actor, state, cursor, n_max).await?;
    let full = i64::try_from(page.items.len()).unwrap_or(i64::MAX) >= n_max;
    let next = page.items.last().filter(|_| full && !page.counts.is_empty()).map(|item| item.application_id);
    let counts: Map<String, Value> = page.counts.into_iter().map(|(state, n)| (state, Value::from(n))).collect();
    audited(&app, &caller, Access::View, "application", page.items.len()).await?;
    Ok(Json(json!({ "items": page.items, "next": next, "counts": counts })).into_response())
}

async fn matching_errors(app: &AppState, caller: &Caller) -> Result<Response, Problem> {
    let csv = app.workflow.matching_errors_csv(&caller.actor, app.now()).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"matching_errors.csv\""),
    ];
    Ok((headers, csv).into_response())
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct ApplicantBody {
    name: String,
    name_kana: String,
    birth_date: Option<String>,
    postal_code: String,
    address: String,
    phone: String,
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct SubmissionBody {
    /// The household's child (online)
    child_id: Option<String>,
    /// The child's QR: documents may be left out
    child_qr: Option<String>,
    document_ids: Vec<String>,
    relation: String,
    /// `paper` with `applicant` and `child`: keyed in by the operator
    entry: Option<String>,
    applicant: Option<ApplicantBody>,
    child: Option<ChildBody>,
}

fn document_ids(raw: &[String]) -> Result<Vec<todoke_domain::ids::DocumentId>, Problem> {
    raw.iter().map(|text| id("document_ids", text)).collect()
}

#[utoipa::path(post, path = "/v1/applications", tag = "applications", request_body = SubmissionBody, responses(
    (status = 201, description = "numbered and received"), (status = 409, description = "one is open for the child"), (status = 422, description = "fields to correct")))]
async fn submit(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<SubmissionBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let documents = document_ids(&body.document_ids)?;
    let submission = if body.entry.as_deref() == Some("paper") {
        let applicant = body.applicant.unwrap_or_default();
        let birth_date = match applicant.birth_date.as_deref().filter(|day| !day.is_empty()) {
            Some(day) => Some(id("applicant.birth_date", day)?),
            None => None,
        };
        Submission::Paper {
            applicant: PaperApplicant {
                name: applicant.name,
                name_kana: applicant.name_kana,
                birth_date,
                postal_code: applicant.postal_code,
                address: applicant.address,
                phone: applicant.phone,
            },
            child: body.child.unwrap_or_default().into(),
            documents,
            relation: body.relation,
        }
    } else {
        Submission::Online {
            child_id: id("child_id", body.child_id.as_deref().unwrap_or_default())?,
            child_qr: body.child_qr,
            documents,
            relation: body.relation,
        }
    };
    let view = app.workflow.submit_application(&caller.actor, &submission, app.now()).await?;
    Ok((StatusCode::CREATED, Json(json!(view))))
}

#[utoipa::path(get, path = "/v1/applications/{application_id}", tag = "applications", params(("application_id" = String, Path)),
    responses((status = 200, description = "with documents, matching and history")))]
async fn read(
    State(app): State<AppState>,
    caller: Caller,
    At(application): At<String>,
) -> Result<Json<Value>, Problem> {
    let view = app.workflow.application(&caller.actor, path_id(&application)?).await?;
    audited(&app, &caller, Access::View, "application", 1).await?;
    Ok(Json(json!(view)))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct ResubmitBody {
    document_ids: Vec<String>,
}

#[utoipa::path(post, path = "/v1/applications/{application_id}/resubmit", tag = "applications", request_body = ResubmitBody,
    params(("application_id" = String, Path)), responses((status = 200, description = "back in the queue")))]
async fn resubmit(
    State(app): State<AppState>,
    caller: Caller,
    At(application): At<String>,
    Body(body): Body<ResubmitBody>,
) -> Result<Json<Value>, Problem> {
    let documents = document_ids(&body.document_ids)?;
    Ok(Json(json!(
        app.workflow.resubmit_application(&caller.actor, path_id(&application)?, &documents, app.now()).await?
    )))
}

#[utoipa::path(post, path = "/v1/applications/{application_id}/withdraw", tag = "applications", params(("application_id" = String, Path)),
    responses((status = 200, description = "withdrawn")))]
async fn withdraw(
    State(app): State<AppState>,
    caller: Caller,
    At(application): At<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.withdraw_application(&caller.actor, path_id(&application)?, app.now()).await?)))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct DeficiencyBody {
    /// Codes of flows.md C3
    items: Vec<String>,
    /// Needed for `other`
    text: Option<String>,
}

#[utoipa::path(post, path = "/v1/applications/{application_id}/deficiency", tag = "applications", request_body = DeficiencyBody,
    params(("application_id" = String, Path)), responses((status = 200, description = "the guardian is told")))]
async fn deficiency(
    State(app): State<AppState>,
    caller: Caller,
    At(application): At<String>,
    Body(body): Body<DeficiencyBody>,
) -> Result<Json<Value>, Problem> {
    let deficiency = Deficiency { items: body.items, text: body.text };
    Ok(Json(json!(app.workflow.find_deficiency(&caller.actor, path_id(&application)?, &deficiency, app.now()).await?)))
}

#[utoipa::path(post, path = "/v1/applications/{application_id}/complete", tag = "applications", params(("application_id" = String, Path)),
    responses((status = 200, description = "under review, or matching")))]
async fn complete(
    State(app): State<AppState>,
    caller: Caller,
    At(application): At<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(app.workflow.complete_documents(&caller.actor, path_id(&application)?, app.now()).await?)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct LinkBody {
    resident_no: String,
    reason: String,
}

#[utoipa::path(post, path = "/v1/applications/{application_id}/link", tag = "applications", request_body = LinkBody,
    params(("application_id" = String, Path)), responses((status = 200, description = "linked by hand, under review")))]
async fn link(
    State(app): State<AppState>,
    caller: Caller,
    At(application): At<String>,
    Body(body): Body<LinkBody>,
) -> Result<Json<Value>, Problem> {
    let view = app
        .workflow
        .link_by_hand(&caller.actor, path_id(&application)?, &body.resident_no, &body.reason, app.now())
        .await?;
    Ok(Json(json!(view)))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct ApproveBody {
    coupon_set_id: Option<String>,
}

#[utoipa::path(post, path = "/v1/applications/{application_id}/approve", tag = "applications", request_body = ApproveBody,
    params(("application_id" = String, Path)), responses((status = 200, description = "approved, first lot distributed")))]
async fn approve(
    State(app): State<AppState>,
    caller: Caller,
    At(application): At<String>,
    Body(body): Body<ApproveBody>,
) -> Result<Json<Value>, Problem> {
    let set = match body.coupon_set_id.as_deref().filter(|set| !set.is_empty()) {
        Some(set) => Some(id("coupon_set_id", set)?),
        None => None,
    };
    Ok(Json(json!(
        app.workflow
            .decide_application(&caller.actor, path_id(&application)?, &Verdict::Approve(set), app.now())
            .await?
    )))
}

#[derive(Debug, Deserialize, ToSchema)]
struct RejectBody {
    reason_code: String,
    text: Option<String>,
}

#[utoipa::path(post, path = "/v1/applications/{application_id}/reject", tag = "applications", request_body = RejectBody,
    params(("application_id" = String, Path)), responses((status = 200, description = "rejected, with a reason")))]
async fn reject(
    State(app): State<AppState>,
    caller: Caller,
    At(application): At<String>,
    Body(body): Body<RejectBody>,
) -> Result<Json<Value>, Problem> {
    let verdict = Verdict::Reject { reason_code: body.reason_code, text: body.text };
    Ok(Json(json!(app.workflow.decide_application(&caller.actor, path_id(&application)?, &verdict, app.now()).await?)))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct RevokeBody {
    requested_by: String,
    reason_code: String,
    text: Option<String>,
}

#[utoipa::path(post, path = "/v1/applications/{application_id}/revoke", tag = "applications", request_body = RevokeBody,
    params(("application_id" = String, Path)), responses((status = 200, description = "an approval: balance 0 and blocked; a rejection: back to review")))]
async fn revoke(
    State(app): State<AppState>,
    caller: Caller,
    At(application): At<String>,
    Body(body): Body<RevokeBody>,
) -> Result<Json<Value>, Problem> {
    let view = app
        .workflow
        .revoke_decision(
            &caller.actor,
            path_id(&application)?,
            &body.requested_by,
            &body.reason_code,
            body.text.as_deref(),
            app.now(),
        )
        .await?;
    Ok(Json(json!(view)))
}

#[utoipa::path(post, path = "/v1/matching/run", tag = "applications", responses((status = 200, description = "every waiting application was matched again")))]
async fn match_waiting(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.actor.require(todoke_domain::role::Permission::ReviewApplications)?;
    let run = app.workflow.match_waiting(&caller.actor, app.now()).await?;
    Ok(Json(json!({ "matched": run.matched, "failed": run.failed })))
}
