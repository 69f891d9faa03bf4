//! What the rest of the node sees of a connection: a bounded queue of frames, and a few deadlines.
//!
//! **Invariant:** nobody who puts something here waits. A full queue ends the connection instead.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;

use super::code::{Disconnect, Unsubscribe};
use super::config::RealtimeConfig;
use super::wheel::Tick;
use super::wire;

/// Key of a connection on this node.
pub(super) type ConnectionId = u64;

/// Whose connection this is, once it is connected.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) user: Arc<str>,
    pub(super) session: Arc<str>,
    pub(super) municipality: Arc<str>,
}

/// Something for the session to act on that is not a frame.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// Publications of this channel are gone.
    Lost(Arc<str>),
    /// The right to this channel ended.
    Revoked(Arc<str>),
    /// Some subscription ran out.
    SubscriptionExpired,
    /// The running command takes too long.
    CommandOverdue,
}

/// A frame that came while a subscribe or connect command was still running.
struct Held {
    channel: Arc<str>,
    /// `None`: a frame without position.
    position: Option<u64>,
    frame: Bytes,
}

/// How far a channel got by the reply that ends a hold.
pub(super) enum Caught {
    /// Up to and including this position.
    UpTo(u64),
    /// The channel has no positions: everything held is news.
    Live,
    /// The subscription failed: nothing of it may be sent.
    Nothing,
}

/// Ticks at which something is overdue.
#[derive(Debug, Default)]
struct Deadlines {
    connect_by: Option<Tick>,
    ping_at: Option<Tick>,
    pong_by: Option<Tick>,
    command_by: Option<Tick>,
    close_by: Option<Tick>,
    /// Unix seconds.
    expires_at: Option<i64>,
    /// The earliest of the subscriptions. Unix seconds.
    subscription_expires_at: Option<i64>,
}

#[derive(Default)]
struct Outbox {
    frames: Vec<Bytes>,
    held: Option<Vec<Held>>,
    /// Bytes not yet written, in `frames`, in `held` and in the hands of the session.
    n_bytes: usize,
    /// Bytes of replies among them: a client may ask for more than publications may pile up.
    n_allowed: usize,
    notices: Vec<Notice>,
    closing: Option<Disconnect>,
    is_aborted: bool,
    waker: Option<Waker>,
    /// The session waits for the socket: more frames do not help it.
    is_blocked: bool,
    deadlines: Deadlines,
}

/// One connection, as shared by its session, the registry and the roster.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    queue_bytes_max: usize,
    who: OnceLock<Who>,
    outbox: Mutex<Outbox>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the session finds when it looks after its orders.
pub(super) struct Orders {
    pub(super) closing: Option<Disconnect>,
    pub(super) is_aborted: bool,
    pub(super) notices: Vec<Notice>,
    pub(super) frames: Vec<Bytes>,
}

/// Lengths of the intervals, in ticks, and of the grace after an expiry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) ping_interval: Tick,
    pub(super) pong_timeout: Tick,
    pub(super) ticks_per_s: Tick,
    pub(super) expired_close_delay_s: i64,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, config: &RealtimeConfig, connect_by: Tick) -> Self {
        let deadlines = Deadlines { connect_by: Some(connect_by), ..Deadlines::default() };
        Self {
            id,
            queue_bytes_max: config.queue_bytes_max,
            who: OnceLock::new(),
            outbox: Mutex::new(Outbox { deadlines, ..Outbox::default() }),
        }
    }

    pub(super) fn who(&self) -> Option<&Who> {
        self.who.get()
    }

    /// Names the owner; once per connection.
    pub(super) fn identify(&self, who: Who) {
        let _ = self.who.set(who);
    }

    /// Queues a frame of a channel, or ends the connection if too much is queued already.
    pub(super) fn push(&self, channel: &Arc<str>, position: Option<u64>, frame: &Bytes) {
        let mut outbox = self.lock();
        if outbox.closing.is_some() {
            return;
        }
        let n_bytes = outbox.n_bytes + frame.len();
        // A frame above the limit still reaches a client that has nothing else to read.
        if outbox.n_bytes > outbox.n_allowed && n_bytes > self.queue_bytes_max + outbox.n_allowed {
            outbox.frames = Vec::new();
            outbox.held = None;
            outbox.closing = Some(Disconnect::SLOW);
            return wake(outbox);
        }
        outbox.n_bytes = n_bytes;
        if let Some(held) = &mut outbox.held {
            held.push(Held { channel: Arc::clone(channel), position, frame: frame.clone() });
            return;
        }
        outbox.frames.push(frame.clone());
        if !outbox.is_blocked {
            wake(outbox);
        }
    }

    /// Queues a frame that answers the client, without limit: commands are not read while it waits.
    pub(super) fn reply(&self, frame: Bytes) {
        let mut outbox = self.lock();
        if outbox.closing.is_none() {
            outbox.add_reply(frame);
        }
    }

    /// From here on frames of channels wait for [`Connection::release`], so that a reply comes first.
    pub(super) fn hold(&self) {
        self.lock().held.get_or_insert_default();
    }

    /// Queues the reply, and after it what was held and is news to the client.
    pub(super) fn release(&self, reply: Option<Bytes>, caught: &[(Arc<str>, Caught)]) {
        let mut outbox = self.lock();
        let held = outbox.held.take().unwrap_or_default();
        if outbox.closing.is_some() {
            return;
        }
        if let Some(reply) = reply {
            outbox.add_reply(reply);
        }
        for Held { channel, position, frame } in held {
            let is_news = match caught.iter().find(|(name, _)| *name == channel).map(|(_, caught)| caught) {
                None | Some(Caught::Live) => true,
                Some(Caught::UpTo(top)) => position.is_none_or(|position| position > *top),
                Some(Caught::Nothing) => false,
            };
            if is_news {
                outbox.frames.push(frame);
            } else {
                outbox.n_bytes -= frame.len();
            }
        }
    }

    /// What was held is of no use: the channels were not opened after all.
    pub(super) fn drop_held(&self) {
        let mut outbox = self.lock();
        for held in outbox.held.take().unwrap_or_default() {
            outbox.n_bytes -= held.frame.len();
        }
    }

    /// Ends the connection; the first reason counts.
    pub(super) fn close(&self, why: Disconnect) {
        let mut outbox = self.lock();
        if outbox.closing.is_none() {
            outbox.closing = Some(why);
            wake(outbox);
        }
    }

    pub(super) fn notify(&self, notice: Notice) {
        let mut outbox = self.lock();
        outbox.notices.push(notice);
        wake(outbox);
    }

    /// What there is to do for the session; `n_written` bytes of earlier frames are gone.
    pub(super) fn take(&self, n_written: usize, wants_frames: bool) -> Orders {
        let mut outbox = self.lock();
        outbox.wrote(n_written);
        Orders {
            closing: outbox.closing,
            is_aborted: outbox.is_aborted,
            notices: std::mem::take(&mut outbox.notices),
            frames: if wants_frames { std::mem::take(&mut outbox.frames) } else { Vec::new() },
        }
    }

    /// Queues the last frames of a connection, behind what is queued already.
    pub(super) fn finish_with(&self, frames: impl Iterator<Item = Bytes>, close_by: Tick) {
        let mut outbox = self.lock();
        outbox.closing.get_or_insert(Disconnect::CLOSED);
        outbox.held = None;
        outbox.frames.extend(frames);
        outbox.deadlines = Deadlines { close_by: Some(close_by), ..Deadlines::default() };
    }

    /// The session goes to sleep unless there is something left to do, which it says by `false`.
    pub(super) fn sleep(&self, waker: &Waker, is_closing: bool, is_blocked: bool, n_written: usize) -> bool {
        let mut outbox = self.lock();
        outbox.wrote(n_written);
        let has_orders = !outbox.notices.is_empty() || outbox.is_aborted || (outbox.closing.is_some() && !is_closing);
        if has_orders || (!is_blocked && !outbox.frames.is_empty()) {
            return false;
        }
        outbox.is_blocked = is_blocked;
        if !outbox.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            outbox.waker = Some(waker.clone());
        }
        true
    }

    /// True if so much waits to be read by the client that it should not ask for more.
    pub(super) fn is_congested(&self) -> bool {
        self.lock().n_bytes > self.queue_bytes_max / 2
    }

    /// The client is connected: pings begin, the first one between half an interval and a whole one.
    pub(super) fn start_pings(&self, now: Tick, pace: &Pace) {
        let spread = self.id % (pace.ping_interval / 2).max(1);
        let deadlines = &mut self.lock().deadlines;
        deadlines.connect_by = None;
        deadlines.ping_at = Some(now + pace.ping_interval / 2 + spread);
    }

    /// False if no ping was waiting for this.
    pub(super) fn pong(&self) -> bool {
        self.lock().deadlines.pong_by.take().is_some()
    }

    pub(super) fn set_expiry(&self, expires_at: Option<i64>) {
        self.lock().deadlines.expires_at = expires_at;
    }

    pub(super) fn set_subscription_expiry(&self, expires_at: Option<i64>) {
        self.lock().deadlines.subscription_expires_at = expires_at;
    }

    pub(super) fn set_command_deadline(&self, by: Option<Tick>) {
        self.lock().deadlines.command_by = by;
    }

    /// Acts on what is overdue. Returns when to look again at the latest.
    pub(super) fn visit(&self, now: Tick, now_unix_s: i64, pace: &Pace) -> Tick {
        let mut outbox = self.lock();
        let due = outbox.deadlines.take_due(now, now_unix_s, pace);
        let next = outbox.deadlines.next(now, now_unix_s, pace);
        let mut wants_waking = due.is_over || !due.notices.is_empty();
        outbox.is_aborted |= due.is_over;
        outbox.notices.extend(due.notices);
        if let (Some(why), None) = (due.ends, outbox.closing) {
            outbox.closing = Some(why);
            wants_waking = true;
        }
        if due.wants_ping && outbox.closing.is_none() {
            let ping = wire::ping_frame();
            outbox.n_bytes += ping.len();
            outbox.frames.push(ping);
            wants_waking |= !outbox.is_blocked;
        }
        if wants_waking {
            wake(outbox);
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at the deadlines finds.
#[derive(Default)]
struct Due {
    /// The peer had its time for the closing handshake.
    is_over: bool,
    ends: Option<Disconnect>,
    wants_ping: bool,
    notices: Vec<Notice>,
}

impl Deadlines {
    fn take_due(&mut self, now: Tick, now_unix_s: i64, pace: &Pace) -> Due {
        let is_due = |by: Option<Tick>| by.is_some_and(|by| now >= by);
        let is_expired = |at: Option<i64>| at.is_some_and(|at| now_unix_s >= at + pace.expired_close_delay_s);
        let mut due = Due { is_over: is_due(self.close_by), ..Due::default() };
        due.ends = if is_due(self.connect_by) {
            Some(Disconnect::STALE)
        } else if self.pong_by.is_some_and(|by| now > by + pace.pong_timeout / 2) {
            // Nobody looked for that long: it was us who stood still, and the answer may lie unread.
            self.pong_by = Some(now + pace.pong_timeout);
            None
        } else if is_due(self.pong_by) {
            Some(Disconnect::NO_PONG)
        } else if is_expired(self.expires_at) {
            Some(Disconnect::EXPIRED)
        } else {
            None
        };
        if is_due(self.command_by) {
            self.command_by = None;
            due.notices.push(Notice::CommandOverdue);
        }
        if is_expired(self.subscription_expires_at) {
            self.subscription_expires_at = None;
            due.notices.push(Notice::SubscriptionExpired);
        }
        if is_due(self.ping_at) {
            self.pong_by = Some(now + pace.pong_timeout);
            self.ping_at = Some(now + pace.ping_interval);
            due.wants_ping = true;
        }
        due
    }

    /// The next thing to happen, but not later than an interval from now: the clock on the wall,
    /// which tells what has expired, may be set.
    fn next(&self, now: Tick, now_unix_s: i64, pace: &Pace) -> Tick {
        let expires_at = [self.expires_at, self.subscription_expires_at].into_iter().flatten().min();
        let expiry = expires_at.map(|at| {
            let left_s = (at + pace.expired_close_delay_s - now_unix_s).max(0).unsigned_abs();
            now.saturating_add(left_s.saturating_mul(pace.ticks_per_s))
        });
        let all = [self.connect_by, self.ping_at, self.pong_by, self.close_by, expiry];
        let earliest = all.into_iter().flatten().min().unwrap_or(Tick::MAX);
        earliest.clamp(now + 1, now + pace.ping_interval)
    }
}

impl Outbox {
    fn add_reply(&mut self, frame: Bytes) {
        self.n_bytes += frame.len();
        self.n_allowed += frame.len();
        self.frames.push(frame);
    }

    fn wrote(&mut self, n: usize) {
        self.n_bytes = self.n_bytes.saturating_sub(n);
        self.n_allowed = self.n_allowed.min(self.n_bytes);
    }
}

/// Wakes after unlocking: the session's first act is to take this lock.
fn wake(mut outbox: MutexGuard<'_, Outbox>) {
    let waker = outbox.waker.take();
    drop(outbox);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Unsubscribe {
    /// The push that tells the client.
    pub(super) fn frame(self, channel: &str) -> Bytes {
        wire::unsubscribe_frame(channel, self.code, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { ping_interval: 100, pong_timeout: 40, ticks_per_s: 4, expired_close_delay_s: 2 };

    fn connection(queue_bytes_max: usize) -> Connection {
        let config = RealtimeConfig { queue_bytes_max, ..RealtimeConfig::default() };
        Connection::new(7, &config, 40)
    }

    fn closing(connection: &Connection) -> Option<Disconnect> {
        connection.take(0, false).closing
    }

    #[test]
    fn a_client_that_does_not_read_is_cut_and_its_frames_are_dropped() {
        let connection = connection(100);
        let channel: Arc<str> = "a".into();
        let frame = Bytes::from(vec![0; 60]);
        connection.push(&channel, Some(1), &frame);
        assert_eq!(closing(&connection), None);
        connection.push(&channel, Some(2), &frame);
        assert_eq!(closing(&connection), Some(Disconnect::SLOW));
        assert!(connection.take(0, true).frames.is_empty());
    }

    #[test]
    fn what_a_client_asked_for_does_not_count_against_it() {
        let connection = connection(100);
        let channel: Arc<str> = "a".into();
        connection.reply(Bytes::from(vec![0; 1_000]));
        connection.push(&channel, Some(1), &Bytes::from(vec![0; 200]));
        assert_eq!(closing(&connection), None, "one frame always passes");
        connection.push(&channel, Some(2), &Bytes::from(vec![0; 1]));
        assert_eq!(closing(&connection), Some(Disconnect::SLOW));
    }

    #[test]
    fn held_frames_follow_the_reply_without_repeats() {
        let connection = connection(1_000);
        let (a, b, c): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "b".into(), "c".into());
        connection.hold();
        for (channel, position) in [(&a, 3), (&b, 9), (&a, 4), (&c, 1)] {
            connection.push(channel, Some(position), &Bytes::from(format!("{channel}{position}")));
        }
        connection.push(&a, None, &Bytes::from_static(b"a-"));
        connection.release(Some("reply".into()), &[(Arc::clone(&a), Caught::UpTo(3)), (c, Caught::Nothing)]);
        assert_eq!(connection.take(0, true).frames, ["reply", "b9", "a4", "a-"]);
        connection.push(&a, Some(5), &Bytes::from_static(b"a5"));
        assert_eq!(connection.take(0, true).frames, ["a5"]);
    }

    #[test]
    fn deadlines_end_a_connection_with_their_codes() {
        let stale = connection(100);
        assert_eq!(stale.visit(39, 0, &PACE), 40);
        assert_eq!(closing(&stale), None);
        stale.visit(40, 0, &PACE);
        assert_eq!(closing(&stale), Some(Disconnect::STALE));

        let half_open = connection(100);
        half_open.start_pings(0, &PACE);
        let ping_at = half_open.visit(0, 0, &PACE);
        assert_eq!(ping_at, 57, "between half an interval and a whole one");
        assert!(!half_open.pong(), "nothing was asked yet");
        assert_eq!(half_open.visit(ping_at, 0, &PACE), ping_at + 40);
        assert_eq!(half_open.take(0, true).frames.len(), 1);
        assert!(half_open.pong());
        let ping_at = half_open.visit(ping_at + 40, 0, &PACE);
        half_open.visit(ping_at, 0, &PACE);
        half_open.visit(ping_at + 40, 0, &PACE);
        assert_eq!(closing(&half_open), Some(Disconnect::NO_PONG));

        let expiring = connection(100);
        expiring.start_pings(0, &PACE);
        expiring.set_expiry(Some(1_000));
        assert_eq!(expiring.visit(0, 1_000, &PACE), 8, "two seconds of grace");
        expiring.visit(8, 1_002, &PACE);
        assert_eq!(closing(&expiring), Some(Disconnect::EXPIRED));
    }
}
