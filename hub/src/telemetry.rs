//! Logs, request ids and metrics. Never bodies, tokens, addresses or names.

use std::{io::IsTerminal, net::IpAddr, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, header::HeaderName},
    middleware::Next,
    response::Response,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::Instrument;
use tracing_subscriber::{EnvFilter, fmt};
use uuid::Uuid;

use crate::{config::LogConfig, state::AppState};

/// Header that carries the request id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Histogram, seconds: from the request's arrival to its response's head, by method, route and status.
pub const HTTP_SECONDS: &str = "todoke_http_request_seconds";
/// Gauge: open websockets of this node.
pub const SOCKETS: &str = "todoke_sockets";
/// Gauge: events of the record that the lake does not hold yet.
pub const EVENTS_WAITING: &str = "todoke_lake_events_waiting";
/// Gauge: live files of a table of the lake, by table.
pub const LAKE_FILES: &str = "todoke_lake_files";
/// Gauge: of these, files that compaction takes for small, by table.
pub const LAKE_SMALL_FILES: &str = "todoke_lake_small_files";
/// Gauge: live files whose ids were not compared with the others yet, by table.
pub const LAKE_NEW_FILES: &str = "todoke_lake_new_files";
/// Gauge: live files that the last compaction of this process had no memory for, by table.
pub const LAKE_TOO_LARGE_FILES: &str = "todoke_lake_too_large_files";
/// Gauge: committed rows, by table.
pub const LAKE_ROWS: &str = "todoke_lake_rows";
/// Gauge: bytes of the live files, by table.
pub const LAKE_BYTES: &str = "todoke_lake_bytes";
/// Gauge: rows that queries see and no commit has.
pub const LAKE_STAGED_ROWS: &str = "todoke_lake_staged_rows";
/// Gauge, bytes: memory of these.
pub const LAKE_STAGED_BYTES: &str = "todoke_lake_staged_bytes";
/// Gauge, seconds: age of the oldest of these, 0 without any.
pub const LAKE_OLDEST_SECONDS: &str = "todoke_lake_oldest_unflushed_seconds";
/// Gauge: 1 while events do not reach the lake or the log takes none.
pub const LAKE_FAILING: &str = "todoke_lake_failing";
/// Gauge, bytes: events of the log that wait for the lake.
pub const LOG_BYTES: &str = "todoke_ingest_log_waiting_bytes";
/// Gauge: events held in quarantine, of all municipalities.
pub const QUARANTINED: &str = "todoke_quarantined_events";
/// Counter: requests refused because as much is held as may be, by `limit`: `sender` or `municipality`.
pub const QUARANTINE_REFUSED: &str = "todoke_quarantine_refused_total";

tokio::task_local! {
    static CURRENT: String;
}

/// Id of the request that this task serves; empty outside one.
pub fn request_id() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Sets up logging to standard error. A second call changes nothing.
pub fn init_logs(config: &LogConfig) {
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = fmt().with_env_filter(filter).with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let set = if config.json { builder.json().flatten_event(true).try_init() } else { builder.compact().try_init() };
    if set.is_err() {
        tracing::debug!("logging is already set up");
    }
}

/// Sets up metrics; the handle renders them.
pub fn init_metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
        .unwrap_or_else(|_| PrometheusBuilder::new())
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("metrics are already set up");
    }
    metrics::describe_histogram!(
        HTTP_SECONDS,
        metrics::Unit::Seconds,
        "from a request's arrival to its response's head"
    );
    metrics::describe_gauge!(SOCKETS, "open websockets of this node");
    metrics::describe_gauge!(EVENTS_WAITING, "events of the record that the lake does not hold yet");
    metrics::describe_counter!(QUARANTINE_REFUSED, "requests refused because the quarantine is full");
    for (name, meaning) in [
        (LAKE_FILES, "live files of a table of the lake"),
        (LAKE_SMALL_FILES, "live files that compaction takes for small"),
        (LAKE_NEW_FILES, "live files whose ids were not compared with the others yet"),
        (LAKE_TOO_LARGE_FILES, "live files that the last compaction had no memory for"),
        (LAKE_ROWS, "committed rows of a table of the lake"),
        (LAKE_BYTES, "bytes of a table's live files"),
        (LAKE_STAGED_ROWS, "rows that queries see and no commit has"),
        (LAKE_STAGED_BYTES, "memory of the rows that no commit has, bytes"),
        (LAKE_OLDEST_SECONDS, "age of the oldest event that record or log still keep for the lake, seconds"),
        (LAKE_FAILING, "1 while events do not reach the lake or the log takes none"),
        (LOG_BYTES, "events of the log that wait for the lake, bytes"),
        (QUARANTINED, "events held in quarantine"),
    ] {
        metrics::describe_gauge!(name, meaning);
    }
    handle
}

/// Gives every request an id, a span and a measurement.
pub async fn observe(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let usable =
        given.filter(|id| (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    let id = usable.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let span = tracing::info_span!("request", request.id = %id, http.method = %method, http.route = %route);
    let begun = Instant::now();
    let mut response = CURRENT.scope(id.clone(), next.run(request).instrument(span.clone())).await;
    let seconds = begun.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    metrics::histogram!(HTTP_SECONDS, "method" => method.to_string(), "route" => route, "status" => status.to_string())
        .record(seconds);
    span.in_scope(|| {
        if status >= 500 {
            tracing::warn!(http.status = status, elapsed_ms = seconds * 1_000.0, "request answered");
        } else {
            tracing::debug!(http.status = status, elapsed_ms = seconds * 1_000.0, "request answered");
        }
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    crate::web::harden(response.headers_mut(), app.config().public_url().starts_with("https://"));
    response
}

/// A client's address cut so that it limits a neighbourhood but names nobody in logs: /24 and /48.
pub fn neighbourhood(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}
