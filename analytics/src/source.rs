//! Where the tables of one municipality come from.

use std::{collections::BTreeMap, fmt, sync::Arc};

use datafusion::catalog::TableProvider;
use jiff::civil::Date;
use todoke_domain::{MunicipalityCode, Timestamp};
use todoke_lake::{DayState, Dimension as LakeDimension, LakeView, QUARANTINE, Scope};

use crate::{error::SourceError, reference};

/// One consistent picture of one municipality's tables.
#[derive(Clone)]
pub struct SourceSnapshot {
    /// Names the picture; equal ids give equal figures.
    pub id: String,
    /// The latest `recorded_at` that is visible; `None` in an empty lake.
    pub watermark: Option<Timestamp>,
    /// Tables by the name SQL knows them by.
    pub tables: BTreeMap<String, Arc<dyn TableProvider>>,
    /// The days of `events_app`: what figures kept by day were made from.
    pub app_days: BTreeMap<Date, DayState>,
}

impl fmt::Debug for SourceSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceSnapshot").field("id", &self.id).field("n_tables", &self.tables.len()).finish()
    }
}

/// Opens pictures. The wall is here: a picture holds nothing of another municipality.
pub trait ViewSource: Send + Sync + fmt::Debug {
    /// The newest picture of one municipality.
    fn open(&self, municipality: &MunicipalityCode) -> Result<SourceSnapshot, SourceError>;
}

/// The lake as a source.
#[derive(Clone, Debug)]
pub struct LakeSource {
    view: LakeView,
}

impl LakeSource {
    /// Over a view of the lake, of this process or opened for reading.
    pub fn new(view: LakeView) -> Self {
        Self { view }
    }
}

impl ViewSource for LakeSource {
    fn open(&self, municipality: &MunicipalityCode) -> Result<SourceSnapshot, SourceError> {
        let snapshot = self.view.snapshot();
        let scope = Scope::One(municipality.clone());
        let mut tables = BTreeMap::new();
        for group in snapshot.groups().filter(|group| *group != QUARANTINE) {
            let provider = snapshot.table_provider(group, &scope).map_err(SourceError::new)?;
            tables.insert(format!("events_{group}"), provider);
        }
        for dimension in LakeDimension::ALL {
            let written = snapshot.dimension(dimension, &scope).map_err(SourceError::new)?;
            tables.insert(dimension.name().to_owned(), reference::or_empty(dimension, written)?);
        }
        let app_days = snapshot.days("app", &scope);
        Ok(SourceSnapshot { id: snapshot.id().to_owned(), watermark: snapshot.watermark(), tables, app_days })
    }
}
