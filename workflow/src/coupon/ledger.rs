//! One coupon locked for booking: the only place that writes ledger lines.

use jiff::civil::Date;
use serde_json::{Map, Value, json};
use todoke_domain::{
    Yen,
    catalogue::{
        format,
        template::{Placeholder, Placeholders},
    },
    ids::{CouponId, UseId},
    ledger::{self, LotAmount},
    parameter,
    role::Role,
};
use todoke_store::{
    account::Account,
    child::Child,
    coupon::{Coupon, CouponFile, LedgerEntry, LotRow},
    guardian::Guardian,
};

use crate::{Work, WorkflowError, messaging::About};

/// A coupon whose ledger this transaction alone may write, with everything rules and texts need.
#[derive(Debug)]
pub(crate) struct OpenCoupon {
    pub(crate) coupon: Coupon,
    pub(crate) lots: Vec<LotRow>,
    pub(crate) child: Child,
    pub(crate) guardian: Guardian,
    pub(crate) accounts: Vec<Account>,
    pub(crate) contact: String,
    today: Date,
}

impl Work<'_> {
    /// Locks a coupon and reads what belongs to it.
    pub(crate) async fn open_coupon(&mut self, id: CouponId) -> Result<OpenCoupon, WorkflowError> {
        let (code, today) = (&self.actor.municipality_code, self.now.jst_date());
        let file = self.tx.lock_coupon_file(code, id, today).await?.ok_or(WorkflowError::NotFound("coupon"))?;
        let CouponFile { coupon, lots, child, guardian, accounts, contact } = file;
        Ok(OpenCoupon { coupon, lots, child, guardian, accounts, contact, today })
    }

    /// The desk that messages name.
    pub(crate) async fn contact(&mut self) -> Result<String, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        Ok(self.tx.parameter(&code, parameter::CONTACT, self.now.jst_date()).await?)
    }

    /// Books a line and moves the lots with it: `sign` +1 gives the amounts back to their lots, −1 takes them.
    pub(crate) async fn book(
        &mut self,
        open: &mut OpenCoupon,
        kind: &'static str,
        sign: i64,
        lines: Vec<LotAmount>,
        use_id: Option<UseId>,
        reason: Option<String>,
    ) -> Result<(), WorkflowError> {
        for line in &lines {
            let delta = Yen::new(sign * line.amount.get());
            self.tx.change_lot(line.lot_id, delta).await?;
            if let Some(lot) = open.lots.iter_mut().find(|lot| lot.lot_id == line.lot_id) {
                lot.rest_yen += delta;
            }
        }
        let delta = Yen::new(sign * lines.iter().map(|line| line.amount.get()).sum::<i64>());
        open.note(delta);
        let entry = LedgerEntry {
            coupon_id: open.coupon.coupon_id,
            seq: open.coupon.ledger_seq,
            kind,
            delta,
            balance_after: open.coupon.balance_yen,
            lines,
            use_id,
            reason,
        };
        Ok(self.tx.book(&entry, self.now).await?)
    }

    /// Adds a lot and books it.
    pub(crate) async fn book_lot(
        &mut self,
        open: &mut OpenCoupon,
        lot: LotRow,
        kind: &'static str,
        reason: Option<String>,
    ) -> Result<(), WorkflowError> {
        self.tx.insert_lot(&lot, self.now).await?;
        open.note(lot.amount_yen);
        let entry = LedgerEntry {
            coupon_id: open.coupon.coupon_id,
            seq: open.coupon.ledger_seq,
            kind,
            delta: lot.amount_yen,
            balance_after: open.coupon.balance_yen,
            lines: vec![LotAmount { lot_id: lot.lot_id, amount: lot.amount_yen }],
            use_id: None,
            reason,
        };
        open.lots.push(lot);
        Ok(self.tx.book(&entry, self.now).await?)
    }
}

impl OpenCoupon {
    fn note(&mut self, delta: Yen) {
        self.coupon.balance_yen += delta;
        self.coupon.ledger_seq += 1;
    }

    /// The household's pseudonym: that of the guardian's account.
    pub(crate) fn guardian_key(&self) -> Option<i64> {
        guardian_key(&self.accounts)
    }

    /// What can be used today. Lots past their day are written off at midnight and do not count before that.
    pub(crate) fn usable(&self) -> Yen {
        let lots: Vec<_> = self.lots.iter().map(LotRow::as_lot).collect();
        ledger::balance(&lots, self.today)
    }

    /// What a payment would take from which lot.
    pub(crate) fn take(&self, amount: Yen) -> Result<Vec<LotAmount>, ledger::Insufficient> {
        let lots: Vec<_> = self.lots.iter().map(LotRow::as_lot).collect();
        ledger::take(&lots, amount, self.today)
    }

    /// Everything that is left, lot by lot.
    pub(crate) fn rests(&self) -> Vec<LotAmount> {
        let left = self.lots.iter().filter(|lot| lot.rest_yen.is_positive());
        left.map(|lot| LotAmount { lot_id: lot.lot_id, amount: lot.rest_yen }).collect()
    }

    /// Members of `coupon.*` events that every one of them has.
    pub(crate) fn balance_fields(&self) -> [(&'static str, Value); 3] {
        [
            ("balance_after_yen", json!(self.coupon.balance_yen)),
            ("balance_after_units", json!(0)),
            ("ledger_seq", json!(self.coupon.ledger_seq)),
        ]
    }

    /// The values and publication data that every coupon message has.
    pub(crate) fn about(&self, subject_kind: &'static str, subject_id: String, subject_no: &str, state: &str) -> About {
        let values = Placeholders::new()
            .with(Placeholder::Guardian, format::person(&self.guardian.name))
            .with(Placeholder::Child, self.child.name.clone())
            .with(Placeholder::No, subject_no)
            .with(Placeholder::Balance, self.coupon.balance_yen.to_string())
            .with(Placeholder::Contact, self.contact.clone())
            .with(Placeholder::Date, format::day(self.today));
        About {
            subject_kind,
            subject_id,
            subject_no: Some(subject_no.to_owned()),
            state: state.to_owned(),
            child: Some(self.child.child_id),
            guardian: Some(self.guardian.guardian_id),
            household: Some((self.guardian.clone(), self.accounts.clone())),
            values,
            link: format!("/coupons/{}", self.coupon.coupon_id),
            office_link: "/staff".to_owned(),
            data: self.data(),
            ..About::default()
        }
    }

    /// `data.coupon` of a publication: enough to bring every balance on a screen up to date.
    fn data(&self) -> Map<String, Value> {
        let coupon = json!({
            "coupon_id": self.coupon.coupon_id,
            "child_id": self.coupon.child_id,
            "balance_yen": self.coupon.balance_yen,
            "state": self.coupon.state,
            "suspended": self.guardian.suspended,
            "ledger_seq": self.coupon.ledger_seq,
        });
        [("coupon".to_owned(), coupon)].into_iter().collect()
    }
}

/// The household's pseudonym: that of the guardian's living account.
pub(crate) fn guardian_key(accounts: &[Account]) -> Option<i64> {
    accounts.iter().find(|account| account.role == Role::Guardian).and_then(|account| account.person_key)
}

/// `{lot_id, bucket, amount}` items of an event.
pub(super) fn event_lines(lines: &[LotAmount]) -> Value {
    lines.iter().map(|line| json!({ "lot_id": line.lot_id, "bucket": null, "amount": line.amount })).collect()
}

/// An event payload from its own members and those every coupon event has.
pub(super) fn payload<const N: usize>(open: &OpenCoupon, members: [(&'static str, Value); N]) -> Value {
    let all = members.into_iter().chain(open.balance_fields());
    Value::Object(all.map(|(name, value)| (name.to_owned(), value)).collect())
}
