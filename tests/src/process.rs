//! Child processes: where our own programs are, who may run a server, and how one is stopped by its id.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

/// A user of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Who runs this process.
pub fn identity() -> Identity {
    let me = std::fs::metadata("/proc/self").expect("/proc is mounted");
    Identity { uid: me.uid(), gid: me.gid() }
}

/// The first of `names` that is a user here.
pub fn identity_of(names: &[&str]) -> Option<Identity> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    names.iter().find_map(|name| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some(Identity { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    })
}

/// A program of this workspace, built into the directory this test runs from.
///
/// Panics when it has not been built.
pub fn own_program(name: &str) -> PathBuf {
    let running = std::env::current_exe().expect("a running program has a path");
    let candidates = running.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    candidates
        .clone()
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("`{name}` has not been built beside {}; run ./test", running.display()))
}

/// A program from `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

/// The root of the source tree.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// Sends a signal, such as `TERM`, to one process.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.is_ok(), "kill is missing");
}

/// Waits until a child has ended and gives whether it ended in time.
pub fn ended_within(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    false
}
