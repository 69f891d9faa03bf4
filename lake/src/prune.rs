//! Which files can hold rows for a filter, decided from what the log says about each.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{
            ArrayRef, BooleanArray, Date32Array, Int16Array, StringViewArray, TimestampMicrosecondArray, UInt64Array,
        },
        datatypes::SchemaRef,
    },
    common::{Column, ScalarValue, pruning::PruningStatistics},
    physical_expr::PhysicalExpr,
    physical_optimizer::pruning::PruningPredicateBuilder,
};
use serde_json::Value;
use todoke_domain::{Timestamp, time::fiscal_year};

use crate::{
    file::DataFile,
    rows::date_of,
    schema::{BOUNDED, DAY, EVENT_ID, EVENT_TYPE, FISCAL_YEAR, INGESTED_AT, MUNICIPALITY, OCCURRED_AT, RECORDED_AT},
};

/// Smallest and largest values of a file's bounded columns; `None` when the log does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    event_id: Option<(String, String)>,
    event_type: Option<(String, String)>,
    occurred_at: Option<(i64, i64)>,
    recorded_at: Option<(i64, i64)>,
    ingested_at: Option<(i64, i64)>,
}

impl Bounds {
    /// From the statistics of a log entry. What cannot be read is unknown: that costs speed, never rows.
    pub(crate) fn parse(statistics: Option<&Value>) -> Self {
        let pair = |name: &str| {
            let statistics = statistics?;
            let low = statistics.get("minValues")?.get(name)?.as_str()?;
            let high = statistics.get("maxValues")?.get(name)?.as_str()?;
            Some((low.to_owned(), high.to_owned()))
        };
        let instants = |name: &str| {
            let (low, high) = pair(name)?;
            let low: Timestamp = low.parse().ok()?;
            let high: Timestamp = high.parse().ok()?;
            // The log's instants are cut to milliseconds: the true maximum lies up to 999 µs later.
            Some((low.as_micros(), high.as_micros().saturating_add(999)))
        };
        Self {
            event_id: pair(EVENT_ID),
            event_type: pair(EVENT_TYPE),
            occurred_at: instants(OCCURRED_AT),
            recorded_at: instants(RECORDED_AT),
            ingested_at: instants(INGESTED_AT),
        }
    }

    /// Whether an id between two may be in the file.
    pub(crate) fn may_hold_ids(&self, low: &str, high: &str) -> bool {
        self.event_id.as_ref().is_none_or(|(least, most)| least.as_str() <= high && low <= most.as_str())
    }

    /// Whether rows of types that begin so may be in the file.
    pub(crate) fn may_hold_types(&self, begin: &str) -> bool {
        self.event_type
            .as_ref()
            .is_none_or(|(least, most)| (least.as_str() <= begin || least.starts_with(begin)) && begin <= most.as_str())
    }

    /// The latest `recorded_at`, in milliseconds' precision.
    pub(crate) fn recorded_max(&self) -> Option<Timestamp> {
        self.recorded_at.map(|(_, high)| Timestamp::from_micros(high.saturating_sub(999)))
    }
}

/// The files among `files` that may hold rows for which `filter` is true. A filter that says nothing
/// about files keeps all of them.
pub(crate) fn prune(
    files: Vec<Arc<DataFile>>,
    filter: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Vec<Arc<DataFile>> {
    let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    let Ok(predicate) = builder.try_build(Arc::clone(filter)) else { return files };
    let Ok(keep) = predicate.prune(&FileBounds(&files)) else { return files };
    files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect()
}

struct FileBounds<'a>(&'a [Arc<DataFile>]);

impl FileBounds<'_> {
    fn texts<'a>(&'a self, of: impl Fn(&'a DataFile) -> Option<&'a str>) -> ArrayRef {
        Arc::new(self.0.iter().map(|f| of(f)).collect::<StringViewArray>())
    }

    fn instants(&self, of: impl Fn(&DataFile) -> Option<i64>) -> ArrayRef {
        Arc::new(self.0.iter().map(|f| of(f)).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    }

    fn values(&self, column: &str, end: End) -> Option<ArrayRef> {
        let array: ArrayRef = match column {
            MUNICIPALITY => self.texts(|f| Some(&f.municipality)),
            DAY => Arc::new(Date32Array::from_iter_values(self.0.iter().map(|f| f.day))),
            FISCAL_YEAR => Arc::new(Int16Array::from_iter_values(self.0.iter().map(|f| fiscal_year(date_of(f.day))))),
            EVENT_ID => self.texts(|f| f.bounds.event_id.as_ref().map(|b| end.of_text(b))),
            EVENT_TYPE => self.texts(|f| f.bounds.event_type.as_ref().map(|b| end.of_text(b))),
            OCCURRED_AT => self.instants(|f| f.bounds.occurred_at.map(|b| end.of(b))),
            RECORDED_AT => self.instants(|f| f.bounds.recorded_at.map(|b| end.of(b))),
            INGESTED_AT => self.instants(|f| f.bounds.ingested_at.map(|b| end.of(b))),
            _ => return None,
        };
        Some(array)
    }
}

#[derive(Clone, Copy)]
enum End {
    Low,
    High,
}

impl End {
    fn of(self, (low, high): (i64, i64)) -> i64 {
        match self {
            Self::Low => low,
            Self::High => high,
        }
    }

    fn of_text(self, (low, high): &(String, String)) -> &str {
        match self {
            Self::Low => low,
            Self::High => high,
        }
    }
}

impl PruningStatistics for FileBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column.name(), End::Low)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column.name(), End::High)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let never_null = BOUNDED.contains(&column.name()) || [MUNICIPALITY, DAY, FISCAL_YEAR].contains(&column.name());
        never_null.then(|| Arc::new(UInt64Array::from(vec![0; self.0.len()])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.0.iter().map(|f| f.n_rows as u64))))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bounds_cover_the_cut_microseconds() {
        let bounds = Bounds::parse(Some(&json!({
            "minValues": {"occurred_at": "2026-11-21T01:02:03.004Z", "event_type": "coupon.used"},
            "maxValues": {"occurred_at": "2026-11-21T01:02:03.004Z", "event_type": "coupon.used"},
        })));
        let exact: Timestamp = "2026-11-21T01:02:03.004567Z".parse().unwrap();
        let (low, high) = bounds.occurred_at.unwrap();
        assert!(low <= exact.as_micros() && exact.as_micros() <= high);
        assert_eq!(bounds.event_id, None);
        assert_eq!(Bounds::parse(None), Bounds::default());
    }
}
