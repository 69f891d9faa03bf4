//! Payments by coupon.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use todoke_domain::{Timestamp, Yen, ids::UseId, time::add_months};
use todoke_workflow::{
    audit::Access,
    coupon::{Payer, Place, Purpose, UseAnswer, UseRequest, UseView},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, Body, id, page_size, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

/// Most lines of a CSV: a busy facility's month is far below.
const CSV_ROWS_MAX: i64 = 100_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, pay)).routes(routes!(reverse))
}

#[derive(Debug, Deserialize, ToSchema)]
struct UseBody {
    /// The payer's coupon (guardian's own device)
    coupon_id: Option<String>,
    /// The child QR, scanned or typed (facility)
    child_qr: Option<String>,
    facility_id: Option<String>,
    /// The facility's coupon QR, scanned or typed
    facility_qr: Option<String>,
    programme_code: String,
    amount_yen: i64,
    /// `service` (default) or `cancellation_fee`
    purpose: Option<String>,
    application_id: Option<String>,
    /// Full price where known
    fee_total_yen: Option<i64>,
    /// The same amount a moment ago was another payment
    #[serde(default)]
    confirm_repeat: bool,
}

#[utoipa::path(post, path = "/v1/coupon-uses", tag = "coupons", request_body = UseBody,
    params(("Idempotency-Key" = String, Header, description = "made by the client, one per attempt")),
    responses((status = 201, description = "settled; a repeat of the key gets the first answer"),
        (status = 409, description = "refused, with reason_code; or the key was used with another body")))]
async fn pay(State(app): State<AppState>, caller: Caller, headers: HeaderMap, raw: Bytes) -> Result<Response, Problem> {
    let body: UseBody = serde_json::from_slice(&raw).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request")
            .detail("送信された内容の形式が正しくありません。")
            .member("cause", error.to_string())
    })?;
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let request = request(&caller, body, key, &raw)?;
    let answer = app.workflow.use_coupon(&caller.actor, &request, app.now()).await?;
    let body = match answer {
        UseAnswer::Settled(view) => serde_json::to_string(&view).unwrap_or_default(),
        UseAnswer::Repeated(first) => first,
    };
    Ok((StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn request(caller: &Caller, body: UseBody, key: &str, raw: &[u8]) -> Result<UseRequest, Problem> {
    let payer = match (body.coupon_id, body.child_qr) {
        (Some(coupon), None) => Payer::Coupon(id("coupon_id", &coupon)?),
        (None, Some(qr)) => Payer::ChildQr(qr),
        _ => {
            return Err(Problem::invalid_field(
                "coupon_id",
                "クーポンまたは児童用二次元コードのどちらかを指定してください。",
            ));
        }
    };
    let place = match (body.facility_id, body.facility_qr, caller.actor.facility_id) {
        (Some(facility), None, _) => Place::Facility(id("facility_id", &facility)?),
        (None, Some(qr), _) => Place::FacilityQr(qr),
        (None, None, Some(own)) => Place::Facility(own),
        _ => return Err(Problem::invalid_field("facility_id", "事業所を指定してください。")),
    };
    let purpose = match body.purpose.as_deref() {
        None | Some("service") => Purpose::Service,
        Some("cancellation_fee") => Purpose::CancellationFee,
        Some(_) => return Err(Problem::invalid_field("purpose", "用途の指定が正しくありません。")),
    };
    let application_id = match body.application_id.filter(|text| !text.is_empty()) {
        Some(text) => Some(id("application_id", &text)?),
        None => None,
    };
    Ok(UseRequest {
        idempotency_key: key.to_owned(),
        body_hash: hex::encode(Sha256::digest(raw)),
        payer,
        place,
        programme_code: body.programme_code,
        amount: Yen::new(body.amount_yen),
        purpose,
        fee_total: body.fee_total_yen.map(Yen::new),
        application_id,
        confirm_repeat: body.confirm_repeat,
    })
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// `YYYY-MM`; the current month by default
    month: Option<String>,
    child_id: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
    /// `csv` for a file
    format: Option<String>,
}

/// The half-open period of a month, Asia/Tokyo.
fn month(raw: Option<&str>, now: Timestamp) -> Result<(Timestamp, Timestamp), Problem> {
    let first = match raw.filter(|text| !text.is_empty()) {
        Some(text) => format!("{text}-01")
            .parse::<Date>()
            .map_err(|_| Problem::invalid_field("month", "YYYY-MM の形式で指定してください。"))?,
        None => now.jst_date().first_of_month(),
    };
    Ok((Timestamp::jst_midnight(first), Timestamp::jst_midnight(add_months(first, 1))))
}

#[utoipa::path(get, path = "/v1/coupon-uses", tag = "coupons", params(Query),
    responses((status = 200, description = "the household's, the facility's, or a child's uses of a month, newest first; JSON or CSV")))]
async fn list(State(app): State<AppState>, caller: Caller, Asked(query): Asked<Query>) -> Result<Response, Problem> {
    let (from, to) = month(query.month.as_deref(), app.now())?;
    let child = match query.child_id.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => Some(id("child_id", text)?),
        None => None,
    };
    let before: Option<UseId> = match query.cursor.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => Some(id("cursor", text)?),
        None => None,
    };
    let csv = query.format.as_deref() == Some("csv");
    let n_max = if csv { CSV_ROWS_MAX } else { page_size(query.limit) };
    let uses = app.workflow.uses(&caller.actor, child, from, to, before, n_max).await?;
    audited(&app, &caller, if csv { Access::Export } else { Access::View }, "coupon_use", uses.len()).await?;
    if csv {
        let name = format!("attachment; filename=\"coupon_uses_{}.csv\"", from.jst_date().strftime("%Y%m"));
        let headers =
            [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
        return Ok((headers, csv_text(&uses)).into_response());
    }
    Ok(Json(super::input::list(uses, n_max, |item| item.use_id.to_string())).into_response())
}

/// The CSV form of flows.md Part I.
fn csv_text(uses: &[UseView]) -> String {
    let header = [
        "used_on",
        "time",
        "use_no",
        "state",
        "child",
        "programme_code",
        "purpose",
        "amount_yen",
        "payer_channel",
        "facility",
    ];
    let rows = uses.iter().map(|item| {
        let at = item.used_at.jst();
        vec![
            at.date().to_string(),
            format!("{:02}:{:02}", at.hour(), at.minute()),
            item.use_no.clone(),
            item.state.clone(),
            item.child_label.clone(),
            item.programme_code.clone(),
            item.purpose.clone(),
            item.amount_yen.get().to_string(),
            item.payer_channel.clone(),
            item.facility_name.clone(),
        ]
    });
    todoke_workflow::csv_file::encode(&header, rows)
}

#[derive(Debug, Deserialize, ToSchema)]
struct ReverseBody {
    reason_code: String,
    reason_text: Option<String>,
}

#[utoipa::path(post, path = "/v1/coupon-uses/{use_id}/reverse", tag = "coupons", request_body = ReverseBody, params(("use_id" = String, Path)),
    responses((status = 200, description = "undone; the amount is back")))]
async fn reverse(
    State(app): State<AppState>,
    caller: Caller,
    At(use_id): At<String>,
    Body(body): Body<ReverseBody>,
) -> Result<Json<Value>, Problem> {
    let view = app
        .workflow
        .reverse_use(&caller.actor, path_id(&use_id)?, &body.reason_code, body.reason_text.as_deref(), app.now())
        .await?;
    Ok(Json(json!(view)))
}
