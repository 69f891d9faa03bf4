//! Definitions of coupons.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_domain::{
    Yen,
    coupon::{CouponTerms, DistributionAnchor, DistributionCycle, ExpiryAgeRule},
};
use todoke_store::coupon_set::CouponSet;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{Body, all, id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, publish))
}

fn set_json(set: &CouponSet) -> Value {
    json!({
        "coupon_set_id": set.coupon_set_id,
        "title": set.title,
        "coupon_kind": "yen",
        "distribution_cycle": set.terms.distribution_cycle,
        "distribution_anchor": set.terms.distribution_anchor,
        "distribution_amount_yen": set.terms.distribution_amount_yen,
        "expiry_age_years": set.terms.expiry_age_years,
        "expiry_age_rule": set.terms.expiry_age_rule,
        "expiry_after_moveout_months": set.terms.expiry_after_moveout_months,
        "expiry_fixed_date": set.terms.expiry_fixed_date.map(|day| day.to_string()),
        "programmes": set.programmes,
        "effective_from": set.valid_from.to_string(),
    })
}

#[utoipa::path(get, path = "/v1/coupon-sets", tag = "coupons", responses((status = 200, description = "newest first")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let sets = app.workflow.coupon_sets(&caller.actor).await?;
    Ok(Json(all(sets.iter().map(set_json).collect())))
}

#[derive(Debug, Deserialize, ToSchema)]
struct SetBody {
    title: String,
    /// `once`, `monthly`, `quarterly`, `half_yearly` or `yearly`
    #[schema(value_type = String)]
    distribution_cycle: DistributionCycle,
    /// `approval_date` (default) or `calendar`
    #[schema(value_type = Option<String>)]
    distribution_anchor: Option<DistributionAnchor>,
    distribution_amount_yen: i64,
    /// 3 by default
    expiry_age_years: Option<i16>,
    /// `two_days_before_birthday` (default) or `fiscal_year_end`
    #[schema(value_type = Option<String>)]
    expiry_age_rule: Option<ExpiryAgeRule>,
    /// 12 by default
    expiry_after_moveout_months: Option<i32>,
    expiry_fixed_date: Option<String>,
    programmes: Vec<String>,
    effective_from: Option<String>,
}

#[utoipa::path(post, path = "/v1/coupon-sets", tag = "coupons", request_body = SetBody, responses((status = 201, description = "published")))]
async fn publish(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<SetBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let now = app.now();
    let day = |field: &str, raw: Option<String>| match raw.filter(|day| !day.is_empty()) {
        Some(day) => id::<jiff::civil::Date>(field, &day).map(Some),
        None => Ok(None),
    };
    let terms = CouponTerms {
        distribution_cycle: body.distribution_cycle,
        distribution_anchor: body.distribution_anchor.unwrap_or(DistributionAnchor::ApprovalDate),
        distribution_amount_yen: Yen::new(body.distribution_amount_yen),
        expiry_age_years: body.expiry_age_years.unwrap_or(3),
        expiry_age_rule: body.expiry_age_rule.unwrap_or(ExpiryAgeRule::TwoDaysBeforeBirthday),
        expiry_after_moveout_months: body.expiry_after_moveout_months.unwrap_or(12),
        expiry_fixed_date: day("expiry_fixed_date", body.expiry_fixed_date)?,
    };
    let valid_from = day("effective_from", body.effective_from)?.unwrap_or_else(|| now.jst_date());
    let set =
        app.workflow.publish_coupon_set(&caller.actor, &body.title, terms, body.programmes, valid_from, now).await?;
    Ok((StatusCode::CREATED, Json(set_json(&set))))
}
