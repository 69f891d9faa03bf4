//! The lake's health, and the quarantine of events.

use axum::{Json, extract::State};
use serde_json::{Value, json};
use todoke_domain::role::Permission;
use todoke_store::Wall;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::PAGE_MAX;
use crate::{auth::Caller, problem::Problem, quarantine, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(list)).routes(routes!(replay))
}

#[utoipa::path(get, path = "/v1/lake/health", tag = "lake",
    responses((status = 200, description = "tables with their files, what waits for them, and the quarantine")))]
async fn health(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    // Who asks the lake wants to know how fresh it is; who runs the city's data wants to know what is held back.
    if !caller.account.role.may(Permission::ImportData) {
        caller.actor.require(Permission::QueryLake)?;
    }
    let code = &caller.actor.municipality_code;
    let mut tx = app.workflow.store().begin_read(Wall::Around(code.clone())).await?;
    let counts = tx.quarantine_counts(code).await?;
    drop(tx);
    let quarantine: serde_json::Map<String, Value> =
        counts.into_iter().map(|count| (count.reason, Value::from(count.n))).collect();
    let sink = app.sink.borrow().clone();
    let oldest = sink.oldest_staged_at;
    let lag_ms = oldest.map(|at| app.now().since(at.into()).as_millis());
    Ok(Json(json!({
        "tables": app.lake.stats(),
        "staged_rows": app.lake.staged_rows(),
        "oldest_staged_ms": lag_ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        "log_backlog_bytes": app.usage.backlog_bytes(),
        "log_failure": app.usage.failure().map(|failure| failure.to_string()),
        "sink": sink,
        "quarantine": quarantine,
    })))
}

#[utoipa::path(get, path = "/v1/lake/quarantine", tag = "lake",
    responses((status = 200, description = "events that could not be taken, oldest first, without their contents")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.actor.require(Permission::ImportData)?;
    let code = &caller.actor.municipality_code;
    let mut tx = app.workflow.store().begin_read(Wall::Around(code.clone())).await?;
    let held = tx.quarantined_events(code, None, PAGE_MAX).await?;
    let items: Vec<Value> = held
        .iter()
        .map(|entry| {
            json!({
                "quarantine_id": entry.quarantine_id,
                "entrance": entry.entrance,
                "event_id": entry.event_id,
                "reason": entry.reason,
                "field": entry.field,
                "received_at": entry.received_at,
            })
        })
        .collect();
    Ok(Json(super::input::all(items)))
}

#[utoipa::path(post, path = "/v1/lake/quarantine/replay", tag = "lake",
    responses((status = 200, description = "how many events were taken, are as bad as before, and were dropped for lack of consent")))]
async fn replay(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.actor.require(Permission::ImportData)?;
    let done = quarantine::replay(app.workflow.store(), &app.usage, &caller.actor.municipality_code, app.now()).await?;
    Ok(Json(json!(done)))
}
