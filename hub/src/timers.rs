//! What happens by the clock (flows.md Part B). Each firing is claimed in the record, so that it happens
//! once, also after a restart and on several nodes; what was missed is caught up in order.

use std::time::Duration;

use jiff::civil::time;
use todoke_domain::{MunicipalityCode, Timestamp, time::add_days};
use todoke_store::{Store, Wall};
use todoke_workflow::{Actor, Workflow, WorkflowError, coupon::ReminderRound};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// How often the clock is looked at: timers fire within ± 5 s (N-COR-05).
const TICK: Duration = Duration::from_secs(2);
/// Missed days that are caught up one by one; older ones are covered by the newest run.
const CATCH_UP_DAYS: i32 = 7;
/// Publications are kept this long for clients that were away (screens.md §0).
const HISTORY: Duration = Duration::from_secs(72 * 60 * 60);
/// First answers are kept this long for retries.
const ANSWERS: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Documents nobody attached are kept this long.
const LOOSE_DOCUMENTS: Duration = Duration::from_secs(24 * 60 * 60);

/// Details of deliveries are kept this long: 13 months.
const DELIVERIES: Duration = Duration::from_secs(396 * 24 * 60 * 60);

/// A daily timer: its id and its hour in Asia/Tokyo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Daily {
    Expiry,
    Distribution,
    AccountEnd,
    Solicitation,
    Reminders,
}

impl Daily {
    const ALL: [Self; 5] = [Self::Expiry, Self::Distribution, Self::AccountEnd, Self::Solicitation, Self::Reminders];

    const fn id(self) -> &'static str {
        match self {
            Self::Expiry => "T05",
            Self::Distribution => "T04",
            Self::AccountEnd => "T18",
            Self::Solicitation => "T01-T02",
            Self::Reminders => "T06",
        }
    }

    const fn at(self) -> jiff::civil::Time {
        match self {
            Self::Expiry | Self::AccountEnd => time(0, 0, 0, 0),
            Self::Distribution => time(0, 5, 0, 0),
            Self::Solicitation | Self::Reminders => time(9, 0, 0, 0),
        }
    }
}

/// Runs the timers until stopped.
pub async fn run(workflow: Workflow, clock: Clock, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        if let Err(error) = tick(&workflow, clock.now()).await {
            tracing::error!(error = %error, "the clock was not looked at and will be again");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Fires everything that is due at `now`. What fails is logged and stays due; it keeps back neither the other timers of
/// its municipality nor those of the others.
pub async fn tick(workflow: &Workflow, now: Timestamp) -> Result<(), WorkflowError> {
    let (municipalities, authorities) = {
        let mut tx = workflow.store().begin_read(Wall::None).await?;
        (tx.municipalities().await?, tx.authorities().await?)
    };
    let actors: Vec<Actor> =
        municipalities.into_iter().map(|place| Actor::system(place.municipality_code, "timer")).collect();
    for actor in &actors {
        let code = actor.municipality_code.as_str();
        for timer in Daily::ALL {
            note_failure(timer.id(), code, fire_due(workflow, actor, timer, now).await);
        }
        note_failure("surveys", code, workflow.due_surveys(actor, now).await);
        note_failure("notices", code, workflow.due_notices(actor, now).await);
    }
    // An authority has accounts and nothing else that could fall due.
    for authority in authorities {
        let actor = Actor::system(authority.municipality_code.clone(), "timer");
        let fired = fire_due(workflow, &actor, Daily::AccountEnd, now).await;
        note_failure(Daily::AccountEnd.id(), actor.municipality_code.as_str(), fired);
    }
    note_failure("escalations", "record", workflow.due_escalations(now).await);
    // Last: after an upgrade this goes through every device, and nobody waits for it.
    for actor in &actors {
        note_failure("reach", actor.municipality_code.as_str(), workflow.tell_reach(actor, now).await);
    }
    note_failure("prune", "record", prune(workflow.store(), now).await);
    Ok(())
}

fn note_failure<T>(timer: &str, subject: &str, outcome: Result<T, WorkflowError>) {
    if let Err(error) = outcome {
        tracing::error!(timer.id = timer, subject, error = %error, "a timer failed and will be tried again");
    }
}

/// Fires a timer for each of its instants that is due; behind one that fails the later ones wait.
async fn fire_due(workflow: &Workflow, actor: &Actor, timer: Daily, now: Timestamp) -> Result<(), WorkflowError> {
    for due in due_instants(workflow.store(), timer, &actor.municipality_code, now).await? {
        fire(workflow, actor, timer, due, now).await?;
    }
    Ok(())
}

/// Instants of a daily timer that have passed and were not fired, oldest first.
async fn due_instants(
    store: &Store,
    timer: Daily,
    code: &MunicipalityCode,
    now: Timestamp,
) -> Result<Vec<Timestamp>, WorkflowError> {
    let mut tx = store.begin_read(Wall::None).await?;
    let last = tx.last_firing(timer.id(), code.as_str()).await?;
    let today = now.jst_date();
    let instants = (0..=CATCH_UP_DAYS).rev().map(|days| Timestamp::from_jst(add_days(today, -days), timer.at()));
    let passed = instants.filter(|instant| *instant <= now);
    Ok(match last {
        Some(last) => passed.filter(|instant| *instant > last).collect(),
        // A new municipality begins with today; there is nothing to catch up.
        None => passed.last().into_iter().collect(),
    })
}

async fn fire(
    workflow: &Workflow,
    actor: &Actor,
    timer: Daily,
    due: Timestamp,
    now: Timestamp,
) -> Result<(), WorkflowError> {
    // What the timers do finds its own work in the record and is idempotent, so the claim follows it: a
    // crash in between repeats a run that then finds nothing left.
    match timer {
        Daily::Expiry => drop(workflow.expire_lots(actor, now).await?),
        Daily::Distribution => drop(workflow.distribute_due(actor, now).await?),
        Daily::AccountEnd => {
            workflow.end_accounts(actor, now).await?;
            workflow.warn_of_account_end(actor, due.jst_date(), now).await?;
        }
        Daily::Solicitation => {
            workflow.solicitation_due(actor, now).await?;
            workflow.resolicit(actor, now).await?;
        }
        Daily::Reminders => {
            let today = due.jst_date();
            workflow.remind_of_expiry(actor, ReminderRound::First, today, now).await?;
            workflow.remind_of_expiry(actor, ReminderRound::Last, today, now).await?;
        }
    }
    let mut tx = workflow.store().begin_write(Wall::None).await?;
    tx.claim_firing(timer.id(), actor.municipality_code.as_str(), due, now).await?;
    tx.commit().await?;
    tracing::info!(timer.id = timer.id(), municipality = %actor.municipality_code, "timer fired");
    Ok(())
}

/// Forgets what only the recent past needs; once an hour.
async fn prune(store: &Store, now: Timestamp) -> Result<(), WorkflowError> {
    let hour = Timestamp::from_micros(now.as_micros() - now.as_micros().rem_euclid(3_600_000_000));
    let mut tx = store.begin_long(Wall::None).await?;
    if !tx.claim_firing("prune", "record", hour, now).await? {
        return Ok(());
    }
    tx.prune_publications(now.minus(HISTORY)).await?;
    tx.prune_answers(now.minus(ANSWERS)).await?;
    tx.prune_documents(now.minus(LOOSE_DOCUMENTS)).await?;
    tx.prune_deliveries(now.minus(DELIVERIES)).await?;
    tx.prune_devices(now.minus(DELIVERIES)).await?;
    Ok(tx.commit().await?)
}
