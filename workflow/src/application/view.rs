//! Applications as clients see them.

use serde::Serialize;
use todoke_domain::{
    Timestamp,
    application::ApplicationState,
    ids::{ApplicationId, ChildId, CouponSetId, DocumentId, GuardianId},
    role::Permission,
};
use todoke_store::{Tx, application::Application};

use super::Deficiency;
use crate::{Actor, Work, Workflow, WorkflowError};

/// A document of an application.
#[derive(Debug, Clone, Serialize)]
pub struct DocumentView {
    /// Id.
    pub document_id: DocumentId,
    /// Kind.
    pub kind: String,
    /// Media type.
    pub content_type: String,
}

/// A resident the child may be.
#[derive(Debug, Clone, Serialize)]
pub struct CandidateView {
    /// Resident number.
    pub resident_no: String,
    /// Name.
    pub name: String,
    /// Kana.
    pub name_kana: String,
    /// Birth date.
    pub birth_date: String,
    /// Sex.
    pub sex: String,
}

/// Why matching failed.
#[derive(Debug, Clone, Serialize)]
pub struct MatchingView {
    /// Code of the error CSV.
    pub error_code: String,
    /// Residents to look at; offices only.
    pub candidates: Vec<CandidateView>,
}

/// A step of the history.
#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    /// State it came into.
    pub state: String,
    /// Its label.
    pub state_label: &'static str,
    /// When.
    pub at: Timestamp,
    /// By which role.
    pub by_role: String,
    /// What was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An application.
#[derive(Debug, Clone, Serialize)]
pub struct ApplicationView {
    /// Id.
    pub application_id: ApplicationId,
    /// 受付番号.
    pub application_no: String,
    /// `coupon`.
    pub application_kind: &'static str,
    /// State.
    pub state: String,
    /// Its label.
    pub state_label: &'static str,
    /// Child.
    pub child_id: ChildId,
    /// Its name.
    pub child_name: String,
    /// Its number.
    pub child_no: String,
    /// Its birth date.
    pub child_birth_date: String,
    /// Household.
    pub guardian_id: GuardianId,
    /// Its head.
    pub guardian_name: String,
    /// Relation of the applicant.
    pub relation: String,
    /// `online` or `paper_proxy`.
    pub entry: String,
    /// Came with a child QR.
    pub via_child_qr: bool,
    /// When it came.
    pub submitted_at: Timestamp,
    /// When it was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
    /// Set it was approved into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coupon_set_id: Option<CouponSetId>,
    /// Open deficiency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deficiency: Option<Deficiency>,
    /// Reason of the last decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Documents.
    pub documents: Vec<DocumentView>,
    /// Matching failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<MatchingView>,
    /// The applicant occurs in the child's household relation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardian_confirmed: Option<bool>,
    /// Oldest first.
    pub history: Vec<StepView>,
}

/// A page of applications.
#[derive(Debug, Serialize)]
pub struct ApplicationList {
    /// The page.
    pub items: Vec<ApplicationView>,
    /// Number per state; offices only.
    pub counts: Vec<(String, i64)>,
}

impl Workflow {
    /// The household's applications, or a page of the municipality's: one state oldest first, or all newest first.
    pub async fn applications(
        &self,
        actor: &Actor,
        state: Option<ApplicationState>,
        cursor: Option<ApplicationId>,
        n_max: i64,
    ) -> Result<ApplicationList, WorkflowError> {
        let mut tx = self.read(actor).await?;
        let (rows, counts) = if let Ok((_, guardian)) = actor.household() {
            let mut rows = tx.applications_of_guardian(guardian).await?;
            if let Some(state) = state {
                rows.retain(|row| row.state == state.as_str());
            }
            (rows, Vec::new())
        } else {
            actor.require(Permission::ReadRegister)?;
            let code = &actor.municipality_code;
            let rows = match state {
                Some(state) => tx.applications_in_state(code, state, cursor, n_max).await?,
                None => tx.applications(code, cursor, n_max).await?,
            };
            (rows, tx.application_counts(code).await?)
        };
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.push(view(&mut tx, row, actor).await?);
        }
        Ok(ApplicationList { items, counts })
    }

    /// One application.
    pub async fn application(&self, actor: &Actor, id: ApplicationId) -> Result<ApplicationView, WorkflowError> {
        let mut tx = self.read(actor).await?;
        let row = tx.application(id).await?.ok_or(WorkflowError::NotFound("application"))?;
        match actor.household() {
            Ok((_, guardian)) if guardian == row.guardian_id => {}
            Ok(_) => return Err(WorkflowError::NotFound("application")),
            Err(_) => actor.require(Permission::ReadRegister)?,
        }
        view(&mut tx, &row, actor).await
    }
}

impl Work<'_> {
    pub(super) async fn application_view(&mut self, row: &Application) -> Result<ApplicationView, WorkflowError> {
        view(&mut self.tx, row, self.actor).await
    }
}

async fn view(tx: &mut Tx, row: &Application, actor: &Actor) -> Result<ApplicationView, WorkflowError> {
    let child = tx.child(row.child_id).await?.ok_or(WorkflowError::NotFound("child"))?;
    let guardian = tx.guardian(row.guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
    let documents = tx.documents_of(row.application_id).await?.into_iter().map(|document| DocumentView {
        document_id: document.document_id,
        kind: document.kind,
        content_type: document.content_type,
    });
    let history = tx.application_steps(row.application_id).await?.into_iter().map(|step| StepView {
        state_label: ApplicationState::parse(&step.state).map_or("", ApplicationState::label),
        state: step.state,
        at: step.at,
        by_role: step.by_role,
        note: step.note,
    });
    let matching = match &row.matching_error {
        Some(error) if actor.household().is_err() => Some(matching_view(tx, row, error).await?),
        _ => None,
    };
    Ok(ApplicationView {
        application_id: row.application_id,
        application_no: row.application_no.clone(),
        application_kind: "coupon",
        state: row.state.clone(),
        state_label: row.state()?.label(),
        child_id: row.child_id,
        child_name: child.name,
        child_no: child.child_no,
        child_birth_date: child.birth_date.to_string(),
        guardian_id: row.guardian_id,
        guardian_name: guardian.name,
        relation: row.relation.clone(),
        entry: row.entry.clone(),
        via_child_qr: row.via_child_qr,
        submitted_at: row.submitted_at,
        decided_at: row.decided_at,
        coupon_set_id: row.coupon_set_id,
        deficiency: row.deficiency.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        reason: row.reason.clone(),
        documents: documents.collect(),
        matching,
        guardian_confirmed: row.guardian_confirmed.filter(|_| actor.household().is_err()),
        history: history.collect(),
    })
}

async fn matching_view(tx: &mut Tx, row: &Application, error: &str) -> Result<MatchingView, WorkflowError> {
    let numbers: Vec<String> =
        row.matching_candidates.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut candidates = Vec::with_capacity(numbers.len());
    for number in numbers {
        if let Some(resident) = tx.resident(&row.municipality_code, &number).await? {
            candidates.push(CandidateView {
                resident_no: resident.resident_no,
                name: resident.name,
                name_kana: resident.name_kana,
                birth_date: resident.birth_date.to_string(),
                sex: resident.sex,
            });
        }
    }
    Ok(MatchingView { error_code: error.to_owned(), candidates })
}
