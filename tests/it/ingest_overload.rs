//! More usage than the server takes: it says so before its memory is at risk, and what it took is there once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_tests::{
    http::{Answer, Client},
    todoke::{DemoOptions, Todoke, cli_over},
    wait::eventually,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::ingest::{agreed, gzip, lines, send, view};

const NDJSON: &str = "application/x-ndjson";
const PATIENCE: Duration = Duration::from_secs(60);
const BATCH: u32 = 50;
/// Senders that come at once.
const SENDERS: u32 = 12;
/// The least that can be set: beside `LARGE` of the longest bodies nothing can be decompressed, which takes 16 MiB.
const BODIES_MIB: u32 = 31;
const LARGE: u32 = 3;
const LONGEST: usize = 8 << 20;

fn batch(n: u32) -> Vec<u8> {
    gzip(&lines((n * BATCH..(n + 1) * BATCH).map(view)))
}

/// A batch as long as a body may be.
fn large(n: u32) -> Vec<u8> {
    let mut body = lines((n * BATCH..(n + 1) * BATCH).map(view));
    body.resize(LONGEST, b' ');
    body
}

/// Requests with the longest bodies, from batch 0 on, that together leave no room for a compressed one.
async fn begin_large(who: &Client) -> Vec<HalfSent> {
    join_all((0..LARGE).map(|n| async move { HalfSent::begin(who, None, &large(n)).await })).await
}

async fn send_batch(who: &Client, n: u32) -> Answer {
    send(who, "/v1/usage", NDJSON, Some("gzip"), batch(n)).await
}

/// A request whose body is on its way: the head and half of it are sent.
struct HalfSent {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl HalfSent {
    async fn begin(who: &Client, coding: Option<&str>, body: &[u8]) -> Self {
        let base_url = who.base_url();
        let address = base_url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/usage HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: {NDJSON}\r\n\
             content-encoding: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            who.bearer().unwrap(),
            coding.unwrap_or("identity"),
            body.len(),
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let (sent, rest) = body.split_at(body.len() / 2);
        stream.write_all(sent).await.unwrap();
        Self { stream, rest: rest.to_vec() }
    }

    /// Sends the rest, and is told that all of it is new.
    async fn is_taken(mut self) {
        self.stream.write_all(&self.rest).await.unwrap();
        let answer = self.answer().await;
        assert!(answer.starts_with("HTTP/1.1 202 ") && answer.contains(&format!("\"accepted\":{BATCH}")), "{answer}");
    }

    /// The answer as it came, without the rest.
    async fn answer(mut self) -> String {
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[track_caller]
fn is_told_to_come_again(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["type"], "/problems/busy", "{}", answer.text());
    assert_eq!(answer.header("retry-after"), "1");
}

/// Rows and different ids of the test's events in the lake of a stopped server.
async fn in_lake(todoke: Todoke) -> (u64, u64) {
    let (data, town) = (todoke.data_dir().to_path_buf(), todoke.municipality());
    todoke.stop().await;
    let query = "SELECT COUNT(*), COUNT(DISTINCT event_id) FROM events_app WHERE session_id = 'ways-in'";
    let asked = ["sql", query, "--municipality", &town, "--format", "json"];
    let answer: Value = serde_json::from_str(&cli_over(&data, &asked).await.success()).unwrap();
    (answer["rows"][0][0].as_u64().unwrap(), answer["rows"][0][1].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_beyond_the_memory_for_them_are_told_to_come_again_and_what_was_taken_is_there_once() {
    let settings = [("TODOKE_INGEST__BODIES_MIB_MAX", BODIES_MIB.to_string())];
    let dir = TempDir::new().unwrap();
    let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let guardian = agreed(&todoke).await;
    let under_way = begin_large(&guardian).await;
    eventually("the bodies under way have their memory", PATIENCE, async || {
        (send_batch(&guardian, LARGE).await.status == 503).then_some(())
    })
    .await;
    let first = LARGE + 1;
    is_told_to_come_again(&send_batch(&guardian, first).await);
    // What needs little is taken beside them, and what needs nothing is answered.
    let small = send(&guardian, "/v1/usage", NDJSON, None, lines([view((first + 1) * BATCH)])).await.expect(202);
    assert_eq!(small["accepted"], 1, "{small}");
    guardian.get("/v1/session").await.expect(200);
    for half_sent in under_way {
        half_sent.is_taken().await;
    }

    // The one that was refused left nothing behind, and many at once all come through in the end.
    let sent = join_all((first..first + SENDERS).map(|n| {
        let guardian = guardian.clone();
        async move {
            eventually("a batch is taken", PATIENCE, async || {
                let answer = send_batch(&guardian, n).await;
                if answer.status == 202 {
                    return Some(answer.json());
                }
                is_told_to_come_again(&answer);
                None
            })
            .await
        }
    }));
    for (n, receipt) in (first..).zip(sent.await) {
        let known = u32::from(n == first + 1);
        assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(BATCH - known), &json!(known)), "batch {n}");
    }
    // Whether the first attempts to find the memory taken came too early does not matter: now it is there.
    assert_eq!(send_batch(&guardian, LARGE).await.expect(202)["rejected"], json!([]));
    let n_events = u64::from((first + SENDERS) * BATCH);
    assert_eq!(in_lake(todoke).await, (n_events, n_events));
}

/// Phones that stall in a tunnel keep nobody else out: while a body arrives it takes what it declares, compressed or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_bodies_on_their_way_leave_room_for_others() {
    let settings = [("TODOKE_INGEST__BODIES_MIB_MAX", BODIES_MIB.to_string())];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let guardian = agreed(&todoke).await;
    let mut under_way = Vec::new();
    for n in 0..SENDERS {
        under_way.push(HalfSent::begin(&guardian, Some("gzip"), &batch(n)).await);
    }
    assert_eq!(send_batch(&guardian, SENDERS).await.expect(202)["accepted"], BATCH);
    for half_sent in under_way {
        half_sent.is_taken().await;
    }
    todoke.stop().await;
}

/// Nobody can take all of the memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_one_account_leave_room_for_those_of_others() {
    let settings = [("TODOKE_INGEST__BODIES_MIB_MAX", (2 * BODIES_MIB).to_string())];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let (guardian, operator) = (agreed(&todoke).await, todoke.sign_in("operator").await);
    let under_way = begin_large(&guardian).await;
    let refused = eventually("the bodies under way have their memory", PATIENCE, async || {
        let answer = send_batch(&guardian, LARGE).await;
        (answer.status != 202).then_some(answer)
    })
    .await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"), "{}", refused.text());
    assert_eq!(refused.json()["type"], "/problems/rate-limited", "{}", refused.text());
    assert_eq!(send_batch(&operator, LARGE + 1).await.expect(202)["accepted"], BATCH);
    for half_sent in under_way {
        half_sent.is_taken().await;
    }
    todoke.stop().await;
}

/// Bodies that never come to their end would otherwise keep everybody else's out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stalls_is_given_up_and_its_memory_is_free_again() {
    let settings =
        [("TODOKE_INGEST__BODIES_MIB_MAX", BODIES_MIB.to_string()), ("TODOKE_INGEST__BODY_SECONDS_MAX", 1.to_string())];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let guardian = agreed(&todoke).await;
    for stalled in begin_large(&guardian).await {
        let answer = stalled.answer().await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("/problems/too-slow"), "{answer}");
    }
    let receipt = send_batch(&guardian, 0).await.expect(202);
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(BATCH), &json!(0)), "{receipt}");
    todoke.stop().await;
}

/// Also in the middle of a body that is much longer than what a connection holds: the sender hears it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_of_too_many_requests_hears_when_to_come_again() {
    const REQUESTS_PER_MIN: u32 = 20;
    let settings = [("TODOKE_HTTP__REQUESTS_PER_MIN", REQUESTS_PER_MIN.to_string())];
    let dir = TempDir::new().unwrap();
    let todoke = Todoke::demo_in_with(dir.path(), DemoOptions::small(), &settings).await;
    let guardian = agreed(&todoke).await;
    let mut n_taken = 0;
    // A minute may end in between.
    for n in 0..=2 * REQUESTS_PER_MIN {
        let padded = [lines([view(n)]), vec![b' '; 4 << 20]].concat();
        let answer = send(&guardian, "/v1/usage", NDJSON, None, padded).await;
        if answer.status == 202 {
            assert_eq!(answer.json()["accepted"], 1, "{}", answer.text());
            n_taken += 1;
            continue;
        }
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["type"], "/problems/rate-limited", "{}", answer.text());
        assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|s| (1..=60).contains(&s)), "{}", answer.text());
        assert!(n_taken > 0);
        assert_eq!(in_lake(todoke).await, (n_taken, n_taken));
        return;
    }
    panic!("{} requests of a minute were taken", 2 * REQUESTS_PER_MIN);
}
