//! What the city asks the operator to do (flows F06 and F07; screen CT07): asked once, seen live by both
//! sides, and carried out in the same transaction that settles it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use todoke_domain::{
    Timestamp,
    application::ApplicationState,
    channel::Channel,
    city_request::{RequestEvent, RequestKind, RequestState},
    ids::{ApplicationId, CityRequestId, GuardianId},
    reason::INTERVENTION,
    role::Permission,
    text,
};
use todoke_store::{StoreError, city_request::CityRequest};

use crate::{
    Actor, FieldError, Work, Workflow, WorkflowError, audit::Access, error::Fields, messaging::About, work::Subject,
};

/// Longest list.
const LISTED_MAX: i64 = 500;

/// A request as the city enters it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RequestDraft {
    /// Code of [`RequestKind`].
    pub kind: String,
    /// The application whose decision is to be taken back.
    pub application_id: Option<String>,
    /// The household to suspend or resume.
    pub guardian_id: Option<String>,
    /// Code of the reason.
    pub reason_code: String,
    /// Words, needed for `other`.
    pub reason_text: Option<String>,
}

/// A request as both sides see it.
#[derive(Debug, Clone, Serialize)]
pub struct RequestView {
    /// Id.
    pub request_id: CityRequestId,
    /// What is asked for.
    pub kind: String,
    /// In words.
    pub kind_label: &'static str,
    /// Application, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_id: Option<String>,
    /// Household, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardian_id: Option<String>,
    /// Number of the application or household.
    pub subject_no: String,
    /// The reason in words.
    pub reason: String,
    /// `open`, `executed`, `declined` or `withdrawn`.
    pub state: String,
    /// In words.
    pub state_label: &'static str,
    /// Who asked.
    pub requested_by: String,
    /// When.
    pub requested_at: Timestamp,
    /// When it was settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
    /// What the operator said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl RequestView {
    fn of(row: CityRequest) -> Result<Self, WorkflowError> {
        let (kind, state) = (row.kind()?, row.state()?);
        let (application_id, guardian_id) = match kind {
            RequestKind::RevokeDecision => (Some(row.subject_id), None),
            RequestKind::Suspend | RequestKind::Resume => (None, Some(row.subject_id)),
        };
        let reason = INTERVENTION.text(&row.reason_code, row.reason_text.as_deref());
        Ok(Self {
            request_id: row.request_id,
            kind: row.kind,
            kind_label: kind.label(),
            application_id,
            guardian_id,
            subject_no: row.subject_no,
            reason: reason.unwrap_or(row.reason_code),
            state: row.state,
            state_label: state.label(),
            requested_by: row.requested_by_name,
            requested_at: row.requested_at,
            settled_at: row.settled_at,
            note: row.note,
        })
    }
}

fn invalid(field: &str, detail: &str) -> WorkflowError {
    WorkflowError::Invalid(vec![FieldError::new(field, detail)])
}

impl Workflow {
    /// The municipality's requests, open ones first. The city and the operator see the same list.
    pub async fn city_requests(&self, actor: &Actor) -> Result<Vec<RequestView>, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let mut tx = self.read(actor).await?;
        let rows = tx.city_requests(&actor.municipality_code, LISTED_MAX).await?;
        rows.into_iter().map(RequestView::of).collect()
    }

    /// Asks the operator; its queue shows it at once.
    ///
    /// Errors: [`WorkflowError::Conflict`] when the same is asked for already or there is nothing to do.
    pub async fn ask_operator(
        &self,
        actor: &Actor,
        draft: &RequestDraft,
        now: Timestamp,
    ) -> Result<RequestView, WorkflowError> {
        actor.require(Permission::RequestOfOperator)?;
        let mut fields = Fields::default();
        let kind = fields.take("kind", RequestKind::parse(&draft.kind).ok_or("依頼の種類を選んでください。"));
        fields.take("reason_code", INTERVENTION.text(&draft.reason_code, draft.reason_text.as_deref()));
        fields.finish()?;
        let kind = kind.ok_or(WorkflowError::Internal("an unchecked request"))?;
        let mut work = self.begin(actor, now).await?;
        let (subject_id, subject_no) = work.subject_of(kind, draft).await?;
        let account = work.tx.account(actor.account()?).await?.ok_or(WorkflowError::NotFound("account"))?;
        let row = CityRequest {
            request_id: CityRequestId::new(now),
            municipality_code: actor.municipality_code.clone(),
            kind: kind.as_str().to_owned(),
            subject_id,
            subject_no,
            reason_code: draft.reason_code.clone(),
            reason_text: draft.reason_text.clone(),
            state: RequestState::Open.as_str().to_owned(),
            requested_by: account.account_id,
            requested_by_name: account.name,
            requested_at: now,
            settled_at: None,
            note: None,
        };
        work.tx.insert_city_request(&row).await.map_err(|error| match error {
            StoreError::Conflict { .. } => WorkflowError::Conflict("同じ依頼がすでに出ています。".to_owned()),
            other => other.into(),
        })?;
        work.audit(Access::Request, Subject::new("city_request", row.request_id), 1);
        let view = work.show_request("city_request.opened", row)?;
        work.commit().await?;
        Ok(view)
    }

    /// Does what is asked for and settles the request, both or neither.
    pub async fn execute_request(
        &self,
        actor: &Actor,
        id: CityRequestId,
        now: Timestamp,
    ) -> Result<RequestView, WorkflowError> {
        actor.require(Permission::ReviewApplications)?;
        let mut work = self.begin(actor, now).await?;
        let row = work.settled(id, RequestEvent::Execute, None).await?;
        let (reason, text) = (row.reason_code.clone(), row.reason_text.clone());
        let corrupt = |_| StoreError::Corrupt { what: "subject of a request" };
        match row.kind()? {
            RequestKind::RevokeDecision => {
                let application: ApplicationId = row.subject_id.parse().map_err(corrupt)?;
                work.revoke_decision(application, &row.requested_by_name, &reason, text.as_deref()).await?;
            }
            kind @ (RequestKind::Suspend | RequestKind::Resume) => {
                let guardian: GuardianId = row.subject_id.parse().map_err(corrupt)?;
                work.set_suspended(guardian, kind == RequestKind::Suspend, &reason, text.as_deref()).await?;
            }
        }
        let view = work.show_request("city_request.executed", row)?;
        work.commit().await?;
        Ok(view)
    }

    /// Gives a request back to the city with a reason.
    pub async fn decline_request(
        &self,
        actor: &Actor,
        id: CityRequestId,
        note: &str,
        now: Timestamp,
    ) -> Result<RequestView, WorkflowError> {
        actor.require(Permission::ReviewApplications)?;
        let note = text::line(note, 200).map_err(|error| invalid("note", &error.to_string()))?;
        let mut work = self.begin(actor, now).await?;
        let row = work.settled(id, RequestEvent::Decline, Some(note)).await?;
        let view = work.show_request("city_request.declined", row)?;
        work.commit().await?;
        Ok(view)
    }

    /// Takes an open request back.
    pub async fn withdraw_request(
        &self,
        actor: &Actor,
        id: CityRequestId,
        now: Timestamp,
    ) -> Result<RequestView, WorkflowError> {
        actor.require(Permission::RequestOfOperator)?;
        let mut work = self.begin(actor, now).await?;
        let row = work.settled(id, RequestEvent::Withdraw, None).await?;
        let view = work.show_request("city_request.withdrawn", row)?;
        work.commit().await?;
        Ok(view)
    }
}

impl Work<'_> {
    /// Id and number of what a request is about, if it can be carried out at all.
    async fn subject_of(&mut self, kind: RequestKind, draft: &RequestDraft) -> Result<(String, String), WorkflowError> {
        match kind {
            RequestKind::RevokeDecision => {
                let raw = draft.application_id.as_deref().unwrap_or_default();
                let id: ApplicationId = raw.parse().map_err(|_| invalid("application_id", "申請を選んでください。"))?;
                let row = self.tx.application(id).await?.ok_or(WorkflowError::NotFound("application"))?;
                let decided = matches!(row.state()?, ApplicationState::Approved | ApplicationState::Rejected);
                if !decided {
                    return Err(WorkflowError::Conflict("承認または不承認の申請ではありません。".to_owned()));
                }
                Ok((id.to_string(), row.application_no))
            }
            RequestKind::Suspend | RequestKind::Resume => {
                let raw = draft.guardian_id.as_deref().unwrap_or_default();
                let id: GuardianId = raw.parse().map_err(|_| invalid("guardian_id", "利用者を選んでください。"))?;
                let row = self.tx.guardian(id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
                if row.suspended == (kind == RequestKind::Suspend) {
                    let text = if row.suspended {
                        "すでに利用停止中です。"
                    } else {
                        "利用停止中ではありません。"
                    };
                    return Err(WorkflowError::Conflict(text.to_owned()));
                }
                Ok((id.to_string(), row.guardian_no))
            }
        }
    }

    /// Locks an open request and settles it.
    async fn settled(
        &mut self,
        id: CityRequestId,
        event: RequestEvent,
        note: Option<String>,
    ) -> Result<CityRequest, WorkflowError> {
        let mut row = self.tx.lock_city_request(id).await?.ok_or(WorkflowError::NotFound("city request"))?;
        let state = row.state()?;
        let next =
            state.on(event).ok_or_else(|| WorkflowError::Conflict(format!("この依頼は「{}」です。", state.label())))?;
        row.state = next.as_str().to_owned();
        row.settled_at = Some(self.now);
        row.note = note;
        self.tx.settle_city_request(&row).await?;
        Ok(row)
    }

    /// Shows a request on the operator's queue and, without whom it is about, on the city's board.
    fn show_request(&mut self, kind: &str, row: CityRequest) -> Result<RequestView, WorkflowError> {
        let view = RequestView::of(row)?;
        let about = About {
            subject_kind: "city_request",
            subject_id: view.request_id.to_string(),
            subject_no: Some(view.subject_no.clone()),
            state: view.state.clone(),
            ..About::default()
        };
        let item = serde_json::to_value(&view).map_err(|_| WorkflowError::Internal("a view could not be written"))?;
        let data: Map<String, Value> = [("request".to_owned(), item)].into_iter().collect();
        let code = self.actor.municipality_code.clone();
        self.publish_about(Channel::OperatorQueue(code.clone()), kind, &about, data);
        self.publish_about(Channel::CityBoard(code), kind, &about, Map::new());
        Ok(view)
    }
}
