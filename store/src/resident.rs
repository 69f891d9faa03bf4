//! What the city's registers say: residents, who belongs to a child's household, and which facilities
//! children used (I01, I02, I03). Imported, never edited here.

use jiff::civil::Date;
use todoke_domain::MunicipalityCode;

use crate::{StoreError, Tx, child::Child, column::DateText};

/// A resident as of the newest movement.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Resident {
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Number in the register.
    pub resident_no: String,
    /// Name.
    pub name: String,
    /// Name in kana, as delivered.
    pub name_kana: String,
    /// Name in kana, in the normal form of identity matching.
    pub name_kana_normal: String,
    /// `male`, `female` or `unknown`.
    pub sex: String,
    /// Birth date.
    #[sqlx(try_from = "DateText")]
    pub birth_date: Date,
    /// Household in the register.
    pub household_no: String,
    /// Postal code.
    pub postal_code: String,
    /// Address.
    pub address: String,
    /// Newest movement: `birth`, `move_in`, `move_out`, `change`, `death` or `delete`.
    pub movement_kind: String,
    /// Day of the newest movement.
    #[sqlx(try_from = "DateText")]
    pub movement_date: Date,
    /// How the person came: `birth`, `move_in`, or `change` where the register had them before.
    pub arrived_by: String,
}

impl Resident {
    /// Lives here no longer, or never did.
    pub fn is_gone(&self) -> bool {
        matches!(self.movement_kind.as_str(), "move_out" | "death" | "delete")
    }

    /// Died, or was taken out of the register: nobody is told anything for the sake of this person any more.
    pub fn is_struck_off(&self) -> bool {
        matches!(self.movement_kind.as_str(), "death" | "delete")
    }

    /// Taken out of the register at the source.
    pub fn is_deleted(&self) -> bool {
        self.movement_kind == "delete"
    }
}

macro_rules! select_resident {
    ($rest:literal) => {
        concat!(
            "SELECT r.municipality_code, r.resident_no, r.name, r.name_kana, r.name_kana_normal, r.sex, r.birth_date, r.household_no, ",
            "r.postal_code, r.address, r.movement_kind, r.movement_date, r.arrived_by FROM resident r ", $rest
        )
    };
}
pub(crate) use select_resident;

/// Somebody in a child's household relation (関係者).
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct HouseholdRelation {
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// The child.
    pub resident_no: String,
    /// The relative.
    pub relation_resident_no: String,
    /// The relative's name in kana, in the normal form of identity matching.
    pub name_kana_normal: String,
    /// The relative's birth date.
    #[sqlx(try_from = "DateText")]
    pub birth_date: Date,
    /// Such as `father`; free code of the register.
    pub relation_kind: String,
}

/// A child's use of a facility as the welfare system knows it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct FacilityUsage {
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// The child.
    pub resident_no: String,
    /// Number of the facility.
    pub facility_no: String,
    /// Programme.
    pub programme_code: String,
    /// First day.
    #[sqlx(try_from = "DateText")]
    pub used_from: Date,
    /// Last day.
    #[sqlx(try_from = "DateText")]
    pub used_to: Date,
}

impl Tx {
    /// Writes residents as they stand now; known ones are replaced. No resident may occur twice in `rows`.
    pub async fn upsert_residents(&mut self, rows: &[Resident]) -> Result<u64, StoreError> {
        insert_many!(
            self,
            "INSERT INTO resident (municipality_code, resident_no, name, name_kana, name_kana_normal, sex, birth_date,
                household_no, postal_code, address, movement_kind, movement_date, arrived_by) ",
            rows,
            " ON CONFLICT (municipality_code, resident_no) DO UPDATE SET name = excluded.name, name_kana = excluded.name_kana,
                name_kana_normal = excluded.name_kana_normal, sex = excluded.sex, birth_date = excluded.birth_date,
                household_no = excluded.household_no, postal_code = excluded.postal_code, address = excluded.address,
                movement_kind = excluded.movement_kind, movement_date = excluded.movement_date, arrived_by = excluded.arrived_by",
            |row| row.municipality_code.as_str().to_owned(), row.resident_no.clone(), row.name.clone(), row.name_kana.clone(),
            row.name_kana_normal.clone(), row.sex.clone(), row.birth_date.to_string(), row.household_no.clone(),
            row.postal_code.clone(), row.address.clone(), row.movement_kind.clone(), row.movement_date.to_string(),
            row.arrived_by.clone(),
        )
    }

    /// One resident.
    pub async fn resident(
        &mut self,
        code: &MunicipalityCode,
        resident_no: &str,
    ) -> Result<Option<Resident>, StoreError> {
        let row = fetch_optional!(
            self,
            Resident,
            select_resident!("WHERE r.municipality_code = $1 AND r.resident_no = $2"),
            code.as_str(),
            resident_no,
        )?;
        Ok(self.see(row))
    }

    /// Everybody who was born on a day, the deleted ones too: the candidates of identity matching.
    pub async fn residents_born_on(&mut self, code: &MunicipalityCode, day: Date) -> Result<Vec<Resident>, StoreError> {
        let rows = fetch_all!(
            self,
            Resident,
            select_resident!("WHERE r.municipality_code = $1 AND r.birth_date = $2 ORDER BY r.resident_no"),
            code.as_str(),
            day.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// All residents of a municipality: what a file of movements is compared with.
    pub async fn residents(&mut self, code: &MunicipalityCode) -> Result<Vec<Resident>, StoreError> {
        let rows = fetch_all!(
            self,
            Resident,
            select_resident!("WHERE r.municipality_code = $1 ORDER BY r.resident_no"),
            code.as_str(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Number of households with somebody living here who was born on or after `born_from`.
    pub async fn households_with_child(&mut self, code: &MunicipalityCode, born_from: Date) -> Result<i64, StoreError> {
        let (n,): (i64,) = fetch_one!(
            self,
            (i64,),
            "SELECT COUNT(DISTINCT household_no) FROM resident WHERE municipality_code = $1 AND birth_date >= $2
             AND movement_kind NOT IN ('move_out', 'death', 'delete')",
            self.wall.inside(code),
            born_from.to_string(),
        )?;
        Ok(n)
    }

    /// Replaces the relations of every child that occurs in `rows`; other children keep theirs.
    pub async fn replace_relations(&mut self, rows: &[HouseholdRelation]) -> Result<u64, StoreError> {
        let mut children: Vec<(&MunicipalityCode, &str)> =
            rows.iter().map(|row| (&row.municipality_code, row.resident_no.as_str())).collect();
        children.sort_unstable();
        children.dedup();
        for (code, resident_no) in children {
            execute!(
                self,
                "DELETE FROM household_relation WHERE municipality_code = $1 AND resident_no = $2",
                self.wall.inside(code),
                resident_no,
            )?;
        }
        insert_many!(
            self,
            "INSERT INTO household_relation (municipality_code, resident_no, relation_resident_no, name_kana_normal, birth_date, relation_kind) ",
            rows,
            "",
            |row| row.municipality_code.as_str().to_owned(),
            row.resident_no.clone(),
            row.relation_resident_no.clone(),
            row.name_kana_normal.clone(),
            row.birth_date.to_string(),
            row.relation_kind.clone(),
        )
    }

    /// A child's household relation.
    pub async fn relations_of(
        &mut self,
        code: &MunicipalityCode,
        resident_no: &str,
    ) -> Result<Vec<HouseholdRelation>, StoreError> {
        let rows =
            fetch_all!(
            self, HouseholdRelation,
            "SELECT municipality_code, resident_no, relation_resident_no, name_kana_normal, birth_date, relation_kind
             FROM household_relation WHERE municipality_code = $1 AND resident_no = $2 ORDER BY relation_resident_no",
            code.as_str(), resident_no,
        )?;
        Ok(self.see_all(rows))
    }

    /// Whether a person occurs in a child's household relation (flows.md, Part J rule 7).
    pub async fn household_has(
        &mut self,
        code: &MunicipalityCode,
        resident_no: &str,
        name_kana_normal: &str,
        birth_date: Date,
    ) -> Result<bool, StoreError> {
        let relations = self.relations_of(code, resident_no).await?;
        Ok(relations
            .iter()
            .any(|relation| relation.name_kana_normal == name_kana_normal && relation.birth_date == birth_date))
    }

    /// Writes uses of facilities; known ones get the new last day. No key may occur twice in `rows`.
    pub async fn upsert_facility_usage(&mut self, rows: &[FacilityUsage]) -> Result<u64, StoreError> {
        insert_many!(
            self,
            "INSERT INTO facility_usage (municipality_code, resident_no, facility_no, programme_code, used_from, used_to) ",
            rows,
            " ON CONFLICT (municipality_code, resident_no, facility_no, programme_code, used_from) DO UPDATE SET used_to = excluded.used_to",
            |row| row.municipality_code.as_str().to_owned(),
            row.resident_no.clone(),
            row.facility_no.clone(),
            row.programme_code.clone(),
            row.used_from.to_string(),
            row.used_to.to_string(),
        )
    }

    /// A child's uses of facilities, newest first.
    pub async fn facility_usage_of(
        &mut self,
        code: &MunicipalityCode,
        resident_no: &str,
    ) -> Result<Vec<FacilityUsage>, StoreError> {
        let rows =
            fetch_all!(
            self, FacilityUsage,
            "SELECT municipality_code, resident_no, facility_no, programme_code, used_from, used_to FROM facility_usage
             WHERE municipality_code = $1 AND resident_no = $2 ORDER BY used_from DESC",
            code.as_str(), resident_no,
        )?;
        Ok(self.see_all(rows))
    }
}

impl Tx {
    /// The registered children that are linked to residents.
    pub async fn linked_children(&mut self, code: &MunicipalityCode) -> Result<Vec<Child>, StoreError> {
        let rows = fetch_all!(
            self, Child,
            "SELECT child_id, municipality_code, guardian_id, child_no, name, name_kana, sex, birth_date, resident_no, moved_out_on, person_key
             FROM child WHERE municipality_code = $1 AND resident_no IS NOT NULL",
            code.as_str(),
        )?;
        Ok(self.see_all(rows))
    }
}
