//! Looking up households.

use todoke_domain::role::Permission;
use todoke_store::{account::Account, child::Child, guardian::Guardian};

use crate::{Actor, Workflow, WorkflowError};

/// A household with everybody in it.
#[derive(Debug, Clone)]
pub struct Household {
    /// Head.
    pub guardian: Guardian,
    /// Guardian and proxy.
    pub accounts: Vec<Account>,
    /// Children.
    pub children: Vec<Child>,
}

impl Workflow {
    /// Households by part of number, name or kana. Without words nothing is listed.
    pub async fn find_households(
        &self,
        actor: &Actor,
        words: &str,
        n_max: i64,
    ) -> Result<Vec<Household>, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let words = words.trim();
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let escaped = words.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let mut tx = self.read(actor).await?;
        let mut found = Vec::new();
        for guardian in tx.find_guardians(&actor.municipality_code, &format!("%{escaped}%"), n_max).await? {
            let accounts = tx.household_accounts(guardian.guardian_id).await?;
            let children = tx.children_of(guardian.guardian_id).await?;
            found.push(Household { guardian, accounts, children });
        }
        Ok(found)
    }
}
