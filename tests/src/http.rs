//! A small HTTP client: JSON in and out, one base address, connections kept open.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header::HeaderName, header::HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as it came.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. Panics when it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// A header's value; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as JSON, or null when it is empty. Panics with the body unless the status is `status`.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "answer: {}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

/// Why there was no answer: the connection broke, before or after the request arrived.
#[derive(Debug)]
pub struct NoAnswer(pub String);

/// A client of one server. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    authority: Arc<str>,
    headers: HeaderMap,
    idle: Arc<Mutex<Vec<SendRequest<Full<Bytes>>>>>,
}

impl Client {
    /// A client without sign-in for `http://host:port`.
    pub fn new(base_url: &str) -> Self {
        let authority = base_url.trim_start_matches("http://").trim_end_matches('/');
        Self { authority: Arc::from(authority), headers: HeaderMap::new(), idle: Arc::default() }
    }

    /// The server's address with scheme.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// The same client with one more header on every request.
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut with = self.clone();
        with.headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        with
    }

    /// The same client signed in by a session token or an API key.
    pub fn with_bearer(&self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// The token it is signed in with.
    pub fn bearer(&self) -> Option<&str> {
        self.headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], Bytes::new()).await
    }

    /// POST of a JSON value.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json("POST", path, body).await
    }

    /// PUT of a JSON value.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.json("PUT", path, body).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, &[], Bytes::new()).await
    }

    async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.request(method, path, &[("content-type", "application/json")], Bytes::from(body.to_string())).await
    }

    /// Any request. Panics when there is no answer.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.try_request(method, path, headers, body)
            .await
            .unwrap_or_else(|NoAnswer(why)| panic!("{method} {path}: no answer: {why}"))
    }

    /// Any request to a server that may be going away.
    pub async fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = Method::try_from(method).unwrap();
        *request.uri_mut() = path.parse().unwrap_or_else(|_| panic!("not a path: {path}"));
        *request.headers_mut() = self.headers.clone();
        for (name, value) in headers {
            request.headers_mut().insert(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        request.headers_mut().insert("host", HeaderValue::try_from(&*self.authority).unwrap());
        let exchange = self.exchange(request);
        tokio::time::timeout(ANSWER_LIMIT, exchange)
            .await
            .map_err(|_| NoAnswer(format!("not within {ANSWER_LIMIT:?}")))?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        let broken = |error: hyper::Error| NoAnswer(error.to_string());
        let mut connection = self.connection().await?;
        let answer = connection.send_request(request).await.map_err(broken)?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        self.idle.lock().unwrap().push(connection);
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
        loop {
            let kept = self.idle.lock().unwrap().pop();
            let Some(mut kept) = kept else { break };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(&*self.authority).await.map_err(|error| NoAnswer(error.to_string()))?;
        stream.set_nodelay(true).unwrap();
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| NoAnswer(error.to_string()))?;
        // Ends by itself when either side closes; the test's runtime drops it at the latest.
        #[allow(clippy::disallowed_methods, reason = "a test's runtime owns it")]
        tokio::spawn(connection);
        Ok(sender)
    }
}
