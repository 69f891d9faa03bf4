//! A server on port 0, and a gate that believes whatever a token says.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::Response;
use axum::routing::any;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::*;
use super::DEADLINE;
use crate::broker::contract::StubDurable;
use crate::broker::{BrokerConfig, MemoryBroker};

/// What a test token says, as JSON.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Token {
    user: String,
    session: String,
    ttl_s: Option<i64>,
    channels: Vec<TokenChannel>,
    info: Option<Box<RawValue>>,
    refusal: String,
}

impl Default for Token {
    fn default() -> Self {
        let (user, session) = ("u".to_owned(), "s".to_owned());
        Self { user, session, ttl_s: None, channels: Vec::new(), info: None, refusal: String::new() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenChannel {
    name: String,
    live: bool,
    presence: bool,
    join_leave: bool,
}

#[derive(Debug)]
pub(super) struct StubGate {
    pub(super) record: Arc<StubDurable>,
    pub(super) now_unix_s: AtomicI64,
    pub(super) ended_users: Mutex<HashSet<String>>,
    pub(super) revoked_channels: Mutex<HashSet<String>>,
    /// Admissions wait for `released`, after telling `waiting`.
    pub(super) is_holding: AtomicBool,
    pub(super) waiting: Notify,
    pub(super) released: Notify,
}

impl Durable for StubGate {
    async fn durable_since(&self, channel: &str, after: u64, n_max: usize) -> Result<DurablePage, DurableError> {
        if channel.starts_with("broken:") {
            return Err(DurableError("the test says so".to_owned()));
        }
        self.record.durable_since(channel, after, n_max).await
    }
}

impl StubGate {
    async fn wait_if_held(&self) {
        if self.is_holding.swap(false, Ordering::SeqCst) {
            self.waiting.notify_one();
            self.released.notified().await;
        }
    }
}

impl Gate for StubGate {
    type Principal = String;

    fn now_unix_s(&self) -> i64 {
        self.now_unix_s.load(Ordering::SeqCst)
    }

    async fn admit(&self, token: &str) -> Result<Admission<String>, Refusal> {
        let token: Token = serde_json::from_str(token).map_err(|_| Refusal::InvalidToken)?;
        match token.refusal.as_str() {
            "expired" => return Err(Refusal::TokenExpired),
            "denied" => return Err(Refusal::Denied),
            "unavailable" => return Err(Refusal::Unavailable),
            _ => {}
        }
        if self.ended_users.lock().unwrap().contains(&token.user) {
            return Err(Refusal::InvalidToken);
        }
        self.wait_if_held().await;
        let channels = token.channels.into_iter().map(|channel| ServerChannel {
            name: channel.name,
            recoverable: !channel.live,
            presence: channel.presence,
            join_leave: channel.join_leave,
        });
        Ok(Admission {
            principal: format!("principal of {}", token.user),
            user: token.user,
            session: token.session,
            municipality: "990001".to_owned(),
            expires_at: token.ttl_s.map(|ttl| self.now_unix_s() + ttl),
            channels: channels.collect(),
            info: token.info,
            data: None,
        })
    }

    async fn subscribe(
        &self,
        who: &Caller<String>,
        channel: &str,
        token: Option<&str>,
    ) -> Result<SubscribeGrant, Refusal> {
        assert_eq!(who.principal, format!("principal of {}", who.user));
        if self.revoked_channels.lock().unwrap().contains(channel) {
            return Err(Refusal::Denied);
        }
        self.wait_if_held().await;
        let grant = SubscribeGrant { recoverable: true, ..SubscribeGrant::default() };
        match channel.split(':').next() {
            Some("open" | "broken") => Ok(grant),
            Some("sample") => Ok(SubscribeGrant::default()),
            Some("room") => {
                let info = serde_json::value::to_raw_value(&json!({"seat": who.user})).ok();
                Ok(SubscribeGrant { presence: true, join_leave: true, info, ..grant })
            }
            Some("expiring") => {
                let ttl_s = token.map_or(Ok(1), str::parse).map_err(|_| Refusal::TokenExpired)?;
                Ok(SubscribeGrant { expires_at: Some(self.now_unix_s() + ttl_s), ..grant })
            }
            Some("hang") => std::future::pending().await,
            Some("missing") => Err(Refusal::UnknownChannel),
            _ => Err(Refusal::Denied),
        }
    }

    async fn rpc(&self, who: &Caller<String>, method: &str, data: &RawValue) -> Result<Box<RawValue>, RpcError> {
        match method {
            "echo" => Ok(data.to_owned()),
            "who" => serde_json::value::to_raw_value(&json!({"user": *who.user})).map_err(|_| RpcError::internal()),
            "big" => serde_json::value::to_raw_value(&"x".repeat(700_000)).map_err(|_| RpcError::internal()),
            "fail" => Err(RpcError::app(450, "as asked")),
            "hang" => std::future::pending().await,
            _ => Err(RpcError::method_not_found()),
        }
    }
}

pub(super) type StubHub = Realtime<StubGate, MemoryBroker<StubGate>>;

/// A hub with everything around it.
#[derive(Debug)]
struct Node {
    hub: Arc<StubHub>,
    gate: Arc<StubGate>,
    sockets: TaskTracker,
    stop: CancellationToken,
}

impl Node {
    fn new(config: &RealtimeConfig, ring_n_max: usize, record: Arc<StubDurable>) -> Self {
        let gate = Arc::new(StubGate {
            record,
            now_unix_s: AtomicI64::new(1_000_000),
            ended_users: Mutex::default(),
            revoked_channels: Mutex::default(),
            is_holding: AtomicBool::new(false),
            waiting: Notify::new(),
            released: Notify::new(),
        });
        let broker_config = BrokerConfig { ring_n_max, gap_wait_ms: 5, ..BrokerConfig::default() };
        let broker = Arc::new(MemoryBroker::new(broker_config, gate.clone()));
        let (sockets, stop) = (TaskTracker::new(), CancellationToken::new());
        let hub = Realtime::new(config.clone(), gate.clone(), broker, sockets.clone(), stop.clone());
        Self { hub, gate, sockets, stop }
    }
}

/// A running server. Its hub can be replaced by a fresh one, like after a restart.
#[derive(Clone, Debug)]
pub(super) struct Rig {
    pub(super) address: SocketAddr,
    config: RealtimeConfig,
    ring_n_max: usize,
    node: Arc<Mutex<Arc<Node>>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Rig {
    pub(super) async fn start(config: RealtimeConfig) -> Self {
        Self::start_with_ring(RealtimeConfig { close_timeout_s: 2, ..config }, 50).await
    }

    pub(super) async fn start_with_ring(config: RealtimeConfig, ring_n_max: usize) -> Self {
        let config = RealtimeConfig { tick_ms: 10, ..config };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = Arc::new(Node::new(&config, ring_n_max, Arc::new(StubDurable::new("e1"))));
        let mut tasks = JoinSet::new();
        tasks.spawn(node.hub.clone().run());
        let rig =
            Self { address, config, ring_n_max, node: Arc::new(Mutex::new(node)), tasks: Arc::new(Mutex::new(tasks)) };
        let router = Router::new()
            .route("/connection/websocket", any(on_websocket))
            .route("/control", axum::routing::post(on_control))
            .with_state(rig.clone());
        rig.tasks.lock().unwrap().spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        rig
    }

    fn node(&self) -> Arc<Node> {
        Arc::clone(&self.node.lock().unwrap())
    }

    pub(super) fn hub(&self) -> Arc<StubHub> {
        Arc::clone(&self.node().hub)
    }

    pub(super) fn gate(&self) -> Arc<StubGate> {
        Arc::clone(&self.node().gate)
    }

    pub(super) fn record(&self) -> Arc<StubDurable> {
        Arc::clone(&self.node().gate.record)
    }

    /// Commits and hands over, like a use case does.
    pub(super) async fn publish(&self, channel: &str, data: Value) -> u64 {
        let publication = self.record().commit(channel, data.to_string());
        let position = publication.position;
        self.hub().publish(channel, publication).await.unwrap();
        position
    }

    /// Stops the hub and starts another one over the same record; all hot state is gone.
    pub(super) async fn restart(&self) {
        let old = self.node();
        let fresh = Arc::new(Node::new(&self.config, self.ring_n_max, Arc::clone(&old.gate.record)));
        self.tasks.lock().unwrap().spawn(fresh.hub.clone().run());
        *self.node.lock().unwrap() = fresh;
        old.stop.cancel();
        old.sockets.close();
        timeout(DEADLINE, old.sockets.wait()).await.expect("all sockets end at a shutdown");
    }

    /// Waits until the hub has this many connections.
    pub(super) async fn until_n_connections(&self, n: usize) {
        let hub = self.hub();
        let wait = async {
            while hub.n_connections() != n {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(DEADLINE, wait).await.is_ok(), "{} connections, expected {n}", hub.n_connections());
    }
}

async fn on_websocket(State(rig): State<Rig>, request: Request<Body>) -> Response {
    upgrade(&rig.hub(), request)
}

/// One order of the script that drives the official client.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Control {
    /// Commits and hands over `n` publications `{"n": 1}` …
    Publish {
        channel: String,
        n: u64,
    },
    /// Commits without handing over: only the record has them.
    Commit {
        channel: String,
        n: u64,
    },
    Sample {
        channel: String,
    },
    Disconnect {
        user: String,
        code: u16,
    },
    Unsubscribe {
        user: String,
        channel: String,
    },
    End {
        user: String,
    },
    Advance {
        seconds: i64,
    },
    Restart {},
    /// Another database behind a new hub.
    NewEpoch {
        epoch: String,
    },
    Connections {},
}

async fn on_control(State(rig): State<Rig>, body: String) -> String {
    let hub = rig.hub();
    match serde_json::from_str(&body).expect("an order") {
        Control::Publish { channel, n } => {
            for n in 1..=n {
                rig.publish(&channel, json!({"n": n})).await;
            }
        }
        Control::Commit { channel, n } => {
            for n in 1..=n {
                rig.record().commit(&channel, json!({"n": n}).to_string());
            }
        }
        Control::Sample { channel } => hub.publish_ephemeral(&channel, "{\"sample\":\n1}".into()).await.unwrap(),
        Control::Disconnect { user, code } => {
            let reasons = [Disconnect::FORCE_RECONNECT, Disconnect::FORCE_NO_RECONNECT, Disconnect::INVALID_TOKEN];
            hub.disconnect_user(&user, *reasons.iter().find(|reason| reason.code() == code).unwrap());
        }
        Control::Unsubscribe { user, channel } => {
            rig.gate().revoked_channels.lock().unwrap().insert(channel.clone());
            hub.unsubscribe_user(&user, &channel);
        }
        Control::End { user } => {
            rig.gate().ended_users.lock().unwrap().insert(user.clone());
            hub.disconnect_user(&user, Disconnect::INVALID_TOKEN);
        }
        Control::Advance { seconds } => {
            rig.gate().now_unix_s.fetch_add(seconds, Ordering::SeqCst);
        }
        Control::Restart {} => rig.restart().await,
        Control::NewEpoch { epoch } => {
            rig.record().restore_other(&epoch);
            rig.restart().await;
        }
        Control::Connections {} => {}
    }
    json!({"connections": hub.n_connections()}).to_string()
}
