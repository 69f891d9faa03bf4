//! What happens by the calendar: cyclic distribution (T04), expiry (T05), reminders (T06), and a last day
//! that moves with the child.

use jiff::civil::Date;
use serde_json::json;
use todoke_domain::{
    Timestamp, Yen,
    catalogue::{format, template::Placeholder},
    coupon::CouponState,
    ids::ChildId,
    ledger::LotAmount,
    parameter::{EXPIRY_REMINDER_DAYS, EXPIRY_REMINDER_LAST_DAYS, Parameter},
    time::add_days,
};

use super::ledger::OpenCoupon;
use crate::{Actor, Work, Workflow, WorkflowError, work::Subject};

/// Coupons handled in one transaction of a run: short enough that payments slip in between.
const RUN_CHUNK: u8 = 50;

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
            let due = work.tx.coupons_due(&actor.municipality_code, now.jst_date(), RUN_CHUNK.into()).await?;
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
            let ended = work.tx.coupons_with_expired_lots(&actor.municipality_code, today, RUN_CHUNK.into()).await?;
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

    /// Reminds of lots that end in the set number of days after `today` (T06), a day that may have been missed. Amounts
    /// of one child and last day are summed.
    pub async fn remind_of_expiry(
        &self,
        actor: &Actor,
        round: ReminderRound,
        today: Date,
        now: Timestamp,
    ) -> Result<CouponRun, WorkflowError> {
        let code = &actor.municipality_code;
        let mut run = CouponRun::default();
        let (ends_on, children) = {
            let mut tx = self.read(actor).await?;
            let days = tx.parameter_number(code, round.days(), today).await?;
            let ends_on = add_days(today, i32::try_from(days).unwrap_or(i32::MAX));
            if ends_on < now.jst_date() {
                return Ok(run);
            }
            (ends_on, tx.children_with_lots_ending_on(code, ends_on).await?)
        };
        for some in children.chunks(usize::from(RUN_CHUNK)) {
            let mut work = self.begin_long(actor, now).await?;
            for child in some {
                run.coupons += work.remind_of(*child, today, ends_on).await?;
            }
            work.commit().await?;
        }
        Ok(run)
    }
}

impl Work<'_> {
    /// Reminds of what is left of a child's lots that end on `ends_on`; gives the number of its coupons with any.
    async fn remind_of(&mut self, child: ChildId, today: Date, ends_on: Date) -> Result<usize, WorkflowError> {
        let (mut n, mut amount) = (0, Yen::ZERO);
        // The message leads to the first of them.
        let mut first = None;
        for coupon in self.tx.coupons_of_child(child).await?.into_iter().rev() {
            if coupon.state() != CouponState::Active {
                continue;
            }
            let lots = self.tx.lots(coupon.coupon_id).await?;
            let rest: Yen = lots.iter().filter(|lot| lot.expires_on == ends_on).map(|lot| lot.rest_yen).sum();
            if rest.is_positive() {
                first = first.or(Some(coupon.coupon_id));
                amount += rest;
                n += 1;
            }
        }
        let Some(coupon) = first else { return Ok(0) };
        let open = self.open_coupon(coupon).await?;
        let mut about = open.about("coupon", coupon.to_string(), &open.coupon.coupon_no, "active");
        about.values.set(Placeholder::Amount, amount.to_string());
        about.values.set(Placeholder::Expiry, format::day(ends_on));
        // The early and the late reminder may fall on one day.
        about.once_per = Some(format!("{today}:{child}:{ends_on}"));
        let cause = self.uncaused(Subject::new("coupon", coupon));
        self.raise_timer("T06", &cause, &about).await?;
        Ok(n)
    }

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
