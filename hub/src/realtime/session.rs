//! One connection: reads messages, runs their commands one after the other, writes what is queued.
//!
//! Written as one future by hand: it must read, write and run a command at the same time, in one
//! task, and be small while it does none of them.

use std::collections::VecDeque;
use std::future::Future;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::broker::Broker;

use super::channel::Subscription;
use super::code::Disconnect;
use super::command::{Member, Outcome, farewell};
use super::connection::{Connection, Notice};
use super::dispatch::{Batch, SeenIds};
use super::frame::{Decoder, Incoming, close_frame, pong_frame, text_frame};
use super::gate::Gate;
use super::wheel::{Tick, Visit};
use super::{Realtime, metric};

/// Read at once, on the stack. Bytes.
const READ_BYTES: usize = 4_096;
/// Frames in one system call.
const WRITE_FRAMES_MAX: usize = 64;
/// Rounds without giving other connections a turn.
const ROUNDS_MAX: usize = 16;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Our close frame is queued; the peer's is awaited.
    Closing,
    /// The peer is done; ends as soon as everything is written.
    Ending,
}

/// How a connection comes to its end.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Ours(Disconnect),
    /// The peer sent a close frame.
    Peer(Option<u16>),
    /// The socket is of no more use.
    Gone,
}

/// A command, or what follows one, that could not be finished at once.
pub(super) struct Running<G: Gate, B: Broker> {
    pub(super) future: Pin<Box<dyn Future<Output = Outcome<G, B>> + Send>>,
    /// 0: not a command.
    pub(super) id: u32,
    /// The channel of a subscribe command.
    pub(super) opening: Option<Arc<str>>,
    /// When it has taken too long; none until it had to wait.
    pub(super) overdue_at: Option<Tick>,
}

/// The task of one connection.
pub(super) struct Session<IO, G: Gate, B: Broker> {
    io: IO,
    pub(super) hub: Arc<Realtime<G, B>>,
    pub(super) connection: Arc<Connection>,
    stage: Stage,
    decoder: Decoder,
    /// What came in with the upgrade request.
    read_ahead: Bytes,
    /// Nothing more can be understood, or nothing more comes.
    is_deaf: bool,
    is_shut: bool,
    is_dead: bool,
    /// Commands wait until the client has read what it asked for before.
    is_stalled: bool,
    needs_flush: bool,
    inbox: VecDeque<Incoming>,
    pub(super) batch: Option<Batch>,
    pub(super) notices: VecDeque<Notice>,
    pub(super) running: Option<Running<G, B>>,
    /// Replies to be sent in one frame.
    pub(super) replies: String,
    out: Vec<Bytes>,
    out_next: usize,
    is_partial: bool,
    n_written: usize,
    pub(super) seen_ids: SeenIds,
    pub(super) has_failed_connect: bool,
    pub(super) member: Option<Arc<Member<G>>>,
    pub(super) subscriptions: Vec<Subscription<G, B>>,
}

impl<IO, G: Gate, B: Broker> Session<IO, G, B> {
    pub(super) fn new(io: IO, read_ahead: Bytes, hub: Arc<Realtime<G, B>>, connection: Arc<Connection>) -> Self {
        let decoder = Decoder::new(hub.config.frame_bytes_max);
        Self {
            io,
            hub,
            connection,
            stage: Stage::Open,
            decoder,
            read_ahead,
            is_deaf: false,
            is_shut: false,
            is_dead: false,
            is_stalled: false,
            needs_flush: false,
            inbox: VecDeque::new(),
            batch: None,
            notices: VecDeque::new(),
            running: None,
            replies: String::new(),
            out: Vec::new(),
            out_next: 0,
            is_partial: false,
            n_written: 0,
            seen_ids: SeenIds::default(),
            has_failed_connect: false,
            member: None,
            subscriptions: Vec::new(),
        }
    }

    /// Leaves everything, and queues the close frame if there is somebody to read it.
    pub(super) fn begin_closing(&mut self, end: End) {
        if self.stage != Stage::Open {
            return;
        }
        let why = if let End::Ours(why) = end { why } else { Disconnect::CLOSED };
        metrics::counter!(metric::DISCONNECTS, "code" => why.code().to_string()).increment(1);
        self.hub.roster.remove(&self.connection);
        self.running = None;
        self.batch = None;
        self.inbox = VecDeque::new();
        self.notices.clear();
        let subscriptions = std::mem::take(&mut self.subscriptions);
        if let Some(member) = &self.member {
            self.running = farewell(&self.hub, member, &subscriptions);
        }
        drop(subscriptions);
        let close_by = self.hub.wheel.now() + self.hub.wheel.ticks(self.hub.config.close_timeout_s);
        let frame = match end {
            End::Ours(Disconnect::CLOSED) | End::Gone => {
                self.is_dead = true;
                None
            }
            End::Ours(why) => Some(close_frame(Some((why.code(), why.reason())))),
            End::Peer(code) => Some(close_frame(code.map(|code| (code, "")))),
        };
        self.stage = if matches!(end, End::Ours(_)) && !self.is_dead { Stage::Closing } else { Stage::Ending };
        if why == Disconnect::SLOW {
            // A begun frame must be finished, or the close frame would be taken for a part of it.
            self.out.truncate(self.out_next + usize::from(self.is_partial));
            self.replies.clear();
        }
        let replies = std::mem::take(&mut self.replies);
        let replies = (!replies.is_empty()).then(|| text_frame(&[replies.as_bytes()]));
        self.connection.finish_with(replies.into_iter().chain(frame), close_by);
        self.hub.wheel.look_at(Arc::downgrade(&self.connection), close_by, Visit::Extra);
    }

    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Runs commands as far as they go. True if anything happened.
    fn work(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_moved = false;
        loop {
            if let Some(running) = &mut self.running {
                let Poll::Ready(outcome) = running.future.as_mut().poll(cx) else {
                    self.wait_for_command();
                    if self.is_open() && self.heed_overdue() {
                        has_moved = true;
                        continue;
                    }
                    return has_moved;
                };
                let running = self.running.take();
                has_moved = true;
                if let Some(running) = running {
                    self.conclude(running, outcome);
                }
                continue;
            }
            if !self.is_open() {
                return has_moved;
            }
            if let Some(notice) = self.notices.pop_front() {
                self.heed(notice);
                has_moved = true;
                continue;
            }
            if self.batch.is_none() && self.inbox.is_empty() {
                self.flush_replies();
                return has_moved;
            }
            if self.connection.is_congested() {
                self.flush_replies();
                self.is_stalled = true;
                return has_moved;
            }
            has_moved = true;
            match self.batch.as_mut().map(Batch::next) {
                Some(Some(command)) => self.dispatch(command),
                Some(None) => self.batch = None,
                None => self.take_message(),
            }
        }
    }

    fn take_message(&mut self) {
        match self.inbox.pop_front() {
            Some(Incoming::Text(text)) => self.batch = Some(Batch::new(text)),
            Some(Incoming::Ping(payload)) => {
                self.flush_replies();
                self.connection.reply(pong_frame(&payload));
            }
            Some(Incoming::Close(code)) => self.begin_closing(End::Peer(code)),
            Some(Incoming::Pong) => {}
            None => return,
        }
        if self.inbox.is_empty() {
            self.inbox = VecDeque::new();
        }
    }

    pub(super) fn flush_replies(&mut self) {
        if !self.replies.is_empty() {
            self.connection.reply(text_frame(&[self.replies.as_bytes()]));
            self.replies = String::new();
        }
    }

    /// A command waits for something: let its replies go, and do not wait for ever.
    fn wait_for_command(&mut self) {
        if self.stage != Stage::Open {
            return;
        }
        self.flush_replies();
        if let Some(running) = self.running.as_mut().filter(|running| running.overdue_at.is_none()) {
            let by = self.hub.wheel.now() + self.hub.wheel.ticks(self.hub.config.command_timeout_s);
            running.overdue_at = Some(by);
            self.connection.set_command_deadline(Some(by));
            self.hub.wheel.look_at(Arc::downgrade(&self.connection), by, Visit::Extra);
        }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        while !self.is_deaf {
            match self.decoder.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(incoming)) if self.is_open() => self.inbox.push_back(incoming),
                Ok(Some(Incoming::Close(_))) => {
                    self.stage = Stage::Ending;
                    self.is_deaf = true;
                }
                Ok(Some(_)) => {}
                Err(why) => {
                    self.is_deaf = true;
                    self.begin_closing(End::Ours(why));
                }
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, G: Gate, B: Broker> Session<IO, G, B> {
    /// Reads once, if there is nothing to do first. True if anything came.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let is_busy = self.running.is_some() || self.batch.is_some() || !self.inbox.is_empty();
        if self.is_dead || self.stage == Stage::Ending || (self.is_open() && (is_busy || self.is_stalled)) {
            return false;
        }
        if !self.read_ahead.is_empty() {
            let bytes = std::mem::take(&mut self.read_ahead);
            self.hear(&bytes);
            return true;
        }
        let mut space = [const { MaybeUninit::<u8>::uninit() }; READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                self.hear(buffer.filled());
                true
            }
            Poll::Ready(_) => {
                self.begin_closing(End::Gone);
                self.stage = Stage::Ending;
                self.is_dead = true;
                true
            }
        }
    }

    /// Writes what the socket takes. True if it took everything and commands were waiting for that.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.is_dead && self.out_next < self.out.len() {
            match self.write_some(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(n)) if n > 0 => self.advance(n),
                Poll::Ready(_) => {
                    self.begin_closing(End::Gone);
                    self.stage = Stage::Ending;
                    self.is_dead = true;
                }
            }
        }
        self.out = Vec::new();
        self.out_next = 0;
        if self.needs_flush && !self.is_dead {
            self.needs_flush = Pin::new(&mut self.io).poll_flush(cx).is_pending();
        }
        std::mem::take(&mut self.is_stalled)
    }

    fn write_some(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let frames = &self.out[self.out_next..];
        let io = Pin::new(&mut self.io);
        if let [frame] = frames {
            return io.poll_write(cx, frame);
        }
        let mut slices = [IoSlice::new(&[]); WRITE_FRAMES_MAX];
        for (slice, frame) in slices.iter_mut().zip(frames) {
            *slice = IoSlice::new(frame);
        }
        io.poll_write_vectored(cx, &slices[..frames.len().min(WRITE_FRAMES_MAX)])
    }

    fn advance(&mut self, n: usize) {
        self.n_written += n;
        self.needs_flush = true;
        let mut n = n;
        while let Some(frame) = self.out.get_mut(self.out_next) {
            if n < frame.len() {
                frame.advance(n);
                self.is_partial |= n > 0;
                return;
            }
            n -= frame.len();
            // Given back at once: another connection may be the last to hold it.
            *frame = Bytes::new();
            self.out_next += 1;
            self.is_partial = false;
        }
    }

    /// A peer that cannot be understood any more learns that nothing else comes.
    fn shut(&mut self, cx: &mut Context<'_>) {
        let is_written = self.out_next == self.out.len();
        if self.stage == Stage::Closing && self.is_deaf && is_written && !self.is_shut {
            self.is_shut = !Pin::new(&mut self.io).poll_shutdown(cx).is_pending();
        }
    }

    fn is_finished(&self) -> bool {
        let is_written = self.is_dead || self.out_next == self.out.len();
        self.stage == Stage::Ending && is_written && self.running.is_none()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, G: Gate, B: Broker> Future for Session<IO, G, B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        for _ in 0..ROUNDS_MAX {
            let wants_frames = this.out_next == this.out.len();
            let orders = this.connection.take(std::mem::take(&mut this.n_written), wants_frames);
            if orders.is_aborted {
                return Poll::Ready(());
            }
            if wants_frames {
                this.out = orders.frames;
                this.out_next = 0;
            }
            this.notices.extend(orders.notices);
            let mut has_moved = false;
            if let (Some(why), Stage::Open) = (orders.closing, this.stage) {
                this.begin_closing(End::Ours(why));
                has_moved = true;
            }
            has_moved |= this.work(cx);
            has_moved |= this.read(cx);
            has_moved |= this.write(cx);
            if has_moved {
                continue;
            }
            this.shut(cx);
            if this.is_finished() {
                return Poll::Ready(());
            }
            let is_blocked = this.out_next < this.out.len();
            if this.connection.sleep(cx.waker(), !this.is_open(), is_blocked, std::mem::take(&mut this.n_written)) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<IO, G: Gate, B: Broker> Drop for Session<IO, G, B> {
    fn drop(&mut self) {
        // Usually gone since the closing began; not if the task was cut or panicked.
        self.hub.roster.remove(&self.connection);
    }
}
