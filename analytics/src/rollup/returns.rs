//! Who came for the first time in a period, and came back.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use jiff::{ToSpan, civil::Date};
use roaring::RoaringBitmap;

use super::{
    day::Client,
    tables::{Tables, batch, client_columns, n_of, numbers, texts},
};
use crate::error::ReportError;

/// Returns exactly so many days later, with their columns.
const DAYS: [(i64, &str, &str); 3] =
    [(1, "base_d1", "kept_d1"), (7, "base_d7", "kept_d7"), (30, "base_d30", "kept_d30")];
/// Returns in the n-th calendar month, from 1, with their columns.
const MONTHS: [(&str, &str); 11] = [
    ("base_m1", "kept_m1"),
    ("base_m2", "kept_m2"),
    ("base_m3", "kept_m3"),
    ("base_m4", "kept_m4"),
    ("base_m5", "kept_m5"),
    ("base_m6", "kept_m6"),
    ("base_m7", "kept_m7"),
    ("base_m8", "kept_m8"),
    ("base_m9", "kept_m9"),
    ("base_m10", "kept_m10"),
    ("base_m11", "kept_m11"),
];

/// Of one line: who is old enough to be asked about, and who of them came back.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    n: i64,
    /// `(base, kept)`, in the order of [`DAYS`].
    days: [(i64, i64); DAYS.len()],
    /// In the order of [`MONTHS`].
    months: [(i64, i64); MONTHS.len()],
}

/// Months since year 0.
fn month_number(date: Date) -> i64 {
    12 * i64::from(date.year()) + i64::from(date.month()) - 1
}

fn n_in_both(cohort: &RoaringBitmap, present: Option<&RoaringBitmap>) -> i64 {
    present.map_or(0, |present| i64::try_from(cohort.intersection_len(present)).unwrap_or(i64::MAX))
}

impl Tables<'_> {
    /// Everybody known of each day from the first of the period on.
    fn known_by_day(&self) -> BTreeMap<Date, RoaringBitmap> {
        let mut all: BTreeMap<Date, RoaringBitmap> = BTreeMap::new();
        for (date, day) in self.usage.days.range(self.request.from..=self.reach.return_to) {
            let known = all.entry(*date).or_default();
            if *date > self.reach.active_to {
                known.clone_from(&day.starts);
            } else {
                for client in &day.clients {
                    *known |= &client.known;
                }
            }
        }
        all
    }

    pub(super) fn retention(&self) -> Result<RecordBatch, ReportError> {
        let known = self.known_by_day();
        let mut by_month: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
        for (date, people) in &known {
            *by_month.entry(month_number(*date)).or_default() |= people;
        }
        let mut met = RoaringBitmap::new();
        for (_, day) in self.usage.days.range(..self.request.from) {
            met |= &day.starts;
        }
        let mut lines: BTreeMap<(String, &Client), Line> = BTreeMap::new();
        for (date, clients) in self.split.range(self.request.from..=self.request.to) {
            let Some(present) = known.get(date) else { continue };
            let new = present - &met;
            met |= present;
            for (client, day) in clients {
                let cohort = &day.first & &new;
                if cohort.is_empty() {
                    continue;
                }
                let line = lines.entry((self.span(*date), client)).or_default();
                line.n += n_of(&cohort);
                for (at, (n, _, _)) in DAYS.into_iter().enumerate() {
                    let then = date.saturating_add(n.days());
                    if then <= self.horizon {
                        line.days[at].0 += n_of(&cohort);
                        line.days[at].1 += n_in_both(&cohort, known.get(&then));
                    }
                }
                for (at, then) in (month_number(*date) + 1..).take(MONTHS.len()).enumerate() {
                    if then <= month_number(self.horizon) {
                        line.months[at].0 += n_of(&cohort);
                        line.months[at].1 += n_in_both(&cohort, by_month.get(&then));
                    }
                }
            }
        }
        retention_table(&lines)
    }
}

fn retention_table(lines: &BTreeMap<(String, &Client), Line>) -> Result<RecordBatch, ReportError> {
    let mut columns = vec![("span", texts(lines.keys().map(|(span, _)| span.as_str())))];
    columns.extend(client_columns(lines.keys().map(|(_, client)| *client)));
    columns.push(("cohort_users", numbers(lines.values().map(|line| line.n))));
    for (at, (_, base, kept)) in DAYS.into_iter().enumerate() {
        columns.push((base, numbers(lines.values().map(|line| line.days[at].0))));
        columns.push((kept, numbers(lines.values().map(|line| line.days[at].1))));
    }
    for (at, (base, kept)) in MONTHS.into_iter().enumerate() {
        columns.push((base, numbers(lines.values().map(|line| line.months[at].0))));
        columns.push((kept, numbers(lines.values().map(|line| line.months[at].1))));
    }
    batch(columns)
}
