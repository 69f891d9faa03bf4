//! Registering a household.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_domain::MunicipalityCode;
use todoke_workflow::account::{ChildInput, Registration};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{Body, all};
use crate::{auth::Origin, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(register)).routes(routes!(confirm)).routes(routes!(municipalities))
}

/// A child as entered.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub(super) struct ChildBody {
    name: String,
    name_kana: String,
    /// `male`, `female` or `unknown`
    sex: String,
    /// `YYYY-MM-DD`
    birth_date: String,
    child_qr: Option<String>,
}

impl From<ChildBody> for ChildInput {
    fn from(body: ChildBody) -> Self {
        Self {
            name: body.name,
            name_kana: body.name_kana,
            sex: body.sex,
            birth_date: body.birth_date,
            child_qr: body.child_qr,
        }
    }
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct ConsentsBody {
    terms: bool,
    privacy: bool,
    usage_analytics: bool,
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct RegistrationBody {
    municipality_code: String,
    email: String,
    password: String,
    name: String,
    name_kana: String,
    sex: Option<String>,
    birth_date: Option<String>,
    postal_code: String,
    address: String,
    ward_code: Option<String>,
    phone: String,
    contact_channel: Option<String>,
    /// Locale of the messages, `ja` by default
    language: Option<String>,
    children: Vec<ChildBody>,
    consents: ConsentsBody,
}

#[utoipa::path(post, path = "/v1/registrations", tag = "registration", request_body = RegistrationBody,
    responses((status = 202, description = "a confirmation link is mailed"), (status = 422, description = "fields to correct")))]
async fn register(
    State(app): State<AppState>,
    Origin(origin): Origin,
    Body(body): Body<RegistrationBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let now = app.now();
    app.limiter.count(format!("mail:{origin}"), app.config().http.mails_per_min, now).map_err(Problem::rate_limited)?;
    let municipality: MunicipalityCode = body
        .municipality_code
        .parse()
        .map_err(|_| Problem::invalid_field("municipality_code", "市区町村を選んでください。"))?;
    let registration = Registration {
        email: body.email,
        password: body.password,
        name: body.name,
        name_kana: body.name_kana,
        sex: body.sex,
        birth_date: body.birth_date,
        postal_code: body.postal_code,
        address: body.address,
        ward_code: body.ward_code,
        phone: body.phone,
        contact_channel: body.contact_channel,
        language: body.language,
        children: body.children.into_iter().map(ChildInput::from).collect(),
        terms: body.consents.terms,
        privacy: body.consents.privacy,
        usage_analytics: body.consents.usage_analytics,
    };
    app.workflow.register(&municipality, registration, now).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": "pending_confirmation" }))))
}

/// The secret of a mailed link.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct LinkBody {
    pub(super) token: String,
}

#[utoipa::path(post, path = "/v1/registrations/confirm", tag = "registration", request_body = LinkBody,
    responses((status = 200, description = "the account is active"), (status = 410, description = "link used or expired")))]
async fn confirm(State(app): State<AppState>, Body(body): Body<LinkBody>) -> Result<Json<Value>, Problem> {
    let account = app.workflow.confirm_registration(&body.token, app.now()).await?;
    Ok(Json(json!({ "status": account.state })))
}

#[utoipa::path(get, path = "/v1/municipalities", tag = "registration", responses((status = 200, description = "where one can register")))]
async fn municipalities(State(app): State<AppState>) -> Result<Json<Value>, Problem> {
    let places = app.workflow.places(app.now()).await?;
    let items = places.into_iter().map(|place| {
        let ward = |code: &String| json!({ "ward_code": code, "name": crate::demo::city::ward_name(code) });
        json!({
            "municipality_code": place.municipality.municipality_code,
            "name": place.municipality.name,
            "contact": place.contact,
            "wards": place.wards.iter().map(ward).collect::<Vec<_>>(),
        })
    });
    Ok(Json(all(items.collect())))
}
