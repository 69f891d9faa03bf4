//! Publications on their way from the record to the sockets of this node.
//!
//! The record numbers the publications of a channel 1, 2, 3 … without gaps, within one epoch for the
//! whole database. A [`Broker`] carries them to a [`Sink`] in exactly that order, keeps the newest of
//! them hot for clients that come back, and knows who is present in a channel.
//!
//! **Invariant:** a sink never sees a position twice, never out of order, never with a hole. What
//! cannot be delivered like that is announced by [`Sink::lost`] instead.
//! **Invariant:** nothing here waits for a socket.

mod memory;
mod stream;

#[cfg(test)]
pub(crate) mod contract;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use memory::{BrokerConfig, MemoryBroker};

/// One numbered entry of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// 1 for the first one of the channel, then one more each.
    pub position: u64,
    /// One JSON value.
    pub data: Bytes,
}

/// A place in a channel: everything up to and including `offset` of `epoch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPosition {
    /// Position of the last publication; 0 before the first.
    pub offset: u64,
    /// The life of the database the offset belongs to.
    pub epoch: Arc<str>,
}

/// A consistent read of the durable history of a channel.
#[derive(Clone, Debug)]
pub struct DurablePage {
    /// The life of the database.
    pub epoch: Arc<str>,
    /// Position of the newest publication, 0 if there never was one.
    pub top: u64,
    /// In order of position. Pruned ones are simply not there.
    pub publications: Vec<Publication>,
}

/// The durable history could not be read; worth another try.
#[derive(Clone, Debug, Error)]
#[error("the durable history of a channel could not be read: {0}")]
pub struct DurableError(pub String);

/// The durable history of all channels: the table that outlives the hot one.
pub trait Durable: Send + Sync + 'static {
    /// Reads up to `n_max` publications of `channel` with a position above `after`, oldest first,
    /// together with top and epoch of the same moment. `n_max` 0 asks for top and epoch only.
    ///
    /// Must be cancel safe. Errors are taken as temporary.
    fn durable_since(
        &self,
        channel: &str,
        after: u64,
        n_max: usize,
    ) -> impl Future<Output = Result<DurablePage, DurableError>> + Send;
}

/// Who is behind a connection, as other members of a channel see it.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// Account id.
    pub user: Arc<str>,
    /// Id of this connection.
    pub client: Arc<str>,
    /// JSON about the connection, from the sign-in.
    pub conn_info: Option<Arc<RawValue>>,
    /// JSON about the subscription.
    pub chan_info: Option<Arc<RawValue>>,
}

/// What reaches the present subscribers of a channel and is not kept.
#[derive(Clone, Debug)]
pub enum Ephemeral {
    /// A sample: one JSON value without a position.
    Sample(Bytes),
    /// A client came.
    Join(ClientInfo),
    /// A client went.
    Leave(ClientInfo),
}

/// Number of clients and of distinct users present in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Connections.
    pub n_clients: usize,
    /// Accounts.
    pub n_users: usize,
}

/// What the hot history can say about a client's position.
#[derive(Clone, Debug)]
pub enum HotRead {
    /// Everything after the asked offset, complete up to `top`.
    Complete {
        /// In order; empty if the client is up to date.
        publications: Vec<Publication>,
        /// Where the client is afterwards.
        top: StreamPosition,
    },
    /// The channel is followed, but the asked offset is not in reach: ask the durable history.
    Beyond {
        /// Where the channel is.
        top: StreamPosition,
    },
    /// The position of the channel is not known yet: ask the durable history, then [`Broker::align`].
    Unknown,
}

/// The broker could not take something. The memory broker never says so; one across the network may.
#[derive(Debug, Error)]
#[error("the broker is not available: {0}")]
pub struct BrokerError(pub String);

/// Where a broker delivers: the channels' subscribers on this node. Called with the channel locked,
/// so an implementation must neither block nor call back into the broker.
pub trait Sink: Send + Sync + 'static {
    /// The next publication of a channel.
    fn deliver(&self, channel: &Arc<str>, publication: &Publication);
    /// Something without a position.
    fn ephemeral(&self, channel: &str, what: &Ephemeral);
    /// Publications of this channel are gone for good: its subscribers must start over.
    fn lost(&self, channel: &str);
}

/// Carries publications to the subscribers of this node.
///
/// The contract is tested by `broker::contract`, one suite for every implementation.
pub trait Broker: Send + Sync + 'static {
    /// Names the place to deliver to; the first call wins. Before it, nothing is delivered.
    fn attach(&self, sink: Arc<dyn Sink>);

    /// Gap repair, eviction and whatever else goes on by itself, until `stop`. Run it once.
    fn run(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send;

    /// Takes a committed publication, in any order and any number of times; each is delivered once,
    /// in order. Channels nobody follows here are ignored.
    fn publish(&self, channel: &str, publication: Publication) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Reaches the present subscribers, or nobody.
    fn publish_ephemeral(&self, channel: &str, what: Ephemeral)
    -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// From here on the channel is followed. Counted: one [`Broker::unfollow`] each.
    fn follow(&self, channel: &Arc<str>) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// One follower less. The history stays hot for a while after the last one. Never blocks.
    fn unfollow(&self, channel: &str);

    /// Reads the hot history after `since`, or only the top of the channel for `None`.
    fn read(
        &self,
        channel: &str,
        since: Option<&StreamPosition>,
    ) -> impl Future<Output = Result<HotRead, BrokerError>> + Send;

    /// Tells where a followed channel is, read from the durable history after [`Broker::follow`].
    /// A channel that already knows better ignores it; one with another epoch is lost.
    fn align(&self, channel: &str, top: &StreamPosition);

    /// Adds or renews a client.
    fn presence_add(&self, channel: &str, info: ClientInfo) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Removes a client; not being there is fine.
    fn presence_remove(&self, channel: &str, client: &str) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Everyone who is there.
    fn presence(&self, channel: &str) -> impl Future<Output = Result<Vec<ClientInfo>, BrokerError>> + Send;

    /// How many are there.
    fn presence_stats(&self, channel: &str) -> impl Future<Output = Result<PresenceStats, BrokerError>> + Send;
}
