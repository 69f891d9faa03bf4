//! A websocket that costs little: one task, one buffer, and the time a frame arrived.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::http::Client;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const MASK: [u8; 4] = [0x3a, 0x5c, 0x91, 0xe7];

/// A connection of the Centrifuge protocol, in JSON.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    arrived: Instant,
}

/// A token for the account a client is signed in with; good for any number of sockets for five minutes.
pub async fn token(who: &Client) -> String {
    let made = who.post("/v1/realtime/token", &json!({})).await.expect(200);
    made["token"].as_str().expect("a token").to_owned()
}

impl Socket {
    /// Connects and waits until the server has accepted the token and subscribed its channels.
    pub async fn connect(base_url: &str, token: &str) -> Result<Self> {
        let authority = base_url.trim_start_matches("http://");
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, buffer: Vec::new(), arrived: Instant::now() };
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bG9hZCBsb2FkIGxvYWQhIQ==\r\n\r\n"
        );
        socket.stream.write_all(request.as_bytes()).await?;
        let end = loop {
            if let Some(at) = socket.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            socket.fill().await?;
        };
        let head = String::from_utf8_lossy(&socket.buffer[..end]).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101"), "no upgrade: {head}");
        socket.buffer.drain(..end);
        socket.send(&json!({"id": 1, "connect": {"token": token}}).to_string()).await?;
        let (_, reply) = socket.next().await?;
        let first: Value = serde_json::from_str(reply.lines().next().unwrap_or_default())?;
        ensure!(first["connect"].is_object(), "not connected: {reply}");
        Ok(socket)
    }

    /// The next replies and pushes, one a line, with the time they came. Pings are answered on the way.
    ///
    /// Errors: the server closed the connection. Not cancel safe while a ping is being answered.
    pub async fn next(&mut self) -> Result<(Instant, String)> {
        loop {
            let Some((first, payload)) = self.frame() else {
                self.fill().await?;
                continue;
            };
            match first {
                TEXT if payload == b"{}" => self.send("{}").await?,
                TEXT => return Ok((self.arrived, String::from_utf8(payload)?)),
                CLOSE => bail!("closed: {}", String::from_utf8_lossy(payload.get(2..).unwrap_or_default())),
                _ => {}
            }
        }
    }

    async fn send(&mut self, text: &str) -> Result<()> {
        let mut frame = vec![TEXT];
        match u16::try_from(text.len()).context("a short command")? {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short)?),
            long => {
                frame.push(0x80 | 126);
                frame.extend(long.to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Ok(self.stream.write_all(&frame).await?)
    }

    async fn fill(&mut self) -> Result<()> {
        let n = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(n > 0, "the server went away");
        self.arrived = Instant::now();
        Ok(())
    }

    /// A whole frame of the buffer: its first byte and its payload.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, second) = (*self.buffer.first()?, *self.buffer.get(1)?);
        let (header, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(self.buffer.get(2..10)?.try_into().ok()?)).ok()?),
            short => (2, usize::from(short)),
        };
        if self.buffer.len() < header + length {
            return None;
        }
        let payload = self.buffer.drain(..header + length).skip(header).collect();
        Some((first, payload))
    }
}
