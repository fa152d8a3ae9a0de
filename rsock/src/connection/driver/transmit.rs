//! The way out: what leaves in a turn.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use super::{
    Driver,
    ending::{FLUSH_LIMIT, LINGER_LIMIT, Phase, STALL_LIMIT},
};

impl Driver {
    pub(super) fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.connection.wants_output() {
            self.connection.poll_transmit(&mut self.wire.output);
        }
        if self.calls.has_pushes() {
            self.answer_pushes();
        }
        if self.wire.write_failure.is_some() {
            // Nobody is left to write to.
            self.wire.forget_output();
            return self.connection.has_events();
        }
        let waiting = self.wire.output.len();
        let written = if self.wire.is_waiting() { self.wire.write(cx) } else { Poll::Pending };
        match written {
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(error)) if self.connection.is_over() => {
                self.disconnect(Some(error), now);
            }
            Poll::Ready(Err(error)) => {
                self.wire.forget_output();
                self.wire.unreachable = true;
                self.wire.write_failure = Some(Box::new((error, now + LINGER_LIMIT)));
                // What has come meanwhile is read.
                return true;
            }
        }
        let wrote = self.wire.output.len() < waiting;
        // After a write there may be room for what did not fit before it.
        let unread = self.wire.input.len() > 0 && self.connection.wants_input();
        let more =
            wrote && (unread || self.connection.wants_output() || !self.slots.ready.is_empty());
        let closing = self.connection.is_closed()
            && self.ending.phase == Phase::Running
            && !self.is_renewing();
        if closing && !self.connection.has_events() {
            self.wire.framing.close(&mut self.wire.output);
            let limit = if self.ending.is_regular { STALL_LIMIT } else { FLUSH_LIMIT };
            self.ending.phase = Phase::Flushing { until: now + limit };
        }
        more || closing || self.connection.has_events()
    }
}
