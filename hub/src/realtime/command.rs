//! Commands that have to wait for somebody: the door, the broker, the record.
//!
//! Each is a future of its own that gives back an [`Outcome`]; only the session changes the session.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::broker::{Broker, BrokerError, ClientInfo, Ephemeral};

use super::channel::{self, Features, Subscription};
use super::code::{Disconnect, ErrorReply};
use super::connection::{Caught, Connection, Who};
use super::gate::{Admission, Caller, Gate, Refusal, Rejection, ServerChannel};
use super::request::{
    ConnectRequest, HistoryRequest, PublishRequest, RecoverRequest, RefreshRequest, RpcRequest, SinceRequest,
    SubRefreshRequest, SubscribeRequest,
};
use super::session::Running;
use super::wire::{self, ConnectResult, SubscribeResult, Ttl};
use super::{Realtime, metric};

/// A connected client: who it is to the door, and to other clients.
pub(super) struct Member<G: Gate> {
    pub(super) caller: Caller<G::Principal>,
    pub(super) conn_info: Option<Arc<RawValue>>,
}

impl<G: Gate> Member<G> {
    fn info(&self, chan_info: Option<&Arc<RawValue>>) -> ClientInfo {
        ClientInfo {
            user: Arc::clone(&self.caller.user),
            client: Arc::clone(&self.caller.client),
            conn_info: self.conn_info.clone(),
            chan_info: chan_info.cloned(),
        }
    }
}

/// What a successful connect command gives.
pub(super) struct Connected<G: Gate, B: Broker> {
    pub(super) member: Arc<Member<G>>,
    pub(super) expires_at: Option<i64>,
    pub(super) subscriptions: Vec<Subscription<G, B>>,
    pub(super) reply: String,
    pub(super) caught: Vec<(Arc<str>, Caught)>,
}

/// What a command comes to.
pub(super) enum Outcome<G: Gate, B: Broker> {
    /// One reply, nothing else changes.
    Reply(String),
    Connected(Box<Connected<G, B>>),
    /// The client may not go on with this connection.
    ConnectRefused(String),
    Subscribed {
        subscription: Subscription<G, B>,
        reply: String,
        caught: Caught,
    },
    SubscribeRefused {
        channel: Arc<str>,
        reply: String,
    },
    Refreshed {
        member: Arc<Member<G>>,
        expires_at: Option<i64>,
        channels: Vec<ServerChannel>,
        reply: String,
    },
    SubscriptionRefreshed {
        channel: String,
        expires_at: Option<i64>,
        reply: String,
    },
    End(Disconnect),
    Done,
}

fn refused<G: Gate, B: Broker>(id: u32, rejection: Rejection) -> Outcome<G, B> {
    match rejection {
        Rejection::Error(error) => Outcome::ConnectRefused(wire::error_reply(id, &error)),
        Rejection::Disconnect(why) => Outcome::End(why),
    }
}

/// Seconds until `expires_at`; `Err` if there are none left.
fn ttl(expires_at: Option<i64>, now_unix_s: i64) -> Result<Ttl, ()> {
    match expires_at {
        None => Ok(Ttl(None)),
        Some(at) if at <= now_unix_s => Err(()),
        Some(at) => Ok(Ttl(Some(u32::try_from(at - now_unix_s).unwrap_or(u32::MAX)))),
    }
}

pub(super) async fn connect<G: Gate, B: Broker>(
    hub: Arc<Realtime<G, B>>,
    connection: Arc<Connection>,
    id: u32,
    request: ConnectRequest,
) -> Outcome<G, B> {
    let mut admission = match admit(&hub, &connection, &request.token).await {
        Ok(admission) => admission,
        Err(rejection) => return refused(id, rejection),
    };
    let (Some(who), Ok(ttl)) = (connection.who().cloned(), ttl(admission.expires_at, hub.gate.now_unix_s())) else {
        return refused(id, Refusal::TokenExpired.at_connect());
    };
    let mut subscriptions = Vec::with_capacity(admission.channels.len());
    let mut results: Vec<(Arc<str>, SubscribeResult)> = Vec::with_capacity(admission.channels.len());
    let mut caught = Vec::with_capacity(admission.channels.len());
    for channel in &admission.channels {
        // Named twice, it would be heard twice.
        if results.iter().any(|(name, _)| **name == *channel.name) {
            continue;
        }
        let name: Arc<str> = channel.name.as_str().into();
        let since = request.subs.get(&*name).and_then(RecoverRequest::since);
        match channel::open(&hub, &connection, Arc::clone(&name), Features::from(channel), since).await {
            Ok(mut opened) => {
                opened.subscription.is_server_side = true;
                subscriptions.push(opened.subscription);
                results.push((Arc::clone(&name), opened.result));
                caught.push((name, opened.caught));
            }
            Err(error) => return refused(id, Rejection::Error(error)),
        }
    }
    let (expires_at, data) = (admission.expires_at, admission.data.take());
    let member = Arc::new(member::<G>(admission, who, uuid::Uuid::new_v4().to_string().into()));
    let client = &member.caller.client;
    let result =
        ConnectResult { client, ttl, data: data.as_deref(), ping_s: hub.config.ping_interval_s, subs: &results };
    let reply = wire::connect_reply(id, &result);
    Outcome::Connected(Box::new(Connected { member, expires_at, subscriptions, reply, caught }))
}

/// Asks the door, and puts the connection where it is found when its rights end.
async fn admit<G: Gate, B: Broker>(
    hub: &Realtime<G, B>,
    connection: &Arc<Connection>,
    token: &str,
) -> Result<Admission<G::Principal>, Rejection> {
    let n_cuts = hub.roster.n_cuts();
    let mut admission = hub.gate.admit(token).await.map_err(Refusal::at_connect)?;
    let who = Who {
        user: admission.user.as_str().into(),
        session: admission.session.as_str().into(),
        municipality: admission.municipality.as_str().into(),
    };
    connection.identify(who.clone());
    let n_max = hub.config.user_connections_max;
    if hub.roster.name(connection, n_max).is_err() {
        return Err(Rejection::Disconnect(Disconnect::CONNECTION_LIMIT));
    }
    if hub.roster.n_cuts() != n_cuts {
        // Somebody lost rights while we asked; if it was this one, nobody found the connection to cut.
        admission = hub.gate.admit(token).await.map_err(Refusal::at_connect)?;
        if *admission.user != *who.user || *admission.session != *who.session {
            return Err(Rejection::Disconnect(Disconnect::INVALID_TOKEN));
        }
    }
    if admission.channels.len() > hub.config.subscriptions_max {
        return Err(Rejection::Disconnect(Disconnect::CHANNEL_LIMIT));
    }
    Ok(admission)
}

fn member<G: Gate>(admission: Admission<G::Principal>, who: Who, client: Arc<str>) -> Member<G> {
    let caller = Caller { user: who.user, session: who.session, client, principal: admission.principal };
    Member { caller, conn_info: admission.info.map(Arc::from) }
}

pub(super) async fn subscribe<G: Gate, B: Broker>(
    hub: Arc<Realtime<G, B>>,
    connection: Arc<Connection>,
    member: Arc<Member<G>>,
    id: u32,
    request: SubscribeRequest,
) -> Outcome<G, B> {
    let name: Arc<str> = request.channel.as_str().into();
    let refuse = |error: ErrorReply| Outcome::SubscribeRefused {
        channel: Arc::clone(&name),
        reply: wire::error_reply(id, &error),
    };
    let n_cuts = hub.roster.n_cuts();
    let ask = || hub.gate.subscribe(&member.caller, &name, request.token.as_deref());
    let mut grant = match ask().await {
        Ok(grant) => grant,
        Err(refusal) => return refuse(refusal.at_channel()),
    };
    let mut opened =
        match channel::open(&hub, &connection, Arc::clone(&name), Features::from(&grant), request.since()).await {
            Ok(opened) => opened,
            Err(error) => return refuse(error),
        };
    if hub.roster.n_cuts() != n_cuts {
        // Somebody lost a channel while we asked; if it was this one, there was nothing to take away yet.
        grant = match ask().await {
            Ok(grant) => grant,
            Err(refusal) => return refuse(refusal.at_channel()),
        };
    }
    let Ok(ttl) = ttl(grant.expires_at, hub.gate.now_unix_s()) else {
        return refuse(ErrorReply::EXPIRED);
    };
    if opened.result.was_recovering && !opened.result.is_recovered && request.rejects_unrecovered() {
        return refuse(ErrorReply::UNRECOVERABLE_POSITION);
    }
    opened.result.ttl = ttl;
    opened.result.data = grant.data;
    opened.subscription.expires_at = grant.expires_at;
    opened.subscription.chan_info = grant.info.map(Arc::from);
    let reply = wire::subscribe_reply(id, &opened.result);
    Outcome::Subscribed { subscription: opened.subscription, reply, caught: opened.caught }
}

pub(super) async fn refresh<G: Gate, B: Broker>(
    hub: Arc<Realtime<G, B>>,
    member: Arc<Member<G>>,
    id: u32,
    request: RefreshRequest,
) -> Outcome<G, B> {
    let mut admission = match hub.gate.admit(&request.token).await {
        Ok(admission) => admission,
        Err(refusal) => {
            return match refusal.at_connect() {
                Rejection::Error(error) => Outcome::Reply(wire::error_reply(id, &error)),
                Rejection::Disconnect(why) => Outcome::End(why),
            };
        }
    };
    let Ok(ttl) = ttl(admission.expires_at, hub.gate.now_unix_s()) else {
        return Outcome::Reply(wire::error_reply(id, &ErrorReply::EXPIRED));
    };
    let known = &member.caller;
    if *admission.user != *known.user {
        return Outcome::End(Disconnect::INVALID_TOKEN);
    }
    if *admission.session != *known.session {
        return Outcome::End(Disconnect::FORCE_RECONNECT);
    }
    let who = Who {
        user: Arc::clone(&known.user),
        session: Arc::clone(&known.session),
        municipality: admission.municipality.as_str().into(),
    };
    let (expires_at, channels) = (admission.expires_at, std::mem::take(&mut admission.channels));
    let member = Arc::new(self::member::<G>(admission, who, Arc::clone(&known.client)));
    let reply = wire::refresh_reply(id, "refresh", Some(&known.client), ttl);
    Outcome::Refreshed { member, expires_at, channels, reply }
}

pub(super) async fn sub_refresh<G: Gate, B: Broker>(
    hub: Arc<Realtime<G, B>>,
    member: Arc<Member<G>>,
    id: u32,
    request: SubRefreshRequest,
) -> Outcome<G, B> {
    let error = match hub.gate.subscribe(&member.caller, &request.channel, Some(&request.token)).await {
        Ok(grant) => match ttl(grant.expires_at, hub.gate.now_unix_s()) {
            Ok(ttl) => {
                let reply = wire::refresh_reply(id, "sub_refresh", None, ttl);
                return Outcome::SubscriptionRefreshed {
                    channel: request.channel,
                    expires_at: grant.expires_at,
                    reply,
                };
            }
            Err(()) => ErrorReply::EXPIRED,
        },
        Err(refusal) => refusal.at_channel(),
    };
    Outcome::Reply(wire::error_reply(id, &error))
}

pub(super) async fn rpc<G: Gate, B: Broker>(
    hub: Arc<Realtime<G, B>>,
    member: Arc<Member<G>>,
    id: u32,
    request: RpcRequest,
) -> Outcome<G, B> {
    let data = request.data.as_deref().unwrap_or(RawValue::NULL);
    Outcome::Reply(match hub.gate.rpc(&member.caller, &request.method, data).await {
        Ok(answer) => wire::rpc_reply(id, &answer),
        Err(error) => wire::error_reply(id, &error.into()),
    })
}

pub(super) async fn publish<G: Gate, B: Broker>(
    hub: Arc<Realtime<G, B>>,
    member: Arc<Member<G>>,
    id: u32,
    request: PublishRequest,
) -> Outcome<G, B> {
    let data = request.data.as_deref().unwrap_or(RawValue::NULL);
    Outcome::Reply(match hub.gate.publish(&member.caller, &request.channel, data).await {
        Ok(()) => wire::empty_reply(id, "publish"),
        Err(refusal) => wire::error_reply(id, &refusal.at_channel()),
    })
}

pub(super) async fn history<G: Gate, B: Broker>(
    hub: Arc<Realtime<G, B>>,
    id: u32,
    request: HistoryRequest,
) -> Outcome<G, B> {
    let since = request.since.as_ref().map(SinceRequest::position);
    Outcome::Reply(match channel::history(&hub, &request.channel, request.limit, since, request.reverse).await {
        Ok((publications, top)) => wire::history_reply(id, &publications, &top),
        Err(error) => wire::error_reply(id, &error),
    })
}

pub(super) async fn presence<G: Gate, B: Broker>(hub: Arc<Realtime<G, B>>, id: u32, channel: String) -> Outcome<G, B> {
    Outcome::Reply(match hub.broker.presence(&channel).await {
        Ok(clients) => wire::presence_reply(id, &clients),
        Err(error) => broker_error(id, &error),
    })
}

pub(super) async fn presence_stats<G: Gate, B: Broker>(
    hub: Arc<Realtime<G, B>>,
    id: u32,
    channel: String,
) -> Outcome<G, B> {
    Outcome::Reply(match hub.broker.presence_stats(&channel).await {
        Ok(stats) => wire::presence_stats_reply(id, stats),
        Err(error) => broker_error(id, &error),
    })
}

fn broker_error(id: u32, error: &BrokerError) -> String {
    tracing::warn!(error = %error, "presence cannot be read now");
    wire::error_reply(id, &ErrorReply::INTERNAL)
}

/// A client that comes or goes, in one channel.
struct Appearance {
    channel: Arc<str>,
    info: ClientInfo,
    features: Features,
}

fn appearances<G: Gate, B: Broker>(member: &Member<G>, subscriptions: &[Subscription<G, B>]) -> Vec<Appearance> {
    let seen = subscriptions.iter().filter(|sub| sub.features.presence || sub.features.join_leave);
    seen.map(|sub| Appearance {
        channel: Arc::clone(sub.channel()),
        info: member.info(sub.chan_info.as_ref()),
        features: sub.features,
    })
    .collect()
}

/// Shows the client in its new channels, after its reply, so that it hears of itself like of others.
pub(super) fn greeting<G: Gate, B: Broker>(
    hub: &Arc<Realtime<G, B>>,
    member: &Member<G>,
    subscriptions: &[Subscription<G, B>],
) -> Option<Running<G, B>> {
    let appearances = appearances(member, subscriptions);
    let hub = Arc::clone(hub);
    in_background(!appearances.is_empty(), async move {
        for Appearance { channel, info, features } in appearances {
            if features.presence
                && let Err(error) = hub.broker.presence_add(&channel, info.clone()).await
            {
                tracing::warn!(channel.name = %channel, error = %error, "presence could not be added");
            }
            if features.join_leave {
                tell(&hub, &channel, Ephemeral::Join(info)).await;
            }
        }
    })
}

/// Takes the client out of channels it has left.
pub(super) fn farewell<G: Gate, B: Broker>(
    hub: &Arc<Realtime<G, B>>,
    member: &Member<G>,
    subscriptions: &[Subscription<G, B>],
) -> Option<Running<G, B>> {
    let appearances = appearances(member, subscriptions);
    let hub = Arc::clone(hub);
    in_background(!appearances.is_empty(), async move {
        for Appearance { channel, info, features } in appearances {
            if features.presence
                && let Err(error) = hub.broker.presence_remove(&channel, &info.client).await
            {
                tracing::warn!(channel.name = %channel, error = %error, "presence could not be removed");
            }
            if features.join_leave {
                tell(&hub, &channel, Ephemeral::Leave(info)).await;
            }
        }
    })
}

async fn tell<G: Gate, B: Broker>(hub: &Realtime<G, B>, channel: &str, what: Ephemeral) {
    if let Err(error) = hub.broker.publish_ephemeral(channel, what).await {
        tracing::warn!(channel.name = %channel, error = %error, "others were not told");
    }
}

fn in_background<G: Gate, B: Broker>(
    is_needed: bool,
    future: impl Future<Output = ()> + Send + 'static,
) -> Option<Running<G, B>> {
    is_needed.then(|| Running {
        future: Box::pin(async move {
            future.await;
            Outcome::Done
        }),
        id: 0,
        opening: None,
        overdue_at: None,
    })
}

/// Counted by kind when a command is taken up.
pub(super) fn count(kind: &'static str) {
    metrics::counter!(metric::COMMANDS, "kind" => kind).increment(1);
}
