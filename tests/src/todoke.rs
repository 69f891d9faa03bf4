//! The real binary as a child process, watched from outside.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::OnceLock,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    account::{self, Credentials},
    http::Client,
    process::{own_program, signal},
    wait::eventually,
};

const READY_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(90);
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

static RECENTLY: OnceLock<String> = OnceLock::new();

/// An hour before this process started its first server, as RFC 3339: when events of now happened. The same after
/// a restart, so that an event can be repeated.
pub fn recently() -> &'static str {
    RECENTLY.get().expect("a server was started")
}

/// How a UUIDv7 begins that was made [`recently`]: time and version.
pub fn recent_id() -> String {
    let made: jiff::Timestamp = recently().parse().unwrap();
    let ms = made.as_millisecond();
    format!("{:08x}-{:04x}-7000", ms >> 16, ms & 0xffff)
}

/// How large a demo city is.
#[derive(Clone, Copy, Debug)]
pub struct DemoOptions {
    /// Households.
    pub families: u32,
    /// Facilities of the eight programmes.
    pub facilities: u32,
    /// Days of history before today.
    pub history_days: u32,
    /// Live traffic; 0 for none.
    pub speed: f64,
    /// Decides everything that is random.
    pub seed: u64,
}

impl DemoOptions {
    /// As small as still holds every role, and quiet, so that what happens is what the test does.
    pub fn small() -> Self {
        Self { families: 40, facilities: 8, history_days: 40, speed: 0.0, seed: 7 }
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output. Panics with standard error unless the command succeeded.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}: {}\n{}", self.status, self.stderr, self.stdout);
        self.stdout
    }
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Todoke {
    child: Child,
    data: PathBuf,
    log: PathBuf,
    owned: Option<TempDir>,
    /// The ready file.
    pub ready: Value,
}

impl Todoke {
    /// A demo in a directory of its own, on a free port.
    ///
    /// Panics with the log when it does not become ready.
    pub async fn demo(options: DemoOptions) -> Self {
        let dir = TempDir::with_prefix("todoke-demo-").unwrap();
        let mut demo = Self::demo_in(dir.path(), options).await;
        demo.owned = Some(dir);
        demo
    }

    /// As [`Todoke::demo`], with settings of its environment such as `TODOKE_HTTP__REQUESTS_PER_MIN`.
    pub async fn demo_with(options: DemoOptions, settings: &[(&str, String)]) -> Self {
        let dir = TempDir::with_prefix("todoke-demo-").unwrap();
        let mut demo = Self::demo_in_with(dir.path(), options, settings).await;
        demo.owned = Some(dir);
        demo
    }

    /// A demo over the data of `dir`: begun there, or going on where an earlier one ended.
    ///
    /// Panics with the log when it does not become ready.
    pub async fn demo_in(dir: &Path, options: DemoOptions) -> Self {
        Self::demo_in_with(dir, options, &[]).await
    }

    /// As [`Todoke::demo_in`], with settings of its environment.
    pub async fn demo_in_with(dir: &Path, options: DemoOptions, settings: &[(&str, String)]) -> Self {
        let mut command = demo_command(options);
        for (name, value) in settings {
            command.env(name, value);
        }
        Self::start(command, dir).await
    }

    /// As [`Todoke::demo_in`], by a process whose files cannot grow beyond about `bytes_max`: the system refuses to
    /// write more, as it does on a full disk.
    pub async fn demo_with_file_limit(dir: &Path, options: DemoOptions, bytes_max: u64) -> Self {
        let demo = demo_command(options);
        let mut command = without_settings(Command::new("sh"));
        // Without the trap a signal would end the process before it hears of the error. The limit counts in
        // blocks of 512 bytes.
        let limited = format!("trap '' XFSZ; ulimit -f {} && exec \"$0\" \"$@\"", bytes_max / 512);
        command.arg("-c").arg(limited).arg(demo.as_std().get_program()).args(demo.as_std().get_args());
        Self::start(command, dir).await
    }

    /// `todoke serve` over the data of `dir`, with settings of its environment: a node, also of a record and a lake
    /// that others use. Its ready file has the address only.
    ///
    /// Panics with the log when it does not become ready.
    pub async fn serve_in_with(dir: &Path, settings: &[(&str, String)]) -> Self {
        let mut command = binary();
        command.arg("serve");
        for (name, value) in settings {
            command.env(name, value);
        }
        let mut node = Self::start_noting(command, dir, &dir.join("data/running.json")).await;
        let listen = node.ready["listen"].as_str().expect("an address in the note of a running server");
        node.ready = json!({"base_url": format!("http://{listen}")});
        node
    }

    async fn start(mut command: Command, dir: &Path) -> Self {
        let ready_file = dir.join("ready.json");
        command.arg("--ready-file").arg(&ready_file);
        Self::start_noting(command, dir, &ready_file).await
    }

    /// Starts a server that writes `ready_file` when it listens.
    async fn start_noting(mut command: Command, dir: &Path, ready_file: &Path) -> Self {
        let (data, log) = (dir.join("data"), dir.join("log"));
        // A ready file of an earlier start would name an address nobody listens on.
        let _ = std::fs::remove_file(ready_file);
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = command
            .arg("--data")
            .arg(&data)
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut todoke = Self { child, data, log, owned: None, ready: Value::Null };
        todoke.ready = eventually("the ready file is written", READY_LIMIT, async || {
            if let Some(status) = todoke.child.try_wait().unwrap() {
                panic!("todoke ended with {status}:\n{}", read_log(&todoke.log));
            }
            serde_json::from_slice(&std::fs::read(ready_file).ok()?).ok()
        })
        .await;
        let ready = std::fs::metadata(ready_file).and_then(|file| file.modified()).unwrap();
        RECENTLY.get_or_init(|| {
            let ready = jiff::Timestamp::try_from(ready).unwrap();
            format!("{:.6}", ready - jiff::SignedDuration::from_hours(1))
        });
        todoke
    }

    /// Address with scheme.
    pub fn base_url(&self) -> &str {
        self.ready["base_url"].as_str().expect("base_url in the ready file")
    }

    /// A client without sign-in.
    pub fn client(&self) -> Client {
        Client::new(self.base_url())
    }

    /// The account of a role in the ready file, or of a role with what tells it apart: `neighbour_operator`.
    pub fn account(&self, role: &str) -> Credentials {
        let known = ["accounts", "more_accounts"].into_iter().find_map(|list| self.ready[list].get(role));
        let entry = known.unwrap_or_else(|| panic!("no {role} in {}", self.ready));
        let text =
            |field: &str| entry[field].as_str().unwrap_or_else(|| panic!("no {field} of {role}: {entry}")).to_owned();
        Credentials { email: text("email"), password: text("password") }
    }

    /// Code of the large municipality.
    pub fn municipality(&self) -> String {
        self.municipality_at(0)
    }

    /// Code of a municipality by its place in the ready file; the second is the one behind the wall.
    pub fn municipality_at(&self, place: usize) -> String {
        let code = self.ready["municipalities"][place]["municipality_code"].as_str();
        code.unwrap_or_else(|| panic!("no municipality {place} in {}", self.ready)).to_owned()
    }

    /// Signs in as the account printed for a role.
    pub async fn sign_in(&self, role: &str) -> Client {
        let kind = role.strip_prefix("neighbour_").unwrap_or(role);
        account::sign_in(&self.client(), &self.account(role), account::entrance(kind)).await.0
    }

    /// Runs the same binary over the same data: `report`, `sql`, `admin`…
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        cli_over(&self.data, arguments).await
    }

    /// Where its data are.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// Asks it to stop and waits. Panics unless it ends well and in time.
    pub async fn stop(mut self) {
        signal(self.pid(), "TERM");
        match tokio::time::timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) => assert!(status.success(), "stopped with {status}:\n{}", read_log(&self.log)),
            _ => panic!("did not stop within {STOP_LIMIT:?}:\n{}", read_log(&self.log)),
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits until it has ended, however it did. Panics when it does not in time.
    pub async fn gone(mut self) {
        tokio::time::timeout(STOP_LIMIT, self.child.wait()).await.expect("it ends").unwrap();
    }

    /// Kills it where it stands.
    pub async fn kill(mut self) {
        signal(self.pid(), "KILL");
        self.child.wait().await.unwrap();
    }
}

/// The binary over a data directory, to be started. Killed when dropped.
pub fn command_over(data: &Path, arguments: &[&str]) -> Command {
    let mut command = binary();
    command.args(arguments).arg("--data").arg(data).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the binary over a data directory. Panics when it does not end in time.
pub async fn cli_over(data: &Path, arguments: &[&str]) -> Output {
    cli_with(data, arguments, &[]).await
}

/// As [`cli_over`], with settings of its environment.
pub async fn cli_with(data: &Path, arguments: &[&str], settings: &[(&str, String)]) -> Output {
    let mut command = command_over(data, arguments);
    for (name, value) in settings {
        command.env(name, value);
    }
    let output = tokio::time::timeout(COMMAND_LIMIT, command.output()).await.expect("the command ends").unwrap();
    Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn demo_command(options: DemoOptions) -> Command {
    let DemoOptions { families, facilities, history_days, speed, seed } = options;
    let arguments = [
        ("--families", families.to_string()),
        ("--facilities", facilities.to_string()),
        ("--history-days", history_days.to_string()),
        ("--speed", speed.to_string()),
        ("--seed", seed.to_string()),
    ];
    let mut command = binary();
    command.arg("demo");
    for (name, value) in arguments {
        command.arg(name).arg(value);
    }
    command
}

/// The binary with its defaults.
fn binary() -> Command {
    without_settings(Command::new(own_program("todoke")))
}

/// What configures the tests is not for the binary.
fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TODOKE_")) {
        command.env_remove(name);
    }
    command
}

fn read_log(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
