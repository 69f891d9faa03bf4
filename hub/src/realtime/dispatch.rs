//! What a session does with each command, and with what it comes to.

use std::future::Future;
use std::sync::Arc;

use crate::broker::Broker;

use super::channel::Subscription;
use super::code::{Disconnect, ErrorReply, Unsubscribe};
use super::command::{self, Connected, Member, Outcome, farewell, greeting};
use super::connection::{Caught, Notice};
use super::frame::text_frame;
use super::gate::{Gate, ServerChannel};
use super::request::{Command, ConnectRequest, HistoryRequest, Request, SubscribeRequest};
use super::session::{End, Running, Session};
use super::wire;

/// A text message: commands joined by line breaks.
pub(super) struct Batch {
    text: String,
    at: usize,
    n_commands: usize,
}

/// The next thing in a message.
pub(super) enum Parsed {
    Command(Box<Command>),
    /// Not a command, or a message without any.
    Garbage,
}

impl Batch {
    pub(super) fn new(text: String) -> Self {
        Self { text, at: 0, n_commands: 0 }
    }

    /// `None` at the end.
    pub(super) fn next(&mut self) -> Option<Parsed> {
        loop {
            if self.at >= self.text.len() {
                return (self.n_commands == 0).then(|| {
                    self.n_commands += 1;
                    Parsed::Garbage
                });
            }
            let rest = &self.text[self.at..];
            let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
            self.at += line.len() + 1;
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            self.n_commands += 1;
            // Most messages of most clients are the answer to a ping.
            let command = if line == "{}" { Ok(Command::default()) } else { serde_json::from_str(line) };
            return Some(command.map_or(Parsed::Garbage, |command| Parsed::Command(Box::new(command))));
        }
    }
}

/// Tells repeated command ids, as far back as clients may mix them up: SDKs number their commands
/// 1, 2, 3 … but may send from several threads.
#[derive(Debug, Default)]
pub(super) struct SeenIds {
    highest: u32,
    /// Bit n: `highest - n` was seen.
    window: u64,
}

impl SeenIds {
    /// False if the id was used before, among the 64 highest.
    pub(super) fn insert(&mut self, id: u32) -> bool {
        if id > self.highest {
            let step = id - self.highest;
            self.window = self.window.checked_shl(step).unwrap_or(0) | 1;
            self.highest = id;
            return true;
        }
        let bit = 1_u64.checked_shl(self.highest - id).unwrap_or(0);
        let is_new = self.window & bit == 0;
        self.window |= bit;
        is_new
    }
}

impl<IO, G: Gate, B: Broker> Session<IO, G, B> {
    pub(super) fn dispatch(&mut self, parsed: Parsed) {
        let Parsed::Command(command) = parsed else {
            return self.end(Disconnect::BAD_REQUEST);
        };
        let id = command.id;
        let request = command.into_request();
        command::count(request.kind());
        match request {
            Request::Send if self.member.is_some() => return self.end(Disconnect::NOT_AVAILABLE),
            Request::Pong if id == 0 && self.member.is_some() => {
                if !self.connection.pong() {
                    self.end(Disconnect::BAD_REQUEST);
                }
                return;
            }
            _ => {}
        }
        if id == 0 || !self.seen_ids.insert(id) {
            return self.end(Disconnect::BAD_REQUEST);
        }
        match (request, self.member.clone()) {
            (Request::Connect(request), None) if !self.has_failed_connect => self.connect(id, request),
            (_, None) | (Request::Connect(_) | Request::Pong | Request::Send, Some(_)) => {
                self.end(Disconnect::BAD_REQUEST)
            }
            (request, Some(member)) => self.dispatch_connected(id, request, member),
        }
    }

    fn dispatch_connected(&mut self, id: u32, request: Request, member: Arc<Member<G>>) {
        let hub = Arc::clone(&self.hub);
        match request {
            Request::Subscribe(request) => self.subscribe(id, request, member),
            Request::Unsubscribe(request) => self.unsubscribe(id, &request.channel),
            Request::Publish(request) => self.start(id, command::publish(hub, member, id, request)),
            Request::Presence(request) => {
                if self.may_see_presence(id, &request.channel) {
                    self.start(id, command::presence(hub, id, request.channel));
                }
            }
            Request::PresenceStats(request) => {
                if self.may_see_presence(id, &request.channel) {
                    self.start(id, command::presence_stats(hub, id, request.channel));
                }
            }
            Request::History(request) => self.history(id, request),
            Request::Ping => self.answer(&wire::empty_reply(id, "ping")),
            Request::Rpc(request) => self.start(id, command::rpc(hub, member, id, request)),
            Request::Refresh(request) if request.token.is_empty() => self.end(Disconnect::BAD_REQUEST),
            Request::Refresh(request) => self.start(id, command::refresh(hub, member, id, request)),
            Request::SubRefresh(request) => match self.subscription(&request.channel) {
                None => self.refuse(id, &ErrorReply::PERMISSION_DENIED),
                Some(sub) if sub.expires_at.is_none() => self.refuse(id, &ErrorReply::NOT_AVAILABLE),
                Some(_) if request.token.is_empty() => self.refuse(id, &ErrorReply::BAD_REQUEST),
                Some(_) => self.start(id, command::sub_refresh(hub, member, id, request)),
            },
            Request::Connect(_) | Request::Send | Request::Pong => self.end(Disconnect::BAD_REQUEST),
        }
    }

    fn connect(&mut self, id: u32, request: ConnectRequest) {
        self.connection.hold();
        self.start(id, command::connect(Arc::clone(&self.hub), Arc::clone(&self.connection), id, request));
    }

    fn subscribe(&mut self, id: u32, request: SubscribeRequest, member: Arc<Member<G>>) {
        let length = request.channel.len();
        if length == 0 {
            return self.end(Disconnect::BAD_REQUEST);
        }
        let error = if length > self.hub.config.channel_bytes_max {
            ErrorReply::BAD_REQUEST
        } else if request.kind != 0 {
            ErrorReply::NOT_AVAILABLE
        } else if self.subscription(&request.channel).is_some() {
            ErrorReply::ALREADY_SUBSCRIBED
        } else if self.subscriptions.len() >= self.hub.config.subscriptions_max {
            ErrorReply::LIMIT_EXCEEDED
        } else {
            self.connection.hold();
            let channel: Arc<str> = request.channel.as_str().into();
            let (hub, connection) = (Arc::clone(&self.hub), Arc::clone(&self.connection));
            self.start(id, command::subscribe(hub, connection, member, id, request));
            if let Some(running) = &mut self.running {
                running.opening = Some(channel);
            }
            return;
        };
        self.refuse(id, &error);
    }

    /// A client that was never subscribed has what it wants; a server-side subscription is not its to end.
    fn unsubscribe(&mut self, id: u32, channel: &str) {
        if channel.is_empty() {
            return self.end(Disconnect::BAD_REQUEST);
        }
        if self.subscription(channel).is_some_and(|sub| !sub.is_server_side) {
            self.leave(channel);
        }
        self.answer(&wire::empty_reply(id, "unsubscribe"));
    }

    fn history(&mut self, id: u32, request: HistoryRequest) {
        match self.subscription(&request.channel).map(|sub| sub.features.recoverable) {
            None => self.refuse(id, &ErrorReply::PERMISSION_DENIED),
            Some(false) => self.refuse(id, &ErrorReply::NOT_AVAILABLE),
            Some(true) => self.start(id, command::history(Arc::clone(&self.hub), id, request)),
        }
    }

    fn may_see_presence(&mut self, id: u32, channel: &str) -> bool {
        let error = match self.subscription(channel).map(|sub| sub.features.presence) {
            Some(true) => return true,
            Some(false) => ErrorReply::NOT_AVAILABLE,
            None => ErrorReply::PERMISSION_DENIED,
        };
        self.refuse(id, &error);
        false
    }

    fn subscription(&self, channel: &str) -> Option<&Subscription<G, B>> {
        self.subscriptions.iter().find(|sub| **sub.channel() == *channel)
    }

    /// Ends a subscription; others are told before the next command runs.
    fn leave(&mut self, channel: &str) {
        let Some(index) = self.subscriptions.iter().position(|sub| **sub.channel() == *channel) else {
            return;
        };
        let gone = self.subscriptions.swap_remove(index);
        if let Some(member) = &self.member {
            self.running = farewell(&self.hub, member, std::slice::from_ref(&gone));
        }
    }

    fn start(&mut self, id: u32, future: impl Future<Output = Outcome<G, B>> + Send + 'static) {
        self.running = Some(Running { future: Box::pin(future), id, opening: None, overdue_at: None });
    }

    fn answer(&mut self, reply: &str) {
        if !self.replies.is_empty() {
            self.replies.push('\n');
        }
        self.replies.push_str(reply);
    }

    fn refuse(&mut self, id: u32, error: &ErrorReply) {
        self.answer(&wire::error_reply(id, error));
    }

    fn end(&mut self, why: Disconnect) {
        self.begin_closing(End::Ours(why));
    }

    /// Takes in what a command came to.
    pub(super) fn conclude(&mut self, running: Running<G, B>, outcome: Outcome<G, B>) {
        if running.overdue_at.is_some() && self.is_open() {
            self.connection.set_command_deadline(None);
        }
        match outcome {
            Outcome::Done => {}
            Outcome::Reply(reply) => self.answer(&reply),
            Outcome::End(why) => self.end(why),
            Outcome::ConnectRefused(reply) => {
                self.has_failed_connect = true;
                self.answer(&reply);
                self.connection.drop_held();
            }
            Outcome::Connected(connected) => self.take_seat(*connected),
            Outcome::Subscribed { subscription, reply, caught } => {
                self.flush_replies();
                let channel = Arc::clone(subscription.channel());
                self.connection.release(Some(text_frame(&[reply.as_bytes()])), &[(channel, caught)]);
                if let Some(member) = &self.member {
                    self.running = greeting(&self.hub, member, std::slice::from_ref(&subscription));
                }
                self.subscriptions.push(subscription);
                self.watch_subscriptions();
            }
            Outcome::SubscribeRefused { channel, reply } => {
                self.answer(&reply);
                self.connection.release(None, &[(channel, Caught::Nothing)]);
            }
            Outcome::Refreshed { channels, .. } if !self.has_server_channels(&channels) => {
                self.end(Disconnect::FORCE_RECONNECT);
            }
            Outcome::Refreshed { member, expires_at, reply, .. } => {
                self.connection.set_expiry(expires_at);
                self.member = Some(member);
                self.answer(&reply);
            }
            Outcome::SubscriptionRefreshed { channel, expires_at, reply } => {
                if let Some(sub) = self.subscriptions.iter_mut().find(|sub| **sub.channel() == *channel) {
                    sub.expires_at = expires_at;
                }
                self.watch_subscriptions();
                self.answer(&reply);
            }
        }
    }

    /// True if these are just the server-side subscriptions of the connection.
    fn has_server_channels(&self, channels: &[ServerChannel]) -> bool {
        let here = self.subscriptions.iter().filter(|sub| sub.is_server_side);
        let is_named = |sub: &Subscription<G, B>| channels.iter().any(|channel| *channel.name == **sub.channel());
        let is_here = |channel: &ServerChannel| self.subscription(&channel.name).is_some_and(|sub| sub.is_server_side);
        here.into_iter().all(is_named) && channels.iter().all(is_here)
    }

    /// The client is connected from here on.
    fn take_seat(&mut self, connected: Connected<G, B>) {
        let Connected { member, expires_at, subscriptions, reply, caught } = connected;
        self.flush_replies();
        self.connection.start_pings(self.hub.wheel.now(), &self.hub.pace);
        self.connection.set_expiry(expires_at);
        self.connection.release(Some(text_frame(&[reply.as_bytes()])), &caught);
        self.running = greeting(&self.hub, &member, &subscriptions);
        self.subscriptions = subscriptions;
        self.member = Some(member);
    }

    fn watch_subscriptions(&self) {
        self.connection.set_subscription_expiry(self.subscriptions.iter().filter_map(|sub| sub.expires_at).min());
    }

    /// Acts on what others want of this connection.
    pub(super) fn heed(&mut self, notice: Notice) {
        match notice {
            Notice::Lost(channel) => match self.subscription(&channel).map(|sub| sub.is_server_side) {
                Some(true) => self.end(Disconnect::INSUFFICIENT_STATE),
                Some(false) => self.take_away(&channel, Unsubscribe::INSUFFICIENT_STATE),
                None => {}
            },
            Notice::Revoked(channel) => {
                if self.subscription(&channel).is_some() {
                    self.take_away(&channel, Unsubscribe::SERVER);
                }
            }
            Notice::SubscriptionExpired => {
                let grace_s = self.hub.pace.expired_close_delay_s;
                let now = self.hub.gate.now_unix_s();
                let is_over = |sub: &&Subscription<G, B>| sub.expires_at.is_some_and(|at| now >= at + grace_s);
                if let Some(channel) = self.subscriptions.iter().find(is_over).map(|sub| Arc::clone(sub.channel())) {
                    self.take_away(&channel, Unsubscribe::EXPIRED);
                    // One at a time; perhaps there are more.
                    self.notices.push_back(Notice::SubscriptionExpired);
                }
                self.watch_subscriptions();
            }
            // It was about a command that is done by now.
            Notice::CommandOverdue => {}
        }
    }

    fn take_away(&mut self, channel: &Arc<str>, why: Unsubscribe) {
        self.flush_replies();
        self.leave(channel);
        self.connection.reply(why.frame(channel));
    }

    /// Gives up on the running command if its time is over. True if it was.
    pub(super) fn heed_overdue(&mut self) -> bool {
        let Some(index) = self.notices.iter().position(|notice| matches!(notice, Notice::CommandOverdue)) else {
            return false;
        };
        self.notices.remove(index);
        // The notice may be about a command that was done in the meantime, and this is the next one.
        let now = self.hub.wheel.now();
        let Some(running) = self.running.take_if(|running| running.overdue_at.is_some_and(|at| now >= at)) else {
            return false;
        };
        tracing::warn!(command.id = running.id, "a command took too long");
        if self.member.is_none() {
            self.end(Disconnect::SERVER_ERROR);
            return true;
        }
        // The future gives up its place in the channel before what was held for it is dropped.
        drop(running.future);
        if let Some(channel) = running.opening {
            self.connection.release(None, &[(channel, Caught::Nothing)]);
        }
        if running.id > 0 {
            self.refuse(running.id, &ErrorReply::INTERNAL);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<Option<u32>> {
        let mut batch = Batch::new(text.to_owned());
        let next =
            || batch.next().map(|parsed| if let Parsed::Command(command) = parsed { Some(command.id) } else { None });
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_message_is_split_at_line_breaks() {
        assert_eq!(ids("{\"id\":1,\"ping\":{}}\n{}\r\n\n{\"id\":2}\n"), [Some(1), Some(0), Some(2)]);
        assert_eq!(ids("{\"id\":1}\nnonsense"), [Some(1), None]);
        assert_eq!(ids(""), [None], "a message without commands is garbage");
        assert_eq!(ids("\n \n"), [None]);
        assert_eq!(ids("{\"id\":-1}"), [None]);
    }

    #[test]
    fn repeated_ids_are_told_even_out_of_order() {
        let mut seen = SeenIds::default();
        for id in [1, 3, 2, 60, 59] {
            assert!(seen.insert(id), "{id}");
        }
        for id in [1, 3, 2, 60, 59] {
            assert!(!seen.insert(id), "{id}");
        }
        assert!(seen.insert(u32::MAX) && !seen.insert(u32::MAX));
    }
}
