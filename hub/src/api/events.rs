//! Events of outside systems in: CloudEvents 1.0, with an API key.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde_json::Value;
use todoke_ingest::{
    EncodedEvents, IngestError, Rejected,
    cloud_event::{self, Mode, ParsedEvents, SourceContext},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{intake::Intake, usage};
use crate::{
    problem::Problem,
    quarantine::{self, Entrance},
    state::AppState,
    telemetry,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(take))
}

#[utoipa::path(post, path = "/v1/events", tag = "events", request_body(content(
        (Object = "application/cloudevents+json"), (Object = "application/cloudevents-batch+json"), (Object = "application/json"))),
    responses((status = 202, description = "on disk; duplicates are counted, bad events named and kept in quarantine"),
        (status = 403, description = "not an API key"), (status = 408, description = "the body took too long to arrive"),
        (status = 413, description = "too long"),
        (status = 415, description = "not CloudEvents"), (status = 429, description = "the key's quota is used up"),
        (status = 503, description = "too much waits: send the same again after Retry-After")))]
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
    let config = &app.config().ingest;
    let context = SourceContext {
        municipality_code: caller.actor.municipality_code.clone(),
        role: caller.account.role.as_str().to_owned(),
        actor_key: caller.actor.person_key,
        allowed: config.outside_types.clone(),
        correlation_id: Some(telemetry::request_id()),
        received_at: now,
    };
    let entrance = Entrance::Events(context.clone());
    let (_, parsed) = intake.read(move |raw| cloud_event::parse(raw, &mode, &context)).await?;
    let ParsedEvents { events, contents, mut rejected } = parsed;
    let n = u32::try_from(events.len() + rejected.len()).unwrap_or(u32::MAX);
    let key = format!("events:{}", caller.account.account_id);
    app.limiter.count_many(key, n, config.outside_events_per_min, now).map_err(Problem::rate_limited)?;
    let encoded = EncodedEvents::of(&events).map_err(IngestError::from)?;
    let receipt = app.usage.append(encoded, now).await?;
    rejected.extend(receipt.rejected.into_iter().map(|refused| {
        let content = refused.place.and_then(|at| contents.get(at)).filter(|text| !text.is_empty()).cloned();
        Rejected { content, ..refused }
    }));
    let code = &caller.actor.municipality_code;
    quarantine::keep(app.workflow.store(), code, &entrance, None, &rejected, now).await?;
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
