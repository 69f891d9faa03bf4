//! Coupons and uses as clients see them.

use serde::{Deserialize, Serialize};
use todoke_domain::{
    Timestamp, Yen,
    ids::{ApplicationId, ChildId, CouponId, CouponSetId, FacilityId, GuardianId, LotId, UseId},
    role::Permission,
};
use todoke_store::{
    Tx,
    child::Child,
    coupon::{Coupon, LedgerRow},
    coupon_use::{CouponUse, UsesOf},
    facility::Facility,
};

use crate::{Actor, Workflow, WorkflowError};

/// A payment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UseView {
    /// Id.
    pub use_id: UseId,
    /// Number.
    pub use_no: String,
    /// `settled` or `reversed`.
    pub state: String,
    /// How much.
    pub amount_yen: Yen,
    /// `service` or `cancellation_fee`.
    pub purpose: String,
    /// Programme.
    pub programme_code: String,
    /// Facility.
    pub facility_id: FacilityId,
    /// Its name.
    pub facility_name: String,
    /// Child.
    pub child_id: ChildId,
    /// Name and number of the child.
    pub child_label: String,
    /// When.
    pub used_at: Timestamp,
    /// Balance after it.
    pub balance_after_yen: Yen,
    /// Number of its ledger line.
    pub ledger_seq: i64,
    /// `guardian` or `facility`.
    pub initiated_by: String,
    /// Paid with a printed child QR.
    pub device_less: bool,
    /// `guardian_device`, `facility_device` or `child_qr`.
    pub payer_channel: String,
    /// When it was undone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reversed_at: Option<Timestamp>,
}

impl UseView {
    pub(super) fn new(row: &CouponUse, facility: &Facility, child: &Child) -> Self {
        let payer_channel = match (row.device_less, row.initiated_by.as_str()) {
            (true, _) => "child_qr",
            (false, "guardian") => "guardian_device",
            (false, _) => "facility_device",
        };
        Self {
            use_id: row.use_id,
            use_no: row.use_no.clone(),
            state: row.state.clone(),
            amount_yen: row.amount_yen,
            purpose: row.purpose.clone(),
            programme_code: row.programme_code.clone(),
            facility_id: row.facility_id,
            facility_name: facility.name.clone(),
            child_id: row.child_id,
            child_label: format!("{}（{}）", child.name, child.child_no),
            used_at: row.used_at,
            balance_after_yen: row.balance_after_yen,
            ledger_seq: row.ledger_seq,
            initiated_by: row.initiated_by.clone(),
            device_less: row.device_less,
            payer_channel: payer_channel.to_owned(),
            reversed_at: row.reversed_at,
        }
    }
}

/// A lot.
#[derive(Debug, Clone, Serialize)]
pub struct LotView {
    /// Id.
    pub lot_id: LotId,
    /// Distributed.
    pub amount_yen: Yen,
    /// Left.
    pub rest_yen: Yen,
    /// Last usable day.
    pub expires_on: String,
}

/// A coupon with its lots.
#[derive(Debug, Clone, Serialize)]
pub struct CouponView {
    /// Id.
    pub coupon_id: CouponId,
    /// Number.
    pub coupon_no: String,
    /// Whose.
    pub child_id: ChildId,
    /// Name of the child.
    pub child_name: String,
    /// Number of the child.
    pub child_no: String,
    /// Household.
    pub guardian_id: GuardianId,
    /// Approval it rests on.
    pub application_id: ApplicationId,
    /// Definition.
    pub coupon_set_id: CouponSetId,
    /// Its title.
    pub coupon_set_title: String,
    /// `yen`.
    pub coupon_kind: &'static str,
    /// `active`, `expired` or `revoked`.
    pub state: String,
    /// The guardian is suspended.
    pub suspended: bool,
    /// Balance.
    pub balance_yen: Yen,
    /// Number of the last ledger line.
    pub ledger_seq: i64,
    /// Programmes it pays for.
    pub programmes: Vec<String>,
    /// Lots with something left, by expiry.
    pub lots: Vec<LotView>,
}

/// Which coupons to show.
#[derive(Debug, Clone)]
pub enum CouponsOf {
    /// The caller's household.
    Own,
    /// A child.
    Child(ChildId),
    /// By a number people read: coupon, child or guardian.
    Number(String),
}

impl Workflow {
    /// Coupons with lots. Others than the household need the right to read the register.
    pub async fn coupons(&self, actor: &Actor, of: CouponsOf) -> Result<Vec<CouponView>, WorkflowError> {
        let mut tx = self.read(actor).await?;
        let own = actor.household().ok().map(|(_, guardian)| guardian);
        if own.is_none() {
            actor.require(Permission::ReadRegister)?;
        }
        let mut coupons = match (of, own) {
            (CouponsOf::Own, Some(guardian)) => tx.coupons_of_guardian(guardian).await?,
            (CouponsOf::Own, None) => Vec::new(),
            (CouponsOf::Child(child), _) => tx.coupons_of_child(child).await?,
            (CouponsOf::Number(number), _) => coupons_by_number(&mut tx, actor, &number).await?,
        };
        if let Some(guardian) = own {
            coupons.retain(|coupon| coupon.guardian_id == guardian);
        }
        let mut views = Vec::with_capacity(coupons.len());
        for coupon in coupons {
            views.push(coupon_view(&mut tx, coupon).await?);
        }
        Ok(views)
    }

    /// One coupon of the caller's household or, for offices, of the municipality.
    pub async fn coupon(&self, actor: &Actor, id: CouponId) -> Result<CouponView, WorkflowError> {
        let mut tx = self.read(actor).await?;
        let coupon = readable_coupon(&mut tx, actor, id).await?;
        coupon_view(&mut tx, coupon).await
    }

    /// A coupon's ledger, newest first, at most 500 lines.
    pub async fn coupon_ledger(&self, actor: &Actor, id: CouponId) -> Result<Vec<LedgerRow>, WorkflowError> {
        let mut tx = self.read(actor).await?;
        readable_coupon(&mut tx, actor, id).await?;
        Ok(tx.ledger(id, 500).await?)
    }

    /// Uses in a half-open period, newest first: the household's own, the facility's own, or a child's for offices.
    pub async fn uses(
        &self,
        actor: &Actor,
        child: Option<ChildId>,
        from: Timestamp,
        to: Timestamp,
        before: Option<UseId>,
        n_max: i64,
    ) -> Result<Vec<UseView>, WorkflowError> {
        let of = match (actor.role, actor.guardian_id, actor.facility_id, child) {
            (Some(role), Some(guardian), _, None) if role.is_household() => UsesOf::Guardian(guardian),
            (Some(role), Some(guardian), _, Some(child)) if role.is_household() => {
                let own = self.read(actor).await?.child(child).await?.is_some_and(|row| row.guardian_id == guardian);
                if !own {
                    return Err(WorkflowError::NotFound("child"));
                }
                UsesOf::Child(child)
            }
            (Some(role), _, Some(facility), _) if role.is_facility() => UsesOf::Facility(facility),
            (_, _, _, Some(child)) => {
                actor.require(Permission::ReadRegister)?;
                UsesOf::Child(child)
            }
            _ => return Err(WorkflowError::Denied),
        };
        let mut tx = self.read(actor).await?;
        let mut rows = tx.uses(of, from, to, before, n_max).await?;
        if let Some(child) = child {
            rows.retain(|row| row.child_id == child);
        }
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            views.push(use_view(&mut tx, &row).await?);
        }
        Ok(views)
    }
}

async fn coupons_by_number(tx: &mut Tx, actor: &Actor, number: &str) -> Result<Vec<Coupon>, WorkflowError> {
    let code = &actor.municipality_code;
    match number.chars().next() {
        Some('K') => match tx.child_by_no(code, number).await? {
            Some(child) => Ok(tx.coupons_of_child(child.child_id).await?),
            None => Ok(Vec::new()),
        },
        Some('G') => {
            let found = tx.find_guardians(code, number, 1).await?;
            match found.first() {
                Some(guardian) => Ok(tx.coupons_of_guardian(guardian.guardian_id).await?),
                None => Ok(Vec::new()),
            }
        }
        _ => Ok(tx.coupon_by_no(code, number).await?.into_iter().collect()),
    }
}

async fn readable_coupon(tx: &mut Tx, actor: &Actor, id: CouponId) -> Result<Coupon, WorkflowError> {
    let coupon = tx.coupon(id).await?.ok_or(WorkflowError::NotFound("coupon"))?;
    match actor.household() {
        Ok((_, guardian)) if guardian == coupon.guardian_id => {}
        Ok(_) => return Err(WorkflowError::NotFound("coupon")),
        Err(_) => actor.require(Permission::ReadRegister)?,
    }
    Ok(coupon)
}

pub(crate) async fn coupon_view(tx: &mut Tx, coupon: Coupon) -> Result<CouponView, WorkflowError> {
    let child = tx.child(coupon.child_id).await?.ok_or(WorkflowError::NotFound("child"))?;
    let guardian = tx.guardian(coupon.guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
    let set = tx.coupon_set(coupon.coupon_set_id).await?.ok_or(WorkflowError::NotFound("coupon set"))?;
    let lots = tx.lots(coupon.coupon_id).await?.into_iter().filter(|lot| lot.rest_yen.is_positive());
    Ok(CouponView {
        coupon_id: coupon.coupon_id,
        coupon_no: coupon.coupon_no,
        child_id: coupon.child_id,
        child_name: child.name,
        child_no: child.child_no,
        guardian_id: coupon.guardian_id,
        application_id: coupon.application_id,
        coupon_set_id: coupon.coupon_set_id,
        coupon_set_title: set.title,
        coupon_kind: "yen",
        state: coupon.state,
        suspended: guardian.suspended,
        balance_yen: coupon.balance_yen,
        ledger_seq: coupon.ledger_seq,
        programmes: set.programmes,
        lots: lots
            .map(|lot| LotView {
                lot_id: lot.lot_id,
                amount_yen: lot.amount_yen,
                rest_yen: lot.rest_yen,
                expires_on: lot.expires_on.to_string(),
            })
            .collect(),
    })
}

pub(super) async fn use_view(tx: &mut Tx, row: &CouponUse) -> Result<UseView, WorkflowError> {
    let facility = tx.facility(row.facility_id).await?.ok_or(WorkflowError::NotFound("facility"))?;
    let child = tx.child(row.child_id).await?.ok_or(WorkflowError::NotFound("child"))?;
    Ok(UseView::new(row, &facility, &child))
}
