//! The lake: one Delta table of Parquet files per event group, and what queries may see of it.
//!
//! Writing: [`EventRows`] makes rows of events, [`Lake::stage`] shows them to queries at once,
//! [`Lake::flush`] commits them. Every commit carries the application transaction of its
//! [`Origin`], so a replay adds nothing.
//!
//! Reading: [`LakeView::snapshot`] is one consistent picture of all tables: what is committed plus
//! what this process has staged. A table is handed out for one [`Scope`]; the files of another
//! municipality are not in it, so no SQL can reach them.
//!
//! A lake lies in a folder or in a bucket of an object store ([`LakeLocation`]); several processes may write the same
//! one, as long as their origins differ or are the same stream.
//!
//! Delta has no unsigned integers and no dictionary type: `UInt16` is `Int32`, `UInt64` is `Int64`,
//! and codes are strings that Parquet stores as dictionaries.

mod backup;
mod checkpoint;
mod columns;
mod dimension;
mod durable;
mod erase;
mod error;
mod file;
mod holder;
mod lake;
mod location;
mod log_files;
mod maintenance;
mod merge;
mod parquet_records;
mod provider;
mod prune;
mod retention;
mod rewrite;
mod rows;
mod same_id;
mod schema;
mod slice;
mod stored;
mod table;
mod torn;
mod upkeep;
mod verify;
mod view;

pub use backup::{PinnedLake, pin_lake};
pub use columns::{Cell, Row, RowPlace, RowSource, RowType};
pub use dimension::Dimension;
pub use erase::{ErasedTable, Erasure, Searched, search_keys, search_lake};
pub use error::LakeError;
pub use lake::{BulkReport, Flushed, Lake, LakeOptions};
pub use location::{LakeLocation, LocationError, Probed};
pub use maintenance::{CompactOptions, Compacted, TableStats};
pub use parquet_records::ParquetRecords;
pub use provider::Scope;
pub use retention::{Expired, Retention};
pub use rows::{EventRows, RowError, RowFault, value_fits};
pub use torn::Told;
pub use upkeep::Upkeep;
pub use verify::{DayCheck, LakeCheck, Recorded};
pub use view::{DayState, LakeSnapshot, LakeView, Origin};

/// The table of rows that could not become, or stay, lake rows: ids and reasons, and the content of those that were
/// rows of another table.
pub const QUARANTINE: &str = "quarantine";
