//! The accounts facilities are paid to.

use todoke_domain::{MunicipalityCode, Timestamp, ids::FacilityId};

use crate::{StoreError, Tx};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct BankAccount {
    /// Whose.
    #[sqlx(try_from = "String")]
    pub facility_id: FacilityId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Four digits.
    pub bank_code: String,
    /// Three digits.
    pub branch_code: String,
    /// Code of [`todoke_domain::bank_account::AccountType`].
    pub account_type: String,
    /// Seven digits.
    pub account_no: String,
    /// Holder, as banks write it.
    pub holder_kana: String,
    /// Code of the role that entered it.
    pub entered_by: String,
    /// When.
    #[sqlx(rename = "entered_at_us", try_from = "i64")]
    pub entered_at: Timestamp,
}

macro_rules! select_bank_account {
    ($rest:literal) => {
        concat!(
            "SELECT facility_id, municipality_code, bank_code, branch_code, account_type, account_no, holder_kana, entered_by, ",
            "entered_at_us FROM bank_account ", $rest
        )
    };
}

impl Tx {
    /// Sets the account of a facility.
    pub async fn set_bank_account(&mut self, row: &BankAccount) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO bank_account (facility_id, municipality_code, bank_code, branch_code, account_type, account_no, holder_kana,
                entered_by, entered_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (facility_id) DO UPDATE SET bank_code = excluded.bank_code, branch_code = excluded.branch_code,
                account_type = excluded.account_type, account_no = excluded.account_no, holder_kana = excluded.holder_kana,
                entered_by = excluded.entered_by, entered_at_us = excluded.entered_at_us",
            row.facility_id.to_string(), row.municipality_code.as_str(), &row.bank_code, &row.branch_code, &row.account_type,
            &row.account_no, &row.holder_kana, &row.entered_by, row.entered_at.as_micros(),
        )?;
        Ok(())
    }

    /// The account of a facility.
    pub async fn bank_account(&mut self, facility: FacilityId) -> Result<Option<BankAccount>, StoreError> {
        let row =
            fetch_optional!(self, BankAccount, select_bank_account!("WHERE facility_id = $1"), facility.to_string(),)?;
        Ok(self.see(row))
    }

    /// The accounts of a municipality's facilities.
    pub async fn bank_accounts(&mut self, code: &MunicipalityCode) -> Result<Vec<BankAccount>, StoreError> {
        let rows = fetch_all!(
            self,
            BankAccount,
            select_bank_account!("WHERE municipality_code = $1 ORDER BY facility_id"),
            code.as_str(),
        )?;
        Ok(self.see_all(rows))
    }
}
