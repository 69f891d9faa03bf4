//! From an audience of the catalogue to accounts of the record.

use todoke_domain::{
    Role,
    catalogue::messages::{Audience, Contact},
    ids::FacilityId,
};
use todoke_store::{account::Account, guardian::Guardian};

use crate::{Work, WorkflowError, messaging::About};

/// The people an event may concern, each list read from the record at most once.
#[derive(Debug, Default)]
pub(super) struct People {
    household: Option<(Guardian, Vec<Account>)>,
    facility: Option<Vec<Account>>,
}

impl People {
    /// How the household is reached; offices always have accounts.
    pub(super) fn contact(&self, account: &Account) -> Contact {
        match &self.household {
            Some((guardian, _)) if account.role.is_household() => match guardian.contact_channel.as_str() {
                "paper" => Contact::Paper,
                "both" => Contact::Both,
                _ => Contact::App,
            },
            _ => Contact::App,
        }
    }

    /// The accounts of one audience.
    pub(super) async fn of(
        &mut self,
        work: &mut Work<'_>,
        audience: Audience,
        about: &About,
    ) -> Result<Vec<Account>, WorkflowError> {
        match audience {
            Audience::Guardian => self.household(work, about, Role::Guardian).await,
            Audience::ProxyGuardian => self.household(work, about, Role::ProxyGuardian).await,
            Audience::FacilityStaff => self.facility(work, about.facility).await,
            Audience::FacilityManager => {
                let mut staff = self.facility(work, about.facility).await?;
                staff.retain(|account| account.role == Role::FacilityManager);
                Ok(staff)
            }
            Audience::Operator => role(work, Role::Operator).await,
            Audience::MunicipalAdmin => role(work, Role::MunicipalAdmin).await,
            Audience::MunicipalStaff => role(work, Role::MunicipalStaff).await,
            Audience::ProgrammeSection => role(work, Role::ProgrammeSection).await,
            Audience::AppSection => role(work, Role::AppSection).await,
            Audience::AccountHolder | Audience::Author | Audience::Asker => Ok(about.account.iter().cloned().collect()),
            Audience::Addressees => Ok(about.addressees.clone()),
        }
    }

    async fn household(
        &mut self,
        work: &mut Work<'_>,
        about: &About,
        wanted: Role,
    ) -> Result<Vec<Account>, WorkflowError> {
        let Some(guardian_id) = about.guardian else { return Ok(Vec::new()) };
        if self.household.is_none() {
            let (guardian, mut accounts) = match &about.household {
                Some(known) => known.clone(),
                None => (
                    work.tx.guardian(guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?,
                    work.tx.household_accounts(guardian_id).await?,
                ),
            };
            // A deleted account still gets the one mail that says so; it is passed in by the use case.
            if let Some(account) = about
                .account
                .as_ref()
                .filter(|a| a.role.is_household() && accounts.iter().all(|b| b.account_id != a.account_id))
            {
                accounts.push(account.clone());
            }
            self.household = Some((guardian, accounts));
        }
        let accounts = self.household.iter().flat_map(|(_, accounts)| accounts);
        Ok(accounts.filter(|account| account.role == wanted).cloned().collect())
    }

    async fn facility(
        &mut self,
        work: &mut Work<'_>,
        facility: Option<FacilityId>,
    ) -> Result<Vec<Account>, WorkflowError> {
        let Some(facility) = facility else { return Ok(Vec::new()) };
        if self.facility.is_none() {
            self.facility = Some(work.tx.facility_accounts(facility).await?);
        }
        Ok(self.facility.clone().unwrap_or_default())
    }
}

async fn role(work: &mut Work<'_>, role: Role) -> Result<Vec<Account>, WorkflowError> {
    let code = work.actor.municipality_code.clone();
    Ok(work.tx.role_accounts(&code, role).await?)
}
