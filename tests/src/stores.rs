//! A record of one's own for each test, on each database.

use std::{
    ops::Deref,
    path::PathBuf,
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use todoke_store::{Durability, Store};

use crate::postgres::shared_url;

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

    /// On PostgreSQL, in a schema of its own.
    pub async fn postgres() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("todoke_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
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
        let options = PgConnectOptions::from_str(shared_url()).unwrap().options([("search_path", schema)]);
        options.connect().await.unwrap()
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
