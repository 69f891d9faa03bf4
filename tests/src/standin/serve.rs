//! Connections: reading requests, playing the faults, writing answers.

use std::{convert::Infallible, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{Answer, Fault, Seen, Service, State};

pub(super) async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>, service: Arc<Service>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut n = state.n_connections.lock().unwrap();
            *n += 1;
            *n
        };
        let peer = Peer { number, state: Arc::clone(&state), service: Arc::clone(&service) };
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            stream.set_nodelay(true).unwrap();
            // A client that does not trust us ends here; that is its test.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                peer.http2(stream).await;
            } else {
                peer.http1(stream).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The server's side of one connection.
#[derive(Clone)]
struct Peer {
    number: usize,
    state: Arc<State>,
    service: Arc<Service>,
}

/// What is done about a request.
enum Deed {
    Answer(Answer),
    Reset(Answer),
    HangUp,
}

impl Peer {
    async fn http2(self, stream: TlsStream<TcpStream>) {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1_000).initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
        let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
        let mut streams = JoinSet::new();
        let hang_up = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                accepted = connection.accept() => accepted,
                () = hang_up.cancelled() => return,
            };
            let Some(Ok((request, respond))) = accepted else { break };
            let (peer, hang_up) = (self.clone(), hang_up.clone());
            streams.spawn(async move { peer.http2_stream(request, respond, &hang_up).await });
            while streams.try_join_next().is_some() {}
        }
    }

    async fn http2_stream(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        hang_up: &CancellationToken,
    ) {
        if self.refuses() {
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let (head, mut body) = request.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(Ok(part)) = body.data().await {
            let _ = body.flow_control().release_capacity(part.len());
            bytes.extend_from_slice(&part);
        }
        match self.deed(&head, bytes.freeze()).await {
            Deed::Answer(answer) => {
                let Ok(mut stream) = respond.send_response(head_of(&answer), answer.body.is_empty()) else { return };
                if !answer.body.is_empty() {
                    let _ = stream.send_data(Bytes::from(answer.body), true);
                }
            }
            Deed::Reset(answer) => {
                let Ok(mut stream) = respond.send_response(head_of(&answer), false) else { return };
                let _ = stream.send_data(Bytes::from_static(b"{"), false);
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
            Deed::HangUp => hang_up.cancel(),
        }
    }

    async fn http1(self, stream: TlsStream<TcpStream>) {
        let hang_up = CancellationToken::new();
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
            let (peer, hang_up) = (self.clone(), hang_up.clone());
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let answer = match peer.deed(&head, bytes).await {
                    Deed::Answer(answer) => answer,
                    Deed::Reset(_) | Deed::HangUp => {
                        hang_up.cancel();
                        std::future::pending().await
                    }
                };
                let body = Full::new(Bytes::from(answer.body.clone()));
                Ok::<_, Infallible>(head_of(&answer).map(|()| body))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            _ = connection => {}
            () = hang_up.cancelled() => {}
        }
    }

    fn refuses(&self) -> bool {
        let mut faults = self.state.faults.lock().unwrap();
        let refuses = matches!(faults.front(), Some(Fault::Refuse));
        if refuses {
            faults.pop_front();
        }
        refuses
    }

    async fn deed(&self, head: &http::request::Parts, body: Bytes) -> Deed {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let seen = Seen { connection: self.number, path, headers: head.headers.clone(), body, at: Instant::now() };
        let fault = self.state.faults.lock().unwrap().pop_front();
        if !self.state.forgetful {
            self.state.seen.lock().unwrap().push(seen.clone());
        }
        match fault {
            Some(Fault::Answer(answer)) => Deed::Answer(answer),
            Some(Fault::Late(by)) => {
                wait(by).await;
                Deed::Answer(self.take(seen))
            }
            Some(Fault::Reset) => Deed::Reset(self.take(seen)),
            Some(Fault::HangUp) => {
                self.take(seen);
                Deed::HangUp
            }
            Some(Fault::Refuse) | None => Deed::Answer(self.take(seen)),
        }
    }

    fn take(&self, seen: Seen) -> Answer {
        let answer = (self.service)(&seen);
        if answer.status.is_success() && !self.state.forgetful {
            self.state.taken.lock().unwrap().push(seen);
        }
        answer
    }
}

/// The latency of a scripted fault: part of the stand-in's behaviour, not a wait for something else.
async fn wait(by: std::time::Duration) {
    let mut ticks =
        tokio::time::interval_at(tokio::time::Instant::now() + by, by.max(std::time::Duration::from_millis(1)));
    ticks.tick().await;
}

fn head_of(answer: &Answer) -> Response<()> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response.body(()).unwrap()
}
