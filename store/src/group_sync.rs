//! Durable commits on SQLite, many with one sync.
//!
//! SQLite can sync its write-ahead log inside every commit (`synchronous = FULL`), but then the one writer waits
//! for the disk while others wait for the writer. Here commits are written without a sync (`NORMAL`), and each is
//! told to its caller only after a sync of the log that began after it: one sync serves all who wait. What a
//! transaction may see is then a moment ahead of what survives power loss; [`GroupSync::settled`] is for those who
//! must not pass that on.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The write-ahead log of a SQLite file.
pub(crate) struct WalFile {
    path: PathBuf,
    folder: PathBuf,
    /// Device and inode of the log whose name in the folder is durable.
    named: Mutex<Option<(u64, u64)>>,
}

impl WalFile {
    /// The log beside `database`.
    pub(crate) fn of(database: &std::path::Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self {
            path: path.into(),
            folder: folder.map_or_else(|| PathBuf::from("."), ToOwned::to_owned),
            named: Mutex::new(None),
        }
    }

    /// Makes everything that is written durable. The file is opened anew each time, since SQLite may have
    /// replaced it. Where there is none, SQLite has moved everything into the database and synced that.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        file.sync_data()?;
        let found = file.metadata()?;
        let found = Some((found.dev(), found.ino()));
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if *named != found {
            File::open(&self.folder)?.sync_all()?;
            *named = found;
        }
        Ok(())
    }
}

/// Joins the syncs of commits that end at about the same time.
pub(crate) struct GroupSync {
    sync: Arc<dyn Fn() -> io::Result<()> + Send + Sync>,
    /// Commits that are being written now.
    under_way: AtomicU64,
    /// Commits written so far.
    written: AtomicU64,
    /// How many of those are durable.
    durable: AtomicU64,
    /// After a failed sync nobody knows what the disk holds.
    has_failed: Arc<AtomicBool>,
    turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for GroupSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSync")
            .field("written", &self.written)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

/// A commit that is being written, until this is dropped. Counted then, whatever became of it: a sync too many does
/// no harm.
pub(crate) struct Writing<'a>(&'a GroupSync);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.written.fetch_add(1, Ordering::SeqCst);
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl GroupSync {
    /// Syncs with `sync`, which may block.
    pub(crate) fn new(sync: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self {
            sync: Arc::new(sync),
            under_way: AtomicU64::new(0),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            has_failed: Arc::new(AtomicBool::new(false)),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// To be held while a commit is written.
    pub(crate) fn writing(&self) -> Writing<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        Writing(self)
    }

    /// Waits until every commit that can be seen now survives power loss.
    ///
    /// Errors: the sync failed, now or earlier; only opening the record again tells what the disk holds.
    /// Cancel safe.
    pub(crate) async fn settled(&self) -> io::Result<()> {
        self.check()?;
        let is_writing = self.under_way.load(Ordering::SeqCst) > 0;
        let wanted = self.written.load(Ordering::SeqCst);
        if is_writing {
            // It may be visible already, and it is not counted yet.
            let turn = self.turn.lock().await;
            return self.sync_now(&turn).await;
        }
        self.reach(wanted).await
    }

    /// Waits until the commits written so far survive power loss; one's own must be among them.
    pub(crate) async fn reach_written(&self) -> io::Result<()> {
        self.reach(self.written.load(Ordering::SeqCst)).await
    }

    /// An error once a sync has failed.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.has_failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("the record could not be synced to its disk; it has to be opened again"));
        }
        Ok(())
    }

    /// Nothing is promised any more: the disk failed somebody else who writes what was committed.
    pub(crate) fn give_up(&self) {
        self.has_failed.store(true, Ordering::SeqCst);
    }

    async fn reach(&self, wanted: u64) -> io::Result<()> {
        if self.durable.load(Ordering::SeqCst) >= wanted {
            return self.check();
        }
        let turn = self.turn.lock().await;
        if self.durable.load(Ordering::SeqCst) >= wanted {
            return self.check();
        }
        self.sync_now(&turn).await
    }

    async fn sync_now(&self, _turn: &tokio::sync::MutexGuard<'_, ()>) -> io::Result<()> {
        self.check()?;
        let covered = self.written.load(Ordering::SeqCst);
        let (sync, has_failed) = (Arc::clone(&self.sync), Arc::clone(&self.has_failed));
        // Noted over there: whoever waits here may be gone by then.
        let sync = move || sync().inspect_err(|_| has_failed.store(true, Ordering::SeqCst));
        tokio::task::spawn_blocking(sync).await.map_err(io::Error::other)??;
        self.durable.store(covered, Ordering::SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_sync_serves_all_who_wait_and_none_that_came_after_it_began() {
        let (began, beginnings) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let group = Arc::new(GroupSync::new(move || {
            began.send(()).unwrap();
            may_go_on.lock().unwrap().recv().unwrap();
            Ok(())
        }));
        let commit = || {
            let group = Arc::clone(&group);
            drop(group.writing());
            tokio::spawn(async move { group.reach_written().await })
        };
        let first = commit();
        beginnings.recv().unwrap();
        // These are written while a sync is running, which may have missed them.
        let others = [commit(), commit(), commit()];
        go_on.send(()).unwrap();
        first.await.unwrap().unwrap();
        beginnings.recv().unwrap();
        go_on.send(()).unwrap();
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert_eq!(beginnings.try_iter().count(), 0, "one more sync for the three");
    }

    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_promised_any_more() {
        let group = GroupSync::new(|| Err(io::Error::other("no disk")));
        group.settled().await.unwrap();
        drop(group.writing());
        assert_eq!(group.reach_written().await.unwrap_err().to_string(), "no disk");
        assert!(group.check().is_err() && group.settled().await.is_err());
    }

    #[tokio::test]
    async fn what_is_still_being_written_is_waited_for_by_a_sync() {
        let n_syncs = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&n_syncs);
        let group = GroupSync::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        group.settled().await.unwrap();
        assert_eq!(n_syncs.load(Ordering::SeqCst), 0, "nothing was written");
        drop(group.writing());
        group.settled().await.unwrap();
        group.settled().await.unwrap();
        assert_eq!(n_syncs.load(Ordering::SeqCst), 1);
        let writing = group.writing();
        group.settled().await.unwrap();
        assert_eq!(n_syncs.load(Ordering::SeqCst), 2, "it may be visible already");
        drop(writing);
        group.settled().await.unwrap();
        assert_eq!(n_syncs.load(Ordering::SeqCst), 3, "and that sync may have come too early for it");
    }
}
