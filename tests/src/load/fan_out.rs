//! One use, a thousand screens: sockets of a facility's staff while guardians pay there.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{task::JoinSet, time::timeout};

use super::{
    Record, Stage,
    bare::{self, Shape},
    figures::{Latencies, Usage, head, line},
    pay::{Load, refused, send},
    people::{households, staffed},
    socket::{Socket, token},
};

const N_PAYERS: usize = 4;
/// Length of an id as text.
const ID_BYTES: usize = 36;
/// How long frames may still come after the last answer.
const TAIL: Duration = Duration::from_secs(10);

/// What one socket got: per delivery the use and when it came.
type Deliveries = Vec<(Instant, String)>;

#[derive(Debug, Default)]
struct Counts {
    deliveries: AtomicU64,
    other: AtomicU64,
    bytes: AtomicU64,
}

/// The use a line tells the facility of.
fn use_id(text: &str) -> Option<String> {
    if !text.contains(":today\"") {
        return None;
    }
    let (_, rest) = text.split_once("\"use_id\":\"")?;
    rest.get(..ID_BYTES).map(str::to_owned)
}

async fn listen(mut socket: Socket, counts: Arc<Counts>, stop: Arc<tokio::sync::Notify>) -> Deliveries {
    let mut deliveries = Deliveries::new();
    let stopped = stop.notified();
    tokio::pin!(stopped);
    loop {
        let (at, frame) = tokio::select! {
            () = &mut stopped => return deliveries,
            frame = socket.next() => match frame {
                Ok(frame) => frame,
                Err(_) => return deliveries,
            },
        };
        for text in frame.lines() {
            if let Some(use_id) = use_id(text) {
                deliveries.push((at, use_id));
                counts.deliveries.fetch_add(1, Ordering::Relaxed);
                // The header of a frame of this size is four bytes.
                counts.bytes.fetch_add(text.len() as u64 + 4, Ordering::Relaxed);
            } else {
                counts.other.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Runs the fan-out and, in the same run, the bare server; prints the figures.
pub async fn run(load: Load, n_sockets: usize) -> Result<()> {
    let stage = Stage::start(Record::Sqlite).await?;
    let (pid, base_url) = (stage.todoke.pid(), stage.todoke.base_url().to_owned());
    let payers = households(&stage.todoke, N_PAYERS).await;
    let (staff, place) = staffed(&stage.todoke).await;
    let places = [place];
    send(Load { per_second: 20, seconds: 2 }, &payers, &places, "warm").await;
    // The same uses with nobody listening: what they cost is not the cost of telling.
    let unheard = Usage::of(pid);
    send(load, &payers, &places, "unheard").await;
    let before_sockets = Usage::of(pid);
    let (counts, stop) = (Arc::new(Counts::default()), Arc::new(tokio::sync::Notify::new()));
    let token = token(&staff).await;
    let mut listeners = JoinSet::new();
    for _ in 0..n_sockets {
        let socket = Socket::connect(&base_url, &token).await?;
        listeners.spawn(listen(socket, counts.clone(), stop.clone()));
    }
    quiet(&counts).await;
    let idle = Usage::of(pid);
    counts.other.store(0, Ordering::Relaxed);
    head(&format!("Fan-out to {n_sockets} sockets, {} uses/s for {} s, SQLite", load.per_second, load.seconds));
    let outcomes = send(load, &payers, &places, "heard").await;
    let settled = outcomes.iter().filter(|outcome| outcome.use_id.is_ok()).count();
    let expected = (settled * n_sockets) as u64;
    let all_here = async {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        while counts.deliveries.load(Ordering::Relaxed) < expected {
            poll.tick().await;
        }
    };
    // What has not come by then shows in the count.
    let _ = timeout(TAIL, all_here).await;
    let after = Usage::of(pid);
    stop.notify_waiters();
    let deliveries: Deliveries = listeners.join_all().await.into_iter().flatten().collect();
    let due: HashMap<&str, Instant> =
        outcomes.iter().filter_map(|o| Some((o.use_id.as_deref().ok()?, o.due))).collect();
    let latencies = deliveries.iter().filter_map(|(at, id)| Some(at.duration_since(*due.get(id.as_str())?))).collect();
    let frame_bytes = counts.bytes.load(Ordering::Relaxed) / (deliveries.len() as u64).max(1);
    line("refused or failed", refused(&outcomes));
    line(
        "delivered",
        format!("{} of {expected}; {} other pushes", deliveries.len(), counts.other.load(Ordering::Relaxed)),
    );
    line("frame", format!("{frame_bytes} bytes"));
    line("due → frame on each socket", Latencies::of(latencies).text());
    line(
        "memory per idle connection",
        format!("{} bytes", idle.resident_bytes.saturating_sub(before_sockets.resident_bytes) / n_sockets as u64),
    );
    let (gross, uses) = (after.cpu - idle.cpu, before_sockets.cpu - unheard.cpu);
    let shape = Shape {
        connections: n_sockets,
        per_second: load.per_second,
        seconds: load.seconds,
        frame_bytes: usize::try_from(frame_bytes)?,
    };
    stage.stop().await;
    compare(shape, gross, uses, deliveries.len()).await
}

/// Waits until a second has passed without a push: joins of a thousand sockets are told to each of them.
async fn quiet(counts: &Counts) {
    let mut poll = tokio::time::interval(Duration::from_secs(1));
    poll.tick().await;
    let mut last = u64::MAX;
    while last != counts.other.load(Ordering::Relaxed) {
        last = counts.other.load(Ordering::Relaxed);
        poll.tick().await;
    }
}

async fn compare(shape: Shape, gross: Duration, uses: Duration, n: usize) -> Result<()> {
    let (bare, bytes) = bare::measure(shape).await?;
    let per_million = |cpu: Duration, n: f64| cpu.as_secs_f64() * 1e6 / n.max(1.0);
    let n_bare = bytes as f64 / shape.frame_bytes.max(1) as f64;
    let (net, bare) = (per_million(gross.saturating_sub(uses), n as f64), per_million(bare, n_bare));
    line("server CPU per million deliveries, uses included", format!("{:.1} s", per_million(gross, n as f64)));
    line("the same less the uses themselves", format!("{net:.1} s"));
    line("bare server, one write per delivery", format!("{bare:.1} s ({n_bare:.0} deliveries)"));
    line("ratio", format!("{:.2}", net / bare));
    Ok(())
}
