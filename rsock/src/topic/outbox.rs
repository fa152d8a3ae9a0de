//! The task of a publisher: it sends what waits, in order, and again what was not acknowledged.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use rsock_proto::Payload;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    message::Published,
    publisher::Counters,
    retry::{Retry, is_of_connection, may_pass},
    wire,
};
use crate::{
    error::Error,
    requester::{Requester, Response},
    state::ConnectionState,
};

/// A message, and who waits for what comes of it.
pub(super) struct Entry {
    pub(super) payload: Payload,
    pub(super) answer: oneshot::Sender<Result<Published, Error>>,
    pub(super) _place: Place,
}

/// The place of a message, which it leaves with its outcome: one of the messages', and its bytes.
pub(super) struct Place(
    #[expect(dead_code, reason = "it is given back when it is dropped")]
    pub(super)  OwnedSemaphorePermit,
    #[expect(dead_code, reason = "it is given back when it is dropped")]
    pub(super)  OwnedSemaphorePermit,
);

/// A message that is on its way, or is to be sent again.
struct Item {
    entry: Entry,
    /// Which of the messages of the queue it is, from 1 on.
    serial: u64,
    way: Way,
    was_sent: bool,
    /// Since when it is refused for now.
    refused_since: Option<Instant>,
}

/// How far a message is.
enum Way {
    Waiting,
    Sent(Response),
    Answered(Result<Payload, Error>),
}

/// The messages that wait for their acknowledgement.
pub(super) struct Outbox {
    retry: Retry,
    queue: mpsc::Receiver<Entry>,
    /// Nothing more is published: the last handle is gone.
    is_last: bool,
    /// In order; at most as many as may be on their way.
    items: VecDeque<Item>,
    in_flight: usize,
    patience: Duration,
    /// Nothing is sent until those on their way have their outcome, and it is time to send again.
    is_halted: bool,
    /// The connection's state: what is sent on one that follows must not overtake what was lost on this one.
    state: watch::Receiver<ConnectionState>,
    /// Messages taken from the queue.
    taken: u64,
    resolved: watch::Sender<u64>,
    counters: Arc<Counters>,
}

impl Outbox {
    pub(super) fn new(
        requester: Requester,
        queue: mpsc::Receiver<Entry>,
        resolved: watch::Sender<u64>,
        counters: Arc<Counters>,
        in_flight: usize,
        patience: Duration,
    ) -> Self {
        let state = requester.watch();
        Self {
            retry: Retry::new(requester),
            queue,
            is_last: false,
            items: VecDeque::new(),
            in_flight,
            patience,
            is_halted: false,
            state,
            taken: 0,
            resolved,
            counters,
        }
    }

    /// Takes the answers that are there, in order: those behind one that is still awaited wait for it.
    fn take_answers(&mut self, cx: &mut Context<'_>) {
        let mut at = 0;
        while let Some(item) = self.items.get_mut(at) {
            let answer = match &mut item.way {
                Way::Waiting => {
                    at += 1;
                    continue;
                }
                Way::Sent(response) => match Pin::new(response).poll(cx) {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => return,
                },
                Way::Answered(answer) => answer.clone(),
            };
            item.way = Way::Waiting;
            match answer.and_then(|answer| wire::published(&answer)) {
                Ok(published) => self.resolve(at, Ok(published)),
                Err(error) if is_of_connection(&error) => {
                    // All that were on their way are lost with it: they are sent again in their order.
                    self.items.iter_mut().for_each(|item| item.way = Way::Waiting);
                    return self.halt(&error);
                }
                Err(error) if may_pass(&error) && item.is_patient(self.patience) => {
                    self.halt(&error);
                    at += 1;
                }
                Err(error) => self.resolve(at, Err(error)),
            }
        }
    }

    /// Sends nothing for now.
    fn halt(&mut self, error: &Error) {
        self.is_halted = true;
        if let Err(error) = self.retry.failed(error.clone()) {
            self.fail(&error);
        }
    }

    /// There will be no other connection: nothing is published any more.
    fn fail(&mut self, error: &Error) {
        self.queue.close();
        while let Some(item) = self.items.front() {
            let outcome = if item.was_sent { error.clone() } else { never_sent(error) };
            self.resolve(0, Err(outcome));
        }
        while let Ok(entry) = self.queue.try_recv() {
            self.taken += 1;
            self.counters.failed.fetch_add(1, Relaxed);
            let _ = entry.answer.send(Err(never_sent(error)));
        }
        self.is_last = true;
    }

    /// Tells what came of a message.
    fn resolve(&mut self, at: usize, outcome: Result<Published, Error>) {
        let Some(item) = self.items.remove(at) else { return };
        let counters = &*self.counters;
        match &outcome {
            Ok(published) => {
                counters.published.fetch_add(1, Relaxed);
                counters.duplicates.fetch_add(published.duplicate.into(), Relaxed);
            }
            Err(_) => {
                counters.failed.fetch_add(1, Relaxed);
            }
        }
        // Nobody need want to know.
        let _ = item.entry.answer.send(outcome);
    }

    /// Sends what waits, as much as may be on its way.
    fn send(&mut self, cx: &mut Context<'_>) {
        for at in 0.. {
            if at == self.items.len() && !self.take_next(cx) {
                return;
            }
            // There is one more: it was there, or has just been taken.
            if !self.send_one(at, cx) {
                return;
            }
        }
    }

    /// Takes the next message from the queue; false if there is none, or as many are on their way as may.
    fn take_next(&mut self, cx: &mut Context<'_>) -> bool {
        if self.items.len() >= self.in_flight || self.is_last {
            return false;
        }
        match self.queue.poll_recv(cx) {
            Poll::Ready(Some(entry)) => {
                self.taken += 1;
                self.items.push_back(Item {
                    entry,
                    serial: self.taken,
                    way: Way::Waiting,
                    was_sent: false,
                    refused_since: None,
                });
                true
            }
            Poll::Ready(None) => {
                self.is_last = true;
                false
            }
            Poll::Pending => false,
        }
    }

    /// Has one message on its way; false if those behind it are to wait.
    fn send_one(&mut self, at: usize, cx: &mut Context<'_>) -> bool {
        let is_alone = !self.items.iter().any(|item| matches!(item.way, Way::Sent(_)));
        let may_send = is_alone || !self.is_changed();
        let Some(item) = self.items.get_mut(at) else { return false };
        if matches!(item.way, Way::Waiting) {
            // Those on their way may be lost without having said so yet, and this would come first.
            if !may_send {
                return false;
            }
            if is_alone {
                self.state.mark_unchanged();
            }
            self.counters.repeated.fetch_add(item.was_sent.into(), Relaxed);
            self.retry.asks();
            let requester = self.retry.requester();
            item.way = Way::Sent(requester.request_response(item.entry.payload.clone()));
        } else if !matches!(&item.way, Way::Sent(response) if !response.is_sent()) {
            return true;
        }
        let Way::Sent(response) = &mut item.way else { return true };
        // It goes when it is polled; one that waits for its turn keeps those behind it.
        let answered = Pin::new(&mut *response).poll(cx);
        let is_sent = response.is_sent();
        item.was_sent |= is_sent;
        if let Poll::Ready(answer) = answered {
            item.way = Way::Answered(answer);
            return false;
        }
        if !is_alone && self.is_changed() {
            if let Some(item) = self.items.get_mut(at) {
                item.way = Way::Waiting;
            }
            return false;
        }
        is_sent
    }

    /// Whether the connection may be another than that of the messages on their way.
    fn is_changed(&self) -> bool {
        self.state.has_changed().unwrap_or(true)
    }

    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.take_answers(cx);
            let first = self.items.front().map_or(self.taken, |item| item.serial - 1);
            self.resolved.send_if_modified(|resolved| {
                let is_new = *resolved != first;
                *resolved = first;
                is_new
            });
            if self.is_halted {
                if self.items.iter().any(|item| matches!(item.way, Way::Sent(_))) {
                    return Poll::Pending;
                }
                if let Err(error) = ready!(self.retry.poll_ready(cx)) {
                    self.fail(&error);
                }
                self.is_halted = false;
            }
            self.send(cx);
            if !self.items.iter().any(|item| matches!(item.way, Way::Answered(_))) {
                let is_done = self.is_last && self.items.is_empty();
                return if is_done { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    }
}

impl Future for Outbox {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_on(cx)
    }
}

impl Item {
    /// Whether it is sent again after a refusal.
    fn is_patient(&mut self, patience: Duration) -> bool {
        self.refused_since.get_or_insert_with(Instant::now).elapsed() < patience
    }
}

fn never_sent(error: &Error) -> Error {
    match error {
        Error::Closed { reason, .. } => Error::never_sent(reason.clone()),
        other => other.clone(),
    }
}
