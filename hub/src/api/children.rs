//! A household's children and their codes.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};
use todoke_store::child::Child;
use todoke_workflow::account::child_revision;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    input::{At, Body, IfMatch, all, path_id},
    registrations::ChildBody,
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(change)).routes(routes!(qr)).routes(routes!(reissue))
}

pub(super) fn child_json(child: &Child, today: jiff::civil::Date) -> Value {
    json!({
        "child_id": child.child_id,
        "child_no": child.child_no,
        "name": child.name,
        "name_kana": child.name_kana,
        "sex": child.sex,
        "birth_date": child.birth_date.to_string(),
        "class_age": todoke_domain::time::class_age(child.birth_date, today),
        "matched": child.resident_no.is_some(),
        "version": child_revision(child).ok(),
    })
}

#[utoipa::path(get, path = "/v1/children", tag = "children", responses((status = 200, description = "the household's children")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let today = app.now().jst_date();
    let children = app.workflow.own_children(&caller.actor).await?;
    Ok(Json(all(children.iter().map(|child| child_json(child, today)).collect())))
}

#[utoipa::path(post, path = "/v1/children", tag = "children", request_body = ChildBody, responses((status = 201, description = "registered")))]
async fn add(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<ChildBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let now = app.now();
    let child = app.workflow.register_child(&caller.actor, &body.into(), now).await?;
    Ok((StatusCode::CREATED, Json(child_json(&child, now.jst_date()))))
}

#[utoipa::path(patch, path = "/v1/children/{child_id}", tag = "children", request_body = ChildBody, params(("child_id" = String, Path)),
    responses((status = 200, description = "corrected"), (status = 409, description = "`If-Match` names another version")))]
async fn change(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    IfMatch(version): IfMatch,
    Body(body): Body<ChildBody>,
) -> Result<Json<Value>, Problem> {
    let (id, now) = (path_id(&id)?, app.now());
    let child = app.workflow.change_child(&caller.actor, id, &body.into(), version.as_deref(), now).await?;
    Ok(Json(child_json(&child, now.jst_date())))
}

#[utoipa::path(get, path = "/v1/children/{child_id}/qr", tag = "children", params(("child_id" = String, Path)),
    responses((status = 200, description = "the valid code with its SVG")))]
async fn qr(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    let view = app.workflow.child_qr(&caller.actor, path_id(&id)?).await?;
    Ok(Json(json!(view)))
}

#[utoipa::path(post, path = "/v1/children/{child_id}/qr/reissue", tag = "children", params(("child_id" = String, Path)),
    responses((status = 200, description = "a new code; the old ones are void")))]
async fn reissue(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, Problem> {
    let view = app.workflow.reissue_child_qr(&caller.actor, path_id(&id)?, app.now()).await?;
    Ok(Json(json!(view)))
}
