//! Held events that nobody waits for any more.

use std::collections::BTreeMap;

use todoke_domain::{Timestamp, role::Permission};
use todoke_store::quarantine::HeldOf;

use crate::{Actor, FieldError, Workflow, WorkflowError, audit::Access, work::Subject};

/// Events let go in one transaction.
const PAGE: i64 = 1_000;

impl Workflow {
    /// Lets held events go for good, so that there is room for others of their sender. That they were there, and why they
    /// were bad, stays with their entries as long as these are kept, and in the audit. Returns how many went, by reason.
    pub async fn discard_held(
        &self,
        actor: &Actor,
        which: &HeldOf,
        now: Timestamp,
    ) -> Result<BTreeMap<String, usize>, WorkflowError> {
        actor.require(Permission::ImportData)?;
        // An empty one would mean all.
        if which.reason.as_deref().is_some_and(|reason| reason.trim().is_empty()) {
            return Err(WorkflowError::Invalid(vec![FieldError::new("reason", "理由を入力してください。")]));
        }
        let mut discarded = BTreeMap::new();
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let page = work.tx.discard_quarantined(&actor.municipality_code, which, PAGE, now).await?;
            if page.is_empty() {
                return Ok(discarded);
            }
            let mut of_page: BTreeMap<String, usize> = BTreeMap::new();
            for reason in page {
                *of_page.entry(reason).or_default() += 1;
            }
            for (reason, n) in &of_page {
                work.audit(Access::Discard, Subject::new("quarantine", reason), *n);
            }
            work.commit().await?;
            for (reason, n) in of_page {
                *discarded.entry(reason).or_default() += n;
            }
        }
    }
}
