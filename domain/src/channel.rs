//! Names of the live channels and who may join them (screens.md §0).

use std::fmt;

use crate::{
    ids::{AccountId, FacilityId},
    municipality::MunicipalityCode,
    role::Role,
};

/// A live channel. Its text form is its name on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// One person's inbox, balances and states. The person is an account: the guardian and the proxy
    /// have one each, since each has an inbox of their own.
    Guardian(AccountId),
    /// Today at one facility.
    FacilityToday(FacilityId),
    /// What one facility has to decide.
    FacilityQueue(FacilityId),
    /// Claim and report progress of one facility.
    FacilityClaims(FacilityId),
    /// The operator's queue of one municipality.
    OperatorQueue(MunicipalityCode),
    /// The city's board.
    CityBoard(MunicipalityCode),
    /// Maintenance and incidents, for everybody.
    System,
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guardian(account) => write!(f, "guardian:{account}"),
            Self::FacilityToday(facility) => write!(f, "facility:{facility}:today"),
            Self::FacilityQueue(facility) => write!(f, "facility:{facility}:queue"),
            Self::FacilityClaims(facility) => write!(f, "facility:{facility}:claims"),
            Self::OperatorQueue(municipality) => write!(f, "operator:{municipality}:queue"),
            Self::CityBoard(municipality) => write!(f, "city:{municipality}:board"),
            Self::System => f.write_str("system"),
        }
    }
}

/// The channels a signed-in account is subscribed to by the server (D4): it need not, and cannot, ask
/// for others.
pub fn channels_of(
    role: Role,
    account: AccountId,
    facility: Option<FacilityId>,
    municipality: &MunicipalityCode,
) -> Vec<Channel> {
    let mut channels = Vec::with_capacity(4);
    if role.is_household() {
        channels.push(Channel::Guardian(account));
    }
    if let (true, Some(facility)) = (role.is_facility(), facility) {
        channels.push(Channel::FacilityToday(facility));
        channels.push(Channel::FacilityQueue(facility));
        if role == Role::FacilityManager {
            channels.push(Channel::FacilityClaims(facility));
        }
    }
    if role == Role::Operator {
        channels.push(Channel::OperatorQueue(municipality.clone()));
    }
    if role.is_city() {
        channels.push(Channel::CityBoard(municipality.clone()));
    }
    channels.push(Channel::System);
    channels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn each_role_gets_only_its_own_channels() {
        let now = Timestamp::from_micros(1);
        let (account, facility) = (AccountId::new(now), FacilityId::new(now));
        let town: MunicipalityCode = "271004".parse().unwrap();
        for role in Role::ALL {
            for channel in channels_of(role, account, Some(facility), &town) {
                let allowed = match &channel {
                    Channel::Guardian(id) => role.is_household() && *id == account,
                    Channel::FacilityToday(id) | Channel::FacilityQueue(id) => role.is_facility() && *id == facility,
                    Channel::FacilityClaims(id) => role == Role::FacilityManager && *id == facility,
                    Channel::OperatorQueue(code) => role == Role::Operator && *code == town,
                    Channel::CityBoard(code) => role.is_city() && *code == town,
                    Channel::System => true,
                };
                assert!(allowed, "{role} got {channel}");
            }
        }
    }
}
