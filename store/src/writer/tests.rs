use std::str::FromStr;

use sqlx::sqlite::SqliteJournalMode;
use tempfile::TempDir;

use super::*;

struct Scene {
    writer: Writer,
    reader: SqliteConnection,
    _folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite:{}", folder.path().join("record.sqlite").display());
        let options = SqliteConnectOptions::from_str(&url)
            .unwrap()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .foreign_keys(true);
        let writer = Writer::open(&options, None).await.unwrap();
        let reader = SqliteConnection::connect_with(&options).await.unwrap();
        let mut turn = writer.begin().await.unwrap();
        run(&mut turn, "CREATE TABLE note (n INTEGER PRIMARY KEY, about INTEGER REFERENCES note (n))").await;
        turn.commit(Later::default()).await.unwrap();
        Self { writer, reader, _folder: folder }
    }

    /// What others see.
    async fn notes(&mut self) -> Vec<i64> {
        sqlx::query_scalar("SELECT n FROM note ORDER BY n").fetch_all(&mut self.reader).await.unwrap()
    }

    /// A use case that wrote note 1 and is done while another one, which is given back, waited for its turn.
    async fn one_done_and_one_begun(&self) -> (tokio::task::JoinHandle<Result<(), StoreError>>, Turn) {
        let mut first = self.writer.begin().await.unwrap();
        run(&mut first, "INSERT INTO note (n) VALUES (1)").await;
        let writer = self.writer.clone();
        let second = tokio::spawn(async move { writer.begin().await });
        while self.writer.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let first = tokio::spawn(first.commit(Later::default()));
        (first, second.await.unwrap().unwrap())
    }

    /// The next use case finds everything in order.
    async fn goes_on(&mut self) {
        let mut turn = self.writer.begin().await.unwrap();
        run(&mut turn, "INSERT INTO note (n) VALUES (9)").await;
        turn.commit(Later::default()).await.unwrap();
        assert_eq!(self.notes().await.last(), Some(&9));
    }
}

async fn run(on: &mut SqliteConnection, sql: &'static str) {
    sqlx::query(sql).execute(on).await.unwrap();
}

#[tokio::test]
async fn use_cases_that_queue_share_one_commit() {
    let mut scene = Scene::new().await;
    let (first, mut second) = scene.one_done_and_one_begun().await;
    let seen: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM note").fetch_one(&mut *second).await.unwrap();
    assert_eq!(seen, 1, "it sees what the one before it did");
    assert!(!first.is_finished(), "nobody is told before the commit");
    assert!(scene.notes().await.is_empty());
    run(&mut second, "INSERT INTO note (n) VALUES (2)").await;
    second.commit(Later::default()).await.unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(scene.notes().await, [1, 2]);
    scene.goes_on().await;
}

#[tokio::test]
async fn whoever_waits_for_the_commit_is_not_forgotten_when_the_next_one_goes_away() {
    let mut scene = Scene::new().await;
    let held = scene.writer.begin().await.unwrap();
    let writer = scene.writer.clone();
    let next = tokio::spawn(async move { writer.begin().await });
    while scene.writer.waiting.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let mut held = held;
    run(&mut held, "INSERT INTO note (n) VALUES (1)").await;
    let done = tokio::spawn(held.commit(Later::default()));
    next.abort();
    done.await.unwrap().unwrap();
    assert_eq!(scene.notes().await, [1]);
    scene.goes_on().await;
}

#[tokio::test]
async fn a_use_case_that_is_dropped_is_undone_alone() {
    let mut scene = Scene::new().await;
    let (first, mut second) = scene.one_done_and_one_begun().await;
    run(&mut second, "INSERT INTO note (n) VALUES (2)").await;
    drop(second);
    first.await.unwrap().unwrap();
    assert_eq!(scene.notes().await, [1]);
    let mut alone = scene.writer.begin().await.unwrap();
    run(&mut alone, "INSERT INTO note (n) VALUES (3)").await;
    drop(alone);
    scene.goes_on().await;
    assert_eq!(scene.notes().await, [1, 9]);
}

#[tokio::test]
async fn when_the_commit_fails_all_of_its_members_have_failed() {
    let mut scene = Scene::new().await;
    let (first, mut second) = scene.one_done_and_one_begun().await;
    // Looked at by the commit only.
    run(&mut second, "PRAGMA defer_foreign_keys = ON").await;
    run(&mut second, "INSERT INTO note (n, about) VALUES (2, 7)").await;
    assert!(second.commit(Later::default()).await.is_err());
    assert!(first.await.unwrap().is_err());
    assert!(scene.notes().await.is_empty());
    scene.goes_on().await;
}

#[tokio::test]
async fn when_the_database_ends_the_transaction_all_of_its_members_have_failed() {
    let mut scene = Scene::new().await;
    let (first, mut second) = scene.one_done_and_one_begun().await;
    // As SQLite does by itself when the disk is full.
    run(&mut second, "ROLLBACK").await;
    drop(second);
    assert!(first.await.unwrap().is_err());
    assert!(scene.notes().await.is_empty());
    scene.goes_on().await;
}

#[tokio::test]
async fn while_the_writer_is_held_no_transaction_is_open() {
    let mut scene = Scene::new().await;
    let (first, second) = scene.one_done_and_one_begun().await;
    let writer = scene.writer.clone();
    let held = tokio::spawn(async move { writer.hold().await });
    drop(second);
    first.await.unwrap().unwrap();
    let held = held.await.unwrap().unwrap();
    assert_eq!(scene.notes().await, [1]);
    drop(held);
    scene.goes_on().await;
    scene.writer.close().await;
    assert!(scene.writer.begin().await.is_err());
}
