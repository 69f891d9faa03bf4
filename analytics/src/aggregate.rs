//! Figures for those who must never see rows: prefecture and state (N-SEC-10).
//!
//! A figure leaves only with the number of persons behind it, and as `*` when they are fewer than
//! [`PERSONS_MIN`]. So only figures are offered whose persons the report counts itself: the sum of fees, say,
//! may be one family's whatever the number of users.

use serde::Serialize;
use serde_json::Value;

use crate::{
    format::{
        cell::{Cell, Cells},
        json,
    },
    report::{ReportColumn, ReportId, ReportTable},
};

/// Fewest persons behind a figure that is shown (events.md §2).
pub const PERSONS_MIN: i64 = 5;

/// Reports that have figures for these readers.
pub const AGGREGATES: [ReportId; 3] = [ReportId::StatisticsSimple, ReportId::SurveyAggregate, ReportId::AppUsage];

/// A report with its small cells masked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Aggregate {
    /// The columns that are offered, in the order of the report.
    pub columns: Vec<ReportColumn>,
    /// A value for each column; `"*"` where too few persons are behind it.
    pub rows: Vec<Vec<Value>>,
}

/// A column that is offered.
enum Offered {
    /// It says what a line is about and holds nobody's value.
    Word,
    /// A figure, and the columns that count the persons it was made of.
    Figure(&'static [&'static str]),
}

/// Reads a table of figures as [`AGGREGATES`] are offered; a report that is not among them has no columns.
pub fn aggregate(table: &ReportTable) -> Aggregate {
    let kept: Vec<(usize, Offered)> = table
        .columns
        .iter()
        .enumerate()
        .filter_map(|(at, column)| Some((at, offered(table.report, &column.name)?)))
        .collect();
    let mut rows = Vec::new();
    for batch in &table.batches {
        let cells = Cells::new(batch);
        let cell = |row: usize, name: &str| {
            let at = table.columns.iter().position(|column| column.name == name);
            at.and_then(|at| cells.get(row, at).ok()).unwrap_or(Cell::Null)
        };
        for row in 0..batch.num_rows() {
            if is_one_persons(table.report, &cell(row, "item")) {
                continue;
            }
            let shown = |(at, offered): &(usize, Offered)| {
                let value = cells.get(row, *at).unwrap_or(Cell::Null);
                let is_small = |name: &str| !matches!(cell(row, name), Cell::Whole(n) if n >= i128::from(PERSONS_MIN));
                match offered {
                    Offered::Figure(persons) if value != Cell::Null && persons.iter().copied().any(is_small) => {
                        json::value_of(Cell::Masked)
                    }
                    Offered::Word | Offered::Figure(_) => json::value_of(value),
                }
            };
            rows.push(kept.iter().map(shown).collect());
        }
    }
    Aggregate { columns: kept.iter().map(|(at, _)| table.columns[*at].clone()).collect(), rows }
}

/// Lines of surveys whose value is what one person wrote, however many answered.
fn is_one_persons(report: ReportId, item: &Cell) -> bool {
    report == ReportId::SurveyAggregate
        && matches!(item, Cell::Text(item) if matches!(item.as_str(), "min" | "max" | "median"))
}

/// How a column of a report is offered; `None` keeps it back.
fn offered(report: ReportId, column: &str) -> Option<Offered> {
    use Offered::{Figure, Word};
    Some(match (report, column) {
        (ReportId::StatisticsSimple | ReportId::AppUsage, "month") => Word,
        (ReportId::StatisticsSimple, "coupon_registrations") => Figure(&["coupon_registrations"]),
        (ReportId::StatisticsSimple, "coupon_registrations_revoked") => Figure(&["coupon_registrations_revoked"]),
        (ReportId::StatisticsSimple, "coupon_guardians") => Figure(&["coupon_guardians"]),
        (ReportId::StatisticsSimple, "registered_end") => Figure(&["registered_end"]),
        (ReportId::StatisticsSimple, "users" | "service_uses" | "used_yen" | "used_units") => Figure(&["users"]),
        (ReportId::SurveyAggregate, "title" | "item" | "question_no" | "question" | "option_no" | "option") => Word,
        (ReportId::SurveyAggregate, "count" | "value") => Figure(&["count"]),
        (ReportId::SurveyAggregate, "share") => Figure(&["count", "base"]),
        (ReportId::SurveyAggregate, "base") => Figure(&["base"]),
        (ReportId::AppUsage, "dau") => Figure(&["dau"]),
        (ReportId::AppUsage, "wau") => Figure(&["wau"]),
        (ReportId::AppUsage, "mau" | "stickiness" | "time_per_user_min") => Figure(&["mau"]),
        (
            ReportId::AppUsage,
            "active_users" | "dau_mean" | "sessions" | "avg_session_sec" | "screen_views" | "views_per_session",
        ) => Figure(&["active_users"]),
        (ReportId::AppUsage, "cohort_users") => Figure(&["cohort_users"]),
        (ReportId::AppUsage, "retained_users_d1" | "retention_d1") => Figure(&["retained_users_d1", "cohort_d1"]),
        (ReportId::AppUsage, "retained_users_d7" | "retention_d7") => Figure(&["retained_users_d7", "cohort_d7"]),
        (ReportId::AppUsage, "retained_users_d30" | "retention_d30") => Figure(&["retained_users_d30", "cohort_d30"]),
        (ReportId::AppUsage, "registered") => Figure(&["registered"]),
        (ReportId::AppUsage, "consenting" | "coverage") => Figure(&["consenting"]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Int64Array, RecordBatch, StringArray},
        datatypes::Schema,
    };
    use jiff::civil::date;
    use serde_json::json;
    use todoke_domain::Timestamp;

    use super::*;
    use crate::report::Provenance;

    fn table(report: ReportId, columns: Vec<(&str, ArrayRef)>) -> ReportTable {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, values)| (name, values, true)).collect::<Vec<_>>(),
        )
        .unwrap();
        let schema: Arc<Schema> = batch.schema();
        let provenance = Provenance {
            period_from: date(2026, 6, 1),
            period_to: date(2026, 6, 30),
            snapshot_id: "1".to_owned(),
            created_at: Timestamp::from_micros(0),
            watermark: None,
        };
        ReportTable {
            report,
            title: report.title().to_owned(),
            file_stem: "figures".to_owned(),
            columns: schema.fields().iter().map(|field| ReportColumn::named(field.name())).collect(),
            schema,
            batches: vec![batch],
            provenance,
        }
    }

    fn whole(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn words(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn a_figure_of_fewer_than_five_persons_is_a_star_and_so_is_what_they_did() {
        let made = aggregate(&table(
            ReportId::StatisticsSimple,
            vec![
                ("month", words(&["2026-06", "2026-07"])),
                ("registered_end", whole(&[Some(9), None])),
                ("used_yen", whole(&[Some(12_000), Some(9_000)])),
                ("of_which_cancel_fee_yen", whole(&[Some(500), Some(0)])),
                ("users", whole(&[Some(4), Some(5)])),
                ("snapshot_id", words(&["1", "1"])),
            ],
        ));
        let names: Vec<&str> = made.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["month", "registered_end", "used_yen", "users"], "nothing whose persons are not counted");
        assert_eq!(made.rows[0], [json!("2026-06"), json!(9), json!("*"), json!("*")]);
        assert_eq!(
            made.rows[1],
            [json!("2026-07"), json!(null), json!(9_000), json!(5)],
            "what does not exist is empty"
        );
    }

    #[test]
    fn a_survey_shows_neither_small_groups_nor_what_one_person_wrote() {
        let made = aggregate(&table(
            ReportId::SurveyAggregate,
            vec![
                ("survey_id", words(&["s", "s", "s"])),
                ("item", words(&["option", "option", "max"])),
                ("count", whole(&[Some(8), Some(2), Some(10)])),
                ("share", whole(&[Some(80), Some(20), None])),
                ("base", whole(&[Some(10), Some(10), None])),
                ("value", whole(&[None, None, Some(99)])),
            ],
        ));
        let names: Vec<&str> = made.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["item", "count", "share", "base", "value"]);
        assert_eq!(
            made.rows,
            [
                vec![json!("option"), json!(8), json!(80), json!(10), json!(null)],
                vec![json!("option"), json!("*"), json!("*"), json!(10), json!(null)],
            ]
        );
    }

    #[test]
    fn other_reports_offer_nothing() {
        for report in ReportId::ALL.into_iter().filter(|report| !AGGREGATES.contains(report)) {
            let made = aggregate(&table(report, vec![("month", words(&["2026-06"])), ("actors", whole(&[Some(40)]))]));
            assert!(made.columns.is_empty(), "{report}: {made:?}");
        }
    }
}
