//! One HTTP/2 connection, shared by all requests to an origin.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{Ping, Reason, client::SendRequest};
use http::Request;
use tokio::time::Instant;

use super::{Failure, REPLY_BYTES_MAX, Reply, connect::Stream};

/// The connection was closing and says that it did not take the request.
pub(super) const NOT_TAKEN: &str = "not_taken";
/// Pause between two pings: less than the idle time after which middleboxes forget a connection.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Longest wait for the answer to a ping, after which the connection counts as dead.
const PONG_MAX: Duration = Duration::from_secs(10);
/// Pings without a request in between, after which the connection is given up.
const IDLE_PINGS_MAX: u32 = 20;
/// Flow-control windows: far above what providers answer, so that we never have to widen them.
const WINDOW_BYTES: u32 = 1 << 20;

/// A handle to the connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Http2 {
    send: SendRequest<Bytes>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    closed: AtomicBool,
    n_requests: AtomicU64,
}

impl Http2 {
    /// Greets the server. The future has to be driven until it ends, which is when the connection does.
    pub(super) async fn start(stream: Stream) -> Result<(Self, impl Future<Output = ()> + Send + 'static), Failure> {
        let handshake = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_send_buffer_size(WINDOW_BYTES as usize)
            .handshake(stream);
        let (send, mut connection) = handshake.await.map_err(|_| Failure::NotSent("handshake_failed"))?;
        let state = Arc::new(State::default());
        let driven = Arc::clone(&state);
        let pings = connection.ping_pong();
        let driver = async move {
            let _closed = ClosedOnDrop(Arc::clone(&driven));
            tokio::select! {
                // An error of the connection is also the error of every request on it, and told there.
                _ = &mut connection => {}
                () = keep_alive(pings, &driven) => {}
            }
        };
        Ok((Self { send, state }, driver))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    pub(super) async fn post(self, request: Request<()>, body: Bytes, deadline: Instant) -> Result<Reply, Failure> {
        self.state.n_requests.fetch_add(1, Ordering::Relaxed);
        let Ok(answer) = tokio::time::timeout_at(deadline, exchange(self.send, request, body)).await else {
            return Err(Failure::NoAnswer("answer_timeout"));
        };
        if matches!(answer, Err(Failure::NotSent(_))) {
            // It still finishes what it has taken, but takes nothing more: the next request opens a new one.
            self.state.closed.store(true, Ordering::Release);
        }
        answer
    }
}

async fn exchange(send: SendRequest<Bytes>, request: Request<()>, body: Bytes) -> Result<Reply, Failure> {
    // Not ready means that the connection is at its end, before the request touched it.
    let mut send = send.ready().await.map_err(|_| Failure::NotSent(NOT_TAKEN))?;
    let (answer, mut upload) = send.send_request(request, body.is_empty()).map_err(|_| Failure::NotSent(NOT_TAKEN))?;
    if !body.is_empty() {
        upload.send_data(body, true).map_err(|error| failure(&error))?;
    }
    let (head, mut download) = answer.await.map_err(|error| failure(&error))?.into_parts();
    let mut body = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(part) = download.data().await {
        let part = part.map_err(|error| failure(&error))?;
        let _ = download.flow_control().release_capacity(part.len());
        if joined.len() + body.len() + part.len() > REPLY_BYTES_MAX {
            break;
        }
        if body.is_empty() && joined.is_empty() {
            body = part;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut body));
            joined.extend_from_slice(&part);
        }
    }
    if !joined.is_empty() {
        body = joined.freeze();
    }
    Ok(Reply { status: head.status, headers: head.headers, body })
}

/// What an error of a stream says about the request: the server either names it as not processed, or leaves us to guess.
fn failure(error: &h2::Error) -> Failure {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    if error.is_remote() && (error.is_go_away() || refused) {
        return Failure::NotSent(NOT_TAKEN);
    }
    Failure::NoAnswer(if error.is_reset() { "stream_reset" } else { "connection_lost" })
}

/// Ends when the other side no longer answers pings, or nobody has used the connection for long.
async fn keep_alive(pings: Option<h2::PingPong>, state: &State) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    let (mut idle, mut seen) = (0, 0);
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let n_requests = state.n_requests.load(Ordering::Relaxed);
        idle = if n_requests == seen { idle + 1 } else { 0 };
        seen = n_requests;
        if idle >= IDLE_PINGS_MAX || pings.send_ping(Ping::opaque()).is_err() {
            return;
        }
        match tokio::time::timeout(PONG_MAX, poll_fn(|cx| pings.poll_pong(cx))).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Marks the connection as closed however its driver ends.
struct ClosedOnDrop(Arc<State>);

impl Drop for ClosedOnDrop {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
    }
}
