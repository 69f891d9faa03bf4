//! An S3-compatible server process: `tests/s3/server.py` on moto.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{http::Client, process::workspace_root};

/// The secret key that programs are given; no output may hold it.
pub const SECRET: &str = "geheim-object-store";

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct ObjectStore {
    port: u16,
    _child: Child,
}

impl ObjectStore {
    /// Starts a server with empty buckets; `name:versioned` keeps versions of what is deleted.
    pub async fn start(buckets: &[&str]) -> Self {
        let python = std::env::var("TODOKE_TEST_PYTHON").expect("TODOKE_TEST_PYTHON: run ./test");
        let mut command = Command::new(python);
        command.arg(workspace_root().join("tests/s3/server.py")).args(buckets);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().expect("Python is installed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("the object store starts").parse().unwrap();
        Self { port, _child: child }
    }

    /// What a program's environment needs for a lake at `s3://…`.
    pub fn settings(&self, url: &str) -> Vec<(&'static str, String)> {
        settings(url, self.port)
    }

    /// Keys of a bucket that begin with `prefix`, at most a thousand.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let client = Client::new(&format!("http://127.0.0.1:{}", self.port));
        let listed = client.get(&format!("/{bucket}?list-type=2&prefix={prefix}")).await.text();
        listed.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
    }
}

/// The environment for a lake at `s3://…` on a server of this machine.
pub fn settings(url: &str, port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("TODOKE_LAKE__URL", url.to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
    ]
}
