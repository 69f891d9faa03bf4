//! Suspending and resuming a guardian (flow F07): it acts on all children's coupons at once.

use serde_json::json;
use todoke_domain::{
    Timestamp,
    catalogue::{
        format,
        template::{Placeholder, Placeholders},
    },
    ids::GuardianId,
    reason::INTERVENTION,
    role::Permission,
};

use super::ledger::guardian_key;
use crate::{Actor, FieldError, Work, Workflow, WorkflowError, audit::Access, messaging::About, work::Subject};

impl Workflow {
    /// Suspends (`true`) or resumes (`false`) a guardian. From the commit on every payment is refused,
    /// also one that is already waiting for the coupon's lock.
    ///
    /// Errors: [`WorkflowError::Conflict`] when it already stands so.
    pub async fn set_suspended(
        &self,
        actor: &Actor,
        id: GuardianId,
        suspended: bool,
        reason_code: &str,
        text: Option<&str>,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        actor.require(Permission::ManageCoupons)?;
        let mut work = self.begin(actor, now).await?;
        work.set_suspended(id, suspended, reason_code, text).await?;
        work.commit().await?;
        Ok(())
    }
}

impl Work<'_> {
    /// Suspends or resumes; see [`Workflow::set_suspended`].
    pub(crate) async fn set_suspended(
        &mut self,
        id: GuardianId,
        suspended: bool,
        reason_code: &str,
        text: Option<&str>,
    ) -> Result<(), WorkflowError> {
        INTERVENTION
            .text(reason_code, text)
            .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("reason_code", error.to_string())]))?;
        let guardian = self.tx.guardian(id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        // Every coupon is locked first: a use in flight either ends before this or sees it.
        let coupons = self.tx.coupons_of_guardian(id).await?;
        for coupon in &coupons {
            self.tx.lock_coupon(coupon.coupon_id).await?;
        }
        if !self.tx.set_suspended(id, suspended).await? {
            let text =
                if suspended { "すでに利用停止中です。" } else { "利用停止中ではありません。" };
            return Err(WorkflowError::Conflict(text.to_owned()));
        }
        let guardian_key = guardian_key(&self.tx.household_accounts(id).await?);
        let (event_type, state) =
            if suspended { ("coupon.suspended", "suspended") } else { ("coupon.resumed", "active") };
        let subject = Subject::new("guardian", guardian_key.unwrap_or_default());
        let event = self.event(
            event_type,
            subject,
            json!({
                "guardian_key": guardian_key, "coupons": coupons.len(), "reason_code": reason_code,
            }),
        );
        let contact = self.contact().await?;
        let about = About {
            subject_kind: "guardian",
            subject_id: id.to_string(),
            subject_no: Some(guardian.guardian_no.clone()),
            state: state.to_owned(),
            guardian: Some(id),
            values: Placeholders::new()
                .with(Placeholder::Date, format::day(self.now.jst_date()))
                .with(Placeholder::Contact, contact),
            link: "/coupons".to_owned(),
            data: [("suspended".to_owned(), json!(suspended))].into_iter().collect(),
            ..About::default()
        };
        let access = if suspended { Access::Suspend } else { Access::Resume };
        self.audit(access, Subject::new("guardian", guardian_key.unwrap_or_default()), coupons.len());
        self.raise(&event, &about).await
    }
}
