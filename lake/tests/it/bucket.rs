//! A server of objects in another process, and the places a contract is held over.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use todoke_lake::{LakeLocation, LocationError};

/// `tests/s3/server.py`; ended when dropped.
pub(crate) struct ObjectStore {
    child: Child,
    port: u16,
}

impl ObjectStore {
    /// Starts it with buckets; `name:versioned` keeps versions of what is deleted.
    pub(crate) fn start(buckets: &[&str]) -> Self {
        let python = std::env::var("TODOKE_TEST_PYTHON")
            .expect("TODOKE_TEST_PYTHON names a Python with tests/lake/requirements.txt; ./test sets it");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/s3/server.py");
        let mut command = Command::new(python);
        command.arg(script).args(buckets).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Python is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the object store starts");
        Self { child, port }
    }

    pub(crate) fn location(&self, url: &str) -> LakeLocation {
        at_endpoint(url, self.port).unwrap()
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A place in a bucket of a server on this machine.
pub(crate) fn at_endpoint(url: &str, port: u16) -> Result<LakeLocation, LocationError> {
    let variables = [
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ];
    LakeLocation::parse(url, variables.map(|(name, value)| (name.to_owned(), value)))
}
