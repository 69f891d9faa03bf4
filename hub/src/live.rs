//! From a commit to the sockets and the lake, in memory: the fast path.

use std::sync::{Arc, OnceLock};

use todoke_domain::ids::{AccountId, SessionId};
use todoke_notifier::dispatch::Wake;
use todoke_store::publication::Publication as Row;
use todoke_workflow::Live;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{broker::Publication, realtime::Disconnect, state::Hub};

/// Commits waiting to be published. Full means that sockets lag: what does not fit is recovered from the
/// table by position, since the next publication of the channel shows the gap.
const QUEUE_MAX: usize = 65_536;

/// Hands what was committed to the sockets and wakes the lake.
#[derive(Debug)]
pub struct Announcer {
    queue: mpsc::Sender<Vec<Row>>,
    lake_wake: Arc<Notify>,
    delivery_wake: Wake,
    hub: OnceLock<Arc<Hub>>,
}

/// The receiving end, to be run as a service.
#[derive(Debug)]
pub struct AnnouncerQueue(mpsc::Receiver<Vec<Row>>);

impl Announcer {
    /// An announcer and its queue. `lake_wake` tells the lake's sink that events wait, `delivery_wake` the
    /// dispatcher that deliveries do.
    pub fn new(lake_wake: Arc<Notify>, delivery_wake: Wake) -> (Arc<Self>, AnnouncerQueue) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        (Arc::new(Self { queue, lake_wake, delivery_wake, hub: OnceLock::new() }), AnnouncerQueue(receiver))
    }

    /// Hands in the hub; called once while the server is wired.
    pub fn attach(&self, hub: Arc<Hub>) {
        if self.hub.set(hub).is_err() {
            tracing::warn!("the hub was attached twice");
        }
    }
}

impl Live for Announcer {
    fn committed(&self, publications: Vec<Row>) {
        if !publications.is_empty() && self.queue.try_send(publications).is_err() {
            tracing::warn!("publications lag; clients recover them from the record");
        }
        self.lake_wake.notify_one();
    }

    fn deliveries_queued(&self) {
        self.delivery_wake.all();
    }

    fn account_ended(&self, account: AccountId) {
        if let Some(hub) = self.hub.get() {
            hub.disconnect_user(&account.to_string(), Disconnect::INVALID_TOKEN);
        }
    }

    fn session_ended(&self, session: SessionId) {
        if let Some(hub) = self.hub.get() {
            hub.disconnect_session(&session.to_string(), Disconnect::INVALID_TOKEN);
        }
    }
}

impl AnnouncerQueue {
    /// Publishes until stopped, then what is still queued.
    pub async fn run(mut self, hub: Arc<Hub>, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            let rows = tokio::select! {
                () = stop.cancelled() => break,
                rows = self.0.recv() => rows,
            };
            let Some(rows) = rows else { break };
            publish(&hub, rows).await;
        }
        while let Ok(rows) = self.0.try_recv() {
            publish(&hub, rows).await;
        }
        Ok(())
    }
}

async fn publish(hub: &Hub, rows: Vec<Row>) {
    for row in rows {
        let publication = Publication { position: u64::try_from(row.position).unwrap_or(0), data: row.data.into() };
        if let Err(error) = hub.publish(&row.channel, publication).await {
            tracing::warn!(error = %error, "a publication is left to recovery");
        }
    }
}
