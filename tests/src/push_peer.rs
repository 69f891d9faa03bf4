//! Scripts of `tests/push-peer`: cryptography by another hand than ours, and other clients to measure against.

use std::process::Stdio;

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::process::workspace_root;

/// A command that runs a script. Panics when its packages are not installed.
pub fn script(name: &str) -> Command {
    let dir = workspace_root().join("tests/push-peer");
    assert!(dir.join("node_modules").is_dir(), "run `npm ci` in {}, or ./test", dir.display());
    let mut command = Command::new("node");
    command.current_dir(dir).arg(name).stderr(Stdio::inherit()).kill_on_drop(true);
    command
}

/// Hands JSON to a script and takes JSON back. Panics when the script fails.
pub async fn ask(name: &str, request: &Value) -> Value {
    let mut command = script(name);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("Node.js (`node`) is installed");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(request.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{name} failed");
    serde_json::from_slice(&output.stdout).unwrap()
}
