//! What the realtime hub needs from the rest of the server: who may come in, join what, and ask what.

use std::future::Future;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::broker::Durable;

use super::code::{Disconnect, ErrorReply};

/// The door. Every future must be cancel safe: it is dropped when the client goes away or when the
/// command takes longer than allowed.
pub trait Gate: Durable {
    /// What the door knows about an admitted client, given back with every later question.
    type Principal: Send + Sync + 'static;

    /// Now, unix seconds.
    fn now_unix_s(&self) -> i64;

    /// Checks the token of a connect or refresh command.
    fn admit(&self, token: &str) -> impl Future<Output = Result<Admission<Self::Principal>, Refusal>> + Send;

    /// May this client subscribe to the channel? Also asked when the subscription is renewed.
    fn subscribe(
        &self,
        who: &Caller<Self::Principal>,
        channel: &str,
        token: Option<&str>,
    ) -> impl Future<Output = Result<SubscribeGrant, Refusal>> + Send;

    /// Answers a call. `data` is JSON `null` if the client sent none.
    fn rpc(
        &self,
        who: &Caller<Self::Principal>,
        method: &str,
        data: &RawValue,
    ) -> impl Future<Output = Result<Box<RawValue>, RpcError>> + Send;

    /// Publishes for a client. Clients of Todoke act through HTTP, so nobody may unless overridden.
    fn publish(
        &self,
        _who: &Caller<Self::Principal>,
        _channel: &str,
        _data: &RawValue,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        std::future::ready(Err(Refusal::Denied))
    }
}

/// A client that was let in.
#[derive(Debug)]
pub struct Caller<P> {
    /// Account id.
    pub user: Arc<str>,
    /// Session the token was made from.
    pub session: Arc<str>,
    /// Id of this connection.
    pub client: Arc<str>,
    /// What the door knows.
    pub principal: P,
}

/// The answer to a good token.
#[derive(Debug)]
pub struct Admission<P> {
    /// Account id.
    pub user: String,
    /// Session the token was made from; see [`super::Realtime::disconnect_session`].
    pub session: String,
    /// Municipality among whose connections this one is counted.
    pub municipality: String,
    /// When the token must have been renewed. Unix seconds.
    pub expires_at: Option<i64>,
    /// Channels the client is subscribed to without asking.
    pub channels: Vec<ServerChannel>,
    /// JSON that other members of a channel with presence see.
    pub info: Option<Box<RawValue>>,
    /// JSON for the client itself, in the connect reply.
    pub data: Option<Box<RawValue>>,
    /// What the door knows.
    pub principal: P,
}

/// A server-side subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerChannel {
    /// Channel name.
    pub name: String,
    /// Publications have positions and are recovered after a reconnect.
    pub recoverable: bool,
    /// The client is seen in the channel's presence.
    pub presence: bool,
    /// The client's coming and going is told, and it is told of that of others.
    pub join_leave: bool,
}

impl ServerChannel {
    /// A channel with history.
    pub fn recoverable(name: impl Into<String>) -> Self {
        Self { name: name.into(), recoverable: true, presence: false, join_leave: false }
    }

    /// A channel of samples, without history.
    pub fn live(name: impl Into<String>) -> Self {
        Self { name: name.into(), recoverable: false, presence: false, join_leave: false }
    }
}

/// The right to a client-side subscription.
#[derive(Debug, Default)]
pub struct SubscribeGrant {
    /// Publications have positions and are recovered after a reconnect.
    pub recoverable: bool,
    /// The client is seen in the channel's presence, and may ask for it.
    pub presence: bool,
    /// The client's coming and going is told, and it is told of that of others.
    pub join_leave: bool,
    /// When the subscription must have been renewed. Unix seconds.
    pub expires_at: Option<i64>,
    /// JSON that other members see beside the connection's.
    pub info: Option<Box<RawValue>>,
    /// JSON for the client itself, in the subscribe reply.
    pub data: Option<Box<RawValue>>,
}

/// Why the door stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such token, or its account or session ended. The client gives up.
    InvalidToken,
    /// It was good once. The client fetches a new one.
    TokenExpired,
    /// Not for this client.
    Denied,
    /// There is no such channel.
    UnknownChannel,
    /// The record cannot be asked now. The client tries again.
    Unavailable,
}

/// What a refused client gets: an error to its command, or the end of the connection.
#[derive(Clone, Debug)]
pub(super) enum Rejection {
    Error(ErrorReply),
    Disconnect(Disconnect),
}

impl Refusal {
    /// The answer to a connect or refresh command.
    pub(super) fn at_connect(self) -> Rejection {
        match self {
            Self::InvalidToken => Rejection::Disconnect(Disconnect::INVALID_TOKEN),
            Self::TokenExpired => Rejection::Error(ErrorReply::TOKEN_EXPIRED),
            Self::Denied | Self::UnknownChannel => Rejection::Disconnect(Disconnect::PERMISSION_DENIED),
            Self::Unavailable => Rejection::Error(ErrorReply::INTERNAL),
        }
    }

    /// The answer to a command about a channel.
    pub(super) fn at_channel(self) -> ErrorReply {
        match self {
            Self::InvalidToken | Self::Denied => ErrorReply::PERMISSION_DENIED,
            Self::TokenExpired => ErrorReply::TOKEN_EXPIRED,
            Self::UnknownChannel => ErrorReply::UNKNOWN_CHANNEL,
            Self::Unavailable => ErrorReply::INTERNAL,
        }
    }
}

/// The error of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    code: u32,
    message: String,
    temporary: bool,
}

impl RpcError {
    /// There is no such method.
    pub fn method_not_found() -> Self {
        ErrorReply::METHOD_NOT_FOUND.into()
    }

    /// The data does not fit the method.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..ErrorReply::BAD_REQUEST.into() }
    }

    /// Not for this client.
    pub fn denied() -> Self {
        ErrorReply::PERMISSION_DENIED.into()
    }

    /// A fault on our side; the client may try again.
    pub fn internal() -> Self {
        ErrorReply::INTERNAL.into()
    }

    /// One of the application's own. `code` belongs into 400 to 1999; others become 400.
    pub fn app(code: u32, message: impl Into<String>) -> Self {
        let code = if (400..=1_999).contains(&code) { code } else { 400 };
        Self { code, message: message.into(), temporary: false }
    }
}

impl From<ErrorReply> for RpcError {
    fn from(error: ErrorReply) -> Self {
        Self { code: error.code, message: error.message.into_owned(), temporary: error.temporary }
    }
}

impl From<RpcError> for ErrorReply {
    fn from(error: RpcError) -> Self {
        Self { code: error.code, message: error.message.into(), temporary: error.temporary }
    }
}
