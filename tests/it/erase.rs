//! `todoke lake erase` with the real binary: one person is forgotten, everything else stays, and a certificate says so.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_domain::Role;
use todoke_store::{Durability, Store, Wall};
use todoke_tests::{
    todoke::{DemoOptions, Todoke, cli_over, cli_with, recently},
    wait::eventually,
};

use crate::{scene::text, usage::visit};

async fn keys_of(data: &std::path::Path, town: &str, number: &str, role: Role) -> BTreeSet<i64> {
    let store = Store::open_sqlite(&data.join("record.sqlite"), Durability::Full).await.unwrap();
    let mut tx = store.begin_read(Wall::None).await.unwrap();
    let keys = tx.person_keys(&town.parse().unwrap(), number, role).await.unwrap().into_iter().collect();
    drop(tx);
    store.close().await;
    keys
}

async fn answer(data: &std::path::Path, town: &str, query: &str) -> Value {
    let printed = cli_over(data, &["sql", query, "--municipality", town, "--format", "json"]).await.success();
    serde_json::from_str::<Value>(&printed).expect("JSON on standard output")["rows"].clone()
}

/// The money of the year, without when and from which picture it was made.
async fn money(data: &std::path::Path, town: &str) -> Vec<String> {
    let year = ["--from", "2026-04-01", "--to", "2027-03-31"];
    let report = [&["report", "statistics_simple", "--municipality", town, "--format", "json"][..], &year].concat();
    let printed: Value = serde_json::from_str(&cli_over(data, &report).await.success()).unwrap();
    printed["rows"][0].as_array().unwrap().iter().take(20).map(Value::to_string).collect()
}

/// Whether any file of a folder holds the key.
fn named_in(dir: &std::path::Path, key: i64) -> bool {
    let mut files = std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.any(|bytes| bytes.windows(8).any(|window| window == key.to_le_bytes()))
}

/// Everything that the usage log's folder holds.
fn log_bytes(data: &std::path::Path) -> Vec<u8> {
    let files = std::fs::read_dir(data.join("ingest")).unwrap();
    // A server that runs gives files their names meanwhile.
    files.filter_map(|entry| std::fs::read(entry.unwrap().path()).ok()).flatten().collect()
}

/// Whether the key is there as the log writes numbers: seven bits a byte, the sign lowest.
fn is_logged(bytes: &[u8], key: i64) -> bool {
    let mut rest = ((key << 1) ^ (key >> 63)).cast_unsigned();
    let mut written = Vec::new();
    while rest >= 0x80 {
        written.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    written.push(rest.to_le_bytes()[0]);
    bytes.windows(written.len()).any(|window| window == written)
}

/// Asks for the report of app usage until the day of what was sent is kept; gives its file.
async fn kept_day(todoke: &Todoke, town: &str) -> PathBuf {
    let staff = todoke.sign_in("municipal_staff").await;
    let day = recently().parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    let file = todoke.data_dir().join("rollups").join(town).join(format!("{day}.day"));
    eventually("the day is kept", Duration::from_secs(60), async || {
        staff.get(&format!("/v1/reports/app_usage?from={day}&to={day}")).await.expect(200);
        file.exists().then_some(())
    })
    .await;
    file
}

/// There is nothing to carry over from the log, and nothing in it to find.
async fn nothing_is_left_after_a_clean_stop(data: &std::path::Path, town: &str, email: &str) {
    let key = *keys_of(data, town, email, Role::Guardian).await.first().unwrap();
    assert!(!is_logged(&log_bytes(data), key));
    let certificate = data.join("second.json");
    let erase = ["lake", "erase", email, "--municipality", town, "--certificate", certificate.to_str().unwrap()];
    cli_over(data, &erase).await.success();
    let paper: Value = serde_json::from_str(&std::fs::read_to_string(&certificate).unwrap()).unwrap();
    let searched = &paper["searched"]["ingest"];
    assert_eq!((&searched["rows"], &searched["found"]), (&json!(0), &json!([])), "{paper}");
    assert!(searched["files"].as_u64().unwrap() >= 2, "{paper}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_leaves_log_and_lake_and_the_figures_stay() {
    let dir = TempDir::with_prefix("todoke-erase-").unwrap();
    let (data, certificate) = (dir.path().join("data"), dir.path().join("certificate.json"));
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let town = todoke.municipality();
    let email = todoke.account("guardian").email;
    let guardian = todoke.sign_in("guardian").await;
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    let sent = json!({"device_key": 4_711, "events": visit(1)});
    assert_eq!(guardian.post("/v1/usage", &sent).await.expect(202)["accepted"], 2);
    let running = log_bytes(&data);
    // A stop commits what was sent and leaves nothing of it in the log; a report then keeps the day with the person.
    todoke.stop().await;
    let key = *keys_of(&data, &town, &email, Role::Guardian).await.first().unwrap();
    assert_eq!([&running, &log_bytes(&data)].map(|log| is_logged(log, key)), [true, false]);
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let days = kept_day(&todoke, &town).await.parent().unwrap().to_owned();
    let guardian = todoke.sign_in("guardian").await;
    let sent = json!({"device_key": 4_711, "events": visit(3)});
    assert_eq!(guardian.post("/v1/usage", &sent).await.expect(202)["accepted"], 2);
    let erase = ["lake", "erase", &email, "--municipality", &town, "--certificate", certificate.to_str().unwrap()];
    let beside = cli_over(&data, &erase).await;
    assert!(!beside.status.success() && beside.stderr.contains("stop it first"), "{}", beside.stderr);
    // What it sent last may still be in the log only.
    todoke.kill().await;

    let keys = keys_of(&data, &town, &email, Role::Guardian).await;
    assert_eq!(keys.len(), 1);
    assert!(named_in(&days, *keys.first().unwrap()), "what is kept by day holds the person");
    assert!(is_logged(&log_bytes(&data), key), "the log holds the person");
    let before = money(&data, &town).await;
    let printed = cli_over(&data, &erase).await.success();
    let paper: Value = serde_json::from_str(&std::fs::read_to_string(&certificate).unwrap()).unwrap();
    assert!(printed.contains(&text(&paper, "certificate_id")), "{printed}");
    assert_eq!((&paper["keys"], &paper["number"]), (&json!(1), &json!(email)));
    assert!(paper["tables"]["app"]["rows_removed"].as_u64().unwrap() >= 2, "{paper}");
    assert!(paper["tables"]["account"]["rows_unlinked"].as_u64().unwrap() >= 1, "{paper}");
    assert!(paper["record"]["events"].as_u64().unwrap() >= 1, "{paper}");
    assert!(!days.exists());
    assert!(!is_logged(&log_bytes(&data), key));
    for place in ["lake", "ingest", "rollups", "record"] {
        assert_eq!(paper["searched"][place]["found"], json!([]));
    }
    assert!(paper["searched"]["record"]["rows"].as_u64().unwrap() > 0, "{paper}");
    let key = keys.first().unwrap();
    let record = std::fs::read(data.join("record.sqlite")).unwrap();
    for written in [key.to_string().as_bytes(), key.to_be_bytes().as_slice()] {
        assert!(!record.windows(written.len()).any(|window| window == written), "{}", String::from_utf8_lossy(written));
    }
    assert!(!data.join("record.sqlite-wal").exists(), "nor is there a log that could hold it");
    assert!(!paper.to_string().contains(&key.to_string()), "the certificate itself holds no key");
    for table in ["app", "account", "application", "coupon", "message"] {
        let named = format!("SELECT COUNT(*) FROM events_{table} WHERE actor_key = {key} OR subject_id = '{key}'");
        assert_eq!(answer(&data, &town, &named).await, json!([[0]]), "{table}");
    }
    assert!(
        keys_of(&data, &town, &email, Role::Guardian).await.is_disjoint(&keys),
        "the person goes on under another key"
    );

    assert_eq!(money(&data, &town).await, before);
    let sessions = "SELECT COUNT(*) FROM events_app WHERE session_id = 'session-1'";
    assert_eq!(answer(&data, &town, sessions).await, json!([[0]]));
    cli_over(&data, &["lake", "verify"]).await.success();

    let nobody = ["lake", "erase", "G99-9999999", "--municipality", &town, "--certificate", "unused.json"];
    let nobody = cli_over(&data, &nobody).await;
    assert!(!nobody.status.success() && nobody.stderr.contains("nobody"), "{}", nobody.stderr);

    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let guardian = todoke.sign_in("guardian").await;
    let again = json!({"device_key": 4_711, "events": visit(2)});
    assert_eq!(guardian.post("/v1/usage", &again).await.expect(202)["accepted"], 2, "life goes on");
    todoke.stop().await;
    cli_over(&data, &["lake", "verify"]).await.success();
    let audited = "SELECT subject_id FROM events_access WHERE event_type = 'access.audited' AND what = 'erase'";
    assert_eq!(answer(&data, &town, audited).await, json!([[text(&paper, "certificate_id")]]));
    nothing_is_left_after_a_clean_stop(&data, &town, &email).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_household_that_has_left_is_forgotten_by_its_number() {
    let dir = TempDir::with_prefix("todoke-erase-").unwrap();
    let data = dir.path().join("data");
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let town = todoke.municipality();
    let guardian = todoke.sign_in("guardian").await;
    let number = text(&guardian.get("/v1/me").await.expect(200), "guardian_no");
    let proxy = json!({"email": "proxy@left.example.jp", "name": "大阪 太郎", "name_kana": "オオサカ タロウ",
        "relation": "spouse"});
    guardian.post("/v1/me/proxy", &proxy).await.expect(201);
    guardian.delete("/v1/me").await.expect(204);
    todoke.stop().await;
    for role in [Role::ProxyGuardian, Role::Guardian] {
        let key = *keys_of(&data, &town, &number, role).await.first().unwrap();
        let deleted =
            format!("SELECT COUNT(*) FROM events_account WHERE event_type = 'account.deleted' AND account_key = {key}");
        assert_eq!(answer(&data, &town, &deleted).await, json!([[1]]), "{role}");
        let certificate = dir.path().join(format!("{role}.json"));
        let erase = ["lake", "erase", &number, "--municipality", &town, "--role", role.as_str(), "--certificate"];
        cli_over(&data, &[&erase[..], &[certificate.to_str().unwrap()]].concat()).await.success();
        let paper: Value = serde_json::from_str(&std::fs::read_to_string(&certificate).unwrap()).unwrap();
        assert_eq!((&paper["role"], &paper["keys"]), (&json!(role), &json!(1)), "{paper}");
        assert_eq!(answer(&data, &town, &deleted).await, json!([[0]]), "{role}");
    }
}

/// The command is given on one node; another one, stopped as it has to be, keeps a day with the person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_keeps_by_day_goes_when_it_starts() {
    let dir = TempDir::with_prefix("todoke-erase-").unwrap();
    let settings = [("TODOKE_LAKE__URL", format!("file://{}", dir.path().join("shared").display()))];
    let start = async || Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let todoke = start().await;
    let (town, data) = (todoke.municipality(), todoke.data_dir().to_path_buf());
    let email = todoke.account("guardian").email;
    let guardian = todoke.sign_in("guardian").await;
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    let sent = json!({"device_key": 4_711, "events": visit(1)});
    assert_eq!(guardian.post("/v1/usage", &sent).await.expect(202)["accepted"], 2);
    todoke.stop().await;
    let todoke = start().await;
    let kept = kept_day(&todoke, &town).await;
    todoke.stop().await;
    start().await.stop().await;
    assert!(kept.exists(), "a start alone deletes nothing");

    let other = dir.path().join("other");
    let copied = std::process::Command::new("cp").arg("-r").arg(&data).arg(&other).status().unwrap();
    assert!(copied.success());
    std::fs::remove_dir_all(other.join("ingest")).unwrap();
    let key = *keys_of(&data, &town, &email, Role::Guardian).await.first().unwrap();
    let certificate = dir.path().join("certificate.json");
    let erase = ["lake", "erase", &email, "--municipality", &town, "--certificate", certificate.to_str().unwrap()];
    cli_with(&other, &erase, &settings).await.success();
    let paper: Value = serde_json::from_str(&std::fs::read_to_string(&certificate).unwrap()).unwrap();
    assert!(text(&paper, "statement").contains("ほかのサーバーに残る分は読み直しておらず"), "{paper}");
    let days = kept.parent().unwrap();
    assert!(named_in(days, key), "nobody has looked here");
    let todoke = start().await;
    eventually("the day goes, and nobody asks for it", Duration::from_secs(60), async || {
        (!kept.exists()).then_some(())
    })
    .await;
    todoke.stop().await;
    assert!(!named_in(days, key));
}
