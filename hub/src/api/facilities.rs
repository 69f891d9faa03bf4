//! Facilities, programmes and their codes.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_domain::{Timestamp, ids::FacilityId, time::add_days};
use todoke_store::facility::Facility;
use todoke_workflow::audit::Access;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, all, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(coupon_qr))
        .routes(routes!(by_qr))
        .routes(routes!(child_by_qr))
        .routes(routes!(programmes))
        .routes(routes!(today))
}

fn facility_json(facility: &Facility, programmes: &[String]) -> Value {
    json!({
        "facility_id": facility.facility_id,
        "facility_no": facility.facility_no,
        "name": facility.name,
        "ward_code": facility.ward_code,
        "address": facility.address,
        "phone": facility.phone,
        "programmes": programmes,
    })
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Part of the name, number or address
    q: Option<String>,
    programme_code: Option<String>,
}

#[utoipa::path(get, path = "/v1/facilities", tag = "facilities", params(Query), responses((status = 200, description = "public facilities")))]
async fn list(State(app): State<AppState>, caller: Caller, Asked(query): Asked<Query>) -> Result<Json<Value>, Problem> {
    let found = app
        .workflow
        .facilities(&caller.actor, query.q.as_deref().unwrap_or_default(), query.programme_code.as_deref())
        .await?;
    Ok(Json(all(found.iter().map(|(facility, programmes)| facility_json(facility, programmes)).collect())))
}

#[utoipa::path(get, path = "/v1/facilities/{facility_id}", tag = "facilities", params(("facility_id" = String, Path)), responses((status = 200, description = "one facility")))]
async fn read(State(app): State<AppState>, caller: Caller, At(facility): At<String>) -> Result<Json<Value>, Problem> {
    let (facility, programmes) = app.workflow.facility(&caller.actor, path_id(&facility)?).await?;
    Ok(Json(facility_json(&facility, &programmes)))
}

#[utoipa::path(get, path = "/v1/facilities/{facility_id}/coupon-qr", tag = "facilities", params(("facility_id" = String, Path)),
    responses((status = 200, description = "the code guardians read to pay; own staff only")))]
async fn coupon_qr(
    State(app): State<AppState>,
    caller: Caller,
    At(facility): At<String>,
) -> Result<Json<Value>, Problem> {
    let facility: FacilityId = path_id(&facility)?;
    Ok(Json(json!(app.workflow.facility_qr(&caller.actor, facility).await?)))
}

#[utoipa::path(get, path = "/v1/facilities/by-qr/{token}", tag = "facilities", params(("token" = String, Path)), responses((status = 200, description = "whose code this is")))]
async fn by_qr(State(app): State<AppState>, caller: Caller, At(token): At<String>) -> Result<Json<Value>, Problem> {
    let (facility, programmes) = app.workflow.facility_by_qr(&caller.actor, &token).await?;
    Ok(Json(facility_json(&facility, &programmes)))
}

#[utoipa::path(get, path = "/v1/child-qr/{token}", tag = "facilities", params(("token" = String, Path)),
    responses((status = 200, description = "whose code this is, with the usable coupon; facilities only")))]
async fn child_by_qr(
    State(app): State<AppState>,
    caller: Caller,
    At(token): At<String>,
) -> Result<Json<Value>, Problem> {
    let (child, coupons) = app.workflow.child_of_qr(&caller.actor, &token).await?;
    audited(&app, &caller, Access::View, "child", 1).await?;
    let usable = coupons.iter().find(|coupon| coupon.state == "active").or(coupons.first());
    Ok(Json(json!({
        "child_id": child.child_id,
        "child_label": format!("{}（{}）", child.name, child.child_no),
        "coupon_id": usable.map(|coupon| coupon.coupon_id),
        "coupon_no": usable.map(|coupon| &coupon.coupon_no),
        "coupon_set_title": usable.map(|coupon| &coupon.coupon_set_title),
        "state": usable.map(|coupon| &coupon.state),
        "suspended": usable.is_some_and(|coupon| coupon.suspended),
        "balance_yen": usable.map(|coupon| coupon.balance_yen),
        "programmes": usable.map(|coupon| &coupon.programmes),
    })))
}

#[utoipa::path(get, path = "/v1/programmes", tag = "facilities", responses((status = 200, description = "programmes of the municipality")))]
async fn programmes(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let rows = app.workflow.programmes(&caller.actor).await?;
    let items = rows.into_iter().map(
        |row| json!({ "programme_code": row.programme_code, "name": row.name, "coupon_enabled": row.coupon_enabled }),
    );
    Ok(Json(all(items.collect())))
}

#[utoipa::path(get, path = "/v1/facility/today", tag = "facilities", responses((status = 200, description = "today's uses at the caller's facility, with totals")))]
async fn today(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let day = app.now().jst_date();
    let (from, to) = (Timestamp::jst_midnight(day), Timestamp::jst_midnight(add_days(day, 1)));
    if caller.actor.facility_id.is_none() {
        return Err(Problem::denied());
    }
    let uses = app.workflow.uses(&caller.actor, None, from, to, None, 1_000).await?;
    audited(&app, &caller, Access::View, "coupon_use", uses.len()).await?;
    let settled = || uses.iter().filter(|item| item.state == "settled");
    let by_hour: Vec<Value> = (7_i8..22)
        .map(|hour| {
            let of_hour = || settled().filter(move |item| item.used_at.jst().hour() == hour);
            json!({ "hour": hour, "n_uses": of_hour().count(), "total_yen": of_hour().map(|item| item.amount_yen.get()).sum::<i64>() })
        })
        .collect();
    Ok(Json(json!({
        "uses": uses,
        "n_uses": settled().count(),
        "total_yen": settled().map(|item| item.amount_yen.get()).sum::<i64>(),
        "by_hour": by_hour,
    })))
}
