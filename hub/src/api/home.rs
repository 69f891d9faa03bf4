//! The guardian's first screen.

use axum::{Json, extract::State};
use serde_json::{Value, json};
use todoke_domain::application::ApplicationState;
use todoke_workflow::coupon::CouponsOf;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::children::child_json;
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(home))
}

#[utoipa::path(get, path = "/v1/home", tag = "me", responses((status = 200, description = "children with coupons, open tasks, notices, unread count")))]
async fn home(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let now = app.now();
    let actor = &caller.actor;
    let coupons = app.workflow.coupons(actor, CouponsOf::Own).await?;
    let applications = app.workflow.applications(actor, None, None, 100).await?.items;
    let mut tasks: Vec<Value> = applications
        .iter()
        .filter(|application| application.state == ApplicationState::Deficient.as_str())
        .map(|application| {
            json!({
                "kind": "application",
                "title": format!("申請（受付番号 {}）に修正が必要です", application.application_no),
                "link": format!("/applications/{}", application.application_id),
            })
        })
        .collect();
    for own in app.workflow.own_surveys(actor, now).await? {
        if own.answer.is_none() {
            tasks.push(json!({
                "kind": "survey",
                "title": format!("アンケート「{}」にご回答ください", own.survey.title),
                "link": format!("/surveys/{}", own.survey.survey_id),
            }));
        }
    }
    let children = app.workflow.own_children(actor).await?;
    let children = children.iter().map(|child| {
        let mut item = child_json(child, now.jst_date());
        item["coupons"] = json!(coupons.iter().filter(|coupon| coupon.child_id == child.child_id).collect::<Vec<_>>());
        let newest = applications.iter().find(|application| application.child_id == child.child_id);
        item["application"] = newest.map_or(Value::Null, |application| {
            json!({
                "application_id": application.application_id,
                "state": application.state,
                "state_label": application.state_label,
            })
        });
        item
    });
    let notices = app.workflow.notices(actor, now).await?;
    let unread = app.workflow.inbox(actor, true, None, 1).await?.unread;
    Ok(Json(json!({ "children": children.collect::<Vec<_>>(), "tasks": tasks, "notices": notices, "unread": unread })))
}
