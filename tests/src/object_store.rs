//! An S3-compatible server process: `tests/s3/server.py` on moto.

use std::process::Stdio;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{http::Client, process::workspace_root};

/// The secret key that programs are given; no output may hold it.
pub const SECRET: &str = "geheim-object-store";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered 503; nothing is done.
    Unavailable,
    /// Not answered while the fault lasts; nothing is done.
    Hang,
    /// Done, and the connection is dropped without an answer.
    Lost,
    /// Done, and answered 503.
    Disowned,
}

impl Fault {
    /// As the server calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Hang => "hang",
            Self::Lost => "lost",
            Self::Disowned => "disowned",
        }
    }
}

/// Where the server is told of faults.
const FAULT: &str = "/-/fault";

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

    /// From now on the next `n` requests of this method whose path matches the regular expression meet a fault,
    /// instead of the one there was.
    pub async fn fail(&self, fault: Fault, method: &str, path: &str, n: u32) {
        let told = json!({"kind": fault.name(), "method": method, "path": path, "n": n});
        self.client().post(FAULT, &told).await.expect(200);
    }

    /// Ends the fault.
    pub async fn heal(&self) {
        self.client().delete(FAULT).await.expect(200);
    }

    /// How many requests the present fault has met.
    pub async fn n_met(&self) -> u64 {
        self.client().get(FAULT).await.expect(200)["met"].as_u64().expect("a count")
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.port))
    }

    /// Keys of a bucket that begin with `prefix`, at most a thousand.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let listed = self.client().get(&format!("/{bucket}?list-type=2&prefix={prefix}")).await.text();
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
