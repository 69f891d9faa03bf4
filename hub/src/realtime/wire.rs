//! Replies and pushes of the Centrifuge client protocol v2, as JSON.
//!
//! Replies may be joined by line breaks into one frame, so no JSON written here contains a raw one.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::broker::{ClientInfo, PresenceStats, Publication, StreamPosition};

use super::code::ErrorReply;
use super::frame::text_frame;

/// Until when something is good.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ttl(pub(super) Option<u32>);

/// The state of a fresh subscription.
#[derive(Debug, Default)]
pub(super) struct SubscribeResult {
    /// `None`: a channel without positions.
    pub(super) position: Option<StreamPosition>,
    pub(super) was_recovering: bool,
    pub(super) is_recovered: bool,
    pub(super) publications: Vec<Publication>,
    pub(super) ttl: Ttl,
    pub(super) data: Option<Box<RawValue>>,
}

/// The reply to a connect command.
#[derive(Debug)]
pub(super) struct ConnectResult<'a> {
    pub(super) client: &'a str,
    pub(super) ttl: Ttl,
    pub(super) data: Option<&'a RawValue>,
    pub(super) ping_s: u64,
    pub(super) subs: &'a [(std::sync::Arc<str>, SubscribeResult)],
}

/// Version of the server, as told to clients.
const VERSION: &str = concat!("todoke ", env!("CARGO_PKG_VERSION"));

/// A reply under construction: `{"id":1,"kind":{…}}`.
pub(super) struct ReplyJson {
    out: String,
    is_first: bool,
}

impl ReplyJson {
    fn new(id: u32, kind: &str) -> Self {
        Self { out: format!("{{\"id\":{id},\"{kind}\":{{"), is_first: true }
    }

    fn key(&mut self, key: &str) {
        if !self.is_first {
            self.out.push(',');
        }
        self.is_first = false;
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.out.push_str(json);
    }

    fn value(&mut self, key: &str, value: &impl Serialize) {
        self.key(key);
        push_json(&mut self.out, value);
    }

    /// Protocol fields are left out while they have their default value.
    fn flag(&mut self, key: &str, is_set: bool) {
        if is_set {
            self.raw(key, "true");
        }
    }

    fn ttl(&mut self, ttl: Ttl) {
        if let Ttl(Some(seconds)) = ttl {
            self.flag("expires", true);
            self.value("ttl", &seconds);
        }
    }

    fn position(&mut self, offset: u64, epoch: &str) {
        self.value("offset", &offset);
        self.value("epoch", &epoch);
    }

    fn end(mut self) -> String {
        self.out.push_str("}}");
        on_one_line(self.out)
    }
}

pub(super) fn error_reply(id: u32, error: &ErrorReply) -> String {
    let mut reply = ReplyJson::new(id, "error");
    reply.value("code", &error.code);
    reply.value("message", &error.message);
    reply.flag("temporary", error.temporary);
    reply.end()
}

/// A reply without content.
pub(super) fn empty_reply(id: u32, kind: &str) -> String {
    ReplyJson::new(id, kind).end()
}

pub(super) fn connect_reply(id: u32, result: &ConnectResult<'_>) -> String {
    let mut reply = ReplyJson::new(id, "connect");
    reply.value("client", &result.client);
    reply.value("version", &VERSION);
    reply.ttl(result.ttl);
    if let Some(data) = result.data {
        reply.raw("data", data.get());
    }
    if !result.subs.is_empty() {
        reply.key("subs");
        for (index, (channel, sub)) in result.subs.iter().enumerate() {
            reply.out.push(if index == 0 { '{' } else { ',' });
            push_json(&mut reply.out, channel);
            reply.out.push_str(":{");
            reply.is_first = true;
            write_subscription(&mut reply, sub);
            reply.out.push('}');
        }
        reply.out.push('}');
        reply.is_first = false;
    }
    reply.value("ping", &result.ping_s);
    reply.flag("pong", true);
    reply.end()
}

pub(super) fn subscribe_reply(id: u32, result: &SubscribeResult) -> String {
    let mut reply = ReplyJson::new(id, "subscribe");
    write_subscription(&mut reply, result);
    reply.end()
}

fn write_subscription(reply: &mut ReplyJson, result: &SubscribeResult) {
    reply.ttl(result.ttl);
    if let Some(position) = &result.position {
        reply.flag("recoverable", true);
        reply.flag("positioned", true);
        reply.position(position.offset, &position.epoch);
    }
    reply.flag("was_recovering", result.was_recovering);
    reply.flag("recovered", result.is_recovered);
    if !result.publications.is_empty() {
        write_publications(reply, &result.publications);
    }
    if let Some(data) = &result.data {
        reply.raw("data", data.get());
    }
}

fn write_publications(reply: &mut ReplyJson, publications: &[Publication]) {
    reply.key("publications");
    reply.out.push('[');
    for (index, publication) in publications.iter().enumerate() {
        if index > 0 {
            reply.out.push(',');
        }
        reply.out.push_str("{\"data\":");
        reply.out.push_str(&String::from_utf8_lossy(&publication.data));
        reply.out.push_str(",\"offset\":");
        reply.out.push_str(&publication.position.to_string());
        reply.out.push('}');
    }
    reply.out.push(']');
}

/// The reply to refresh and sub_refresh commands.
pub(super) fn refresh_reply(id: u32, kind: &str, client: Option<&str>, ttl: Ttl) -> String {
    let mut reply = ReplyJson::new(id, kind);
    if let Some(client) = client {
        reply.value("client", &client);
        reply.value("version", &VERSION);
    }
    reply.ttl(ttl);
    reply.end()
}

pub(super) fn history_reply(id: u32, publications: &[Publication], top: &StreamPosition) -> String {
    let mut reply = ReplyJson::new(id, "history");
    write_publications(&mut reply, publications);
    reply.position(top.offset, &top.epoch);
    reply.end()
}

pub(super) fn presence_reply(id: u32, clients: &[ClientInfo]) -> String {
    let mut reply = ReplyJson::new(id, "presence");
    reply.key("presence");
    for (index, info) in clients.iter().enumerate() {
        reply.out.push(if index == 0 { '{' } else { ',' });
        push_json(&mut reply.out, &info.client);
        reply.out.push(':');
        push_json(&mut reply.out, &InfoJson::from(info));
    }
    reply.out.push_str(if clients.is_empty() { "{}" } else { "}" });
    reply.end()
}

pub(super) fn presence_stats_reply(id: u32, stats: PresenceStats) -> String {
    let mut reply = ReplyJson::new(id, "presence_stats");
    reply.value("num_clients", &stats.n_clients);
    reply.value("num_users", &stats.n_users);
    reply.end()
}

pub(super) fn rpc_reply(id: u32, data: &RawValue) -> String {
    let mut reply = ReplyJson::new(id, "rpc");
    reply.raw("data", data.get());
    reply.end()
}

/// The same frame for every subscriber of the channel.
pub(super) fn publication_frame(channel: &str, data: &Bytes, position: Option<u64>) -> Bytes {
    let name = json(&channel);
    let offset = position.map(|position| format!(",\"offset\":{position}")).unwrap_or_default();
    let one_line;
    let data: &[u8] = if data.iter().any(|byte| is_line_break(*byte)) {
        one_line = data.iter().map(|byte| if is_line_break(*byte) { b' ' } else { *byte }).collect::<Vec<u8>>();
        &one_line
    } else {
        data
    };
    let parts = [b"{\"push\":{\"channel\":", name.as_bytes(), b",\"pub\":{\"data\":", data, offset.as_bytes(), b"}}}"];
    text_frame(&parts)
}

/// `kind` is `join` or `leave`.
pub(super) fn presence_frame(channel: &str, kind: &str, info: &ClientInfo) -> Bytes {
    let (name, info) = (json(&channel), json(&InfoJson::from(info)));
    let text = format!("{{\"push\":{{\"channel\":{name},\"{kind}\":{{\"info\":{info}}}}}}}");
    text_frame(&[on_one_line(text).as_bytes()])
}

pub(super) fn unsubscribe_frame(channel: &str, code: u32, reason: &str) -> Bytes {
    let (name, reason) = (json(&channel), json(&reason));
    let text = format!("{{\"push\":{{\"channel\":{name},\"unsubscribe\":{{\"code\":{code},\"reason\":{reason}}}}}}}");
    text_frame(&[text.as_bytes()])
}

pub(super) fn ping_frame() -> Bytes {
    // A whole text frame with `{}`.
    Bytes::from_static(&[0x81, 2, b'{', b'}'])
}

#[derive(Serialize)]
struct InfoJson<'a> {
    user: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<&'a RawValue>,
}

impl<'a> From<&'a ClientInfo> for InfoJson<'a> {
    fn from(info: &'a ClientInfo) -> Self {
        Self {
            user: &info.user,
            client: &info.client,
            conn_info: info.conn_info.as_deref(),
            chan_info: info.chan_info.as_deref(),
        }
    }
}

fn push_json(out: &mut String, value: &impl Serialize) {
    // Strings, numbers and maps of them cannot fail to be written.
    out.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()));
}

fn json(value: &impl Serialize) -> String {
    let mut out = String::new();
    push_json(&mut out, value);
    out
}

/// Inside of a JSON string a line break is always escaped, so a raw one is only white space.
fn on_one_line(text: String) -> String {
    if text.bytes().any(is_line_break) { text.replace(['\n', '\r'], " ") } else { text }
}

fn is_line_break(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn parse(text: &str) -> Value {
        assert!(!text.contains('\n'));
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn replies_have_the_shape_of_the_protocol() {
        let position = |offset| StreamPosition { offset, epoch: Arc::from("e\"1") };
        let publications = vec![
            Publication { position: 4, data: "{\n\"a\":1}".into() },
            Publication { position: 5, data: "2".into() },
        ];
        let result = SubscribeResult {
            position: Some(position(3)),
            was_recovering: true,
            is_recovered: true,
            publications: publications.clone(),
            ttl: Ttl(Some(60)),
            data: None,
        };
        let sub = json!({
            "expires": true, "ttl": 60, "recoverable": true, "positioned": true, "offset": 3, "epoch": "e\"1",
            "was_recovering": true, "recovered": true,
            "publications": [{"data": {"a": 1}, "offset": 4}, {"data": 2, "offset": 5}],
        });
        assert_eq!(parse(&subscribe_reply(7, &result)), json!({"id": 7, "subscribe": sub}));
        let subs = [("x".into(), result), ("y".into(), SubscribeResult::default())];
        let data = serde_json::value::to_raw_value(&1).unwrap();
        let connect = ConnectResult { client: "c", ttl: Ttl(None), data: Some(&data), ping_s: 25, subs: &subs };
        assert_eq!(
            parse(&connect_reply(1, &connect)),
            json!({"id": 1, "connect": {"client": "c", "version": VERSION, "data": 1, "subs": {"x": sub, "y": {}}, "ping": 25, "pong": true}})
        );
        assert_eq!(parse(&empty_reply(2, "unsubscribe")), json!({"id": 2, "unsubscribe": {}}));
        assert_eq!(
            parse(&error_reply(2, &ErrorReply::INTERNAL)),
            json!({"id": 2, "error": {"code": 100, "message": "internal server error", "temporary": true}})
        );
        assert_eq!(
            parse(&history_reply(2, &publications, &position(9)))["history"],
            json!({"publications": [{"data": {"a": 1}, "offset": 4}, {"data": 2, "offset": 5}], "offset": 9, "epoch": "e\"1"})
        );
        let info = ClientInfo { user: "u".into(), client: "c".into(), conn_info: Some(data.into()), chan_info: None };
        assert_eq!(
            parse(&presence_reply(2, std::slice::from_ref(&info))),
            json!({"id": 2, "presence": {"presence": {"c": {"user": "u", "client": "c", "conn_info": 1}}}})
        );
        assert_eq!(parse(&presence_reply(2, &[])), json!({"id": 2, "presence": {"presence": {}}}));
        let push = presence_frame("a", "join", &info);
        assert_eq!(
            parse(std::str::from_utf8(&push[2..]).unwrap()),
            json!({"push": {"channel": "a", "join": {"info": {"user": "u", "client": "c", "conn_info": 1}}}})
        );
    }

    #[test]
    fn a_publication_is_one_line_and_carries_its_channel() {
        let frame = publication_frame("a\"b", &"{\"x\":\r\n\"届\"}".into(), Some(9));
        assert_eq!(
            parse(std::str::from_utf8(&frame[2..]).unwrap()),
            json!({"push": {"channel": "a\"b", "pub": {"data": {"x": "届"}, "offset": 9}}})
        );
        let frame = publication_frame("a", &"1".into(), None);
        assert_eq!(
            parse(std::str::from_utf8(&frame[2..]).unwrap()),
            json!({"push": {"channel": "a", "pub": {"data": 1}}})
        );
    }
}
