//! A table as one municipality sees it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    catalog::{Session, TableProvider},
    common::{DFSchema, Result, ScalarValue, Statistics, config::TableParquetOptions, stats::Precision},
    datasource::{
        TableType,
        listing::PartitionedFile,
        memory::MemorySourceConfig,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource, parquet::CachedParquetFileReaderFactory},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown, utils::conjunction},
    physical_expr::PhysicalExpr,
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
};
use todoke_domain::MunicipalityCode;

use crate::{file::DataFile, prune::prune, schema::GroupSchema, slice::Slice, table::Committed, view::DayState};

/// Whose rows a table holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The rows of one municipality.
    One(MunicipalityCode),
    /// All rows. For internal checks only; never for a caller's SQL.
    All,
}

impl Scope {
    pub(crate) fn sees(&self, municipality: &str) -> bool {
        match self {
            Self::One(code) => code.as_str() == municipality,
            Self::All => true,
        }
    }
}

/// One group's table in one scope: its committed files and the staged rows.
///
/// The wall is that nothing of another municipality is in here; there is no filter to get around.
pub(crate) struct GroupProvider {
    schema: &'static GroupSchema,
    committed: Option<Arc<Committed>>,
    files: Vec<Arc<DataFile>>,
    staged: Vec<RecordBatch>,
}

impl fmt::Debug for GroupProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupProvider")
            .field("table", &self.schema.name)
            .field("n_files", &self.files.len())
            .field("n_staged", &self.staged.len())
            .finish()
    }
}

impl GroupProvider {
    pub(crate) fn new<'a>(
        schema: &'static GroupSchema,
        committed: Option<Arc<Committed>>,
        staged: impl Iterator<Item = &'a Slice>,
        scope: &Scope,
    ) -> Self {
        let files = committed
            .iter()
            .flat_map(|c| c.files.iter())
            .filter(|file| scope.sees(&file.municipality))
            .cloned()
            .collect();
        let staged = staged.filter(|slice| scope.sees(&slice.municipality)).map(|slice| slice.rows.clone()).collect();
        Self { schema, committed, files, staged }
    }

    fn scan_files(
        &self,
        committed: &Committed,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filter: Option<Arc<dyn PhysicalExpr>>,
        limit: Option<usize>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let files = match &filter {
            Some(filter) => prune(self.files.clone(), filter, &self.schema.full),
            None => self.files.clone(),
        };
        if files.is_empty() {
            return Ok(None);
        }
        let n_file = self.schema.file.fields().len();
        let table = TableSchema::builder(Arc::clone(&self.schema.file))
            .with_table_partition_cols(self.schema.full.fields()[n_file..].to_vec())
            .build();
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let metadata_cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let reader = CachedParquetFileReaderFactory::new(Arc::clone(&committed.store), metadata_cache);
        let mut source = ParquetSource::new(table)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(reader));
        if let Some(filter) = filter {
            source = source.with_predicate(filter);
        }
        let n_rows = files.iter().map(|file| file.n_rows).sum();
        let statistics =
            Statistics { num_rows: Precision::Exact(n_rows), ..Statistics::new_unknown(&self.schema.full) };
        // A name that every session knows and nothing is read by: the reader has the table's own store.
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(file_groups(&files, state.config().target_partitions()))
            .with_statistics(statistics)
            .with_limit(limit)
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(Some(DataSourceExec::from_data_source(config)))
    }
}

/// Shares files out so that each group has about as many bytes, days staying in order within a group.
fn file_groups(files: &[Arc<DataFile>], n_groups: usize) -> Vec<FileGroup> {
    let mut groups: Vec<(u64, Vec<PartitionedFile>)> = vec![(0, Vec::new()); n_groups.clamp(1, files.len().max(1))];
    for file in files {
        if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += file.bytes;
            group.push(partitioned(file));
        }
    }
    groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
}

fn partitioned(file: &DataFile) -> PartitionedFile {
    PartitionedFile::new(file.path.as_str(), file.bytes).with_partition_values(vec![
        ScalarValue::Utf8View(Some(file.municipality.to_string())),
        ScalarValue::Date32(Some(file.day)),
    ])
}

#[async_trait]
impl TableProvider for GroupProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema.full)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Used to skip files, row groups and pages; the staged rows are not filtered here, so the
        // filter stays above the scan as well.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filter = match conjunction(filters.iter().cloned()) {
            Some(filter) => {
                let columns = DFSchema::try_from(Arc::clone(&self.schema.full))?;
                Some(state.create_physical_expr(filter, &columns)?)
            }
            None => None,
        };
        let limit = limit.filter(|_| filters.is_empty());
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if let Some(committed) = &self.committed {
            inputs.extend(self.scan_files(committed, state, projection, filter, limit)?);
        }
        if !self.staged.is_empty() {
            let partitions = [self.staged.clone()];
            inputs.push(MemorySourceConfig::try_new_exec(&partitions, self.schema(), projection.cloned())?);
        }
        if inputs.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema.full.project(columns)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        UnionExec::try_new(inputs)
    }
}

/// Rows of one municipality by day: how many, how many of them staged, and a number that changes when any of them do.
pub(crate) fn day_rows<'a>(
    committed: Option<&'a Committed>,
    staged: impl Iterator<Item = (&'a Slice, u64)>,
    scope: &Scope,
) -> BTreeMap<i32, DayState> {
    let mut days: BTreeMap<i32, DayState> = BTreeMap::new();
    let mut add = |day: i32, n_rows: usize, n_staged: usize, mark: u64| {
        let state = days.entry(day).or_default();
        state.n_rows += n_rows as u64;
        state.n_staged += n_staged as u64;
        // A sum does not depend on the order in which files are met.
        state.fingerprint = state.fingerprint.wrapping_add(mark);
    };
    for file in committed.iter().flat_map(|c| c.files.iter()).filter(|f| scope.sees(&f.municipality)) {
        add(file.day, file.n_rows, 0, fnv(file.path.as_bytes()));
    }
    for (slice, part) in staged.filter(|(s, _)| scope.sees(&s.municipality)) {
        let n_rows = slice.rows.num_rows();
        add(slice.day, n_rows, n_rows, fnv(format!("staged {part}").as_bytes()));
    }
    days
}

/// FNV-1a: a stable 64-bit mark of a few bytes, not for security.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |mark, byte| (mark ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
