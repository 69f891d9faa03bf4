//! The one writer of a SQLite record. Use cases take turns at it, and those that queue share a transaction.
//!
//! At a commit SQLite writes every page the transaction touched to its log. Use cases touch mostly the same ones, the
//! ends of tables and indexes, so that a commit for each of them wrote the same pages again and again. Here a use case is
//! a savepoint. When it is done and others wait, the transaction stays open for them: they were there before the task
//! that commits it, which queues behind them. When nobody waits, or after [`MEMBERS_MAX`], it is committed at once.
//!
//! Nobody is told of success before the commit. A use case that fails is undone alone; when the commit fails, all of its
//! members have failed. Until then a use case sees what those before it in the transaction did, and shares their fate;
//! also one that ends without a commit, whose answer waits (`settled`). Who has nobody to wait for the answer, or is
//! long, commits what the others did and begins with a transaction of its own.

use std::{
    fmt, io,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection, Sqlite, SqliteConnection, Transaction, sqlite::SqliteConnectOptions};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard, oneshot},
    time::timeout,
};

use crate::{
    StoreError,
    group_sync::GroupSync,
    later::Later,
    settled::{Outcome, Seen},
};

/// Use cases in one transaction. What one of them waits longer is the work of those after it: of payments a few dozen
/// milliseconds.
const MEMBERS_MAX: usize = 16;
/// How long a use case waits for its turn.
const TURN_WAIT_MAX: Duration = Duration::from_secs(30);

const OPEN: &str = "BEGIN IMMEDIATE";
const ENTER: &str = "SAVEPOINT use_case";
const LEAVE: &str = "RELEASE use_case";
const UNDO: &str = "ROLLBACK TO use_case";
const CLOSE: &str = "COMMIT";
const CLOSE_UNDONE: &str = "ROLLBACK";

/// How much a use case does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// What one request of a person does.
    Short,
    /// A file of rows, a page of people. It is alone in its transaction: who is done before it does not wait for it,
    /// and who comes after it does not share its fate.
    Long,
}

/// Hands the connection that writes to one use case after the other. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    seat: Arc<Mutex<Seat>>,
    /// Use cases that wait for their turn.
    waiting: Arc<AtomicUsize>,
    /// Where a commit has to survive power loss.
    sync: Option<Arc<GroupSync>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

type Told = oneshot::Sender<Result<(), StoreError>>;

/// What whose turn it is has.
struct Seat {
    /// `None` once the record is closed.
    connection: Option<SqliteConnection>,
    /// A transaction is open, and these wait for its commit: who is done, and at last who ended without one.
    members: Vec<Told>,
    /// A use case ended where nothing could be undone: outside of a runtime.
    is_left: bool,
}

/// Counts who waits, also when they go away.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(waiting: &Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(waiting))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Writer {
    /// Opens the connection. It stays open: without any connection SQLite would remove its log, and `group_sync` would
    /// not know a new one from the old.
    pub(crate) async fn open(options: &SqliteConnectOptions, sync: Option<Arc<GroupSync>>) -> Result<Self, StoreError> {
        let mut connection = SqliteConnection::connect_with(options).await?;
        sqlx::migrate!("migrations/sqlite").run(&mut connection).await?;
        let seat = Seat { connection: Some(connection), members: Vec::new(), is_left: false };
        Ok(Self { seat: Arc::new(Mutex::new(seat)), waiting: Arc::default(), sync })
    }

    /// Waits for its turn and begins a use case. Only with `seen` may it share a transaction that is open.
    ///
    /// Cancel safe: what it began is undone.
    pub(crate) async fn begin(&self, length: Length, seen: Option<Arc<Seen>>) -> Result<Turn, StoreError> {
        let waiting = Waiting::new(&self.waiting);
        let seat = timeout(TURN_WAIT_MAX, Arc::clone(&self.seat).lock_owned()).await;
        drop(waiting);
        let seat = seat.map_err(|_| sqlx::Error::PoolTimedOut)?;
        if seat.connection.is_none() {
            return Err(sqlx::Error::PoolClosed.into());
        }
        let mut turn = Turn { seat: Some(seat), writer: self.clone(), length, seen };
        // To the end even if the caller goes away: whoever undoes it has to know that it began.
        let enter = async move {
            turn.enter().await?;
            Ok(turn)
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the answer of the database")]
        let begun = tokio::spawn(enter);
        begun.await.unwrap_or(Err(StoreError::from(sqlx::Error::WorkerCrashed)))
    }

    /// Holds all use cases back until the result is dropped; none is under way then, and no transaction open.
    pub(crate) async fn hold(&self) -> Result<Held, sqlx::Error> {
        let mut seat = Arc::clone(&self.seat).lock_owned().await;
        seat.commit_shared(self.sync.as_deref()).await;
        if seat.connection.is_none() {
            return Err(sqlx::Error::PoolClosed);
        }
        Ok(Held { _seat: seat })
    }

    /// Waits for the use case under way and closes the connection.
    pub(crate) async fn close(&self) {
        let mut seat = self.seat.lock().await;
        seat.commit_shared(self.sync.as_deref()).await;
        if let Some(connection) = seat.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(error = %error, "the record's connection did not close");
        }
    }

    /// Commits the open transaction behind those who wait now.
    fn commit_soon(&self) {
        let writer = self.clone();
        #[expect(clippy::disallowed_methods, reason = "it ends with the commit, which several wait for")]
        tokio::spawn(async move {
            let mut seat = writer.seat.lock().await;
            seat.commit_shared(writer.sync.as_deref()).await;
        });
    }
}

/// Nobody writes while this is there.
pub(crate) struct Held {
    _seat: OwnedMutexGuard<Seat>,
}

impl Seat {
    async fn run(&mut self, statements: &[&str], later: &mut Later) -> Result<(), StoreError> {
        for statement in statements {
            later.add(statement, |_| Ok(()))?;
        }
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        later.run(connection).await.map(drop)
    }

    /// Takes the present use case back. Those who are done are committed without it, unless it took the transaction
    /// with it: a full disk and the like end that, too.
    async fn undo(&mut self, sync: Option<&GroupSync>) {
        if self.members.is_empty() {
            self.roll_back().await;
            return;
        }
        match self.run(&[UNDO, LEAVE], &mut Later::default()).await {
            Ok(()) => self.commit_shared(sync).await,
            Err(error) => self.fail(error).await,
        }
    }

    async fn roll_back(&mut self) {
        if let Err(error) = self.run(&[CLOSE_UNDONE], &mut Later::default()).await {
            // Where SQLite has done so by itself, or nothing had begun, there is nothing to take back.
            tracing::debug!(error = %error, "nothing was rolled back");
        }
    }

    async fn fail(&mut self, error: StoreError) {
        self.roll_back().await;
        let error = Arc::new(error);
        for member in self.members.drain(..) {
            let shared = sqlx::Error::Io(io::Error::other(Arc::clone(&error)));
            let _ = member.send(Err(StoreError::Database(shared)));
        }
    }

    /// Commits what is open, if anything is.
    async fn commit_shared(&mut self, sync: Option<&GroupSync>) {
        if self.members.is_empty() {
            return;
        }
        let writing = sync.map(GroupSync::writing);
        let committed = self.run(&[CLOSE], &mut Later::default()).await;
        drop(writing);
        match committed {
            Ok(()) => self.tell_all(),
            Err(error) => self.fail(error).await,
        }
    }

    /// Lets whoever sees what the members did hear what becomes of it; `None` where there are none.
    fn outcome(&mut self) -> Option<Outcome> {
        if self.members.is_empty() {
            return None;
        }
        let (told, hears) = oneshot::channel();
        self.members.push(told);
        Some(hears)
    }

    fn tell_all(&mut self) {
        for member in self.members.drain(..) {
            // Whoever went away does not need to know.
            let _ = member.send(Ok(()));
        }
    }
}

/// A use case under way on the connection that writes. Dropped, it is undone.
pub(crate) struct Turn {
    /// `None` only once it is over.
    seat: Option<OwnedMutexGuard<Seat>>,
    writer: Writer,
    length: Length,
    /// Where it notes what it saw, should it end without a commit.
    seen: Option<Arc<Seen>>,
}

impl Turn {
    fn seat(&mut self) -> &mut Seat {
        self.seat.as_deref_mut().expect(IN_TURN)
    }

    async fn enter(&mut self) -> Result<(), StoreError> {
        let sync = self.writer.sync.clone();
        let shares = self.length == Length::Short && self.seen.is_some();
        let seat = self.seat();
        if std::mem::take(&mut seat.is_left) {
            seat.undo(sync.as_deref()).await;
        }
        if !shares {
            seat.commit_shared(sync.as_deref()).await;
        }
        let statements: &[&str] = if seat.members.is_empty() { &[OPEN, ENTER] } else { &[ENTER] };
        seat.run(statements, &mut Later::default()).await
    }

    /// Ends the use case with the writes that still wait, and waits until the transaction is committed.
    ///
    /// Dropped meanwhile it is carried to its end all the same.
    pub(crate) async fn commit(self, later: Later) -> Result<(), StoreError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the commit; dropped halfway nobody would know its outcome"
        )]
        let committing = tokio::spawn(self.leave(later));
        committing.await.unwrap_or(Err(StoreError::from(sqlx::Error::WorkerCrashed)))
    }

    async fn leave(mut self, mut later: Later) -> Result<(), StoreError> {
        let sync = self.writer.sync.clone();
        let is_for_others = self.length == Length::Short && self.writer.waiting.load(Ordering::SeqCst) > 0;
        let seat = self.seat();
        if !is_for_others || seat.members.len() + 1 >= MEMBERS_MAX {
            let writing = sync.as_deref().map(GroupSync::writing);
            // After an error the drop of this takes back what can be taken back.
            let committed = seat.run(&[LEAVE, CLOSE], &mut later).await;
            drop(writing);
            committed?;
            seat.tell_all();
            self.seat = None;
            return Ok(());
        }
        seat.run(&[LEAVE], &mut later).await?;
        let (told, hears) = oneshot::channel();
        seat.members.push(told);
        let is_first = seat.members.len() == 1;
        self.seat = None;
        if is_first {
            self.writer.commit_soon();
        }
        hears.await.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed.into()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut seat) = self.seat.take() else { return };
        let sync = self.writer.sync.clone();
        if let Some(seen) = &self.seen {
            seen.note(seat.outcome(), sync.as_ref());
        }
        match Handle::try_current() {
            Ok(runtime) => {
                // With the seat: whoever is next finds it in order.
                runtime.spawn(async move { seat.undo(sync.as_deref()).await });
            }
            Err(_) => seat.is_left = true,
        }
    }
}

const IN_TURN: &str = "a turn has the connection until it is over";

impl Deref for Turn {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.seat.as_ref().and_then(|seat| seat.connection.as_ref()).expect(IN_TURN)
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.seat.as_mut().and_then(|seat| seat.connection.as_mut()).expect(IN_TURN)
    }
}

/// A transaction on SQLite.
pub(crate) enum OnSqlite {
    /// On a connection of its own, on one snapshot.
    Reading(Transaction<'static, Sqlite>),
    /// On the one that writes.
    Writing(Turn),
}

impl Deref for OnSqlite {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        match self {
            Self::Reading(tx) => tx,
            Self::Writing(turn) => turn,
        }
    }
}

impl DerefMut for OnSqlite {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Reading(tx) => tx,
            Self::Writing(turn) => turn,
        }
    }
}

#[cfg(test)]
mod tests;
