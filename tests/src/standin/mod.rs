//! Stand-ins for the servers of push providers: real HTTP/2 or HTTP/1.1 over real TLS, with a certificate authority of
//! their own, scriptable faults, and a memory of what they were asked.
//!
//! They check what the provider would check, and answer in its words.

mod apple;
mod google;
mod providers;
mod serve;
mod tls;
mod web_push;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::{net::TcpListener, task::JoinSet};

pub use self::{
    apple::{APPLE_KEY_ID, APPLE_TEAM_ID, APPLE_TOPIC, Apple},
    google::{Google, RsaKey},
    providers::{Provider, Providers},
    tls::{Identity, PrivateAuthority},
    web_push::Subscriber,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Number of the connection it came on.
    pub connection: usize,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// When all of it was here.
    pub at: Instant,
}

impl Seen {
    /// A header as text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: String,
}

impl Answer {
    /// An answer without headers.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), headers: Vec::new(), body: body.into() }
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What goes wrong with one request. The request is read and remembered first.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer instead of the service's own.
    Answer(Answer),
    /// The service's own answer, so much later.
    Late(Duration),
    /// The message is taken, but the answer breaks off in its middle.
    Reset,
    /// The message is taken, then the connection is closed without an answer.
    HangUp,
    /// The stream is refused unread, as servers do that are about to stop: the message is not taken.
    Refuse,
}

/// How a stand-in decides about a request that no fault was scripted for.
pub type Service = dyn Fn(&Seen) -> Answer + Send + Sync;

/// What the versions of HTTP are that a stand-in speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Both, as the client likes.
    Both,
    /// The old one only.
    Http1,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    /// Requests that the service took: what a device would have been shown.
    taken: Mutex<Vec<Seen>>,
    faults: Mutex<VecDeque<Fault>>,
    n_connections: Mutex<usize>,
    forgetful: bool,
}

/// A running server.
pub struct Standin {
    address: SocketAddr,
    roots_pem: String,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for Standin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standin").field("address", &self.address).finish_non_exhaustive()
    }
}

/// How to start a server.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Its certificate.
    pub identity: &'a Identity,
    /// Its versions of HTTP.
    pub speaks: Speaks,
    /// Whether it remembers requests. A benchmark's does not.
    pub remembers: bool,
}

impl Standin {
    /// Starts a server on a free port of loopback.
    pub async fn start(setup: Setup<'_>, service: Arc<Service>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { forgetful: !setup.remembers, ..State::default() });
        let mut tasks = JoinSet::new();
        let acceptor = setup.identity.acceptor(setup.speaks);
        tasks.spawn(serve::accept(listener, acceptor, Arc::clone(&state), service));
        Self { address, roots_pem: setup.identity.roots_pem().to_owned(), state, _tasks: tasks }
    }

    /// `https://localhost:<port>`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Certificates that a client must trust.
    pub fn roots_pem(&self) -> String {
        self.roots_pem.clone()
    }

    /// Scripts what happens to the next requests, in order.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults.lock().unwrap().extend(faults);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Requests that were taken, whether the client heard of it or not.
    pub fn taken(&self) -> Vec<Seen> {
        self.state.taken.lock().unwrap().clone()
    }

    /// How many requests were taken.
    pub fn n_taken(&self) -> usize {
        self.state.taken.lock().unwrap().len()
    }

    /// Connections so far.
    pub fn n_connections(&self) -> usize {
        *self.state.n_connections.lock().unwrap()
    }

    /// What a device shows after all that was taken: the newest message under each tag.
    pub fn shown(&self, tag_of: impl Fn(&Seen) -> String) -> HashMap<String, Seen> {
        self.taken().into_iter().map(|seen| (tag_of(&seen), seen)).collect()
    }
}
