//! App usage in: durable before the answer.

use axum::{Json, body::Bytes, extract::State, http::StatusCode};
use serde_json::{Value, json};
use todoke_ingest::{
    Rejected,
    usage::{self, ParsedUsage, UsageContext},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::intake::Intake;
use crate::{
    problem::Problem,
    quarantine::{self, Entrance},
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
        (status = 429, description = "the account's requests per minute are used up"),
        (status = 503, description = "too much waits: send the same again after Retry-After")))]
async fn collect(State(app): State<AppState>, intake: Intake) -> Result<(StatusCode, Json<Value>), Problem> {
    let now = app.now();
    let caller = &intake.caller;
    let role = caller.account.role;
    if role.is_household() && !app.workflow.may_collect_usage(&caller.actor).await? {
        // Consent may have been withdrawn while a phone was offline: nothing is kept, and the phone may forget it.
        return Ok((
            StatusCode::ACCEPTED,
            Json(json!({ "accepted": 0, "duplicates": 0, "rejected": [], "consent": false })),
        ));
    }
    let context = UsageContext {
        municipality_code: caller.actor.municipality_code.clone(),
        role: role.as_str().to_owned(),
        actor_key: caller.actor.person_key,
        guardian_key: caller.actor.person_key.filter(|_| role.is_household()),
        source_channel: caller.actor.source_channel.to_owned(),
        correlation_id: Some(telemetry::request_id()),
        received_at: now,
    };
    let entrance = Entrance::Usage(context.clone());
    let in_lines = matches!(intake.media_type().as_str(), "application/x-ndjson" | "application/ndjson");
    let (text, parsed) = intake
        .read(move |raw| if in_lines { usage::parse_lines(raw, &context) } else { usage::parse(raw, &context) })
        .await?;
    let ParsedUsage { events, mut rejected, places, device_key } = parsed;
    let receipt = app.usage.append(events, now).await?;
    rejected.extend(receipt.rejected.into_iter().map(|refused| with_content(refused, &text, &places)));
    let code = &caller.actor.municipality_code;
    quarantine::keep(app.workflow.store(), code, &entrance, device_key, &rejected, now).await?;
    Ok((StatusCode::ACCEPTED, Json(answer(receipt.accepted, receipt.duplicates, &rejected))))
}

/// What the log refused, with what was sent.
fn with_content(refused: Rejected, text: &Bytes, places: &[(usize, usize)]) -> Rejected {
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
