//! What an authority above municipalities may look at (N-SEC-10): figures, never rows.

use todoke_domain::{MunicipalityCode, Timestamp, role::Permission};
use todoke_store::{Wall, municipality::Municipality};

use crate::{Actor, Workflow, WorkflowError, audit::Access};

impl Workflow {
    /// The municipalities whose figures the caller may see, by code: those below the authority of the account.
    pub async fn overseen(&self, actor: &Actor) -> Result<Vec<Municipality>, WorkflowError> {
        actor.require(Permission::ReadAggregates)?;
        // The authority's own wall holds its accounts only; names and codes of municipalities are public.
        let mut municipalities = self.store().begin_read(Wall::None).await?.municipalities().await?;
        municipalities.retain(|municipality| actor.municipality_code.oversees(&municipality.municipality_code));
        Ok(municipalities)
    }

    /// Notes in the municipality's own audit that its authority has seen `rows` lines of figures; durable before
    /// they are handed out. Errors: [`WorkflowError::Denied`] for who does not oversee it.
    pub async fn note_oversight(
        &self,
        actor: &Actor,
        municipality: &MunicipalityCode,
        rows: usize,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        actor.require(Permission::ReadAggregates)?;
        if !actor.municipality_code.oversees(municipality) {
            return Err(WorkflowError::Denied);
        }
        // A person's key is never shared across municipalities (events.md §2): the role alone says who it was.
        let seen = Actor { municipality_code: municipality.clone(), person_key: None, ..actor.clone() };
        self.note_access(&seen, Access::View, "aggregate", rows, now).await
    }
}
