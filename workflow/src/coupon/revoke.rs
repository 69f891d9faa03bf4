//! Taking a coupon back (flow F06): one ledger line brings the balance to exactly 0.

use serde_json::json;
use todoke_domain::{Yen, coupon::CouponState, ids::CouponId};

use super::ledger::OpenCoupon;
use crate::{Work, WorkflowError, work::Subject};

impl Work<'_> {
    /// Writes everything off and blocks the coupon. The message is the application's.
    pub(crate) async fn revoke_coupon(&mut self, id: CouponId, reason: &str) -> Result<OpenCoupon, WorkflowError> {
        let mut open = self.open_coupon(id).await?;
        if open.coupon.state() == CouponState::Revoked {
            return Ok(open);
        }
        let rests = open.rests();
        let written_off: Yen = rests.iter().map(|rest| rest.amount).sum();
        self.book(&mut open, "revoked", -1, rests, None, Some(reason.to_owned())).await?;
        self.tx.set_coupon_state(id, CouponState::Revoked).await?;
        self.tx.set_cycle(id, open.coupon.cycle_no, None).await?;
        open.coupon.state = CouponState::Revoked.as_str().to_owned();
        self.event(
            "coupon.revoked",
            Subject::new("coupon", id),
            json!({
                "coupon_id": id,
                "child_key": open.child.person_key,
                "written_off_yen": written_off,
                "written_off_units": 0,
                "ledger_seq": open.coupon.ledger_seq,
            }),
        );
        Ok(open)
    }
}
