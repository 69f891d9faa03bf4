//! Kinds of users and what each may do.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Kind of an account (glossary, "Roles").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// 利用者（保護者）
    Guardian,
    /// 代理利用者
    ProxyGuardian,
    /// 事業所管理者
    FacilityManager,
    /// 事業所職員
    FacilityStaff,
    /// 運営事業者
    Operator,
    /// 市区町村管理者
    MunicipalAdmin,
    /// 市区町村職員
    MunicipalStaff,
    /// 事業所管課
    ProgrammeSection,
    /// アプリ担当課
    AppSection,
    /// 区役所担当課
    WardSection,
    /// 分析担当者
    Analyst,
    /// 都道府県・こども家庭庁
    StatsViewer,
    /// コールセンター
    SupportDesk,
}

/// Something a role may be allowed to do. One permission per kind of decision, not per screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Act for the own household: apply, pay, answer.
    ActAsGuardian,
    /// Delete the household's account, manage the proxy, permit the use of identity data.
    ManageOwnHousehold,
    /// Take coupons at the own facility and see its uses.
    TakeCoupons,
    /// Manage staff accounts of the own facility.
    ManageFacilityStaff,
    /// See and decide coupon applications.
    ReviewApplications,
    /// See coupons and people of the municipality.
    ReadRegister,
    /// Adjust, reverse, suspend, revoke.
    ManageCoupons,
    /// Import files of linked systems, run solicitations.
    ImportData,
    /// Build, send and close surveys.
    ManageSurveys,
    /// Read survey results.
    ReadSurveys,
    /// Publish notices.
    PublishNotices,
    /// Write, send and stop broadcasts; keep segments.
    SendBroadcasts,
    /// Release the broadcast of somebody else.
    ApproveBroadcasts,
    /// Change parameters and coupon sets.
    ManageParameters,
    /// Issue accounts of city, operator and facility managers, and API keys.
    ManageAccounts,
    /// Run the standard reports.
    RunReports,
    /// See masked figures of the municipalities below the own authority, and nothing else of them.
    ReadAggregates,
    /// Run SQL over the lake of the municipality.
    QueryLake,
    /// Read who looked at, exported and changed what.
    ReadAudit,
    /// Ask the operator to revoke, suspend or resume.
    RequestOfOperator,
    /// Create and submit the claims of the own facility.
    ClaimForFacility,
    /// Receive, send back and forward claims.
    HandleClaims,
    /// Order payments of claims and take in what the bank answers.
    OrderTransfers,
    /// See claims of the municipality; the city those that were forwarded to it.
    ReadClaims,
    /// Enter the account a facility is paid to.
    ManageBankAccounts,
}

impl Role {
    /// Every role, in glossary order.
    pub const ALL: [Self; 13] = [
        Self::Guardian,
        Self::ProxyGuardian,
        Self::FacilityManager,
        Self::FacilityStaff,
        Self::Operator,
        Self::MunicipalAdmin,
        Self::MunicipalStaff,
        Self::ProgrammeSection,
        Self::AppSection,
        Self::WardSection,
        Self::Analyst,
        Self::StatsViewer,
        Self::SupportDesk,
    ];

    /// The code used in the record, events and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guardian => "guardian",
            Self::ProxyGuardian => "proxy_guardian",
            Self::FacilityManager => "facility_manager",
            Self::FacilityStaff => "facility_staff",
            Self::Operator => "operator",
            Self::MunicipalAdmin => "municipal_admin",
            Self::MunicipalStaff => "municipal_staff",
            Self::ProgrammeSection => "programme_section",
            Self::AppSection => "app_section",
            Self::WardSection => "ward_section",
            Self::Analyst => "analyst",
            Self::StatsViewer => "stats_viewer",
            Self::SupportDesk => "support_desk",
        }
    }

    /// Guardian or proxy: both act for the household.
    pub const fn is_household(self) -> bool {
        matches!(self, Self::Guardian | Self::ProxyGuardian)
    }

    /// Staff or manager of one facility.
    pub const fn is_facility(self) -> bool {
        matches!(self, Self::FacilityManager | Self::FacilityStaff)
    }

    /// A section or person of the city.
    pub const fn is_city(self) -> bool {
        matches!(
            self,
            Self::MunicipalAdmin | Self::MunicipalStaff | Self::ProgrammeSection | Self::AppSection | Self::WardSection
        )
    }

    /// Whether this role may do `what`. The wall of the municipality is checked apart from this.
    pub const fn may(self, what: Permission) -> bool {
        use Permission as P;
        match what {
            P::ActAsGuardian => self.is_household(),
            P::ManageOwnHousehold => matches!(self, Self::Guardian),
            P::TakeCoupons => self.is_facility(),
            P::ManageFacilityStaff => matches!(self, Self::FacilityManager),
            P::ReviewApplications | P::ImportData => matches!(self, Self::Operator),
            P::ReadRegister => matches!(self, Self::Operator) || self.is_city(),
            P::ManageCoupons => matches!(self, Self::Operator | Self::MunicipalStaff | Self::MunicipalAdmin),
            P::ManageSurveys | P::PublishNotices | P::SendBroadcasts | P::ApproveBroadcasts => {
                matches!(self, Self::Operator | Self::MunicipalStaff | Self::MunicipalAdmin)
            }
            P::ReadSurveys => matches!(self, Self::Operator) || self.is_city(),
            P::ManageParameters | P::ManageAccounts => matches!(self, Self::MunicipalAdmin | Self::MunicipalStaff),
            P::RunReports => matches!(self, Self::Operator | Self::Analyst) || self.is_city(),
            P::ReadAggregates => matches!(self, Self::StatsViewer),
            P::QueryLake => {
                matches!(self, Self::Analyst | Self::Operator | Self::MunicipalAdmin | Self::MunicipalStaff)
            }
            P::ReadAudit | P::RequestOfOperator => self.is_city(),
            P::ClaimForFacility => matches!(self, Self::FacilityManager),
            P::HandleClaims => matches!(self, Self::Operator),
            P::OrderTransfers => matches!(self, Self::AppSection),
            P::ReadClaims => {
                matches!(self, Self::Operator | Self::AppSection | Self::MunicipalAdmin | Self::MunicipalStaff)
            }
            P::ManageBankAccounts => matches!(self, Self::FacilityManager | Self::Operator),
        }
    }
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such role")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(raw: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.as_str() == raw).ok_or(RoleError)
    }
}

impl TryFrom<String> for Role {
    type Error = RoleError;
    fn try_from(raw: String) -> Result<Self, RoleError> {
        raw.parse()
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
