//! Joining a channel without losing or repeating anything.
//!
//! The order of steps is what makes it right: first the connection hears the channel (what it hears
//! is held back), then the history is read, then the reply goes out, then what was held and is newer.
//! So a publication is either in the history that was read, or it was heard; if both, the position
//! tells.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::broker::{Broker, HotRead, Publication, StreamPosition};

use super::code::ErrorReply;
use super::connection::{Caught, Connection};
use super::gate::{Gate, ServerChannel, SubscribeGrant};
use super::registry::Seat;
use super::wire::SubscribeResult;
use super::{Realtime, metric};

/// Publications per read of the durable history.
const PAGE_N: usize = 256;

/// What a subscription can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    pub(super) recoverable: bool,
    pub(super) presence: bool,
    pub(super) join_leave: bool,
}

impl From<&ServerChannel> for Features {
    fn from(channel: &ServerChannel) -> Self {
        Self { recoverable: channel.recoverable, presence: channel.presence, join_leave: channel.join_leave }
    }
}

impl From<&SubscribeGrant> for Features {
    fn from(grant: &SubscribeGrant) -> Self {
        Self { recoverable: grant.recoverable, presence: grant.presence, join_leave: grant.join_leave }
    }
}

/// A place among the hearers of a channel, given up when dropped.
pub(super) struct Place<G: Gate, B: Broker> {
    hub: Arc<Realtime<G, B>>,
    channel: Arc<str>,
    seat: Seat,
    is_following: bool,
}

impl<G: Gate, B: Broker> Drop for Place<G, B> {
    fn drop(&mut self) {
        self.hub.registry.leave(&self.channel, self.seat);
        if self.is_following {
            self.hub.broker.unfollow(&self.channel);
        }
    }
}

/// A channel a connection is subscribed to.
pub(super) struct Subscription<G: Gate, B: Broker> {
    place: Place<G, B>,
    pub(super) features: Features,
    /// Given by the server at connect, not asked for by the client.
    pub(super) is_server_side: bool,
    /// Unix seconds.
    pub(super) expires_at: Option<i64>,
    pub(super) chan_info: Option<Arc<RawValue>>,
}

impl<G: Gate, B: Broker> Subscription<G, B> {
    pub(super) fn channel(&self) -> &Arc<str> {
        &self.place.channel
    }
}

/// A subscription and what its client is told.
pub(super) struct Opened<G: Gate, B: Broker> {
    pub(super) subscription: Subscription<G, B>,
    pub(super) result: SubscribeResult,
    pub(super) caught: Caught,
}

/// What a history read gave a returning client.
struct Recovery {
    publications: Vec<Publication>,
    top: StreamPosition,
    is_recovered: bool,
}

/// Opens a channel for a connection that holds its pushes back ([`Connection::hold`]).
/// Cancel safe: dropped halfway, the place is given up.
pub(super) async fn open<G: Gate, B: Broker>(
    hub: &Arc<Realtime<G, B>>,
    connection: &Arc<Connection>,
    channel: Arc<str>,
    features: Features,
    since: Option<StreamPosition>,
) -> Result<Opened<G, B>, ErrorReply> {
    let seat = hub.registry.enter(&channel, connection, features.join_leave);
    let mut place = Place { hub: Arc::clone(hub), channel: Arc::clone(&channel), seat, is_following: false };
    hub.broker.follow(&channel).await.map_err(unavailable)?;
    place.is_following = true;
    let mut result = SubscribeResult::default();
    let mut caught = Caught::Live;
    if features.recoverable {
        let recovery = recover(hub, &channel, since.as_ref()).await?;
        if recovery.is_recovered
            && let Some(who) = connection.who()
        {
            hub.roster.tally.recovered(&who.municipality, recovery.publications.len());
        }
        hub.registry.skip_to(&channel, seat, recovery.top.offset);
        caught = Caught::UpTo(recovery.top.offset);
        let offset = match &since {
            // The client adds the publications of the reply to the position it came with.
            Some(since) if recovery.is_recovered => since.offset,
            _ => recovery.top.offset,
        };
        result = SubscribeResult {
            position: Some(StreamPosition { offset, epoch: recovery.top.epoch }),
            was_recovering: since.is_some(),
            is_recovered: recovery.is_recovered,
            publications: recovery.publications,
            ..result
        };
    }
    let subscription = Subscription { place, features, is_server_side: false, expires_at: None, chan_info: None };
    Ok(Opened { subscription, result, caught })
}

async fn recover<G: Gate, B: Broker>(
    hub: &Realtime<G, B>,
    channel: &str,
    since: Option<&StreamPosition>,
) -> Result<Recovery, ErrorReply> {
    let mut hot = hub.broker.read(channel, since).await.map_err(unavailable)?;
    if matches!(hot, HotRead::Unknown) {
        // Somebody else who opens the channel now may have read the record later than we would, and what lies
        // between would be delivered to nobody. So the channel gets a position first, and then says where it is.
        let top = durable_top(hub, channel).await?;
        hub.broker.align(channel, &top);
        hot = hub.broker.read(channel, since).await.map_err(unavailable)?;
    }
    let recovery = match (hot, since) {
        (HotRead::Complete { publications, top }, Some(_)) => {
            metrics::counter!(metric::RECOVERIES, "source" => "ring").increment(1);
            return Ok(Recovery { publications, top, is_recovered: true });
        }
        (HotRead::Complete { top, .. }, None) => {
            return Ok(Recovery { publications: Vec::new(), top, is_recovered: false });
        }
        (HotRead::Beyond { .. } | HotRead::Unknown, Some(since)) => {
            let recovery = recover_durable(hub, channel, since).await?;
            let source = if recovery.is_recovered { "durable" } else { "none" };
            metrics::counter!(metric::RECOVERIES, "source" => source).increment(1);
            recovery
        }
        (HotRead::Beyond { .. } | HotRead::Unknown, None) => {
            let top = durable_top(hub, channel).await?;
            Recovery { publications: Vec::new(), top, is_recovered: false }
        }
    };
    hub.broker.align(channel, &recovery.top);
    Ok(recovery)
}

/// Reads until the newest publication, or until it is clear that something is missing.
async fn recover_durable<G: Gate, B: Broker>(
    hub: &Realtime<G, B>,
    channel: &str,
    since: &StreamPosition,
) -> Result<Recovery, ErrorReply> {
    let mut publications: Vec<Publication> = Vec::new();
    let mut n_bytes = 0;
    let mut after = since.offset;
    loop {
        let page = hub.gate.durable_since(channel, after, PAGE_N).await.map_err(unavailable)?;
        let top = StreamPosition { offset: page.top, epoch: page.epoch };
        let lost = |top| Recovery { publications: Vec::new(), top, is_recovered: false };
        if (!since.epoch.is_empty() && since.epoch != top.epoch) || after > top.offset {
            return Ok(lost(top));
        }
        let is_empty = page.publications.is_empty();
        for publication in page.publications {
            if publication.position != after + 1 {
                return Ok(lost(top));
            }
            after = publication.position;
            n_bytes += publication.data.len();
            publications.push(publication);
        }
        if publications.len() > hub.config.recovery_n_max || n_bytes > hub.config.recovery_bytes_max {
            return Ok(lost(top));
        }
        if after >= top.offset {
            let top = StreamPosition { offset: after, ..top };
            return Ok(Recovery { publications, top, is_recovered: true });
        }
        if is_empty {
            // The top is further on, but the way there was pruned.
            return Ok(lost(top));
        }
    }
}

async fn top_of<G: Gate, B: Broker>(hub: &Realtime<G, B>, channel: &str) -> Result<StreamPosition, ErrorReply> {
    match hub.broker.read(channel, None).await.map_err(unavailable)? {
        HotRead::Complete { top, .. } => Ok(top),
        HotRead::Beyond { .. } | HotRead::Unknown => durable_top(hub, channel).await,
    }
}

async fn durable_top<G: Gate, B: Broker>(hub: &Realtime<G, B>, channel: &str) -> Result<StreamPosition, ErrorReply> {
    let page = hub.gate.durable_since(channel, 0, 0).await.map_err(unavailable)?;
    Ok(StreamPosition { offset: page.top, epoch: page.epoch })
}

/// Publications for a history command, in the asked order, and where the channel is.
pub(super) async fn history<G: Gate, B: Broker>(
    hub: &Realtime<G, B>,
    channel: &str,
    limit: i32,
    since: Option<StreamPosition>,
    is_reverse: bool,
) -> Result<(Vec<Publication>, StreamPosition), ErrorReply> {
    let n = usize::try_from(limit).unwrap_or(usize::MAX).min(hub.config.history_n_max);
    let top = top_of(hub, channel).await?;
    if since.as_ref().is_some_and(|since| !since.epoch.is_empty() && since.epoch != top.epoch) {
        return Err(ErrorReply::UNRECOVERABLE_POSITION);
    }
    if n == 0 {
        return Ok((Vec::new(), top));
    }
    let after = match (&since, is_reverse) {
        (Some(since), false) => since.offset,
        (None, false) => 0,
        // The positions before `since`, or the newest ones: without gaps, so they can be counted.
        (Some(since), true) => since.offset.min(top.offset + 1).saturating_sub(n as u64 + 1),
        (None, true) => top.offset.saturating_sub(n as u64),
    };
    let from = StreamPosition { offset: after, epoch: Arc::clone(&top.epoch) };
    let mut publications = match hub.broker.read(channel, Some(&from)).await.map_err(unavailable)? {
        HotRead::Complete { publications, .. } => publications,
        HotRead::Beyond { .. } | HotRead::Unknown => {
            hub.gate.durable_since(channel, after, n).await.map_err(unavailable)?.publications
        }
    };
    let has_hole = publications.first().map_or(after < top.offset, |first| first.position != after + 1);
    if since.is_some() && !is_reverse && has_hole {
        return Err(ErrorReply::UNRECOVERABLE_POSITION);
    }
    if is_reverse {
        let before = since.map_or(u64::MAX, |since| since.offset);
        publications.retain(|publication| publication.position < before && publication.position <= top.offset);
        publications.reverse();
    }
    publications.truncate(n);
    Ok((publications, top))
}

/// Says in the log what the client is only told to be temporary.
fn unavailable(error: impl std::error::Error) -> ErrorReply {
    tracing::warn!(error = %error, "a channel cannot be read now");
    ErrorReply::INTERNAL
}
