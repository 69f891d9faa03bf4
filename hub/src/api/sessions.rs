//! Signing in and out.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_store::account::Account;
use todoke_workflow::account::{Entrance, Opened, SignIn, TERMS_VERSION};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    input::{Body, id},
    registrations::LinkBody,
};
use crate::{
    auth::{COOKIE, Caller, Origin},
    problem::Problem,
    state::AppState,
};

/// Life of the cookie: that of a session, seconds.
const COOKIE_AGE_S: u64 = 12 * 60 * 60;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(begin))
        .routes(routes!(enter_code))
        .routes(routes!(current, end))
        .routes(routes!(accept_terms))
        .routes(routes!(request_reset))
        .routes(routes!(set_password))
        .routes(routes!(confirm_email))
}

#[derive(Debug, Deserialize, ToSchema)]
struct SignInBody {
    email: String,
    password: String,
    /// `guardian` or `staff`
    entrance: String,
    device_token: Option<String>,
}

#[utoipa::path(post, path = "/v1/sessions", tag = "session", request_body = SignInBody, responses(
    (status = 200, description = "a one-time code is mailed"), (status = 201, description = "signed in from a trusted device"),
    (status = 401, description = "refused"), (status = 429, description = "too many attempts")))]
async fn begin(
    State(app): State<AppState>,
    Origin(origin): Origin,
    Body(body): Body<SignInBody>,
) -> Result<Response, Problem> {
    let now = app.now();
    let entrance = match body.entrance.as_str() {
        "guardian" => Entrance::Household,
        "staff" => Entrance::Office,
        _ => return Err(Problem::invalid_field("entrance", "guardian または staff を指定してください。")),
    };
    app.limiter
        .count(format!("sign-in:{origin}"), app.config().http.sign_ins_per_min, now)
        .map_err(Problem::rate_limited)?;
    match app.workflow.sign_in(&body.email, &body.password, entrance, body.device_token.as_deref(), now).await? {
        SignIn::CodeSent { challenge_id, expires_at } => {
            Ok(Json(json!({ "state": "otp_required", "challenge_id": challenge_id, "expires_at": expires_at }))
                .into_response())
        }
        SignIn::Open(opened) => opened_response(&app, &opened).await,
    }
}

#[derive(Debug, Deserialize, ToSchema)]
struct CodeBody {
    challenge_id: String,
    code: String,
    #[serde(default)]
    trust_device: bool,
}

#[utoipa::path(post, path = "/v1/sessions/otp", tag = "session", request_body = CodeBody, responses(
    (status = 201, description = "signed in; the session token is shown this once"), (status = 401, description = "wrong or spent code")))]
async fn enter_code(
    State(app): State<AppState>,
    Origin(origin): Origin,
    Body(body): Body<CodeBody>,
) -> Result<Response, Problem> {
    let now = app.now();
    app.limiter
        .count(format!("sign-in:{origin}"), app.config().http.sign_ins_per_min, now)
        .map_err(Problem::rate_limited)?;
    let opened =
        app.workflow.enter_code(id("challenge_id", &body.challenge_id)?, &body.code, body.trust_device, now).await?;
    opened_response(&app, &opened).await
}

async fn opened_response(app: &AppState, opened: &Opened) -> Result<Response, Problem> {
    let body = json!({
        "state": "active",
        "session_token": opened.session_token,
        "csrf_token": opened.session.csrf_token,
        "device_token": opened.device_token,
        "account": account_json(app, &opened.account).await?,
        "terms_required": opened.account.terms_version < TERMS_VERSION,
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::SET_COOKIE, session_cookie(app, &opened.session_token, COOKIE_AGE_S));
    Ok((StatusCode::CREATED, headers, Json(body)).into_response())
}

fn session_cookie(app: &AppState, token: &str, age_s: u64) -> HeaderValue {
    let secure = if app.config().public_url().starts_with("https://") { "; Secure" } else { "" };
    let text = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age_s}{secure}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// An account as its holder sees it.
pub(super) async fn account_json(app: &AppState, account: &Account) -> Result<Value, Problem> {
    let (municipality_name, facility_name) = app.workflow.names_of(account).await?;
    Ok(json!({
        "account_id": account.account_id,
        "role": account.role,
        "email": account.email,
        "name": account.name,
        "municipality_code": account.municipality_code,
        "municipality_name": municipality_name,
        "facility_id": account.facility_id,
        "facility_name": facility_name,
        "guardian_id": account.guardian_id,
    }))
}

#[utoipa::path(get, path = "/v1/session", tag = "session",
    responses((status = 200, description = "who is signed in"), (status = 401, description = "nobody")))]
async fn current(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({
        "account": account_json(&app, &caller.account).await?,
        "csrf_token": caller.session.as_ref().map(|session| &session.csrf_token),
        "terms_required": caller.account.terms_version < TERMS_VERSION,
        "server_time": app.now(),
    })))
}

#[utoipa::path(delete, path = "/v1/session", tag = "session", responses((status = 204, description = "signed out")))]
async fn end(State(app): State<AppState>, caller: Caller) -> Result<Response, Problem> {
    if let Some(session) = &caller.session {
        app.workflow.sign_out(session.session_id, app.now()).await?;
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::SET_COOKIE, session_cookie(&app, "", 0));
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

#[utoipa::path(post, path = "/v1/session/terms", tag = "session", responses((status = 204, description = "terms and privacy policy accepted")))]
async fn accept_terms(State(app): State<AppState>, caller: Caller) -> Result<StatusCode, Problem> {
    app.workflow.accept_terms(&caller.actor, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, ToSchema)]
struct ResetBody {
    email: String,
}

#[utoipa::path(post, path = "/v1/password-resets", tag = "session", request_body = ResetBody,
    responses((status = 202, description = "the same answer whether the address exists or not")))]
async fn request_reset(
    State(app): State<AppState>,
    Origin(origin): Origin,
    Body(body): Body<ResetBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let now = app.now();
    app.limiter.count(format!("mail:{origin}"), app.config().http.mails_per_min, now).map_err(Problem::rate_limited)?;
    app.workflow.request_password_reset(&body.email, now).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": "accepted" }))))
}

#[derive(Debug, Deserialize, ToSchema)]
struct NewPasswordBody {
    token: String,
    password: String,
}

#[utoipa::path(post, path = "/v1/password-resets/confirm", tag = "session", request_body = NewPasswordBody,
    responses((status = 204, description = "password set, all sessions ended"), (status = 410, description = "link used or expired")))]
async fn set_password(State(app): State<AppState>, Body(body): Body<NewPasswordBody>) -> Result<StatusCode, Problem> {
    app.workflow.set_password_by_link(&body.token, body.password, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/v1/email-changes/confirm", tag = "session", request_body = LinkBody,
    responses((status = 204, description = "address changed"), (status = 410, description = "link used or expired")))]
async fn confirm_email(State(app): State<AppState>, Body(body): Body<LinkBody>) -> Result<StatusCode, Problem> {
    app.workflow.confirm_email_change(&body.token, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
