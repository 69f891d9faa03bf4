//! Invitations as people see them.

use serde::Serialize;
use todoke_domain::{
    ids::{ChildId, SolicitationId},
    qr::QrToken,
    role::Permission,
    solicitation::SolicitationState,
};
use todoke_store::solicitation::SolicitationLine;

use crate::{Actor, Workflow, WorkflowError, account::qr_view};

/// A line of the operator's list.
#[derive(Debug, Clone, Serialize)]
pub struct SolicitationView {
    /// Id.
    pub solicitation_id: SolicitationId,
    /// Number in the register.
    pub resident_no: String,
    /// Number of the registered child, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_no: Option<String>,
    /// Name of the child.
    pub child_name: String,
    /// Household in the register.
    pub household: String,
    /// Code of the state.
    pub state: String,
    /// The state's name.
    pub state_label: &'static str,
    /// `launch`, `newborn` or `moved_in`.
    pub reason: String,
    /// Notices sent, the first included.
    pub n_sent: i64,
    /// Day of the last notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sent_on: Option<String>,
    /// `app` or `paper`, of the last notice.
    pub channel: &'static str,
}

impl From<SolicitationLine> for SolicitationView {
    fn from(line: SolicitationLine) -> Self {
        let label = SolicitationState::parse(&line.state).map_or("", SolicitationState::label);
        Self {
            solicitation_id: line.solicitation_id,
            resident_no: line.resident_no,
            child_no: line.child_no,
            child_name: line.child_name,
            household: line.household_no,
            state: line.state,
            state_label: label,
            reason: line.reason,
            n_sent: if line.last_sent_on.is_some() { line.repeats + 1 } else { 0 },
            last_sent_on: line.last_sent_on.map(|day| day.to_string()),
            channel: if line.channel.as_deref() == Some("inbox") { "app" } else { "paper" },
        }
    }
}

/// An open invitation as the invited household sees it, with the child's code.
#[derive(Debug, Clone, Serialize)]
pub struct OwnSolicitation {
    /// Id.
    pub solicitation_id: SolicitationId,
    /// Name of the child in the register.
    pub child_name: String,
    /// The registered child; `None` when it has still to be registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_id: Option<ChildId>,
    /// Text of the code.
    pub token: String,
    /// In groups of four.
    pub display: String,
    /// The image, an SVG document.
    pub svg: String,
}

impl Workflow {
    /// Invitations of the municipality in one state, or in any when it is empty, newest first, before `before`.
    pub async fn solicitations(
        &self,
        actor: &Actor,
        state: &str,
        before: Option<SolicitationId>,
        n_max: i64,
    ) -> Result<Vec<SolicitationView>, WorkflowError> {
        actor.require(Permission::ImportData)?;
        let mut tx = self.read(actor).await?;
        let lines = tx.solicitation_lines(&actor.municipality_code, state, before, n_max).await?;
        Ok(lines.into_iter().map(SolicitationView::from).collect())
    }

    /// Open invitations of the caller's household, with the codes that make documents unnecessary.
    pub async fn own_solicitations(&self, actor: &Actor) -> Result<Vec<OwnSolicitation>, WorkflowError> {
        let (_, guardian) = actor.household()?;
        let code = &actor.municipality_code;
        let mut tx = self.read(actor).await?;
        let mut own = Vec::new();
        for row in tx.solicitations_of_guardian(guardian).await? {
            let Some(resident) = tx.resident(code, &row.resident_no).await? else { continue };
            let child = tx.child_of_resident(code, &row.resident_no).await?;
            // Somebody else may have registered the child since: then the code is theirs to show.
            if child.as_ref().is_some_and(|child| child.guardian_id != guardian) {
                continue;
            }
            let qr = match &child {
                Some(child) => tx.qr_of_child(child.child_id).await?,
                None => tx.qr_of_resident(code, &row.resident_no).await?,
            };
            let Some(token) = qr.and_then(|qr| QrToken::parse(&qr.token).ok()) else { continue };
            let view = qr_view(token)?;
            own.push(OwnSolicitation {
                solicitation_id: row.solicitation_id,
                child_name: resident.name,
                child_id: child.map(|child| child.child_id),
                token: view.token,
                display: view.display,
                svg: view.svg,
            });
        }
        Ok(own)
    }
}
