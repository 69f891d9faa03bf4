//! Dimension tables: small reference data beside the events, written whole when they change.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, AsArray, BooleanArray, RecordBatch},
        compute::{cast, concat_batches, filter_record_batch},
        datatypes::{DataType, Schema, SchemaRef},
    },
    catalog::TableProvider,
    datasource::MemTable,
    object_store::{ObjectStoreExt, path::Path as StorePath},
    parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
};
use deltalake::{DeltaTable, DeltaTableError, operations::write::SchemaMode, protocol::SaveMode};

use crate::{LakeError, LakeLocation, Scope, Told, durable, location::TablePlace, schema::MUNICIPALITY};

/// The dimension tables of events.md §6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Facilities of a municipality.
    Facilities,
    /// The eight programmes; the same everywhere.
    Programmes,
    /// Coupon sets of a municipality.
    CouponSets,
    /// Surveys of a municipality.
    Surveys,
    /// Questions of those surveys.
    SurveyQuestions,
    /// Targets of a municipality's indicators.
    KpiTargets,
    /// Days, holidays, fiscal years; the same everywhere.
    Calendar,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Facilities,
        Self::Programmes,
        Self::CouponSets,
        Self::Surveys,
        Self::SurveyQuestions,
        Self::KpiTargets,
        Self::Calendar,
    ];

    /// The name under which queries know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Facilities => "facilities",
            Self::Programmes => "programmes",
            Self::CouponSets => "coupon_sets",
            Self::Surveys => "surveys",
            Self::SurveyQuestions => "survey_questions",
            Self::KpiTargets => "kpi_targets",
            Self::Calendar => "calendar",
        }
    }

    /// The folder of its table.
    pub fn table(self) -> &'static str {
        match self {
            Self::Facilities => "dim_facilities",
            Self::Programmes => "dim_programmes",
            Self::CouponSets => "dim_coupon_sets",
            Self::Surveys => "dim_surveys",
            Self::SurveyQuestions => "dim_survey_questions",
            Self::KpiTargets => "dim_kpi_targets",
            Self::Calendar => "dim_calendar",
        }
    }

    /// Whether its rows belong to municipalities. Then every row names its municipality.
    pub fn is_walled(self) -> bool {
        !matches!(self, Self::Programmes | Self::Calendar)
    }
}

/// The rows of a dimension at one version.
#[derive(Debug)]
pub(crate) struct DimensionRows {
    version: u64,
    walled: bool,
    rows: RecordBatch,
}

impl DimensionRows {
    /// A dimension that was never written.
    pub(crate) fn empty() -> Self {
        Self { version: 0, walled: false, rows: RecordBatch::new_empty(Arc::new(Schema::empty())) }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn provider(&self, scope: &Scope) -> Result<Arc<dyn TableProvider>, LakeError> {
        let arrow = LakeError::arrow("dimension");
        let visible = match self.rows.column_by_name(MUNICIPALITY).filter(|_| self.walled) {
            Some(codes) => {
                let codes = cast(codes, &DataType::Utf8).map_err(&arrow)?;
                let seen: BooleanArray =
                    codes.as_string::<i32>().iter().map(|c| Some(c.is_some_and(|c| scope.sees(c)))).collect();
                filter_record_batch(&self.rows, &seen).map_err(&arrow)?
            }
            None => self.rows.clone(),
        };
        let table = MemTable::try_new(visible.schema(), vec![vec![visible]])
            .map_err(|source| arrow(datafusion::arrow::error::ArrowError::ExternalError(Box::new(source))))?;
        Ok(Arc::new(table))
    }
}

/// A dimension's Delta table.
pub(crate) struct DimensionTable {
    dimension: Dimension,
    place: TablePlace,
    delta: Option<DeltaTable>,
    rows: Option<Arc<DimensionRows>>,
}

impl DimensionTable {
    pub(crate) fn new(lake: &LakeLocation, dimension: Dimension) -> Self {
        Self { dimension, place: lake.table(dimension.table()), delta: None, rows: None }
    }

    fn name(&self) -> &'static str {
        self.dimension.table()
    }

    fn build(&self) -> Result<DeltaTable, LakeError> {
        self.place.delta().map_err(LakeError::delta(self.name(), "opening"))
    }

    /// The rows, if they are newer than those known.
    pub(crate) async fn refresh(&mut self) -> Result<Option<Arc<DimensionRows>>, LakeError> {
        let name = self.name();
        match &mut self.delta {
            Some(delta) => delta.update_state().await.map_err(LakeError::delta(name, "refreshing"))?,
            None => {
                if !self.place.has_log().await.map_err(LakeError::delta(name, "locating"))? {
                    return Ok(None);
                }
                let mut delta = self.build()?;
                match delta.load().await {
                    Ok(()) => self.delta = Some(delta),
                    Err(DeltaTableError::NotATable(_)) => return Ok(None),
                    Err(error) => return Err(LakeError::delta(name, "opening")(error)),
                }
            }
        }
        self.load().await
    }

    /// Reads it, as [`Self::refresh`] does. What cannot be read, in a folder, is deleted by the server that starts: its
    /// rows come again out of the record. Who opens the lake beside a server (`told` is unknown) deletes nothing.
    pub(crate) async fn open_for_writing(&mut self, told: &Told) -> Result<Option<Arc<DimensionRows>>, LakeError> {
        let error = match self.refresh().await {
            Ok(rows) => return Ok(rows),
            Err(error) => error,
        };
        let (Some(root), Told::Through(_)) = (self.place.folder(), told) else { return Err(error) };
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            lake.table = self.name(),
            "a dimension cannot be read, is deleted, and will be written again"
        );
        self.delta = None;
        tokio::fs::remove_dir_all(&root).await.map_err(|source| LakeError::Io { path: root, source })?;
        Ok(None)
    }

    async fn load(&mut self) -> Result<Option<Arc<DimensionRows>>, LakeError> {
        let name = self.name();
        let Some(delta) = &self.delta else { return Ok(None) };
        let state = delta.snapshot().map_err(LakeError::delta(name, "reading the log"))?;
        if self.rows.as_ref().is_some_and(|rows| rows.version == state.version()) {
            return Ok(None);
        }
        let mut batches = Vec::new();
        let store = delta.object_store();
        for file in state.log_data().iter() {
            let path = file.path().into_owned();
            let storage =
                |source| LakeError::Storage { table: name.to_owned(), path: path.clone(), source: Box::new(source) };
            let content =
                store.get(&StorePath::from(path.as_str())).await.map_err(storage)?.bytes().await.map_err(storage)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(content)
                .and_then(ParquetRecordBatchReaderBuilder::build)
                .map_err(LakeError::parquet(name, "read"))?;
            for batch in reader {
                batches.push(batch.map_err(LakeError::arrow(name))?);
            }
        }
        let schema = batches.first().map_or_else(|| state.snapshot().arrow_schema(), RecordBatch::schema);
        let rows = concat_batches(&schema, &batches).map_err(LakeError::arrow(name))?;
        let rows = Arc::new(DimensionRows { version: state.version(), walled: self.dimension.is_walled(), rows });
        self.rows = Some(Arc::clone(&rows));
        Ok(Some(rows))
    }

    /// Replaces all rows, unless they are the same already, and makes them durable if `fsync` says so.
    pub(crate) async fn write(
        &mut self,
        batch: &RecordBatch,
        fsync: bool,
    ) -> Result<Option<Arc<DimensionRows>>, LakeError> {
        let name = self.name();
        if self.dimension.is_walled() && batch.column_by_name(MUNICIPALITY).is_none_or(|codes| codes.null_count() > 0) {
            return Err(LakeError::DimensionWall { dimension: name });
        }
        self.refresh().await?;
        let batch = plain(batch).map_err(LakeError::arrow(name))?;
        if self.rows.as_ref().is_some_and(|known| same(&known.rows, &batch)) {
            return Ok(None);
        }
        let delta = match self.delta.take() {
            Some(delta) => delta,
            None => self.build()?,
        };
        let delta = delta
            .write([batch])
            .with_save_mode(SaveMode::Overwrite)
            .with_schema_mode(SchemaMode::Overwrite)
            .with_table_name(name)
            .await
            .map_err(LakeError::delta(name, "writing"))?;
        self.delta = Some(delta);
        if fsync {
            self.sync().await?;
        }
        self.load().await
    }

    /// Makes what was written since the known rows durable, files first.
    async fn sync(&self) -> Result<(), LakeError> {
        let (Some(root), Some(delta)) = (self.place.folder(), &self.delta) else { return Ok(()) };
        let state = delta.snapshot().map_err(LakeError::delta(self.name(), "reading the log"))?;
        let files = state.log_data().iter().map(|file| file.path().into_owned()).collect();
        durable::sync(root.clone(), files).await?;
        durable::sync_entries(root, self.rows.as_ref().map(|rows| rows.version), state.version()).await
    }
}

/// All columns nullable and strings plain, so that what is read back compares equal.
fn plain(batch: &RecordBatch) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let data_type = match field.data_type() {
            DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(_, _) => DataType::Utf8,
            other => other.clone(),
        };
        columns.push(cast(column, &data_type)?);
        fields.push(field.as_ref().clone().with_data_type(data_type).with_nullable(true));
    }
    RecordBatch::try_new(SchemaRef::new(Schema::new(fields)), columns)
}

fn same(known: &RecordBatch, new: &RecordBatch) -> bool {
    let names = |batch: &RecordBatch| batch.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    if known.num_rows() != new.num_rows() || names(known) != names(new) {
        return false;
    }
    let known: BTreeMap<usize, _> = known.columns().iter().enumerate().collect();
    new.columns()
        .iter()
        .enumerate()
        .all(|(i, column)| known.get(&i).is_some_and(|k| cast(k, column.data_type()).is_ok_and(|k| &k == column)))
}
