//! Once a minute: how many sockets were open at once, and what returning clients got again.

use std::{sync::Arc, time::Duration};

use todoke_domain::{MunicipalityCode, Timestamp};
use todoke_workflow::{Actor, Workflow, secret};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, state::Hub};

/// Writes samples until stopped. What came after the last one goes unsampled: it is a statistic, and a stop
/// must not wait for it.
pub async fn run(
    workflow: Workflow,
    hub: Arc<Hub>,
    clock: Clock,
    every: Duration,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // A node is what runs between a start and a stop.
    let node = secret::token()[..12].to_owned();
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        write(&workflow, &hub, &node, clock.now()).await;
    }
}

async fn write(workflow: &Workflow, hub: &Hub, node: &str, now: Timestamp) {
    for (municipality, sample) in hub.take_samples() {
        let Ok(code) = municipality.parse::<MunicipalityCode>() else {
            tracing::error!(municipality = %municipality, "connections of no municipality");
            continue;
        };
        let actor = Actor::system(code, "batch");
        if let Err(error) = workflow.note_live_sample(&actor, node, sample, now).await {
            tracing::warn!(error = %error, municipality = %municipality, "a sample of live connections is lost");
        }
    }
}
