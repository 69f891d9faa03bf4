//! One restricted DataFusion session per query: our tables and nothing else.

use std::{collections::BTreeSet, num::NonZeroUsize, path::PathBuf, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use datafusion::{
    catalog::view::ViewTable,
    common::{
        DataFusionError,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    datasource::MemTable,
    execution::{
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, MemoryConsumer, MemoryReservation, TrackConsumersPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
        session_state::SessionStateBuilder,
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{ExecutionPlan, coop::CooperativeExec},
    prelude::{SessionConfig, SessionContext},
    sql::parser::Statement,
};

use crate::{functions, rollup::RollupConfig, source::SourceSnapshot, views};

const GIB: usize = 1 << 30;

/// Limits of the engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Most memory one query may hold. Bytes; 2 GiB by default.
    pub memory_bytes_max: usize,
    /// Threads one query may use; all cores by default.
    pub target_partitions: Option<NonZeroUsize>,
    /// Where large sorts and joins may spill to; `None` uses the system's folder for temporary files.
    pub spill_dir: Option<PathBuf>,
    /// Most bytes one query may spill. 4 GiB by default.
    pub spill_bytes_max: u64,
    /// The runtime queries run on, so that they never hold up sockets; `None` runs them where they are awaited.
    pub runtime: Option<tokio::runtime::Handle>,
    /// Time limit of a report. 60 s by default.
    pub report_timeout: std::time::Duration,
    /// Keeps app usage by day, so that R05 need not read events again; `None`, as by default, reads them each time.
    pub rollups: Option<RollupConfig>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            memory_bytes_max: 2 * GIB,
            target_partitions: None,
            spill_dir: None,
            spill_bytes_max: 4 * GIB as u64,
            runtime: None,
            report_timeout: std::time::Duration::from_secs(60),
            rollups: None,
        }
    }
}

/// Who asks: our own report files, or a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// A file of this crate.
    Report,
    /// Somebody's text.
    Person,
}

/// Functions that make large values out of nothing, beyond the memory pool's sight.
const UNBOUNDED_FUNCTIONS: &[&str] = &[
    "repeat",
    "lpad",
    "rpad",
    "range",
    "generate_series",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
];

/// Lets joins and unnesting give way. They can make rows for minutes from a few they hold, without asking
/// their inputs, where DataFusion puts its own yielding; nothing could stop such a query.
#[derive(Debug)]
struct YieldInJoins;

impl PhysicalOptimizerRule for YieldInJoins {
    fn name(&self) -> &str {
        "yield_in_joins"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let wrapped = plan.transform_up(|node| {
            let multiplies = node.name().contains("Join") || node.name().contains("Unnest");
            Ok(if multiplies {
                Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(node)
            })
        })?;
        Ok(wrapped.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Sessions {
    config: EngineConfig,
    base: Arc<RuntimeEnv>,
}

impl Sessions {
    pub(crate) fn new(config: EngineConfig) -> Result<Self, DataFusionError> {
        let mode = match &config.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(config.spill_bytes_max);
        let base = RuntimeEnvBuilder::new().with_disk_manager_builder(disk).build_arc()?;
        Ok(Self { config, base })
    }

    pub(crate) fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// A session over a picture, with a memory pool of its own.
    pub(crate) fn open(&self, snapshot: SourceSnapshot, author: Author) -> Session {
        let n_consumers_named = NonZeroUsize::MIN;
        let pool = TrackConsumersPool::new(FairSpillPool::new(self.config.memory_bytes_max), n_consumers_named);
        // The footer cache is shared; the pool is not.
        let runtime = RuntimeEnv { memory_pool: Arc::new(pool), ..(*self.base).clone() };
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema("todoke", "lake")
            .with_information_schema(author == Author::Person)
            .with_collect_statistics(true);
        if let Some(n) = self.config.target_partitions {
            config = config.with_target_partitions(n.get());
        }
        // Physical plans name files of this machine.
        config.options_mut().explain.logical_plan_only = true;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime))
            .with_default_features()
            .with_table_factories(Default::default())
            .with_physical_optimizer_rule(Arc::new(YieldInJoins))
            .build();
        let ctx = SessionContext::new_with_state(state);
        for function in functions::all() {
            ctx.register_udf(function.as_ref().clone());
        }
        if author == Author::Person {
            for name in UNBOUNDED_FUNCTIONS {
                ctx.deregister_udf(name);
            }
        }
        let kept = MemoryConsumer::new("report steps").register(&ctx.runtime_env().memory_pool);
        Session { ctx, snapshot, registered: BTreeSet::new(), kept }
    }
}

/// One query's session.
pub(crate) struct Session {
    pub(crate) ctx: SessionContext,
    pub(crate) snapshot: SourceSnapshot,
    registered: BTreeSet<String>,
    kept: MemoryReservation,
}

impl Session {
    /// Names of all offered tables and views.
    pub(crate) fn offered(&self) -> BTreeSet<String> {
        let views = views::ALL.iter().filter(|view| self.needs(view.name).is_some()).map(|view| view.name.to_owned());
        self.snapshot.tables.keys().cloned().chain(views).collect()
    }

    /// Makes the tables a statement names known to the session.
    pub(crate) async fn register_for(&mut self, statement: &Statement) -> Result<(), DataFusionError> {
        let references = self.ctx.state().resolve_table_references(statement)?;
        let names: Vec<String> = references.iter().map(|reference| reference.table().to_owned()).collect();
        self.register(names.iter().map(String::as_str)).await
    }

    /// Makes every offered table known.
    pub(crate) async fn register_all(&mut self) -> Result<(), DataFusionError> {
        let names = self.offered();
        self.register(names.iter().map(String::as_str)).await
    }

    async fn register(&mut self, names: impl Iterator<Item = &str>) -> Result<(), DataFusionError> {
        let mut wanted = BTreeSet::new();
        for name in names {
            wanted.extend(self.needs(name).into_iter().flatten());
        }
        let tables: Vec<String> = wanted.iter().filter(|name| views::get(name).is_none()).cloned().collect();
        for name in tables {
            if let Some(provider) = self.snapshot.tables.get(&name).cloned()
                && self.registered.insert(name.clone())
            {
                self.ctx.register_table(name.as_str(), provider)?;
            }
        }
        for view in views::ALL.iter().filter(|view| wanted.contains(view.name)) {
            if self.registered.insert(view.name.to_owned()) {
                let plan = self.ctx.state().create_logical_plan(view.sql).await?;
                self.ctx.register_table(view.name, Arc::new(ViewTable::new(plan, Some(view.sql.to_owned()))))?;
            }
        }
        Ok(())
    }

    /// A name with everything below it; `None` if it, or something below, is not offered.
    fn needs(&self, name: &str) -> Option<BTreeSet<String>> {
        if self.snapshot.tables.contains_key(name) {
            return Some(BTreeSet::from([name.to_owned()]));
        }
        let view = views::get(name)?;
        let mut all = BTreeSet::from([view.name.to_owned()]);
        for below in tables_of(&self.ctx, view)? {
            all.extend(self.needs(&below)?);
        }
        Some(all)
    }

    /// Keeps a step's rows as a table for the steps after it.
    pub(crate) fn keep(
        &self,
        name: &str,
        schema: &SchemaRef,
        partitions: Vec<Vec<RecordBatch>>,
    ) -> Result<(), DataFusionError> {
        // Operators differ in what they promise to be never null; a kept table promises nothing.
        let fields: Vec<Field> =
            schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let mut kept = Vec::with_capacity(partitions.len().max(1));
        for rows in partitions {
            kept.push(rows.iter().map(|batch| compacted(batch, &schema)).collect::<Result<Vec<_>, _>>()?);
        }
        if kept.is_empty() {
            kept.push(Vec::new());
        }
        self.kept.try_grow(kept.iter().flatten().map(n_bytes).sum())?;
        // The check of a ledger and the rows of a report both have a step of the same name: the newer one counts.
        self.ctx.deregister_table(name)?;
        self.ctx.register_table(name, Arc::new(MemTable::try_new(schema, kept)?))?;
        Ok(())
    }
}

/// The tables a view reads, less its own common table expressions.
fn tables_of(ctx: &SessionContext, view: &views::View) -> Option<Vec<String>> {
    let state = ctx.state();
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(view.sql, &dialect).ok()?;
    let references = state.resolve_table_references(&statement).ok()?;
    Some(references.iter().map(|reference| reference.table().to_owned()).collect())
}

/// Copies text out of the file buffers it points into: a few kept values would hold whole buffers.
pub(crate) fn compacted(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = rows
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            _ => Arc::clone(column),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// What the rows of a batch hold by themselves. Bytes.
pub(crate) fn n_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(own_bytes).sum()
}

/// What a column holds by itself. Batches are often slices of one large array; counting that with each
/// slice would find a hundred times what is there.
fn own_bytes(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8View => column.len() * size_of::<u128>() + column.as_string_view().total_buffer_bytes_used(),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    }
}
