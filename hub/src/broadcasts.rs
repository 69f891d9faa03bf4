//! The service that sends broadcasts.

use std::time::Duration;

use todoke_store::Wall;
use todoke_workflow::{Actor, Workflow, WorkflowError, broadcast::Sender};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// How often the record is asked while there is nothing to send; also the grain of the pace.
const IDLE: Duration = Duration::from_millis(250);
/// After a fault, such as a record that cannot be reached.
const AFTER_FAULT: Duration = Duration::from_secs(2);

/// Sends what is due until stopped. What is cut short is gone on with by whoever looks next.
pub async fn run(workflow: Workflow, clock: Clock, stop: CancellationToken) -> anyhow::Result<()> {
    let sender = Sender::new(workflow.clone());
    loop {
        let wait = match look(&workflow, &sender, &clock).await {
            Ok(true) => Duration::ZERO,
            Ok(false) => IDLE,
            Err(error) => {
                tracing::error!(error = %error, "a broadcast failed and will be tried again");
                AFTER_FAULT
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One stride in every municipality; whether any of them had work.
async fn look(workflow: &Workflow, sender: &Sender, clock: &Clock) -> Result<bool, WorkflowError> {
    let municipalities = workflow.store().begin_read(Wall::None).await?.municipalities().await?;
    let mut worked = false;
    for municipality in municipalities {
        let actor = Actor::system(municipality.municipality_code, "timer");
        worked |= sender.stride(&actor, clock.now()).await?.worked();
    }
    Ok(worked)
}
