//! Commands of the Centrifuge client protocol v2, as JSON.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::broker::StreamPosition;

/// One command. At most one of the optional fields is set; if a client sets more, the first one counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Command {
    pub(super) id: u32,
    connect: Option<ConnectRequest>,
    subscribe: Option<SubscribeRequest>,
    unsubscribe: Option<ChannelRequest>,
    publish: Option<PublishRequest>,
    presence: Option<ChannelRequest>,
    presence_stats: Option<ChannelRequest>,
    history: Option<HistoryRequest>,
    ping: Option<serde::de::IgnoredAny>,
    send: Option<serde::de::IgnoredAny>,
    rpc: Option<RpcRequest>,
    refresh: Option<RefreshRequest>,
    sub_refresh: Option<SubRefreshRequest>,
}

/// What a command asks for.
#[derive(Debug)]
pub(super) enum Request {
    Connect(ConnectRequest),
    Subscribe(SubscribeRequest),
    Unsubscribe(ChannelRequest),
    Publish(PublishRequest),
    Presence(ChannelRequest),
    PresenceStats(ChannelRequest),
    History(HistoryRequest),
    Ping,
    Send,
    Rpc(RpcRequest),
    Refresh(RefreshRequest),
    SubRefresh(SubRefreshRequest),
    /// Nothing is asked: the answer to a ping of the server.
    Pong,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConnectRequest {
    pub(super) token: String,
    pub(super) subs: HashMap<String, RecoverRequest>,
}

/// Positions above this do not exist; the record counts in signed numbers.
const OFFSET_MAX: u64 = i64::MAX as u64;

fn position(offset: u64, epoch: &str) -> StreamPosition {
    StreamPosition { offset: offset.min(OFFSET_MAX), epoch: epoch.into() }
}

/// Where a returning client stopped.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecoverRequest {
    recover: bool,
    epoch: String,
    offset: u64,
}

impl RecoverRequest {
    pub(super) fn since(&self) -> Option<StreamPosition> {
        self.recover.then(|| position(self.offset, &self.epoch))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SubscribeRequest {
    pub(super) channel: String,
    pub(super) token: Option<String>,
    recover: bool,
    epoch: String,
    offset: u64,
    flag: i64,
    /// 0: a stream, the only kind there is here.
    #[serde(rename = "type")]
    pub(super) kind: i32,
}

impl SubscribeRequest {
    /// The client wants an error rather than a subscription with a hole.
    const REJECT_UNRECOVERED: i64 = 2;

    pub(super) fn since(&self) -> Option<StreamPosition> {
        self.recover.then(|| position(self.offset, &self.epoch))
    }

    pub(super) fn rejects_unrecovered(&self) -> bool {
        self.flag & Self::REJECT_UNRECOVERED != 0
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChannelRequest {
    pub(super) channel: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PublishRequest {
    pub(super) channel: String,
    pub(super) data: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HistoryRequest {
    pub(super) channel: String,
    /// 0: only the position. Below 0: as many as there are.
    pub(super) limit: i32,
    pub(super) since: Option<SinceRequest>,
    pub(super) reverse: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SinceRequest {
    offset: u64,
    epoch: String,
}

impl SinceRequest {
    pub(super) fn position(&self) -> StreamPosition {
        position(self.offset, &self.epoch)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RpcRequest {
    pub(super) method: String,
    pub(super) data: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RefreshRequest {
    pub(super) token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SubRefreshRequest {
    pub(super) channel: String,
    pub(super) token: String,
}

impl Command {
    pub(super) fn into_request(self) -> Request {
        let Self {
            id: _,
            connect,
            subscribe,
            unsubscribe,
            publish,
            presence,
            presence_stats,
            history,
            ping,
            send,
            rpc,
            refresh,
            sub_refresh,
        } = self;
        connect
            .map(Request::Connect)
            .or(subscribe.map(Request::Subscribe))
            .or(unsubscribe.map(Request::Unsubscribe))
            .or(publish.map(Request::Publish))
            .or(presence.map(Request::Presence))
            .or(presence_stats.map(Request::PresenceStats))
            .or(history.map(Request::History))
            .or(ping.map(|_| Request::Ping))
            .or(send.map(|_| Request::Send))
            .or(rpc.map(Request::Rpc))
            .or(refresh.map(Request::Refresh))
            .or(sub_refresh.map(Request::SubRefresh))
            .unwrap_or(Request::Pong)
    }
}

impl Request {
    /// Label of the metric.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Publish(_) => "publish",
            Self::Presence(_) => "presence",
            Self::PresenceStats(_) => "presence_stats",
            Self::History(_) => "history",
            Self::Ping => "ping",
            Self::Send => "send",
            Self::Rpc(_) => "rpc",
            Self::Refresh(_) => "refresh",
            Self::SubRefresh(_) => "sub_refresh",
            Self::Pong => "pong",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_counts_and_an_empty_command_is_a_pong() {
        let command: Command =
            serde_json::from_str(r#"{"id":3,"rpc":{},"subscribe":{"channel":"a","new":1}}"#).unwrap();
        assert!(
            matches!(command.into_request(), Request::Subscribe(SubscribeRequest { channel, .. }) if channel == "a")
        );
        let command: Command = serde_json::from_str("{}").unwrap();
        assert!(matches!(command.into_request(), Request::Pong));
        let command: Command = serde_json::from_str(r#"{"id":1,"ping":{}}"#).unwrap();
        assert!(matches!(command.into_request(), Request::Ping));
    }
}
