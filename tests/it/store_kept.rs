//! What the record keeps: numbers, first answers, sessions, codes, and one schema on both databases.

use std::{collections::BTreeSet, pin::pin, time::Duration};

use futures_util::future::{join_all, poll_immediate};
use sqlx::{Connection, Row};
use todoke_domain::{
    MunicipalityCode, Role, Timestamp,
    ids::{AccountId, ChallengeId, QuarantineId, SessionId},
    number::NumberKind,
};
use todoke_store::{
    Store, StoreError, Wall,
    idempotency::FirstAnswer,
    municipality::{Instance, Municipality},
    quarantine::{HeldOf, QuarantinedEvent},
    session::{Challenge, MailLink, Session},
    when_settled,
};
use todoke_tests::{
    process::workspace_root,
    stores::TestStore,
    wait::{cut_off, eventually},
};

use crate::city::{NOW, account, town};

todoke_tests::on_both_databases! {
    numbers_rise_by_one_per_kind_under_concurrency,
    a_number_of_a_rolled_back_transaction_is_given_again,
    numbers_begin_anew_with_the_fiscal_year_in_japan,
    the_first_answer_to_a_key_is_the_only_one,
    a_session_ends_for_good,
    ending_an_account_ends_its_sessions_devices_and_keys,
    a_mailed_link_works_once,
    a_new_code_makes_the_earlier_one_useless,
    a_transaction_that_is_dropped_leaves_nothing,
    a_beginning_cut_off_anywhere_spoils_no_connection,
    a_reader_sees_one_moment,
    what_an_answer_rests_on_is_there_when_it_is_given,
    who_is_done_does_not_wait_for_a_long_transaction_that_comes_next,
    an_authority_is_no_municipality,
    a_content_of_an_earlier_version_is_looked_at_once,
    a_replay_of_quarantined_events_can_be_noticed,
    held_events_are_let_go_by_reason_sender_and_time,
}

/// Adds a municipality.
async fn found(store: &Store, code: &MunicipalityCode) {
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    let row = Municipality { municipality_code: code.clone(), name: "テスト市".to_owned() };
    tx.insert_municipality(&row, NOW).await.unwrap();
    tx.commit().await.unwrap();
}

async fn with_account(store: &Store) -> AccountId {
    found(store, &town()).await;
    let row = account(&town(), Role::Operator, "operator@example.jp");
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&row, NOW).await.unwrap();
    tx.commit().await.unwrap();
    row.account_id
}

async fn next(store: &Store, kind: NumberKind, at: Timestamp) -> String {
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    let number = tx.next_number(&town(), kind, at).await.unwrap();
    tx.commit().await.unwrap();
    number
}

async fn numbers_rise_by_one_per_kind_under_concurrency(db: &TestStore) {
    let numbers = join_all((0..40).map(|n| {
        let store = db.store();
        async move { next(&store, if n % 2 == 0 { NumberKind::Use } else { NumberKind::Application }, NOW).await }
    }))
    .await;
    let uses: BTreeSet<&str> = numbers.iter().map(String::as_str).filter(|number| number.starts_with('U')).collect();
    let expected: BTreeSet<String> = (1..=20).map(|n| format!("U26-{n:07}")).collect();
    assert_eq!(uses, expected.iter().map(String::as_str).collect());
}

async fn a_number_of_a_rolled_back_transaction_is_given_again(db: &TestStore) {
    assert_eq!(next(db, NumberKind::Coupon, NOW).await, "C26-0000001");
    let mut dropped = db.begin_write(Wall::None).await.unwrap();
    assert_eq!(dropped.next_number(&town(), NumberKind::Coupon, NOW).await.unwrap(), "C26-0000002");
    drop(dropped);
    assert_eq!(next(db, NumberKind::Coupon, NOW).await, "C26-0000002");
}

async fn numbers_begin_anew_with_the_fiscal_year_in_japan(db: &TestStore) {
    let last: Timestamp = "2026-03-31T14:59:59.999999Z".parse().unwrap();
    assert_eq!(next(db, NumberKind::Use, last).await, "U25-0000001");
    assert_eq!(next(db, NumberKind::Use, last.plus(Duration::from_micros(1))).await, "U26-0000001");
}

async fn the_first_answer_to_a_key_is_the_only_one(db: &TestStore) {
    let caller = AccountId::new(NOW);
    let kept = join_all((0..10).map(|n| {
        let store = db.store();
        async move {
            let answer = FirstAnswer { body_hash: "h".to_owned(), status: 201, response: n.to_string() };
            let mut tx = store.begin_write(Wall::None).await.unwrap();
            match tx.keep_answer(caller, "key", &answer, NOW).await {
                Ok(()) => tx.commit().await.map(|()| n),
                Err(error) => Err(error),
            }
        }
    }))
    .await;
    let winners: Vec<i32> = kept.iter().filter_map(|outcome| outcome.as_ref().ok().copied()).collect();
    assert_eq!(winners.len(), 1, "{kept:?}");
    assert!(
        kept.iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .all(|error| matches!(error, StoreError::Conflict { .. })),
        "{kept:?}"
    );
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    assert_eq!(tx.first_answer(caller, "key").await.unwrap().unwrap().response, winners[0].to_string());
    // A key belongs to its caller.
    assert!(tx.first_answer(AccountId::new(NOW), "key").await.unwrap().is_none());
}

async fn a_session_ends_for_good(db: &TestStore) {
    let account_id = with_account(db).await;
    let session = Session {
        session_id: SessionId::new(NOW),
        account_id,
        csrf_token: "c".to_owned(),
        created_at: NOW,
        seen_at: NOW,
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_session(&session, "hash").await.unwrap();
    tx.commit().await.unwrap();
    let found = db.signed_in_by_token("hash").await.unwrap().unwrap();
    assert_eq!((found.session.session_id, found.account.account_id), (session.session_id, account_id));
    assert!(db.signed_in_by_token("other").await.unwrap().is_none());
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.end_session(session.session_id, NOW).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db.signed_in_by_token("hash").await.unwrap().is_none());
    assert!(db.signed_in_by_id(session.session_id).await.unwrap().is_none());
}

async fn ending_an_account_ends_its_sessions_devices_and_keys(db: &TestStore) {
    let account_id = with_account(db).await;
    let later = NOW.plus(Duration::from_secs(3600));
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for token in ["one", "two"] {
        let session = Session {
            session_id: SessionId::new(NOW),
            account_id,
            csrf_token: "c".to_owned(),
            created_at: NOW,
            seen_at: NOW,
        };
        tx.insert_session(&session, token).await.unwrap();
    }
    tx.insert_trusted_device("device", account_id, later).await.unwrap();
    let key = todoke_store::session::ApiKey {
        api_key_id: todoke_domain::ids::ApiKeyId::new(NOW),
        account_id,
        name: "BI".to_owned(),
        sources: None,
        created_at_us: NOW.as_micros(),
        issued_by: None,
        used_at: None,
        revoked_at: None,
    };
    tx.insert_api_key(&key, &town(), "key").await.unwrap();
    assert!(tx.is_trusted_device("device", account_id, NOW).await.unwrap());
    assert!(!tx.is_trusted_device("device", account_id, later).await.unwrap(), "trust runs out");
    assert_eq!(tx.api_key_by_hash("key").await.unwrap().map(|key| key.account_id), Some(account_id));
    tx.end_sessions_of(account_id, NOW).await.unwrap();
    assert!(!tx.is_trusted_device("device", account_id, NOW).await.unwrap());
    assert!(tx.api_key_by_hash("key").await.unwrap().is_none());
    tx.commit().await.unwrap();
    assert!(db.signed_in_by_token("one").await.unwrap().is_none());
    assert!(db.signed_in_by_token("two").await.unwrap().is_none());
}

async fn a_mailed_link_works_once(db: &TestStore) {
    let account_id = with_account(db).await;
    let link = MailLink {
        kind: "set_password".to_owned(),
        account_id,
        detail: String::new(),
        expires_at: NOW.plus(Duration::from_secs(3600)),
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_mail_link("one", &link).await.unwrap();
    tx.insert_mail_link("two", &link).await.unwrap();
    tx.commit().await.unwrap();
    let clicks = join_all((0..5).map(|_| {
        let store = db.store();
        async move {
            let mut tx = store.begin_write(Wall::None).await.unwrap();
            let used = tx.use_mail_link("one", "set_password", NOW).await.unwrap().is_some();
            tx.commit().await.unwrap();
            used
        }
    }))
    .await;
    assert_eq!(clicks.iter().filter(|used| **used).count(), 1);
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    assert!(
        tx.use_mail_link("two", "change_email", NOW).await.unwrap().is_none(),
        "a link is good for its own purpose only"
    );
    assert!(tx.use_mail_link("two", "set_password", link.expires_at).await.unwrap().is_none(), "a link runs out");
}

async fn a_new_code_makes_the_earlier_one_useless(db: &TestStore) {
    let account_id = with_account(db).await;
    let challenge = || Challenge {
        challenge_id: ChallengeId::new(NOW),
        account_id,
        code_hash: "h".to_owned(),
        tries: 0,
        expires_at: NOW.plus(Duration::from_secs(600)),
    };
    let (first, second) = (challenge(), challenge());
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_challenge(&first, NOW).await.unwrap();
    tx.insert_challenge(&second, NOW).await.unwrap();
    assert!(tx.try_challenge(first.challenge_id).await.unwrap().is_none());
    assert_eq!(tx.try_challenge(second.challenge_id).await.unwrap().unwrap().tries, 1);
    assert_eq!(tx.try_challenge(second.challenge_id).await.unwrap().unwrap().tries, 2);
    tx.use_challenge(second.challenge_id, NOW).await.unwrap();
    assert!(tx.try_challenge(second.challenge_id).await.unwrap().is_none(), "a code is single use");
}

async fn a_transaction_that_is_dropped_leaves_nothing(db: &TestStore) {
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_municipality(&Municipality { municipality_code: town(), name: "テスト市".to_owned() }, NOW)
        .await
        .unwrap();
    drop(tx);
    assert!(db.begin_read(Wall::None).await.unwrap().municipality(&town()).await.unwrap().is_none());
}

async fn a_beginning_cut_off_anywhere_spoils_no_connection(db: &TestStore) {
    found(db, &town()).await;
    for n in 1..12 {
        // As often as the pool has connections, so that the writer below meets the spoilt one if there is one.
        for _ in 0..16 {
            drop(cut_off(db.begin_read(Wall::None), n).await);
            next(db, NumberKind::Use, NOW).await;
        }
    }
    assert_eq!(next(db, NumberKind::Use, NOW).await, "U26-0000177");
}

async fn a_reader_sees_one_moment(db: &TestStore) {
    let mut reader = db.begin_read(Wall::None).await.unwrap();
    assert!(reader.municipality(&town()).await.unwrap().is_none());
    found(db, &town()).await;
    assert!(reader.municipality(&town()).await.unwrap().is_none(), "a commit showed up in the middle of a read");
    drop(reader);
    assert!(db.begin_read(Wall::None).await.unwrap().municipality(&town()).await.unwrap().is_some());
}

/// Adds a municipality, or finds that somebody has: `true`, and then there is nothing to commit.
async fn is_found_already(store: &Store) -> bool {
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    if tx.municipality(&town()).await.unwrap().is_some() {
        return true;
    }
    let row = Municipality { municipality_code: town(), name: "テスト市".to_owned() };
    match tx.insert_municipality(&row, NOW).await {
        Ok(()) => tx.commit().await.unwrap(),
        Err(StoreError::Conflict { .. }) => return true,
        Err(other) => panic!("neither added nor there: {other:?}"),
    }
    false
}

async fn what_an_answer_rests_on_is_there_when_it_is_given(db: &TestStore) {
    // They queue behind this one on SQLite, and then share a transaction.
    let held = db.begin_write(Wall::None).await.unwrap();
    let asked = (0..10).map(|_| {
        let store = db.store();
        async move {
            let was_there = when_settled(is_found_already(&store)).await.unwrap();
            let mut reader = store.begin_read(Wall::None).await.unwrap();
            assert!(reader.municipality(&town()).await.unwrap().is_some(), "said to be there: {was_there}");
            was_there
        }
    });
    let mut asked = pin!(join_all(asked));
    assert!(poll_immediate(&mut asked).await.is_none());
    drop(held);
    let were_there = asked.await;
    assert_eq!(were_there.iter().filter(|was_there| !**was_there).count(), 1, "{were_there:?}");
}

async fn who_is_done_does_not_wait_for_a_long_transaction_that_comes_next(db: &TestStore) {
    let mut first = db.begin_write(Wall::None).await.unwrap();
    let row = Municipality { municipality_code: town(), name: "テスト市".to_owned() };
    first.insert_municipality(&row, NOW).await.unwrap();
    // In this order: the long one waits already when the first is done.
    let (long, done) = tokio::join!(db.begin_long(Wall::None), first.commit());
    let mut long = long.unwrap();
    done.unwrap();
    assert!(db.begin_read(Wall::None).await.unwrap().municipality(&town()).await.unwrap().is_some());
    assert_eq!(long.next_number(&town(), NumberKind::Use, NOW).await.unwrap(), "U26-0000001");
    long.commit().await.unwrap();
}

#[tokio::test]
async fn sqlite_copies_its_log_into_the_database_beside_the_writes() {
    let db = TestStore::sqlite().await;
    let file = db.sqlite_file().unwrap();
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_instance(&Instance { epoch: String::new(), token_secret: String::new() }, NOW).await.unwrap();
    tx.commit().await.unwrap();
    // 80 MiB of log: more than waits for a pass, and much less than makes SQLite copy within a commit. Each text is
    // another one, since SQLite writes no page that stays.
    for n in 0..80_u8 {
        db.renew_epoch(&char::from(b'!' + n).to_string().repeat(1 << 20)).await.unwrap();
    }
    eventually("the epoch is in the database itself", Duration::from_secs(60), async || {
        (std::fs::metadata(&file).unwrap().len() > 1 << 20).then_some(())
    })
    .await;
    db.discard().await;
}

#[test]
fn both_databases_have_migrations_of_the_same_names() {
    let names = |kind: &str| -> BTreeSet<String> {
        let dir = workspace_root().join("store/migrations").join(kind);
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
    assert!(!names("sqlite").is_empty());
}

/// A column as far as both databases can say the same about it: table, name, whether it may be null.
type Column = (String, String, bool);

#[tokio::test]
async fn both_databases_have_the_same_tables_and_columns() {
    let (sqlite, postgres) = (TestStore::sqlite().await, TestStore::postgres().await);
    let columns = postgres_columns(&postgres).await;
    assert!(columns.len() > 100);
    // How a batch for the lake knows its events is the one fork (docs/decisions/0018).
    let forked = |(table, column, _): &Column| {
        matches!((table.as_str(), column.as_str()), ("event", "lake_batch") | ("lake_batch", "first_seq" | "last_seq"))
    };
    let (mut ours, mut theirs) = (sqlite_columns(&sqlite).await, columns);
    ours.retain(|column| !forked(column));
    theirs.retain(|column| !forked(column));
    assert_eq!(ours, theirs);
    sqlite.discard().await;
    postgres.discard().await;
}

async fn sqlite_columns(db: &TestStore) -> BTreeSet<Column> {
    let url = format!("sqlite://{}", db.sqlite_file().unwrap().display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let rows = sqlx::query(
        "SELECT m.name, c.name, c.\"notnull\" = 0 AND c.pk = 0 FROM sqlite_master m, pragma_table_info(m.name) c
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> '_sqlx_migrations'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get::<i64, _>(2) == 1)).collect()
}

async fn postgres_columns(db: &TestStore) -> BTreeSet<Column> {
    let mut connection = db.postgres_connection().await;
    let rows = sqlx::query(
        "SELECT table_name::text, column_name::text, is_nullable = 'YES' FROM information_schema.columns
         WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

async fn an_authority_is_no_municipality(db: &TestStore) {
    let prefecture: MunicipalityCode = "270000".parse().unwrap();
    for code in [&town(), &prefecture] {
        found(db, code).await;
    }
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let codes = |rows: Vec<Municipality>| rows.into_iter().map(|row| row.municipality_code).collect::<Vec<_>>();
    assert_eq!(codes(tx.municipalities().await.unwrap()), [town()]);
    assert_eq!(codes(tx.authorities().await.unwrap()), [prefecture.clone()]);
    assert!(tx.municipality(&prefecture).await.unwrap().is_some(), "its accounts have a name to show");
}

/// An event of which nothing is kept.
fn held_event(at: Timestamp) -> QuarantinedEvent {
    QuarantinedEvent {
        quarantine_id: QuarantineId::new(at),
        municipality_code: town(),
        account_id: None,
        entrance: "usage".to_owned(),
        sender: "{}".to_owned(),
        event_id: None,
        reason: "not_json".to_owned(),
        field: None,
        content: String::new(),
        content_bytes: Some(1),
        state: "held".to_owned(),
        received_at: at,
    }
}

async fn a_content_of_an_earlier_version_is_looked_at_once(db: &TestStore) {
    let whole = QuarantinedEvent { content: "words".to_owned(), content_bytes: None, ..held_event(NOW) };
    let looked_at = QuarantinedEvent { content: "{}".to_owned(), ..held_event(NOW) };
    let empty = QuarantinedEvent { content_bytes: None, ..held_event(NOW) };
    let mut tx = db.begin_write(Wall::Around(town())).await.unwrap();
    tx.insert_quarantined(&[whole.clone(), looked_at, empty]).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let found = tx.unlooked_contents(10).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].quarantine_id, found[0].content.as_str()), (whole.quarantine_id, "words"));
    assert!(tx.keep_of_content(whole.quarantine_id, "", 5).await.unwrap());
    assert!(tx.unlooked_contents(10).await.unwrap().is_empty());
    assert!(!tx.keep_of_content(whole.quarantine_id, "words", 5).await.unwrap(), "once is enough");
    let held = tx.quarantined_events(&town(), None, 10).await.unwrap();
    let kept = held.iter().find(|entry| entry.quarantine_id == whole.quarantine_id).unwrap();
    assert_eq!((kept.content.as_str(), kept.content_bytes), ("", Some(5)));
}

async fn a_replay_of_quarantined_events_can_be_noticed(db: &TestStore) {
    let replays = async || db.begin_read(Wall::None).await.unwrap().replays().await.unwrap();
    assert_eq!(replays().await, (0, 0), "nothing was replayed");
    for (n, state) in [(1, "replayed"), (2, "dropped"), (3, "replayed")] {
        let at = NOW.plus(Duration::from_secs(n));
        let entry = held_event(at);
        let mut tx = db.begin_write(Wall::Around(town())).await.unwrap();
        tx.insert_quarantined(std::slice::from_ref(&entry)).await.unwrap();
        tx.commit().await.unwrap();
        let before = replays().await;
        let mut tx = db.begin_write(Wall::Around(town())).await.unwrap();
        assert!(tx.settle_quarantined(&town(), entry.quarantine_id, state, at).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(replays().await != before, state == "replayed", "{state}");
    }
    assert_eq!(replays().await, (2, NOW.plus(Duration::from_secs(3)).as_micros()));
}

async fn held_events_are_let_go_by_reason_sender_and_time(db: &TestStore) {
    let (at, later) = (NOW.plus(Duration::from_secs(1)), NOW.plus(Duration::from_secs(9)));
    let sender = AccountId::new(NOW);
    let of_sender = QuarantinedEvent { account_id: Some(sender), content: "{}".to_owned(), ..held_event(at) };
    let ill_typed = QuarantinedEvent { reason: "ill_typed".to_owned(), ..held_event(at) };
    let mut tx = db.begin_write(Wall::Around(town())).await.unwrap();
    tx.insert_quarantined(&[of_sender, ill_typed, held_event(NOW), held_event(NOW), held_event(NOW)]).await.unwrap();
    tx.commit().await.unwrap();
    let discard = async |which: HeldOf, n_max: i64| {
        let mut tx = db.begin_write(Wall::Around(town())).await.unwrap();
        let reasons = tx.discard_quarantined(&town(), &which, n_max, later).await.unwrap();
        tx.commit().await.unwrap();
        reasons
    };
    let all = HeldOf { reason: None, account_id: None, before: later };
    assert_eq!(discard(HeldOf { account_id: Some(sender), ..all.clone() }, 10).await, ["not_json"]);
    assert_eq!(discard(HeldOf { account_id: Some(sender), ..all.clone() }, 10).await, [""; 0], "once is enough");
    assert_eq!(discard(HeldOf { reason: Some("ill_typed".to_owned()), ..all.clone() }, 10).await, ["ill_typed"]);
    assert_eq!(discard(HeldOf { before: NOW, ..all.clone() }, 10).await, [""; 0]);
    assert_eq!(discard(all.clone(), 2).await, ["not_json"; 2], "a page of them");
    assert_eq!(discard(all, 2).await, ["not_json"]);
    let mut tx = db.begin_read(Wall::Around(town())).await.unwrap();
    assert!(tx.quarantined_events(&town(), None, 10).await.unwrap().is_empty());
    let counts = tx.quarantine_counts(&town(), "discarded").await.unwrap();
    let counts: Vec<(&str, i64)> = counts.iter().map(|count| (count.reason.as_str(), count.n)).collect();
    assert_eq!(counts, [("ill_typed", 1), ("not_json", 4)]);
}
