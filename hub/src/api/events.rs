//! Events of outside systems in: CloudEvents 1.0, with an API key.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use todoke_ingest::cloud_event::{self, Mode, SourceContext};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    intake::Intake,
    usage::{self, Answer},
};
use crate::{
    problem::Problem,
    quarantine::{self, Entrance, Origin},
    state::AppState,
    telemetry,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(take))
}

#[utoipa::path(post, path = "/v1/events", tag = "events", params(("Content-Encoding" = Option<String>, Header, description = "gzip or zstd; others are refused")),
    request_body(description = "CloudEvents 1.0: one structured event, a list of up to 5,000, or the data of one event whose attributes are `ce-` headers",
        content((Object = "application/cloudevents+json"), (Object = "application/cloudevents-batch+json"), (Object = "application/json"))),
    responses((status = 202, description = "on disk; duplicates are counted, bad events named and kept in quarantine", body = Answer),
        (status = 400, description = "`bad-batch`: cannot be read as events; nothing of it is stored", content((Object = "application/problem+json"))),
        (status = 401, description = "`signed-out`: no key, or one that has ended", content((Object = "application/problem+json"))),
        (status = 403, description = "`denied`: not an API key; `no-source`: a key without a source to send events of", content((Object = "application/problem+json"))),
        (status = 408, description = "`too-slow`: the body took longer than a minute to arrive, send it again", content((Object = "application/problem+json"))),
        (status = 413, description = "`too-large`: longer than 8 MiB, or than 16 MiB once decompressed", content((Object = "application/problem+json"))),
        (status = 415, description = "`not-cloudevents`; `bad-encoding`: an unknown Content-Encoding", content((Object = "application/problem+json"))),
        (status = 422, description = "`too-many-bad`: more than 500 of its events are bad, nothing of it is stored", content((Object = "application/problem+json"))),
        (status = 429, description = "`rate-limited`: the key's events or requests per minute or its memory for bodies are used up; `quarantine-full`: too many of its bad events are held. Send the same again after Retry-After", content((Object = "application/problem+json")), headers(("Retry-After" = u32, description = "seconds"))),
        (status = 500, description = "`internal`: a fault of the server, send the same again", content((Object = "application/problem+json"))),
        (status = 503, description = "`busy`: too much waits; `disk-full`; `quarantine-full`: too many bad events of the municipality are held. Send the same again after Retry-After", content((Object = "application/problem+json")), headers(("Retry-After" = u32, description = "seconds")))))]
async fn take(State(app): State<AppState>, intake: Intake) -> Result<(StatusCode, Json<Answer>), Problem> {
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
    Ok((StatusCode::ACCEPTED, Json(Answer::of(receipt.accepted, receipt.duplicates, &rejected))))
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
