//! A record of one's own for each test, on each database.

use std::{
    ops::Deref,
    path::PathBuf,
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, migrate::Migrator, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use todoke_store::{Durability, Store};

use crate::{postgres::shared_url, process::workspace_root};

const CONNECTIONS_MAX: u32 = 16;

/// A migrated, empty record. [`TestStore::discard`] deletes it.
#[derive(Debug)]
pub struct TestStore {
    store: Store,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Sqlite(TempDir),
    Postgres { schema: String },
}

impl TestStore {
    /// On SQLite, in a directory of its own.
    pub async fn sqlite() -> Self {
        let dir = TempDir::with_prefix("todoke-record-").unwrap();
        let store = Store::open_sqlite(&dir.path().join("record.sqlite"), Durability::Full).await.unwrap();
        Self { store, place: Place::Sqlite(dir) }
    }

    /// As [`TestStore::sqlite`], but the migrations up to `version` and then the statements of `fill` made it, before
    /// it was opened by the present version.
    pub async fn sqlite_since(version: i64, fill: &str) -> Self {
        let dir = TempDir::with_prefix("todoke-record-").unwrap();
        let path = dir.path().join("record.sqlite");
        let mut old = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
        migrations("sqlite").await.run_to(version, &mut old).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut old).await.unwrap();
        old.close().await.unwrap();
        let store = Store::open_sqlite(&path, Durability::Full).await.unwrap();
        Self { store, place: Place::Sqlite(dir) }
    }

    /// On PostgreSQL, in a schema of its own.
    pub async fn postgres() -> Self {
        let schema = fresh_schema();
        let store = Store::open_postgres(shared_url(), &schema, CONNECTIONS_MAX).await.unwrap();
        Self { store, place: Place::Postgres { schema } }
    }

    /// As [`TestStore::sqlite_since`], on PostgreSQL.
    pub async fn postgres_since(version: i64, fill: &str) -> Self {
        let schema = fresh_schema();
        let mut old = in_schema(&schema).await;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA \"{schema}\""))).execute(&mut old).await.unwrap();
        migrations("postgres").await.run_to(version, &mut old).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut old).await.unwrap();
        old.close().await.unwrap();
        let store = Store::open_postgres(shared_url(), &schema, CONNECTIONS_MAX).await.unwrap();
        Self { store, place: Place::Postgres { schema } }
    }

    /// The record.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// The same record opened once more, as another process would.
    pub async fn open_again(&self) -> Store {
        match &self.place {
            Place::Sqlite(_) => Store::open_sqlite(&self.sqlite_file().unwrap(), Durability::Full).await.unwrap(),
            Place::Postgres { schema } => Store::open_postgres(shared_url(), schema, CONNECTIONS_MAX).await.unwrap(),
        }
    }

    /// The file of a SQLite record.
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Sqlite(dir) => Some(dir.path().join("record.sqlite")),
            Place::Postgres { .. } => None,
        }
    }

    /// A connection beside the record's own, for looking at tables from outside.
    ///
    /// Panics on SQLite.
    pub async fn postgres_connection(&self) -> PgConnection {
        let Place::Postgres { schema } = &self.place else { panic!("this record is on SQLite") };
        in_schema(schema).await
    }

    /// Closes and deletes it.
    pub async fn discard(self) {
        self.store.close().await;
        if let Place::Postgres { schema } = self.place {
            let mut connection = PgConnection::connect(shared_url()).await.unwrap();
            let drop = format!("DROP SCHEMA \"{schema}\" CASCADE");
            sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await.unwrap();
        }
    }
}

impl Deref for TestStore {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

fn fresh_schema() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("todoke_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn in_schema(schema: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(shared_url()).unwrap().options([("search_path", schema)]);
    options.connect().await.unwrap()
}

/// The migrations of `sqlite` or `postgres`.
pub async fn migrations(kind: &str) -> Migrator {
    let dir = workspace_root().join("store/migrations").join(kind);
    Migrator::new(dir).await.unwrap()
}

/// Makes a test on SQLite and one on PostgreSQL from each contract function `async fn(&TestStore)`.
#[macro_export]
macro_rules! on_both_databases {
    ($($contract:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $contract() {
                let db = $crate::stores::TestStore::sqlite().await;
                super::$contract(&db).await;
                db.discard().await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $contract() {
                let db = $crate::stores::TestStore::postgres().await;
                super::$contract(&db).await;
                db.discard().await;
            })+
        }
    };
}
