//! The wall between municipalities, at the lowest layer: a transaction sees the rows of one of them.

use todoke_domain::MunicipalityCode;

use crate::{
    Tx,
    account::Account,
    application::Application,
    bank_account::BankAccount,
    broadcast::Broadcast,
    child::Child,
    city_request::CityRequest,
    claim::Claim,
    coupon::Coupon,
    coupon_set::CouponSet,
    coupon_use::CouponUse,
    delivery::Delivery,
    device::Device,
    document::Document,
    escalation::Escalation,
    external_application::ExternalApplication,
    facility::Facility,
    guardian::Guardian,
    import_file::ImportFile,
    message::Message,
    notice::Notice,
    resident::{FacilityUsage, HouseholdRelation, Resident},
    segment::SavedSegment,
    solicitation::Solicitation,
    survey::Survey,
    transfer::TransferFile,
};

/// What a transaction may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wall {
    /// Rows of one municipality; the others do not exist.
    Around(MunicipalityCode),
    /// Everything: sign-in, timers and the relay, which act for all of them.
    None,
}

impl Wall {
    /// The code the wall is around; empty without a wall. For statements on rows that do not carry their
    /// municipality themselves: `($n = '' OR … municipality_code = $n)`.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Around(code) => code.as_str(),
            Self::None => "",
        }
    }

    /// The code a statement may ask for when the caller asks for `code`: behind another wall, one that no
    /// municipality has.
    pub(crate) fn inside<'a>(&self, code: &'a MunicipalityCode) -> &'a str {
        match self {
            Self::Around(own) if own != code => "",
            Self::Around(_) | Self::None => code.as_str(),
        }
    }
}

/// A row that belongs to one municipality.
pub(crate) trait Walled {
    fn municipality(&self) -> &MunicipalityCode;
}

macro_rules! walled {
    ($($row:ty),+ $(,)?) => {$(
        impl Walled for $row {
            fn municipality(&self) -> &MunicipalityCode {
                &self.municipality_code
            }
        }
    )+};
}

walled!(
    Account,
    Application,
    BankAccount,
    Broadcast,
    Child,
    CityRequest,
    Claim,
    Coupon,
    CouponSet,
    CouponUse,
    Delivery,
    Device,
    Document,
    Escalation,
    ExternalApplication,
    Facility,
    FacilityUsage,
    Guardian,
    HouseholdRelation,
    ImportFile,
    Message,
    Notice,
    Resident,
    SavedSegment,
    Solicitation,
    Survey,
    TransferFile,
);

impl Tx {
    fn sees(&self, row: &impl Walled) -> bool {
        match &self.wall {
            Wall::Around(code) => row.municipality() == code,
            Wall::None => true,
        }
    }

    pub(crate) fn see<T: Walled>(&self, row: Option<T>) -> Option<T> {
        row.filter(|row| self.sees(row))
    }

    pub(crate) fn see_all<T: Walled>(&self, mut rows: Vec<T>) -> Vec<T> {
        rows.retain(|row| self.sees(row));
        rows
    }
}
