//! Events of outside systems in: CloudEvents 1.0, with an API key.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde_json::Value;
use todoke_ingest::cloud_event::{self, Mode, SourceContext};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{intake::Intake, usage};
use crate::{
    problem::Problem,
    quarantine::{self, Entrance, Origin},
    state::AppState,
    telemetry,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(take))
}

#[utoipa::path(post, path = "/v1/events", tag = "events", request_body(content(
        (Object = "application/cloudevents+json"), (Object = "application/cloudevents-batch+json"), (Object = "application/json"))),
    responses((status = 202, description = "on disk; duplicates are counted, bad events named and kept in quarantine"),
        (status = 403, description = "not an API key, or one without a source to send events of"), (status = 408, description = "the body took too long to arrive"),
        (status = 413, description = "too long"),
        (status = 415, description = "not CloudEvents"),
        (status = 422, description = "more than 500 of its events are bad: nothing of it is stored"),
        (status = 429, description = "the key's quota is used up, or too many of its bad events are held"),
        (status = 503, description = "too much waits, or too many bad events of the municipality are held: send the same again after Retry-After")))]
async fn take(State(app): State<AppState>, intake: Intake) -> Result<(StatusCode, Json<Value>), Problem> {
    let caller = &intake.caller;
    // People have screens; what comes here is a system with a key of its own.
    if caller.session.is_some() {
        return Err(Problem::denied());
    }
    let now = app.now();
    let mode = mode(&intake.media_type(), &intake.headers).ok_or_else(|| {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-cloudevents", "Not CloudEvents")
            .detail("CloudEvents 1.0 の形式で送信してください。")
    })?;
    let sources = app.workflow.sources_of_machine(&caller.account).await?;
    if sources.as_ref().is_some_and(Vec::is_empty) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "no-source", "No source").detail(
            "このキーには送信元が設定されていないため、記録を送信できません。APIキーの画面で送信元を指定してください。",
        ));
    }
    let config = &app.config().ingest;
    let context = SourceContext {
        municipality_code: caller.actor.municipality_code.clone(),
        role: caller.account.role.as_str().to_owned(),
        actor_key: caller.actor.person_key,
        allowed: config.outside_types.clone(),
        sources,
        correlation_id: Some(telemetry::request_id()),
        received_at: now,
    };
    let entrance = Entrance::Events(context.clone());
    let room = intake.room_to_read()?;
    let (text, mut parsed) = intake.read(move |raw| cloud_event::parse(raw, &mode, &context)).await?;
    let n = u32::try_from(parsed.n_events()).unwrap_or(u32::MAX);
    let key = format!("events:{}", caller.account.account_id);
    app.limiter.count_many(key, n, config.outside_events_per_min, now).map_err(Problem::rate_limited)?;
    let from = Origin { code: &caller.actor.municipality_code, account: caller.account.account_id };
    usage::check_bad(&app, from, parsed.rejected.len()).await?;
    let receipt = app.usage.append(std::mem::take(&mut parsed.events), now).await?;
    let mut rejected = std::mem::take(&mut parsed.rejected);
    rejected.extend(receipt.rejected.into_iter().map(|refused| parsed.as_sent(refused, &text)));
    quarantine::keep(app.workflow.store(), from, &entrance, None, &rejected, config, now).await?;
    drop(room);
    Ok((StatusCode::ACCEPTED, Json(usage::answer(receipt.accepted, receipt.duplicates, &rejected))))
}

/// Which of the three forms of the HTTP binding a request has.
fn mode(media_type: &str, headers: &HeaderMap) -> Option<Mode> {
    match media_type {
        "application/cloudevents+json" => return Some(Mode::Structured),
        "application/cloudevents-batch+json" => return Some(Mode::Batched),
        "application/json" if headers.contains_key("ce-specversion") => {}
        _ => return None,
    }
    let attributes = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().strip_prefix("ce-")?.to_owned(), value.to_str().ok()?.to_owned()))
    });
    Some(Mode::Binary(attributes.collect()))
}
