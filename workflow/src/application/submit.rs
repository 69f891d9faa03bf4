//! Submitting, resubmitting and withdrawing an application (flow F04 steps 1 to 3).

use jiff::civil::Date;
use serde_json::{Map, Value, json};
use todoke_domain::{
    Event, Timestamp,
    application::{ApplicationEvent, ApplicationState},
    catalogue::{
        format,
        template::{Placeholder, Placeholders},
    },
    channel::Channel,
    ids::{ApplicationId, ChildId, DocumentId},
    matching::normal_kana,
    number::NumberKind,
    role::Permission,
    text,
};
use todoke_store::{
    account::Account,
    application::{Application, ApplicationStep},
    child::Child,
};

use super::view::ApplicationView;
use crate::{
    Actor, FieldError, Work, Workflow, WorkflowError,
    account::{ChildDraft, ChildInput},
    error::Fields,
    messaging::About,
    work::Subject,
};

/// Most documents of one application.
const DOCUMENTS_MAX: usize = 10;

/// The person on a paper application.
#[derive(Debug, Clone, Default)]
pub struct PaperApplicant {
    /// Name.
    pub name: String,
    /// Name in kana.
    pub name_kana: String,
    /// Birth date, where given.
    pub birth_date: Option<Date>,
    /// Postal code.
    pub postal_code: String,
    /// Address: results go there by letter.
    pub address: String,
    /// Phone.
    pub phone: String,
}

/// An application as entered.
#[derive(Debug, Clone)]
pub enum Submission {
    /// By a guardian, for an own child.
    Online {
        /// Which child.
        child_id: ChildId,
        /// The child's QR, scanned or typed: identifies the child, so that documents may be left out.
        child_qr: Option<String>,
        /// Uploaded before; needed unless the child came by QR.
        documents: Vec<DocumentId>,
        /// Relation to the child.
        relation: String,
    },
    /// Keyed in by the operator from paper.
    Paper {
        /// Who applied.
        applicant: PaperApplicant,
        /// For which child.
        child: ChildInput,
        /// Scans.
        documents: Vec<DocumentId>,
        /// Relation to the child.
        relation: String,
    },
}

impl Workflow {
    /// Submits an application: number, receipt message, and the operator's queue, at once.
    ///
    /// Errors: [`WorkflowError::Invalid`] when documents are missing (they may be left out only when the
    /// child was identified by its QR); [`WorkflowError::Conflict`] when one for the child is open or approved.
    pub async fn submit_application(
        &self,
        actor: &Actor,
        submission: &Submission,
        now: Timestamp,
    ) -> Result<ApplicationView, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let (applicant, child, documents, relation, entry) = match submission {
            Submission::Online { child_id, child_qr, documents, relation } => {
                let (own, _) = actor.household()?;
                let account = work.tx.lock_account(own).await?.ok_or(WorkflowError::NotFound("account"))?;
                let mut child = work.own_child(*child_id).await?;
                if let Some(code) = child_qr.as_deref().filter(|code| !code.trim().is_empty()) {
                    work.identify_child(&mut child, code).await?;
                }
                (account, child, documents, relation, "online")
            }
            Submission::Paper { applicant, child, documents, relation } => {
                actor.require(Permission::ReviewApplications)?;
                let mut fields = Fields::default();
                let draft = ChildDraft::check(child, "child.", now.jst_date(), &mut fields);
                fields.finish()?;
                let account = work.paper_household(applicant).await?;
                let child = work.add_child(&account, draft.ok_or(WorkflowError::Internal("unchecked child"))?).await?;
                (account, child, documents, relation, "paper_proxy")
            }
        };
        let relation = text::line(relation, 50)
            .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("relation", error.to_string())]))?;
        let via_child_qr = child.resident_no.is_some();
        work.check_documents(documents, via_child_qr || entry == "paper_proxy")?;
        work.check_no_other(&child).await?;
        let application = work.insert_application(&applicant, &child, relation, entry, via_child_qr).await?;
        for document in documents {
            work.attach(*document, application.application_id).await?;
        }
        work.tell_submitted(&application, &applicant, &child, documents.len()).await?;
        work.close_solicitation_applied(&child).await?;
        let view = work.application_view(&application).await?;
        work.commit().await?;
        Ok(view)
    }

    /// Corrects a deficient application: further documents, then back into the queue.
    pub async fn resubmit_application(
        &self,
        actor: &Actor,
        id: ApplicationId,
        documents: &[DocumentId],
        now: Timestamp,
    ) -> Result<ApplicationView, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let mut application = work.open_application(id).await?;
        work.may_correct(&application)?;
        work.check_documents(documents, true)?;
        work.advance(&mut application, ApplicationEvent::Resubmit, None).await?;
        application.round += 1;
        application.deficiency = None;
        work.tx.update_application(&application).await?;
        for document in documents {
            work.attach(*document, id).await?;
        }
        work.event(
            "application.resubmitted",
            Subject::new("application", id),
            json!({ "application_id": id, "round": application.round }),
        );
        let view = work.show_step("application.resubmitted", &application).await?;
        work.commit().await?;
        Ok(view)
    }

    /// Withdraws an application that has not been examined yet.
    pub async fn withdraw_application(
        &self,
        actor: &Actor,
        id: ApplicationId,
        now: Timestamp,
    ) -> Result<ApplicationView, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let mut application = work.open_application(id).await?;
        work.may_correct(&application)?;
        work.advance(&mut application, ApplicationEvent::Withdraw, None).await?;
        work.tx.update_application(&application).await?;
        work.event(
            "application.cancelled",
            Subject::new("application", id),
            json!({
                "application_id": id, "application_kind": "coupon", "by": "guardian", "cancel_fee_yen": 0,
            }),
        );
        let view = work.show_step("application.cancelled", &application).await?;
        work.commit().await?;
        Ok(view)
    }
}

impl Work<'_> {
    fn check_documents(&self, documents: &[DocumentId], may_be_empty: bool) -> Result<(), WorkflowError> {
        let refuse = |detail: &str| Err(WorkflowError::Invalid(vec![FieldError::new("document_ids", detail)]));
        if documents.len() > DOCUMENTS_MAX {
            return refuse("書類は10点までにしてください。");
        }
        if documents.is_empty() && !may_be_empty {
            return refuse("本人確認書類を添付するか、児童用二次元コードを使ってください。");
        }
        Ok(())
    }

    async fn attach(&mut self, document: DocumentId, application: ApplicationId) -> Result<(), WorkflowError> {
        let owner = self.actor.account()?;
        if self.tx.attach_document(document, owner, application).await? {
            Ok(())
        } else {
            Err(WorkflowError::Invalid(vec![FieldError::new(
                "document_ids",
                "添付した書類が見つかりません。もう一度添付してください。",
            )]))
        }
    }

    async fn check_no_other(&mut self, child: &Child) -> Result<(), WorkflowError> {
        for other in self.tx.applications_of_child(child.child_id).await? {
            if !other.state()?.is_closed() {
                let text = format!("このお子さまの申請（受付番号 {}）がすでにあります。", other.application_no);
                return Err(WorkflowError::Conflict(text));
            }
        }
        Ok(())
    }

    async fn insert_application(
        &mut self,
        applicant: &Account,
        child: &Child,
        relation: String,
        entry: &str,
        via_child_qr: bool,
    ) -> Result<Application, WorkflowError> {
        let guardian_id = applicant.guardian_id.ok_or(WorkflowError::Denied)?;
        let guardian = self.tx.guardian(guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        let code = self.actor.municipality_code.clone();
        let confirmed = match (&child.resident_no, guardian.birth_date) {
            (Some(resident), Some(birth)) => {
                Some(self.tx.household_has(&code, resident, &normal_kana(&guardian.name_kana), birth).await?)
            }
            _ => None,
        };
        let application = Application {
            application_id: ApplicationId::new(self.now),
            municipality_code: code.clone(),
            application_no: self.tx.next_number(&code, NumberKind::Application, self.now).await?,
            state: ApplicationState::Submitted.as_str().to_owned(),
            child_id: child.child_id,
            guardian_id,
            relation,
            entry: entry.to_owned(),
            via_child_qr,
            contact_channel: guardian.contact_channel,
            coupon_set_id: None,
            submitted_at: self.now,
            decided_at: None,
            deficiency: None,
            reason: None,
            matching_error: None,
            matching_candidates: None,
            guardian_confirmed: confirmed,
            round: 0,
            version: 1,
        };
        self.tx.insert_application(&application).await?;
        self.note_step(&application, None).await?;
        Ok(application)
    }

    async fn tell_submitted(
        &mut self,
        application: &Application,
        applicant: &Account,
        child: &Child,
        n_documents: usize,
    ) -> Result<(), WorkflowError> {
        let id = application.application_id;
        self.event(
            "application.submitted",
            Subject::new("application", id),
            json!({
                "application_id": id,
                "application_kind": "coupon",
                "child_key": child.person_key,
                "guardian_key": applicant.person_key,
                "entry": application.entry,
                "via_child_qr": application.via_child_qr,
                "contact_channel": application.contact_channel,
                "attachments": n_documents,
            }),
        );
        let received = self.event(
            "application.received",
            Subject::new("application", id),
            json!({
                "application_id": id, "application_kind": "coupon", "application_no": application.application_no,
            }),
        );
        let mut about = self.application_about(application, child).await?;
        about.facts.push(("entry", json!(application.entry)));
        self.raise(&received, &about).await?;
        self.show_operator("application.submitted", application).await?;
        Ok(())
    }

    /// Locks an application; households see only their own.
    pub(super) async fn open_application(&mut self, id: ApplicationId) -> Result<Application, WorkflowError> {
        let application = self.tx.lock_application(id).await?.ok_or(WorkflowError::NotFound("application"))?;
        let foreign = self.actor.role.is_some_and(todoke_domain::Role::is_household)
            && self.actor.guardian_id != Some(application.guardian_id);
        if foreign { Err(WorkflowError::NotFound("application")) } else { Ok(application) }
    }

    /// The household corrects its own online application, the operator one from paper.
    fn may_correct(&self, application: &Application) -> Result<(), WorkflowError> {
        let household = self.actor.role.is_some_and(todoke_domain::Role::is_household);
        if household {
            return Ok(());
        }
        self.actor.require(Permission::ReviewApplications)?;
        if application.entry == "paper_proxy" { Ok(()) } else { Err(WorkflowError::Denied) }
    }

    /// Moves the state machine and notes the step; the caller writes the row.
    pub(super) async fn advance(
        &mut self,
        application: &mut Application,
        event: ApplicationEvent,
        note: Option<&str>,
    ) -> Result<(), WorkflowError> {
        let next = application.state()?.on(event).map_err(|refused| {
            WorkflowError::Conflict(format!("申請の状態が「{}」のため、この操作はできません。", refused.state.label()))
        })?;
        application.state = next.as_str().to_owned();
        self.note_step(application, note).await
    }

    async fn note_step(&mut self, application: &Application, note: Option<&str>) -> Result<(), WorkflowError> {
        let step = ApplicationStep {
            state: application.state.clone(),
            at: self.now,
            by_role: self.actor.role_code().to_owned(),
            note: note.map(str::to_owned),
        };
        Ok(self.tx.add_application_step(application.application_id, &step).await?)
    }

    /// Values and data of the messages about an application.
    pub(super) async fn application_about(
        &mut self,
        application: &Application,
        child: &Child,
    ) -> Result<About, WorkflowError> {
        let contact = self.contact().await?;
        Ok(About {
            subject_kind: "application",
            subject_id: application.application_id.to_string(),
            subject_no: Some(application.application_no.clone()),
            state: application.state.clone(),
            child: Some(child.child_id),
            guardian: Some(application.guardian_id),
            values: Placeholders::new()
                .with(Placeholder::Child, child.name.clone())
                .with(Placeholder::No, application.application_no.clone())
                .with(Placeholder::Date, format::day(self.now.jst_date()))
                .with(Placeholder::Contact, contact),
            facts: vec![("application_kind", json!("coupon"))],
            link: format!("/applications/{}", application.application_id),
            office_link: format!("/staff/operator/applications/{}", application.application_id),
            data: summary(application)?,
            ..About::default()
        })
    }

    /// Shows a step that makes no message: on the screens of the household and on the operator's queue.
    pub(super) async fn show_step(
        &mut self,
        event_type: &str,
        application: &Application,
    ) -> Result<ApplicationView, WorkflowError> {
        let about = step_about(application);
        for account in self.tx.household_accounts(application.guardian_id).await? {
            self.publish_about(Channel::Guardian(account.account_id), event_type, &about, summary(application)?);
        }
        self.show_operator(event_type, application).await
    }

    /// Shows an application's new state on the operator's queue and gives it as a view.
    async fn show_operator(
        &mut self,
        event_type: &str,
        application: &Application,
    ) -> Result<ApplicationView, WorkflowError> {
        let view = self.application_view(application).await?;
        let about = step_about(application);
        let item = serde_json::to_value(&view).map_err(|_| WorkflowError::Internal("a view could not be written"))?;
        let data = [("application".to_owned(), item)].into_iter().collect();
        let code = self.actor.municipality_code.clone();
        self.publish_about(Channel::OperatorQueue(code.clone()), event_type, &about, data);
        // The city's board shows that the counts moved; who it is about stays with the operator.
        self.publish_about(Channel::CityBoard(code), event_type, &about, Map::new());
        Ok(view)
    }

    /// Tells the household and the queue about a step of an application.
    pub(super) async fn tell_step(
        &mut self,
        event: &Event,
        application: &Application,
        values: &[(Placeholder, String)],
    ) -> Result<ApplicationView, WorkflowError> {
        let child = self.tx.child(application.child_id).await?.ok_or(WorkflowError::NotFound("child"))?;
        let mut about = self.application_about(application, &child).await?;
        for (placeholder, value) in values {
            about.values.set(*placeholder, value.clone());
        }
        about.on_paper.push(format!("受付番号 {}", application.application_no));
        let reason = about.values.get(Placeholder::Reason).map(|reason| format!("理由：{reason}"));
        about.on_paper.extend(reason);
        self.raise(event, &about).await?;
        self.show_operator(&event.event_type, application).await
    }
}

/// What a publication of a step says beside its data.
fn step_about(application: &Application) -> About {
    About {
        subject_kind: "application",
        subject_id: application.application_id.to_string(),
        subject_no: Some(application.application_no.clone()),
        state: application.state.clone(),
        ..About::default()
    }
}

/// `data.application` of a publication: enough to show the new state.
fn summary(application: &Application) -> Result<Map<String, Value>, WorkflowError> {
    let summary = json!({
        "application_id": application.application_id,
        "application_no": application.application_no,
        "state": application.state,
        "state_label": application.state()?.label(),
    });
    Ok([("application".to_owned(), summary)].into_iter().collect())
}
