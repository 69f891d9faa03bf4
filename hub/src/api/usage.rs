//! App usage in: durable before the answer.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};
use todoke_ingest::{
    IngestError, REJECTED_MAX, Rejected,
    usage::{self, ParsedUsage, UsageContext},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::intake::Intake;
use crate::{
    problem::Problem,
    quarantine::{self, Entrance, Origin},
    state::AppState,
    telemetry,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(collect))
}

#[utoipa::path(post, path = "/v1/usage", tag = "usage",
    request_body(content((Object = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 202, description = "on disk; duplicates are counted, bad events named and kept in quarantine"),
        (status = 408, description = "the body took longer than a minute to arrive: send it again"),
        (status = 413, description = "longer than 8 MiB, or than 16 MiB once decompressed"),
        (status = 422, description = "more than 500 of its events are bad: nothing of it is stored"),
        (status = 429, description = "the account's requests per minute are used up, or too many of its bad events are held: send the same again after Retry-After"),
        (status = 503, description = "too much waits, or too many bad events of the municipality are held: send the same again after Retry-After")))]
async fn collect(State(app): State<AppState>, intake: Intake) -> Result<(StatusCode, Json<Value>), Problem> {
    let now = app.now();
    let caller = &intake.caller;
    let role = caller.account.role;
    let mut agreed_since = None;
    if role.is_household() {
        agreed_since = app.workflow.usage_agreed_since(&caller.actor).await?;
        if agreed_since.is_none() {
            // Consent may have been withdrawn while a phone was offline: nothing is kept, and the phone may forget it.
            return Ok((
                StatusCode::ACCEPTED,
                Json(json!({ "accepted": 0, "duplicates": 0, "rejected": [], "consent": false })),
            ));
        }
    }
    let context = UsageContext {
        municipality_code: caller.actor.municipality_code.clone(),
        role: role.as_str().to_owned(),
        actor_key: caller.actor.person_key,
        guardian_key: caller.actor.person_key.filter(|_| role.is_household()),
        source_channel: caller.actor.source_channel.to_owned(),
        agreed_since,
        correlation_id: Some(telemetry::request_id()),
        received_at: now,
    };
    let entrance = Entrance::Usage(context.clone());
    let in_lines = matches!(intake.media_type().as_str(), "application/x-ndjson" | "application/ndjson");
    let (text, parsed) = intake
        .read(move |raw| if in_lines { usage::parse_lines(raw, &context) } else { usage::parse(raw, &context) })
        .await?;
    let ParsedUsage { events, mut rejected, places, device_key, n_not_agreed } = parsed;
    let from = Origin { code: &caller.actor.municipality_code, account: caller.account.account_id };
    let limits = &app.config().ingest;
    check_bad(&app, from, rejected.len()).await?;
    let receipt = app.usage.append(events, now).await?;
    rejected.extend(receipt.rejected.into_iter().map(|refused| with_content(refused, &text, &places)));
    quarantine::keep(app.workflow.store(), from, &entrance, device_key, &rejected, limits, now).await?;
    let mut answer = answer(receipt.accepted, receipt.duplicates, &rejected);
    if n_not_agreed > 0 {
        answer["not_agreed"] = n_not_agreed.into();
    }
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Whether as many bad events can be kept. Nothing of a request is stored before that is known; what the log itself
/// refuses after it is kept or, where there is no room, the sender comes again and hears that the rest is there.
pub(super) async fn check_bad(app: &AppState, from: Origin<'_>, n_bad: usize) -> Result<(), Problem> {
    if n_bad > REJECTED_MAX {
        return Err(IngestError::TooManyBad { n_max: REJECTED_MAX }.into());
    }
    if n_bad > 0 {
        quarantine::check_room(app.workflow.store(), from, &app.config().ingest).await?;
    }
    Ok(())
}

/// What the log refused, with what was sent.
fn with_content(refused: Rejected, text: &[u8], places: &[(usize, usize)]) -> Rejected {
    let place = refused.place.and_then(|at| places.get(at));
    let content = place.and_then(|(begin, end)| text.get(*begin..*end));
    let content = content.map(|content| String::from_utf8_lossy(content).into_owned());
    Rejected { content, ..refused }
}

/// The answer to a batch.
pub(super) fn answer(accepted: u32, duplicates: u32, rejected: &[Rejected]) -> Value {
    let rejected: Vec<Value> = rejected
        .iter()
        .map(|refused| json!({ "event_id": refused.event_id, "reason": refused.reason.code(), "field": refused.field }))
        .collect();
    json!({ "accepted": accepted, "duplicates": duplicates, "rejected": rejected })
}
