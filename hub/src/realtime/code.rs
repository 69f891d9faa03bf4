//! Codes a client sees. Numbers and texts are those of the Centrifuge protocol; the SDKs act on them.

use std::fmt;

/// Why a connection ends. 3000–3499: the client comes back by itself. 3500–3999: it does not.
/// Below 3000: plain websocket codes, the client comes back, except for 1009.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Disconnect {
    code: u16,
    reason: &'static str,
}

impl fmt::Debug for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reason)
    }
}

impl Disconnect {
    /// The peer closed, or the network did; nothing is sent.
    pub const CLOSED: Self = Self::new(3000, "connection closed");
    /// This node stops.
    pub const SHUTDOWN: Self = Self::new(3001, "shutdown");
    /// A fault on our side.
    pub const SERVER_ERROR: Self = Self::new(3004, "internal server error");
    /// The token ran out and was not renewed.
    pub const EXPIRED: Self = Self::new(3005, "connection expired");
    /// The client does not read as fast as it is sent to.
    pub const SLOW: Self = Self::new(3008, "slow");
    /// Publications of a server-side subscription are gone; the client must start over.
    pub const INSUFFICIENT_STATE: Self = Self::new(3010, "insufficient state");
    /// Rights changed: the client comes back and gets the new ones.
    pub const FORCE_RECONNECT: Self = Self::new(3011, "force reconnect");
    /// No answer to a ping: a half-open connection.
    pub const NO_PONG: Self = Self::new(3012, "no pong");
    /// The token is not valid, or its account or session ended.
    pub const INVALID_TOKEN: Self = Self::new(3500, "invalid token");
    /// The client breaks the protocol.
    pub const BAD_REQUEST: Self = Self::new(3501, "bad request");
    /// No connect command in time.
    pub const STALE: Self = Self::new(3502, "stale");
    /// Cut by an administrator.
    pub const FORCE_NO_RECONNECT: Self = Self::new(3503, "force disconnect");
    /// Too many connections of one account.
    pub const CONNECTION_LIMIT: Self = Self::new(3504, "connection limit");
    /// More server-side subscriptions than a connection may have.
    pub const CHANNEL_LIMIT: Self = Self::new(3505, "channel limit");
    /// A binary message on a JSON connection.
    pub const INAPPROPRIATE_PROTOCOL: Self = Self::new(3506, "inappropriate protocol");
    /// This account may not use realtime.
    pub const PERMISSION_DENIED: Self = Self::new(3507, "permission denied");
    /// A `send` command, which this server has no use for.
    pub const NOT_AVAILABLE: Self = Self::new(3508, "not available");
    /// A violation of RFC 6455.
    pub const WS_PROTOCOL: Self = Self::new(1002, "protocol error");
    /// Text that is not UTF-8.
    pub const WS_NOT_UTF8: Self = Self::new(1007, "invalid utf-8");
    /// A message above the limit.
    pub const WS_TOO_BIG: Self = Self::new(1009, "message too big");

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// The code of the close frame.
    pub fn code(self) -> u16 {
        self.code
    }

    /// The reason in the close frame.
    pub fn reason(self) -> &'static str {
        self.reason
    }
}

/// The error of one command; the connection goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ErrorReply {
    pub(super) code: u32,
    pub(super) message: std::borrow::Cow<'static, str>,
    /// The client may try again by itself.
    pub(super) temporary: bool,
}

impl ErrorReply {
    pub(super) const INTERNAL: Self = Self::temporary(100, "internal server error");
    pub(super) const UNKNOWN_CHANNEL: Self = Self::new(102, "unknown channel");
    pub(super) const PERMISSION_DENIED: Self = Self::new(103, "permission denied");
    pub(super) const METHOD_NOT_FOUND: Self = Self::new(104, "method not found");
    pub(super) const ALREADY_SUBSCRIBED: Self = Self::new(105, "already subscribed");
    pub(super) const LIMIT_EXCEEDED: Self = Self::new(106, "limit exceeded");
    pub(super) const BAD_REQUEST: Self = Self::new(107, "bad request");
    pub(super) const NOT_AVAILABLE: Self = Self::new(108, "not available");
    pub(super) const TOKEN_EXPIRED: Self = Self::new(109, "token expired");
    pub(super) const EXPIRED: Self = Self::new(110, "expired");
    pub(super) const UNRECOVERABLE_POSITION: Self = Self::new(112, "unrecoverable position");

    const fn new(code: u32, message: &'static str) -> Self {
        Self { code, message: std::borrow::Cow::Borrowed(message), temporary: false }
    }

    const fn temporary(code: u32, message: &'static str) -> Self {
        Self { code, message: std::borrow::Cow::Borrowed(message), temporary: true }
    }
}

/// Why the server ended one subscription. From 2500 on the client subscribes again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsubscribe {
    pub(super) code: u32,
    pub(super) reason: &'static str,
}

impl Unsubscribe {
    /// The right to it ended.
    pub(super) const SERVER: Self = Self { code: 2000, reason: "server unsubscribe" };
    /// Publications are gone.
    pub(super) const INSUFFICIENT_STATE: Self = Self { code: 2500, reason: "insufficient state" };
    /// The subscription's time ran out.
    pub(super) const EXPIRED: Self = Self { code: 2501, reason: "subscription expired" };
}
