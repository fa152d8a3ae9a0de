//! The one timer of a connection.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use tokio::{task::coop::has_budget_remaining, time::Sleep};

use super::now;

/// When the task is woken whatever happens.
#[derive(Default)]
pub(super) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// When `timer` fires; it may be earlier than needed, never later.
    armed: Option<Instant>,
    /// The waker that `timer` wakes.
    timed: Option<Waker>,
    /// When the protocol engine wants to hear of the time, as of the last turn.
    pub(super) deadline: Option<Instant>,
    /// The sockets have been asked since something fell due.
    pub(super) listened: bool,
}

impl Alarm {
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
