//! From handlers to the driver: futures and streams polled in place, each with a waker of its slot.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{Ordering, fence},
    },
    task::{Context, Poll, Wake, Waker},
};

use rsock_proto::Payload;

use crate::{
    boxed::BoxStream,
    connection::{
        feed::{Feed, ItemSource, Kind},
        mailbox::Mailbox,
        work::Work,
    },
    error::Error,
    sync::{AtomicBool, AtomicUsize},
};

/// The source that fills the half of a stream that we send on.
pub(super) enum Producer {
    /// One answer, or the end of a fire-and-forget.
    Once(Work),
    /// Items under credit.
    Stream(Source),
    /// Items under credit, many a poll.
    Feed(Box<dyn Feed>),
}

impl Producer {
    pub(super) fn into_work(self) -> Option<Work> {
        match self {
            Self::Once(work) => Some(work),
            Self::Stream(_) | Self::Feed(_) => None,
        }
    }
}

impl From<ItemSource> for Producer {
    fn from(source: ItemSource) -> Self {
        match source.0 {
            Kind::Stream(items) => Self::Stream(Source::new(items)),
            Kind::Feed(feed) => Self::Feed(feed),
        }
    }
}

/// A stream of items, and the one that was polled for without credit.
pub(super) struct Source {
    stream: BoxStream<Result<Payload, Error>>,
    ahead: Ahead,
}

/// The place of an item that was polled for ahead. Most streams never need it; the others keep it.
#[derive(Default)]
struct Ahead(Option<Box<Option<Payload>>>);

impl Ahead {
    #[inline]
    fn is_some(&self) -> bool {
        self.0.as_ref().is_some_and(|place| place.is_some())
    }

    #[inline]
    fn take(&mut self) -> Option<Payload> {
        self.0.as_mut()?.take()
    }

    fn put(&mut self, item: Payload) {
        **self.0.get_or_insert_default() = Some(item);
    }
}

/// The outcome of asking a source for a stream.
pub(super) enum Polled {
    Item(Payload),
    Complete,
    Failed(Error),
    /// It waits; its waker will be called.
    Pending,
    /// It waits for the peer's credit.
    NoCredit,
}

impl Source {
    pub(super) fn new(stream: BoxStream<Result<Payload, Error>>) -> Self {
        Self { stream, ahead: Ahead::default() }
    }

    /// The next item. Without credit only an end can be told: whether there is one is found out by
    /// polling one item ahead, unless the stream's size hint knows.
    #[inline(always)]
    pub(super) fn poll(&mut self, has_credit: bool, cx: &mut Context<'_>) -> Polled {
        if has_credit && let Some(item) = self.ahead.take() {
            return Polled::Item(item);
        }
        if !has_credit {
            match self.stream.size_hint() {
                _ if self.ahead.is_some() => return Polled::NoCredit,
                (0, Some(0)) => return Polled::Complete,
                (0, _) => {}
                _ => return Polled::NoCredit,
            }
        }
        match guard(|| self.stream.as_mut().poll_next(cx)) {
            Ok(Poll::Ready(Some(Ok(item)))) if has_credit => Polled::Item(item),
            Ok(Poll::Ready(Some(Ok(item)))) => {
                self.ahead.put(item);
                Polled::NoCredit
            }
            Ok(Poll::Ready(Some(Err(error)))) | Err(error) => Polled::Failed(error),
            Ok(Poll::Ready(None)) => Polled::Complete,
            Ok(Poll::Pending) => Polled::Pending,
        }
    }
}

/// Polls a future of a handler; a panic is an error of its own.
pub(super) fn poll_guarded<F: Future + ?Sized>(
    future: &mut Pin<Box<F>>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Error>> {
    match guard(|| future.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(error) => Poll::Ready(Err(error)),
    }
}

/// Runs something of a user's. A panic costs its stream, not the connection; the peer is told no
/// more than that it happened (ERR-11).
#[inline]
pub(crate) fn guard<T>(work: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        log_panic(&*panic);
        panicked()
    })
}

/// The error that the peer of a handler that panicked is told.
pub(crate) fn panicked() -> Error {
    Error::application("the handler panicked")
}

#[cfg(feature = "tracing")]
fn log_panic(panic: &(dyn Any + Send)) {
    let message = (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    // It may quote what the peer sent.
    let message = rsock_proto::Printable(message);
    tracing::error!(%message, "a handler panicked; its stream failed");
}

#[cfg(not(feature = "tracing"))]
fn log_panic(_: &(dyn Any + Send)) {}

/// The waker of a slot. It outlives the slot's tenants; a late call polls the next one once too often.
struct SlotWaker {
    /// Changed by its connection, while nobody else has it.
    slot: AtomicUsize,
    listed: AtomicBool,
    /// Weak: producers hold wakers, and must not keep a mailbox alive that holds them.
    mailbox: Weak<Mailbox>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel)
            && let Some(mailbox) = self.mailbox.upgrade()
        {
            mailbox.ready(self.slot.load(Ordering::Relaxed));
        }
    }
}

/// A waker as it is known here, and as it is given to who is polled.
type Shared = (Arc<SlotWaker>, Waker);

fn waker_of(slot: usize, mailbox: &Arc<Mailbox>) -> Shared {
    let (slot, listed) = (AtomicUsize::new(slot), AtomicBool::new(false));
    let shared = Arc::new(SlotWaker { slot, listed, mailbox: Arc::downgrade(mailbox) });
    (Arc::clone(&shared), Waker::from(shared))
}

/// One waker a slot, made when the slot first needs its own.
#[derive(Default)]
pub(super) struct SlotWakers {
    own: Vec<Option<Shared>>,
    /// Lent to one feed after the other, until one keeps it: those that wait in a group do not.
    lent: Option<Shared>,
}

impl SlotWakers {
    pub(super) fn get(&mut self, slot: usize, mailbox: &Arc<Mailbox>) -> &Waker {
        self.named(slot, slot, mailbox)
    }

    /// The waker at `index` that lists `slot`.
    pub(super) fn named(&mut self, index: usize, slot: usize, mailbox: &Arc<Mailbox>) -> &Waker {
        if !self.has(index) {
            self.put(index, waker_of(slot, mailbox));
        }
        match &self.own[index] {
            Some((_, waker)) => waker,
            None => Waker::noop(),
        }
    }

    /// A waker for a slot that may not need one of its own. To be [taken back](Self::take_back) when whoever
    /// it is lent to has been polled.
    #[inline]
    pub(super) fn lend(&mut self, slot: usize, mailbox: &Arc<Mailbox>) -> &Waker {
        if self.has(slot) {
            return self.get(slot, mailbox);
        }
        let (shared, waker) = self.lent.get_or_insert_with(|| waker_of(slot, mailbox));
        shared.slot.store(slot, Ordering::Relaxed);
        waker
    }

    /// Takes back the waker that was lent; it is the slot's own from here on if it was kept, or called.
    #[inline]
    pub(super) fn take_back(&mut self, slot: usize) {
        let Some((shared, _)) = &self.lent else { return };
        let is_kept = Arc::strong_count(shared) > 2;
        // Whoever had it and dropped it may have called it before that.
        fence(Ordering::Acquire);
        if (is_kept || shared.listed.load(Ordering::Acquire))
            && let Some(lent) = self.lent.take()
        {
            self.put(slot, lent);
        }
    }

    #[inline]
    fn has(&self, index: usize) -> bool {
        self.own.get(index).is_some_and(Option::is_some)
    }

    #[cold]
    fn put(&mut self, index: usize, waker: Shared) {
        if self.own.len() <= index {
            self.own.resize_with(index + 1, || None);
        }
        self.own[index] = Some(waker);
    }

    /// Forgets those of the slots from `len` on. A late call of one lists a slot that has nothing.
    pub(super) fn truncate(&mut self, len: usize) {
        self.own.truncate(len);
        self.own.shrink_to_fit();
    }

    /// Drops the last one; false if there was none.
    pub(super) fn drop_last(&mut self) -> bool {
        self.own.pop().is_some()
    }

    /// The slot is off the mailbox's list: its next wake lists it again.
    pub(super) fn unlist(&self, slot: usize) {
        if let Some(Some((shared, _))) = self.own.get(slot) {
            // The call that was too late to list it again came before this: what it had to tell is
            // seen by the poll that follows.
            shared.listed.swap(false, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ConnectionState;

    fn ready(mailbox: &Mailbox) -> Vec<usize> {
        let (mut commands, mut ready) = (Vec::new(), Vec::new());
        mailbox.take(&mut commands, &mut ready);
        ready
    }

    /// Whoever keeps it is woken, however many it is lent to later.
    #[test]
    fn a_waker_that_is_kept_is_the_slots_own() {
        let mailbox = Mailbox::new(1, ConnectionState::Established);
        let mut wakers = SlotWakers::default();
        for slot in 0..3 {
            let _ = wakers.lend(slot, &mailbox);
            wakers.take_back(slot);
        }
        assert!(wakers.own.is_empty(), "nobody has kept it");
        let kept = wakers.lend(7, &mailbox).clone();
        wakers.take_back(7);
        wakers.lend(2, &mailbox).wake_by_ref();
        wakers.take_back(2);
        let dropped = wakers.lend(4, &mailbox).clone();
        dropped.wake();
        wakers.take_back(4);
        assert_eq!(ready(&mailbox), [2, 4]);
        let _ = wakers.lend(5, &mailbox);
        wakers.take_back(5);
        kept.wake_by_ref();
        kept.wake();
        assert_eq!(ready(&mailbox), [7], "once, until it is off the list");
        for slot in [2, 4, 7] {
            wakers.unlist(slot);
            wakers.lend(slot, &mailbox).wake_by_ref();
            wakers.take_back(slot);
            assert_eq!(ready(&mailbox), [slot]);
        }
    }
}
