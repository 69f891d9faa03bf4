//! The record's side of the lake: its events, in numbered batches.

use todoke_ingest::{FeedError, LakeBatch, RecordFeed};
use todoke_store::Store;

/// Hands the record's events to the lake's sink.
#[derive(Debug)]
pub struct StoreFeed {
    store: Store,
    epoch: String,
}

impl StoreFeed {
    /// Over a record with its epoch: a new record beside an old lake must not pass for the old one.
    pub fn new(store: Store, epoch: &str) -> Self {
        Self { store, epoch: epoch.to_owned() }
    }
}

#[async_trait::async_trait]
impl RecordFeed for StoreFeed {
    fn app_id(&self) -> String {
        format!("record:{}", self.epoch)
    }

    async fn assign(&self, after_batch_no: i64, n_max: u32) -> Result<Option<LakeBatch>, FeedError> {
        let batch = self.store.assign_lake_batch(after_batch_no, i64::from(n_max)).await;
        let batch = batch.map_err(|error| FeedError(Box::new(error)))?;
        Ok(batch.map(|batch| LakeBatch { batch_no: batch.batch_no, events: batch.events }))
    }

    async fn finish(&self, through_batch_no: i64) -> Result<(), FeedError> {
        self.store.finish_lake_batches(through_batch_no).await.map_err(|error| FeedError(Box::new(error)))
    }
}
