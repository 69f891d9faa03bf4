//! The lake's health, and the quarantine of events.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_domain::{Timestamp, ids::QuarantineId, role::Permission};
use todoke_store::{
    Tx, Wall,
    quarantine::{HeldOf, QuarantineCount},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{Asked, Body, PAGE_MAX, id};
use crate::{
    auth::Caller,
    problem::Problem,
    quarantine::{self, Rules},
    state::AppState,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(list)).routes(routes!(replay)).routes(routes!(discard))
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
    let held = tx.quarantine_counts(code, "held").await?;
    let discarded = tx.quarantine_counts(code, "discarded").await?;
    let held_max = i64::from(app.config().ingest.held_max);
    let is_full = tx.held_of_senders(code, held_max).await? >= held_max;
    let oldest = oldest_waiting(&app, &mut tx).await?;
    drop(tx);
    let by_reason = |counts: Vec<QuarantineCount>| -> serde_json::Map<String, Value> {
        counts.into_iter().map(|count| (count.reason, Value::from(count.n))).collect()
    };
    let sink = app.sink.borrow().clone();
    let lag_ms = oldest.map(|at| app.now().since(at).as_millis());
    Ok(Json(json!({
        "tables": app.lake.stats(),
        "staged_rows": app.lake.staged_rows(),
        "oldest_waiting_ms": lag_ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        "log_backlog_bytes": app.usage.backlog_bytes(),
        "log_failure": app.usage.failure().map(|failure| failure.to_string()),
        "sink": sink,
        "quarantine": by_reason(held),
        "quarantine_discarded": by_reason(discarded),
        "quarantine_full": is_full,
    })))
}

/// When the oldest event came in that record or log still keep for the lake.
pub(super) async fn oldest_waiting(app: &AppState, tx: &mut Tx) -> Result<Option<Timestamp>, Problem> {
    let of_record = tx.oldest_waiting_for_lake().await?;
    // Of a log that cannot be read the sink tells.
    let of_log = app.usage.oldest().await.unwrap_or_default();
    Ok(of_record.into_iter().chain(of_log).min())
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct HeldQuery {
    /// `next` of the page before
    cursor: Option<String>,
    limit: Option<i64>,
}

#[utoipa::path(get, path = "/v1/lake/quarantine", tag = "lake", params(HeldQuery),
    responses((status = 200, description = "events that could not be taken, oldest first, without their contents")))]
async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Asked(query): Asked<HeldQuery>,
) -> Result<Json<Value>, Problem> {
    caller.actor.require(Permission::ImportData)?;
    let after = match query.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => Some(id::<QuarantineId>("cursor", cursor)?),
        None => None,
    };
    let n_max = query.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let code = &caller.actor.municipality_code;
    let mut tx = app.workflow.store().begin_read(Wall::Around(code.clone())).await?;
    let held = tx.quarantined_events(code, after, n_max).await?;
    let items: Vec<Value> = held
        .iter()
        .map(|entry| {
            json!({
                "quarantine_id": entry.quarantine_id,
                "entrance": entry.entrance,
                "account_id": entry.account_id,
                "event_id": entry.event_id,
                "reason": entry.reason,
                "field": entry.field,
                "content_bytes": entry.content_bytes,
                "can_be_replayed": !entry.content.is_empty(),
                "received_at": entry.received_at,
            })
        })
        .collect();
    let id_of = |item: &Value| item["quarantine_id"].as_str().unwrap_or_default().to_owned();
    Ok(Json(super::input::list(items, n_max, id_of)))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ReplayQuery {
    /// Takes what was too old for its door as history
    #[serde(default)]
    too_old: bool,
}

#[utoipa::path(post, path = "/v1/lake/quarantine/replay", tag = "lake", params(ReplayQuery),
    responses((status = 200, description = "how many events were taken, are as bad as before, and were dropped for lack of consent")))]
async fn replay(
    State(app): State<AppState>,
    caller: Caller,
    Asked(query): Asked<ReplayQuery>,
) -> Result<Json<Value>, Problem> {
    caller.actor.require(Permission::ImportData)?;
    let rules = Rules { outside_types: &app.config().ingest.outside_types, too_old: query.too_old };
    let code = &caller.actor.municipality_code;
    let done = quarantine::replay(app.workflow.store(), &app.usage, code, rules, app.now()).await?;
    Ok(Json(json!(done)))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct DiscardBody {
    /// Only those of this reason
    reason: Option<String>,
    /// Only those of this sender, as the list names it
    account_id: Option<String>,
    /// Only those that came in before, RFC 3339
    before: Option<String>,
}

#[utoipa::path(post, path = "/v1/lake/quarantine/discard", tag = "lake", request_body = DiscardBody,
    responses((status = 200, description = "how many held events were let go, by reason"),
        (status = 422, description = "nothing says which are meant")))]
async fn discard(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<DiscardBody>,
) -> Result<Json<Value>, Problem> {
    caller.actor.require(Permission::ImportData)?;
    if body.reason.is_none() && body.account_id.is_none() && body.before.is_none() {
        return Err(Problem::invalid_field("reason", "理由、送信者、受付日時のいずれかを指定してください。"));
    }
    let now = app.now();
    let which = HeldOf {
        reason: body.reason,
        account_id: body.account_id.as_deref().map(|raw| id("account_id", raw)).transpose()?,
        before: body.before.as_deref().map(|raw| id::<Timestamp>("before", raw)).transpose()?.unwrap_or(now),
    };
    let discarded = app.workflow.discard_held(&caller.actor, &which, now).await?;
    Ok(Json(json!({ "discarded": discarded })))
}
