//! Answers that wait for what they rest on.
//!
//! On SQLite a use case may see what others did in the transaction it shares with them (`writer`), which may still fail.
//! Who commits hears of it. Who finds nothing to change, or refuses, ends without a commit, and its answer rests on
//! what it saw all the same. So only what runs inside [`when_settled`] shares transactions: that is where such an
//! answer is held back. Everything else begins with a transaction of its own.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use crate::{StoreError, group_sync::GroupSync};

/// What becomes of a transaction that several use cases share.
pub(crate) type Outcome = oneshot::Receiver<Result<(), StoreError>>;

tokio::task_local! {
    static SEEN: Arc<Seen>;
}

/// Runs `work` and gives what came of it when everything that its use cases saw is durable. Where nothing is on its way
/// it waits for nothing.
///
/// Errors: something that `work` saw was not committed, so what came of it may be wrong. From that moment on no further
/// use case of `work` begins. Cancel safe in so far as `work` is.
pub async fn when_settled<F: Future>(work: F) -> Result<F::Output, StoreError> {
    let seen = Arc::new(Seen::default());
    let output = SEEN.scope(Arc::clone(&seen), work).await;
    seen.durable().await?;
    Ok(output)
}

/// Where a use case that begins now notes what it saw; `None` when nobody would wait for it.
pub(crate) fn seen() -> Option<Arc<Seen>> {
    SEEN.try_with(Arc::clone).ok()
}

/// What use cases saw that ended without a commit.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    sights: Mutex<Sights>,
    /// An outcome wakes only whoever asked last.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Sights {
    /// Of transactions that were open then.
    outcomes: Vec<Outcome>,
    /// Where what is committed may be on its way to the disk.
    syncs: Vec<Arc<GroupSync>>,
    has_failed: bool,
}

impl Seen {
    /// Notes a use case that ended without a commit: in a transaction that others wait for, where `outcome` is there.
    pub(crate) fn note(&self, outcome: Option<Outcome>, sync: Option<&Arc<GroupSync>>) {
        let mut sights = self.sights();
        sights.outcomes.extend(outcome);
        if let Some(sync) = sync
            && !sights.syncs.iter().any(|known| Arc::ptr_eq(known, sync))
        {
            sights.syncs.push(Arc::clone(sync));
        }
    }

    /// Waits until what was seen is committed. Cancel safe.
    pub(crate) async fn committed(&self) -> Result<(), StoreError> {
        let _asking = self.asking.lock().await;
        poll_fn(|cx| self.sights().poll_committed(cx)).await
    }

    /// Waits until what was seen survives power loss.
    async fn durable(&self) -> Result<(), StoreError> {
        self.committed().await?;
        let syncs = std::mem::take(&mut self.sights().syncs);
        for sync in syncs {
            sync.reach_written().await.map_err(sqlx::Error::Io)?;
        }
        Ok(())
    }

    fn sights(&self) -> MutexGuard<'_, Sights> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sights {
    fn poll_committed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        while let Some(outcome) = self.outcomes.last_mut() {
            let told = match Pin::new(outcome).poll(cx) {
                Poll::Ready(told) => told.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed.into())),
                Poll::Pending => return Poll::Pending,
            };
            self.outcomes.pop();
            if let Err(error) = told {
                self.has_failed = true;
                return Poll::Ready(Err(error));
            }
        }
        if self.has_failed {
            let error = io::Error::other("what was seen before was not committed");
            return Poll::Ready(Err(sqlx::Error::Io(error).into()));
        }
        Poll::Ready(Ok(()))
    }
}
