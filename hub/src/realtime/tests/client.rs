//! A bare client: sends what it is told, even if it is wrong.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::frame::tests::masked;
use super::DEADLINE;
use super::stub::Rig;

pub(super) const TEXT: u8 = 0x81;

/// One frame of the server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    /// Its replies and pushes.
    Text(Vec<Value>),
    Pong(Vec<u8>),
    /// Code and reason.
    Close(Option<(u16, String)>),
    End,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
    /// Of the frame read last.
    waiting: Vec<Value>,
    pub(super) next_id: u32,
}

/// A token of the stub, with recoverable channels.
pub(super) fn token(user: &str, channels: &[&str]) -> String {
    let channels: Vec<Value> = channels.iter().map(|name| json!({"name": name})).collect();
    json!({"user": user, "session": format!("session of {user}"), "channels": channels}).to_string()
}

impl Client {
    /// A websocket without a connect command.
    pub(super) async fn open(rig: &Rig) -> Self {
        Self::open_with(rig, &[]).await
    }

    /// `early` is sent together with the upgrade request.
    pub(super) async fn open_with(rig: &Rig, early: &[u8]) -> Self {
        let (mut client, status) = Self::request(rig, "", early).await;
        assert!(status.starts_with("HTTP/1.1 101 "), "{status}");
        client.next_id = 1;
        client
    }

    /// Any upgrade request, and the head of its answer.
    pub(super) async fn request(rig: &Rig, headers: &str, early: &[u8]) -> (Self, String) {
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let mut client = Self { stream, buffer: Vec::new(), waiting: Vec::new(), next_id: 1 };
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: {}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
            rig.address
        );
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(early);
        client.write(&bytes).await;
        let end = loop {
            if let Some(end) = client.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(client.fill().await > 0, "closed during the handshake");
        };
        let head = String::from_utf8(client.buffer.drain(..end).collect()).unwrap();
        (client, head)
    }

    /// Connected, with the connect result.
    pub(super) async fn connect(rig: &Rig, token: &str) -> (Self, Value) {
        Self::connect_with(rig, json!({"token": token})).await
    }

    pub(super) async fn connect_with(rig: &Rig, request: Value) -> (Self, Value) {
        let mut client = Self::open(rig).await;
        let mut reply = client.call("connect", request).await;
        assert!(reply.get("error").is_none(), "{reply}");
        let result = reply["connect"].take();
        (client, result)
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        timeout(DEADLINE, self.stream.write_all(bytes)).await.expect("a server that reads").unwrap();
    }

    pub(super) async fn send(&mut self, first: u8, payload: &[u8]) {
        self.write(&masked(first, payload, [9, 8, 7, 6])).await;
    }

    pub(super) async fn send_text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes()).await;
    }

    /// Sends a command and returns its id.
    pub(super) async fn command(&mut self, kind: &str, body: Value) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_text(&json!({"id": id, kind: body}).to_string()).await;
        id
    }

    /// The reply to a command; whatever comes before it must be a ping.
    pub(super) async fn call(&mut self, kind: &str, body: Value) -> Value {
        let id = self.command(kind, body).await;
        let reply = self.next().await;
        assert_eq!(reply["id"], id, "{reply}");
        reply
    }

    /// The error code of a command.
    pub(super) async fn error(&mut self, kind: &str, body: Value) -> u64 {
        let reply = self.call(kind, body).await;
        reply["error"]["code"].as_u64().unwrap_or_else(|| panic!("no error: {reply}"))
    }

    /// The next reply or push; pings are answered on the way.
    pub(super) async fn next(&mut self) -> Value {
        loop {
            if !self.waiting.is_empty() {
                let value = self.waiting.remove(0);
                if value == json!({}) {
                    self.send_text("{}").await;
                    continue;
                }
                return value;
            }
            match self.frame().await {
                Frame::Text(values) => self.waiting = values,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next publication: channel, offset, data.
    pub(super) async fn publication(&mut self) -> (String, u64, Value) {
        let push = self.next().await;
        let publication = &push["push"]["pub"];
        assert!(publication.is_object(), "{push}");
        let channel = push["push"]["channel"].as_str().unwrap().to_owned();
        (channel, publication["offset"].as_u64().unwrap_or(0), publication["data"].clone())
    }

    /// The code the server closes with; text before it is skipped.
    pub(super) async fn close_code(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Frame::Close(Some((code, _))) => return code,
                Frame::Text(_) => {}
                other => panic!("{other:?} instead of a close frame"),
            }
        }
    }

    pub(super) async fn frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.parse() {
                return frame;
            }
            if self.fill().await == 0 {
                return Frame::End;
            }
        }
    }

    /// The position of a result of subscribe or of a server-side subscription.
    pub(super) fn position(sub: &Value) -> (u64, &str) {
        (sub["offset"].as_u64().unwrap(), sub["epoch"].as_str().unwrap())
    }

    pub(super) fn offsets(sub: &Value) -> Vec<u64> {
        let publications = sub["publications"].as_array().map(Vec::as_slice).unwrap_or_default();
        publications.iter().map(|publication| publication["offset"].as_u64().unwrap()).collect()
    }

    async fn fill(&mut self) -> usize {
        let mut chunk = [0; 65_536];
        let n = timeout(DEADLINE, self.stream.read(&mut chunk)).await.expect("a server that answers").unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..n]);
        n
    }

    fn parse(&mut self) -> Option<Frame> {
        let (first, second) = (*self.buffer.first()?, *self.buffer.get(1)?);
        assert_eq!(second & 0x80, 0, "server frames are not masked");
        let (header, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().unwrap()))),
            127 => (10, u64::from_be_bytes(self.buffer.get(2..10)?.try_into().unwrap()) as usize),
            short => (2, usize::from(short)),
        };
        if self.buffer.len() < header + length {
            return None;
        }
        let payload: Vec<u8> = self.buffer.drain(..header + length).skip(header).collect();
        Some(match first {
            0x81 => {
                let text = String::from_utf8(payload).unwrap();
                Frame::Text(text.split('\n').map(|line| serde_json::from_str(line).unwrap()).collect())
            }
            0x8A => Frame::Pong(payload),
            0x88 if payload.is_empty() => Frame::Close(None),
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Frame::Close(Some((code, String::from_utf8(payload[2..].to_vec()).unwrap())))
            }
            other => panic!("opcode {other:#x}"),
        })
    }
}
