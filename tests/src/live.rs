//! The official `centrifuge` client, unmodified, in Node.js, steered line by line.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin},
    sync::Notify,
    task::JoinHandle,
};

use crate::{http::Client, node};

const LIMIT: Duration = Duration::from_secs(20);

/// A publication as a client got it.
#[derive(Clone, Debug, Deserialize)]
pub struct Publication {
    /// Channel name.
    pub channel: String,
    /// Position in the channel; 0 where it has none.
    #[serde(default)]
    pub offset: u64,
    /// What was published.
    pub data: Value,
}

/// A connected client. Ended when dropped.
#[derive(Debug)]
pub struct Live {
    _node: Child,
    orders: tokio::sync::Mutex<ChildStdin>,
    lines: Arc<Lines>,
    reader: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Lines {
    seen: Mutex<Vec<Value>>,
    more: Notify,
}

impl Live {
    /// Connects with the session of `who`. Panics unless it is connected in time.
    pub async fn connect(who: &Client) -> Self {
        let mut command = node::node("live.mjs");
        command.arg(who.base_url()).arg(who.bearer().expect("a signed-in client")).stdin(std::process::Stdio::piped());
        let mut child = node::start(&mut command);
        let orders = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines = Arc::new(Lines::default());
        let kept = lines.clone();
        #[allow(clippy::disallowed_methods, reason = "aborted when the client is dropped")]
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let value =
                    serde_json::from_str(&line).unwrap_or_else(|_| json!({"event": "unreadable", "line": line}));
                kept.seen.lock().unwrap().push(value);
                kept.more.notify_waiters();
            }
        });
        let live = Self { _node: child, orders: tokio::sync::Mutex::new(orders), lines, reader };
        live.wait_for_line("connected", |line| line["event"] == "connected").await;
        live
    }

    /// Everything the client reported, as its lines of JSON.
    pub fn events(&self) -> Vec<Value> {
        self.lines.seen.lock().unwrap().clone()
    }

    /// All publications so far, in the order they came.
    pub fn seen(&self) -> Vec<Publication> {
        let publications =
            |line: &Value| (line["event"] == "publication").then(|| serde_json::from_value(line.clone()).unwrap());
        self.lines.seen.lock().unwrap().iter().filter_map(publications).collect()
    }

    /// The first publication for which `wanted` holds, of those that came and those to come.
    ///
    /// Panics with `what` and everything that came when there is none in time.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&Publication) -> bool) -> Publication {
        let line = self
            .wait_for_line(what, |line| {
                line["event"] == "publication"
                    && serde_json::from_value(line.clone()).is_ok_and(|p: Publication| wanted(&p))
            })
            .await;
        serde_json::from_value(line).unwrap()
    }

    /// The first line for which `wanted` holds. Panics as [`Live::wait_for`].
    pub async fn wait_for_line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let search = async {
            loop {
                // Register before looking, or a line in between would be waited for in vain.
                let more = self.lines.more.notified();
                let found = self.lines.seen.lock().unwrap().iter().find(|line| wanted(line)).cloned();
                match found {
                    Some(line) => return line,
                    None => more.await,
                }
            }
        };
        match tokio::time::timeout(LIMIT, search).await {
            Ok(line) => line,
            Err(_) => panic!("not within {LIMIT:?}: {what}; came: {:#?}", self.events()),
        }
    }

    /// Drops the connection without a word, as a tunnel does; the client stays away until [`Live::resume`].
    pub async fn cut(&self) {
        let before = self.count("disconnected");
        self.order(json!({"order": "cut"})).await;
        self.wait_for_count("disconnected", before + 1).await;
    }

    /// Comes back and recovers what was missed.
    pub async fn resume(&self) {
        let before = self.count("connected");
        self.order(json!({"order": "resume"})).await;
        self.wait_for_count("connected", before + 1).await;
    }

    /// Calls a method over the socket. Panics when it is refused.
    pub async fn rpc(&self, method: &str, data: Value) -> Value {
        let id = format!("{method}-{}", self.lines.seen.lock().unwrap().len());
        self.order(json!({"order": "rpc", "id": id, "method": method, "data": data})).await;
        let answer = self.wait_for_line(method, |line| line["event"] == "answer" && line["id"] == id.as_str()).await;
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["data"].clone()
    }

    fn count(&self, event: &str) -> usize {
        self.lines.seen.lock().unwrap().iter().filter(|line| line["event"] == event).count()
    }

    async fn wait_for_count(&self, event: &str, n: usize) {
        self.wait_for_line(event, |line| line["event"] == event && line["count"].as_u64() == u64::try_from(n).ok())
            .await;
    }

    async fn order(&self, order: Value) {
        let mut orders = self.orders.lock().await;
        orders.write_all(format!("{order}\n").as_bytes()).await.expect("the client runs");
        orders.flush().await.expect("the client runs");
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
