//! Definitions of coupons.

use jiff::civil::Date;
use todoke_domain::{MunicipalityCode, Timestamp, coupon::CouponTerms, ids::CouponSetId};

use crate::{StoreError, Tx, column::DateText};

/// A coupon set as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    coupon_set_id: CouponSetId,
    #[sqlx(try_from = "String")]
    municipality_code: MunicipalityCode,
    title: String,
    terms: String,
    programmes: String,
    #[sqlx(try_from = "DateText")]
    valid_from: Date,
}

/// The definition of a coupon.
#[derive(Debug, Clone)]
pub struct CouponSet {
    /// Id.
    pub coupon_set_id: CouponSetId,
    /// The wall.
    pub municipality_code: MunicipalityCode,
    /// Name people see.
    pub title: String,
    /// Amount, cycle, expiry.
    pub terms: CouponTerms,
    /// Programmes it pays for.
    pub programmes: Vec<String>,
    /// First day on which applications may be approved into it.
    pub valid_from: Date,
}

impl TryFrom<Row> for CouponSet {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = |_| StoreError::Corrupt { what: "coupon set" };
        Ok(Self {
            coupon_set_id: row.coupon_set_id,
            municipality_code: row.municipality_code,
            title: row.title,
            terms: serde_json::from_str(&row.terms).map_err(corrupt)?,
            programmes: serde_json::from_str(&row.programmes).map_err(corrupt)?,
            valid_from: row.valid_from,
        })
    }
}

impl Tx {
    /// Adds a coupon set.
    pub async fn insert_coupon_set(&mut self, set: &CouponSet, now: Timestamp) -> Result<(), StoreError> {
        let text = |value: serde_json::Result<String>| value.map_err(|_| StoreError::Corrupt { what: "coupon set" });
        execute!(
            self,
            "INSERT INTO coupon_set (coupon_set_id, municipality_code, title, terms, programmes, valid_from, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            set.coupon_set_id.to_string(), set.municipality_code.as_str(), &set.title,
            text(serde_json::to_string(&set.terms))?, text(serde_json::to_string(&set.programmes))?,
            set.valid_from.to_string(), now.as_micros(),
        )?;
        Ok(())
    }

    /// One coupon set.
    pub async fn coupon_set(&mut self, id: CouponSetId) -> Result<Option<CouponSet>, StoreError> {
        let row: Option<Row> = fetch_optional!(
            self,
            Row,
            "SELECT coupon_set_id, municipality_code, title, terms, programmes, valid_from FROM coupon_set WHERE coupon_set_id = $1",
            id.to_string(),
        )?;
        let set = row.map(CouponSet::try_from).transpose()?;
        Ok(self.see(set))
    }

    /// Coupon sets of a municipality, newest first.
    pub async fn coupon_sets(&mut self, code: &MunicipalityCode) -> Result<Vec<CouponSet>, StoreError> {
        let rows: Vec<Row> = fetch_all!(
            self,
            Row,
            "SELECT coupon_set_id, municipality_code, title, terms, programmes, valid_from FROM coupon_set
             WHERE municipality_code = $1 ORDER BY valid_from DESC, coupon_set_id DESC",
            code.as_str(),
        )?;
        let sets = rows.into_iter().map(CouponSet::try_from).collect::<Result<_, _>>()?;
        Ok(self.see_all(sets))
    }
}
