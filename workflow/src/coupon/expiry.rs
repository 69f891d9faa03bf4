//! What happens by the calendar: cyclic distribution (T04), expiry (T05), reminders (T06), and a last day
//! that moves with the child.

use std::collections::BTreeMap;

use serde_json::json;
use todoke_domain::{
    Timestamp, Yen,
    catalogue::{format, template::Placeholder},
    coupon::CouponState,
    ids::{ChildId, CouponId},
    ledger::LotAmount,
    parameter::{EXPIRY_REMINDER_DAYS, EXPIRY_REMINDER_LAST_DAYS, Parameter},
    time::add_days,
};

use super::ledger::OpenCoupon;
use crate::{Actor, Work, Workflow, WorkflowError, work::Subject};

/// Coupons handled in one transaction of a run: short enough that payments slip in between.
const RUN_CHUNK: i64 = 50;

/// How many coupons a run touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CouponRun {
    /// Coupons.
    pub coupons: usize,
}

/// Which reminder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReminderRound {
    /// The early one.
    First,
    /// The late one.
    Last,
}

impl ReminderRound {
    const fn days(self) -> Parameter {
        match self {
            Self::First => EXPIRY_REMINDER_DAYS,
            Self::Last => EXPIRY_REMINDER_LAST_DAYS,
        }
    }
}

impl Workflow {
    /// Distributes every lot that is due (T04). Days that were missed are caught up, one lot per cycle.
    pub async fn distribute_due(&self, actor: &Actor, now: Timestamp) -> Result<CouponRun, WorkflowError> {
        let mut run = CouponRun::default();
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let due = work.tx.coupons_due(&actor.municipality_code, now.jst_date(), RUN_CHUNK).await?;
            if due.is_empty() {
                return Ok(run);
            }
            for id in due {
                let mut open = work.open_coupon(id).await?;
                // Another node may have been here between the list and the lock.
                if open.coupon.next_cycle_on.is_none_or(|on| on > now.jst_date()) {
                    continue;
                }
                let set = work
                    .tx
                    .coupon_set(open.coupon.coupon_set_id)
                    .await?
                    .ok_or(WorkflowError::NotFound("coupon set"))?;
                run.coupons += usize::from(work.distribute(&mut open, &set).await?);
            }
            work.commit().await?;
        }
    }

    /// Writes off what is left of lots whose last day was yesterday or before (T05).
    pub async fn expire_lots(&self, actor: &Actor, now: Timestamp) -> Result<CouponRun, WorkflowError> {
        let today = now.jst_date();
        let mut run = CouponRun::default();
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let ended = work.tx.coupons_with_expired_lots(&actor.municipality_code, today, RUN_CHUNK).await?;
            if ended.is_empty() {
                return Ok(run);
            }
            for id in ended {
                let mut open = work.open_coupon(id).await?;
                let over = |lot: &&todoke_store::coupon::LotRow| lot.expires_on < today && lot.rest_yen.is_positive();
                let lines: Vec<LotAmount> = open
                    .lots
                    .iter()
                    .filter(over)
                    .map(|lot| LotAmount { lot_id: lot.lot_id, amount: lot.rest_yen })
                    .collect();
                for line in lines {
                    work.write_off(&mut open, line).await?;
                }
                run.coupons += 1;
            }
            work.commit().await?;
        }
    }

    /// Reminds of lots that end in the set number of days (T06), amounts of one child and day summed.
    pub async fn remind_of_expiry(
        &self,
        actor: &Actor,
        round: ReminderRound,
        now: Timestamp,
    ) -> Result<CouponRun, WorkflowError> {
        let mut work = self.begin_long(actor, now).await?;
        let code = actor.municipality_code.clone();
        let today = now.jst_date();
        let days = work.tx.parameter_number(&code, round.days(), today).await?;
        let ends_on = add_days(today, i32::try_from(days).unwrap_or(i32::MAX));
        let lots = work.tx.lots_ending_on(&code, ends_on).await?;
        let mut run = CouponRun::default();
        // Per child the first of its coupons, which the message leads to, and what ends on all of them.
        let mut ending: BTreeMap<ChildId, (CouponId, Yen)> = BTreeMap::new();
        for same_coupon in lots.chunk_by(|a, b| a.coupon_id == b.coupon_id) {
            let Some(coupon) = work.tx.coupon(same_coupon[0].coupon_id).await? else { continue };
            if coupon.state() != CouponState::Active {
                continue;
            }
            let amount: Yen = same_coupon.iter().map(|lot| lot.rest_yen).sum();
            let (_, sum) = ending.entry(coupon.child_id).or_insert((coupon.coupon_id, Yen::ZERO));
            *sum += amount;
            run.coupons += 1;
        }
        for (child, (coupon, amount)) in ending {
            let open = work.open_coupon(coupon).await?;
            let mut about = open.about("coupon", coupon.to_string(), &open.coupon.coupon_no, "active");
            about.values.set(Placeholder::Amount, amount.to_string());
            about.values.set(Placeholder::Expiry, format::day(ends_on));
            about.once_per = Some(format!("{today}:{child}"));
            let cause = work.uncaused(Subject::new("coupon", coupon));
            work.raise_timer("T06", &cause, &about).await?;
        }
        work.commit().await?;
        Ok(run)
    }
}

impl Work<'_> {
    /// Writes off an ended lot.
    pub(super) async fn write_off(&mut self, open: &mut OpenCoupon, line: LotAmount) -> Result<(), WorkflowError> {
        let Some(lot) = open.lots.iter().find(|lot| lot.lot_id == line.lot_id).cloned() else { return Ok(()) };
        let id = open.coupon.coupon_id;
        self.book(open, "expired", -1, vec![line], None, None).await?;
        let nothing_left = open.lots.iter().all(|lot| !lot.rest_yen.is_positive());
        if nothing_left && open.coupon.next_cycle_on.is_none() && open.coupon.state() == CouponState::Active {
            self.tx.set_coupon_state(id, CouponState::Expired).await?;
            open.coupon.state = CouponState::Expired.as_str().to_owned();
        }
        let event = self.event(
            "coupon.expired",
            Subject::new("coupon", id),
            json!({
                "coupon_id": id,
                "child_key": open.child.person_key,
                "lot_id": lot.lot_id,
                "written_off_yen": line.amount,
                "written_off_units": 0,
                "rule": lot.expiry_rule,
                "ledger_seq": open.coupon.ledger_seq,
            }),
        );
        let mut about = open.about("coupon", id.to_string(), &open.coupon.coupon_no, &open.coupon.state);
        about.values.set(Placeholder::Amount, line.amount.to_string());
        about.values.set(Placeholder::Expiry, format::day(lot.expires_on));
        self.raise(&event, &about).await
    }

    /// Recomputes the last day of a child's lots after a move; tells the guardian where it changed.
    pub(crate) async fn recompute_expiry(&mut self, child: ChildId) -> Result<(), WorkflowError> {
        for coupon in self.tx.coupons_of_child(child).await? {
            if coupon.state() != CouponState::Active {
                continue;
            }
            let open = self.open_coupon(coupon.coupon_id).await?;
            let set = self.tx.coupon_set(coupon.coupon_set_id).await?.ok_or(WorkflowError::NotFound("coupon set"))?;
            let (last, rule) = set.terms.last_day(open.child.birth_date, open.child.moved_out_on);
            let moved: Vec<_> =
                open.lots.iter().filter(|lot| lot.rest_yen.is_positive() && lot.expires_on != last).collect();
            let Some(before) = moved.first().map(|lot| lot.expires_on) else { continue };
            for lot in &moved {
                self.tx.set_lot_expiry(lot.lot_id, last, rule.as_str()).await?;
            }
            let event = self.event(
                "coupon.expiry_changed",
                Subject::new("coupon", coupon.coupon_id),
                json!({
                    "coupon_id": coupon.coupon_id, "old": before.to_string(), "new": last.to_string(),
                }),
            );
            let mut about = open.about("coupon", coupon.coupon_id.to_string(), &coupon.coupon_no, "active");
            about.values.set(Placeholder::Expiry, format::day(last));
            self.raise(&event, &about).await?;
        }
        Ok(())
    }
}
