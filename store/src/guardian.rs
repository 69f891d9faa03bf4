//! Households.

use jiff::civil::Date;
use todoke_domain::{MunicipalityCode, Timestamp, ids::GuardianId};

use crate::{StoreError, Tx, column::OptionalDateText};

/// A household's head as registered.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Guardian {
    /// Id.
    #[sqlx(try_from = "String")]
    pub guardian_id: GuardianId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Number people see.
    pub guardian_no: String,
    /// Name.
    pub name: String,
    /// Name in kana.
    pub name_kana: String,
    /// Sex, if given.
    pub sex: Option<String>,
    /// Birth date, if given.
    #[sqlx(try_from = "OptionalDateText")]
    pub birth_date: Option<Date>,
    /// Postal code.
    pub postal_code: String,
    /// Address.
    pub address: String,
    /// Ward, or the municipality's code where there are none.
    pub ward_code: String,
    /// Phone.
    pub phone: String,
    /// `app`, `paper` or `both`.
    pub contact_channel: String,
    /// Coupons cannot be used.
    pub suspended: bool,
}

macro_rules! select_guardian {
    ($rest:literal) => {
        concat!(
            "SELECT guardian_id, municipality_code, guardian_no, name, name_kana, sex, birth_date, postal_code, address, ",
            "ward_code, phone, contact_channel, suspended FROM guardian ", $rest
        )
    };
}

/// The household of a coupon.
pub(crate) const OF_COUPON: &str =
    select_guardian!("WHERE guardian_id = (SELECT guardian_id FROM coupon WHERE coupon_id = $1)");

impl Tx {
    /// Adds a household.
    pub async fn insert_guardian(&mut self, row: &Guardian, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO guardian (guardian_id, municipality_code, guardian_no, name, name_kana, sex, birth_date, postal_code,
                address, ward_code, phone, contact_channel, suspended, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            row.guardian_id.to_string(), row.municipality_code.as_str(), &row.guardian_no, &row.name, &row.name_kana,
            row.sex.as_deref(), row.birth_date.map(|d| d.to_string()), &row.postal_code, &row.address, &row.ward_code,
            &row.phone, &row.contact_channel, row.suspended, now.as_micros(),
        )?;
        Ok(())
    }

    /// One household.
    pub async fn guardian(&mut self, id: GuardianId) -> Result<Option<Guardian>, StoreError> {
        let row = fetch_optional!(self, Guardian, select_guardian!("WHERE guardian_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// How several households want to be reached, `app`, `paper` or `both`, each with its id, in no order.
    pub async fn contact_channels(
        &mut self,
        households: &[GuardianId],
    ) -> Result<Vec<(GuardianId, String)>, StoreError> {
        let sql = if self.is_postgres() {
            "SELECT guardian_id, contact_channel FROM guardian
             WHERE guardian_id = ANY(string_to_array($1, ',')) AND ($2 = '' OR municipality_code = $2)"
        } else {
            "SELECT guardian_id, contact_channel FROM guardian
             WHERE guardian_id IN (SELECT value FROM json_each($1)) AND ($2 = '' OR municipality_code = $2)"
        };
        let among = self.among(households);
        let rows: Vec<(String, String)> = fetch_all!(self, (String, String), sql, among, self.wall.code())?;
        rows.into_iter()
            .map(|(id, channel)| {
                id.parse().map(|id| (id, channel)).map_err(|_| StoreError::Corrupt { what: "guardian id" })
            })
            .collect()
    }

    /// Writes what may change of a household.
    pub async fn update_guardian(&mut self, row: &Guardian) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE guardian SET name = $2, name_kana = $3, sex = $4, birth_date = $5, postal_code = $6, address = $7,
                ward_code = $8, phone = $9, contact_channel = $10, suspended = $11 WHERE guardian_id = $1",
            row.guardian_id.to_string(),
            &row.name,
            &row.name_kana,
            row.sex.as_deref(),
            row.birth_date.map(|d| d.to_string()),
            &row.postal_code,
            &row.address,
            &row.ward_code,
            &row.phone,
            &row.contact_channel,
            row.suspended,
        )?;
        Ok(())
    }

    /// Suspends or resumes; `false` when it already stood so.
    pub async fn set_suspended(&mut self, id: GuardianId, suspended: bool) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE guardian SET suspended = $2 WHERE guardian_id = $1 AND suspended <> $2",
            id.to_string(),
            suspended,
        )?;
        Ok(n > 0)
    }

    /// Marks a household deleted.
    pub async fn delete_guardian(&mut self, id: GuardianId, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE guardian SET deleted_at_us = $2 WHERE guardian_id = $1",
            id.to_string(),
            now.as_micros()
        )?;
        Ok(())
    }

    /// Households of a municipality by number, name or kana, newest first; an empty `pattern` lists all.
    /// `pattern` is a LIKE pattern whose own wildcards are escaped with `\`.
    pub async fn find_guardians(
        &mut self,
        code: &MunicipalityCode,
        pattern: &str,
        n_max: i64,
    ) -> Result<Vec<Guardian>, StoreError> {
        let rows = fetch_all!(
            self,
            Guardian,
            select_guardian!(
                "WHERE municipality_code = $1 AND deleted_at_us IS NULL
                 AND (guardian_no LIKE $2 ESCAPE '\\' OR name LIKE $2 ESCAPE '\\' OR name_kana LIKE $2 ESCAPE '\\')
                 ORDER BY guardian_no DESC LIMIT $3"
            ),
            code.as_str(),
            pattern,
            n_max,
        )?;
        Ok(self.see_all(rows))
    }
}
