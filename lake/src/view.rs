//! What queries see: the committed files of every table and the rows this process has staged,
//! swapped as one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use datafusion::{
    arrow::{array::Array, datatypes::SchemaRef},
    catalog::TableProvider,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::civil::Date;
use todoke_domain::Timestamp;

use crate::{
    EventRows, LakeError, LakeLocation, Scope,
    dimension::{Dimension, DimensionRows, DimensionTable},
    provider::{GroupProvider, day_rows, fnv},
    rows::date_of,
    schema,
    slice::{self, Slice},
    table::{Committed, Table},
    torn,
};

/// Where rows come from: an application and the position of its stream. A table takes the rows of
/// one origin once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// `record`, or `usage:<node>`.
    pub app_id: Arc<str>,
    /// Grows with every batch of the application.
    pub version: i64,
}

impl Origin {
    /// The origin of one batch.
    pub fn new(app_id: impl Into<Arc<str>>, version: i64) -> Self {
        Self { app_id: app_id.into(), version }
    }
}

/// Staged rows of one origin.
#[derive(Debug)]
pub(crate) struct StagedPart {
    pub(crate) number: u64,
    pub(crate) origin: Origin,
    pub(crate) tables: BTreeMap<String, Vec<Slice>>,
    pub(crate) n_rows: u64,
    /// Memory of the rows; pages of columns without values, which nothing ever touches, count as well.
    pub(crate) n_bytes: u64,
    recorded_max: Option<i64>,
}

/// The rows of one day in one scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayState {
    /// Number of rows.
    pub n_rows: u64,
    /// How many of them are staged only.
    pub n_staged: u64,
    /// Changes whenever the files or staged rows of the day change; also after compaction.
    pub fingerprint: u64,
}

#[derive(Debug, Default)]
struct TableView {
    committed: Option<Arc<Committed>>,
    staged: Vec<Arc<StagedPart>>,
}

/// One consistent picture of the whole lake. Immutable: a query takes one and uses it for all of its
/// tables; its files are kept by vacuum for the retention time.
#[derive(Debug)]
pub struct LakeSnapshot {
    tables: BTreeMap<&'static str, TableView>,
    dimensions: BTreeMap<Dimension, Arc<DimensionRows>>,
    id: String,
    watermark: Option<Timestamp>,
}

impl LakeSnapshot {
    /// 16 hexadecimal digits that name this picture: made from every table's version and what is staged.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The latest `recorded_at` of any visible row, in milliseconds for committed rows.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.watermark
    }

    /// Names of the event groups and of the quarantine, in alphabetical order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().copied()
    }

    /// The columns of a group's table.
    pub fn schema(&self, group: &str) -> Option<SchemaRef> {
        schema::group(group).map(|s| Arc::clone(&s.full))
    }

    /// The rows of one group in one scope. A group without rows is an empty table.
    pub fn table_provider(&self, group: &str, scope: &Scope) -> Result<Arc<dyn TableProvider>, LakeError> {
        let unknown = || LakeError::UnknownTable(group.to_owned());
        let schema = schema::group(group).ok_or_else(unknown)?;
        let table = self.tables.get(group).ok_or_else(unknown)?;
        let staged = table.staged.iter().flat_map(|part| part.tables.get(group)).flatten();
        Ok(Arc::new(GroupProvider::new(schema, table.committed.clone(), staged, scope)))
    }

    /// The rows of a dimension in one scope; empty until it is first written.
    pub fn dimension(&self, dimension: Dimension, scope: &Scope) -> Result<Arc<dyn TableProvider>, LakeError> {
        match self.dimensions.get(&dimension) {
            Some(rows) => rows.provider(scope),
            None => DimensionRows::empty().provider(scope),
        }
    }

    /// Every day that has rows in the scope; for who keeps figures per day and rebuilds changed days only.
    pub fn days(&self, group: &str, scope: &Scope) -> BTreeMap<Date, DayState> {
        let Some(table) = self.tables.get(group) else { return BTreeMap::new() };
        let staged = table
            .staged
            .iter()
            .flat_map(|part| part.tables.get(group).into_iter().flatten().map(|slice| (slice, part.number)));
        day_rows(table.committed.as_deref(), staged, scope)
            .into_iter()
            .map(|(day, state)| (date_of(day), state))
            .collect()
    }

    pub(crate) fn committed(&self, group: &str) -> Option<&Arc<Committed>> {
        self.tables.get(group)?.committed.as_ref()
    }

    pub(crate) fn n_staged(&self, group: &str) -> u64 {
        let Some(table) = self.tables.get(group) else { return 0 };
        let slices = table.staged.iter().flat_map(|part| part.tables.get(group)).flatten();
        slices.map(|slice| slice.rows.num_rows() as u64).sum()
    }
}

/// The mutable truth behind the snapshots.
#[derive(Debug, Default)]
struct Pieces {
    committed: BTreeMap<&'static str, Arc<Committed>>,
    staged: Vec<Arc<StagedPart>>,
    dimensions: BTreeMap<Dimension, Arc<DimensionRows>>,
    next_number: u64,
}

impl Pieces {
    /// The picture these pieces make. A staged part is shown in a table exactly while the table's
    /// committed version does not hold it: however commits, refreshes and stagings interleave, a row
    /// is seen once.
    fn picture(&self) -> LakeSnapshot {
        let mut tables = BTreeMap::new();
        let mut described = String::new();
        let mut watermark = self.staged.iter().filter_map(|part| part.recorded_max).max();
        for name in schema::all().keys() {
            let committed = self.committed.get(name.as_str()).cloned();
            let staged: Vec<Arc<StagedPart>> = self
                .staged
                .iter()
                .filter(|part| {
                    part.tables.contains_key(name) && !committed.as_ref().is_some_and(|c| c.holds(&part.origin))
                })
                .cloned()
                .collect();
            if let Some(committed) = &committed {
                described.push_str(&format!("{name}@{};", committed.version));
                let files = committed.files.iter().filter_map(|f| f.bounds.recorded_max()).map(Timestamp::as_micros);
                watermark = watermark.max(files.max());
            }
            for part in &staged {
                described.push_str(&format!("{name}+{}:{};", part.origin.app_id, part.origin.version));
            }
            tables.insert(name.as_str(), TableView { committed, staged });
        }
        for (dimension, rows) in &self.dimensions {
            described.push_str(&format!("{}@{};", dimension.table(), rows.version()));
        }
        LakeSnapshot {
            tables,
            dimensions: self.dimensions.clone(),
            id: format!("{:016x}", fnv(described.as_bytes())),
            watermark: watermark.map(Timestamp::from_micros),
        }
    }
}

/// Pieces and the present picture of them.
#[derive(Debug)]
pub(crate) struct Shared {
    // std locks: held for the making of a picture, never across an await.
    pieces: Mutex<Pieces>,
    current: RwLock<Arc<LakeSnapshot>>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let pieces = Pieces { next_number: 1, ..Pieces::default() };
        let current = RwLock::new(Arc::new(pieces.picture()));
        Self { pieces: Mutex::new(pieces), current }
    }

    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        // A panic while holding it leaves whole pieces: every change below is one assignment or push.
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, pieces: &Pieces) {
        let picture = Arc::new(pieces.picture());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = picture;
    }

    pub(crate) fn snapshot(&self) -> Arc<LakeSnapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn stage(&self, origin: Origin, rows: &EventRows) -> Result<(), LakeError> {
        let mut tables = BTreeMap::new();
        let mut recorded_max = None;
        let mut n_bytes = 0;
        for (name, batch) in &rows.tables {
            // Of the whole: its slices share the buffers. Columns without values share one array.
            let filled = batch.columns().iter().filter(|column| column.null_count() < column.len());
            n_bytes += filled.map(|column| column.get_array_memory_size() as u64).sum::<u64>();
            recorded_max = recorded_max.max(slice::recorded_max(batch));
            tables.insert(name.clone(), slice::cut(batch).map_err(LakeError::arrow(name))?);
        }
        let mut pieces = self.pieces();
        let number = pieces.next_number;
        pieces.next_number += 1;
        let n_rows = rows.n_rows() as u64;
        pieces.staged.push(Arc::new(StagedPart { number, origin, tables, n_rows, n_bytes, recorded_max }));
        self.show(&pieces);
        Ok(())
    }

    pub(crate) fn staged(&self) -> Vec<Arc<StagedPart>> {
        self.pieces().staged.clone()
    }

    /// Shows newer committed versions, and forgets staged parts that are committed in every table.
    pub(crate) fn publish(
        &self,
        tables: impl IntoIterator<Item = (&'static str, Arc<Committed>)>,
        done: &BTreeSet<u64>,
    ) {
        let mut pieces = self.pieces();
        for (name, committed) in tables {
            let newer = pieces.committed.get(name).is_none_or(|known| known.version <= committed.version);
            if newer {
                pieces.committed.insert(name, committed);
            }
        }
        pieces.staged.retain(|part| !done.contains(&part.number));
        self.show(&pieces);
    }

    pub(crate) fn publish_dimension(&self, dimension: Dimension, rows: Arc<DimensionRows>) {
        let mut pieces = self.pieces();
        pieces.dimensions.insert(dimension, rows);
        self.show(&pieces);
    }
}

/// The tables this process follows, each behind its own lock.
pub(crate) struct Tables {
    pub(crate) groups: BTreeMap<&'static str, tokio::sync::Mutex<Table>>,
    pub(crate) dimensions: BTreeMap<Dimension, tokio::sync::Mutex<DimensionTable>>,
}

impl Tables {
    pub(crate) fn new(lake: &LakeLocation) -> Self {
        let groups =
            schema::all().iter().map(|(name, s)| (name.as_str(), tokio::sync::Mutex::new(Table::new(lake, s))));
        let dimensions = Dimension::ALL.iter().map(|d| (*d, tokio::sync::Mutex::new(DimensionTable::new(lake, *d))));
        Self { groups: groups.collect(), dimensions: dimensions.collect() }
    }
}

const REFRESH_CONCURRENCY: usize = 4;

async fn refresh(
    name: &'static str,
    table: &tokio::sync::Mutex<Table>,
    apps: &BTreeSet<Arc<str>>,
) -> Result<Option<(&'static str, Arc<Committed>)>, LakeError> {
    let mut table = table.lock().await;
    let changed = table.refresh(apps).await?;
    Ok(table.committed().filter(|_| changed).map(|committed| (name, Arc::clone(committed))))
}

/// A window on the lake, cheap to clone.
#[derive(Clone)]
pub struct LakeView {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tables: Arc<Tables>,
}

impl fmt::Debug for LakeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeView").field("snapshot", &self.snapshot().id()).finish_non_exhaustive()
    }
}

impl LakeView {
    /// Opens a lake for reading, also beside a process that writes it: what that process has staged
    /// is not visible here. Tables that do not exist yet are empty. Writes nothing.
    ///
    /// Errors: [`LakeError::DamagedEntry`] when a log entry is empty that others come after.
    pub async fn open_readonly(location: impl Into<LakeLocation>) -> Result<Self, LakeError> {
        let location: LakeLocation = location.into();
        let view = Self { shared: Arc::new(Shared::new()), tables: Arc::new(Tables::new(&location)) };
        for table in view.tables.groups.values() {
            if let Some(root) = table.lock().await.folder() {
                torn::check_middle(&root)?;
            }
        }
        view.refresh().await?;
        Ok(view)
    }

    /// The present picture. One atomic step; take one per query.
    pub fn snapshot(&self) -> Arc<LakeSnapshot> {
        self.shared.snapshot()
    }

    /// Picks up what other processes committed; `true` if anything changed. Cancel safe.
    pub async fn refresh(&self) -> Result<bool, LakeError> {
        let apps: BTreeSet<Arc<str>> =
            self.shared.staged().iter().map(|part| Arc::clone(&part.origin.app_id)).collect();
        // Collected before they are streamed: a closure inside the stream would not be `Send`.
        let refreshes: Vec<_> = self.tables.groups.iter().map(|(name, table)| refresh(name, table, &apps)).collect();
        let found: Vec<Option<(&'static str, Arc<Committed>)>> =
            stream::iter(refreshes).buffer_unordered(REFRESH_CONCURRENCY).try_collect().await?;
        let changed: Vec<_> = found.into_iter().flatten().collect();
        let mut any = !changed.is_empty();
        self.shared.publish(changed, &BTreeSet::new());
        for (dimension, table) in &self.tables.dimensions {
            if let Some(rows) = table.lock().await.refresh().await? {
                self.shared.publish_dimension(*dimension, rows);
                any = true;
            }
        }
        Ok(any)
    }

    /// The highest version of an application that any table has committed.
    pub async fn committed_version(&self, app_id: &str) -> Result<Option<i64>, LakeError> {
        let apps = BTreeSet::from([Arc::from(app_id)]);
        let mut highest = None;
        let mut learned = Vec::new();
        for (name, table) in &self.tables.groups {
            let mut table = table.lock().await;
            if table.committed().is_none() {
                // It does not exist yet.
                continue;
            }
            table.know(&apps).await?;
            if let Some(committed) = table.committed() {
                // A table that never saw the application has the lowest version there is.
                let version = committed.txns.get(app_id).copied().filter(|version| *version != i64::MIN);
                highest = highest.max(version);
                learned.push((*name, Arc::clone(committed)));
            }
        }
        self.shared.publish(learned, &BTreeSet::new());
        Ok(highest)
    }
}
