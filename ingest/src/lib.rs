//! Events in: app usage and the record's own events, on their way into the lake.
//!
//! [`usage::parse`] makes events of what a client sent, [`UsageLog::append`] makes them durable before
//! they are acknowledged, and [`LakeSink`] takes them and the batches of a [`RecordFeed`] to the lake:
//! visible to queries at once, committed by size or age, each exactly once. [`history`] reads events of
//! the past from files.

mod backup;
pub mod body;
pub mod cloud_event;
mod error;
mod feed;
pub mod history;
mod instant;
mod items;
mod json;
pub mod keepable;
mod log_writer;
mod plan;
mod recovery;
mod reject;
mod row;
mod search;
mod segment;
mod sink;
pub mod usage;
mod usage_log;
mod window;

pub use backup::{LogCopy, PinnedLog};
pub use error::{IngestError, LogFault};
pub use feed::{FeedError, LakeBatch, RecordFeed};
pub use reject::{REJECTED_MAX, RejectReason, Rejected};
pub use row::{EncodedEvents, UnknownEvent};
pub use search::search_log;
pub use sink::{LakeSink, Now, SinkConfig, SinkStatus};
pub use usage_log::{Receipt, UsageEntry, UsageLog, UsageLogConfig};
