//! Facilities and the programmes they give.

use todoke_domain::{MunicipalityCode, Timestamp, ids::FacilityId};

use crate::{StoreError, Tx};

/// A facility.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Facility {
    /// Id.
    #[sqlx(try_from = "String")]
    pub facility_id: FacilityId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Number given by the municipality.
    pub facility_no: String,
    /// Name.
    pub name: String,
    /// Ward.
    pub ward_code: String,
    /// Address.
    pub address: String,
    /// Phone.
    pub phone: String,
    /// Shown to guardians.
    pub is_public: bool,
    /// Token of the coupon QR.
    pub coupon_qr: String,
}

macro_rules! select_facility {
    ($rest:literal) => {
        concat!(
            "SELECT f.facility_id, f.municipality_code, f.facility_no, f.name, f.ward_code, f.address, f.phone, f.is_public, f.coupon_qr FROM facility f ",
            $rest
        )
    };
}

impl Tx {
    /// Adds a facility with its programmes.
    pub async fn insert_facility(
        &mut self,
        row: &Facility,
        programmes: &[String],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO facility (facility_id, municipality_code, facility_no, name, ward_code, address, phone, is_public, coupon_qr, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            row.facility_id.to_string(), row.municipality_code.as_str(), &row.facility_no, &row.name, &row.ward_code,
            &row.address, &row.phone, row.is_public, &row.coupon_qr, now.as_micros(),
        )?;
        for programme in programmes {
            execute!(
                self,
                "INSERT INTO facility_programme (facility_id, programme_code) VALUES ($1, $2)",
                row.facility_id.to_string(),
                programme,
            )?;
        }
        Ok(())
    }

    /// One facility.
    pub async fn facility(&mut self, id: FacilityId) -> Result<Option<Facility>, StoreError> {
        let row = fetch_optional!(self, Facility, select_facility!("WHERE f.facility_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// The facility whose coupon QR this is.
    pub async fn facility_by_qr(&mut self, token: &str) -> Result<Option<Facility>, StoreError> {
        let row = fetch_optional!(self, Facility, select_facility!("WHERE f.coupon_qr = $1"), token)?;
        Ok(self.see(row))
    }

    /// Facilities of a municipality, by number.
    pub async fn facilities(&mut self, code: &MunicipalityCode) -> Result<Vec<Facility>, StoreError> {
        let rows = fetch_all!(
            self,
            Facility,
            select_facility!("WHERE f.municipality_code = $1 ORDER BY f.facility_no"),
            code.as_str()
        )?;
        Ok(self.see_all(rows))
    }

    /// Programmes of one facility.
    pub async fn programmes_of(&mut self, id: FacilityId) -> Result<Vec<String>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self, (String,), "SELECT programme_code FROM facility_programme
             WHERE facility_id = $1 AND ($2 = '' OR EXISTS (SELECT 1 FROM facility WHERE facility_id = $1 AND municipality_code = $2))
             ORDER BY programme_code",
            id.to_string(), self.wall.code(),
        )?;
        Ok(rows.into_iter().map(|(code,)| code).collect())
    }

    /// Every pair of facility and programme of a municipality.
    pub async fn facility_programmes(&mut self, code: &MunicipalityCode) -> Result<Vec<(String, String)>, StoreError> {
        fetch_all!(
            self, (String, String),
            "SELECT p.facility_id, p.programme_code FROM facility_programme p JOIN facility f ON f.facility_id = p.facility_id
             WHERE f.municipality_code = $1 ORDER BY 1, 2",
            self.wall.inside(code),
        )
    }
}
