//! Copies SQLite's write-ahead log into the database, beside those who write.
//!
//! Left to itself SQLite does so at the end of a commit, each time the log has 1000 pages: the one writer copies and
//! syncs, and everybody waits for the writer. Here a connection of its own copies in passes (`PASSIVE`), and this
//! module syncs the database after each, so that little is left to do in the moment when the log begins anew
//! (`RESTART`). Only for that moment the writer is held.
//!
//! What survives power loss stays as it is: SQLite syncs the log before it copies a page of it, and the database before
//! it lets the log begin anew. What a commit waits for (`group_sync`) is in the one or in the other by then, and the
//! log that begins anew is the same file.
//!
//! **Limits.** A log is begun anew from [`Limits::restart_pages`] on; before that, whenever everything is copied and
//! nobody reads from it. As long as one transaction reads, the log behind its snapshot cannot go away, and grows with
//! what is written: the longest one is a backup. Should this task not keep up with the writes, or be gone, SQLite
//! copies at the end of a commit again, from [`AUTOCHECKPOINT_PAGES`] on: writers are then as slow as the disk.

use std::{fs::File, mem::ManuallyDrop, path::Path, sync::Arc, time::Duration};

use sqlx::{
    Pool, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::sync::mpsc;

use crate::{group_sync::GroupSync, writer::Writer};

/// Pages of the log from which the writer copies, 1 GiB: four times what the log has before it begins anew.
pub(crate) const AUTOCHECKPOINT_PAGES: &str = "262144";
/// What the log's file keeps when it begins anew after it had to grow, 320 MiB. More than
/// [`Limits::restart_pages`]: blocks that are there already are synced faster than new ones.
pub(crate) const LOG_BYTES_KEPT: &str = "335544320";

/// Pause between two passes. What a busy server writes in that time is a few MiB.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the log may wait for those who read from it before it begins anew. All writers wait as long.
const READERS_WAIT: Duration = Duration::from_millis(50);

const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";
const COPY: &str = "PRAGMA wal_checkpoint(PASSIVE)";
const BEGIN_ANEW: &str = "PRAGMA wal_checkpoint(RESTART)";

/// When something is done, in pages of 4 KiB.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Pages that wait before they are copied. A page that changes often is copied once for all its changes, so more
    /// is less work: at 64 MiB a third of that at 4 MiB. What waits is read again after a crash.
    copy_pages: i64,
    /// Length of the log from which writers wait until it begins anew. Each time costs them some milliseconds: at 256
    /// MiB that is every few seconds of the greatest load.
    restart_pages: i64,
}

const LIMITS: Limits = Limits { copy_pages: 16_384, restart_pages: 65_536 };

/// Length of the log, and how much of it the database has.
struct Log {
    /// Whether somebody was in the way.
    is_busy: bool,
    /// −1 when another process is at it.
    n_pages: i64,
    n_copied: i64,
}

async fn checkpoint(on: &mut SqliteConnection, how: &'static str) -> Result<Log, sqlx::Error> {
    let (busy, n_pages, n_copied): (i64, i64, i64) = sqlx::query_as(how).fetch_one(on).await?;
    Ok(Log { is_busy: busy != 0, n_pages, n_copied })
}

/// Tells the task that copies of what is written. It ends when the last of these is gone, or with [`Self::close`].
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    written: mpsc::Sender<()>,
    connection: Pool<Sqlite>,
}

impl Checkpoints {
    /// Begins to copy the log of `database`, which `write` has opened. A disk that fails is told to `sync`.
    pub(crate) async fn begin(
        database: &Path,
        options: SqliteConnectOptions,
        write: Writer,
        sync: Arc<GroupSync>,
    ) -> Result<Self, sqlx::Error> {
        let keeper = Keeper::open(database, options, write, sync, LIMITS).await?;
        let connection = keeper.connection.clone();
        // One is enough: it stands for everything written until the next pass.
        let (written, told) = mpsc::channel(1);
        #[expect(clippy::disallowed_methods, reason = "it ends with the record")]
        tokio::spawn(keeper.run(told));
        Ok(Self { written, connection })
    }

    /// Something was written.
    pub(crate) fn note_write(&self) {
        // Full: it will be looked at anyway. Closed: the task has said why.
        let _ = self.written.try_send(());
    }

    /// Waits for the pass that is under way and ends.
    pub(crate) async fn close(&self) {
        self.connection.close().await;
    }
}

/// The task that copies.
struct Keeper {
    connection: Pool<Sqlite>,
    write: Writer,
    /// The database once more, for syncing it. Never closed: with any descriptor that is closed a process loses the
    /// locks SQLite holds on the file, and others would think that nobody has it open.
    database: Arc<ManuallyDrop<File>>,
    sync: Arc<GroupSync>,
    limits: Limits,
    /// Length of the log when readers kept it from beginning anew.
    kept_at: Option<i64>,
}

impl Keeper {
    async fn open(
        database: &Path,
        options: SqliteConnectOptions,
        write: Writer,
        sync: Arc<GroupSync>,
        limits: Limits,
    ) -> Result<Self, sqlx::Error> {
        let connection = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None::<Duration>)
            .max_lifetime(None::<Duration>)
            .connect_with(options.busy_timeout(READERS_WAIT))
            .await?;
        let database = Arc::new(ManuallyDrop::new(File::open(database)?));
        Ok(Self { connection, write, database, sync, limits, kept_at: None })
    }

    async fn run(mut self, mut told: mpsc::Receiver<()>) {
        while told.recv().await.is_some() {
            match self.pass().await {
                Ok(()) => {}
                Err(sqlx::Error::PoolClosed) => return,
                Err(error) if is_of_disk(&error) => {
                    // What was not synced may be gone from memory, too: the next sync would say that all is well.
                    self.sync.give_up();
                    tracing::error!(error = %error, "the disk failed the record, which has to be opened again");
                    return;
                }
                Err(error) => tracing::warn!(error = %error, "the log of the record waits"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Copies what waits, if that is enough for a pass.
    async fn pass(&mut self) -> Result<(), sqlx::Error> {
        self.sync.check()?;
        let mut on = self.connection.acquire().await?;
        let log = checkpoint(&mut on, LOOK).await?;
        if log.n_pages - log.n_copied < self.limits.copy_pages {
            return Ok(());
        }
        let log = checkpoint(&mut on, COPY).await?;
        let database = Arc::clone(&self.database);
        tokio::task::spawn_blocking(move || database.sync_data()).await.map_err(std::io::Error::other)??;
        if !self.is_long(log.n_pages) {
            return Ok(());
        }
        let writer = self.write.hold().await?;
        let log = checkpoint(&mut on, BEGIN_ANEW).await?;
        drop(writer);
        self.kept_at = log.is_busy.then_some(log.n_pages);
        if log.is_busy {
            tracing::info!(log.pages = log.n_pages, "a reader keeps the log of the record from beginning anew");
        }
        Ok(())
    }

    /// Whether to hold the writers now. Who reads for long costs them the wait only once for as much as a whole log.
    fn is_long(&self, n_pages: i64) -> bool {
        let has_grown = self.kept_at.is_none_or(|then| n_pages < then || n_pages >= then + self.limits.restart_pages);
        n_pages >= self.limits.restart_pages && has_grown
    }
}

/// Whether the disk failed, after which nobody knows what it holds.
fn is_of_disk(error: &sqlx::Error) -> bool {
    /// `SQLITE_IOERR`, the low byte of all its kinds.
    const IOERR: i32 = 10;
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(fault) => {
            fault.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xff == IOERR)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use todoke_domain::Timestamp;

    use super::*;
    use crate::{Db, Durability, Store, Wall, municipality::Instance};

    const SHORT: Limits = Limits { copy_pages: 20, restart_pages: 200 };

    /// A record, and a task that copies its log when it is told to: the record's own waits for more than a test writes.
    async fn record(path: &Path) -> (Store, Keeper) {
        let store = Store::open_sqlite(path, Durability::Full).await.unwrap();
        let Db::Sqlite { write, durable: Some(durable), .. } = &store.db else { panic!("a durable record on SQLite") };
        let (write, sync) = (write.clone(), Arc::clone(&durable.sync));
        let options = SqliteConnectOptions::new().filename(path);
        let keeper = Keeper::open(path, options, write, sync, SHORT).await.unwrap();
        let mut tx = store.begin_write(Wall::None).await.unwrap();
        let identity = Instance { epoch: "first".to_owned(), token_secret: String::new() };
        tx.insert_instance(&identity, Timestamp::from_micros(0)).await.unwrap();
        tx.commit().await.unwrap();
        (store, keeper)
    }

    /// A text of ten pages, all of them different from those of another number: SQLite writes no page that stays.
    fn ten_pages(n: usize) -> String {
        format!("{n:05}").repeat(8_000)
    }

    /// Commits that change ten pages and more each.
    async fn write(store: &Store, n: usize) {
        for n in 0..n {
            store.renew_epoch(&ten_pages(n)).await.unwrap();
        }
    }

    async fn epoch(tx: &mut crate::Tx) -> String {
        tx.instance().await.unwrap().unwrap().epoch
    }

    async fn log_of(keeper: &Keeper) -> Log {
        checkpoint(&mut keeper.connection.acquire().await.unwrap(), LOOK).await.unwrap()
    }

    #[tokio::test]
    async fn the_log_grows_only_while_somebody_reads_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.sqlite");
        let log_path = folder.path().join("record.sqlite-wal");
        let (store, mut keeper) = record(&path).await;

        let mut reader = store.begin_read(Wall::None).await.unwrap();
        assert_eq!(epoch(&mut reader).await, "first");
        for _ in 0..3 {
            write(&store, 30).await;
            keeper.pass().await.unwrap();
        }
        assert!(log_of(&keeper).await.n_pages > 3 * SHORT.restart_pages, "nothing that is read may go away");
        assert_eq!(epoch(&mut reader).await, "first", "a reader sees one moment");
        // Not dropped: only an end that is waited for has taken place.
        reader.commit().await.unwrap();

        let bytes = std::fs::metadata(&log_path).unwrap().len();
        for _ in 0..4 {
            write(&store, 30).await;
            keeper.pass().await.unwrap();
            let log = log_of(&keeper).await;
            assert_eq!(log.n_copied, log.n_pages, "nobody reads");
        }
        write(&store, 1).await;
        assert!(log_of(&keeper).await.n_pages < SHORT.restart_pages, "it began anew");
        assert!(std::fs::metadata(&log_path).unwrap().len() < 2 * bytes, "the file is used again");

        keeper.connection.close().await;
        store.close().await;
        assert!(!log_path.exists(), "all of it is in the database");
        let store = Store::open_sqlite(&path, Durability::Full).await.unwrap();
        assert_eq!(epoch(&mut store.begin_read(Wall::None).await.unwrap()).await, ten_pages(0));
        store.close().await;
    }

    #[tokio::test]
    async fn little_is_not_worth_a_pass() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut keeper) = record(&folder.path().join("record.sqlite")).await;
        keeper.pass().await.unwrap();
        write(&store, 1).await;
        let before = log_of(&keeper).await;
        keeper.limits.copy_pages = before.n_pages - before.n_copied + 1;
        keeper.pass().await.unwrap();
        assert_eq!(log_of(&keeper).await.n_copied, before.n_copied);
        keeper.limits.copy_pages -= 1;
        keeper.pass().await.unwrap();
        assert_eq!(log_of(&keeper).await.n_copied, before.n_pages);
    }

    #[tokio::test]
    async fn who_reads_for_long_holds_up_the_writers_once_for_a_whole_log() {
        let folder = tempfile::tempdir().unwrap();
        let (_store, mut keeper) = record(&folder.path().join("record.sqlite")).await;
        assert!(!keeper.is_long(SHORT.restart_pages - 1) && keeper.is_long(SHORT.restart_pages));
        keeper.kept_at = Some(300);
        assert!(!keeper.is_long(300) && !keeper.is_long(499) && keeper.is_long(500));
        assert!(keeper.is_long(250), "it began anew since");
    }

    #[tokio::test]
    async fn a_disk_that_failed_is_not_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut keeper) = record(&folder.path().join("record.sqlite")).await;
        keeper.sync.give_up();
        assert!(is_of_disk(&keeper.pass().await.unwrap_err()));
        assert!(store.begin_write(Wall::None).await.is_err(), "nothing is promised any more");
    }
}
