//! Distribution (flow F05): the first lot at approval, then one per cycle (timer T04).

use serde_json::json;
use todoke_domain::{
    Yen,
    catalogue::{format, template::Placeholder},
    coupon::CouponState,
    ids::{CouponId, LotId},
    number::NumberKind,
};
use todoke_store::{
    application::Application,
    coupon::{Coupon, LotRow},
    coupon_set::CouponSet,
};

use super::ledger::{OpenCoupon, payload};
use crate::{Work, WorkflowError, work::Subject};

impl Work<'_> {
    /// Makes the coupon of an approved application and distributes its first lot.
    pub(crate) async fn first_distribution(
        &mut self,
        application: &Application,
        set: &CouponSet,
    ) -> Result<CouponId, WorkflowError> {
        let today = self.now.jst_date();
        let code = self.actor.municipality_code.clone();
        let coupon = Coupon {
            coupon_id: CouponId::new(self.now),
            municipality_code: code.clone(),
            coupon_no: self.tx.next_number(&code, NumberKind::Coupon, self.now).await?,
            child_id: application.child_id,
            guardian_id: application.guardian_id,
            coupon_set_id: set.coupon_set_id,
            application_id: application.application_id,
            state: CouponState::Active.as_str().to_owned(),
            balance_yen: Yen::ZERO,
            ledger_seq: 0,
            approved_on: today,
            cycle_no: 0,
            next_cycle_on: Some(today),
        };
        self.tx.insert_coupon(&coupon, self.now).await?;
        let mut open = self.open_coupon(coupon.coupon_id).await?;
        self.distribute(&mut open, set).await?;
        Ok(coupon.coupon_id)
    }

    /// Distributes the due lot and sets the day of the next. A lot that would already have ended is not
    /// given, and no further one is due then.
    pub(crate) async fn distribute(&mut self, open: &mut OpenCoupon, set: &CouponSet) -> Result<bool, WorkflowError> {
        let today = self.now.jst_date();
        let (expires_on, rule) = set.terms.last_day(open.child.birth_date, open.child.moved_out_on);
        let moved_out = open.child.moved_out_on.is_some_and(|on| on <= today);
        let resident = match &open.child.resident_no {
            Some(no) => self.tx.resident(&open.child.municipality_code, no).await?,
            None => None,
        };
        if expires_on < today || moved_out || resident.is_some_and(|resident| resident.is_struck_off()) {
            self.tx.set_cycle(open.coupon.coupon_id, open.coupon.cycle_no, None).await?;
            return Ok(false);
        }
        let cycle_no = open.coupon.cycle_no + 1;
        let next_no = i32::try_from(cycle_no + 1).unwrap_or(i32::MAX);
        let next_on = set.terms.distribution_cycle.due(set.terms.distribution_anchor, open.coupon.approved_on, next_no);
        self.tx.set_cycle(open.coupon.coupon_id, cycle_no, next_on).await?;
        open.coupon.cycle_no = cycle_no;
        let lot = LotRow {
            lot_id: LotId::new(self.now),
            coupon_id: open.coupon.coupon_id,
            amount_yen: set.terms.distribution_amount_yen,
            rest_yen: set.terms.distribution_amount_yen,
            expires_on,
            expiry_rule: rule.as_str().to_owned(),
            cycle_no,
        };
        self.book_lot(open, lot.clone(), "distributed", None).await?;
        self.tell_distribution(open, set, &lot).await?;
        Ok(true)
    }

    async fn tell_distribution(
        &mut self,
        open: &OpenCoupon,
        set: &CouponSet,
        lot: &LotRow,
    ) -> Result<(), WorkflowError> {
        let fields = payload(
            open,
            [
                ("coupon_id", json!(lot.coupon_id)),
                ("child_key", json!(open.child.person_key)),
                ("coupon_set_id", json!(open.coupon.coupon_set_id)),
                ("coupon_kind", json!("yen")),
                ("lot_id", json!(lot.lot_id)),
                ("amount_yen", json!(lot.amount_yen)),
                ("amount_units", json!(0)),
                ("expires_on", json!(lot.expires_on.to_string())),
                ("cycle_no", json!(lot.cycle_no)),
            ],
        );
        let event = self.event("coupon.distributed", Subject::new("coupon", lot.coupon_id), fields);
        let mut about = open.about("coupon", lot.coupon_id.to_string(), &open.coupon.coupon_no, "active");
        about.values.set(Placeholder::Amount, lot.amount_yen.to_string());
        about.values.set(Placeholder::Expiry, format::day(lot.expires_on));
        if open.guardian.contact_channel != "app" {
            about.on_paper = self.distribution_on_paper(open, set, lot).await?;
        }
        self.raise(&event, &about).await
    }

    /// What a letter says beside the amounts. The first one also tells of the approval, of which there is no letter.
    async fn distribution_on_paper(
        &mut self,
        open: &OpenCoupon,
        set: &CouponSet,
        lot: &LotRow,
    ) -> Result<Vec<String>, WorkflowError> {
        let mut lines = Vec::new();
        if lot.cycle_no == 1 {
            let application = self.tx.application(open.coupon.application_id).await?;
            let no = application.ok_or(WorkflowError::NotFound("application"))?.application_no;
            lines.push(format!("申請（受付番号 {no}）は承認されました。"));
        }
        lines.push(format!("クーポンの名称：{}", set.title));
        let code = self.actor.municipality_code.clone();
        let mut usable = self.tx.programmes(&code).await?;
        usable.retain(|programme| set.programmes.contains(&programme.programme_code));
        let names: Vec<String> = usable.into_iter().map(|programme| programme.name).collect();
        if !names.is_empty() {
            lines.push(format!("使える事業：{}", names.join("、")));
        }
        lines.push(format!("お問い合わせ先：{}", open.contact));
        Ok(lines)
    }
}
