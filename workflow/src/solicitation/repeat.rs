//! Repeats (T02): the same invitation again, a set number of times, until the family applies.

use std::time::Duration;

use todoke_domain::{
    Timestamp,
    parameter::{RESOLICIT_INTERVAL_DAYS, RESOLICIT_MAX_COUNT, SOLICIT_AGE_MAX_YEARS},
    solicitation::{Repeat, SolicitationState, repeat},
    time::add_days,
};
use todoke_store::solicitation::Solicitation;

use super::{RUN_CHUNK, RUN_TIME, Registered};
use crate::{Actor, Work, Workflow, WorkflowError, import::born_from};

/// What a daily run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resolicited {
    /// Repeats sent.
    pub sent: usize,
    /// Ended without an application.
    pub exhausted: usize,
    /// Ended because the child has grown up or gone.
    pub out_of_target: usize,
}

/// The rule in force on the day of a run.
struct Rule {
    today: jiff::civil::Date,
    interval_days: i32,
    repeats_max: i64,
    born_from: jiff::civil::Date,
    registered: Registered,
}

impl Workflow {
    /// Repeats every invitation that is due. The day begins at 9:00; days that were missed are not made
    /// up, so that nobody gets two letters at once.
    pub async fn resolicit(&self, actor: &Actor, now: Timestamp) -> Result<Resolicited, WorkflowError> {
        let code = actor.municipality_code.clone();
        let rule = self.repeat_rule(actor, now).await?;
        let sent_until = add_days(rule.today, -rule.interval_days);
        let mut done = Resolicited::default();
        let mut after = String::new();
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let due = work.tx.solicitations_to_repeat(&code, sent_until, &after, RUN_CHUNK).await?;
            let Some(last) = due.last() else { return Ok(done) };
            after = last.solicitation_id.to_string();
            for row in due {
                work.repeat_one(row, &rule, &mut done).await?;
            }
            work.commit().await?;
        }
    }

    async fn repeat_rule(&self, actor: &Actor, now: Timestamp) -> Result<Rule, WorkflowError> {
        let code = &actor.municipality_code;
        let into_the_day = Duration::from_secs(u64::try_from(RUN_TIME.hour()).unwrap_or(0) * 3600);
        let today = now.minus(into_the_day).jst_date();
        let mut tx = self.read(actor).await?;
        let interval_days = tx.parameter_number(code, RESOLICIT_INTERVAL_DAYS, today).await?;
        let age_max = tx.parameter_number(code, SOLICIT_AGE_MAX_YEARS, today).await?;
        Ok(Rule {
            today,
            interval_days: i32::try_from(interval_days).unwrap_or(i32::MAX),
            repeats_max: tx.parameter_number(code, RESOLICIT_MAX_COUNT, today).await?,
            born_from: born_from(today, age_max),
            registered: Registered::read(&mut tx, actor).await?,
        })
    }
}

impl Work<'_> {
    async fn repeat_one(
        &mut self,
        mut row: Solicitation,
        rule: &Rule,
        done: &mut Resolicited,
    ) -> Result<(), WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let Some(last_sent_on) = row.last_sent_on else { return Ok(()) };
        // One firing per notice: the instant is when this notice's interval ended.
        let instant = Timestamp::from_jst(add_days(last_sent_on, rule.interval_days), RUN_TIME);
        if !self.tx.claim_firing("T02", &row.solicitation_id.to_string(), instant, self.now).await? {
            return Ok(());
        }
        let resident = self.tx.resident(&code, &row.resident_no).await?.ok_or(WorkflowError::NotFound("resident"))?;
        if resident.is_gone() || resident.birth_date < rule.born_from {
            done.out_of_target += usize::from(self.close_solicitation(row, SolicitationState::OutOfTarget).await?);
            return Ok(());
        }
        match repeat(last_sent_on, row.repeats, rule.today, rule.interval_days, rule.repeats_max) {
            Repeat::Wait => {}
            Repeat::Send { n } => {
                row.repeats = n;
                let route = self.route(&resident, &rule.registered).await?;
                self.send(&mut row, SolicitationState::Solicited, &resident, &route).await?;
                done.sent += 1;
            }
            Repeat::Exhaust => {
                done.exhausted += usize::from(self.close_solicitation(row, SolicitationState::Exhausted).await?);
            }
        }
        Ok(())
    }
}
