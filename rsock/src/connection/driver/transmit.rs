//! The way out: what leaves, how a connection ends, and the one timer.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Buf;
use rsock_proto::{CloseReason, SendBuf};
use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    task::coop::has_budget_remaining,
};

use super::{
    Driver, FLUSH_LIMIT, LINGER_LIMIT, Phase, READ_SIZES, STALL_LIMIT, WRITE_SLICES, drop_guarded,
    log_end, now,
};
use crate::{connection::budget::Budget, transport::Received};

impl Driver {
    // ---- what leaves --------------------------------------------------------------------------

    pub(super) fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.connection.wants_output() {
            self.connection.poll_transmit(&mut self.output);
        }
        if !self.unsent_pushes.is_empty() {
            self.answer_pushes();
        }
        if self.write_failure.is_some() {
            // Nobody is left to write to.
            self.output = SendBuf::bare();
            return self.connection.has_events();
        }
        let waiting = self.output.len();
        let written = if waiting > 0 { self.write(cx) } else { Poll::Pending };
        match written {
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(error)) if self.connection.is_over() => {
                self.disconnect(Some(&error), now);
            }
            Poll::Ready(Err(error)) => {
                self.output = SendBuf::bare();
                self.unreachable = true;
                self.write_failure = Some(Box::new((error, now + LINGER_LIMIT)));
                // What has come meanwhile is read.
                return true;
            }
        }
        let wrote = self.output.len() < waiting;
        // After a write there may be room for what did not fit before it.
        let unread = !self.input.block.bytes.is_empty() && self.connection.wants_input();
        let more = wrote && (unread || self.connection.wants_output() || !self.ready.is_empty());
        let closing =
            self.connection.is_closed() && self.phase == Phase::Running && !self.is_renewing();
        if closing && !self.connection.has_events() {
            self.framing.close(&mut self.output);
            let limit = if self.regular_end { STALL_LIMIT } else { FLUSH_LIMIT };
            self.phase = Phase::Flushing { until: now + limit };
        }
        more || closing || self.connection.has_events()
    }

    pub(super) fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.output.is_empty() {
            let io = Pin::new(&mut self.socket);
            let first = self.output.chunk();
            let written = if first.len() == self.output.len() {
                ready!(io.poll_write(cx, first))?
            } else {
                let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
                let count = self.output.chunks_vectored(&mut slices);
                ready!(io.poll_write_vectored(cx, &slices[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// The connection is over: everything pending on it ends with the reason.
    pub(super) fn end(&mut self, reason: &CloseReason, now: Instant) {
        self.close_mailbox(reason);
        // The token is free, or at least nobody's who would answer for it.
        self.claim = None;
        self.newcomer = None;
        self.lease = None;
        self.pushes = VecDeque::new();
        self.regular_end = matches!(reason, CloseReason::Finished(_));
        drop_guarded(self.pushing.take());
        drop_guarded(self.accepting.take());
        drop_guarded(self.responder.take());
        if self.unreachable {
            self.phase = Phase::Lingering { until: now };
        }
        log_end(&self.options, reason);
        self.count_lost();
    }

    /// After the end: write what is left, close our side, wait a moment for the peer's.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if let Phase::Flushing { until } = self.phase {
            let is_hurried = self.mailbox.is_hurried(cx.waker());
            let until = if is_hurried { until.min(now + FLUSH_LIMIT) } else { until };
            let waiting = self.output.len();
            let flushed = match self.write(cx) {
                Poll::Ready(Ok(())) => Pin::new(&mut self.socket).poll_shutdown(cx).map(|_| None),
                Poll::Ready(Err(error)) => Poll::Ready(Some(error.to_string())),
                Poll::Pending if now < until => Poll::Pending,
                Poll::Pending => {
                    let left = self.output.len();
                    Poll::Ready(Some(format!("the peer did not take the last {left} bytes")))
                }
            };
            match flushed {
                Poll::Ready(None) => {
                    self.phase = Phase::Lingering { until: now + LINGER_LIMIT };
                }
                Poll::Ready(Some(error)) => {
                    if self.regular_end {
                        self.mailbox.cut_short(CloseReason::Io(error.into()));
                    }
                    // Nobody is there to linger for, and nothing is tried again.
                    self.phase = Phase::Lingering { until: now };
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    let progress = self.regular_end && !is_hurried && self.output.len() < waiting;
                    let until = if progress { now + STALL_LIMIT } else { until };
                    self.phase = Phase::Flushing { until };
                    // A peer that waits for us to read would never read either.
                    let _ = self.discard(cx);
                    return self.poll_timer(cx, until);
                }
            }
        }
        let Phase::Lingering { until } = self.phase else { return Poll::Pending };
        if now >= until || self.discard(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_timer(cx, until)
    }

    /// Reads and forgets what the peer still sends; ready when it has closed its side.
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // It may have come before the end.
        self.hear_refusal();
        let mut budget = Budget::new();
        while budget.take() {
            let bytes = &mut self.input.block.bytes;
            // Of what may be a refusal, the first part may have come before.
            if !self.connection.may_be_refused() || bytes.len() >= *READ_SIZES.start() {
                bytes.clear();
            }
            bytes.reserve(*READ_SIZES.start());
            match ready!(pin!(self.socket.read_buf(bytes)).poll(cx)) {
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
            let bytes = &mut self.input.block.bytes;
            // Nothing is answered any more.
            match self.framing.decode(bytes, limits, &mut SendBuf::bare()) {
                Ok(Some(Received::Frame(frame))) => {
                    if let Some(reason) = self.connection.handle_late_frame(frame) {
                        self.mailbox.cut_short(reason);
                        self.lost += self.connection.take_lost_fire_and_forgets();
                        self.count_lost();
                    }
                }
                Ok(Some(Received::Control)) => {}
                _ => return,
            }
        }
    }

    // ---- time ---------------------------------------------------------------------------------

    /// Whether the timer wakes this task in time as it is.
    #[inline]
    pub(super) fn is_timed(&self, cx: &Context<'_>, deadline: Instant, now: Instant) -> bool {
        self.armed.is_some_and(|armed| now < armed && armed <= deadline)
            && self.timed.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
    }

    /// Sleeps until `deadline`; ready when it has come. The timer is only moved when it would fire
    /// too late: deadlines mostly move away with every frame.
    #[inline(never)]
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let at = tokio::time::Instant::from_std(deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if self.armed.is_none_or(|armed| armed > deadline) {
            timer.as_mut().reset(at);
            self.armed = Some(deadline);
        }
        // A task that has used up its turn is polled again, and not what the timer wakes.
        self.timed = has_budget_remaining().then(|| cx.waker().clone());
        ready!(timer.as_mut().poll(cx));
        self.armed = None;
        if now() < deadline {
            // It was armed for an earlier deadline.
            timer.as_mut().reset(at);
            self.armed = Some(deadline);
            self.timed = has_budget_remaining().then(|| cx.waker().clone());
            return timer.as_mut().poll(cx);
        }
        Poll::Ready(())
    }
}
