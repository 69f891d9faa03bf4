//! Municipalities, their parameters and numbers, and the record's own identity.

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode, Timestamp,
    number::{Number, NumberKind},
    parameter::Parameter,
    time::fiscal_year,
};

use crate::{StoreError, Tx, column::DateText};

/// The record's identity: made once, when the database is.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Instance {
    /// Stream epoch of every live channel: a client with another one cannot recover by position.
    pub epoch: String,
    /// Signs the short-lived tokens of sockets.
    pub token_secret: String,
}

/// A municipality, or an authority above municipalities.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Municipality {
    /// Six digits.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Name people see.
    pub name: String,
}

/// A parameter's value with its first day.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ParameterValue {
    /// Name.
    pub name: String,
    /// First day in force.
    #[sqlx(try_from = "DateText")]
    pub effective_from: Date,
    /// Value as text.
    pub value: String,
}

/// A programme as one municipality runs it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Programme {
    /// Code of the glossary.
    pub programme_code: String,
    /// Name people see.
    pub name: String,
    /// Coupons can be used for it.
    pub coupon_enabled: bool,
}

/// How much a municipality's register holds now.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct RegisterTotals {
    /// Living households.
    pub guardians: i64,
    /// Children.
    pub children: i64,
    /// Usable coupons.
    pub coupons_active: i64,
    /// Sum of their balances.
    pub balance_total_yen: i64,
    /// Surveys that take answers.
    pub surveys_open: i64,
}

/// A parameter's value in force: municipality, name, day.
pub(crate) const PARAMETER: &str =
    "SELECT value FROM parameter WHERE municipality_code = $1 AND name = $2 AND effective_from <= $3
     ORDER BY effective_from DESC LIMIT 1";

impl Tx {
    /// How much the register holds.
    pub async fn register_totals(&mut self, code: &MunicipalityCode) -> Result<RegisterTotals, StoreError> {
        fetch_one!(
            self, RegisterTotals,
            "SELECT
                (SELECT COUNT(*) FROM guardian WHERE municipality_code = $1 AND deleted_at_us IS NULL) AS guardians,
                (SELECT COUNT(*) FROM child WHERE municipality_code = $1) AS children,
                (SELECT COUNT(*) FROM coupon WHERE municipality_code = $1 AND state = 'active') AS coupons_active,
                (SELECT CAST(COALESCE(SUM(balance_yen), 0) AS BIGINT) FROM coupon WHERE municipality_code = $1 AND state = 'active')
                    AS balance_total_yen,
                (SELECT COUNT(*) FROM survey WHERE municipality_code = $1 AND state = 'open') AS surveys_open",
            code.as_str(),
        )
    }

    /// The record's identity, if it has been made.
    pub async fn instance(&mut self) -> Result<Option<Instance>, StoreError> {
        fetch_optional!(self, Instance, "SELECT epoch, token_secret FROM instance WHERE id = 1")
    }

    /// Makes the record's identity; a second call changes nothing.
    pub async fn insert_instance(&mut self, instance: &Instance, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO instance (id, epoch, token_secret, created_at_us) VALUES (1, $1, $2, $3) ON CONFLICT (id) DO NOTHING",
            &instance.epoch,
            &instance.token_secret,
            now.as_micros(),
        )?;
        Ok(())
    }

    /// Adds a municipality or an authority.
    pub async fn insert_municipality(&mut self, row: &Municipality, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO municipality (municipality_code, name, created_at_us) VALUES ($1, $2, $3)",
            row.municipality_code.as_str(),
            &row.name,
            now.as_micros(),
        )?;
        Ok(())
    }

    /// All municipalities, by code; the authorities above them are not among them.
    pub async fn municipalities(&mut self) -> Result<Vec<Municipality>, StoreError> {
        fetch_all!(
            self,
            Municipality,
            "SELECT municipality_code, name FROM municipality WHERE municipality_code NOT LIKE '%0000'
             ORDER BY municipality_code",
        )
    }

    /// All authorities above municipalities (`MunicipalityCode::is_authority`), by code.
    pub async fn authorities(&mut self) -> Result<Vec<Municipality>, StoreError> {
        fetch_all!(
            self,
            Municipality,
            "SELECT municipality_code, name FROM municipality WHERE municipality_code LIKE '%0000'
             ORDER BY municipality_code",
        )
    }

    /// One municipality or authority.
    pub async fn municipality(&mut self, code: &MunicipalityCode) -> Result<Option<Municipality>, StoreError> {
        fetch_optional!(
            self,
            Municipality,
            "SELECT municipality_code, name FROM municipality WHERE municipality_code = $1",
            code.as_str(),
        )
    }

    /// Locks a municipality's settings for the rest of the transaction.
    pub async fn lock_municipality(&mut self, code: &MunicipalityCode) -> Result<(), StoreError> {
        execute!(self, "UPDATE municipality SET name = name WHERE municipality_code = $1", self.wall.inside(code))?;
        Ok(())
    }

    /// Adds a programme.
    pub async fn insert_programme(&mut self, code: &MunicipalityCode, row: &Programme) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO programme (municipality_code, programme_code, name, coupon_enabled) VALUES ($1, $2, $3, $4)",
            code.as_str(),
            &row.programme_code,
            &row.name,
            row.coupon_enabled,
        )?;
        Ok(())
    }

    /// The programmes of a municipality.
    pub async fn programmes(&mut self, code: &MunicipalityCode) -> Result<Vec<Programme>, StoreError> {
        fetch_all!(
            self,
            Programme,
            "SELECT programme_code, name, coupon_enabled FROM programme WHERE municipality_code = $1 ORDER BY programme_code",
            self.wall.inside(code),
        )
    }

    /// Sets a parameter from a day on; the same day again replaces the value.
    pub async fn set_parameter(
        &mut self,
        code: &MunicipalityCode,
        value: &ParameterValue,
        set_by: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO parameter (municipality_code, name, effective_from, value, set_by, set_at_us)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (municipality_code, name, effective_from)
             DO UPDATE SET value = excluded.value, set_by = excluded.set_by, set_at_us = excluded.set_at_us",
            code.as_str(),
            &value.name,
            value.effective_from.to_string(),
            &value.value,
            set_by,
            now.as_micros(),
        )?;
        Ok(())
    }

    /// The value in force on `today`: the newest not later than it, else the default.
    pub async fn parameter(
        &mut self,
        code: &MunicipalityCode,
        parameter: Parameter,
        today: Date,
    ) -> Result<String, StoreError> {
        let set: Option<(String,)> =
            fetch_optional!(self, (String,), PARAMETER, self.wall.inside(code), parameter.name, today.to_string(),)?;
        Ok(set.map_or_else(|| parameter.default.to_owned(), |(value,)| value))
    }

    /// A whole-number parameter in force on `today`.
    pub async fn parameter_number(
        &mut self,
        code: &MunicipalityCode,
        parameter: Parameter,
        today: Date,
    ) -> Result<i64, StoreError> {
        let text = self.parameter(code, parameter, today).await?;
        text.parse().map_err(|_| StoreError::Corrupt { what: "parameter" })
    }

    /// Every value ever set, by name and day.
    pub async fn parameter_values(&mut self, code: &MunicipalityCode) -> Result<Vec<ParameterValue>, StoreError> {
        fetch_all!(
            self,
            ParameterValue,
            "SELECT name, effective_from, value FROM parameter WHERE municipality_code = $1 ORDER BY name, effective_from",
            self.wall.inside(code),
        )
    }

    /// The next number of a kind. A rolled-back transaction gives its number back; a committed one never returns.
    pub async fn next_number(
        &mut self,
        code: &MunicipalityCode,
        kind: NumberKind,
        now: Timestamp,
    ) -> Result<String, StoreError> {
        let year = fiscal_year(now.jst_date());
        let (serial,): (i64,) = fetch_one!(
            self,
            (i64,),
            "INSERT INTO number_sequence (municipality_code, kind, fiscal_year, last_serial) VALUES ($1, $2, $3, 1)
             ON CONFLICT (municipality_code, kind, fiscal_year)
             DO UPDATE SET last_serial = number_sequence.last_serial + 1
             RETURNING last_serial",
            code.as_str(),
            kind.letter().to_string(),
            i64::from(year),
        )?;
        Ok(Number { kind, fiscal_year: year, serial }.to_string())
    }
}
