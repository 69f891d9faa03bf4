//! Made-up ways of the demo's messages to their people: the devices, and what became of each message on each
//! channel. Nothing of it is ever sent: the record gets it as settled, the lake as steps of the past.

use std::{collections::HashMap, ops::Range, time::Duration};

use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};
use todoke_domain::{
    Event, MunicipalityCode, Timestamp,
    delivery::{DeliveryState, DevicePermission, Provider},
    ids::{AccountId, DeviceId, EventId, MessageId},
};
use todoke_store::{
    Store, Wall, account::Account, delivery::Delivery, device::Device, made_up_past::PastPush, message::MessageStep,
};
use todoke_workflow::{messaging::letter_kind, secret};

use super::usage;

/// Letters are posted within this.
const POSTED_AFTER: Duration = Duration::from_secs(7 * 86_400);
const DAY_S: u64 = 86_400;

/// Registers the device that somebody takes push on, if they have one: of the kind that their made-up use of
/// the app comes from, with about two in three showing what is pushed.
pub(super) async fn register(store: &Store, account: &Account, at: Timestamp, rng: &mut StdRng) -> anyhow::Result<()> {
    let Some(device) = device(account, at, rng) else { return Ok(()) };
    let mut tx = store.begin_write(Wall::Around(account.municipality_code.clone())).await?;
    tx.put_device(&device).await?;
    tx.commit().await?;
    Ok(())
}

fn device(account: &Account, at: Timestamp, rng: &mut StdRng) -> Option<Device> {
    let (platform, os_version) = usage::platform_of(account.person_key?);
    // Percent of people whose device shows push, and of those whose device is known at all.
    let (kind, granted, known) = match platform {
        "ios" => (Provider::Apns, 72, 95),
        "android" => (Provider::Fcm, 84, 96),
        _ => (Provider::WebPush, 38, 60),
    };
    let percent = rng.random_range(0..100);
    if percent >= known {
        return None;
    }
    let is_browser = kind == Provider::WebPush;
    let key = || if is_browser { secret::token() } else { String::new() };
    Some(Device {
        device_id: DeviceId::new(at),
        municipality_code: account.municipality_code.clone(),
        account_id: account.account_id,
        kind,
        // A host that never exists (RFC 2606), and tokens that no provider gave.
        address: format!("{}{}", if is_browser { "https://push.invalid/" } else { "demo-" }, secret::token()),
        p256dh: key(),
        auth: key(),
        sandbox: false,
        permission: if percent < granted { DevicePermission::Granted } else { DevicePermission::Denied },
        language: String::new(),
        platform: platform.to_owned(),
        os_version: os_version.to_owned(),
        app_version: if is_browser { String::new() } else { "1.3.1".to_owned() },
        registered_at: at,
        seen_at: at,
        removed_at: None,
        removed_reason: None,
    })
}

/// What the log says of a message already.
#[derive(Debug, Default)]
struct Trace {
    n_events: u64,
    is_mailed: bool,
    has_arrived: bool,
    opened_at: Option<Timestamp>,
}

/// What became of the messages, beyond what the log says.
#[derive(Debug, Default)]
struct Past {
    steps: Vec<Event>,
    pushes: Vec<PastPush>,
    opened: Vec<(AccountId, MessageId, Timestamp)>,
}

/// Settles everything that was due before `now`, and gives the steps that the log lacks.
pub(super) async fn settle(
    store: &Store,
    log: &[Event],
    now: Timestamp,
    rng: &mut StdRng,
) -> anyhow::Result<Vec<Event>> {
    let mut traces = traces(log);
    let mut past = Past::default();
    let mut tx = store.begin_long(Wall::None).await?;
    for row in tx.handed_pushes().await? {
        push(&row, traces.entry(row.message_id.to_string()).or_default(), now, rng, &mut past);
    }
    for created in log.iter().filter(|event| event.event_type == "message.created") {
        let trace = traces.entry(created.subject_id.clone()).or_default();
        elsewhere(created, trace, now, rng, &mut past.steps);
    }
    tx.note_past_pushes(&past.pushes).await?;
    for (account, message, at) in past.opened {
        tx.note_step(account, message, MessageStep::Read, at).await?;
    }
    tx.post_made_up_letters(now.minus(POSTED_AFTER)).await?;
    tx.commit().await?;
    Ok(past.steps)
}

fn traces(log: &[Event]) -> HashMap<String, Trace> {
    let mut traces: HashMap<String, Trace> = HashMap::new();
    for event in log.iter().filter(|event| event.subject_kind == "message") {
        let trace = traces.entry(event.subject_id.clone()).or_default();
        trace.n_events += 1;
        let channel = event.payload.get("channel").and_then(Value::as_str);
        match (event.event_type.as_str(), channel) {
            ("message.queued", Some("email")) => trace.is_mailed = true,
            ("message.delivered", Some("live")) => trace.has_arrived = true,
            ("message.opened", _) => trace.opened_at = Some(event.occurred_at),
            _ => {}
        }
    }
    traces
}

/// One message, told on: its steps go into the lake.
struct Story<'a> {
    message_id: &'a str,
    code: &'a MunicipalityCode,
    trace: &'a mut Trace,
    steps: &'a mut Vec<Event>,
}

impl Story<'_> {
    /// A step with its channel; `more` are the other members of its payload.
    fn on(&mut self, channel: &str, event_type: &str, at: Timestamp, more: Value) {
        let mut payload = json!({ "message_id": self.message_id, "channel": channel });
        if let (Value::Object(all), Value::Object(more)) = (&mut payload, more) {
            all.extend(more);
        }
        self.step(event_type, at, payload);
    }

    fn step(&mut self, event_type: &str, at: Timestamp, payload: Value) {
        self.trace.n_events += 1;
        let Value::Object(payload) = payload else { return };
        self.steps.push(Event {
            event_id: EventId::new(at),
            event_type: event_type.to_owned(),
            schema_version: 1,
            occurred_at: at,
            recorded_at: at,
            municipality_code: self.code.clone(),
            actor_role: "system".to_owned(),
            actor_key: None,
            source_channel: "batch".to_owned(),
            subject_kind: "message".to_owned(),
            subject_id: self.message_id.to_owned(),
            subject_seq: self.trace.n_events,
            correlation_id: None,
            causation_id: None,
            recorded_offline: false,
            programme_code: None,
            facility_id: None,
            payload,
        });
    }
}

fn millis(rng: &mut StdRng, between: Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(between))
}

fn ms_between(earlier: Timestamp, later: Timestamp) -> i64 {
    i64::try_from(later.since(earlier).as_millis()).unwrap_or(i64::MAX)
}

/// A push: of a hundred two fail, six never arrive, the others do, most of them within seconds; about one in
/// three of those is opened, unless the message was opened elsewhere.
fn push(row: &Delivery, trace: &mut Trace, now: Timestamp, rng: &mut StdRng, past: &mut Past) {
    let message_id = row.message_id.to_string();
    let opened_elsewhere = trace.opened_at.is_some();
    let mut story = Story { message_id: &message_id, code: &row.municipality_code, trace, steps: &mut past.steps };
    let sent_at = row.due_at.plus(millis(rng, 40..900));
    let took = millis(rng, 30..450);
    let answered_at = sent_at.plus(took);
    let fate = rng.random_range(0..100);
    let way = if fate < 85 { millis(rng, 150..4_000) } else { millis(rng, 60_000..14_400_000) };
    let (delivered_at, until_opened) = (answered_at.plus(way), millis(rng, 20_000..28_800_000));
    let is_opened = rng.random_range(0..100) < 34 && !opened_elsewhere;
    let is_over = row.state == DeliveryState::Superseded;
    let until = row.ended_at.filter(|_| is_over).unwrap_or(now);
    if answered_at >= until {
        return;
    }
    let mut made = PastPush {
        delivery_id: row.delivery_id,
        message_id: row.message_id,
        state: row.state,
        error_code: row.error_code.clone(),
        sent_at,
        accepted_at: Some(answered_at),
        delivered_at: None,
        opened_at: None,
        ended_at: row.ended_at,
    };
    story.on("push", "message.sent", sent_at, json!({ "attempt": 1, "latency_ms": ms_between(row.cause_at, sent_at) }));
    if fate < 2 && !is_over {
        let why = json!({ "attempt": 1, "error_code": "unregistered", "permanent": true });
        story.on("push", "message.failed", answered_at, why);
        made.state = DeliveryState::Failed;
        made.error_code = Some("unregistered".to_owned());
        (made.accepted_at, made.ended_at) = (None, Some(answered_at));
        past.pushes.push(made);
        return;
    }
    let provider_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    story.on("push", "message.accepted", answered_at, json!({ "provider_ms": provider_ms }));
    if fate >= 8 && delivered_at < until {
        let latency = json!({ "latency_ms": ms_between(row.cause_at, delivered_at) });
        story.on("push", "message.delivered", delivered_at, latency);
        made.delivered_at = Some(delivered_at);
        let opened_at = delivered_at.plus(until_opened);
        if !is_over {
            made.state = DeliveryState::Delivered;
        }
        if !is_over && is_opened && opened_at < now {
            let latency = json!({ "open_latency_ms": ms_between(delivered_at, opened_at) });
            story.on("push", "message.opened", opened_at, latency);
            made.state = DeliveryState::Opened;
            made.opened_at = Some(opened_at);
            past.opened.push((row.account_id, row.message_id, opened_at));
        }
    } else if let Some(end) = row.expires_at.filter(|end| !is_over && *end < now) {
        story.on("push", "message.expired", end, json!({ "reason": "time_over" }));
        made.state = DeliveryState::Expired;
        made.error_code = Some("time_over".to_owned());
        made.ended_at = Some(end);
    }
    past.pushes.push(made);
}

/// The ways beside push: open screens, mail, and letters.
fn elsewhere(created: &Event, trace: &mut Trace, now: Timestamp, rng: &mut StdRng, steps: &mut Vec<Event>) {
    let at = created.occurred_at;
    let channels = created.payload.get("channels").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let meant_for = |channel: &str| channels.iter().any(|meant| meant == channel);
    let (is_mailed, has_arrived) = (trace.is_mailed, trace.has_arrived);
    let mut story = Story { message_id: &created.subject_id, code: &created.municipality_code, trace, steps };
    // About one in six has the screen open when it happens.
    let seen_at = at.plus(millis(rng, 60..900));
    if meant_for("live") && rng.random_range(0..6) == 0 && !has_arrived && seen_at < now {
        story.on("live", "message.delivered", seen_at, json!({ "latency_ms": ms_between(at, seen_at) }));
    }
    let sent_at = at.plus(millis(rng, 200..4_000));
    let took = millis(rng, 80..1_500);
    if is_mailed && sent_at.plus(took) < now {
        let latency = json!({ "attempt": 1, "latency_ms": ms_between(at, sent_at) });
        story.on("email", "message.sent", sent_at, latency);
        let provider_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        story.on("email", "message.accepted", sent_at.plus(took), json!({ "provider_ms": provider_ms }));
    }
    if meant_for("paper") && at < now.minus(POSTED_AFTER) {
        let message_type = created.payload.get("message_type").and_then(Value::as_str).unwrap_or_default();
        let letter = json!({ "message_id": created.subject_id, "letter_kind": letter_kind(message_type) });
        let printed_at = at.plus(Duration::from_secs(rng.random_range(DAY_S..2 * DAY_S)));
        story.step("message.paper_printed", printed_at, letter.clone());
        story.step("message.paper_posted", printed_at.plus(Duration::from_secs(5 * 3_600)), letter);
    }
}
