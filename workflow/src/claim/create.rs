//! Computing the claim of a month from the record of uses.

use jiff::civil::Date;
use serde_json::json;
use todoke_domain::{
    Timestamp, Yen,
    claim::{ClaimEvent, ClaimState},
    ids::{ClaimId, FacilityId},
    number::NumberKind,
    role::Permission,
    time::add_months,
};
use todoke_store::claim::{Claim, ClaimLine};

use super::{
    stepped,
    view::{ClaimView, invalid},
};
use crate::{Actor, Work, Workflow, WorkflowError, work::Subject};

impl Workflow {
    /// Creates the own facility's claim for a programme and a month, or computes it anew while it is not handed in.
    ///
    /// It holds what was used and undone in the month, and what came into an earlier month after that month's claim
    /// had been handed in: nothing is lost, and nothing is claimed twice. The present month may be claimed, too; what
    /// comes after that goes into the next one.
    ///
    /// Errors: [`WorkflowError::Conflict`] when it is handed in already or there is nothing to claim.
    pub async fn create_claim(
        &self,
        actor: &Actor,
        programme_code: &str,
        month: Date,
        now: Timestamp,
    ) -> Result<ClaimView, WorkflowError> {
        actor.require(Permission::ClaimForFacility)?;
        let facility = actor.facility_id.ok_or(WorkflowError::Denied)?;
        let month = month.first_of_month();
        if month > now.jst_date().first_of_month() {
            return Err(invalid("month", "先の月の請求は作成できません。"));
        }
        let mut work = self.begin_long(actor, now).await?;
        work.tx.lock_claims(facility).await?;
        let programmes = work.tx.programmes(&actor.municipality_code).await?;
        if !programmes.iter().any(|programme| programme.programme_code == programme_code) {
            return Err(invalid("programme_code", "事業を選んでください。"));
        }
        let (claim, before) = work.claim_to_fill(facility, programme_code, month).await?;
        let claim = work.fill_claim(claim).await?;
        let lines = work.tx.claim_lines(claim.claim_id).await?;
        if before.as_ref() != Some(&lines) {
            work.note_claim_created(&claim, &lines);
        }
        let (view, _) = work.show_claim(&claim, None).await?;
        work.commit().await?;
        Ok(view)
    }
}

impl Work<'_> {
    /// The claim of a month, locked, and the lines it has so far; `None` for one that is new.
    async fn claim_to_fill(
        &mut self,
        facility: FacilityId,
        programme_code: &str,
        month: Date,
    ) -> Result<(Claim, Option<Vec<ClaimLine>>), WorkflowError> {
        if let Some(known) = self.tx.claim_of_month(facility, programme_code, month).await? {
            let claim = self.tx.lock_claim(known.claim_id).await?.ok_or(WorkflowError::NotFound("claim"))?;
            let lines = self.tx.claim_lines(claim.claim_id).await?;
            return Ok((stepped(claim, ClaimEvent::Recompute)?, Some(lines)));
        }
        let code = self.actor.municipality_code.clone();
        let claim = Claim {
            claim_id: ClaimId::new(self.now),
            claim_no: self.tx.next_number(&code, NumberKind::Claim, self.now).await?,
            municipality_code: code,
            facility_id: facility,
            programme_code: programme_code.to_owned(),
            month,
            from: Timestamp::jst_midnight(month),
            to: Timestamp::jst_midnight(add_months(month, 1)),
            state: ClaimState::Created.as_str().to_owned(),
            n_uses: 0,
            n_children: 0,
            gross_yen: Yen::ZERO,
            reversed_yen: Yen::ZERO,
            net_yen: Yen::ZERO,
            cancel_fee_yen: Yen::ZERO,
            n_returned: 0,
            return_reason: None,
            created_at: self.now,
            submitted_at: None,
            received_at: None,
            forwarded_at: None,
            transfer_requested_at: None,
            transfer_file_id: None,
            transfer_line_no: None,
            transferred_on: None,
            result_code: None,
        };
        self.tx.insert_claim(&claim).await?;
        Ok((claim, None))
    }

    /// Gives the claim its lines and sums.
    async fn fill_claim(&mut self, claim: Claim) -> Result<Claim, WorkflowError> {
        let totals = self.tx.fill_claim(claim.claim_id).await?;
        if totals.n_uses == 0 && totals.reversed_yen == Yen::ZERO {
            return Err(WorkflowError::Conflict("請求する利用がありません。".to_owned()));
        }
        let claim = Claim {
            n_uses: totals.n_uses,
            n_children: totals.n_children,
            gross_yen: totals.gross_yen,
            reversed_yen: totals.reversed_yen,
            net_yen: totals.gross_yen - totals.reversed_yen,
            cancel_fee_yen: totals.cancel_fee_yen,
            created_at: self.now,
            ..claim
        };
        self.tx.update_claim(&claim).await?;
        Ok(claim)
    }

    fn note_claim_created(&mut self, claim: &Claim, lines: &[ClaimLine]) {
        let uses: Vec<_> = lines.iter().filter(|line| line.reversal_id.is_none()).map(|line| line.use_id).collect();
        let reversals: Vec<_> = lines.iter().filter_map(|line| line.reversal_id).collect();
        let payload = json!({
            "claim_id": claim.claim_id,
            "month": claim.month.to_string(),
            "use_ids": uses,
            "reversal_ids": reversals,
            "amount_yen": claim.net_yen,
        });
        let subject = Subject::new("claim", claim.claim_id);
        self.event_at("claim.created", subject, claim.facility_id, Some(&claim.programme_code), payload);
    }
}
