//! The ends of an invitation.

use serde_json::json;
use todoke_domain::solicitation::SolicitationState;
use todoke_store::{child::Child, solicitation::Solicitation};

use crate::{Work, WorkflowError, secret, work::Subject};

impl Work<'_> {
    /// An application for the child has come: no more repeats. Does nothing where nobody was invited, so it
    /// may be called again when a child is matched later.
    pub(crate) async fn close_solicitation_applied(&mut self, child: &Child) -> Result<(), WorkflowError> {
        let Some(resident_no) = &child.resident_no else { return Ok(()) };
        let code = self.actor.municipality_code.clone();
        if let Some(mut row) = self.tx.solicitation_of_resident(&code, resident_no).await?
            && row.state()? == SolicitationState::Solicited
        {
            row.child_id = Some(child.child_id);
            self.close_solicitation(row, SolicitationState::Applied).await?;
        }
        Ok(())
    }

    /// The resident has moved out, died or left the register.
    pub(crate) async fn close_solicitation_out_of_target(&mut self, resident_no: &str) -> Result<(), WorkflowError> {
        let code = self.actor.municipality_code.clone();
        if let Some(row) = self.tx.solicitation_of_resident(&code, resident_no).await?
            && !matches!(row.state()?, SolicitationState::Applied | SolicitationState::OutOfTarget)
        {
            self.close_solicitation(row, SolicitationState::OutOfTarget).await?;
        }
        Ok(())
    }

    /// Ends an invitation; `false` when it has changed meanwhile.
    pub(super) async fn close_solicitation(
        &mut self,
        mut row: Solicitation,
        end: SolicitationState,
    ) -> Result<bool, WorkflowError> {
        let from = row.state()?;
        row.state = end.as_str().to_owned();
        if !self.tx.update_solicitation(&row, from).await? {
            return Ok(false);
        }
        self.event(
            "solicitation.closed",
            Subject::new("solicitation", row.solicitation_id),
            json!({
                "child_key": row.person_key, "outcome": end.as_str(),
            }),
        );
        Ok(true)
    }

    /// The pseudonym for a child that is registered as this resident: the one its invitation already uses,
    /// so that invitation and application are one child in the lake; a fresh one where it was never invited.
    /// A child that was registered before it was matched has its own key in use and keeps it.
    pub(crate) async fn key_of_resident(&mut self, resident_no: &str) -> Result<i64, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let row = self.tx.solicitation_of_resident(&code, resident_no).await?;
        Ok(row.map_or_else(secret::person_key, |row| row.person_key))
    }
}
