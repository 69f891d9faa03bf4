//! What can go wrong in the lake.

use std::path::PathBuf;

use datafusion::{arrow::error::ArrowError, parquet::errors::ParquetError};
use deltalake::DeltaTableError;

use crate::LocationError;

/// A failure of the lake. Committing and refreshing may be tried again after any of them; nothing
/// staged is lost by a failed commit.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// No event group or dimension of this name.
    #[error("the lake has no table `{0}`")]
    UnknownTable(String),
    /// The Delta log could not be read or written.
    #[error("table `{table}`: {doing} failed")]
    Delta {
        /// The table.
        table: String,
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: Box<DeltaTableError>,
    },
    /// Rows did not fit their columns.
    #[error("table `{table}`: the rows do not fit")]
    Arrow {
        /// The table.
        table: String,
        /// The cause.
        #[source]
        source: ArrowError,
    },
    /// A data file could not be encoded or decoded.
    #[error("table `{table}`: a Parquet file could not be {doing}")]
    Parquet {
        /// The table.
        table: String,
        /// "written", "read" or "rewritten".
        doing: &'static str,
        /// The cause.
        #[source]
        source: ParquetError,
    },
    /// A data file could not be stored or fetched.
    #[error("table `{table}`: storage refused `{path}`")]
    Storage {
        /// The table.
        table: String,
        /// Path below the table's folder.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file that is given as Parquet with a record in each row, and is none.
    #[error("not a readable Parquet file")]
    NotRecords {
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file system refused.
    #[error("`{path}` could not be made durable")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The last entry of a table's log could not be read. What it holds is not known.
    #[error("the log entry `{path}` cannot be read")]
    UnreadableEntry {
        /// The entry.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// An entry of a table's log, or a checkpoint that stands for some, is damaged, and was or may have been
    /// acknowledged: without it its rows would be lost, since nobody brings them again.
    #[error("the log entry `{path}` is damaged and stays: {why}")]
    DamagedEntry {
        /// The entry or checkpoint.
        path: PathBuf,
        /// What speaks for it.
        why: &'static str,
    },
    /// A column on disk has another type than the catalogue gives it; columns are only ever added.
    #[error("table `{table}`, column `{column}`: {found} on disk, {wanted} in the catalogue")]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Type on disk.
        found: String,
        /// Type of the catalogue.
        wanted: String,
    },
    /// Another engine wrote something this reader would read wrongly.
    #[error("table `{table}` has {what}, which this reader does not support")]
    Foreign {
        /// The table.
        table: String,
        /// What was found.
        what: &'static str,
    },
    /// A log entry was written and could not be synced: nobody knows what the disk holds until the table was opened
    /// again.
    #[error("table `{table}`: the log entry of version {version} could not be synced; start again")]
    Unsynced {
        /// The table.
        table: String,
        /// Version of the entry.
        version: u64,
    },
    /// Other writers committed in between, more often than we tried.
    #[error("table `{table}`: other writers were faster {attempts} times")]
    Contended {
        /// The table.
        table: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// A dimension table without the column its wall needs, or with rows outside any municipality.
    #[error("dimension `{dimension}` needs a `municipality_code` in every row")]
    DimensionWall {
        /// The dimension.
        dimension: &'static str,
    },
    /// The lake was opened for reading only, or is being shut down.
    #[error("a background task of the lake ended early")]
    Task(#[source] tokio::task::JoinError),
    /// The place of the lake does not answer, or has something else.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A retention too short to be safe for queries that are running.
    #[error("a retention below {min_s} s could delete files that a query still reads")]
    RetentionTooShort {
        /// The shortest allowed, seconds.
        min_s: u64,
    },
}

impl LakeError {
    pub(crate) fn delta(table: &str, doing: &'static str) -> impl FnOnce(DeltaTableError) -> Self {
        let table = table.to_owned();
        move |source| Self::Delta { table, doing, source: Box::new(source) }
    }

    pub(crate) fn arrow(table: &str) -> impl Fn(ArrowError) -> Self {
        let table = table.to_owned();
        move |source| Self::Arrow { table: table.clone(), source }
    }

    pub(crate) fn parquet(table: &str, doing: &'static str) -> impl Fn(ParquetError) -> Self {
        let table = table.to_owned();
        move |source| Self::Parquet { table: table.clone(), doing, source }
    }
}
