//! From a coupon use to the frame on the guardian's socket.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use super::{
    Record, Stage,
    figures::{Latencies, Usage, head, line},
    people::{Household, Place, households, places},
    socket::{Socket, token},
};

/// Requests under way at most; those that wait for one of these places count their waiting.
const AT_ONCE_MAX: usize = 400;
/// How long frames may still come after the last answer.
const TAIL: Duration = Duration::from_secs(10);

/// An open load of coupon uses.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Uses per second.
    pub per_second: u32,
    /// Length, seconds.
    pub seconds: u32,
}

impl Load {
    /// Uses in all.
    pub fn n(&self) -> usize {
        (self.per_second * self.seconds) as usize
    }

    fn due(&self, n: usize) -> Duration {
        Duration::from_secs_f64(n as f64 / f64::from(self.per_second))
    }
}

/// What became of one use.
#[derive(Debug)]
pub struct Outcome {
    /// When it should have been sent.
    pub due: Instant,
    /// When it was answered.
    pub answered: Instant,
    /// The use, or why there is none.
    pub use_id: Result<String, String>,
}

/// Sends each use when it is due, whatever became of those before; households and places in turn.
pub async fn send(load: Load, payers: &[Household], places: &[Place], run: &str) -> Vec<Outcome> {
    let permits = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let mut under_way = JoinSet::new();
    let start = Instant::now() + Duration::from_millis(200);
    for n in 0..load.n() {
        let due = start + load.due(n);
        sleep_until(due.into()).await;
        let (payer, place) = (payers[n % payers.len()].clone(), places[n % places.len()].clone());
        let (permits, key) = (permits.clone(), format!("{run}-{n}"));
        under_way.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let answer = payer.pay(&place, &key).await;
            let answered = Instant::now();
            let use_id = match answer {
                Ok(answer) if answer.status == 201 => {
                    Ok(answer.json()["use_id"].as_str().unwrap_or_default().to_owned())
                }
                Ok(answer) => {
                    Err(answer.json()["reason_code"].as_str().map_or_else(|| answer.status.to_string(), str::to_owned))
                }
                Err(broken) => Err(format!("no answer: {}", broken.0)),
            };
            Outcome { due, answered, use_id }
        });
    }
    under_way.join_all().await
}

/// Counts of what was refused or failed, by reason; `none` when there is nothing.
pub fn refused(outcomes: &[Outcome]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in outcomes.iter().filter_map(|outcome| outcome.use_id.as_ref().err()) {
        *counts.entry(reason).or_default() += 1;
    }
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(reason, n)| format!("{n} × {reason}")).collect::<Vec<_>>().join(", ")
}

type Arrivals = Arc<Mutex<Vec<(Instant, String)>>>;

/// Opens a socket per household and keeps what arrives, unread: reading it would cost the server its cores.
async fn listen(base_url: &str, payers: &[Household]) -> Result<(JoinSet<()>, Arrivals)> {
    let arrivals = Arrivals::default();
    let mut listeners = JoinSet::new();
    for payer in payers {
        let mut socket = Socket::connect(base_url, &token(&payer.client).await).await?;
        let arrivals = arrivals.clone();
        listeners.spawn(async move {
            while let Ok(frame) = socket.next().await {
                arrivals.lock().unwrap().push(frame);
            }
        });
    }
    Ok((listeners, arrivals))
}

/// When the first frame of each use arrived, and how many frames came for uses that had one already.
fn first_frames(arrivals: &[(Instant, String)]) -> (HashMap<String, Instant>, usize) {
    let (mut first, mut repeated) = (HashMap::new(), 0);
    for (at, frame) in arrivals {
        for text in frame.lines() {
            let push: Value = serde_json::from_str(text).unwrap_or_default();
            let data = &push["push"]["pub"]["data"];
            let (true, Some(use_id)) = (data["type"] == "coupon.used", data["subject"]["id"].as_str()) else {
                continue;
            };
            if first.insert(use_id.to_owned(), *at).is_some() {
                repeated += 1;
            }
        }
    }
    (first, repeated)
}

/// Runs the load over a record and prints the figures.
pub async fn run(record: Record, load: Load, n_households: usize) -> Result<()> {
    let stage = Stage::start(record).await?;
    let payers = households(&stage.todoke, n_households).await;
    let places = places(&payers[0]).await;
    let (mut listeners, arrivals) = listen(stage.todoke.base_url(), &payers).await?;
    // Two seconds at a fifth of the rate: connections are open and statements prepared before anything counts.
    send(Load { per_second: load.per_second.div_ceil(5), seconds: 2 }, &payers, &places, "warm").await;
    head(&format!("Use → frame, {} uses/s for {} s, {}", load.per_second, load.seconds, record.name()));
    let (before, begun) = (Usage::of(stage.todoke.pid()), Instant::now());
    let outcomes = send(load, &payers, &places, "load").await;
    let took = begun.elapsed();
    let after = Usage::of(stage.todoke.pid());
    let settled: Vec<&str> = outcomes.iter().filter_map(|outcome| outcome.use_id.as_deref().ok()).collect();
    let all_here = async {
        let mut poll = tokio::time::interval(Duration::from_millis(100));
        while first_frames(&arrivals.lock().unwrap()).0.len() < settled.len() {
            poll.tick().await;
        }
    };
    // What has not come by then is counted as missing below.
    let _ = timeout(TAIL, all_here).await;
    listeners.shutdown().await;
    let (first, repeated) = first_frames(&arrivals.lock().unwrap());
    let of_settled = outcomes.iter().filter_map(|outcome| Some((outcome, outcome.use_id.as_ref().ok()?)));
    let frame: Vec<Duration> =
        of_settled.clone().filter_map(|(outcome, id)| Some(first.get(id)?.duration_since(outcome.due))).collect();
    let answer: Vec<Duration> = of_settled.map(|(outcome, _)| outcome.answered - outcome.due).collect();
    line("households, facilities", format!("{}, {}", payers.len(), places.len()));
    line(
        "uses sent, settled",
        format!("{}, {} ({:.0}/s)", outcomes.len(), settled.len(), settled.len() as f64 / took.as_secs_f64()),
    );
    line("refused or failed", refused(&outcomes));
    line("frames missing, repeated", format!("{}, {repeated}", settled.len() - frame.len()));
    line("due → frame on the socket", Latencies::of(frame).text());
    line("due → answer", Latencies::of(answer).text());
    line(
        "server CPU per use",
        format!("{:.2} ms", (after.cpu - before.cpu).as_secs_f64() * 1e3 / settled.len().max(1) as f64),
    );
    stage.stop().await;
    Ok(())
}
