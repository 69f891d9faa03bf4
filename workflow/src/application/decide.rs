//! What the operator does with an application (flows F04 steps 3 to 6, F06).

use serde::{Deserialize, Serialize};
use serde_json::json;
use todoke_domain::{
    Timestamp, Yen,
    application::{ApplicationEvent, ApplicationState},
    catalogue::template::Placeholder,
    ids::{ApplicationId, CouponSetId},
    reason::{CodeList, DEFICIENCY, INTERVENTION, REJECTION, TEXT_CHARS_MAX},
    role::Permission,
    text,
};
use todoke_store::{application::Application, message::Message};

use super::{letter::PaperStep, view::ApplicationView};
use crate::{Actor, FieldError, Work, Workflow, WorkflowError, audit::Access, work::Subject};

/// What is missing or wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deficiency {
    /// Codes.
    pub items: Vec<String>,
    /// Words, needed for `other`.
    #[serde(default)]
    pub text: Option<String>,
}

/// A decision on an application under review.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Into this coupon set; `None` takes the newest that is in force.
    Approve(Option<CouponSetId>),
    /// With a reason.
    Reject {
        /// Code.
        reason_code: String,
        /// Words, needed for `other`.
        text: Option<String>,
    },
}

fn reason(list: CodeList, field: &str, code: &str, text: Option<&str>) -> Result<String, WorkflowError> {
    list.text(code, text).map_err(|error| WorkflowError::Invalid(vec![FieldError::new(field, error.to_string())]))
}

impl Workflow {
    /// Finds a deficiency: the guardian is told what to correct.
    pub async fn find_deficiency(
        &self,
        actor: &Actor,
        id: ApplicationId,
        deficiency: &Deficiency,
        now: Timestamp,
    ) -> Result<ApplicationView, WorkflowError> {
        actor.require(Permission::ReviewApplications)?;
        if deficiency.items.is_empty() {
            return Err(WorkflowError::Invalid(vec![FieldError::new("items", "不備の内容を選んでください。")]));
        }
        let texts = deficiency
            .items
            .iter()
            .map(|code| reason(DEFICIENCY, "items", code, deficiency.text.as_deref().filter(|_| code == "other")))
            .collect::<Result<Vec<_>, _>>()?;
        let text = texts.join("、");
        let checked = deficiency.text.as_deref().map(|words| text::lines(words, TEXT_CHARS_MAX)).transpose();
        checked.map_err(|error| WorkflowError::Invalid(vec![FieldError::new("text", error.to_string())]))?;
        let mut work = self.begin(actor, now).await?;
        let mut application = work.open_application(id).await?;
        application.deficiency = serde_json::to_string(deficiency).ok();
        work.advance(&mut application, ApplicationEvent::FindDeficiency, Some(&text)).await?;
        work.tx.update_application(&application).await?;
        let event = work.event(
            "application.deficiency_found",
            Subject::new("application", id),
            json!({
                "application_id": id, "items": deficiency.items,
                "text_length": deficiency.text.as_ref().map(|t| t.chars().count()),
            }),
        );
        let view = work.tell_step(&event, &application, &[(Placeholder::Reason, text.clone())]).await?;
        work.letter_for_paper(&application, PaperStep::Deficient(&text), Some(event.event_id)).await?;
        work.commit().await?;
        Ok(view)
    }

    /// Declares the documents complete. With a child QR the review begins; without one the child is matched
    /// with the residents first, at once.
    pub async fn complete_documents(
        &self,
        actor: &Actor,
        id: ApplicationId,
        now: Timestamp,
    ) -> Result<ApplicationView, WorkflowError> {
        actor.require(Permission::ReviewApplications)?;
        let mut work = self.begin(actor, now).await?;
        let mut application = work.open_application(id).await?;
        let via_child_qr = application.via_child_qr;
        work.advance(&mut application, ApplicationEvent::DocumentsComplete { via_child_qr }, None).await?;
        let event_type = if via_child_qr { "application.review_started" } else { "application.matching_started" };
        let event = work.event(event_type, Subject::new("application", id), json!({ "application_id": id }));
        work.tx.update_application(&application).await?;
        if !via_child_qr && work.match_one(&mut application).await?.is_some() {
            work.tell_matching_failed(1).await?;
        }
        let view = work.show_step(&event.event_type, &application).await?;
        work.commit().await?;
        Ok(view)
    }

    /// Approves or rejects. An approval distributes the first lot in the same transaction.
    pub async fn decide_application(
        &self,
        actor: &Actor,
        id: ApplicationId,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Result<ApplicationView, WorkflowError> {
        actor.require(Permission::ReviewApplications)?;
        let mut work = self.begin(actor, now).await?;
        let mut application = work.open_application(id).await?;
        application.decided_at = Some(now);
        let view = match verdict {
            Verdict::Approve(set) => work.approve(&mut application, *set).await?,
            Verdict::Reject { reason_code, text } => {
                work.reject(&mut application, reason_code, text.as_deref()).await?
            }
        };
        work.commit().await?;
        Ok(view)
    }

    /// Takes a decision back on the city's request: an approval's coupon goes to 0 and is blocked, a
    /// rejection goes back to review.
    pub async fn revoke_decision(
        &self,
        actor: &Actor,
        id: ApplicationId,
        requested_by: &str,
        reason_code: &str,
        text: Option<&str>,
        now: Timestamp,
    ) -> Result<ApplicationView, WorkflowError> {
        actor.require(Permission::ReviewApplications)?;
        let mut work = self.begin(actor, now).await?;
        let view = work.revoke_decision(id, requested_by, reason_code, text).await?;
        work.commit().await?;
        Ok(view)
    }
}

impl Work<'_> {
    /// Tells a household once more what its application lacks, as the message `first` did. Nothing when it has been
    /// corrected since, or another deficiency was found and told of.
    pub(crate) async fn tell_deficiency_again(&mut self, first: &Message) -> Result<(), WorkflowError> {
        let Ok(id) = first.subject_id.parse::<ApplicationId>() else { return Ok(()) };
        let Some(application) = self.tx.application(id).await? else { return Ok(()) };
        let Some(found) = self.tx.application_steps(id).await?.pop() else { return Ok(()) };
        if found.state != ApplicationState::Deficient.as_str() || found.at != first.created_at {
            return Ok(());
        }
        let Some(child) = self.tx.child(application.child_id).await? else { return Ok(()) };
        let reason = found.note.unwrap_or_default();
        let mut about = self.application_about(&application, &child).await?;
        about.values.set(Placeholder::Reason, reason.clone());
        about.once_per = Some(format!("again:{}", first.message_id));
        let mut cause = self.uncaused(Subject::new("application", id));
        cause.event_id = first.cause_event_id;
        cause.event_type = "application.deficiency_found".to_owned();
        self.raise(&cause, &about).await?;
        self.letter_for_paper(&application, PaperStep::Deficient(&reason), Some(cause.event_id)).await
    }

    /// Takes a decision back; see [`Workflow::revoke_decision`].
    pub(crate) async fn revoke_decision(
        &mut self,
        id: ApplicationId,
        requested_by: &str,
        reason_code: &str,
        text: Option<&str>,
    ) -> Result<ApplicationView, WorkflowError> {
        let reason = reason(INTERVENTION, "reason_code", reason_code, text)?;
        let mut application = self.open_application(id).await?;
        let previous = application.state()?;
        let step = if previous == ApplicationState::Rejected {
            ApplicationEvent::RevokeRejection
        } else {
            ApplicationEvent::RevokeApproval
        };
        self.advance(&mut application, step, Some(&reason)).await?;
        let requested_by: String = requested_by.chars().filter(|c| !c.is_control()).take(100).collect();
        let event = self.event(
            "application.decision_revoked",
            Subject::new("application", id),
            json!({
                "application_id": id,
                "previous": previous.as_str(),
                "requested_by": if requested_by.trim().is_empty() { "city" } else { "named" },
            }),
        );
        self.audit(Access::Revoke, Subject::new("application", id), 1);
        application.reason = Some(reason.clone());
        self.tx.update_application(&application).await?;
        if previous == ApplicationState::Approved {
            if let Some(coupon) = self.tx.coupon_of_application(id).await? {
                self.revoke_coupon(coupon.coupon_id, &reason).await?;
            }
        }
        let values = [(Placeholder::Balance, Yen::ZERO.to_string()), (Placeholder::Reason, reason)];
        self.tell_step(&event, &application, &values).await
    }

    async fn approve(
        &mut self,
        application: &mut Application,
        set: Option<CouponSetId>,
    ) -> Result<ApplicationView, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let today = self.now.jst_date();
        let sets = self.tx.coupon_sets(&code).await?;
        let in_force = sets.into_iter().find(|candidate| match set {
            Some(wanted) => candidate.coupon_set_id == wanted,
            None => candidate.valid_from <= today,
        });
        let missing =
            || WorkflowError::Invalid(vec![FieldError::new("coupon_set_id", "配付するクーポンを選んでください。")]);
        let set = in_force.ok_or_else(missing)?;
        self.advance(application, ApplicationEvent::Approve, None).await?;
        application.coupon_set_id = Some(set.coupon_set_id);
        application.reason = None;
        self.tx.update_application(application).await?;
        let id = application.application_id;
        let event = self.event(
            "application.decided",
            Subject::new("application", id),
            json!({
                "application_id": id, "application_kind": "coupon", "decision": "approved",
            }),
        );
        let view = self.tell_step(&event, application, &[]).await?;
        self.first_distribution(application, &set).await?;
        Ok(view)
    }

    async fn reject(
        &mut self,
        application: &mut Application,
        reason_code: &str,
        text: Option<&str>,
    ) -> Result<ApplicationView, WorkflowError> {
        let reason = reason(REJECTION, "reason_code", reason_code, text)?;
        self.advance(application, ApplicationEvent::Reject, Some(&reason)).await?;
        application.reason = Some(reason.clone());
        self.tx.update_application(application).await?;
        let id = application.application_id;
        let event = self.event(
            "application.decided",
            Subject::new("application", id),
            json!({
                "application_id": id, "application_kind": "coupon", "decision": "rejected", "reason_code": reason_code,
                "text_length": text.map(|t| t.chars().count()),
            }),
        );
        let view = self.tell_step(&event, application, &[(Placeholder::Reason, reason.clone())]).await?;
        self.letter_for_paper(application, PaperStep::Rejected(&reason), Some(event.event_id)).await?;
        Ok(view)
    }
}
