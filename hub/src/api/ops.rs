//! Health, readiness, metrics.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use todoke_domain::{Timestamp, delivery::Provider};
use todoke_notifier::dispatch::metric;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::lake::oldest_waiting;
use crate::{problem::Problem, state::AppState, telemetry};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready)).routes(routes!(metrics))
}

#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, description = "the process answers")))]
async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, description = "record and lake answer"), (status = 503, description = "not ready")))]
async fn ready(State(app): State<AppState>) -> Result<Json<Value>, Problem> {
    if app.workflow.store().ping().await.is_err() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready")
            .detail("ただいま一時的にご利用いただけません。しばらくお待ちください。")
            .retry_after(1));
    }
    Ok(Json(json!({ "status": "ready", "sockets": app.hub.n_connections() })))
}

#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, description = "Prometheus text")))]
async fn metrics(State(app): State<AppState>) -> Result<impl IntoResponse, Problem> {
    let mut tx = app.workflow.store().begin_read(todoke_store::Wall::None).await?;
    let (_, waiting) = tx.event_counts().await?;
    let now = app.now();
    let depths = tx.queue_depths(now).await?;
    let held = tx.quarantined_total().await?;
    let oldest = oldest_waiting(&app, &mut tx).await?.map(|at| now.since(at).as_secs_f64());
    drop(tx);
    lake_gauges(&app, oldest, held);
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and such counts fit")]
    {
        metrics::gauge!(telemetry::SOCKETS).set(app.hub.n_connections() as f64);
        metrics::gauge!(telemetry::EVENTS_WAITING).set(waiting as f64);
        for provider in Provider::ALL {
            let depth = depths.iter().find(|depth| depth.provider == provider.as_str());
            let oldest = depth.map(|depth| now.since(Timestamp::from_micros(depth.oldest_due_us)).as_secs_f64());
            let labels = [("provider", provider.as_str())];
            metrics::gauge!(metric::QUEUE, &labels).set(depth.map_or(0.0, |depth| depth.due as f64));
            metrics::gauge!(metric::OLDEST_SECONDS, &labels).set(oldest.unwrap_or(0.0));
        }
    }
    Ok(([("content-type", "text/plain; version=0.0.4")], app.metrics.render()))
}

/// How the lake and the way into it are doing, as `/v1/lake/health` shows it.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and such counts fit")]
fn lake_gauges(app: &AppState, oldest: Option<f64>, held: i64) {
    for table in app.lake.stats() {
        let set = |name: &'static str, value: f64| {
            metrics::gauge!(name, "table" => table.table.clone()).set(value);
        };
        set(telemetry::LAKE_FILES, table.files as f64);
        set(telemetry::LAKE_SMALL_FILES, table.small_files as f64);
        set(telemetry::LAKE_NEW_FILES, table.new_files as f64);
        set(telemetry::LAKE_TOO_LARGE_FILES, table.too_large_files as f64);
        set(telemetry::LAKE_ROWS, table.rows as f64);
        set(telemetry::LAKE_BYTES, table.bytes as f64);
    }
    let sink = app.sink.borrow().clone();
    let is_failing = sink.failure.is_some() || app.usage.failure().is_some();
    metrics::gauge!(telemetry::LAKE_STAGED_ROWS).set(app.lake.staged_rows() as f64);
    metrics::gauge!(telemetry::LAKE_STAGED_BYTES).set(app.lake.staged_bytes() as f64);
    metrics::gauge!(telemetry::LAKE_OLDEST_SECONDS).set(oldest.unwrap_or(0.0));
    metrics::gauge!(telemetry::LAKE_FAILING).set(if is_failing { 1.0 } else { 0.0 });
    metrics::gauge!(telemetry::LOG_BYTES).set(app.usage.backlog_bytes() as f64);
    metrics::gauge!(telemetry::QUARANTINED).set(held as f64);
}
