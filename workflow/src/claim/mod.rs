//! Coupon claims (flow F18, state machine C15): what a facility claims for a programme and a month, its way over the
//! operator to the city, and its payment by the bank.

mod account;
mod create;
mod progress;
mod transfer;
mod view;

pub use account::{AccountDraft, AccountView};
pub use transfer::TransferView;
pub use view::{ClaimQuery, ClaimView, LineView, Scope, claim_csv, line_csv};

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde_json::{Map, Value, json};
use todoke_domain::{
    Event,
    catalogue::{
        format,
        template::{Placeholder, Placeholders},
    },
    channel::Channel,
    claim::{ClaimEvent, ClaimState},
    ids::ClaimId,
};
use todoke_store::claim::Claim;

use crate::{Work, WorkflowError, messaging::About, work::Subject};
use view::Names;

/// Where each side finds what a message is about.
pub(crate) const FACILITY_PAGE: &str = "/staff/facility/claims";
pub(crate) const OPERATOR_PAGE: &str = "/staff/operator/claims";
pub(crate) const CITY_PAGE: &str = "/staff/city/claims";

impl Work<'_> {
    /// Locks a claim that the actor sees and takes it one step further.
    async fn step_claim(&mut self, id: ClaimId, event: ClaimEvent) -> Result<Claim, WorkflowError> {
        let scope = Scope::of(self.actor)?;
        let claim = self.tx.lock_claim(id).await?.ok_or(WorkflowError::NotFound("claim"))?;
        if !scope.sees(&claim)? {
            return Err(WorkflowError::NotFound("claim"));
        }
        stepped(claim, event)
    }

    /// Notes an event of a claim's way.
    fn note_claim(&mut self, claim: &Claim, event_type: &str, reason_code: Option<&str>) -> Event {
        let payload = json!({ "claim_id": claim.claim_id, "amount_yen": claim.net_yen, "reason_code": reason_code });
        let subject = Subject::new("claim", claim.claim_id);
        self.event_at(event_type, subject, claim.facility_id, Some(&claim.programme_code), payload)
    }

    /// Shows a claim's progress live to its facility and the operator, and to the city what is or was with it; gives
    /// what messages about it need.
    pub(crate) async fn show_claim(
        &mut self,
        claim: &Claim,
        before: Option<ClaimState>,
    ) -> Result<(ClaimView, About), WorkflowError> {
        let names = Names::of_claim(&mut self.tx, claim).await?;
        let view = ClaimView::of(claim, &names)?;
        let about = About {
            subject_kind: "claim",
            subject_id: claim.claim_id.to_string(),
            subject_no: Some(claim.claim_no.clone()),
            state: claim.state.clone(),
            facility: Some(claim.facility_id),
            values: Placeholders::new()
                .with(Placeholder::Facility, view.facility_name.clone())
                .with(Placeholder::Programme, view.programme_name.clone())
                .with(Placeholder::Month, format::month(claim.month))
                .with(Placeholder::No, claim.claim_no.clone())
                .with(Placeholder::Amount, claim.net_yen.to_string())
                .with(Placeholder::Status, view.state_label),
            ..About::default()
        };
        let item = serde_json::to_value(&view).map_err(|_| WorkflowError::Internal("a view could not be written"))?;
        let data: Map<String, Value> = [("claim".to_owned(), item)].into_iter().collect();
        let code = self.actor.municipality_code.clone();
        self.publish_about(Channel::FacilityClaims(claim.facility_id), CHANGED, &about, data.clone());
        self.publish_about(Channel::OperatorQueue(code.clone()), CHANGED, &about, data);
        if claim.state()?.is_with_city() || before.is_some_and(ClaimState::is_with_city) {
            self.publish_about(Channel::CityBoard(code), CHANGED, &about, Map::new());
        }
        Ok((view, about))
    }
}

/// Type of the publications about a claim's progress.
const CHANGED: &str = "claim.changed";

/// The months of several claims in a message about all of them: `2026年5月・2026年6月`.
pub(crate) fn months_text(months: impl Iterator<Item = Date>) -> String {
    let months: BTreeSet<Date> = months.collect();
    months.into_iter().map(format::month).collect::<Vec<_>>().join("・")
}

/// The claim in its next state.
pub(crate) fn stepped(mut claim: Claim, event: ClaimEvent) -> Result<Claim, WorkflowError> {
    let next = claim.state()?.on(event).map_err(|refused| {
        WorkflowError::Conflict(format!("請求{}は「{}」です。", claim.claim_no, refused.state.label()))
    })?;
    claim.state = next.as_str().to_owned();
    Ok(claim)
}

/// The ids once each, in one order for everybody who locks; none is refused.
fn chosen(mut ids: Vec<ClaimId>) -> Result<Vec<ClaimId>, WorkflowError> {
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Err(view::invalid("claim_ids", "請求を選んでください。"));
    }
    Ok(ids)
}
