//! A private PostgreSQL for the tests: on a free loopback port, in a directory of its own, gone afterwards.
//!
//! `./test` starts one for the whole run. A test run by hand shares one with the other test processes that
//! run at the same time: whoever comes first starts a keeper, and the keeper ends when nobody is left.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::process::{Identity, ended_within, find_program, identity, identity_of, own_program, signal};

/// Names a server that is already there; its user must be allowed to create schemas.
pub const URL_VARIABLE: &str = "TODOKE_TEST_POSTGRES_URL";

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A server of this run. Stopped and deleted when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl PostgresServer {
    /// Finds the programs, makes a cluster and starts it.
    ///
    /// Errors: no PostgreSQL on this machine and no way to install it; a cluster that does not start.
    pub fn start() -> Result<Self> {
        // What a test shows is concurrency and atomicity; nothing here pulls the plug of this server.
        Self::start_with(&["-c", "fsync=off", "-c", "full_page_writes=off"])
    }

    /// As [`PostgresServer::start`], with every commit on disk before it is acknowledged: for measuring.
    pub fn start_durable() -> Result<Self> {
        Self::start_with(&[])
    }

    fn start_with(settings: &[&str]) -> Result<Self> {
        let programs = programs()?;
        let dir = tempfile::Builder::new().prefix("todoke-postgres-").tempdir()?;
        let owner = owner()?;
        let cluster = dir.path().join("cluster");
        std::fs::create_dir(&cluster)?;
        if let Some(owner) = owner {
            chown(dir.path(), Some(owner.uid), Some(owner.gid))?;
            chown(&cluster, Some(owner.uid), Some(owner.gid))?;
        }
        let made = command(&programs, "initdb", dir.path(), owner)
            .args(["--username=todoke", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&cluster)
            .output()?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port()?;
        let log = File::create(dir.path().join("log"))?;
        let child = command(&programs, "postgres", dir.path(), owner)
            .arg("-D")
            .arg(&cluster)
            .args(["-h", "127.0.0.1", "-k", "", "-p", &port.to_string()])
            .args(settings)
            .args(["-c", "max_connections=1000"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Self { child, port, dir };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("postgres://todoke@127.0.0.1:{}/postgres", self.port)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                bail!("PostgreSQL ended with {status}: {log}");
            }
            // The port opens before recovery is over, and then refuses: the pid file's last line says `ready`.
            let state = std::fs::read_to_string(self.dir.path().join("cluster/postmaster.pid")).unwrap_or_default();
            if state.lines().last().is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        bail!("PostgreSQL was not ready within {START_LIMIT:?}")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // INT is PostgreSQL's fast shutdown: clients are disconnected.
        signal(self.child.id(), "INT");
        if !ended_within(&mut self.child, STOP_LIMIT) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The server of this test process: the one named in the environment, or one shared with whoever else tests now.
///
/// Panics when there is none and none can be started.
pub fn shared_url() -> &'static str {
    static SHARED: OnceLock<(String, Option<File>)> = OnceLock::new();
    let (url, _in_use) = SHARED.get_or_init(|| match std::env::var(URL_VARIABLE) {
        Ok(url) if !url.is_empty() => (url, None),
        _ => {
            let (url, in_use) = join_keeper().expect("a PostgreSQL for the tests");
            (url, Some(in_use))
        }
    });
    url
}

/// The files by which test processes find the server they share.
struct Meeting {
    dir: PathBuf,
}

impl Meeting {
    fn open() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("todoke-tests-{}", identity().uid));
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        Ok(OpenOptions::new().create(true).truncate(false).write(true).open(self.dir.join(name))?)
    }

    fn url_file(&self) -> PathBuf {
        self.dir.join("url")
    }
}

/// Joins the users of a running server, or starts its keeper.
fn join_keeper() -> Result<(String, File)> {
    let meeting = Meeting::open()?;
    let starting = meeting.lock_file("starting")?;
    starting.lock()?;
    let in_use = meeting.lock_file("in-use")?;
    in_use.lock_shared()?;
    if let Ok(url) = std::fs::read_to_string(meeting.url_file()) {
        if answers(&url) {
            return Ok((url, in_use));
        }
    }
    let mut keeper = Command::new(own_program("todoke-test-servers"))
        .arg("keep")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()?;
    let mut url = String::new();
    BufReader::new(keeper.stdout.take().context("the keeper's output")?).read_line(&mut url)?;
    let url = url.trim().to_owned();
    ensure!(!url.is_empty(), "the keeper of the test servers gave up");
    Ok((url, in_use))
}

/// Starts a server, tells its address on standard output, and stops it when no test process uses it any more.
///
/// The caller must already count as a user. Errors: those of [`PostgresServer::start`].
pub fn keep() -> Result<()> {
    let meeting = Meeting::open()?;
    let server = PostgresServer::start()?;
    std::fs::write(meeting.url_file(), server.url())?;
    println!("{}", server.url());
    let in_use = meeting.lock_file("in-use")?;
    loop {
        in_use.lock()?;
        in_use.unlock()?;
        // Nobody may join between "nobody is left" and the end: joining takes `starting` first.
        let starting = meeting.lock_file("starting")?;
        starting.lock()?;
        if in_use.try_lock().is_ok() {
            std::fs::remove_file(meeting.url_file())?;
            return Ok(());
        }
    }
}

fn answers(url: &str) -> bool {
    url.rsplit('@')
        .next()
        .and_then(|rest| rest.split('/').next())
        .is_some_and(|address| TcpStream::connect(address).is_ok())
}

/// A loopback port nobody listens on at this moment.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn command(programs: &Path, name: &str, dir: &Path, owner: Option<Identity>) -> Command {
    let mut command = Command::new(programs.join(name));
    command.current_dir(dir).stdin(Stdio::null());
    if let Some(owner) = owner {
        command.uid(owner.uid).gid(owner.gid);
    }
    command
}

/// Whom to run PostgreSQL as; it refuses to run as root.
fn owner() -> Result<Option<Identity>> {
    if identity().uid != 0 {
        return Ok(None);
    }
    let owner = identity_of(&["postgres", "nobody"]).context("no user `postgres` or `nobody` to run PostgreSQL as")?;
    Ok(Some(owner))
}

/// Folder of PostgreSQL's programs: `postgres`, and beside it `pg_dump` and `pg_restore`.
///
/// Errors: they are not on this machine and cannot be installed.
pub fn programs() -> Result<PathBuf> {
    if let Some(dir) = installed() {
        return Ok(dir);
    }
    if identity().uid == 0 && find_program("apt-get").is_some() {
        install()?;
    }
    installed().with_context(|| {
        format!("PostgreSQL's server programs (initdb, postgres) are missing: install the package `postgresql`, or name a server in {URL_VARIABLE}")
    })
}

/// The newest installed version: Debian keeps them out of `PATH`.
fn installed() -> Option<PathBuf> {
    let version = |dir: &PathBuf| -> u32 {
        dir.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
    };
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
        .collect();
    found.sort_by_key(version);
    found.pop().or_else(|| {
        let initdb = find_program("initdb")?.canonicalize().ok()?;
        let dir = initdb.parent()?.to_path_buf();
        dir.join("postgres").is_file().then_some(dir)
    })
}

fn install() -> Result<()> {
    eprintln!("installing PostgreSQL for the tests (apt-get install postgresql)");
    for arguments in [&["update"][..], &["install", "-y", "--no-install-recommends", "postgresql"][..]] {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Debian starts no service in this run level.
            .env("RUNLEVEL", "1")
            .stdin(Stdio::null())
            .status()?;
        ensure!(status.success(), "apt-get {} failed", arguments[0]);
    }
    Ok(())
}
