//! The HTTP client of the push channels: POST requests with small bodies over few, long-lived connections.
//!
//! It is our own so that it costs little per push (HTTP/2 streams are used straight from `h2`, many requests share a
//! write) and so that it can say the one thing a general client hides: whether a request that failed had been handed
//! to the connection, and so may have arrived.

mod connect;
mod http1;
mod http2;
mod origin;
mod retry_after;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::{task::JoinSet, time::Instant};

pub use connect::RootsError;
pub(crate) use connect::{NOT_ALLOWED, Reach, Roots};
pub use origin::BadUrl;
pub(crate) use origin::Origin;
pub(crate) use retry_after::retry_after;

use self::{http1::Http1, http2::Http2};

/// Longest answer that is read; the rest is cut off. No provider says more than a sentence.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Origins with a connection at a time. Web Push endpoints come from browsers; a handful of services runs them all.
const ORIGINS_MAX: usize = 256;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A header value that no other request has: kept out of the connection's compression table, where it would push out
/// the ones that all requests share, first of all the long authorisation.
pub(crate) fn once(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// The head of a POST request.
pub(crate) fn post(uri: Uri, headers: HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request was not handed over: it cannot have arrived.
    NotSent(&'static str),
    /// The request was handed over, and nothing came back.
    NoAnswer(&'static str),
}

/// Limits of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Longest wait for a connection with its TLS handshake.
    pub(crate) connect: Duration,
    /// Longest wait for an answer.
    pub(crate) answer: Duration,
}

/// What a connection turned out to speak.
#[derive(Clone)]
enum Protocol {
    Http2(Http2),
    Http1(Arc<Http1>),
}

/// The way to one origin. Connecting happens once, however many wait for it.
#[derive(Default)]
struct Route {
    live: Mutex<Option<Protocol>>,
    connecting: tokio::sync::Mutex<()>,
}

impl Route {
    fn live(&self) -> Option<Protocol> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Protocol::Http2(connection)) = &*live {
            if connection.is_closed() {
                *live = None;
            }
        }
        live.clone()
    }

    fn set(&self, protocol: Protocol) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(protocol);
    }

    fn is_idle(&self) -> bool {
        match &*self.live.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Protocol::Http2(connection)) => connection.is_closed(),
            Some(Protocol::Http1(connections)) => connections.is_idle(),
            None => true,
        }
    }
}

/// A client with its connections. Dropping it closes them.
pub(crate) struct HttpClient {
    connector: connect::Connector,
    limits: Limits,
    routes: Mutex<HashMap<Origin, Arc<Route>>>,
    /// The tasks that drive connections; they end with the client.
    drivers: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client that trusts `roots` and connects to what `reach` allows.
    pub(crate) fn new(roots: Roots, reach: Reach, limits: Limits) -> Self {
        Self {
            connector: connect::Connector::new(roots, reach),
            limits,
            routes: Mutex::default(),
            drivers: Mutex::default(),
        }
    }

    /// Sends a request with its body and reads the answer. `request` makes its head: keeping a copy for the rare
    /// second time would cost more than making it again.
    ///
    /// A request that a closing connection did not take is sent once more over a new one; nothing else is repeated.
    /// Dropped before the end, the stream is reset and the request may or may not have arrived.
    pub(crate) async fn post(
        &self,
        origin: &Origin,
        request: impl Fn() -> Request<()>,
        body: Bytes,
    ) -> Result<Reply, Failure> {
        match self.attempt(origin, request(), body.clone()).await {
            Err(Failure::NotSent(http2::NOT_TAKEN)) => self.attempt(origin, request(), body).await,
            result => result,
        }
    }

    async fn attempt(&self, origin: &Origin, request: Request<()>, body: Bytes) -> Result<Reply, Failure> {
        let protocol = self.protocol(origin).await?;
        let deadline = Instant::now() + self.limits.answer;
        match protocol {
            Protocol::Http2(connection) => connection.post(request, body, deadline).await,
            Protocol::Http1(connections) => connections.post(self, origin, request, body, deadline).await,
        }
    }

    async fn protocol(&self, origin: &Origin) -> Result<Protocol, Failure> {
        let route = self.route(origin);
        if let Some(protocol) = route.live() {
            return Ok(protocol);
        }
        let _alone = route.connecting.lock().await;
        if let Some(protocol) = route.live() {
            return Ok(protocol);
        }
        let connected = self.connect(origin).await?;
        let protocol = if connected.speaks_http2 {
            let (connection, driver) = Http2::start(connected.stream).await?;
            self.drive(driver);
            Protocol::Http2(connection)
        } else {
            let connections = Http1::new();
            connections.adopt(self, connected.stream).await?;
            Protocol::Http1(Arc::new(connections))
        };
        route.set(protocol.clone());
        Ok(protocol)
    }

    fn route(&self, origin: &Origin) -> Arc<Route> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(origin) {
            return Arc::clone(route);
        }
        if routes.len() >= ORIGINS_MAX {
            routes.retain(|_, route| Arc::strong_count(route) > 1 || !route.is_idle());
        }
        Arc::clone(routes.entry(origin.clone()).or_default())
    }

    async fn connect(&self, origin: &Origin) -> Result<connect::Connected, Failure> {
        tokio::time::timeout(self.limits.connect, self.connector.connect(origin))
            .await
            .unwrap_or(Err(Failure::NotSent("connect_timeout")))
    }

    fn drive(&self, driver: impl Future<Output = ()> + Send + 'static) {
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        while drivers.try_join_next().is_some() {}
        drivers.spawn(driver);
    }
}
