//! How long rows are kept (events.md §2), and their leaving: whole days, which are whole files. Only the quarantine has
//! rows of both classes in a file.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use datafusion::arrow::{
    array::{AsArray, BooleanArray},
    compute::{concat_batches, filter_record_batch},
};
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

use crate::{
    Lake, LakeError, QUARANTINE,
    file::{self, DataFile, Encoded, Layout, encode_rest},
    maintenance::removal,
    rows::day_number,
    schema::{self, EVENT_TYPE, GroupSchema},
};

/// The table of details of deliveries.
const DELIVERIES: &str = "message";
/// How the types of its events begin.
const DELIVERY_TYPES: &str = "message.";

/// How long rows are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Whole fiscal years (April to March) that rows are kept after the one they belong to.
    pub fiscal_years: u16,
    /// Months that details of deliveries (`message`) are kept, also in the quarantine.
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
    /// The rows that went with them.
    pub rows: u64,
}

/// A file of the quarantine, and what is stored to take its place.
struct Replacement {
    file: Arc<DataFile>,
    adds: Vec<Action>,
    rows_removed: usize,
}

impl Lake {
    /// Takes the days out of a table that are past their time, in one commit. Of the quarantine's other days, what is
    /// there of deliveries leaves when its own time is over. Queries that run go on reading the files; vacuum deletes
    /// them when no version that is still kept needs them.
    ///
    /// If another process commits to the table in the same moment, this gives up with an error and nothing is
    /// changed; the next call tries again.
    pub async fn expire(&self, group: &str, retention: &Retention, now: Timestamp) -> Result<Expired, LakeError> {
        let _upkeep = self.upkeep.lock().await;
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let (name, table) = self.view.tables.groups.get_key_value(group).ok_or_else(unknown)?;
        let mut replaced =
            if *name == QUARANTINE { self.replace_deliveries(retention, now).await? } else { Vec::new() };
        let mut table = table.lock().await;
        // What another process took out meanwhile is not there to be taken out again.
        let apps: BTreeSet<Arc<str>> = table.committed().iter().flat_map(|c| c.txns.keys().cloned()).collect();
        table.refresh(&apps).await?;
        let committed = table.committed().cloned().ok_or_else(unknown)?;
        let first_day = day_number(retention.first_day(group, now));
        let past: Vec<&Arc<DataFile>> = committed.files.iter().filter(|file| file.day < first_day).collect();
        // What another process joined with others meanwhile is found there by the next call.
        replaced.retain(|replacement| committed.files.iter().any(|file| file.path == replacement.file.path));
        let gone: Vec<&Arc<DataFile>> = past.iter().copied().chain(replaced.iter().map(|r| &r.file)).collect();
        let rows = past.iter().map(|file| file.n_rows as u64).sum::<u64>()
            + replaced.iter().map(|replacement| replacement.rows_removed as u64).sum::<u64>();
        let expired = Expired { files: gone.len(), rows };
        if !gone.is_empty() {
            let removals = gone.into_iter().map(|file| {
                let mut gone = removal(file, now);
                gone.data_change = true;
                Action::Remove(gone)
            });
            let mut actions: Vec<Action> = removals.collect();
            actions.extend(replaced.into_iter().flat_map(|replacement| replacement.adds));
            // As in a compaction: whoever rewrites the same files in this moment makes this one fail.
            let properties = CommitProperties::default().with_max_retries(0);
            let operation = DeltaOperation::Delete { predicate: None };
            table.commit_operation(actions, properties, operation, &self.options).await?;
            table.adopt_after_commit(committed.txns.clone()).await?;
        }
        let present = table.committed().cloned().ok_or_else(unknown)?;
        self.view.shared.publish([(*name, present)], &BTreeSet::new());
        Ok(expired)
    }

    /// Stores what is left of files of the quarantine without the details of deliveries that are past their time, where
    /// the other rows are not. A file is read once for it; what is stored and never committed goes with a vacuum.
    async fn replace_deliveries(&self, retention: &Retention, now: Timestamp) -> Result<Vec<Replacement>, LakeError> {
        let unknown = || LakeError::UnknownTable(QUARANTINE.to_owned());
        let schema = schema::group(QUARANTINE).ok_or_else(unknown)?;
        let table = self.view.tables.groups.get(QUARANTINE).ok_or_else(unknown)?;
        let committed = {
            let table = table.lock().await;
            // A newer version does it, and knows what to keep of its columns.
            if table.has_unknown_columns()? {
                return Ok(Vec::new());
            }
            table.committed().cloned().ok_or_else(unknown)?
        };
        let days = day_number(retention.first_day(QUARANTINE, now))..day_number(retention.first_day(DELIVERIES, now));
        let is_mixed = |file: &DataFile| days.contains(&file.day) && file.bounds.may_hold_types(DELIVERY_TYPES);
        let known = self.without_deliveries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mixed: Vec<Arc<DataFile>> = committed.files.iter().filter(|file| is_mixed(file)).cloned().collect();
        let (mut without, mut replaced) = (BTreeSet::new(), Vec::new());
        for file in mixed {
            if known.contains(&file.path) {
                without.insert(file.path.clone());
                continue;
            }
            let content = committed.content(&schema.name, &file).await?;
            let (about, layout) = (Arc::clone(&file), self.options.layout());
            let left = tokio::task::spawn_blocking(move || left_of(content, schema, &about, &layout, now))
                .await
                .map_err(LakeError::Task)??;
            let Some((rest, rows_removed)) = left else {
                without.insert(file.path.clone());
                continue;
            };
            without.extend(rest.iter().map(|rest| rest.path.clone()));
            let adds = table.lock().await.store(rest.into_iter().collect(), self.options.fsync).await?;
            replaced.push(Replacement { file, adds, rows_removed });
        }
        *self.without_deliveries.lock().unwrap_or_else(PoisonError::into_inner) = without;
        Ok(replaced)
    }
}

/// A file of the quarantine without details of deliveries, nothing where no other row is, and how many there were;
/// `None` if there are none.
fn left_of(
    content: Bytes,
    schema: &'static GroupSchema,
    about: &DataFile,
    layout: &Layout,
    now: Timestamp,
) -> Result<Option<(Option<Encoded>, usize)>, LakeError> {
    let arrow = LakeError::arrow(&schema.name);
    let batches = file::decode(content, schema).map_err(LakeError::parquet(&schema.name, "read"))?;
    let rows = concat_batches(&schema.file, &batches).map_err(&arrow)?;
    let Some(types) = rows.column_by_name(EVENT_TYPE) else { return Ok(None) };
    let types = types.as_string_view().iter();
    let stays: BooleanArray =
        types.map(|name| Some(name.is_none_or(|name| !name.starts_with(DELIVERY_TYPES)))).collect();
    let rows_removed = stays.false_count();
    if rows_removed == 0 {
        return Ok(None);
    }
    let rest = filter_record_batch(&rows, &stays).map_err(&arrow)?;
    let rest = encode_rest(&rest, schema, about, layout, now)?;
    // Ids that were compared with others need not be compared again.
    let rest = if about.is_compared() { rest.map(Encoded::compared) } else { rest };
    Ok(Some((rest, rows_removed)))
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
