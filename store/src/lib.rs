//! The record: all SQL of Todoke, on SQLite (one node) or PostgreSQL (several).
//!
//! One [`Tx`] type carries every statement, but for the few reads that a request needs one by one, such as who sends it:
//! those go without a transaction. A use case opens a write transaction, changes state, appends
//! its events, messages and publications, and commits: all of it or nothing. Shared SQL is one text with
//! `$1` marks; where the dialects differ there are two named functions.

#[macro_use]
mod sql;
pub mod account;
pub mod application;
pub mod backup;
pub mod bank_account;
pub mod broadcast;
pub mod broadcast_queue;
mod checkpoint;
pub mod child;
pub mod city_request;
pub mod claim;
pub mod column;
pub mod coupon;
pub mod coupon_set;
pub mod coupon_use;
pub mod delivery;
pub mod delivery_view;
pub mod device;
pub mod document;
pub mod escalation;
pub mod event;
pub mod external_application;
pub mod facility;
mod forget;
mod group_sync;
pub mod guardian;
pub mod idempotency;
pub mod import_file;
mod later;
pub mod made_up_past;
pub mod message;
pub mod municipality;
pub mod notice;
pub mod print_item;
pub mod print_run;
pub mod publication;
pub mod quarantine;
pub mod resident;
pub mod segment;
pub mod session;
mod settled;
pub mod solicitation;
pub mod survey;
pub mod timer;
pub mod topic;
pub mod transfer;
mod wall;
mod writer;

pub use forget::purge_sqlite;
pub use settled::when_settled;
pub use wall::Wall;

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    Pool, Postgres, Sqlite, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use checkpoint::Checkpoints;
use group_sync::{GroupSync, WalFile};
use later::Later;
use writer::{Length, OnSqlite, Writer};

/// A fault of the record.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is locked or a serialisation conflict occurred: worth retrying.
    #[error("the record is busy")]
    Busy(#[source] sqlx::Error),
    /// A unique constraint was hit: somebody else was first.
    #[error("already present: {constraint}")]
    Conflict {
        /// Name of the constraint, or the database's text where it has none.
        constraint: String,
    },
    /// Anything else: connection, disk, a row that does not decode.
    #[error("the record failed")]
    Database(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the record's schema could not be migrated")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A stored value is not what the schema promises.
    #[error("a stored {what} cannot be read")]
    Corrupt {
        /// Which value.
        what: &'static str,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(fault) = &error {
            if fault.is_unique_violation() {
                let constraint = fault.constraint().map_or_else(|| fault.message().to_owned(), str::to_owned);
                return Self::Conflict { constraint };
            }
            // SQLITE_BUSY, SQLITE_BUSY_SNAPSHOT; PostgreSQL serialization_failure, deadlock_detected.
            if matches!(fault.code().as_deref(), Some("5" | "517" | "40001" | "40P01")) {
                return Self::Busy(error);
            }
        }
        Self::Database(error)
    }
}

#[derive(Clone, Debug)]
enum Db {
    /// `durable` is there where a commit has to survive power loss.
    Sqlite {
        write: Writer,
        read: Pool<Sqlite>,
        durable: Option<Durable>,
    },
    Postgres(Pool<Postgres>),
}

/// What becomes of a commit on SQLite after it is written.
#[derive(Clone, Debug)]
struct Durable {
    sync: Arc<GroupSync>,
    checkpoints: Checkpoints,
}

/// Which database holds the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbKind {
    /// Embedded, one node.
    Sqlite,
    /// A server, several nodes.
    Postgres,
}

/// How hard a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A commit survives power loss.
    Full,
    /// A commit may be lost with the machine: only for building up a demo's history, which is thrown
    /// away and begun anew when it was cut short.
    Seeding,
}

/// The record. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
}

impl Store {
    /// Opens the SQLite record at `path`, creating and migrating it.
    pub async fn open_sqlite(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let synchronous = match durability {
            Durability::Full => SqliteSynchronous::Normal,
            Durability::Seeding => SqliteSynchronous::Off,
        };
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(30))
            .pragma("cache_size", "-65536")
            .pragma("temp_store", "memory")
            .statement_cache_capacity(400);
        if durability == Durability::Full {
            options = options
                .pragma("wal_autocheckpoint", checkpoint::AUTOCHECKPOINT_PAGES)
                .pragma("journal_size_limit", checkpoint::LOG_BYTES_KEPT);
        }
        let sync = (durability == Durability::Full).then(|| {
            let wal = WalFile::of(path);
            Arc::new(GroupSync::new(move || wal.sync()))
        });
        let write = Writer::open(&options, sync.clone()).await?;
        let durable = match sync {
            Some(sync) => {
                let checkpoints = Checkpoints::begin(path, options.clone(), write.clone(), Arc::clone(&sync)).await?;
                Some(Durable { sync, checkpoints })
            }
            None => None,
        };
        // A connection of this process is not asked whether it is there before each use: the pool asks when it comes
        // back.
        let read = SqlitePoolOptions::new()
            .max_connections(8)
            .test_before_acquire(false)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self { db: Db::Sqlite { write, read, durable } })
    }

    /// Connects to the PostgreSQL record at `url` and migrates it. `schema` holds the tables.
    pub async fn open_postgres(url: &str, schema: &str, connections_max: u32) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?.options([("search_path", schema)]).statement_cache_capacity(400);
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options)
            .await?;
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", schema.replace('"', "\"\""));
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&pool).await?;
        sqlx::migrate!("migrations/postgres").run(&pool).await?;
        Ok(Self { db: Db::Postgres(pool) })
    }

    /// Which database this is.
    pub fn kind(&self) -> DbKind {
        match self.db {
            Db::Sqlite { .. } => DbKind::Sqlite,
            Db::Postgres(_) => DbKind::Postgres,
        }
    }

    /// Begins a transaction that may write, behind `wall`. On SQLite it waits for the one writer, and inside
    /// [`when_settled`] may share the transaction of those before it.
    ///
    /// Dropped without [`Tx::commit`], it rolls back.
    pub async fn begin_write(&self, wall: Wall) -> Result<Tx, StoreError> {
        self.begin(wall, Length::Short).await
    }

    /// As [`Self::begin_write`], for work by the file or by the page of people: on SQLite nobody shares its transaction,
    /// so that who is done before it does not wait for its end.
    pub async fn begin_long(&self, wall: Wall) -> Result<Tx, StoreError> {
        self.begin(wall, Length::Long).await
    }

    async fn begin(&self, wall: Wall, length: Length) -> Result<Tx, StoreError> {
        let inner = match &self.db {
            Db::Sqlite { write, durable, .. } => {
                durable.as_ref().map_or(Ok(()), |durable| durable.sync.check()).map_err(sqlx::Error::Io)?;
                let seen = settled::seen();
                if let Some(seen) = &seen {
                    seen.committed().await?;
                }
                Inner::Sqlite(OnSqlite::Writing(write.begin(length, seen).await?))
            }
            Db::Postgres(pool) => Inner::Postgres(begun(pool, "BEGIN").await?),
        };
        Ok(Tx { inner, wall, durable: self.durable().cloned(), later: Later::default(), queued_deliveries: false })
    }

    /// Begins a transaction that only reads, on one snapshot, behind `wall`.
    pub async fn begin_read(&self, wall: Wall) -> Result<Tx, StoreError> {
        let inner = match &self.db {
            Db::Sqlite { read, .. } => Inner::Sqlite(OnSqlite::Reading(read.begin().await?)),
            Db::Postgres(pool) => {
                Inner::Postgres(begun(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
        };
        Ok(Tx { inner, wall, durable: None, later: Later::default(), queued_deliveries: false })
    }

    /// Waits until everything that a transaction could see before this call survives power loss.
    ///
    /// A SQLite transaction may see commits that are still on their way to the disk (`group_sync`). Whoever read, and
    /// lets others rely on it, waits here first. For a transaction that may write this is not enough, since it may also
    /// see what is not committed yet (`writer`): [`when_settled`] waits for that.
    pub async fn settled(&self) -> Result<(), StoreError> {
        match self.durable() {
            Some(durable) => Ok(durable.sync.settled().await.map_err(sqlx::Error::Io)?),
            None => Ok(()),
        }
    }

    fn durable(&self) -> Option<&Durable> {
        match &self.db {
            Db::Sqlite { durable, .. } => durable.as_ref(),
            Db::Postgres(_) => None,
        }
    }

    /// Closes all connections; on SQLite this also folds the write-ahead log into the file.
    pub async fn close(&self) {
        match &self.db {
            Db::Sqlite { write, read, durable } => {
                // First: it takes the writer's connection, and the last one to close folds the log.
                if let Some(durable) = durable {
                    durable.checkpoints.close().await;
                }
                read.close().await;
                write.close().await;
            }
            Db::Postgres(pool) => pool.close().await,
        }
    }
}

/// Begins a transaction on PostgreSQL, to the end even if the caller is dropped meanwhile.
///
/// sqlx 0.9 forgets a `BEGIN` that is dropped before its answer: the connection goes back to the pool inside a
/// transaction, and whoever gets it next may find that it cannot write. Here the answer is waited for, and a
/// transaction that nobody takes any more rolls back.
async fn begun(pool: &Pool<Postgres>, how: &'static str) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    #[expect(clippy::disallowed_methods, reason = "it ends with the answer of the database")]
    let begin = tokio::spawn(async move { pool.begin_with(how).await });
    begin.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

enum Inner {
    Sqlite(OnSqlite),
    Postgres(Transaction<'static, Postgres>),
}

/// A transaction on the record. Its methods are in the files of their nouns.
pub struct Tx {
    inner: Inner,
    wall: Wall,
    /// For a transaction that writes on SQLite and has to survive power loss.
    durable: Option<Durable>,
    later: Later,
    queued_deliveries: bool,
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.inner {
            Inner::Sqlite(_) => "Tx(sqlite)",
            Inner::Postgres(_) => "Tx(postgres)",
        })
    }
}

impl Tx {
    /// Makes everything in the transaction durable and visible.
    ///
    /// Cancel safe in so far as a dropped commit leaves the outcome unknown to the caller but never half done.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.inner {
            Inner::Sqlite(OnSqlite::Reading(tx)) => tx.commit().await?,
            Inner::Sqlite(OnSqlite::Writing(turn)) => {
                turn.commit(self.later).await?;
                if let Some(Durable { sync, checkpoints }) = &self.durable {
                    checkpoints.note_write();
                    sync.reach_written().await.map_err(sqlx::Error::Io)?;
                }
            }
            Inner::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
