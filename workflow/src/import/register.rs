//! I02 施設利用実績情報 and I03 関係者情報: kept as delivered.

use std::collections::{HashMap, HashSet};

use todoke_domain::{MunicipalityCode, matching::normal_kana};
use todoke_store::resident::{FacilityUsage, HouseholdRelation};

use super::table::{Column, Findings, Table};

const RESIDENT_NO: Column = Column::new("resident_no", "住民番号");
const FACILITY_NO: Column = Column::new("facility_no", "施設番号");
const PROGRAMME: Column = Column::new("programme", "事業");
const FROM: Column = Column::new("from", "利用開始日");
const TO: Column = Column::new("to", "利用終了日");

/// Columns of I02.
pub(super) const USAGE_COLUMNS: &[Column] = &[RESIDENT_NO, FACILITY_NO, PROGRAMME, FROM, TO];

const RELATION_RESIDENT_NO: Column = Column::new("relation_resident_no", "関係者住民番号");
const RELATION_NAME_KANA: Column = Column::new("relation_name_kana", "関係者氏名カナ");
const RELATION_BIRTH_DATE: Column = Column::new("relation_birth_date", "関係者生年月日");
const RELATION_KIND: Column = Column::new("relation_kind", "続柄");

/// Columns of I03.
pub(super) const RELATION_COLUMNS: &[Column] =
    &[RESIDENT_NO, RELATION_RESIDENT_NO, RELATION_NAME_KANA, RELATION_BIRTH_DATE, RELATION_KIND];

/// Reads I02. `programmes` are those the municipality runs.
pub(super) fn parse_usage(
    table: &Table,
    code: &MunicipalityCode,
    programmes: &HashSet<String>,
    findings: &mut Findings,
) -> Vec<FacilityUsage> {
    let mut usage = Vec::with_capacity(table.n_rows());
    let mut seen = HashMap::new();
    for row in table.rows(findings) {
        let resident_no = row.code(RESIDENT_NO, findings);
        let facility_no = row.code(FACILITY_NO, findings);
        let programme_code = row.code(PROGRAMME, findings);
        if programme_code.as_ref().is_some_and(|programme| !programmes.contains(programme)) {
            findings.error(row.number, PROGRAMME.name, "登録されていない事業です。");
        }
        let (from, to) = (row.day(FROM, findings), row.day(TO, findings));
        let (Some(resident_no), Some(facility_no), Some(programme_code), Some(used_from), Some(used_to)) =
            (resident_no, facility_no, programme_code, from, to)
        else {
            continue;
        };
        if used_to < used_from {
            findings.error(row.number, TO.name, "利用終了日が利用開始日より前です。");
            continue;
        }
        let key = (resident_no.clone(), facility_no.clone(), programme_code.clone(), used_from);
        match seen.insert(key, row.number) {
            Some(first) => findings.error(row.number, "", format!("{first}行目と同じ利用実績です。")),
            None => usage.push(FacilityUsage {
                municipality_code: code.clone(),
                resident_no,
                facility_no,
                programme_code,
                used_from,
                used_to,
            }),
        }
    }
    usage
}

/// Reads I03.
pub(super) fn parse_relations(
    table: &Table,
    code: &MunicipalityCode,
    findings: &mut Findings,
) -> Vec<HouseholdRelation> {
    let mut relations = Vec::with_capacity(table.n_rows());
    let mut seen = HashMap::new();
    for row in table.rows(findings) {
        let resident_no = row.code(RESIDENT_NO, findings);
        let relation_resident_no = row.code(RELATION_RESIDENT_NO, findings);
        let name_kana = row.kana(RELATION_NAME_KANA, findings);
        let birth_date = row.day(RELATION_BIRTH_DATE, findings);
        let relation_kind = row.text(RELATION_KIND, 40, findings);
        let (Some(resident_no), Some(relation_resident_no), Some(name_kana), Some(birth_date), Some(relation_kind)) =
            (resident_no, relation_resident_no, name_kana, birth_date, relation_kind)
        else {
            continue;
        };
        match seen.insert((resident_no.clone(), relation_resident_no.clone()), row.number) {
            Some(first) => {
                findings.error(row.number, RELATION_RESIDENT_NO.name, format!("{first}行目と同じ関係者です。"))
            }
            None => relations.push(HouseholdRelation {
                municipality_code: code.clone(),
                resident_no,
                relation_resident_no,
                name_kana_normal: normal_kana(&name_kana),
                birth_date,
                relation_kind,
            }),
        }
    }
    relations
}
