//! The service that sends broadcasts.

use std::{collections::HashMap, time::Duration};

use todoke_domain::{MunicipalityCode, Timestamp};
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
    let mut resting = HashMap::new();
    loop {
        let wait = match look(&workflow, &sender, &clock, &mut resting).await {
            Ok(true) => Duration::ZERO,
            Ok(false) => IDLE,
            Err(error) => {
                tracing::error!(error = %error, "the broadcasts cannot be looked at");
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

/// One stride in every municipality; whether any of them had work. One that fails keeps no other from sending: it is
/// left alone for a moment, until when stands in `resting`.
async fn look(
    workflow: &Workflow,
    sender: &Sender,
    clock: &Clock,
    resting: &mut HashMap<MunicipalityCode, Timestamp>,
) -> Result<bool, WorkflowError> {
    let municipalities = workflow.store().begin_read(Wall::None).await?.municipalities().await?;
    let mut worked = false;
    for municipality in municipalities {
        let (code, now) = (municipality.municipality_code, clock.now());
        if resting.get(&code).is_some_and(|until| *until > now) {
            continue;
        }
        match sender.stride(&Actor::system(code.clone(), "timer"), now).await {
            Ok(stride) => worked |= stride.worked(),
            Err(error) => {
                tracing::error!(municipality.code = %code, error = %error, "the broadcasts of a municipality wait");
                resting.insert(code, now.plus(AFTER_FAULT));
            }
        }
    }
    Ok(worked)
}
