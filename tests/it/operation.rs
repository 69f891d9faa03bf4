//! What whoever runs Todoke relies on: the commands and their formats, the configuration, limits, metrics, logs,
//! and a stop that loses nothing.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_tests::{
    http::Answer,
    live::Live,
    todoke::{DemoOptions, Output, Todoke, cli_over, cli_with},
    wait::eventually,
};

use crate::{register::MOVEMENT_HEADER, usage::visit};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_explains_itself_and_takes_the_data_folder() {
    let dir = TempDir::new().unwrap();
    let whole = cli_over(dir.path(), &["--help"]).await.success();
    for command in ["demo", "serve", "config", "doctor", "import", "ingest", "report", "sql", "backup"] {
        assert!(whole.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not listed: {whole}");
        let help = cli_over(dir.path(), &[command, "--help"]).await.success();
        assert!(help.contains(&format!("Usage: todoke {command}")) && help.contains("--data <DIR>"), "{help}");
    }
    for (command, part) in
        [("admin", "add-municipality"), ("admin", "add-account"), ("admin", "add-authority"), ("lake", "stats")]
    {
        let help = cli_over(dir.path(), &[command, part, "--help"]).await.success();
        assert!(help.contains(&format!("Usage: todoke {command} {part}")) && help.contains("--data <DIR>"), "{help}");
    }
    let demo = cli_over(dir.path(), &["demo", "--help"]).await.success();
    for option in ["listen", "families", "facilities", "history-days", "speed", "seed", "ready-file"] {
        assert!(demo.contains(&format!("--{option} <")), "--{option}: {demo}");
    }
    for default in ["[default: 2000]", "[default: 60]", "[default: 365]"] {
        assert!(demo.contains(default), "{default}: {demo}");
    }
    assert!(!cli_over(dir.path(), &["no-such-command"]).await.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_is_file_then_environment_and_is_shown_without_secrets() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("todoke.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:9999\"\n[http]\ndrain_s_max = 3\nrequests_per_min = 5\n").unwrap();
    let settings = [
        ("TODOKE_HTTP__REQUESTS_PER_MIN", "7".to_owned()),
        ("TODOKE_RECORD__URL", "postgres://todoke:geheim@db/todoke".to_owned()),
        ("TODOKE_MAIL__PASSWORD", "streng-geheim".to_owned()),
    ];
    let printed = shown(&file, &settings).await.success();
    assert!(!printed.contains("geheim"), "{printed}");
    let values: toml::Table = printed.parse().expect("TOML on standard output");
    assert_eq!(values["listen"].as_str(), Some("127.0.0.1:9999"), "from the file");
    assert_eq!(values["data"].as_str(), dir.path().to_str(), "from the command line");
    let http = &values["http"];
    assert_eq!((http["drain_s_max"].as_integer(), http["requests_per_min"].as_integer()), (Some(3), Some(7)));
    assert_eq!(http["sign_ins_per_min"].as_integer(), Some(60), "the default");

    for unknown in ["TODOKE_HTTP__REQUESTS_PER_MINUTE", "TODOKE_NO_SUCH_THING"] {
        let refused = shown(&file, &[(unknown, "1".to_owned())]).await;
        assert!(!refused.status.success(), "{unknown}: {}", refused.stdout);
    }
    std::fs::write(&file, "[http]\nno_such_key = 1\n").unwrap();
    let refused = shown(&file, &[]).await;
    assert!(!refused.status.success() && refused.stderr.contains("no_such_key"), "{}", refused.stderr);
}

/// What `todoke config` says with a file and an environment; the data folder is the file's.
async fn shown(file: &Path, settings: &[(&str, String)]) -> Output {
    cli_with(file.parent().unwrap(), &["config", "--config", file.to_str().unwrap()], settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_answer_in_every_format_beside_a_server_and_without_one() {
    let dir = TempDir::with_prefix("todoke-commands-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let (data, town) = (todoke.data_dir().to_path_buf(), todoke.municipality());
    let now = todoke.sign_in("operator").await.get("/v1/session").await.expect(200)["server_time"].clone();
    let today = now.as_str().unwrap().parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    let from = today.saturating_sub(jiff::Span::new().days(40)).to_string();
    let to = today.saturating_sub(jiff::Span::new().days(1)).to_string();
    let sql = "SELECT facility_id, COUNT(*) AS n FROM events_coupon WHERE event_type = 'coupon.used'
               GROUP BY facility_id ORDER BY facility_id";
    let asked = [
        vec!["sql", sql, "--municipality", &town],
        vec!["report", "statistics_simple", "--municipality", &town, "--from", &from, "--to", &to, "--by", "month"],
        vec!["report", "app_usage", "--municipality", &town, "--from", &from, "--to", &to, "--rows"],
    ];
    let doctor = todoke.cli(&["doctor"]).await.success();
    for part in ["record   ok (SQLite)", "lake     ok", "server   noted at", &town, &todoke.municipality_at(1)] {
        assert!(doctor.contains(part), "{part}: {doctor}");
    }
    eventually("the history is in the lake's files", Duration::from_secs(60), async || {
        let waiting = todoke.cli(&["doctor"]).await.success();
        waiting.contains(" 0 not in the lake yet").then_some(())
    })
    .await;
    let mut answers = Vec::new();
    for arguments in &asked {
        answers.push(in_every_format(&data, arguments).await);
    }
    todoke.stop().await;
    assert!(cli_over(&data, &["doctor"]).await.success().contains("server   not running"));
    for (arguments, with_server) in asked.iter().zip(answers) {
        assert_eq!(in_every_format(&data, arguments).await, with_server, "{arguments:?}");
    }
    let wrong = cli_over(&data, &["sql", "SELECT 1", "--municipality", &town, "--format", "xml"]).await;
    assert!(!wrong.status.success() && wrong.stderr.contains("xml"), "{}", wrong.stderr);
}

/// The rows an answer has in JSON, less what tells when it was made, after looking at each other format.
async fn in_every_format(data: &Path, arguments: &[&str]) -> Vec<Vec<Value>> {
    let printed = async |format: &str| cli_over(data, &[arguments, &["--format", format]].concat()).await.success();
    let answer: Value = serde_json::from_str(&printed("json").await).expect("JSON on standard output");
    let n_rows = answer["rows"].as_array().expect("rows").len();
    assert!(n_rows > 0, "{arguments:?}");
    let names: Vec<&str> =
        answer["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    let csv = printed("csv").await;
    let mut lines = csv.trim_start_matches('\u{feff}').split("\r\n");
    assert_eq!(lines.next().unwrap().split(',').collect::<Vec<_>>(), names, "{arguments:?}");
    assert!(lines.filter(|line| !line.is_empty()).count() >= n_rows, "{csv}");
    let table = printed("table").await;
    assert_eq!(table.lines().count(), n_rows + 2, "a heading, a rule and the rows: {table}");
    let parquet = printed("parquet").await;
    assert!(parquet.starts_with("PAR1") && parquet.ends_with("PAR1"), "{arguments:?}");
    let made_when = ["snapshot_id", "created_at"];
    let lasting = |row: &Value| -> Vec<Value> {
        let cells = names.iter().zip(row.as_array().unwrap());
        cells.filter(|(name, _)| !made_when.contains(name)).map(|(_, value)| value.clone()).collect()
    };
    let mut rows: Vec<Vec<Value>> = answer["rows"].as_array().unwrap().iter().map(lasting).collect();
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_are_told_to_wait() {
    let settings = [
        ("TODOKE_HTTP__SIGN_INS_PER_MIN", "4".to_owned()),
        ("TODOKE_HTTP__MAILS_PER_MIN", "4".to_owned()),
        ("TODOKE_HTTP__REQUESTS_PER_MIN", "40".to_owned()),
    ];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let guardian = todoke.sign_in("guardian").await;
    let api = todoke.client();
    let wrong = json!({"email": "nobody@example.jp", "password": "Wrongpass1", "entrance": "guardian"});
    let limits = [("/v1/sessions", wrong), ("/v1/password-resets", json!({"email": "nobody@example.jp"}))];
    for (path, body) in &limits {
        let refused = until_refused(9, async || api.post(path, body).await).await;
        assert_eq!(refused.json()["type"], "/problems/rate-limited", "{path}: {}", refused.text());
        assert!(refused.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds <= 60), "{path}");
    }
    let refused = until_refused(81, async || guardian.get("/v1/session").await).await;
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(api.get("/healthz").await.status, 200, "what needs no sign-in goes on");
    todoke.stop().await;
}

/// The first refusal for being too many among `n` attempts: twice what a minute allows, and one, since a minute may
/// end in between.
async fn until_refused(n: usize, attempt: impl AsyncFn() -> Answer) -> Answer {
    for _ in 0..n {
        let answer = attempt().await;
        if answer.status == 429 {
            return answer;
        }
    }
    panic!("{n} attempts were let through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_and_logs_tell_what_goes_on_and_who_is_nobodys_business() {
    let settings = [("TODOKE_LOG__JSON", "true".to_owned()), ("TODOKE_LOG__FILTER", "todoke_hub=debug".to_owned())];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let guardian = todoke.sign_in("guardian").await;
    let _phone = Live::connect(&guardian).await;
    let asked = guardian.with_header("x-request-id", "asked-by-the-test-1").get("/v1/home").await;
    assert_eq!((asked.status, asked.header("x-request-id")), (200, "asked-by-the-test-1"));
    let forged = guardian.with_header("x-request-id", "a\"b, c=d").get("/v1/home").await;
    assert_ne!(forged.header("x-request-id"), "a\"b, c=d", "what could break a log line is not taken over");

    let metrics = todoke.client().get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain"), "{:?}", metrics.headers);
    let text = metrics.text();
    for line in ["todoke_sockets 1", "todoke_lake_events_waiting ", "route=\"/v1/home\"", "# TYPE todoke_sockets gauge"]
    {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let line = eventually("the request is in the log", Duration::from_secs(20), async || {
        let log = todoke.log();
        let mut lines = log.lines().filter(|line| line.contains("request answered"));
        lines.find(|line| line.contains("asked-by-the-test-1")).map(str::to_owned)
    })
    .await;
    let entry: Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!(entry["http.status"], 200, "{line}");
    let account = todoke.account("guardian");
    let told = todoke.log();
    let entries = told.lines().filter(|line| line.starts_with('{'));
    let telling: Vec<&str> =
        entries.filter(|line| line.contains(&account.email) || line.contains(guardian.bearer().unwrap())).collect();
    assert!(telling.is_empty(), "{telling:#?}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_tells_the_sockets_and_flushes_what_was_acknowledged() {
    let dir = TempDir::with_prefix("todoke-stop-").unwrap();
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let (data, town) = (todoke.data_dir().to_path_buf(), todoke.municipality());
    let guardian = todoke.sign_in("guardian").await;
    guardian.put("/v1/me/consents/usage_analytics", &json!({"granted": true})).await;
    let phone = Live::connect(&guardian).await;
    let receipt = guardian.post("/v1/usage", &json!({"device_key": 4_711, "events": visit(77)})).await.expect(202);
    assert_eq!(receipt["accepted"], 2, "{receipt}");
    todoke.stop().await;
    phone.wait_for_line("the farewell", |line| line["event"] == "connecting" && line["code"] == 3001).await;
    let query = "SELECT COUNT(*) FROM events_app WHERE session_id = 'session-77'";
    let printed = cli_over(&data, &["sql", query, "--municipality", &town, "--format", "json"]).await.success();
    let answer: Value = serde_json::from_str(&printed).expect("JSON on standard output");
    assert_eq!(answer["rows"], json!([[2]]), "in the files of the lake, with no server to ask");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ready_file_says_all_that_a_script_needs() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let ready = &todoke.ready;
    let entries = |list: &str| ready[list].as_object().unwrap_or_else(|| panic!("no {list}: {ready}")).clone();
    for (role, account) in entries("accounts") {
        for field in ["email", "password"] {
            assert!(account[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {role}: {account}");
        }
    }
    for municipality in ready["municipalities"].as_array().unwrap() {
        assert!(municipality["municipality_code"].is_string() && municipality["name"].is_string(), "{municipality}");
    }
    assert_eq!(ready["municipalities"].as_array().unwrap().len(), 2, "a small second one behind the wall");
    let keys = entries("api_keys");
    let key = keys["analyst"].as_str().expect("a key of an analyst");
    let machine = todoke.client().with_bearer(key);
    let rows = machine.post("/v1/sql", &json!({"sql": "SELECT COUNT(*) FROM events_coupon"})).await.expect(200);
    assert!(rows["rows"][0][0].as_i64() > Some(0), "{rows}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_installation_takes_its_first_steps_by_command() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let found = ["admin", "add-municipality", "990101", "ひなた市"];
    assert!(cli_over(&data, &found).await.success().contains("990101"));
    assert!(!cli_over(&data, &found).await.status.success(), "there is one of that code already");
    let account = async |role: &str| {
        let who = ["--role", role, "--email", "admin@hinata.example.jp", "--name", "市役所 太郎"];
        cli_over(&data, &[&["admin", "add-account", "--municipality", "990101"], &who[..]].concat()).await
    };
    assert!(!account("no_such_role").await.status.success());
    assert!(account("municipal_admin").await.success().contains("issued"));
    assert!(!account("operator").await.status.success(), "an address has one role");
    for (command, code, is_taken) in
        [("add-authority", "990000", true), ("add-authority", "990102", false), ("add-municipality", "980000", false)]
    {
        let added = cli_over(&data, &["admin", command, code, "ひかり県"]).await;
        assert_eq!(added.status.success(), is_taken, "{command} {code}: {}", added.stderr);
    }
    let viewer = async |authority: &str| {
        let who = ["--role", "stats_viewer", "--email", "tokei@hikari.example.jp", "--name", "統計 花子"];
        cli_over(&data, &[&["admin", "add-account", "--municipality", authority], &who[..]].concat()).await
    };
    assert!(!viewer("990101").await.status.success(), "a municipality has nobody who sees others");
    assert!(viewer("990000").await.success().contains("issued"));

    let row = "A1,サトウ ハナ,佐藤 花,female,2026-02-03,H1,birth,2026-02-03,530-0001,北区1-1".to_owned();
    let import = async |name: &str, rows: &[String], rest: &[&str]| {
        let file = dir.path().join(name);
        let text = crate::register::file(MOVEMENT_HEADER, rows);
        std::fs::write(&file, encoding_rs::SHIFT_JIS.encode(&text).0).unwrap();
        let named = ["import", "movement", file.to_str().unwrap(), "--municipality", "990101"];
        cli_over(&data, &[&named[..], rest].concat()).await
    };
    let taken = import("movement.csv", std::slice::from_ref(&row), &[]).await.success();
    assert!(taken.contains("completed") && taken.contains("1 rows, 0 errors"), "{taken}");
    assert!(
        !import("again.csv", std::slice::from_ref(&row), &[]).await.status.success(),
        "the same content needs to be meant"
    );
    import("again.csv", std::slice::from_ref(&row), &["--force"]).await.success();
    let wrong = import("wrong.csv", &[row.replace("female", "dame")], &[]).await;
    assert!(!wrong.status.success() && wrong.stderr.contains("sex"), "{} {}", wrong.stdout, wrong.stderr);
}
