//! Deleting a household's accounts (flow C1): the proxy goes with the guardian.

use serde_json::json;
use todoke_domain::{
    Role, Timestamp,
    catalogue::{
        format,
        template::{Placeholder, Placeholders},
    },
};

use crate::{Actor, Workflow, WorkflowError};

impl Workflow {
    /// Deletes the caller's account. A guardian's deletion takes the proxy along; records that the law
    /// wants kept stay, pseudonymous.
    pub async fn delete_own_account(&self, actor: &Actor, now: Timestamp) -> Result<(), WorkflowError> {
        let (own, guardian) = actor.household()?;
        let mut work = self.begin_long(actor, now).await?;
        let mut leaving = work.tx.household_accounts(guardian).await?;
        if actor.role != Some(Role::Guardian) {
            leaving.retain(|account| account.account_id == own);
        }
        for account in &leaving {
            work.tx.end_sessions_of(account.account_id, now).await?;
            work.tx.delete_account(account.account_id, now).await?;
            work.forget_deliveries(account.account_id).await?;
            let event = work.account_event(
                "account.deleted",
                account,
                json!({
                    "account_key": account.person_key,
                    "role": account.role.as_str(),
                    "reason": "own_wish",
                    "cascaded": account.account_id != own,
                }),
            );
            let values = Placeholders::new().with(Placeholder::Date, format::day(now.jst_date()));
            work.tell_account(&event, account, values).await?;
        }
        if actor.role == Some(Role::Guardian) {
            work.tx.delete_guardian(guardian, now).await?;
        }
        work.commit().await?;
        for account in &leaving {
            self.live().account_ended(account.account_id);
        }
        Ok(())
    }
}
