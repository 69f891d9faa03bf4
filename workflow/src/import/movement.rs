//! I01 異動情報: who was born, moved, died. It moves residents, and with them linked children, the expiry
//! of their coupons and their invitations.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;
use todoke_domain::{
    MunicipalityCode,
    matching::normal_kana,
    parameter::SOLICIT_AGE_MAX_YEARS,
    time::{add_days, add_months},
};
use todoke_store::{child::Child, resident::Resident};

use super::table::{Column, Findings, Row, Table};
use crate::{Work, WorkflowError, work::Subject};

const RESIDENT_NO: Column = Column::new("resident_no", "住民番号");
const NAME_KANA: Column = Column::new("name_kana", "氏名カナ");
const NAME: Column = Column::new("name", "氏名");
const SEX: Column = Column::new("sex", "性別");
const BIRTH_DATE: Column = Column::new("birth_date", "生年月日");
const HOUSEHOLD_NO: Column = Column::new("household_no", "世帯番号");
const MOVEMENT_KIND: Column = Column::new("movement_kind", "異動区分");
const MOVEMENT_DATE: Column = Column::new("movement_date", "異動日");
const POSTAL_CODE: Column = Column::new("postal_code", "郵便番号");
const ADDRESS: Column = Column::new("address", "住所");

/// Columns of the file.
pub(super) const COLUMNS: &[Column] =
    &[RESIDENT_NO, NAME_KANA, NAME, SEX, BIRTH_DATE, HOUSEHOLD_NO, MOVEMENT_KIND, MOVEMENT_DATE, POSTAL_CODE, ADDRESS];

const KINDS: [&str; 6] = ["birth", "move_in", "move_out", "change", "death", "delete"];

/// A movement with the row it came from. `arrived_by` is not known yet.
type Movement = (usize, Resident);

/// Reads the rows; movements of one resident come out in the order in which they happened.
pub(super) fn parse(
    table: &Table,
    code: &MunicipalityCode,
    today: jiff::civil::Date,
    findings: &mut Findings,
) -> Vec<Movement> {
    let mut movements: Vec<Movement> = Vec::with_capacity(table.n_rows());
    let mut seen = HashMap::new();
    for row in table.rows(findings) {
        let Some(resident) = parse_row(&row, code, today, findings) else { continue };
        let key = (resident.resident_no.clone(), resident.movement_kind.clone(), resident.movement_date);
        match seen.insert(key, row.number) {
            Some(first) => findings.error(row.number, RESIDENT_NO.name, format!("{first}行目と同じ異動です。")),
            None => movements.push((row.number, resident)),
        }
    }
    movements.sort_by_key(|(number, resident)| (resident.movement_date, *number));
    movements
}

fn parse_row(
    row: &Row<'_>,
    code: &MunicipalityCode,
    today: jiff::civil::Date,
    findings: &mut Findings,
) -> Option<Resident> {
    let resident_no = row.code(RESIDENT_NO, findings);
    let name_kana = row.kana(NAME_KANA, findings);
    let name = row.text(NAME, 100, findings);
    let sex = row.one_of(SEX, &["male", "female", "unknown"], findings);
    let birth_date = row.day(BIRTH_DATE, findings);
    let household_no = row.code(HOUSEHOLD_NO, findings);
    let kind = row.one_of(MOVEMENT_KIND, &KINDS, findings);
    let movement_date = row.day(MOVEMENT_DATE, findings);
    // Nobody writes to people who are gone, and the register often empties the address of those.
    let gone = matches!(kind, Some("move_out" | "death" | "delete"));
    let postal_code = if gone { Some(row.cell(POSTAL_CODE).to_owned()) } else { postal_code(row, findings) };
    let address = if gone { Some(row.cell(ADDRESS).to_owned()) } else { row.text(ADDRESS, 200, findings) };
    if birth_date.is_some_and(|day| day > today) {
        findings.error(row.number, BIRTH_DATE.name, "生年月日が未来の日付です。");
        return None;
    }
    if let (Some(born), Some(moved)) = (birth_date, movement_date)
        && moved < born
    {
        findings.error(row.number, MOVEMENT_DATE.name, "異動日が生年月日より前です。");
        return None;
    }
    let name_kana = name_kana?;
    Some(Resident {
        municipality_code: code.clone(),
        resident_no: resident_no?,
        name: name?,
        name_kana_normal: normal_kana(&name_kana),
        name_kana,
        sex: sex?.to_owned(),
        birth_date: birth_date?,
        household_no: household_no?,
        postal_code: postal_code?,
        address: address?,
        movement_kind: kind?.to_owned(),
        movement_date: movement_date?,
        arrived_by: String::new(),
    })
}

fn postal_code(row: &Row<'_>, findings: &mut Findings) -> Option<String> {
    let digits: String = row.cell(POSTAL_CODE).chars().filter(|c| *c != '-').collect();
    let fits = digits.len() == 7 && digits.bytes().all(|b| b.is_ascii_digit());
    if !fits {
        findings.error(row.number, POSTAL_CODE.name, "郵便番号を7桁の数字で入力してください。");
    }
    fits.then(|| format!("{}-{}", &digits[..3], &digits[3..]))
}

/// The residents that change, each as it stands after its last movement. A movement older than what is
/// known changes nothing: files of two months may come in either order.
fn changes(
    known: &HashMap<String, Resident>,
    movements: Vec<Movement>,
    findings: &mut Findings,
) -> BTreeMap<String, Resident> {
    let mut changed: BTreeMap<String, Resident> = BTreeMap::new();
    for (row, mut next) in movements {
        let before = changed.get(&next.resident_no).or_else(|| known.get(&next.resident_no));
        if before.is_some_and(|before| before.movement_date > next.movement_date) {
            findings.remark(row, MOVEMENT_DATE.name, "取込み済みの異動より古いため、反映しませんでした。");
            continue;
        }
        next.arrived_by = match (next.movement_kind.as_str(), before) {
            ("birth" | "move_in", _) => next.movement_kind.clone(),
            (_, Some(before)) => before.arrived_by.clone(),
            (_, None) => "change".to_owned(),
        };
        changed.insert(next.resident_no.clone(), next);
    }
    changed.retain(|resident_no, next| known.get(resident_no) != Some(next));
    changed
}

impl Work<'_> {
    /// Applies a file of movements. Gives the number of households with a child of the age that is invited.
    pub(super) async fn apply_movements(
        &mut self,
        movements: Vec<Movement>,
        findings: &mut Findings,
    ) -> Result<i64, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let known: HashMap<String, Resident> = self
            .tx
            .residents(&code)
            .await?
            .into_iter()
            .map(|resident| (resident.resident_no.clone(), resident))
            .collect();
        let changed: Vec<Resident> = changes(&known, movements, findings).into_values().collect();
        self.tx.upsert_residents(&changed).await?;
        let mut children: HashMap<String, Child> = self
            .tx
            .linked_children(&code)
            .await?
            .into_iter()
            .filter_map(|child| Some((child.resident_no.clone()?, child)))
            .collect();
        for resident in &changed {
            if let Some(child) = children.remove(&resident.resident_no) {
                self.move_child(child, resident).await?;
            }
            if resident.is_gone() && known.contains_key(&resident.resident_no) {
                self.close_solicitation_out_of_target(&resident.resident_no).await?;
            }
        }
        let age_max = self.tx.parameter_number(&code, SOLICIT_AGE_MAX_YEARS, self.now.jst_date()).await?;
        Ok(self.tx.households_with_child(&code, born_from(self.now.jst_date(), age_max)).await?)
    }

    /// A linked child follows its resident: out, or back in. The coupon's expiry follows the child (MR4).
    async fn move_child(&mut self, mut child: Child, resident: &Resident) -> Result<(), WorkflowError> {
        let moved_out_on = match resident.movement_kind.as_str() {
            "move_out" => Some(resident.movement_date),
            // The register's death and deletion are no move; a child that is back here lives here.
            "death" | "delete" => child.moved_out_on,
            _ => None,
        };
        if moved_out_on == child.moved_out_on {
            return Ok(());
        }
        child.moved_out_on = moved_out_on;
        self.tx.update_child(&child).await?;
        let guardian = self.tx.guardian(child.guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        // Without a key the child has been forgotten: nothing about it may enter the lake again.
        if let Some(key) = child.person_key {
            let event_type = if moved_out_on.is_some() { "child.moved_out" } else { "child.moved_in" };
            self.event(
                event_type,
                Subject::new("child", key),
                json!({
                    "child_key": key,
                    "movement_date": resident.movement_date.to_string(),
                    "ward_code": guardian.ward_code,
                }),
            );
        }
        self.recompute_expiry(child.child_id).await
    }
}

/// First birth date of those who are at most `age_max` years old on `today`.
pub(crate) fn born_from(today: jiff::civil::Date, age_max: i64) -> jiff::civil::Date {
    let months = i32::try_from(age_max.saturating_add(1).saturating_mul(12)).unwrap_or(i32::MAX);
    add_days(add_months(today, -months), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use todoke_domain::time::age_years;

    #[test]
    fn the_age_limit_agrees_with_ages_also_in_leap_years() {
        for today in [
            date(2026, 11, 21),
            date(2027, 2, 28),
            date(2027, 3, 1),
            date(2028, 2, 28),
            date(2028, 2, 29),
            date(2028, 3, 1),
        ] {
            let from = born_from(today, 2);
            for day in -3..=3 {
                let birth = add_days(from, day);
                assert_eq!(birth >= from, age_years(birth, today) <= 2, "born {birth}, today {today}");
            }
        }
    }
}
