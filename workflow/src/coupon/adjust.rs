//! Adding to or deleting from a balance by hand, with a reason (flow C4).

use serde_json::json;
use todoke_domain::{
    Timestamp, Yen,
    catalogue::{format, template::Placeholder},
    coupon::CouponState,
    ids::{CouponId, LotId},
    reason::INTERVENTION,
    role::Permission,
};
use todoke_store::coupon::LotRow;

use super::ledger::payload;
use crate::{Actor, FieldError, Workflow, WorkflowError, audit::Access, work::Subject};

/// A change by hand.
#[derive(Debug, Clone)]
pub struct Adjustment {
    /// Signed, not zero.
    pub delta: Yen,
    /// Code of the reason.
    pub reason_code: String,
    /// Words, needed for `other`.
    pub reason_text: Option<String>,
}

impl Workflow {
    /// Changes a balance. Yen are added as a lot of their own with the set's expiry and deleted from the
    /// lots that expire first.
    ///
    /// Errors: [`WorkflowError::Conflict`] when more would be deleted than there is, or the coupon is not active.
    pub async fn adjust_coupon(
        &self,
        actor: &Actor,
        id: CouponId,
        adjustment: &Adjustment,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        actor.require(Permission::ManageCoupons)?;
        let invalid = |field: &str, detail: String| WorkflowError::Invalid(vec![FieldError::new(field, detail)]);
        let reason = INTERVENTION
            .text(&adjustment.reason_code, adjustment.reason_text.as_deref())
            .map_err(|error| invalid("reason_code", error.to_string()))?;
        let size = Yen::new(adjustment.delta.get().saturating_abs());
        if size == Yen::ZERO || size > Yen::SINGLE_MAX {
            return Err(invalid("delta_yen", "0以外の金額を入力してください。".to_owned()));
        }
        let mut work = self.begin(actor, now).await?;
        let mut open = work.open_coupon(id).await?;
        if open.coupon.state() != CouponState::Active {
            return Err(WorkflowError::Conflict("利用できないクーポンのため、変更できません。".to_owned()));
        }
        if adjustment.delta.is_positive() {
            let set =
                work.tx.coupon_set(open.coupon.coupon_set_id).await?.ok_or(WorkflowError::NotFound("coupon set"))?;
            let (expires_on, rule) = set.terms.last_day(open.child.birth_date, open.child.moved_out_on);
            if expires_on < now.jst_date() {
                return Err(WorkflowError::Conflict("使用期限が過ぎているため、追加できません。".to_owned()));
            }
            let lot = LotRow {
                lot_id: LotId::new(now),
                coupon_id: id,
                amount_yen: size,
                rest_yen: size,
                expires_on,
                expiry_rule: rule.as_str().to_owned(),
                cycle_no: open.coupon.cycle_no,
            };
            work.book_lot(&mut open, lot, "adjusted", Some(reason)).await?;
        } else {
            let lines = open.take(size).map_err(|short| {
                WorkflowError::Conflict(format!("残高{}を超えて減らすことはできません。", short.available))
            })?;
            work.book(&mut open, "adjusted", -1, lines, None, Some(reason)).await?;
        }
        let fields = payload(
            &open,
            [
                ("coupon_id", json!(id)),
                ("child_key", json!(open.child.person_key)),
                ("delta_yen", json!(adjustment.delta)),
                ("delta_units", json!(0)),
                ("reason_code", json!(adjustment.reason_code)),
            ],
        );
        let event = work.event("coupon.adjusted", Subject::new("coupon", id), fields);
        let mut about = open.about("coupon", id.to_string(), &open.coupon.coupon_no, &open.coupon.state);
        about.values.set(Placeholder::Amount, format::yen_change(adjustment.delta.get()));
        work.raise(&event, &about).await?;
        work.audit(Access::Adjust, Subject::new("coupon", id), 1);
        work.commit().await?;
        Ok(())
    }
}
