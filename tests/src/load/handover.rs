//! From a coupon use to its push at the provider: how long the hand-over takes.
//!
//! Each household has an Android phone, an iPhone and a browser. The stand-ins of their providers run in this process,
//! so that all instants are of one clock. The commit lies between the time a use was due and its answer.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::time::timeout;

use super::{
    Record, Stage,
    figures::{Latencies, head, line},
    pay::{Load, Outcome, refused, send},
    people::{Household, households, places},
};
use crate::standin::{Provider, Providers};

/// How long pushes may still come after the last answer.
const TAIL: Duration = Duration::from_secs(10);

/// Runs the load over a record and prints the figures.
pub async fn run(record: Record, load: Load, n_households: usize) -> Result<()> {
    let providers = Providers::start().await;
    let stage = Stage::start_with(record, providers.settings()).await?;
    let payers = households(&stage.todoke, n_households).await;
    let places = places(&payers[0]).await;
    for (n, payer) in payers.iter().enumerate() {
        providers.equip(&payer.client, n).await;
    }
    // Two seconds at a fifth of the rate: connections are open and tokens made before anything counts.
    send(Load { per_second: load.per_second.div_ceil(5), seconds: 2 }, &payers, &places, "warm").await;
    head(&format!("Use → push at its provider, {} uses/s for {} s, {}", load.per_second, load.seconds, record.name()));
    let begun = Instant::now();
    let outcomes = send(load, &payers, &places, "load").await;
    let took = begun.elapsed();
    let messages = messages(&payers).await;
    let told: Vec<(&Outcome, &String)> =
        outcomes.iter().filter_map(|outcome| Some((outcome, messages.get(outcome.use_id.as_ref().ok()?)?))).collect();
    let all_here = async {
        let mut poll = tokio::time::interval(Duration::from_millis(100));
        while !all_at(&providers, &told) {
            poll.tick().await;
        }
    };
    // What has not come by then is counted as missing below.
    let _ = timeout(TAIL, all_here).await;
    let n_settled = outcomes.iter().filter(|outcome| outcome.use_id.is_ok()).count();
    line("households with three devices each, facilities", format!("{}, {}", payers.len(), places.len()));
    line(
        "uses sent, settled",
        format!("{}, {n_settled} ({:.0}/s)", outcomes.len(), n_settled as f64 / took.as_secs_f64()),
    );
    line("refused or failed", refused(&outcomes));
    line("uses without a message", n_settled - told.len());
    let tags = tags(&providers);
    for provider in providers.all() {
        show(&provider, &told, &tags);
    }
    stage.stop().await;
    Ok(())
}

/// The households' messages about uses, by use.
async fn messages(payers: &[Household]) -> HashMap<String, String> {
    let mut messages = HashMap::new();
    for payer in payers {
        let mut cursor = String::new();
        loop {
            let page = payer.client.get(&format!("/v1/inbox{cursor}")).await.expect(200);
            for message in page["items"].as_array().into_iter().flatten().filter(|item| item["type"] == "coupon.used") {
                if let (Some(of), Some(id)) = (message["subject"]["id"].as_str(), message["message_id"].as_str()) {
                    messages.insert(of.to_owned(), id.to_owned());
                }
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("?cursor={next}"),
                None => break,
            }
        }
    }
    messages
}

/// Tags by message: Firebase is told both, the others only the tag.
fn tags(providers: &Providers) -> HashMap<String, String> {
    let mut tags = HashMap::new();
    for seen in providers.google.messages.taken() {
        let push = seen.json();
        let data = &push["message"]["data"];
        if let (Some(id), Some(tag)) = (data["message_id"].as_str(), data["tag"].as_str()) {
            tags.insert(id.to_owned(), tag.to_owned());
        }
    }
    tags
}

/// When the first push under each tag was there, and how many came under a tag that had one already.
fn first_pushes(provider: &Provider<'_>) -> (HashMap<String, Instant>, usize) {
    let (mut first, mut repeated) = (HashMap::new(), 0);
    for seen in provider.standin.taken() {
        let Some(tag) = (provider.tag_of)(&seen) else { continue };
        match first.entry(tag) {
            Entry::Occupied(_) => repeated += 1,
            Entry::Vacant(place) => {
                place.insert(seen.at);
            }
        }
    }
    (first, repeated)
}

fn all_at(providers: &Providers, told: &[(&Outcome, &String)]) -> bool {
    let tags = tags(providers);
    providers.all().iter().all(|provider| {
        let (first, _) = first_pushes(provider);
        told.iter().all(|(_, message)| tags.get(*message).is_some_and(|tag| first.contains_key(tag)))
    })
}

fn show(provider: &Provider<'_>, told: &[(&Outcome, &String)], tags: &HashMap<String, String>) {
    let (first, repeated) = first_pushes(provider);
    let here: Vec<(&Outcome, Instant)> =
        told.iter().filter_map(|(outcome, message)| Some((*outcome, *first.get(tags.get(*message)?)?))).collect();
    let since_due = here.iter().map(|(outcome, at)| at.duration_since(outcome.due)).collect();
    // A push that was there before the answer took no time from it.
    let since_answer = here.iter().map(|(outcome, at)| at.saturating_duration_since(outcome.answered)).collect();
    let name = provider.name;
    line(&format!("{name}: pushes missing, repeated"), format!("{}, {repeated}", told.len() - here.len()));
    line(&format!("{name}: due → push at the provider"), Latencies::of(since_due).text());
    line(&format!("{name}: answer → push at the provider"), Latencies::of(since_answer).text());
}
