//! Pushes: what one costs the sender's processor, beside the clients that others use.
//!
//! The stand-ins run here; every client is a process of its own, sends the same messages to the same stand-in, and
//! reports the processor time it used from its first push to its last answer. Connections, tokens and compiled code
//! are warm by then: a tenth of the pushes go ahead unmeasured.

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_domain::{Timestamp, ids::MessageId};
use todoke_notifier::{
    Address, Channel, Kind, Outcome, Outgoing, Speed,
    apns::{Apns, ApnsSettings},
    fcm::{Fcm, FcmSettings},
    web_push::{VapidKeys, WebPush, WebPushSettings},
};
use tokio::process::Command;
use uuid::Uuid;

use super::figures::{Usage, head, line};
use crate::{
    push_peer,
    standin::{APPLE_KEY_ID, APPLE_TEAM_ID, APPLE_TOPIC, Apple, Google, RsaKey, Speaks, Subscriber},
};

/// 2026-11-21T06:00:00Z.
const NOW: Timestamp = Timestamp::from_micros(1_795_240_800_000_000);

/// What a client used.
#[derive(Debug, Deserialize, Serialize)]
struct Cost {
    pushes: u32,
    cpu_us: u64,
    wall_us: u64,
}

impl Cost {
    fn per_push_us(&self) -> f64 {
        self.cpu_us as f64 / f64::from(self.pushes)
    }

    fn per_second(&self) -> f64 {
        f64::from(self.pushes) / (self.wall_us as f64 / 1e6)
    }
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Pushes of ours on each channel.
    pub ours: u32,
    /// Pushes of each peer.
    pub peers: u32,
    /// Pushes under way at a time.
    pub at_once: u32,
}

/// Measures all channels and prints the figures.
pub async fn run(amount: Amount) -> Result<()> {
    head("push: processor time per push, sending to stand-ins over HTTP/2 and TLS on loopback");
    let google = Google::start(RsaKey::generate().await, 3_600, false).await;
    let fcm = json!({
        "url": google.messages.url(), "token_url": format!("{}/token", google.tokens.url()),
        "account": google.account_json(), "roots": format!("{}\n{}", google.messages.roots_pem(), google.tokens.roots_pem()),
    });
    compare("fcm", "firebase-admin", fcm, amount).await?;
    let apple = Apple::start(false).await;
    let apns = json!({
        "url": apple.production.url(), "port": apple.production.port(), "roots": apple.production.roots_pem(),
        "key": apple.key_pem, "key_id": APPLE_KEY_ID, "team_id": APPLE_TEAM_ID, "topic": APPLE_TOPIC,
    });
    compare("apns", "@parse/node-apn", apns, amount).await?;
    let (service, subscriber) = (Subscriber::service(Speaks::Both, false).await, Subscriber::new().await);
    let keys = VapidKeys::generate()?;
    let web_push = json!({
        "url": service.url(), "roots": service.roots_pem(), "p256dh": subscriber.p256dh, "auth": subscriber.auth,
        "public_key": keys.public_key, "private_key": keys.private_key,
    });
    compare("web_push", "web-push", web_push, amount).await
}

async fn compare(channel: &str, peer: &str, mut settings: Value, amount: Amount) -> Result<()> {
    settings["at_once"] = amount.at_once.into();
    settings["pushes"] = amount.ours.into();
    let mut ours = Command::new(std::env::current_exe()?);
    ours.arg("push-client");
    let ours = client(ours, channel, &settings).await?;
    settings["pushes"] = amount.peers.into();
    let theirs = client(push_peer::script("bench.mjs"), channel, &settings).await?;
    for (name, cost) in [("todoke", &ours), (peer, &theirs)] {
        let text = format!("{:.1} µs of processor per push, {:.0} pushes/s", cost.per_push_us(), cost.per_second());
        line(&format!("{channel}: {name}"), text);
    }
    line(&format!("{channel}: ratio"), format!("{:.3}", ours.per_push_us() / theirs.per_push_us()));
    Ok(())
}

async fn client(mut command: Command, channel: &str, settings: &Value) -> Result<Cost> {
    command.arg(channel).env("TODOKE_PUSH_CLIENT", settings.to_string());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("a client of {channel} failed");
    }
    serde_json::from_slice(&output.stdout).context("a client reports its cost")
}

/// Our side of the measurement: sends and prints the cost. For `todoke-load push-client`.
pub async fn be_client(channel: &str) -> Result<()> {
    let settings: Value = serde_json::from_str(&std::env::var("TODOKE_PUSH_CLIENT")?)?;
    let text = |name: &str| settings[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| settings[name].as_u64().and_then(|n| u32::try_from(n).ok()).context("a number");
    let (channel, address): (Arc<dyn Channel>, Address) = match channel {
        "fcm" => {
            let settings = FcmSettings {
                service_account_json: text("account"),
                base_url: text("url"),
                token_url: text("token_url"),
                extra_roots_pem: text("roots"),
                ..FcmSettings::default()
            };
            (Arc::new(Fcm::new(&settings)?), Address::Fcm { token: "d".repeat(163) })
        }
        "apns" => {
            let settings = ApnsSettings {
                key_pem: text("key"),
                key_id: text("key_id"),
                team_id: text("team_id"),
                topic: text("topic"),
                base_url: text("url"),
                extra_roots_pem: text("roots"),
                ..ApnsSettings::default()
            };
            (Arc::new(Apns::new(&settings)?), Address::Apns { token: "a1".repeat(32), sandbox: false })
        }
        "web_push" => {
            let settings = WebPushSettings {
                public_key: text("public_key"),
                private_key: text("private_key"),
                subject: "mailto:desk@todoke.example.jp".to_owned(),
                extra_roots_pem: text("roots"),
                allow_private_addresses: true,
                ..WebPushSettings::default()
            };
            let endpoint = format!("{}/push/subscription-1", text("url"));
            let address = Address::WebPush { endpoint, p256dh: text("p256dh"), auth: text("auth") };
            (Arc::new(WebPush::new(&settings)?), address)
        }
        other => bail!("no channel {other}"),
    };
    let (pushes, at_once) = (number("pushes")?, number("at_once")?);
    send_all(&channel, &address, pushes.div_ceil(10), at_once).await?;
    let (cpu, started) = (Usage::of(std::process::id()).cpu, Instant::now());
    send_all(&channel, &address, pushes, at_once).await?;
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let cost =
        Cost { pushes, cpu_us: micros(Usage::of(std::process::id()).cpu - cpu), wall_us: micros(started.elapsed()) };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

async fn send_all(channel: &Arc<dyn Channel>, address: &Address, pushes: u32, at_once: u32) -> Result<()> {
    let mut flying = FuturesUnordered::new();
    for number in 0..pushes {
        let (channel, outgoing) = (Arc::clone(channel), message(address.clone(), number));
        flying.push(async move { channel.send(&outgoing, NOW).await }.boxed());
        if flying.len() >= at_once as usize {
            let Some(sent) = flying.next().await else { break };
            accepted(&sent)?;
        }
    }
    while let Some(sent) = flying.next().await {
        accepted(&sent)?;
    }
    Ok(())
}

fn accepted(outcome: &Outcome) -> Result<()> {
    if !matches!(outcome, Outcome::Accepted { .. }) {
        bail!("a push was not accepted: {outcome:?}");
    }
    Ok(())
}

fn message(address: Address, number: u32) -> Outgoing {
    Outgoing {
        message_id: MessageId::from(Uuid::from_u128(number.into())),
        address,
        kind: Kind::Notification,
        speed: Speed::Now,
        title: "予約が確定しました".to_owned(),
        body: "ひまわり保育園 2026年12月1日（火） 10:00〜12:30の予約が確定しました。".to_owned(),
        link: "https://todoke.example.jp/reservations/1".to_owned(),
        collapse_key: Some(format!("reservation:{number}")),
        label: "reservation.confirmed".to_owned(),
        expires_at: Some(NOW.plus(Duration::from_secs(3_600))),
        badge: Some(3),
        unsubscribe: None,
        receipt: Some("receipt-token".to_owned()),
        from: None,
    }
}
