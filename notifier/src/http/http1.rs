//! HTTP/1.1 for servers that speak nothing newer: a few connections, one request at a time on each.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{sync::Semaphore, time::Instant};

use super::{Failure, HttpClient, Origin, REPLY_BYTES_MAX, Reply, connect::Stream};

/// The connection was closing: another one will do.
const NOT_TAKEN: Failure = Failure::NotSent(super::http2::NOT_TAKEN);
/// Connections to one origin at a time.
const CONNECTIONS_MAX: usize = 16;

pub(super) struct Http1 {
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    places: Semaphore,
}

impl Http1 {
    pub(super) fn new() -> Self {
        Self { idle: Mutex::default(), places: Semaphore::new(CONNECTIONS_MAX) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.places.available_permits() == CONNECTIONS_MAX
    }

    /// Takes a new connection into the pool.
    pub(super) async fn adopt(&self, client: &HttpClient, stream: Stream) -> Result<(), Failure> {
        let send = Self::start(client, stream).await?;
        self.put(send);
        Ok(())
    }

    async fn start(client: &HttpClient, stream: Stream) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (send, connection) = handshake.map_err(|_| Failure::NotSent("handshake_failed"))?;
        client.drive(async move {
            // An error of the connection is also the error of the request on it, and told there.
            let _ = connection.await;
        });
        Ok(send)
    }

    fn put(&self, send: SendRequest<Full<Bytes>>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(send);
    }

    /// A connection that takes another request. It may have just carried one, and then needs a moment.
    async fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let mut send = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if send.ready().await.is_ok() {
                return Some(send);
            }
        }
    }

    pub(super) async fn post(
        &self,
        client: &HttpClient,
        origin: &Origin,
        request: Request<()>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let place = tokio::time::timeout_at(deadline, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(Failure::NotSent("answer_timeout")) };
        let mut send = match self.take().await {
            Some(send) => send,
            None => Self::start(client, client.connect(origin).await?.stream).await?,
        };
        let request = in_origin_form(origin, request).map(|()| Full::new(body));
        let exchange = async {
            let answer = match send.try_send_request(request).await {
                Ok(answer) => answer,
                Err(mut error) => {
                    let handed_over = error.take_message().is_none();
                    return Err(if handed_over { Failure::NoAnswer("connection_lost") } else { NOT_TAKEN });
                }
            };
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
            // The status is the answer; a body that breaks off or is endless only costs us its words.
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            Ok(Reply { status: head.status, headers: head.headers, body })
        };
        let answer = tokio::time::timeout_at(deadline, exchange).await;
        let reply = answer.unwrap_or(Err(Failure::NoAnswer("answer_timeout")))?;
        self.put(send);
        Ok(reply)
    }
}

/// HTTP/1.1 names the host in a header and only the path in the request line.
fn in_origin_form(origin: &Origin, request: Request<()>) -> Request<()> {
    let (mut head, body) = request.into_parts();
    if let Ok(host) = header::HeaderValue::from_str(origin.authority()) {
        head.headers.insert(header::HOST, host);
    }
    if let Some(path) = head.uri.path_and_query().cloned() {
        head.uri = path.into();
    }
    Request::from_parts(head, body)
}
