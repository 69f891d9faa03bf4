//! App usage in: durable before the answer.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use todoke_ingest::{
    IngestError, REJECTED_MAX, Rejected,
    usage::{self, ParsedUsage, UsageContext},
};
use utoipa::ToSchema;
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

#[utoipa::path(post, path = "/v1/usage", tag = "usage", params(("Content-Encoding" = Option<String>, Header, description = "gzip or zstd; others are refused")),
    request_body(description = "`{\"device_key\"?, \"events\": [{event_id, event_type, occurred_at, fields of the type}]}`, up to 500 events; as lines an event each, up to 20,000",
        content((Object = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 202, description = "on disk; duplicates are counted, bad events named and kept in quarantine", body = Answer),
        (status = 400, description = "`bad-batch`: cannot be read as events; nothing of it is stored", content((Object = "application/problem+json"))),
        (status = 401, description = "`signed-out`", content((Object = "application/problem+json"))),
        (status = 403, description = "`terms-required`: the terms in force are not accepted yet", content((Object = "application/problem+json"))),
        (status = 408, description = "`too-slow`: the body took longer than a minute to arrive, send it again", content((Object = "application/problem+json"))),
        (status = 413, description = "`too-large`: longer than 8 MiB, or than 16 MiB once decompressed", content((Object = "application/problem+json"))),
        (status = 415, description = "`bad-encoding`: an unknown Content-Encoding", content((Object = "application/problem+json"))),
        (status = 422, description = "`too-many-bad`: more than 500 of its events are bad, nothing of it is stored", content((Object = "application/problem+json"))),
        (status = 429, description = "`rate-limited`: the account's requests per minute or its memory for bodies are used up; `quarantine-full`: too many of its bad events are held. Send the same again after Retry-After", content((Object = "application/problem+json")), headers(("Retry-After" = u32, description = "seconds"))),
        (status = 500, description = "`internal`: a fault of the server, send the same again", content((Object = "application/problem+json"))),
        (status = 503, description = "`busy`: too much waits; `disk-full`; `quarantine-full`: too many bad events of the municipality are held. Send the same again after Retry-After", content((Object = "application/problem+json")), headers(("Retry-After" = u32, description = "seconds")))))]
async fn collect(State(app): State<AppState>, intake: Intake) -> Result<(StatusCode, Json<Answer>), Problem> {
    let now = app.now();
    let caller = &intake.caller;
    let role = caller.account.role;
    let mut agreed_since = None;
    if role.is_household() {
        agreed_since = app.workflow.usage_agreed_since(&caller.actor).await?;
        if agreed_since.is_none() {
            // Consent may have been withdrawn while a phone was offline: nothing is kept, and the phone may forget it.
            return Ok((StatusCode::ACCEPTED, Json(Answer { consent: Some(false), ..Answer::default() })));
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
    let not_agreed = (n_not_agreed > 0).then_some(n_not_agreed);
    let answer = Answer { not_agreed, ..Answer::of(receipt.accepted, receipt.duplicates, &rejected) };
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
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Answer {
    /// Events that are on disk now and were not before.
    accepted: u32,
    /// Events that were there already.
    duplicates: u32,
    /// Events that need not be sent again: they are in quarantine.
    rejected: Vec<Refused>,
    /// Events from before the consent: nothing is kept of them. Absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_agreed: Option<u32>,
    /// `false` where the person does not agree to the collection: nothing is kept. Absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    consent: Option<bool>,
}

/// A bad event.
#[derive(Debug, Serialize, ToSchema)]
struct Refused {
    /// As it was sent, if it could be read.
    event_id: Option<String>,
    /// What is wrong, as a code.
    reason: String,
    /// Where.
    field: Option<String>,
}

impl Answer {
    pub(super) fn of(accepted: u32, duplicates: u32, rejected: &[Rejected]) -> Self {
        let refused = |rejected: &Rejected| Refused {
            event_id: rejected.event_id.clone(),
            reason: rejected.reason.code().to_owned(),
            field: rejected.field.clone(),
        };
        Self { accepted, duplicates, rejected: rejected.iter().map(refused).collect(), ..Self::default() }
    }
}
