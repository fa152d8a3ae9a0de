//! The driver's turns, and its rest between them.

use std::{
    future::Future,
    mem,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Instant,
};

use tokio::task::yield_now;

use super::{Driver, Phase, now};
use crate::connection::budget::Budget;

/// Bytes written before the sockets are asked again, give or take a turn's: over 500 Mbit/s, 4 ms.
const BYTES_PER_WAKE: u64 = 256 << 10;
/// Bytes read, or yielded by handlers, before others may run: their memory may be new, which costs more
/// than to read them.
const READ_PER_WAKE: usize = 256 << 10;
/// Requests taken before others may run: a peer sends them by the thousand in a single write.
const REQUESTS_PER_WAKE: u64 = 256;

impl Driver {
    /// Whether to let other tasks run before acting on what handles asked for: with several
    /// requests open, those who ask tend to do so together, and one write serves them all.
    fn defers(&mut self) -> bool {
        let defers = !self.waiting.is_deferred
            && self.connection.open_streams() > 1
            && self.mailbox.has_commands();
        self.waiting.is_deferred = defers;
        defers
    }

    /// One turn: hear, read, act, produce, write. False if all that is left to do waits for
    /// something that wakes the task.
    #[inline(always)]
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant, due: bool) -> bool {
        let mut again = due;
        if due {
            self.receive(cx, now);
            self.connection.handle_timeout(now);
        }
        // Before handles are heard: what they open may have the slot of a stream that has ended, by the
        // clock or when its last frame was written.
        if due || self.connection.has_events() {
            self.dispatch(cx, now);
        }
        if self.session.claim().is_some() {
            again |= self.adopt(now);
        }
        self.drain_mailbox(now);
        if self.is_between_connections() {
            again |= self.poll_redial(cx, now);
        }
        if self.admission.returning.is_some() {
            again |= self.poll_returning(cx, now);
        }
        again |= self.receive(cx, now);
        let is_deaf = !self.connection.wants_input();
        if (self.admission.accepting.is_some() || self.connection.has_events())
            && self.dispatch(cx, now)
        {
            // An acceptor, a dial or a way to a session that it has begun is not polled yet.
            again |= self.admission.accepting.is_some()
                || self.admission.returning.is_some()
                || self.wire.socket.is_none();
        }
        // Not before: a stream opened now may have the slot of one whose end is told above.
        if self.waiting.held.capacity() > 0 {
            self.look_at_held(now);
        }
        if !self.waiting.leaseless.is_empty() {
            self.open_leased();
        }
        if self.admission.is_stopping && self.connection.awaits_setup() {
            self.connection.close();
        }
        self.serving.answered_bytes = 0;
        self.serving.answered = 0;
        self.look_for_memory_again(now);
        self.produce(now);
        if self.connection.is_draining_here() {
            self.end_behind_feeds();
        }
        if self.serving.lease.is_some() {
            self.renew_lease(now);
        }
        again |= self.transmit(cx, now);
        if self.slots.unused_permits > 0 {
            self.mailbox.give_back(mem::take(&mut self.slots.unused_permits));
        }
        self.slots.wake_consumers();
        if mem::take(&mut self.memory.unsettled) {
            self.settle_memory();
        }
        again || (is_deaf && self.connection.wants_input()) || self.may_produce()
    }

    /// Whether so much was written and asked since this was written, and asked, that others may run.
    fn has_done_much(&self, (bytes_out, requests_in): (u64, u64)) -> bool {
        let stats = self.connection.stats();
        stats.bytes_out.saturating_sub(bytes_out) >= BYTES_PER_WAKE
            || self.wire.input.taken.max(self.bulk.yielded) >= READ_PER_WAKE
            || stats.requests_in.saturating_sub(requests_in) >= REQUESTS_PER_WAKE
    }

    /// The connection is over.
    #[cold]
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.meter.finish(self.connection.stats());
        self.slots.wake_consumers();
        let finished = loop {
            let finished = self.poll_finish(cx, now());
            if finished.is_pending() || !matches!(self.ending.phase, Phase::Flushing { .. }) {
                break finished;
            }
        };
        // A portion of what fails a poll, and others between them.
        if self.ending.failing.is_empty() { finished } else { yields(cx) }
    }

    /// When there is something to do, whatever happens.
    #[cold]
    fn next_deadline(&self) -> Option<Instant> {
        let failure = self.wire.write_failure.as_ref().map(|failure| failure.1);
        let (lease, memory) = (self.lease_deadline(), self.memory_deadline());
        let (pace, fresh) = (self.pace_deadline(), self.fresh_deadline());
        let others = [lease, failure, memory, pace, self.waiting.deadline(), fresh];
        self.alarm.deadline.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Nothing is to be done until the task is woken, or the clock says so; false if there is
    /// something after all.
    #[inline]
    fn rest(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        self.settle_memory();
        if self.watches_shortage() {
            self.watch_shortage(now);
        }
        if self.connection.has_events() {
            return false;
        }
        let waits = self.serving.lease.is_some()
            || self.wire.write_failure.is_some()
            || self.memory.has_deadline()
            || self.pace_deadline().is_some()
            || self.waiting.deadline().is_some()
            || self.is_between_connections();
        let deadline = if waits { self.next_deadline() } else { self.alarm.deadline };
        if let Some(deadline) = deadline
            && !self.alarm.is_timed(cx, deadline, now)
            && self.alarm.poll_timer(cx, deadline).is_ready()
        {
            return false;
        }
        if !self.mailbox.sleep(cx.waker()) {
            return false;
        }
        self.release_memory();
        self.meter.publish(self.connection.stats(), self.connection.open_streams());
        self.meter.publish_leased(self.connection.inbound_streams());
        if let Some(round_trip) = self.connection.round_trip() {
            self.mailbox.publish_round_trip(round_trip);
        }
        true
    }
}

/// Others may run, and the sockets are asked, before the task goes on.
fn yields(cx: &mut Context<'_>) -> Poll<()> {
    let _ = pin!(yield_now()).poll(cx);
    Poll::Pending
}

impl Driver {
    /// Turns until there is nothing to do, others are to run, or the connection has ended.
    #[inline(always)]
    fn take_turns(&mut self, cx: &mut Context<'_>, before: (u64, u64)) -> Poll<()> {
        let mut budget = Budget::new();
        // Most wakes are for one turn.
        let mut has_turn = budget.take();
        while self.ending.phase == Phase::Running {
            if !has_turn {
                // Others may run; we go on after them.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let now = now();
            let due = self.alarm.deadline.is_some_and(|deadline| deadline <= now);
            if due && !mem::replace(&mut self.alarm.listened, true) {
                // The sockets are asked before the clock is: who is late to look at it may have signs
                // of life to read, of which the runtime does not know yet (KA-09).
                return yields(cx);
            }
            self.alarm.listened = false;
            let again = self.turn(cx, now, due);
            self.alarm.deadline = self.connection.poll_timeout();
            if !self.ending.failing.is_empty() || self.has_held() || self.has_leased() {
                return yields(cx);
            }
            if self.must_wait() && self.ending.phase == Phase::Running && self.stands_in_line(cx) {
                return Poll::Pending;
            }
            if !again && self.ending.phase == Phase::Running && self.rest(cx, now) {
                return Poll::Pending;
            }
            if self.ending.phase == Phase::Running && self.has_done_much(before) {
                // Others may run, and the sockets are asked: as long as a socket takes what is
                // written, the runtime does not get to know what has come.
                self.lets_others_run();
                return yields(cx);
            }
            has_turn = budget.take();
        }
        self.poll_end(cx)
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.defers() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !this.ending.failing.is_empty() {
            this.fail_some();
        }
        if !this.takes_turn(cx) {
            return Poll::Pending;
        }
        let stats = this.connection.stats();
        let before = (stats.bytes_out, stats.requests_in);
        this.wire.input.taken = 0;
        this.bulk.yielded = 0;
        this.slots.has_overtaken = false;
        this.borrow_memory();
        let polled = this.take_turns(cx, before);
        let written = this.connection.stats().bytes_out.saturating_sub(before.0) as usize;
        this.has_moved(this.wire.input.taken + this.bulk.yielded + written);
        polled
    }
}
