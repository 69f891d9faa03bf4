//! The HTTP request that becomes a websocket.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{Method, Request, Response, StatusCode, Uri};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::net::TcpStream;

use crate::broker::Broker;

use super::Realtime;
use super::gate::Gate;

/// RFC 6455, section 1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only subprotocol spoken; clients need not name it.
const SUBPROTOCOL: &str = "centrifuge-json";

/// `/connection/websocket`, to be merged into the server's router. Put no compression, body limit or
/// timeout around it.
pub fn routes<S, G, B>(hub: Arc<Realtime<G, B>>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    G: Gate,
    B: Broker,
{
    Router::new().route("/connection/websocket", any(handler::<G, B>)).with_state(hub)
}

async fn handler<G: Gate, B: Broker>(State(hub): State<Arc<Realtime<G, B>>>, request: Request<Body>) -> Response<Body> {
    upgrade(&hub, request)
}

/// Answers an upgrade request and serves the connection in a task of its own.
pub fn upgrade<G: Gate, B: Broker>(hub: &Arc<Realtime<G, B>>, mut request: Request<Body>) -> Response<Body> {
    let refuse = |status: StatusCode, why: &'static str| {
        let mut response = Response::new(Body::from(why));
        *response.status_mut() = status;
        if status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    };
    let headers = request.headers();
    let is_websocket = has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket");
    if request.method() != Method::GET || !is_websocket {
        return refuse(StatusCode::UPGRADE_REQUIRED, "this is a websocket endpoint");
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return refuse(StatusCode::UPGRADE_REQUIRED, "websocket version 13 is needed");
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|key| is_key(key)) else {
        return refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing or wrong");
    };
    if !is_origin_allowed(headers, request.uri(), &hub.config.allowed_origins) {
        return refuse(StatusCode::FORBIDDEN, "this origin may not connect");
    }
    if hub.stop.is_cancelled() || hub.n_connections() >= hub.config.connections_max {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "no more connections here");
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept(key.as_bytes())) {
        answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if has_token(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return refuse(StatusCode::UPGRADE_REQUIRED, "this connection cannot be upgraded");
    };
    let hub_of_socket = Arc::clone(hub);
    hub.sockets.spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => serve(&hub_of_socket, upgraded),
            Err(error) => tracing::debug!(error = %error, "an upgrade did not come about"),
        }
    });
    response
}

/// Starts the connection's own task: the one that waited for the upgrade needs more memory than it.
fn serve<G: Gate, B: Broker>(hub: &Arc<Realtime<G, B>>, upgraded: Upgraded) {
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let stream = parts.io.into_inner();
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(error = %error, "small frames may be delayed");
            }
            hub.sockets.spawn(hub.serve_upgraded(stream, parts.read_buf));
        }
        Err(upgraded) => {
            hub.sockets.spawn(hub.serve_upgraded(TokioIo::new(upgraded), Bytes::new()));
        }
    }
}

fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize())
}

/// A key is 16 bytes in base64.
fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// A browser names the site a script came from. Without this check any site could act with the
/// visitor's address and, where they exist, cookies.
fn is_origin_allowed(headers: &HeaderMap, uri: &Uri, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if allowed.is_empty() {
        let host =
            headers.get(HOST).and_then(|host| host.to_str().ok()).or_else(|| uri.authority().map(|host| host.as_str()));
        let origin_host = origin.split_once("://").map(|(_, host)| host);
        return matches!((host, origin_host), (Some(host), Some(origin)) if host.eq_ignore_ascii_case(origin));
    }
    allowed.iter().any(|entry| entry == "*" || entry.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_key(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")));
        assert!(!is_key(&HeaderValue::from_static("c2hvcnQ=")));
    }

    #[test]
    fn origins() {
        let uri = Uri::from_static("/connection/websocket");
        let check = |origin: Option<&'static str>, allowed: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("todoke.example:8080"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            let allowed: Vec<String> = allowed.iter().map(|&entry| entry.to_owned()).collect();
            is_origin_allowed(&headers, &uri, &allowed)
        };
        assert!(check(None, &[]) && check(None, &["https://a.example"]));
        assert!(check(Some("https://Todoke.example:8080"), &[]));
        assert!(!check(Some("https://evil.example"), &[]) && !check(Some("null"), &[]));
        assert!(check(Some("https://a.example"), &["https://b.example", "https://a.example/"]));
        assert!(!check(Some("https://todoke.example:8080"), &["https://a.example"]));
        assert!(check(Some("https://evil.example"), &["*"]));
    }
}
