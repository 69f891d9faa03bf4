//! The record's side of the way to the lake, as ingest needs it.

use async_trait::async_trait;
use todoke_domain::Event;

/// Events of the record that go to the lake together. The content of a number never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct LakeBatch {
    /// 1, 2, 3, …
    pub batch_no: i64,
    /// In the order in which they were recorded.
    pub events: Vec<Event>,
}

/// The record could not answer; worth trying again.
#[derive(Debug, thiserror::Error)]
#[error("the record could not answer")]
pub struct FeedError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Hands out the record's events in numbered batches. Implemented over the store.
#[async_trait]
pub trait RecordFeed: Send + Sync {
    /// Names the numbering. A record that starts counting anew must give another name, or the lake
    /// takes its new batches for ones it has.
    fn app_id(&self) -> String {
        "record".to_owned()
    }

    /// The unfinished batch with the lowest number above `after_batch_no`; if there is none, a new
    /// batch of unassigned events, at most `n_max`; `None` if there is nothing to do, or if another
    /// node holds the relay's lease.
    async fn assign(&self, after_batch_no: i64, n_max: u32) -> Result<Option<LakeBatch>, FeedError>;

    /// Marks every batch with a number up to `through_batch_no` as finished. Idempotent.
    async fn finish(&self, through_batch_no: i64) -> Result<(), FeedError>;
}
