//! A claim's way from the facility over the operator to the city, and back.

use todoke_domain::{
    Timestamp,
    catalogue::template::Placeholder,
    claim::{ClaimEvent, ClaimState},
    ids::ClaimId,
    reason::CLAIM_RETURN,
    role::Permission,
};

use super::{
    CITY_PAGE, FACILITY_PAGE, OPERATOR_PAGE, chosen, months_text,
    view::{ClaimView, invalid},
};
use crate::{Actor, Workflow, WorkflowError};

impl Workflow {
    /// Hands the own facility's claim in.
    pub async fn submit_claim(&self, actor: &Actor, id: ClaimId, now: Timestamp) -> Result<ClaimView, WorkflowError> {
        actor.require(Permission::ClaimForFacility)?;
        let mut work = self.begin(actor, now).await?;
        let mut claim = work.step_claim(id, ClaimEvent::Submit).await?;
        claim.submitted_at = Some(now);
        claim.return_reason = None;
        work.tx.update_claim(&claim).await?;
        let event = work.note_claim(&claim, "claim.submitted", None);
        let (view, mut about) = work.show_claim(&claim, None).await?;
        about.office_link = OPERATOR_PAGE.to_owned();
        work.raise(&event, &about).await?;
        work.commit().await?;
        Ok(view)
    }

    /// Takes a claim that was handed in.
    pub async fn receive_claim(&self, actor: &Actor, id: ClaimId, now: Timestamp) -> Result<ClaimView, WorkflowError> {
        actor.require(Permission::HandleClaims)?;
        let mut work = self.begin(actor, now).await?;
        let mut claim = work.step_claim(id, ClaimEvent::Receive).await?;
        claim.received_at = Some(now);
        work.tx.update_claim(&claim).await?;
        let event = work.note_claim(&claim, "claim.received", None);
        let (view, mut about) = work.show_claim(&claim, None).await?;
        about.office_link = FACILITY_PAGE.to_owned();
        work.raise(&event, &about).await?;
        work.commit().await?;
        Ok(view)
    }

    /// Gives a claim back to its facility, which may compute it anew. The operator does it for the city as well.
    ///
    /// Errors: [`WorkflowError::Conflict`] once its payment was ordered.
    pub async fn send_back_claim(
        &self,
        actor: &Actor,
        id: ClaimId,
        reason_code: &str,
        text: Option<&str>,
        now: Timestamp,
    ) -> Result<ClaimView, WorkflowError> {
        actor.require(Permission::HandleClaims)?;
        let reason =
            CLAIM_RETURN.text(reason_code, text).map_err(|error| invalid("reason_code", &error.to_string()))?;
        let mut work = self.begin(actor, now).await?;
        let mut claim = work.step_claim(id, ClaimEvent::SendBack).await?;
        // The city sees what it has only while it is there: what was forwarded and comes back leaves its board.
        let before = claim.forwarded_at.map(|_| ClaimState::Forwarded);
        claim.n_returned += 1;
        claim.return_reason = Some(reason.clone());
        (claim.submitted_at, claim.received_at, claim.forwarded_at) = (None, None, None);
        work.tx.update_claim(&claim).await?;
        let event = work.note_claim(&claim, "claim.returned", Some(reason_code));
        let (view, mut about) = work.show_claim(&claim, before).await?;
        about.office_link = FACILITY_PAGE.to_owned();
        about.values.set(Placeholder::Reason, reason);
        work.raise(&event, &about).await?;
        work.commit().await?;
        Ok(view)
    }

    /// Passes claims on to the city, all or none; it is told once of all of them (K4).
    pub async fn forward_claims(
        &self,
        actor: &Actor,
        ids: Vec<ClaimId>,
        now: Timestamp,
    ) -> Result<Vec<ClaimView>, WorkflowError> {
        actor.require(Permission::HandleClaims)?;
        let ids = chosen(ids)?;
        let mut work = self.begin_long(actor, now).await?;
        let mut views = Vec::with_capacity(ids.len());
        let (mut months, mut first) = (Vec::with_capacity(ids.len()), None);
        for id in ids {
            let mut claim = work.step_claim(id, ClaimEvent::Forward).await?;
            claim.forwarded_at = Some(now);
            work.tx.update_claim(&claim).await?;
            let event = work.note_claim(&claim, "claim.forwarded", None);
            let (view, about) = work.show_claim(&claim, None).await?;
            views.push(view);
            months.push(claim.month);
            first.get_or_insert((event, about));
        }
        if let Some((event, mut about)) = first {
            about.office_link = CITY_PAGE.to_owned();
            about.values.set(Placeholder::Month, months_text(months.into_iter()));
            about.values.set(Placeholder::Count, views.len().to_string());
            work.raise(&event, &about).await?;
        }
        work.commit().await?;
        Ok(views)
    }
}
