//! How long rows are kept (events.md §2), and their leaving: whole days, which are whole files.

use std::{collections::BTreeSet, sync::Arc};

use deltalake::{
    kernel::{Action, transaction::CommitProperties},
    protocol::DeltaOperation,
};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use todoke_domain::{
    Timestamp,
    time::{add_months, fiscal_year_start},
};

use crate::{Lake, LakeError, file::DataFile, maintenance::removal, rows::day_number};

/// The table of details of deliveries.
const DELIVERIES: &str = "message";

/// How long rows are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Whole fiscal years (April to March) that rows are kept after the one they belong to.
    pub fiscal_years: u16,
    /// Months that details of deliveries (`message`) are kept.
    pub delivery_months: u16,
}

impl Default for Retention {
    fn default() -> Self {
        Self { fiscal_years: 10, delivery_months: 13 }
    }
}

impl Retention {
    /// The first day whose rows a table keeps at `now`; earlier ones may go.
    pub fn first_day(&self, group: &str, now: Timestamp) -> Date {
        let today = now.jst_date();
        if group == DELIVERIES {
            return add_months(today, -i32::from(self.delivery_months));
        }
        fiscal_year_start(today, self.fiscal_years)
    }
}

/// What left a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Files that are not part of the table any more.
    pub files: usize,
    /// Their rows.
    pub rows: u64,
}

impl Lake {
    /// Takes the days out of a table that are past their time, in one commit. Queries that run go on reading
    /// them; vacuum deletes their files when no version that is still kept needs them.
    ///
    /// If another process commits to the table in the same moment, this gives up with an error and nothing is
    /// changed; the next call tries again.
    pub async fn expire(&self, group: &str, retention: &Retention, now: Timestamp) -> Result<Expired, LakeError> {
        let _upkeep = self.upkeep.lock().await;
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let (name, table) = self.view.tables.groups.get_key_value(group).ok_or_else(unknown)?;
        let mut table = table.lock().await;
        // What another process took out meanwhile is not there to be taken out again.
        let apps: BTreeSet<Arc<str>> = table.committed().iter().flat_map(|c| c.txns.keys().cloned()).collect();
        table.refresh(&apps).await?;
        let committed = table.committed().cloned().ok_or_else(unknown)?;
        let first_day = day_number(retention.first_day(group, now));
        let past: Vec<&Arc<DataFile>> = committed.files.iter().filter(|file| file.day < first_day).collect();
        if !past.is_empty() {
            let actions = past.iter().map(|file| {
                let mut gone = removal(file, now);
                gone.data_change = true;
                Action::Remove(gone)
            });
            // As in a compaction: whoever rewrites the same files in this moment makes this one fail.
            let properties = CommitProperties::default().with_max_retries(0);
            let operation = DeltaOperation::Delete { predicate: None };
            table.commit_operation(actions.collect(), properties, operation, &self.options).await?;
            table.adopt_after_commit(committed.txns.clone()).await?;
        }
        let present = table.committed().cloned().ok_or_else(unknown)?;
        self.view.shared.publish([(*name, present)], &BTreeSet::new());
        Ok(Expired { files: past.len(), rows: past.iter().map(|file| file.n_rows as u64).sum() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stays_for_ten_whole_fiscal_years_and_a_delivery_for_thirteen_months() {
        let first = |group: &str, now: &str| Retention::default().first_day(group, now.parse().unwrap()).to_string();
        // The last instant of a fiscal year in Tokyo, and the first of the next.
        assert_eq!(first("coupon", "2026-03-31T14:59:59Z"), "2015-04-01");
        assert_eq!(first("coupon", "2026-03-31T15:00:00Z"), "2016-04-01");
        assert_eq!(first("quarantine", "2026-11-21T03:00:00Z"), "2016-04-01");
        assert_eq!(first("message", "2026-11-21T03:00:00Z"), "2025-10-21");
        assert_eq!(first("message", "2027-03-31T03:00:00Z"), "2026-02-28");
    }

    #[test]
    fn what_is_kept_for_ever_saturates() {
        let retention = Retention { fiscal_years: u16::MAX, delivery_months: u16::MAX };
        let now = "2026-11-21T03:00:00Z".parse().unwrap();
        for group in ["coupon", "message"] {
            assert!(retention.first_day(group, now) < Date::constant(0, 1, 1), "{group}");
        }
    }
}
