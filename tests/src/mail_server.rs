//! A real mail server process: `tests/mail/server.py` on `aiosmtpd`.

use std::process::Stdio;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{process::workspace_root, standin::Identity};

/// How the server wants to be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// In the clear.
    None,
    /// In the clear until STARTTLS, which it insists on.
    StartTls,
    /// TLS from the start.
    Tls,
}

/// A mail as Python's parser read it.
#[derive(Clone, Debug, Deserialize)]
pub struct Mail {
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// The last recipient in the client's own writing: in the envelope, in the header.
    pub written_to: [String; 2],
    /// The client's port: tells connections apart.
    pub peer: u16,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Who had signed in.
    pub user: Option<String>,
    /// Decoded headers by lower-case name.
    pub headers: Map<String, Value>,
    /// Decoded text of each part by content type.
    pub parts: Map<String, Value>,
    /// Longest line, bytes.
    pub longest_line: usize,
    /// Whether it has no byte above 127.
    pub ascii: bool,
    /// What the parser found wrong.
    pub defects: Vec<String>,
}

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct MailServer {
    /// Where it listens, on loopback.
    pub port: u16,
    /// Certificate that a client must trust, PEM.
    pub roots_pem: String,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
    _files: tempfile::TempDir,
}

impl MailServer {
    /// Starts a server; with an account it takes mails only from who has signed in.
    pub async fn start(security: Security, account: Option<(&str, &str)>) -> Self {
        let python = std::env::var("TODOKE_TEST_PYTHON").expect("TODOKE_TEST_PYTHON: run ./test");
        let identity = Identity::localhost();
        let files = tempfile::tempdir().unwrap();
        let (certificate, key) = (files.path().join("certificate.pem"), files.path().join("key.pem"));
        std::fs::write(&certificate, &identity.certificate_pem).unwrap();
        std::fs::write(&key, &identity.key_pem).unwrap();
        let mode = match security {
            Security::None => "plain",
            Security::StartTls => "starttls",
            Security::Tls => "tls",
        };
        let mut command = Command::new(python);
        command.arg(workspace_root().join("tests/mail/server.py")).arg(mode).arg(certificate).arg(key);
        if let Some((user, password)) = account {
            command.arg(user).arg(password);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().expect("Python is installed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("the mail server starts").parse().unwrap();
        Self { port, roots_pem: identity.roots_pem().to_owned(), lines, _child: child, _files: files }
    }

    /// The next mail that was taken.
    pub async fn next(&mut self) -> Mail {
        let line = self.lines.next_line().await.unwrap().expect("the mail server runs");
        serde_json::from_str(&line).unwrap()
    }
}
