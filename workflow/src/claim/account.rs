//! The account a facility is paid to: entered by its manager or the operator, read by who pays.

use serde::{Deserialize, Serialize};
use todoke_domain::{
    Role, Timestamp,
    bank_account::{AccountType, account_type, digits, holder},
    ids::FacilityId,
    role::Permission,
};
use todoke_store::bank_account::BankAccount;

use crate::{Actor, Workflow, WorkflowError, audit::Access, error::Fields, revision::Revision, work::Subject};

/// An account as it is entered.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AccountDraft {
    /// Four digits.
    pub bank_code: String,
    /// Three digits.
    pub branch_code: String,
    /// `ordinary` or `current`.
    pub account_type: String,
    /// Seven digits.
    pub account_no: String,
    /// Holder in kana.
    pub holder_kana: String,
}

/// An account.
#[derive(Debug, Clone, Serialize)]
pub struct AccountView {
    /// Four digits.
    pub bank_code: String,
    /// Three digits.
    pub branch_code: String,
    /// `ordinary` or `current`.
    pub account_type: String,
    /// Seven digits.
    pub account_no: String,
    /// Holder, as banks write it.
    pub holder_kana: String,
    /// Code of the role that entered it.
    pub entered_by: String,
    /// When.
    pub entered_at: Timestamp,
}

impl From<BankAccount> for AccountView {
    fn from(row: BankAccount) -> Self {
        Self {
            bank_code: row.bank_code,
            branch_code: row.branch_code,
            account_type: row.account_type,
            account_no: row.account_no,
            holder_kana: row.holder_kana,
            entered_by: row.entered_by,
            entered_at: row.entered_at,
        }
    }
}

/// The fingerprint of what the form of an account overwrites; an account that is missing has one, too.
fn revision(row: Option<&BankAccount>) -> Result<Revision, WorkflowError> {
    Revision::of(
        &row.map(|row| (&row.bank_code, &row.branch_code, &row.account_type, &row.account_no, &row.holder_kana)),
    )
}

/// A facility's manager has to do with its own account only.
fn own_facility_only(actor: &Actor, facility: FacilityId) -> Result<(), WorkflowError> {
    if actor.role.is_some_and(Role::is_facility) && actor.facility_id != Some(facility) {
        return Err(WorkflowError::NotFound("facility"));
    }
    Ok(())
}

impl Workflow {
    /// The account of a facility, if one was entered, and the version its form begins with.
    pub async fn bank_account(
        &self,
        actor: &Actor,
        facility: FacilityId,
    ) -> Result<(Option<AccountView>, Revision), WorkflowError> {
        if actor.require(Permission::ManageBankAccounts).is_err() {
            actor.require(Permission::OrderTransfers)?;
        }
        own_facility_only(actor, facility)?;
        let mut tx = self.read(actor).await?;
        tx.facility(facility).await?.ok_or(WorkflowError::NotFound("facility"))?;
        let row = tx.bank_account(facility).await?;
        let version = revision(row.as_ref())?;
        Ok((row.map(AccountView::from), version))
    }

    /// Sets the account of a facility. Payments that were ordered before keep theirs.
    ///
    /// Errors: [`WorkflowError::Stale`] when `expected` is the version of another content.
    pub async fn set_bank_account(
        &self,
        actor: &Actor,
        facility: FacilityId,
        draft: &AccountDraft,
        expected: Option<&str>,
        now: Timestamp,
    ) -> Result<AccountView, WorkflowError> {
        actor.require(Permission::ManageBankAccounts)?;
        own_facility_only(actor, facility)?;
        let mut fields = Fields::default();
        let bank_code = fields.take("bank_code", digits(&draft.bank_code, 4));
        let branch_code = fields.take("branch_code", digits(&draft.branch_code, 3));
        let kind = fields.take("account_type", account_type(&draft.account_type));
        let account_no = fields.take("account_no", digits(&draft.account_no, 7));
        let holder_kana = fields.take("holder_kana", holder(&draft.holder_kana));
        fields.finish()?;
        let mut work = self.begin(actor, now).await?;
        // Of two windows that save at once the second must see what the first has written.
        work.tx.lock_claims(facility).await?;
        let found = work.tx.facility(facility).await?.ok_or(WorkflowError::NotFound("facility"))?;
        revision(work.tx.bank_account(facility).await?.as_ref())?.expect(expected)?;
        let row = BankAccount {
            facility_id: found.facility_id,
            municipality_code: found.municipality_code,
            bank_code: bank_code.unwrap_or_default(),
            branch_code: branch_code.unwrap_or_default(),
            account_type: kind.map(AccountType::as_str).unwrap_or_default().to_owned(),
            account_no: account_no.unwrap_or_default(),
            holder_kana: holder_kana.unwrap_or_default(),
            entered_by: actor.role_code().to_owned(),
            entered_at: now,
        };
        work.tx.set_bank_account(&row).await?;
        work.audit(Access::SetBankAccount, Subject::new("bank_account", facility), 1);
        work.commit().await?;
        Ok(row.into())
    }
}
