//! Accounts of offices that look shared: in use more than once at the same time (N-SEC-09).

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use todoke_domain::{
    Timestamp,
    concurrent_use::{ConcurrentUse, Span, concurrent_use},
    ids::AccountId,
};
use todoke_store::account::Account;

use crate::{Actor, Workflow, WorkflowError};

/// How far back sessions are looked at.
const LOOKED_BACK: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// An account that several people seem to use.
#[derive(Debug, Clone)]
pub struct SharedAccount {
    /// The account.
    pub account: Account,
    /// What its sessions of the last 30 days show.
    pub concurrent: ConcurrentUse,
}

impl Workflow {
    /// Of the accounts the caller manages those that were in use more than once at the same time, most first.
    ///
    /// A sign-in counts from its beginning to its last request, to the minute. One person who leaves a screen
    /// open and works on another device is found too: it is a hint to look, not a proof.
    pub async fn shared_accounts(&self, actor: &Actor, now: Timestamp) -> Result<Vec<SharedAccount>, WorkflowError> {
        let accounts = self.office_accounts(actor, "").await?;
        let mut spans: BTreeMap<AccountId, Vec<Span>> = BTreeMap::new();
        let mut tx = self.read(actor).await?;
        for row in tx.overlapping_sessions(&actor.municipality_code, now.minus(LOOKED_BACK)).await? {
            spans.entry(row.account_id).or_default().push(Span { from: row.created_at, to: row.seen_at });
        }
        let mut shared: Vec<SharedAccount> = accounts
            .into_iter()
            .filter_map(|account| {
                let concurrent = concurrent_use(spans.get(&account.account_id)?)?;
                Some(SharedAccount { account, concurrent })
            })
            .collect();
        shared.sort_by_key(|one| Reverse(one.concurrent.sessions));
        Ok(shared)
    }
}
