//! Realtime: websockets that speak the Centrifuge client protocol v2 (JSON), so that the official
//! SDKs of every platform can be used as they are. Codes, limits and semantics: `docs/realtime.md`.
//!
//! After the HTTP upgrade everything on the wire is ours: one task per connection ([`session`]), one
//! clock for all of them ([`wheel`]), frames encoded once per publication and shared ([`registry`]).
//!
//! **Invariant:** a session never awaits another one. Publishing puts shared frames into bounded
//! queues; a full queue ends its connection with a code from which the client recovers.
//! **Invariant:** an idle connection holds no read or write buffer and no timer.
//! **Invariant:** nothing here knows about SQL; the record is behind [`Gate`] and [`Durable`].

mod channel;
mod code;
mod command;
mod config;
mod connection;
mod dispatch;
mod frame;
mod gate;
pub mod metric;
mod registry;
mod request;
mod roster;
mod session;
mod tally;
mod upgrade;
mod wheel;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use todoke_workflow::live_sample::LiveSample;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{Broker, BrokerError, Ephemeral, Publication};

pub use code::Disconnect;
pub use config::RealtimeConfig;
pub use gate::{Admission, Caller, Gate, Refusal, RpcError, ServerChannel, SubscribeGrant};
pub use upgrade::{routes, upgrade};

pub use crate::broker::{Durable, DurableError, DurablePage};

use connection::{Connection, Notice, Pace};
use registry::Registry;
use roster::Roster;
use session::Session;
use wheel::{Visit, Wheel};

/// The realtime hub of this node.
pub struct Realtime<G, B> {
    config: RealtimeConfig,
    pace: Pace,
    gate: Arc<G>,
    broker: Arc<B>,
    registry: Arc<Registry>,
    roster: Roster,
    wheel: Wheel,
    sockets: TaskTracker,
    stop: CancellationToken,
}

impl<G, B> fmt::Debug for Realtime<G, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realtime")
            .field("config", &self.config)
            .field("n_open", &self.roster.n_open())
            .finish_non_exhaustive()
    }
}

impl<G: Gate, B: Broker> Realtime<G, B> {
    /// A hub that runs its sockets in `sockets` and closes them when `stop` is cancelled.
    /// Needs [`Realtime::run`] beside it.
    pub fn new(
        config: RealtimeConfig,
        gate: Arc<G>,
        broker: Arc<B>,
        sockets: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let registry = Arc::new(Registry::new());
        broker.attach(registry.clone());
        let wheel = Wheel::new(Duration::from_millis(config.tick_ms.max(1)));
        let pace = Pace {
            ping_interval: wheel.ticks(config.ping_interval_s).max(2),
            pong_timeout: wheel.ticks(config.pong_timeout_s).max(1),
            ticks_per_s: wheel.ticks(1),
            expired_close_delay_s: i64::try_from(config.expired_close_delay_s).unwrap_or(i64::MAX / 2),
        };
        Arc::new(Self { config, pace, gate, broker, registry, roster: Roster::default(), wheel, sockets, stop })
    }

    /// Pings, deadlines, repair of gaps, eviction. Ends after `stop` is cancelled and every socket is
    /// closed, or has had its time to. Run it once.
    pub async fn run(self: Arc<Self>) {
        let stop_broker = CancellationToken::new();
        let clock = async {
            self.keep_time().await;
            stop_broker.cancel();
        };
        tokio::join!(clock, self.broker.run(stop_broker.clone()));
    }

    async fn keep_time(&self) {
        let mut ticks = interval(Duration::from_millis(self.config.tick_ms.max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut give_up_at = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tick(),
                () = self.stop.cancelled(), if give_up_at.is_none() => {
                    self.roster.close_all(Disconnect::SHUTDOWN);
                    give_up_at = Some(Instant::now() + Duration::from_secs(self.config.close_timeout_s + 1));
                }
            }
            if give_up_at.is_some_and(|at| self.roster.n_open() == 0 || Instant::now() >= at) {
                // Sockets in their closing handshake have left the roster; the wheel still ends them.
                if self.sockets.is_empty() || give_up_at.is_some_and(|at| Instant::now() >= at) {
                    return;
                }
            }
        }
    }

    fn tick(&self) {
        let (now, now_unix_s) = (self.wheel.now(), self.gate.now_unix_s());
        for (connection, visit) in self.wheel.take_due(now) {
            let Some(alive) = connection.upgrade() else {
                continue;
            };
            let next = alive.visit(now, now_unix_s, &self.pace);
            if visit == Visit::Regular {
                self.wheel.look_at(connection, next, Visit::Regular);
            }
        }
        metrics::gauge!(metric::CONNECTIONS).set(self.roster.n_open() as f64);
    }

    /// Hands a committed publication to the subscribers of this node. Any order and any number of
    /// times; each reaches a client once and in order.
    pub async fn publish(&self, channel: &str, publication: Publication) -> Result<(), BrokerError> {
        self.broker.publish(channel, publication).await
    }

    /// Reaches whoever is subscribed right now. `data` is one JSON value.
    pub async fn publish_ephemeral(&self, channel: &str, data: Bytes) -> Result<(), BrokerError> {
        self.broker.publish_ephemeral(channel, Ephemeral::Sample(data)).await
    }

    /// Ends all connections of an account, also those that are just being admitted.
    pub fn disconnect_user(&self, user: &str, why: Disconnect) {
        self.roster.begin_cut();
        for connection in self.roster.of_user(user) {
            connection.close(why);
        }
    }

    /// Ends all connections made from a session, also those that are just being admitted.
    pub fn disconnect_session(&self, session: &str, why: Disconnect) {
        self.roster.begin_cut();
        for connection in self.roster.of_session(session) {
            connection.close(why);
        }
    }

    /// Takes a channel away from all connections of an account.
    pub fn unsubscribe_user(&self, user: &str, channel: &str) {
        self.roster.begin_cut();
        let channel: Arc<str> = channel.into();
        for connection in self.roster.of_user(user) {
            connection.notify(Notice::Revoked(Arc::clone(&channel)));
        }
    }

    /// What happened to connected clients since the last call, by municipality.
    pub fn take_samples(&self) -> Vec<(Arc<str>, LiveSample)> {
        self.roster.tally.take()
    }

    /// Open sockets, connected or about to.
    pub fn n_connections(&self) -> usize {
        self.roster.n_open()
    }

    /// Accounts with at least one connection.
    pub fn n_users(&self) -> usize {
        self.roster.n_users()
    }

    /// Serves a connection whose upgrade is done, until it ends. `read_ahead` is what came in with the
    /// upgrade request. Cancel safe: dropping it drops the socket and the connection's subscriptions.
    pub fn serve_upgraded<IO>(
        self: &Arc<Self>,
        io: IO,
        read_ahead: Bytes,
    ) -> impl Future<Output = ()> + Send + use<IO, G, B>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let now = self.wheel.now();
        let connect_by = now + self.wheel.ticks(self.config.connect_timeout_s);
        let connection = Arc::new(Connection::new(self.roster.next_id(), &self.config, connect_by));
        let first_look = connect_by.min(now + self.pace.ping_interval / 2);
        self.wheel.look_at(Arc::downgrade(&connection), first_look, Visit::Regular);
        self.roster.add(&connection);
        Session::new(io, read_ahead, Arc::clone(self), connection)
    }
}
