//! A coupon use: where a payment becomes a ledger line, an event and messages (flows C5, F15, MR2).

use std::time::Duration;

use serde_json::{Value, json};
use todoke_domain::{Event, Timestamp};
use todoke_domain::{
    Yen,
    catalogue::{format, template::Placeholder},
    coupon::CouponState,
    ids::{ApplicationId, CouponId, FacilityId, UseId},
    ledger::LotAmount,
    number::NumberKind,
    qr::QrToken,
    reason::UseRefusal,
    role::{Permission, Role},
};
use todoke_store::{
    coupon::lines_text,
    coupon_use::{CouponUse, UseQuestion},
    facility::Facility,
    idempotency::FirstAnswer,
};

use super::{
    ledger::{OpenCoupon, event_lines, payload},
    view::UseView,
};
use crate::{Actor, FieldError, Work, Workflow, WorkflowError, messaging::About, work::Subject};

/// A use without application repeated within this time needs a confirmation (MR2).
const REPEAT_WINDOW: Duration = Duration::from_secs(60);
/// Longest `Idempotency-Key`, characters.
const KEY_CHARS_MAX: usize = 100;
/// Status kept with the first answer of a settled use.
const STATUS_CREATED: i64 = 201;
/// Status kept with the first answer of a refused use.
const STATUS_REFUSED: i64 = 409;

/// From whose coupon.
#[derive(Debug, Clone)]
pub enum Payer {
    /// A coupon by id: the guardian's own device.
    Coupon(CouponId),
    /// The child QR on paper or on the guardian's screen, read by the facility.
    ChildQr(String),
}

/// To which facility.
#[derive(Debug, Clone)]
pub enum Place {
    /// By id.
    Facility(FacilityId),
    /// By the facility's coupon QR.
    FacilityQr(String),
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The service itself.
    Service,
    /// The fee of a late cancellation; facility or operator only.
    CancellationFee,
}

impl Purpose {
    /// The code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::CancellationFee => "cancellation_fee",
        }
    }
}

/// A payment as asked for.
#[derive(Debug, Clone)]
pub struct UseRequest {
    /// Made by the client, one per attempt; a repeat gets the first answer.
    pub idempotency_key: String,
    /// Hash of the request's body: the same key with another body is refused.
    pub body_hash: String,
    /// From whose coupon.
    pub payer: Payer,
    /// To which facility; staff pay to their own.
    pub place: Place,
    /// For which programme.
    pub programme_code: String,
    /// How much.
    pub amount: Yen,
    /// What for.
    pub purpose: Purpose,
    /// Full price, where known.
    pub fee_total: Option<Yen>,
    /// The use application it settles.
    pub application_id: Option<ApplicationId>,
    /// The person confirmed that the same amount a moment ago was another payment.
    pub confirm_repeat: bool,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub enum UseAnswer {
    /// Booked now.
    Settled(UseView),
    /// The first answer to this key, as it was given: JSON of a [`UseView`] that was booked then.
    Repeated(String),
}

/// Refusal as kept for repeats of the key.
#[derive(serde::Serialize, serde::Deserialize)]
struct KeptRefusal {
    reason: String,
    balance_yen: Option<i64>,
}

impl Workflow {
    /// Pays with a coupon.
    ///
    /// The coupon's row is the lock: all guards, the booking, the event and the messages are one step on
    /// it, so that neither two devices nor two nodes can spend the same yen. A repeated key gets the first
    /// answer, also when that was a refusal.
    ///
    /// Errors: [`WorkflowError::UseRefused`] with the reason (the refusal is recorded and told);
    /// [`WorkflowError::Invalid`], [`WorkflowError::NotFound`] and [`WorkflowError::Denied`] leave no trace.
    /// Cancel safe: dropped before the commit, nothing is booked.
    pub async fn use_coupon(
        &self,
        actor: &Actor,
        request: &UseRequest,
        now: Timestamp,
    ) -> Result<UseAnswer, WorkflowError> {
        let account = actor.account()?;
        check_key(&request.idempotency_key)?;
        let mut work = self.begin(actor, now).await?;
        if let Some(first) = work.tx.first_answer(account, &request.idempotency_key).await? {
            return repeat(&first, &request.body_hash);
        }
        let (coupon_id, device_less) = work.payer(&request.payer).await?;
        let facility = work.place(&request.place).await?;
        work.may_pay(&request.payer, &facility, request.purpose)?;
        let mut open = work.open_coupon(coupon_id).await?;
        if actor.role.is_some_and(Role::is_household) && actor.guardian_id != Some(open.guardian.guardian_id) {
            return Err(WorkflowError::NotFound("coupon"));
        }
        // Whoever waited for the lock may be the repeat of the one that held it.
        if let Some(first) = work.tx.first_answer_after_lock(account, &request.idempotency_key).await? {
            return repeat(&first, &request.body_hash);
        }
        let answer = match work.guard(&open, &facility, request).await? {
            Some(reason) => Err(work.refuse(&open, &facility, request, reason).await?),
            None => Ok(work.settle(&mut open, &facility, request, device_less).await?),
        };
        let kept = match &answer {
            Ok(view) => {
                FirstAnswer { body_hash: request.body_hash.clone(), status: STATUS_CREATED, response: to_text(view)? }
            }
            Err(kept) => {
                FirstAnswer { body_hash: request.body_hash.clone(), status: STATUS_REFUSED, response: to_text(kept)? }
            }
        };
        work.tx.keep_answer(account, &request.idempotency_key, &kept, now).await?;
        work.commit().await?;
        match answer {
            Ok(view) => Ok(UseAnswer::Settled(view)),
            Err(_) => repeat(&kept, &request.body_hash),
        }
    }
}

fn to_text(value: &impl serde::Serialize) -> Result<String, WorkflowError> {
    serde_json::to_string(value).map_err(|_| WorkflowError::Internal("an answer could not be written"))
}

fn check_key(key: &str) -> Result<(), WorkflowError> {
    let fits = !key.is_empty() && key.chars().count() <= KEY_CHARS_MAX && key.chars().all(|c| c.is_ascii_graphic());
    if fits {
        Ok(())
    } else {
        let detail = "Idempotency-Key ヘッダーに100文字以内の英数字・記号を指定してください。";
        Err(WorkflowError::Invalid(vec![FieldError::new("Idempotency-Key", detail)]))
    }
}

/// The first answer once more.
fn repeat(first: &FirstAnswer, body_hash: &str) -> Result<UseAnswer, WorkflowError> {
    if first.body_hash != body_hash {
        return Err(WorkflowError::Conflict("同じ Idempotency-Key で内容の異なる依頼が送られました。".to_owned()));
    }
    if first.status == STATUS_CREATED {
        return Ok(UseAnswer::Repeated(first.response.clone()));
    }
    let kept: KeptRefusal =
        serde_json::from_str(&first.response).map_err(|_| WorkflowError::Internal("a kept answer cannot be read"))?;
    let reason = UseRefusal::ALL.into_iter().find(|reason| reason.as_str() == kept.reason);
    let reason = reason.ok_or(WorkflowError::Internal("a kept answer cannot be read"))?;
    Err(WorkflowError::UseRefused { reason, balance: kept.balance_yen.map(Yen::new) })
}

impl Work<'_> {
    /// The coupon that pays, and whether it is paid without the guardian's device.
    async fn payer(&mut self, payer: &Payer) -> Result<(CouponId, bool), WorkflowError> {
        match payer {
            Payer::Coupon(id) => Ok((*id, false)),
            Payer::ChildQr(raw) => {
                let token = QrToken::parse(raw)
                    .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("child_qr", error.to_string())]))?;
                let code = self.actor.municipality_code.clone();
                let qr = self.tx.child_qr(&code, &token.to_string()).await?;
                let child = qr.and_then(|qr| qr.child_id).ok_or(WorkflowError::NotFound("child_qr"))?;
                let coupons = self.tx.coupons_of_child(child).await?;
                let usable = coupons.iter().find(|coupon| coupon.state() == CouponState::Active).or(coupons.first());
                Ok((usable.ok_or(WorkflowError::NotFound("coupon"))?.coupon_id, true))
            }
        }
    }

    async fn place(&mut self, place: &Place) -> Result<Facility, WorkflowError> {
        let facility = match place {
            Place::Facility(id) => self.tx.facility(*id).await?,
            Place::FacilityQr(raw) => {
                let token = QrToken::parse(raw)
                    .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("facility_qr", error.to_string())]))?;
                self.tx.facility_by_qr(&token.to_string()).await?
            }
        };
        facility.ok_or(WorkflowError::NotFound("facility"))
    }

    /// Guardians pay with their own coupons; staff take child QRs at their own facility; fees are for
    /// facility and operator.
    fn may_pay(&self, payer: &Payer, facility: &Facility, purpose: Purpose) -> Result<(), WorkflowError> {
        let role = self.actor.role.ok_or(WorkflowError::Denied)?;
        let allowed = match (payer, purpose) {
            (Payer::Coupon(_), Purpose::Service) => role.may(Permission::ActAsGuardian),
            (Payer::ChildQr(_), Purpose::Service) => role.may(Permission::TakeCoupons),
            (_, Purpose::CancellationFee) => role.may(Permission::TakeCoupons) || role == Role::Operator,
        };
        let own_facility = !role.is_facility() || self.actor.facility_id == Some(facility.facility_id);
        if allowed && own_facility { Ok(()) } else { Err(WorkflowError::Denied) }
    }

    /// The guards of C5 in the order in which a person would want to hear of them.
    async fn guard(
        &mut self,
        open: &OpenCoupon,
        facility: &Facility,
        request: &UseRequest,
    ) -> Result<Option<UseRefusal>, WorkflowError> {
        if open.guardian.suspended {
            return Ok(Some(UseRefusal::GuardianSuspended));
        }
        match open.coupon.state() {
            CouponState::Revoked => return Ok(Some(UseRefusal::CouponRevoked)),
            CouponState::Expired => return Ok(Some(UseRefusal::CouponExpired)),
            CouponState::Active => {}
        }
        let asked = UseQuestion {
            child: open.child.child_id,
            facility: facility.facility_id,
            programme_code: &request.programme_code,
            amount: request.amount,
            purpose: request.purpose.as_str(),
            application: request.application_id,
            since: (!request.confirm_repeat).then(|| self.now.minus(REPEAT_WINDOW)),
        };
        let terms = self.tx.use_terms(open.coupon.coupon_set_id, &asked).await?;
        let terms = terms.ok_or(WorkflowError::NotFound("coupon set"))?;
        if !terms.programmes.contains(&request.programme_code) {
            return Ok(Some(UseRefusal::ProgrammeNotEligible));
        }
        if !terms.given_there {
            return Ok(Some(UseRefusal::FacilityNotEligible));
        }
        if !request.amount.is_positive() || request.amount > Yen::SINGLE_MAX {
            return Ok(Some(UseRefusal::AmountInvalid));
        }
        if terms.paid_before {
            return Ok(Some(UseRefusal::Duplicate));
        }
        if request.amount > open.usable() {
            let lapsed = open.usable() == Yen::ZERO && open.coupon.balance_yen.is_positive();
            return Ok(Some(if lapsed { UseRefusal::CouponExpired } else { UseRefusal::InsufficientBalance }));
        }
        Ok(None)
    }

    async fn settle(
        &mut self,
        open: &mut OpenCoupon,
        facility: &Facility,
        request: &UseRequest,
        device_less: bool,
    ) -> Result<UseView, WorkflowError> {
        let lines = open.take(request.amount).map_err(|_| WorkflowError::Internal("a guarded amount did not fit"))?;
        let code = self.actor.municipality_code.clone();
        let use_id = UseId::new(self.now);
        let use_no = self.tx.next_number(&code, NumberKind::Use, self.now).await?;
        self.book(open, "used", -1, lines.clone(), Some(use_id), None).await?;
        let initiated_by = if self.actor.role.is_some_and(Role::is_household) { "guardian" } else { "facility" };
        let row = CouponUse {
            use_id,
            municipality_code: code,
            use_no,
            coupon_id: open.coupon.coupon_id,
            child_id: open.child.child_id,
            guardian_id: open.guardian.guardian_id,
            facility_id: facility.facility_id,
            programme_code: request.programme_code.clone(),
            purpose: request.purpose.as_str().to_owned(),
            amount_yen: request.amount,
            fee_total_yen: request.fee_total,
            application_id: request.application_id,
            state: "settled".to_owned(),
            initiated_by: initiated_by.to_owned(),
            device_less,
            lines: lines_text(&lines),
            balance_after_yen: open.coupon.balance_yen,
            ledger_seq: open.coupon.ledger_seq,
            used_at: self.now,
            reversed_at: None,
            reverse_reason: None,
        };
        self.tx.insert_use(&row).await?;
        let event = self.used_event(open, &row, &lines);
        let view = UseView::new(&row, facility, &open.child);
        let about = used_about(open, &row, facility, &view);
        self.raise(&event, &about).await?;
        Ok(view)
    }

    fn used_event(&mut self, open: &OpenCoupon, row: &CouponUse, lines: &[LotAmount]) -> Event {
        let fields = payload(
            open,
            [
                ("use_id", json!(row.use_id)),
                ("coupon_id", json!(row.coupon_id)),
                ("child_key", json!(open.child.person_key)),
                ("guardian_key", json!(open.guardian_key())),
                ("coupon_set_id", json!(open.coupon.coupon_set_id)),
                ("coupon_kind", json!("yen")),
                ("purpose", json!(row.purpose)),
                ("amount_yen", json!(row.amount_yen)),
                ("amount_units", json!(0)),
                ("lines", event_lines(lines)),
                ("fee_total_yen", json!(row.fee_total_yen)),
                ("application_id", json!(row.application_id)),
                ("initiated_by", json!(row.initiated_by)),
                ("device_less", json!(row.device_less)),
                ("used_on", json!(self.now.jst_date().to_string())),
            ],
        );
        let subject = Subject::new("coupon", row.coupon_id);
        self.event_at("coupon.used", subject, row.facility_id, Some(&row.programme_code), fields)
    }

    /// Records a refusal and tells both sides; gives what a repeat of the key will be told.
    async fn refuse(
        &mut self,
        open: &OpenCoupon,
        facility: &Facility,
        request: &UseRequest,
        reason: UseRefusal,
    ) -> Result<KeptRefusal, WorkflowError> {
        let own = self.actor.role.is_some_and(Role::is_household);
        // What was asked for may be any words: only a programme that there is goes into the event.
        let programmes = self.tx.programmes(&self.actor.municipality_code).await?;
        let mut known = programmes.into_iter().map(|programme| programme.programme_code);
        let programme = known.find(|code| *code == request.programme_code);
        let event = self.event_at(
            "coupon.use_refused",
            Subject::new("coupon", open.coupon.coupon_id),
            facility.facility_id,
            programme.as_deref(),
            json!({
                "child_key": open.child.person_key,
                // An amount below zero is refused as such; the log keeps amounts of yen.
                "amount_yen": request.amount.max(Yen::ZERO),
                "amount_units": 0,
                "reason_code": reason.as_str(),
            }),
        );
        let mut about = open.about("coupon", open.coupon.coupon_id.to_string(), &open.coupon.coupon_no, "refused");
        about.facility = Some(facility.facility_id);
        about.values.set(Placeholder::Reason, reason.text());
        about.data.insert("reason_code".to_owned(), json!(reason.as_str()));
        self.raise(&event, &about).await?;
        Ok(KeptRefusal { reason: reason.as_str().to_owned(), balance_yen: own.then(|| open.usable().get()) })
    }
}

fn used_about(open: &OpenCoupon, row: &CouponUse, facility: &Facility, view: &UseView) -> About {
    let mut about = open.about("coupon_use", row.use_id.to_string(), &row.use_no, "settled");
    about.facility = Some(facility.facility_id);
    about.values.set(Placeholder::Facility, facility.name.clone());
    about.values.set(Placeholder::Amount, row.amount_yen.to_string());
    about.values.set(Placeholder::Time, format::clock(row.used_at.jst().time()));
    about.office_link = "/staff/facility".to_owned();
    about.data.insert("use".to_owned(), serde_json::to_value(view).unwrap_or(Value::Null));
    about
}
