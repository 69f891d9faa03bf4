//! T17: requests at the open time, reminders before the close, the close.

use std::{collections::HashSet, time::Duration};

use serde_json::json;
use todoke_domain::{
    Timestamp,
    ids::SurveyId,
    parameter::SURVEY_REMINDER_DAYS,
    survey::{SurveyEvent, SurveyState},
};
use todoke_store::{
    account::Account,
    survey::{Addressee, Survey},
};

use super::{answer::ticket, survey_about};
use crate::{Actor, Work, Workflow, WorkflowError, work::Subject};

/// People asked or reminded in one transaction: few enough that nobody waits long for the record.
const RUN_CHUNK: i64 = 200;

/// What a look at the surveys did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SurveyRun {
    /// Surveys opened.
    pub opened: usize,
    /// Requests sent.
    pub requested: usize,
    /// Reminders sent.
    pub reminded: usize,
    /// Surveys closed.
    pub closed: usize,
}

impl Workflow {
    /// Opens, reminds and closes whatever is due (T17). May be called as often as one likes and on several
    /// nodes: each person is asked once and reminded once, and a run that was cut short is gone on with.
    pub async fn due_surveys(&self, actor: &Actor, now: Timestamp) -> Result<SurveyRun, WorkflowError> {
        let code = &actor.municipality_code;
        let (under_way, reminder_days) = {
            let mut tx = self.read(actor).await?;
            let under_way = tx.surveys_under_way(code, now).await?;
            (under_way, tx.parameter_number(code, SURVEY_REMINDER_DAYS, now.jst_date()).await?)
        };
        let ahead = Duration::from_secs(u64::try_from(reminder_days).unwrap_or(0) * 86_400);
        let mut run = SurveyRun::default();
        for survey in under_way {
            let id = survey.survey_id;
            if survey.state()? == SurveyState::Scheduled {
                run.opened += usize::from(self.open_at_its_time(actor, id, now).await?);
            }
            if now < survey.closes_at {
                run.requested += self.request_all(actor, id, now).await?;
                // A survey that is open for a shorter time than this would remind at once.
                let reminds_at = survey.closes_at.minus(ahead);
                if now >= reminds_at && reminds_at > survey.opens_at {
                    run.reminded += self.remind_all(actor, id, now).await?;
                }
            } else {
                run.closed += usize::from(self.close_at_its_time(actor, id, now).await?);
            }
        }
        Ok(run)
    }

    async fn open_at_its_time(&self, actor: &Actor, id: SurveyId, now: Timestamp) -> Result<bool, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let mut survey = work.open_survey(id).await?;
        let is_due = survey.state()? == SurveyState::Scheduled && survey.opens_at <= now;
        if !is_due || !work.tx.claim_firing("T17", &format!("{id}:request"), survey.opens_at, now).await? {
            return Ok(false);
        }
        work.advance_survey(&mut survey, SurveyEvent::Open).await?;
        work.commit().await?;
        Ok(true)
    }

    async fn close_at_its_time(&self, actor: &Actor, id: SurveyId, now: Timestamp) -> Result<bool, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let mut survey = work.open_survey(id).await?;
        let is_due = survey.state()? == SurveyState::Open && survey.closes_at <= now;
        if !is_due || !work.tx.claim_firing("T17", &format!("{id}:close"), survey.closes_at, now).await? {
            return Ok(false);
        }
        work.close_open_survey(&mut survey).await?;
        work.commit().await?;
        Ok(true)
    }

    async fn request_all(&self, actor: &Actor, id: SurveyId, now: Timestamp) -> Result<usize, WorkflowError> {
        let mut sent = 0;
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let picked = work.tx.pick_for_request(id, RUN_CHUNK).await?;
            let Some(survey) = work.tx.survey(id).await?.filter(|survey| survey.state == SurveyState::Open.as_str())
            else {
                return Ok(sent);
            };
            if picked.is_empty() {
                return Ok(sent);
            }
            for addressee in &picked {
                sent += usize::from(work.request_answer(&survey, addressee).await?);
            }
            work.commit().await?;
        }
    }

    async fn remind_all(&self, actor: &Actor, id: SurveyId, now: Timestamp) -> Result<usize, WorkflowError> {
        let mut used: Option<(String, HashSet<String>)> = None;
        let mut sent = 0;
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let picked = work.tx.pick_for_reminder(id, RUN_CHUNK).await?;
            let Some(survey) = work.tx.survey(id).await?.filter(|survey| survey.state == SurveyState::Open.as_str())
            else {
                return Ok(sent);
            };
            if picked.is_empty() {
                return Ok(sent);
            }
            if survey.anonymous && used.is_none() {
                // The audience does not say who answered an anonymous survey; only the tickets know.
                let tickets = work.tx.used_tickets(id).await?.into_iter().collect();
                used = Some((work.ticket_secret().await?, tickets));
            }
            for addressee in &picked {
                let has_answered = used
                    .as_ref()
                    .is_some_and(|(secret, tickets)| tickets.contains(&ticket(secret, id, addressee.account_id)));
                if !has_answered {
                    sent += usize::from(work.remind(&survey, addressee).await?);
                }
            }
            work.commit().await?;
        }
    }
}

impl Work<'_> {
    async fn request_answer(&mut self, survey: &Survey, addressee: &Addressee) -> Result<bool, WorkflowError> {
        let Some(account) = self.living(addressee).await? else { return Ok(false) };
        let event = self.event(
            "survey.requested",
            Subject::new("survey", survey.survey_id),
            json!({
                "survey_id": survey.survey_id, "target_key": account.person_key,
            }),
        );
        let mut about = survey_about(survey);
        about.addressees = vec![account];
        self.raise(&event, &about).await?;
        Ok(true)
    }

    async fn remind(&mut self, survey: &Survey, addressee: &Addressee) -> Result<bool, WorkflowError> {
        let Some(account) = self.living(addressee).await? else { return Ok(false) };
        let cause = self.uncaused(Subject::new("survey", survey.survey_id));
        let mut about = survey_about(survey);
        about.addressees = vec![account];
        about.facts = vec![("stage", json!("reminder"))];
        about.once_per = Some("reminder".to_owned());
        self.raise_timer("T17", &cause, &about).await?;
        Ok(true)
    }

    /// The addressee's account, unless it was deleted since the audience was extracted.
    async fn living(&mut self, addressee: &Addressee) -> Result<Option<Account>, WorkflowError> {
        let account = self.tx.account(addressee.account_id).await?;
        Ok(account.filter(|account| account.email.is_some() && account.person_key.is_some()))
    }
}
