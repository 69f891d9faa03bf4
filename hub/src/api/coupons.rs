//! Coupons, their ledgers, and what offices do with them.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_domain::Yen;
use todoke_workflow::{
    audit::Access,
    coupon::{Adjustment, CouponsOf},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, Body, all, id, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(ledger))
        .routes(routes!(adjust))
        .routes(routes!(suspend))
        .routes(routes!(resume))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    child_id: Option<String>,
    child_no: Option<String>,
    coupon_no: Option<String>,
    guardian_no: Option<String>,
}

#[utoipa::path(get, path = "/v1/coupons", tag = "coupons", params(Query), responses((status = 200, description = "own, or by a number for offices")))]
async fn list(State(app): State<AppState>, caller: Caller, Asked(query): Asked<Query>) -> Result<Json<Value>, Problem> {
    let number = query.child_no.or(query.coupon_no).or(query.guardian_no).filter(|number| !number.is_empty());
    let of = match (query.child_id.filter(|child| !child.is_empty()), number) {
        (Some(child), _) => CouponsOf::Child(id("child_id", &child)?),
        (None, Some(number)) => CouponsOf::Number(number),
        (None, None) => CouponsOf::Own,
    };
    let coupons = app.workflow.coupons(&caller.actor, of).await?;
    audited(&app, &caller, Access::View, "coupon", coupons.len()).await?;
    Ok(Json(all(coupons)))
}

#[utoipa::path(get, path = "/v1/coupons/{coupon_id}", tag = "coupons", params(("coupon_id" = String, Path)), responses((status = 200, description = "with lots")))]
async fn read(State(app): State<AppState>, caller: Caller, At(coupon): At<String>) -> Result<Json<Value>, Problem> {
    let view = app.workflow.coupon(&caller.actor, path_id(&coupon)?).await?;
    audited(&app, &caller, Access::View, "coupon", 1).await?;
    Ok(Json(json!(view)))
}

#[utoipa::path(get, path = "/v1/coupons/{coupon_id}/ledger", tag = "coupons", params(("coupon_id" = String, Path)),
    responses((status = 200, description = "newest first, at most 500 lines")))]
async fn ledger(State(app): State<AppState>, caller: Caller, At(coupon): At<String>) -> Result<Json<Value>, Problem> {
    let rows = app.workflow.coupon_ledger(&caller.actor, path_id(&coupon)?).await?;
    audited(&app, &caller, Access::View, "ledger", rows.len()).await?;
    let items = rows.into_iter().map(|row| {
        json!({
            "seq": row.seq, "at": row.at, "kind": row.kind, "delta_yen": row.delta_yen, "balance_after_yen": row.balance_after_yen,
            "facility_name": row.facility_name, "programme_code": row.programme_code, "use_id": row.use_id, "use_no": row.use_no, "reason": row.reason,
        })
    });
    Ok(Json(all(items.collect())))
}

#[derive(Debug, Deserialize, ToSchema)]
struct AdjustBody {
    /// Signed
    delta_yen: i64,
    reason_code: String,
    reason_text: Option<String>,
}

#[utoipa::path(post, path = "/v1/coupons/{coupon_id}/adjust", tag = "coupons", request_body = AdjustBody, params(("coupon_id" = String, Path)),
    responses((status = 200, description = "the coupon afterwards")))]
async fn adjust(
    State(app): State<AppState>,
    caller: Caller,
    At(coupon): At<String>,
    Body(body): Body<AdjustBody>,
) -> Result<Json<Value>, Problem> {
    let coupon = path_id(&coupon)?;
    let adjustment =
        Adjustment { delta: Yen::new(body.delta_yen), reason_code: body.reason_code, reason_text: body.reason_text };
    app.workflow.adjust_coupon(&caller.actor, coupon, &adjustment, app.now()).await?;
    Ok(Json(json!(app.workflow.coupon(&caller.actor, coupon).await?)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct SuspendBody {
    reason_code: String,
    reason_text: Option<String>,
}

#[utoipa::path(post, path = "/v1/guardians/{guardian_id}/suspend", tag = "coupons", request_body = SuspendBody, params(("guardian_id" = String, Path)),
    responses((status = 204, description = "every payment is refused from now on")))]
async fn suspend(
    State(app): State<AppState>,
    caller: Caller,
    At(guardian): At<String>,
    Body(body): Body<SuspendBody>,
) -> Result<StatusCode, Problem> {
    set_suspended(&app, &caller, &guardian, true, &body).await
}

#[utoipa::path(post, path = "/v1/guardians/{guardian_id}/resume", tag = "coupons", request_body = SuspendBody, params(("guardian_id" = String, Path)),
    responses((status = 204, description = "payments are possible again")))]
async fn resume(
    State(app): State<AppState>,
    caller: Caller,
    At(guardian): At<String>,
    Body(body): Body<SuspendBody>,
) -> Result<StatusCode, Problem> {
    set_suspended(&app, &caller, &guardian, false, &body).await
}

async fn set_suspended(
    app: &AppState,
    caller: &Caller,
    guardian: &str,
    suspended: bool,
    body: &SuspendBody,
) -> Result<StatusCode, Problem> {
    let guardian = path_id(guardian)?;
    app.workflow
        .set_suspended(&caller.actor, guardian, suspended, &body.reason_code, body.reason_text.as_deref(), app.now())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
