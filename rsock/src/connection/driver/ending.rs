//! The end of a connection: everything pending fails, the last words leave, and the peer's end is
//! waited for.

use std::{
    io,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rsock_proto::{CloseReason, Fragmented, SendBuf};

use super::{
    Driver, READ_SIZES, drop_guarded, failing::Failing, log_end, session::Session, slots::Slot,
};
use crate::{
    connection::{budget::Budget, producers::Producer},
    transport::Received,
};

/// How long the last words to a peer that broke the protocol may take to leave.
pub(super) const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// How long a peer may take nothing of what is left at a regular end.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait for the peer to close after us, so that what we sent is not reset away; and for
/// the end of what it has sent, where nothing can be written any more.
pub(super) const LINGER_LIMIT: Duration = Duration::from_millis(200);

/// ```text
/// Running ──connection closed──▶ Flushing ──all written──▶ Lingering ──peer closes, time is up──▶ end
/// Running ──transport gone─────────────────────────────────────────────────────────────────────▶ end
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Phase {
    #[default]
    Running,
    Flushing {
        until: Instant,
    },
    Lingering {
        until: Instant,
    },
}

/// The end of a connection, and of what hangs on it.
#[derive(Default)]
pub(super) struct Ending {
    pub(super) phase: Phase,
    /// It ended as the application, or the peer's, wanted it.
    pub(super) is_regular: bool,
    /// The calls of a connection that is over, or of a session before this one, which are being
    /// ended: three of them at most.
    pub(super) failing: Vec<Failing>,
    /// Fire-and-forgets that were said to be on their way and are not: to be counted.
    pub(super) lost: u64,
}

impl Driver {
    /// Ends a connection that drains when nothing is open on it but feeds that never end.
    #[cold]
    pub(super) fn end_behind_feeds(&mut self) {
        let is_endless = |slot: &&Slot| {
            slot.key.is_some()
                && matches!(&slot.producer, Some(Producer::Feed(feed)) if feed.is_endless())
        };
        let endless = self.slots.entries.iter().filter(is_endless).count();
        if endless > 0 && endless == self.connection.open_streams() {
            self.connection.close();
        }
    }

    /// The connection is over: everything pending on it ends with the reason.
    pub(super) fn end(&mut self, reason: &CloseReason, now: Instant) {
        self.close_mailbox(reason);
        // The token is free, or at least nobody's who would answer for it.
        if self.session.claim().is_some() {
            self.session = Session::None;
        }
        self.admission.newcomer = None;
        self.serving.lease = None;
        self.ending.is_regular = matches!(reason, CloseReason::Finished(_));
        if let Some(pushes) = &mut self.serving.pushes {
            pushes.end();
        }
        drop_guarded(self.admission.accepting.take());
        drop_guarded(self.serving.responder.take());
        if self.wire.unreachable {
            self.ending.phase = Phase::Lingering { until: now };
        }
        let fragmented = self.ended_behind();
        log_end(&self.options, &self.mailbox, &mut self.wire, reason, fragmented);
        self.count_lost();
    }

    /// The payload in fragments for which the peer may have ended the connection. One that has taken all
    /// it had asked for and closes has probably done what it wanted to.
    pub(super) fn ended_behind(&self) -> Option<Fragmented> {
        let is_done = |fragmented: &Fragmented| {
            !(fragmented.is_request || fragmented.is_pending || self.wire.is_reset)
        };
        self.connection.ended_behind().filter(|fragmented| !is_done(fragmented))
    }

    /// After the end: write what is left, close our side, wait a moment for the peer's.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if let Phase::Flushing { until } = self.ending.phase {
            let is_hurried = self.mailbox.is_hurried(cx.waker());
            let until = if is_hurried { until.min(now + FLUSH_LIMIT) } else { until };
            let waiting = self.wire.output.len();
            let flushed = match self.wire.write(cx) {
                Poll::Ready(Ok(())) => self.wire.shut_down(cx).map(|_| None),
                Poll::Ready(Err(error)) => Poll::Ready(Some(error)),
                Poll::Pending if now < until => Poll::Pending,
                Poll::Pending => {
                    let left = self.wire.output.len();
                    let text = format!("the peer did not take the last {left} bytes");
                    Poll::Ready(Some(io::Error::new(io::ErrorKind::TimedOut, text)))
                }
            };
            match flushed {
                Poll::Ready(None) => {
                    self.ending.phase = Phase::Lingering { until: now + LINGER_LIMIT };
                }
                Poll::Ready(Some(error)) => {
                    if self.ending.is_regular {
                        self.mailbox.cut_short(CloseReason::Io(error.into()));
                    }
                    // Nobody is there to linger for, and nothing is tried again.
                    self.ending.phase = Phase::Lingering { until: now };
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    let progress =
                        self.ending.is_regular && !is_hurried && self.wire.output.len() < waiting;
                    let until = if progress { now + STALL_LIMIT } else { until };
                    self.ending.phase = Phase::Flushing { until };
                    // A peer that waits for us to read would never read either.
                    let _ = self.discard(cx);
                    return self.alarm.poll_timer(cx, until);
                }
            }
        }
        let Phase::Lingering { until } = self.ending.phase else { return Poll::Pending };
        if now >= until || self.discard(cx).is_ready() {
            return Poll::Ready(());
        }
        self.alarm.poll_timer(cx, until)
    }

    /// Reads and forgets what the peer still sends; ready when it has closed its side.
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // It may have come before the end.
        self.hear_refusal();
        let mut budget = Budget::new();
        while budget.take() {
            let bytes = self.wire.input.bytes();
            // Of what may be a refusal, the first part may have come before.
            if !self.connection.may_be_refused() || bytes.len() >= *READ_SIZES.start() {
                bytes.clear();
            }
            bytes.reserve(*READ_SIZES.start());
            match ready!(self.wire.read(cx)) {
                Ok(1..) => self.hear_refusal(),
                _ => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A server may refuse what was closed before it had said anything: what was sent was in vain.
    fn hear_refusal(&mut self) {
        let limits = self.connection.input_limits();
        while self.connection.may_be_refused() {
            let bytes = self.wire.input.bytes();
            // Nothing is answered any more.
            match self.wire.framing.decode(bytes, limits, &mut SendBuf::bare()) {
                Ok(Some(Received::Frame(frame))) => {
                    if let Some(reason) = self.connection.handle_late_frame(frame) {
                        self.mailbox.cut_short(reason);
                        self.ending.lost += self.connection.take_lost_fire_and_forgets();
                        self.count_lost();
                    }
                }
                Ok(Some(Received::Control | Received::Pong)) => {}
                _ => return,
            }
        }
    }
}
