//! Children and their codes on paper.

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{ChildId, GuardianId},
};

use crate::{
    StoreError, Tx,
    column::{DateText, OptionalDateText, OptionalText},
};

/// A registered child.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Child {
    /// Id.
    #[sqlx(try_from = "String")]
    pub child_id: ChildId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Household.
    #[sqlx(try_from = "String")]
    pub guardian_id: GuardianId,
    /// Number people see.
    pub child_no: String,
    /// Name.
    pub name: String,
    /// Name in kana.
    pub name_kana: String,
    /// `male`, `female` or `unknown`.
    pub sex: String,
    /// Birth date.
    #[sqlx(try_from = "DateText")]
    pub birth_date: Date,
    /// Resident this child was matched with.
    pub resident_no: Option<String>,
    /// Day of moving out, which may be ahead.
    #[sqlx(try_from = "OptionalDateText")]
    pub moved_out_on: Option<Date>,
    /// Pseudonym in the lake; `None` once forgotten.
    pub person_key: Option<i64>,
}

macro_rules! select_child {
    ($rest:literal) => {
        concat!(
            "SELECT child_id, municipality_code, guardian_id, child_no, name, name_kana, sex, birth_date, resident_no, ",
            "moved_out_on, person_key FROM child ", $rest
        )
    };
}

/// Condition of a statement: the child of this alias has neither died nor been taken out of the register.
macro_rules! child_stands {
    ($child:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM resident r WHERE r.municipality_code = ",
            $child,
            ".municipality_code AND r.resident_no = ",
            $child,
            ".resident_no AND r.movement_kind IN ('death', 'delete'))"
        )
    };
}
pub(crate) use child_stands;

/// Condition of a statement: the child of this alias lives in the municipality on the day of a parameter.
macro_rules! child_lives_here {
    ($child:literal, $day:literal) => {
        concat!(
            "(",
            $child,
            ".moved_out_on IS NULL OR ",
            $child,
            ".moved_out_on > ",
            $day,
            ") AND ",
            $crate::child::child_stands!($child)
        )
    };
}
pub(crate) use child_lives_here;

/// The child of a coupon.
pub(crate) const OF_COUPON: &str = select_child!("WHERE child_id = (SELECT child_id FROM coupon WHERE coupon_id = $1)");

/// A code on paper or in the app.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ChildQr {
    /// The token's text.
    pub token: String,
    /// Resident it was printed for.
    pub resident_no: Option<String>,
    /// Child it belongs to.
    #[sqlx(try_from = "OptionalText")]
    pub child_id: Option<ChildId>,
}

impl Tx {
    /// Adds a child.
    pub async fn insert_child(&mut self, row: &Child, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO child (child_id, municipality_code, guardian_id, child_no, name, name_kana, sex, birth_date,
                resident_no, moved_out_on, person_key, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            row.child_id.to_string(),
            row.municipality_code.as_str(),
            row.guardian_id.to_string(),
            &row.child_no,
            &row.name,
            &row.name_kana,
            &row.sex,
            row.birth_date.to_string(),
            row.resident_no.as_deref(),
            row.moved_out_on.map(|d| d.to_string()),
            row.person_key,
            now.as_micros(),
        )?;
        Ok(())
    }

    /// One child.
    pub async fn child(&mut self, id: ChildId) -> Result<Option<Child>, StoreError> {
        let row = fetch_optional!(self, Child, select_child!("WHERE child_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Children of a household, eldest first.
    pub async fn children_of(&mut self, guardian: GuardianId) -> Result<Vec<Child>, StoreError> {
        let rows = fetch_all!(
            self,
            Child,
            select_child!("WHERE guardian_id = $1 ORDER BY birth_date, child_id"),
            guardian.to_string()
        )?;
        Ok(self.see_all(rows))
    }

    /// The child linked to a resident.
    pub async fn child_of_resident(
        &mut self,
        code: &MunicipalityCode,
        resident_no: &str,
    ) -> Result<Option<Child>, StoreError> {
        let row = fetch_optional!(
            self,
            Child,
            select_child!("WHERE municipality_code = $1 AND resident_no = $2"),
            code.as_str(),
            resident_no,
        )?;
        Ok(self.see(row))
    }

    /// The child with this number.
    pub async fn child_by_no(&mut self, code: &MunicipalityCode, child_no: &str) -> Result<Option<Child>, StoreError> {
        let row = fetch_optional!(
            self,
            Child,
            select_child!("WHERE municipality_code = $1 AND child_no = $2"),
            code.as_str(),
            child_no,
        )?;
        Ok(self.see(row))
    }

    /// Locks a child for the rest of the transaction and reads it.
    pub async fn lock_child(&mut self, id: ChildId) -> Result<Option<Child>, StoreError> {
        execute!(self, "UPDATE child SET name = name WHERE child_id = $1", id.to_string())?;
        self.child(id).await
    }

    /// Writes what may change of a child.
    pub async fn update_child(&mut self, row: &Child) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE child SET name = $2, name_kana = $3, sex = $4, birth_date = $5, resident_no = $6, moved_out_on = $7 WHERE child_id = $1",
            row.child_id.to_string(),
            &row.name,
            &row.name_kana,
            &row.sex,
            row.birth_date.to_string(),
            row.resident_no.as_deref(),
            row.moved_out_on.map(|d| d.to_string()),
        )?;
        Ok(())
    }

    /// Issues a code.
    pub async fn insert_child_qr(
        &mut self,
        code: &MunicipalityCode,
        row: &ChildQr,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO child_qr (token, municipality_code, resident_no, child_id, issued_at_us) VALUES ($1, $2, $3, $4, $5)",
            &row.token,
            code.as_str(),
            row.resident_no.as_deref(),
            row.child_id.map(|id| id.to_string()),
            now.as_micros(),
        )?;
        Ok(())
    }

    /// A valid code of the municipality; voided ones are not found.
    pub async fn child_qr(&mut self, code: &MunicipalityCode, token: &str) -> Result<Option<ChildQr>, StoreError> {
        fetch_optional!(
            self,
            ChildQr,
            "SELECT token, resident_no, child_id FROM child_qr WHERE token = $2 AND municipality_code = $1 AND voided_at_us IS NULL",
            self.wall.inside(code),
            token,
        )
    }

    /// The newest valid code of a child.
    pub async fn qr_of_child(&mut self, child: ChildId) -> Result<Option<ChildQr>, StoreError> {
        fetch_optional!(
            self, ChildQr,
            "SELECT token, resident_no, child_id FROM child_qr
             WHERE child_id = $1 AND voided_at_us IS NULL AND ($2 = '' OR municipality_code = $2) ORDER BY issued_at_us DESC LIMIT 1",
            child.to_string(), self.wall.code(),
        )
    }

    /// The newest valid code printed for a resident.
    pub async fn qr_of_resident(
        &mut self,
        code: &MunicipalityCode,
        resident_no: &str,
    ) -> Result<Option<ChildQr>, StoreError> {
        fetch_optional!(
            self,
            ChildQr,
            "SELECT token, resident_no, child_id FROM child_qr WHERE municipality_code = $1 AND resident_no = $2 AND voided_at_us IS NULL ORDER BY issued_at_us DESC LIMIT 1",
            self.wall.inside(code),
            resident_no,
        )
    }

    /// Gives the codes printed for a resident to the child that turned out to be it.
    pub async fn adopt_qr(
        &mut self,
        code: &MunicipalityCode,
        resident_no: &str,
        child: ChildId,
    ) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE child_qr SET child_id = $3 WHERE municipality_code = $1 AND resident_no = $2 AND voided_at_us IS NULL",
            self.wall.inside(code),
            resident_no,
            child.to_string(),
        )?;
        Ok(())
    }

    /// Voids every code of a child.
    pub async fn void_qr_of_child(&mut self, child: ChildId, now: Timestamp) -> Result<u64, StoreError> {
        execute!(
            self,
            "UPDATE child_qr SET voided_at_us = $2 WHERE child_id = $1 AND voided_at_us IS NULL",
            child.to_string(),
            now.as_micros(),
        )
    }
}
