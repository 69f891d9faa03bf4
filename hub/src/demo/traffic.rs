//! The demo's live traffic: payments, app usage and the odd application, at a chosen speed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use todoke_domain::{MunicipalityCode, Role, Timestamp, ids::EventId};
use todoke_ingest::EncodedEvents;
use todoke_store::Wall;
use todoke_workflow::{Actor, WorkflowError, coupon::CouponsOf};
use tokio_util::sync::CancellationToken;

use super::{seed, usage};
use crate::state::AppState;

/// Actions per second at speed 1.
const ACTIONS_PER_S: f64 = 1.0;

/// Somebody who does something now and then.
struct Person {
    actor: Actor,
    key: i64,
    agreed: bool,
}

/// Acts until stopped; at speed 0 nothing happens.
pub async fn run(
    app: AppState,
    code: MunicipalityCode,
    speed: f64,
    seed: u64,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if speed <= 0.0 {
        stop.cancelled().await;
        return Ok(());
    }
    let people = people(&app, &code).await?;
    let facilities = {
        let mut tx = app.workflow.store().begin_read(Wall::Around(code.clone())).await?;
        tx.facility_programmes(&code).await?
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let pause = Duration::from_secs_f64(1.0 / (ACTIONS_PER_S * speed));
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        if people.is_empty() || facilities.is_empty() {
            continue;
        }
        let person = &people[rng.random_range(0..people.len())];
        let (facility, programme) = &facilities[rng.random_range(0..facilities.len())];
        let outcome = if rng.random_range(0..3) == 0 {
            pay(&app, person, facility, programme, &mut rng).await
        } else {
            browse(&app, &code, person, &mut rng).await
        };
        if let Err(error) = outcome {
            tracing::warn!(error = format!("{error:#}"), "the demo's traffic stumbled");
        }
    }
}

async fn people(app: &AppState, code: &MunicipalityCode) -> anyhow::Result<Vec<Person>> {
    let mut tx = app.workflow.store().begin_read(Wall::Around(code.clone())).await?;
    let mut people = Vec::new();
    for account in tx.role_accounts(code, Role::Guardian).await? {
        let agreed = tx.has_consent(account.account_id, "usage_analytics").await?;
        people.extend(account.person_key.map(|key| Person { actor: Actor::of(&account, None), key, agreed }));
    }
    Ok(people)
}

async fn pay(app: &AppState, person: &Person, facility: &str, programme: &str, rng: &mut StdRng) -> anyhow::Result<()> {
    let coupons = app.workflow.coupons(&person.actor, CouponsOf::Own).await?;
    let Some(coupon) = coupons.iter().find(|coupon| coupon.state == "active") else { return Ok(()) };
    let request = seed::payment(rng, coupon.coupon_id, facility.parse()?, programme);
    match app.workflow.use_coupon(&person.actor, &request, app.now()).await {
        Ok(_) | Err(WorkflowError::UseRefused { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn browse(app: &AppState, code: &MunicipalityCode, person: &Person, rng: &mut StdRng) -> anyhow::Result<()> {
    if !person.agreed {
        return Ok(());
    }
    let now: Timestamp = app.now();
    let session = EventId::new(now).to_string();
    let event = |event_type: &str, payload| usage::app_event(code, person.key, event_type, &session, now, payload);
    let started = event(
        "app.session_started",
        json!({
            "session_id": session, "guardian_key": person.key, "device_key": person.key ^ 0x5bd1, "platform": "web",
            "os_version": "", "app_version": "1.3.1", "entry": "icon",
        }),
    );
    let viewed = event(
        "app.screen_viewed",
        json!({
            "session_id": session, "screen_id": "GD03", "dwell_ms": rng.random_range(1_000..20_000),
        }),
    );
    app.usage.append(EncodedEvents::of(&[started, viewed])?, now).await?;
    Ok(())
}
