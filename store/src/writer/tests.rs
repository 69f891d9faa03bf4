use std::str::FromStr;

use sqlx::sqlite::SqliteJournalMode;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::settled::{self, when_settled};

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
        let mut turn = writer.begin(Length::Short, None).await.unwrap();
        run(&mut turn, "CREATE TABLE note (n INTEGER PRIMARY KEY, about INTEGER REFERENCES note (n), text BLOB)").await;
        turn.commit(Later::default()).await.unwrap();
        Self { writer, reader, _folder: folder }
    }

    /// What others see.
    async fn notes(&mut self) -> Vec<i64> {
        sqlx::query_scalar("SELECT n FROM note ORDER BY n").fetch_all(&mut self.reader).await.unwrap()
    }

    /// A short use case that may share.
    async fn begin(&self) -> Turn {
        self.writer.begin(Length::Short, sharing()).await.unwrap()
    }

    /// One that waits for its turn.
    async fn waits(&self, length: Length, seen: Option<Arc<Seen>>) -> JoinHandle<Result<Turn, StoreError>> {
        let writer = self.writer.clone();
        let waits = tokio::spawn(async move { writer.begin(length, seen).await });
        while self.writer.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        waits
    }

    /// A use case that did `sql` and is done while another one, which is given back, waited for its turn.
    async fn one_done_and(
        &self,
        sql: &[&'static str],
        length: Length,
        seen: Option<Arc<Seen>>,
    ) -> (JoinHandle<Result<(), StoreError>>, Turn) {
        let mut first = self.begin().await;
        for &statement in sql {
            run(&mut first, statement).await;
        }
        let second = self.waits(length, seen).await;
        let first = tokio::spawn(first.commit(Later::default()));
        (first, second.await.unwrap().unwrap())
    }

    /// Two short use cases; the first one wrote note 1.
    async fn one_done_and_one_begun(&self) -> (JoinHandle<Result<(), StoreError>>, Turn) {
        self.one_done_and(&[NOTE_1], Length::Short, sharing()).await
    }

    /// The next use case finds everything in order.
    async fn goes_on(&mut self) {
        let mut turn = self.begin().await;
        run(&mut turn, "INSERT INTO note (n) VALUES (9)").await;
        turn.commit(Later::default()).await.unwrap();
        assert_eq!(self.notes().await.last(), Some(&9));
    }
}

const NOTE_1: &str = "INSERT INTO note (n) VALUES (1)";
/// Looked at by the commit only, which fails.
const NOT_TO_BE_COMMITTED: [&str; 2] = ["PRAGMA defer_foreign_keys = ON", "INSERT INTO note (n, about) VALUES (2, 7)"];

fn sharing() -> Option<Arc<Seen>> {
    Some(Arc::default())
}

/// What a use case sees.
async fn count(on: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM note").fetch_one(on).await.unwrap()
}

async fn run(on: &mut SqliteConnection, sql: &'static str) {
    sqlx::query(sql).execute(on).await.unwrap();
}

#[tokio::test]
async fn use_cases_that_queue_share_one_commit() {
    let mut scene = Scene::new().await;
    let (first, mut second) = scene.one_done_and_one_begun().await;
    assert_eq!(count(&mut second).await, 1, "it sees what the one before it did");
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
    let mut held = scene.begin().await;
    let next = scene.waits(Length::Short, sharing()).await;
    run(&mut held, NOTE_1).await;
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
    let mut alone = scene.begin().await;
    run(&mut alone, "INSERT INTO note (n) VALUES (3)").await;
    drop(alone);
    scene.goes_on().await;
    assert_eq!(scene.notes().await, [1, 9]);
}

#[tokio::test]
async fn when_the_commit_fails_all_of_its_members_have_failed() {
    let mut scene = Scene::new().await;
    let (first, mut second) = scene.one_done_and_one_begun().await;
    for statement in NOT_TO_BE_COMMITTED {
        run(&mut second, statement).await;
    }
    assert!(second.commit(Later::default()).await.is_err());
    assert!(first.await.unwrap().is_err());
    assert!(scene.notes().await.is_empty());
    scene.goes_on().await;
}

#[tokio::test]
async fn when_the_disk_is_full_all_members_of_the_transaction_have_failed() {
    let mut scene = Scene::new().await;
    let answer = when_settled(async {
        let (first, mut second) = scene.one_done_and(&[NOTE_1], Length::Short, settled::seen()).await;
        let seen = count(&mut second).await;
        // No page more than there is.
        run(&mut second, "PRAGMA max_page_count = 1").await;
        let large = sqlx::query("INSERT INTO note (n, text) VALUES (2, zeroblob(100000))").execute(&mut *second).await;
        let full = large.unwrap_err();
        assert_eq!(full.as_database_error().and_then(|fault| fault.code()).as_deref(), Some("13"), "{full}");
        // SQLite has ended the transaction by itself.
        drop(second);
        assert!(first.await.unwrap().is_err());
        seen
    });
    assert!(answer.await.is_err(), "what the second saw was not committed");
    assert!(scene.notes().await.is_empty());
    let mut turn = scene.begin().await;
    run(&mut turn, "PRAGMA max_page_count = 1000").await;
    drop(turn);
    scene.goes_on().await;
}

#[tokio::test]
async fn who_is_done_does_not_wait_for_a_long_use_case_that_comes_next() {
    let mut scene = Scene::new().await;
    let (first, mut long) = scene.one_done_and(&[NOTE_1], Length::Long, sharing()).await;
    first.await.unwrap().unwrap();
    assert_eq!(scene.notes().await, [1]);
    run(&mut long, "INSERT INTO note (n) VALUES (2)").await;
    let next = scene.waits(Length::Short, sharing()).await;
    long.commit(Later::default()).await.unwrap();
    let next = next.await.unwrap().unwrap();
    assert_eq!(scene.notes().await, [1, 2], "nobody shares its transaction");
    drop(next);
    scene.goes_on().await;
}

#[tokio::test]
async fn an_answer_waits_for_the_commit_of_what_it_rests_on() {
    let mut scene = Scene::new().await;
    let answer = when_settled(async {
        let (_first, mut second) = scene.one_done_and(&[NOTE_1], Length::Short, settled::seen()).await;
        // It ends without a commit: note 1 is there already.
        count(&mut second).await
    });
    assert_eq!(answer.await.unwrap(), 1);
    assert_eq!(scene.notes().await, [1]);
    scene.goes_on().await;
}

#[tokio::test]
async fn an_answer_that_rests_on_what_was_not_committed_is_not_given() {
    let mut scene = Scene::new().await;
    let answer = when_settled(async {
        let (_first, mut second) = scene.one_done_and(&NOT_TO_BE_COMMITTED, Length::Short, settled::seen()).await;
        let seen = count(&mut second).await;
        drop(second);
        let known = settled::seen().unwrap();
        assert!(known.committed().await.is_err() && known.committed().await.is_err(), "it stays so");
        seen
    });
    assert!(answer.await.is_err());
    assert!(scene.notes().await.is_empty());
    scene.goes_on().await;
}

#[tokio::test]
async fn what_nobody_would_wait_for_sees_only_what_is_committed() {
    let mut scene = Scene::new().await;
    let (first, mut second) = scene.one_done_and(&[NOTE_1], Length::Short, None).await;
    assert_eq!(count(&mut second).await, 1);
    first.await.unwrap().unwrap();
    assert_eq!(scene.notes().await, [1]);
    drop(second);
    let (first, second) = scene.one_done_and(&NOT_TO_BE_COMMITTED, Length::Short, None).await;
    assert!(first.await.unwrap().is_err());
    second.commit(Later::default()).await.unwrap();
    assert_eq!(scene.notes().await, [1], "another one's fault is not its own");
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
    assert!(scene.writer.begin(Length::Short, None).await.is_err());
}
