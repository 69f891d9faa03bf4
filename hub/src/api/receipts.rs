//! What comes back without a session: receipts of devices, mailed links, bounced mail, the end of optional mail.
//! Each is proved by the token of one delivery, which opens nothing else.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_domain::{delivery::ReceiptToken, ids::MessageId};
use todoke_notifier::bounce;
use todoke_workflow::{
    WorkflowError,
    messaging::{BouncedMail, ReceiptKind},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body};
use crate::{auth::Origin, problem::Problem, state::AppState};

/// Receipts in one request.
const RECEIPTS_MAX: usize = 200;
/// Receipts per client neighbourhood and minute: a school's wifi holds many phones.
const PER_MIN_MAX: u32 = 6_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(receipts))
        .routes(routes!(link))
        .routes(routes!(ask_unsubscribe, unsubscribe))
        .routes(routes!(bounces))
        .routes(routes!(sender))
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct ReceiptBody {
    /// As it came with the push
    receipt: String,
    /// `delivered`, `displayed` or `opened`
    kind: String,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct ReceiptsBody {
    receipts: Vec<ReceiptBody>,
}

fn token(raw: &str) -> Option<ReceiptToken> {
    raw.parse().ok()
}

#[utoipa::path(post, path = "/v1/receipts", tag = "receipts", request_body = ReceiptsBody,
    responses((status = 200, description = "how many told something new; unknown ones count as nothing"), (status = 422, description = "fields to correct")))]
async fn receipts(
    State(app): State<AppState>,
    Origin(origin): Origin,
    Body(body): Body<ReceiptsBody>,
) -> Result<Json<Value>, Problem> {
    let now = app.now();
    app.limiter.count(format!("receipts:{origin}"), PER_MIN_MAX, now).map_err(Problem::rate_limited)?;
    if body.receipts.len() > RECEIPTS_MAX {
        return Err(Problem::invalid_field("receipts", "一度に送れるのは200件までです。"));
    }
    let mut changed = 0;
    for receipt in &body.receipts {
        let kind = match receipt.kind.as_str() {
            "delivered" => ReceiptKind::Delivered,
            "displayed" => ReceiptKind::Displayed,
            "opened" => ReceiptKind::Opened,
            _ => return Err(Problem::invalid_field("kind", "delivered、displayed、opened のいずれかです。")),
        };
        if let Some(token) = token(&receipt.receipt) {
            changed += usize::from(app.workflow.note_receipt(token, kind, now).await?);
        }
    }
    Ok(Json(json!({ "changed": changed })))
}

#[utoipa::path(get, path = "/m/{token}", tag = "receipts", params(("token" = String, Path)),
    responses((status = 303, description = "to the screen of a mailed message, named in `mailed`; the mail counts as opened, the message is not read by it")))]
async fn link(State(app): State<AppState>, method: Method, At(raw): At<String>) -> Result<Response, Problem> {
    // A look ahead (HEAD) by a mail program opens nothing; an old or broken link leads home.
    let path = match token(&raw).filter(|_| method == Method::GET) {
        Some(token) => match app.workflow.open_link(token, app.now()).await {
            Ok(opened) => opened.path,
            Err(WorkflowError::NotFound(_)) => "/".to_owned(),
            Err(error) => return Err(error.into()),
        },
        None => "/".to_owned(),
    };
    let headers = [(header::LOCATION, path), (header::CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

const UNSUBSCRIBE_PAGE: &str = "<!doctype html><html lang=\"ja\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>メールの停止</title><h1>メールの停止</h1>\
<p>この種類のお知らせをメールで受け取らないようにします。受信箱には引き続き届きます。</p>\
<form method=\"post\"><button>メールを停止する</button></form></html>";
const UNSUBSCRIBED_PAGE: &str = "<!doctype html><html lang=\"ja\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>メールを停止しました</title><h1>メールを停止しました</h1>\
<p>設定画面の「お知らせの受け取り方」から、いつでも元に戻せます。</p></html>";

#[utoipa::path(get, path = "/v1/unsubscribe/{token}", tag = "receipts", params(("token" = String, Path)),
    responses((status = 200, description = "a page with one button; looking at it changes nothing")))]
async fn ask_unsubscribe(At(_token): At<String>) -> Html<&'static str> {
    Html(UNSUBSCRIBE_PAGE)
}

#[utoipa::path(post, path = "/v1/unsubscribe/{token}", tag = "receipts", params(("token" = String, Path)),
    responses((status = 200, description = "mails of this category are off (RFC 8058)"), (status = 404, description = "not the token of an optional mail")))]
async fn unsubscribe(State(app): State<AppState>, At(raw): At<String>) -> Result<Html<&'static str>, Problem> {
    let token = token(&raw).ok_or_else(|| Problem::not_found("mail"))?;
    app.workflow.unsubscribe(token, app.now()).await?;
    Ok(Html(UNSUBSCRIBED_PAGE))
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct BounceBody {
    /// Our Message-ID, or its part before the `@`
    message_id: String,
    /// Whom it did not reach
    recipient: Option<String>,
    /// Whether a later attempt is pointless
    permanent: bool,
    /// The server's code, such as `5.1.1`
    #[serde(default)]
    code: String,
}

fn is_allowed(app: &AppState, headers: &HeaderMap) -> bool {
    let secret = &app.config().bounce.secret;
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    // Hashes are compared, so that the time it takes tells nothing of the secret.
    let hash = todoke_workflow::secret::hash;
    !secret.is_empty() && given.is_some_and(|given| hash(given) == hash(&format!("Bearer {secret}")))
}

#[utoipa::path(get, path = "/v1/mail/sender", tag = "receipts",
    responses((status = 200, description = "domain that our mails come from, for people who must let them in; null when none are sent")))]
async fn sender(State(app): State<AppState>) -> Json<Value> {
    let mail = &app.config().mail;
    Json(json!({ "domain": mail.domain().filter(|_| mail.is_on()) }))
}

#[utoipa::path(post, path = "/v1/mail/bounces", tag = "receipts", request_body(content = BounceBody, description = "JSON, or the report itself as message/rfc822"),
    responses((status = 200, description = "how many mails it says have failed"), (status = 401, description = "without the secret of the configuration")))]
async fn bounces(State(app): State<AppState>, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    if !is_allowed(&app, &headers) {
        return Err(Problem::signed_out());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let reports: Vec<BouncedMail> = if kind.starts_with("application/json") {
        let told: BounceBody = serde_json::from_slice(&body)
            .map_err(|_| Problem::invalid_field("message_id", "形式が正しくありません。"))?;
        let id = told.message_id.trim_matches(['<', '>']).split('@').next().unwrap_or_default().to_owned();
        let id: Option<MessageId> = id.parse().ok();
        let report = id.map(|message_id| BouncedMail {
            message_id,
            address: told.recipient,
            permanent: told.permanent,
            code: told.code,
        });
        report.into_iter().collect()
    } else {
        let parsed = bounce::parse(&body).into_iter();
        parsed
            .filter_map(|bounce| {
                Some(BouncedMail {
                    message_id: bounce.message_id?,
                    address: Some(bounce.recipient),
                    permanent: bounce.verdict.is_permanent(),
                    code: bounce.status,
                })
            })
            .collect()
    };
    let mut failed = 0;
    for report in &reports {
        failed += usize::from(app.workflow.note_bounce(report, app.now()).await?);
    }
    Ok(Json(json!({ "failed": failed })))
}
