//! A broadcast to many: until all have it in their inbox, and until a sample of open sockets has its frame.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use todoke_domain::{MunicipalityCode, Timestamp, ids::AccountId};
use todoke_store::Store;
use tokio::{task::JoinSet, time::timeout};

use super::{
    Record, Stage,
    figures::{Latencies, Usage, head, line},
    socket::{Socket, token},
};
use crate::{
    crowd::{crowd, session},
    http::Client,
    wait::eventually,
};

/// Of nobody else in the demo.
const WARD: &str = "99999";
const LIMIT: Duration = Duration::from_secs(600);

/// The server's own time: rows made here must look as if it had made them.
async fn server_time(client: &Client) -> Timestamp {
    let answer = client.get("/healthz").await;
    let date = jiff::fmt::rfc2822::parse(answer.header("date")).expect("every answer has its date");
    Timestamp::from_micros(date.timestamp().as_microsecond())
}

/// Runs it over a record and prints the figures.
pub async fn run(record: Record, n_people: usize, n_sockets: usize) -> Result<()> {
    let stage = Stage::start(record).await?;
    let store = stage.record().await?;
    let town: MunicipalityCode = stage.todoke.municipality().parse().map_err(anyhow::Error::new)?;
    let now = server_time(&stage.todoke.client()).await;
    let people = crowd(&store, &town, WARD, n_people, now).await;
    let mut listeners = listen(&stage, &store, &people, n_sockets).await?;
    head(&format!("Broadcast to {n_people} people, {n_sockets} of them with a socket, {}", record.name()));
    let operator = stage.todoke.sign_in("operator").await;
    let (before, begun) = (Usage::of(stage.todoke.pid()), Instant::now());
    let id = send(&operator).await;
    let round = eventually("all have it in their inbox", LIMIT, async || {
        let list = operator.get("/v1/broadcasts").await.expect(200);
        let own = list["items"].as_array()?.iter().find(|one| one["broadcast_id"] == id.as_str())?.clone();
        let round = own["rounds"].as_array()?.first()?.clone();
        (round["state"] != "creating").then_some(round)
    })
    .await;
    let in_inbox = begun.elapsed();
    let created = Usage::of(stage.todoke.pid());
    let mut live = Vec::with_capacity(n_sockets);
    while let Ok(Some(arrived)) = timeout(LIMIT, listeners.join_next()).await {
        live.extend(arrived?.map(|at| at.duration_since(begun)));
    }
    let sent = eventually("all are handed over", LIMIT, async || {
        let sent = operator.get(&format!("/v1/broadcasts/{id}")).await.expect(200);
        (sent["state"] == "sent").then_some(sent)
    })
    .await;
    line("created", format!("{} of {n_people}", sent["counters"]["created"]));
    line(
        "released → all in the inbox",
        format!("{:.1} s, {:.0} people/s", in_inbox.as_secs_f64(), n_people as f64 / in_inbox.as_secs_f64()),
    );
    line("frames on the sample's sockets", format!("{} of {n_sockets}", live.len()));
    line("released → frame", Latencies::of(live).text());
    line("released → mails queued", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    line(
        "server CPU per 1,000 people, until all in the inbox",
        format!("{:.1} ms", (created.cpu - before.cpu).as_secs_f64() * 1e6 / n_people as f64),
    );
    line("first and last batch", format!("{} – {}", round["first_sent_at"], round["last_sent_at"]));
    store.close().await;
    stage.stop().await;
    Ok(())
}

async fn send(operator: &Client) -> String {
    let draft = json!({
        "kind": "emergency", "title": "避難のお知らせ", "body": "川の水位が上がっています。安全な場所へ避難してください。",
        "segment": { "people": "households", "when": { "kind": "ward", "codes": [WARD] } },
    });
    let made = operator.post("/v1/broadcasts", &draft).await.expect(201);
    let id = made["broadcast_id"].as_str().expect("an id").to_owned();
    operator.post(&format!("/v1/broadcasts/{id}/submit"), &json!({})).await.expect(200);
    id
}

/// Sockets of people spread over the whole audience; each gives the time of the broadcast's frame.
async fn listen(stage: &Stage, store: &Store, people: &[AccountId], n: usize) -> Result<JoinSet<Option<Instant>>> {
    let mut listeners = JoinSet::new();
    let now = server_time(&stage.todoke.client()).await;
    for account in people.iter().step_by((people.len() / n.max(1)).max(1)).take(n) {
        let client = stage.todoke.client().with_bearer(&session(store, *account, now).await);
        let mut socket = Socket::connect(stage.todoke.base_url(), &token(&client).await).await?;
        listeners.spawn(async move {
            loop {
                let (at, text) = socket.next().await.ok()?;
                if text.contains("broadcast.emergency") {
                    return Some(at);
                }
            }
        });
    }
    Ok(listeners)
}
