//! Scripts for Node.js beside the tests: the official realtime client and the browser.

use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::process::workspace_root;

/// A command that runs `tests/browser/<script>`; ended when the child is dropped.
///
/// Panics when the packages of `tests/browser` are not installed.
pub fn node(script: &str) -> Command {
    let dir = workspace_root().join("tests/browser");
    assert!(dir.join("node_modules").is_dir(), "run `npm ci` in {}, or ./test", dir.display());
    let mut command = Command::new("node");
    command
        .current_dir(dir)
        .arg(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    command
}

/// Starts a command. Panics when Node.js is missing.
pub fn start(command: &mut Command) -> Child {
    command.spawn().expect("Node.js (`node`) is installed")
}
