//! Who acts in a use case.

use todoke_domain::{
    MunicipalityCode, Role,
    ids::{AccountId, FacilityId, GuardianId},
    role::Permission,
};
use todoke_store::{Wall, account::Account};

use crate::WorkflowError;

/// The person, machine or timer on whose behalf a use case runs, and how it came.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The account; `None` for timers and for people before sign-in.
    pub account_id: Option<AccountId>,
    /// The role; `None` for the system.
    pub role: Option<Role>,
    /// The wall around everything it touches.
    pub municipality_code: MunicipalityCode,
    /// Household of a guardian or proxy.
    pub guardian_id: Option<GuardianId>,
    /// Facility of a staff member.
    pub facility_id: Option<FacilityId>,
    /// Pseudonym.
    pub person_key: Option<i64>,
    /// `app`, `web`, `dashboard`, `console`, `paper`, `import`, `batch` or `timer`.
    pub source_channel: &'static str,
    /// Ties together everything one request causes.
    pub correlation_id: Option<String>,
}

impl Actor {
    /// An account, acting through its usual channel.
    pub fn of(account: &Account, correlation_id: Option<String>) -> Self {
        let source_channel = match account.role {
            role if role.is_household() => "web",
            role if role.is_facility() => "dashboard",
            _ => "console",
        };
        Self {
            account_id: Some(account.account_id),
            role: Some(account.role),
            municipality_code: account.municipality_code.clone(),
            guardian_id: account.guardian_id,
            facility_id: account.facility_id,
            person_key: account.person_key,
            source_channel,
            correlation_id,
        }
    }

    /// A timer or batch of one municipality.
    pub fn system(municipality_code: MunicipalityCode, source_channel: &'static str) -> Self {
        Self {
            account_id: None,
            role: None,
            municipality_code,
            guardian_id: None,
            facility_id: None,
            person_key: None,
            source_channel,
            correlation_id: None,
        }
    }

    /// The wall around this actor.
    pub fn wall(&self) -> Wall {
        Wall::Around(self.municipality_code.clone())
    }

    /// Code of the role in events.
    pub fn role_code(&self) -> &'static str {
        self.role.map_or("system", Role::as_str)
    }

    /// Refuses unless the role may do `what`; the system may do everything.
    pub fn require(&self, what: Permission) -> Result<(), WorkflowError> {
        match self.role {
            Some(role) if !role.may(what) => Err(WorkflowError::Denied),
            _ => Ok(()),
        }
    }

    /// The household of a guardian or proxy; others are refused.
    pub fn household(&self) -> Result<(AccountId, GuardianId), WorkflowError> {
        match (self.role, self.account_id, self.guardian_id) {
            (Some(role), Some(account), Some(guardian)) if role.is_household() => Ok((account, guardian)),
            _ => Err(WorkflowError::Denied),
        }
    }

    /// The signed-in account; others are refused.
    pub fn account(&self) -> Result<AccountId, WorkflowError> {
        self.account_id.ok_or(WorkflowError::Denied)
    }
}
