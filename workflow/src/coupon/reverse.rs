//! Undoing a use (flow C5): the amount returns to the lots it came from.

use serde_json::{Value, json};
use todoke_domain::{
    Timestamp,
    catalogue::{format, template::Placeholder},
    ids::{ReversalId, UseId},
    ledger::LotAmount,
    reason::INTERVENTION,
    role::Permission,
};
use todoke_store::coupon::parse_lines;

use super::{
    ledger::{event_lines, payload},
    view::{UseView, use_view},
};
use crate::{Actor, FieldError, Workflow, WorkflowError, audit::Access, work::Subject};

impl Workflow {
    /// Undoes a settled use. What returns to a lot that has ended meanwhile is written off in the same step.
    ///
    /// Errors: [`WorkflowError::Conflict`] when it was undone before.
    pub async fn reverse_use(
        &self,
        actor: &Actor,
        id: UseId,
        reason_code: &str,
        text: Option<&str>,
        now: Timestamp,
    ) -> Result<UseView, WorkflowError> {
        actor.require(Permission::ManageCoupons)?;
        let reason = INTERVENTION
            .text(reason_code, text)
            .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("reason_code", error.to_string())]))?;
        let mut work = self.begin(actor, now).await?;
        let known = work.tx.coupon_use(id).await?.ok_or(WorkflowError::NotFound("coupon use"))?;
        let mut open = work.open_coupon(known.coupon_id).await?;
        // Read again under the lock: another reversal may have been faster.
        let row = work.tx.coupon_use(id).await?.ok_or(WorkflowError::NotFound("coupon use"))?;
        if row.state != "settled" {
            return Err(WorkflowError::Conflict("この利用はすでに取り消されています。".to_owned()));
        }
        let lines = parse_lines(&row.lines)?;
        let reversal = ReversalId::new(now);
        work.tx.reverse_use(id, reversal, &reason, now).await?;
        work.book(&mut open, "reversed", 1, lines.clone(), Some(id), Some(reason)).await?;
        let fields = payload(
            &open,
            [
                ("use_id", json!(id)),
                ("reversal_id", json!(reversal)),
                ("coupon_id", json!(row.coupon_id)),
                ("child_key", json!(open.child.person_key)),
                ("purpose", json!(row.purpose)),
                ("amount_yen", json!(row.amount_yen)),
                ("amount_units", json!(0)),
                ("lines", event_lines(&lines)),
                ("reason_code", json!(reason_code)),
            ],
        );
        let subject = Subject::new("coupon", row.coupon_id);
        let event = work.event_at("coupon.use_reversed", subject, row.facility_id, Some(&row.programme_code), fields);
        work.audit(Access::Reverse, Subject::new("coupon_use", id), 1);
        let today = now.jst_date();
        let ended = |line: &LotAmount| open.lots.iter().any(|lot| lot.lot_id == line.lot_id && lot.expires_on < today);
        let lapsed: Vec<LotAmount> = lines.iter().copied().filter(ended).collect();
        for line in lapsed {
            work.write_off(&mut open, line).await?;
        }
        let row = work.tx.coupon_use(id).await?.ok_or(WorkflowError::NotFound("coupon use"))?;
        let view = use_view(&mut work.tx, &row).await?;
        let mut about = open.about("coupon_use", id.to_string(), &row.use_no, "reversed");
        about.facility = Some(row.facility_id);
        about.values.set(Placeholder::Date, format::day(row.used_at.jst_date()));
        about.values.set(Placeholder::Amount, row.amount_yen.to_string());
        about.office_link = "/staff/facility".to_owned();
        about.data.insert("use".to_owned(), serde_json::to_value(&view).unwrap_or(Value::Null));
        work.raise(&event, &about).await?;
        work.commit().await?;
        Ok(view)
    }
}
