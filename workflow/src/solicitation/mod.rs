//! Inviting families to apply (flow F03, machine C7): first everybody, then newborns and movers-in, with a
//! set number of repeats until they apply.

mod close;
mod repeat;
mod send;
mod view;

use std::collections::{HashMap, HashSet};

use jiff::civil::{Date, Time};
use serde_json::json;
use todoke_domain::{
    Timestamp, channel::Channel, ids::GuardianId, matching::normal_kana, parameter::SOLICIT_AGE_MAX_YEARS,
    role::Permission, solicitation::SolicitationState, time::month_start,
};
use todoke_store::Tx;

use crate::{Actor, Work, Workflow, WorkflowError, import::born_from, messaging::About};

pub use repeat::Resolicited;
pub use view::{OwnSolicitation, SolicitationView};

/// Invitations made in one transaction of a run: few enough that nobody waits long for the record.
const RUN_CHUNK: i64 = 100;
/// Runs and repeats begin at this time of the day (flows.md, T01 and T02).
const RUN_TIME: Time = Time::constant(9, 0, 0, 0);

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Solicited {
    /// Children invited.
    pub targets: usize,
    /// Of these, reached through the app.
    pub app: usize,
    /// Letters put into the print queue.
    pub paper: usize,
}

/// What a run knows before it begins. The record may move on meanwhile: at worst somebody who has just
/// registered gets a letter.
#[derive(Debug)]
struct Run {
    is_launch: bool,
    born_from: Date,
    registered: Registered,
    applied: HashSet<(String, String, Date)>,
}

/// Heads of households with a sign-in by name and birth date. Two people who share both are told apart
/// by nothing we know, so neither is taken for the parent.
#[derive(Debug)]
struct Registered(HashMap<(String, Date), Option<GuardianId>>);

impl Registered {
    async fn read(tx: &mut Tx, actor: &Actor) -> Result<Self, WorkflowError> {
        let mut by_facts = HashMap::new();
        for guardian in tx.registered_guardians(&actor.municipality_code).await? {
            by_facts
                .entry((normal_kana(&guardian.name_kana), guardian.birth_date))
                .and_modify(|known| *known = None)
                .or_insert(Some(guardian.guardian_id));
        }
        Ok(Self(by_facts))
    }

    fn find(&self, name_kana_normal: &str, birth_date: Date) -> Option<GuardianId> {
        self.0.get(&(name_kana_normal.to_owned(), birth_date)).copied().flatten()
    }
}

impl Workflow {
    /// Invites everybody who is due now, by hand.
    ///
    /// Works in several transactions: broken off, it has invited some, and the next run goes on with the
    /// rest. Nobody is invited twice.
    pub async fn run_solicitation(&self, actor: &Actor, now: Timestamp) -> Result<Solicited, WorkflowError> {
        actor.require(Permission::ImportData)?;
        self.solicit(actor, now, now).await
    }

    /// The monthly run (T01): on the first day of the month from 9:00, once.
    pub async fn solicitation_due(&self, actor: &Actor, now: Timestamp) -> Result<Solicited, WorkflowError> {
        let due = Timestamp::from_jst(month_start(now.jst_date()), RUN_TIME);
        let last = self.read(actor).await?.last_firing("T01", actor.municipality_code.as_str()).await?;
        if now < due || last.is_some_and(|last| last >= due) {
            return Ok(Solicited::default());
        }
        self.solicit(actor, now, due).await
    }

    async fn solicit(&self, actor: &Actor, now: Timestamp, due: Timestamp) -> Result<Solicited, WorkflowError> {
        let code = actor.municipality_code.clone();
        let run = self.run_facts(actor, now).await?;
        let mut done = Solicited::default();
        let mut after = String::new();
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let residents = work.tx.residents_to_solicit(&code, run.born_from, &after, RUN_CHUNK).await?;
            let Some(last) = residents.last() else {
                // Only a run that came to its end counts: one that was broken off is begun again.
                work.tx.claim_firing("T01", code.as_str(), due, now).await?;
                work.show_run(&done);
                work.commit().await?;
                return Ok(done);
            };
            after.clone_from(&last.resident_no);
            for resident in &residents {
                let facts = (resident.name_kana_normal.clone(), resident.sex.clone(), resident.birth_date);
                if run.applied.contains(&facts) {
                    continue;
                }
                if let Some(sent) = work.solicit_resident(resident, &run).await? {
                    done.targets += 1;
                    done.app += usize::from(sent.by_app);
                    done.paper += usize::from(sent.by_letter);
                }
            }
            work.commit().await?;
        }
    }

    async fn run_facts(&self, actor: &Actor, now: Timestamp) -> Result<Run, WorkflowError> {
        let code = &actor.municipality_code;
        let today = now.jst_date();
        let mut tx = self.read(actor).await?;
        let age_max = tx.parameter_number(code, SOLICIT_AGE_MAX_YEARS, today).await?;
        // A launch that was broken off has not been noted as a run yet and stays a launch.
        let is_launch = tx.last_firing("T01", code.as_str()).await?.is_none() || !tx.has_solicitations(code).await?;
        let registered = Registered::read(&mut tx, actor).await?;
        let applied = tx
            .unmatched_applicants(code)
            .await?
            .into_iter()
            .map(|child| (normal_kana(&child.name_kana), child.sex, child.birth_date));
        Ok(Run { is_launch, born_from: born_from(today, age_max), registered, applied: applied.collect() })
    }
}

impl Work<'_> {
    /// Brings the operator's screens up to date after a run.
    fn show_run(&mut self, done: &Solicited) {
        let code = self.actor.municipality_code.clone();
        let about = About {
            subject_kind: "municipality",
            subject_id: code.to_string(),
            state: SolicitationState::Solicited.as_str().to_owned(),
            ..About::default()
        };
        let data = [("run".to_owned(), json!(done))].into_iter().collect();
        self.publish_about(Channel::OperatorQueue(code), "solicitation.sent", &about, data);
    }
}
