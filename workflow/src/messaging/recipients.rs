//! From an audience of the catalogue to accounts of the record.

use std::collections::HashMap;

use jiff::civil::Date;
use todoke_domain::{
    Role,
    account::{AccountState, Validity, validity},
    catalogue::messages::{Audience, Channel as Via, ChannelSet, Contact},
    ids::{FacilityId, GuardianId},
};
use todoke_store::{account::Account, guardian::Guardian};

use crate::{Work, WorkflowError, messaging::About};

/// The people an event may concern, each list read from the record at most once.
#[derive(Debug, Default)]
pub(super) struct People {
    household: Option<(Guardian, Vec<Account>)>,
    facility: Option<Vec<Account>>,
    // Of the addressees' households.
    contacts: Option<HashMap<GuardianId, Contact>>,
}

impl People {
    /// How somebody of an audience wants to be reached. Offices always have accounts, and what concerns an account
    /// itself, such as the link that confirms its address, goes to its address whatever its household chose.
    pub(super) fn contact(&self, audience: Audience, account: &Account) -> Contact {
        let Some(household) = account.guardian_id.filter(|_| account.role.is_household()) else { return Contact::App };
        let chosen = match audience {
            Audience::Guardian | Audience::ProxyGuardian => {
                self.household.as_ref().map(|(guardian, _)| Contact::of(&guardian.contact_channel))
            }
            Audience::Addressees => self.contacts.as_ref().and_then(|contacts| contacts.get(&household).copied()),
            _ => None,
        };
        chosen.unwrap_or(Contact::App)
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
            Audience::Addressees => {
                self.learn_contacts(work, &about.addressees).await?;
                Ok(about.addressees.clone())
            }
        }
    }

    async fn learn_contacts(&mut self, work: &mut Work<'_>, addressees: &[Account]) -> Result<(), WorkflowError> {
        if self.contacts.is_some() {
            return Ok(());
        }
        let of_household = addressees.iter().filter(|account| account.role.is_household());
        let households: Vec<GuardianId> = of_household.filter_map(|account| account.guardian_id).collect();
        let chosen = if households.is_empty() { Vec::new() } else { work.tx.contact_channels(&households).await? };
        self.contacts = Some(chosen.into_iter().map(|(id, channel)| (id, Contact::of(&channel))).collect());
        Ok(())
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

/// Of the channels of one person those that may be used yet. Mail and push go to somebody who has come: that the address
/// of a new account is its holder's shows when the holder confirms it, and before its first day an account gets nothing
/// about others. What tells of the account itself, such as the link to the first password, goes anyway.
pub(super) fn within_reach(channels: ChannelSet, audience: Audience, account: &Account, today: Date) -> ChannelSet {
    let has_come = matches!(AccountState::parse(&account.state), Some(AccountState::Active | AccountState::Locked))
        && validity(account.valid_from, account.valid_to, today) == Validity::Valid;
    if has_come || account.email.is_none() || audience == Audience::AccountHolder {
        return channels;
    }
    channels.without(Via::Push).without(Via::Email)
}

async fn role(work: &mut Work<'_>, role: Role) -> Result<Vec<Account>, WorkflowError> {
    let code = work.actor.municipality_code.clone();
    Ok(work.tx.role_accounts(&code, role).await?)
}
