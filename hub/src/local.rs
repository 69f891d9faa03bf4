//! Commands beside a running server ask it over loopback, with the secret from its note.

use std::path::Path;

use anyhow::Context;
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Request, StatusCode, header},
    response::Response,
    routing::post,
};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use todoke_analytics::{ClaimsOf, Dimension, Format, ReportId, ReportRequest, RowsKind, SqlLimits, SqlRequest, format};
use todoke_domain::{MunicipalityCode, Timestamp, ids::AccountId};
use todoke_store::quarantine::HeldOf;
use todoke_workflow::Actor;
use tokio::net::TcpStream;

use crate::{
    problem::Problem,
    quarantine::{self, Replayed, Rules},
    run_file::RunFile,
    state::AppState,
};

/// A report as a command asks for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReportCall {
    /// Report.
    pub report: String,
    /// Wall.
    pub municipality: MunicipalityCode,
    /// First day.
    pub from: String,
    /// Last day.
    pub to: String,
    /// Dimensions, comma-separated.
    pub by: String,
    /// Row set; empty for the first.
    pub rows: Option<String>,
    /// Only this survey.
    pub survey_id: Option<String>,
    /// Only this coupon set.
    pub coupon_set_id: Option<String>,
    /// Form of the answer.
    pub format: String,
}

/// A statement as a command asks for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SqlCall {
    /// Statement.
    pub sql: String,
    /// Wall.
    pub municipality: MunicipalityCode,
    /// Form of the answer.
    pub format: String,
}

/// A replay of quarantined events as a command asks for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReplayCall {
    /// Wall.
    pub municipality: MunicipalityCode,
    /// Takes what was too old for its door as history.
    #[serde(default)]
    pub too_old: bool,
}

/// Held events that a command lets go.
#[derive(Debug, Serialize, Deserialize)]
pub struct DiscardCall {
    /// Wall.
    pub municipality: MunicipalityCode,
    /// Only those of this reason.
    pub reason: Option<String>,
    /// Only those of this sender.
    pub account_id: Option<AccountId>,
    /// Only those that came in before.
    pub before: Option<Timestamp>,
}

impl DiscardCall {
    /// Whoever is at the machine, and what they mean.
    pub fn by_whom(self, now: Timestamp) -> (Actor, HeldOf) {
        let Self { municipality, reason, account_id, before } = self;
        let which = HeldOf { reason, account_id, before: before.unwrap_or(now) };
        (Actor::system(municipality, "console"), which)
    }
}

/// Asks the server that runs on this data folder. `None` when there is none.
///
/// Errors: what the server answered, as a person should read it.
pub async fn ask(data: &Path, path: &str, body: &Value) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(note) = RunFile::read(data) else { return Ok(None) };
    // A note that a killed server left behind leads nowhere: then the files are read.
    let Ok(stream) = TcpStream::connect(note.listen).await else { return Ok(None) };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, note.listen.to_string())
        .header(header::AUTHORIZATION, format!("Bearer {}", note.secret))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))?;
    let response = sender.send_request(request).await.context("the running server did not answer")?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes().to_vec();
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::NOT_FOUND {
        // Somebody else listens there now.
        return Ok(None);
    }
    if !status.is_success() {
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        anyhow::bail!("{}", problem["detail"].as_str().unwrap_or("the running server refused"));
    }
    Ok(Some(bytes))
}

/// Routes for commands of this machine's owner; the secret is readable by nobody else.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/local/report", post(report))
        .route("/local/sql", post(sql))
        .route("/local/quarantine/replay", post(replay))
        .route("/local/quarantine/discard", post(discard))
        .route("/local/lake/refresh", post(refresh))
}

fn check(app: &AppState, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let expected = format!("Bearer {}", app.local_secret);
    if given == Some(expected.as_str()) { Ok(()) } else { Err(Problem::signed_out()) }
}

fn form(raw: &str) -> Result<Format, Problem> {
    raw.parse().map_err(|_| Problem::invalid_field("format", "形式の指定が正しくありません。"))
}

fn answer(bytes: Vec<u8>, format: Format) -> Response {
    let mut response = Response::new(axum::body::Body::from(bytes));
    if let Ok(kind) = format.content_type().parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

async fn report(
    State(app): State<AppState>,
    headers: HeaderMap,
    Json(call): Json<ReportCall>,
) -> Result<Response, Problem> {
    check(&app, &headers)?;
    let day = |field: &str, raw: &str| {
        raw.parse().map_err(|_| Problem::invalid_field(field, "日付の指定が正しくありません。"))
    };
    let request = ReportRequest {
        report: call.report.parse::<ReportId>()?,
        municipality: call.municipality,
        from: day("from", &call.from)?,
        to: day("to", &call.to)?,
        by: Dimension::parse_list(&call.by)?,
        rows: match call.rows {
            None => RowsKind::Figures,
            Some(name) if name.is_empty() => RowsKind::Underlying(None),
            Some(name) => RowsKind::Underlying(Some(name)),
        },
        survey_id: call.survey_id,
        coupon_set_id: call.coupon_set_id,
        claims: ClaimsOf::Municipality,
        created_at: app.now(),
    };
    let format = form(&call.format)?;
    let table = app.engine.report(&request).await?;
    let bytes = format::report_bytes(&table, format).map_err(|error| Problem::internal(&error))?;
    Ok(answer(bytes, format))
}

async fn sql(State(app): State<AppState>, headers: HeaderMap, Json(call): Json<SqlCall>) -> Result<Response, Problem> {
    check(&app, &headers)?;
    let format = form(&call.format)?;
    let limits = if format == Format::Table { SqlLimits::shown() } else { SqlLimits::export() };
    let request = SqlRequest { municipality: call.municipality, text: call.sql, limits };
    let rows = app.engine.sql(&request).await?;
    let bytes = format::answer_bytes(&rows, format).map_err(|error| Problem::internal(&error))?;
    Ok(answer(bytes, format))
}

async fn replay(
    State(app): State<AppState>,
    headers: HeaderMap,
    Json(call): Json<ReplayCall>,
) -> Result<Json<Replayed>, Problem> {
    check(&app, &headers)?;
    let rules = Rules { outside_types: &app.config().ingest.outside_types, too_old: call.too_old };
    Ok(Json(quarantine::replay(app.workflow.store(), &app.usage, &call.municipality, rules, app.now()).await?))
}

async fn discard(
    State(app): State<AppState>,
    headers: HeaderMap,
    Json(call): Json<DiscardCall>,
) -> Result<Json<Value>, Problem> {
    check(&app, &headers)?;
    let now = app.now();
    let (actor, which) = call.by_whom(now);
    let discarded = app.workflow.discard_held(&actor, &which, now).await?;
    Ok(Json(serde_json::json!({ "discarded": discarded })))
}

/// Shows what another process committed to the lake.
async fn refresh(State(app): State<AppState>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    check(&app, &headers)?;
    let changed = app.lake.view().refresh().await.map_err(|error| Problem::internal(&error))?;
    Ok(Json(serde_json::json!({ "changed": changed })))
}
