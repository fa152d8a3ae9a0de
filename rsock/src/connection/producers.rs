//! From handlers to the driver: futures and streams polled in place, each with a waker of its slot.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Weak, atomic::Ordering},
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
    sync::AtomicBool,
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
    slot: usize,
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
            mailbox.ready(self.slot);
        }
    }
}

/// One waker a slot, made when the slot is first used.
#[derive(Default)]
pub(super) struct SlotWakers(Vec<Option<(Arc<SlotWaker>, Waker)>>);

impl SlotWakers {
    pub(super) fn get(&mut self, slot: usize, mailbox: &Arc<Mailbox>) -> &Waker {
        self.named(slot, slot, mailbox)
    }

    /// The waker at `index` that lists `slot`.
    pub(super) fn named(&mut self, index: usize, slot: usize, mailbox: &Arc<Mailbox>) -> &Waker {
        if self.0.get(index).is_none_or(Option::is_none) {
            self.make(index, slot, mailbox);
        }
        match &self.0[index] {
            Some((_, waker)) => waker,
            None => Waker::noop(),
        }
    }

    /// Forgets those of the slots from `len` on. A late call of one lists a slot that has nothing.
    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
        self.0.shrink_to_fit();
    }

    #[cold]
    fn make(&mut self, index: usize, slot: usize, mailbox: &Arc<Mailbox>) {
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        let mailbox = Arc::downgrade(mailbox);
        let shared = Arc::new(SlotWaker { slot, listed: AtomicBool::new(false), mailbox });
        self.0[index] = Some((Arc::clone(&shared), Waker::from(shared)));
    }

    /// Drops the last one; false if there was none.
    pub(super) fn drop_last(&mut self) -> bool {
        self.0.pop().is_some()
    }

    /// The slot is off the mailbox's list: its next wake lists it again.
    pub(super) fn unlist(&self, slot: usize) {
        if let Some(Some((shared, _))) = self.0.get(slot) {
            // The call that was too late to list it again came before this: what it had to tell is
            // seen by the poll that follows.
            shared.listed.swap(false, Ordering::AcqRel);
        }
    }
}
