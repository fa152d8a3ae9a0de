//! The payloads of a channel, on their way from a WebSocket to whoever takes them.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use rsock::{Error, Payload};

/// The end at which payloads are put in. As many wait as whoever puts them in lets wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Input(Arc<Mutex<State>>);

/// The end at which they are taken.
#[derive(Debug)]
pub(super) struct Taken(Input);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Payload>,
    is_over: bool,
    report: Report,
    taker: Option<Waker>,
    giver: Option<Waker>,
}

/// The fate of payloads since it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Somebody asks for them.
    pub(super) is_asked: bool,
    /// Payloads that were taken.
    pub(super) taken: u32,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Nobody takes any more.
    pub(super) is_dropped: bool,
}

impl Input {
    pub(super) fn new() -> (Self, Taken) {
        let input = Self::default();
        (input.clone(), Taken(input))
    }

    /// It is changed by single calls, and right whoever panics.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one in.
    pub(super) fn give(&self, payload: Payload) {
        let mut state = self.lock();
        if !state.report.is_dropped {
            state.waiting.push_back(payload);
            state.wake_taker();
        }
    }

    /// There are no more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        state.wake_taker();
    }

    /// Whether none waits, and somebody asks for one.
    pub(super) fn is_awaited(&self) -> bool {
        let state = self.lock();
        state.report.is_asked
            && state.waiting.is_empty()
            && !state.is_over
            && !state.report.is_dropped
    }

    /// Whether none waits to be taken.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() || state.report.is_dropped
    }

    /// Tells what has happened since it was asked. `waker` is woken when something happens next.
    pub(super) fn report(&self, waker: &Waker) -> Report {
        let mut state = self.lock();
        match &mut state.giver {
            Some(known) => known.clone_from(waker),
            giver => *giver = Some(waker.clone()),
        }
        let report = state.report;
        (state.report.taken, state.report.bytes) = (0, 0);
        report
    }
}

impl State {
    fn wake_taker(&mut self) {
        if let Some(taker) = self.taker.take() {
            taker.wake();
        }
    }

    fn wake_giver(&mut self) {
        if let Some(giver) = self.giver.take() {
            giver.wake();
        }
    }
}

impl Stream for Taken {
    type Item = Result<Payload, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock();
        if !std::mem::replace(&mut state.report.is_asked, true) {
            state.wake_giver();
        }
        if let Some(payload) = state.waiting.pop_front() {
            let bytes = payload.data.len() + payload.metadata.as_ref().map_or(0, |it| it.len());
            state.report.taken += 1;
            state.report.bytes += bytes;
            state.wake_giver();
            return Poll::Ready(Some(Ok(payload)));
        }
        if state.is_over {
            return Poll::Ready(None);
        }
        match &mut state.taker {
            Some(known) => known.clone_from(cx.waker()),
            taker => *taker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.report.is_dropped = true;
        state.waiting.clear();
        state.wake_giver();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn payloads_are_asked_for_before_they_are_given() {
        let (input, mut taken) = Input::new();
        let report = || input.report(Waker::noop());
        assert!(!input.is_awaited() && report() == Report::default());
        assert!(taken.next().now_or_never().is_none());
        assert!(input.is_awaited() && report().is_asked);
        input.give(Payload::new("abc"));
        assert!(!input.is_awaited());
        let payload = taken.next().now_or_never().flatten().expect("one").expect("no error");
        assert_eq!(payload.data, "abc");
        assert_eq!((report().taken, report().taken), (1, 0));
        input.give(Payload::new("d"));
        input.end();
        assert!(taken.next().now_or_never().flatten().is_some());
        assert!(taken.next().now_or_never().expect("the end").is_none());
        input.give(Payload::new("e"));
        drop(taken);
        assert!(report().is_dropped && input.is_empty());
    }
}
