//! A record that an earlier version made and filled is opened by this one: everything in it is there, on both
//! databases.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use todoke_domain::{
    Event,
    ids::{AccountId, DeviceId, EventId},
};
use todoke_store::Wall;
use todoke_tests::stores::{TestStore, migrations};

use crate::{
    city::NOW,
    store_events::{append, event},
};

/// The version whose batches for the lake are written at every event; the next one has ranges on SQLite.
const BATCHES_BY_EVENT: i64 = 7;
/// The version in which only devices have a language.
const LANGUAGE_OF_DEVICES: i64 = 9;

/// The last version in which a ward may be any word.
const ANY_WARD: i64 = 21;

/// What the schema asks of a column, or what any column of its type may hold. One text everywhere: a reference meets
/// its row.
fn value(column: &str, kind: &str) -> &'static str {
    match (column, kind) {
        ("bank_code", _) => "'1234'",
        ("branch_code", _) => "'123'",
        ("account_no", _) => "'1234567'",
        ("net_yen", _) => "0",
        ("kind", _) => "'use'",
        (_, "BIGINT") => "1",
        (_, "BOOLEAN") => "TRUE",
        (_, "TEXT" | "BLOB") => "'row'",
        _ => panic!("a column {column} of the new type {kind}"),
    }
}

/// The tables that migrations up to `version` make, with the statements that put a row into each of them.
///
/// Columns that the database fills are left to it; where the two databases differ, it is in such columns.
async fn a_row_in_every_table(version: i64) -> (Vec<String>, String) {
    let mut schema = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    migrations("sqlite").await.run_to(version, &mut schema).await.unwrap();
    let tables = "SELECT name FROM sqlite_master
                  WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> '_sqlx_migrations' ORDER BY rowid";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut schema).await.unwrap();
    let mut fill = String::new();
    for table in &tables {
        let columns = "SELECT name, type FROM pragma_table_info($1) WHERE dflt_value IS NULL AND type <> 'INTEGER'";
        let columns: Vec<(String, String)> = sqlx::query_as(columns).bind(table).fetch_all(&mut schema).await.unwrap();
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<&str> = columns.iter().map(|(name, kind)| value(name, kind)).collect();
        fill.push_str(&format!("INSERT INTO {table} ({}) VALUES ({});\n", names.join(", "), values.join(", ")));
    }
    (tables, fill)
}

/// How many rows each table has.
async fn counted(db: &TestStore, tables: &[String]) -> Vec<(String, i64)> {
    let each = tables.iter().map(|table| format!("SELECT '{table}', COUNT(*) FROM {table}"));
    let all = AssertSqlSafe(each.collect::<Vec<_>>().join(" UNION ALL "));
    match db.sqlite_file() {
        Some(path) => {
            let mut record = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
            sqlx::query_as(all).fetch_all(&mut record).await.unwrap()
        }
        None => sqlx::query_as(all).fetch_all(&mut db.postgres_connection().await).await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_in_every_table_of_every_earlier_version_is_still_there() {
    let newest = migrations("sqlite").await.iter().map(|migration| migration.version).max().unwrap();
    for version in 1..newest {
        let (tables, fill) = a_row_in_every_table(version).await;
        assert!(tables.len() > 40, "{tables:?}");
        for db in [TestStore::sqlite_since(version, &fill).await, TestStore::postgres_since(version, &fill).await] {
            let lost: Vec<_> = counted(&db, &tables).await.into_iter().filter(|(_, n)| *n != 1).collect();
            assert!(lost.is_empty(), "{:?} from version {version}: {lost:?}", db.kind());
            db.discard().await;
        }
    }
}

/// Five events: two that the lake has, two of a batch that it may have or not, and one that has no batch.
fn events_in_batches() -> (Vec<Event>, String) {
    let events: Vec<Event> =
        (0..5).map(|n| Event { subject_seq: 1, ..event("coupon.used", &format!("s{n}"), NOW) }).collect();
    let mut fill = String::from("INSERT INTO lake_batch (batch_no, done) VALUES (1, TRUE), (2, FALSE);\n");
    for (event, batch) in events.iter().zip(["1", "1", "2", "2", "NULL"]) {
        fill.push_str(&format!(
            "INSERT INTO event (event_id, event_type, municipality_code, recorded_at_us, body, lake_batch)
             VALUES ('{}', '{}', '{}', {}, '{}', {batch});\n",
            event.event_id,
            event.event_type,
            event.municipality_code,
            event.recorded_at.as_micros(),
            serde_json::to_string(event).unwrap(),
        ));
    }
    (events, fill)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_for_the_lake_go_on_where_the_earlier_version_was() {
    let (events, fill) = events_in_batches();
    let ids = |events: &[Event]| -> Vec<EventId> { events.iter().map(|event| event.event_id).collect() };
    for db in [
        TestStore::sqlite_since(BATCHES_BY_EVENT, &fill).await,
        TestStore::postgres_since(BATCHES_BY_EVENT, &fill).await,
    ] {
        let mut tx = db.begin_read(Wall::None).await.unwrap();
        assert_eq!(tx.event_counts().await.unwrap(), (5, 3));
        let in_lake: Vec<Event> = tx.events_in_lake(0, 10).await.unwrap().into_iter().map(|(_, event)| event).collect();
        assert_eq!(ids(&in_lake), ids(&events[..2]));
        drop(tx);
        // The batch that was open is the same: the lake knows its number.
        let mut after = 1;
        for expected in [&events[2..4], &events[4..]] {
            let batch = db.assign_lake_batch(after, 10).await.unwrap().expect("a batch");
            assert_eq!((batch.batch_no, ids(&batch.events)), (after + 1, ids(expected)));
            after = batch.batch_no;
        }
        assert!(db.assign_lake_batch(after, 10).await.unwrap().is_none());
        db.finish_lake_batches(after).await.unwrap();
        let fresh = append(&db.store(), "s0").await;
        let batch = db.assign_lake_batch(after, 10).await.unwrap().expect("a batch");
        assert_eq!((batch.batch_no, ids(&batch.events)), (4, vec![fresh.event_id]));
        assert_eq!(db.begin_read(Wall::None).await.unwrap().event_counts().await.unwrap(), (6, 1));
        db.discard().await;
    }
}

/// A person with devices, each with its language and the second at which it was last heard of.
fn person(account: AccountId, devices: [(&str, u32); 2]) -> String {
    let mut fill = format!(
        "INSERT INTO account (account_id, municipality_code, role, name, name_kana, state, valid_from, valid_to,
            terms_version, created_at_us)
         VALUES ('{account}', '271004', 'guardian', '大阪 花子', '', 'active', '2025-04-01', '2999-12-31', 1, 1);\n"
    );
    for (language, seen_at) in devices {
        let device = DeviceId::new(NOW);
        fill.push_str(&format!(
            "INSERT INTO device (device_id, municipality_code, account_id, kind, address, p256dh, auth, sandbox, permission,
                language, platform, os_version, app_version, registered_at_us, seen_at_us)
             VALUES ('{device}', '271004', '{account}', 'fcm', '{device}', '', '', FALSE, 'granted', '{language}', 'android',
                '', '', 1, {seen_at});\n"
        ));
    }
    fill
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_language_of_the_device_heard_of_last_becomes_the_persons() {
    let (easy, plain) = (AccountId::new(NOW), AccountId::new(NOW));
    let fill = format!(
        "INSERT INTO municipality (municipality_code, name, created_at_us) VALUES ('271004', '大阪市', 1);\n{}{}",
        person(easy, [("ja", 1), ("ja-easy", 2)]),
        person(plain, [("ja-easy", 1), ("xx", 2)]),
    );
    for db in [
        TestStore::sqlite_since(LANGUAGE_OF_DEVICES, &fill).await,
        TestStore::postgres_since(LANGUAGE_OF_DEVICES, &fill).await,
    ] {
        let mut tx = db.begin_read(Wall::None).await.unwrap();
        for (person, language) in [(easy, "ja-easy"), (plain, "ja")] {
            assert_eq!(tx.account(person).await.unwrap().unwrap().language, language, "{:?}", db.kind());
            let devices = tx.devices_of(person).await.unwrap();
            assert_eq!(devices.len(), 2);
            assert!(devices.iter().all(|device| device.language.is_empty()), "none was chosen for one device only");
        }
        drop(tx);
        db.discard().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ward_that_is_no_code_becomes_its_municipality() {
    const WARDS: [&str; 3] = ["guardian", "survey_target", "survey_answer"];
    let (_, mut fill) = a_row_in_every_table(ANY_WARD).await;
    for table in WARDS {
        fill.push_str(&format!("UPDATE {table} SET ward_code = '中央区';\n"));
    }
    for db in [TestStore::sqlite_since(ANY_WARD, &fill).await, TestStore::postgres_since(ANY_WARD, &fill).await] {
        let each = WARDS.map(|table| format!("SELECT ward_code FROM {table}"));
        let all = AssertSqlSafe(each.join(" UNION ALL "));
        let found: Vec<String> = match db.sqlite_file() {
            Some(path) => {
                let mut record = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
                sqlx::query_scalar(all).fetch_all(&mut record).await.unwrap()
            }
            None => sqlx::query_scalar(all).fetch_all(&mut db.postgres_connection().await).await.unwrap(),
        };
        // The rows are of the municipality `row`.
        assert_eq!(found, ["row"; 3], "{:?}", db.kind());
        db.discard().await;
    }
}
