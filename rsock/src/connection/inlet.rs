//! From the driver to who consumes: the place in which it leaves what came.
//!
//! An inlet's queue never holds more than the credit that was granted and not consumed; that is
//! checked by the protocol engine, so no item is ever dropped here. What waits is counted in bytes
//! until it is consumed, by inlet and, in the mailbox, for the connection.

use std::{
    collections::VecDeque,
    mem,
    ops::Deref,
    sync::{
        Arc, PoisonError,
        atomic::Ordering::{AcqRel, Acquire, Relaxed},
    },
    task::{Context, Poll, Waker},
};

use rsock_proto::{CloseReason, Payload, StreamKey};

use crate::{
    error::Error,
    memory::BlockCharge,
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard},
};

/// Bytes that wait in a connection's inlets, or were taken and are not consumed; and [`PAUSED`],
/// where the driver does not read before there are fewer.
#[derive(Debug)]
pub(crate) struct WaitingBytes(AtomicUsize);

/// The bit of what waits that has the driver woken when fewer bytes do. In one number, neither can
/// be changed unseen.
const PAUSED: usize = 1 << (usize::BITS - 1);

impl WaitingBytes {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// So many bytes more wait to be consumed. Told before they can be.
    #[inline]
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, AcqRel);
    }

    /// So many bytes do not wait any more; true if the driver waits for that.
    #[inline]
    #[must_use]
    pub(super) fn release(&self, bytes: usize) -> bool {
        let before = self.0.fetch_sub(bytes, AcqRel);
        before & PAUSED != 0
    }

    /// How many there are.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.0.load(Acquire) & !PAUSED
    }

    /// Has the driver woken when fewer bytes wait than do now, which are returned.
    pub(crate) fn pause(&self) -> usize {
        self.0.fetch_or(PAUSED, AcqRel) & !PAUSED
    }

    /// The driver reads again.
    pub(crate) fn go_on(&self) {
        self.0.fetch_and(!PAUSED, AcqRel);
    }
}

/// The place in which the driver leaves what one stream receives.
#[derive(Default)]
pub(crate) struct Inlet {
    inner: Mutex<Inner>,
    /// As in `inner`'s demand: what the driver looks at before it opens a stream.
    is_cancelled: AtomicBool,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) items: Items,
    /// Bytes of the items, and of those taken that are not known to be consumed.
    waiting: usize,
    /// Of the blocks that the items were read into.
    pub(super) charges: Charges,
    /// How it ended; nothing follows.
    pub(super) end: Option<Result<(), Error>>,
    pub(super) consumer: Option<Waker>,
    /// The stream, once it is open.
    key: Option<StreamKey>,
    /// The demand that the consumer wants to tell the driver.
    demand: InletDemand,
    /// The driver has been told to look.
    listed: bool,
}

impl Inner {
    /// As many of these bytes as are still counted do not wait any more.
    pub(super) fn release(&mut self, bytes: usize) -> usize {
        let released = bytes.min(self.waiting);
        self.waiting -= released;
        released
    }

    /// Credit is given once.
    fn take_demand(&mut self) -> InletDemand {
        let demand = self.demand;
        self.demand.grant = 0;
        demand
    }
}

/// The charges of blocks, each once: most items that wait together were read together.
#[derive(Default)]
pub(super) struct Charges {
    last: Option<Arc<BlockCharge>>,
    others: Vec<Arc<BlockCharge>>,
}

impl Charges {
    #[inline]
    fn add(&mut self, charge: Option<Arc<BlockCharge>>) {
        let Some(charge) = charge else { return };
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &charge)) {
            return;
        }
        if let Some(before) = self.last.replace(charge) {
            self.others.push(before);
        }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        if self.last.is_some() {
            self.last = None;
            if self.others.capacity() > 0 {
                self.others = Vec::new();
            }
        }
    }
}

/// A consumer's demand for its stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InletDemand {
    /// So many more items.
    pub(crate) grant: u32,
    /// Nothing more.
    pub(crate) cancel: bool,
}

impl InletDemand {
    pub(crate) fn is_none(self) -> bool {
        self.grant == 0 && !self.cancel
    }
}

/// A queue whose first item needs no allocation: most streams receive one.
#[derive(Default)]
pub(super) struct Items {
    pub(super) first: Option<Payload>,
    pub(super) rest: VecDeque<Payload>,
}

impl Items {
    fn push(&mut self, item: Payload) {
        // A stream that has had a queue keeps to it, so that a burst is taken whole.
        if self.first.is_none() && self.rest.capacity() == 0 {
            self.first = Some(item);
        } else {
            self.rest.push_back(item);
        }
    }

    fn pop(&mut self) -> Option<Payload> {
        self.first.take().or_else(|| self.rest.pop_front())
    }
}

impl Inlet {
    /// No user code runs under the lock, so a poisoned one still holds whole values.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the stream it was for, if nobody else has it: it may serve another, whose consumer is
    /// this.
    pub(crate) fn renew(self: &mut Arc<Self>, consumer: &Waker) -> bool {
        let Some(inlet) = Arc::get_mut(self) else { return false };
        let inner = inlet.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Inner { items, waiting, charges, end, consumer: before, key, demand, listed } = inner;
        *waiting = 0;
        charges.clear();
        items.first = None;
        if !items.rest.is_empty() {
            items.rest.clear();
        }
        *end = None;
        register(before, consumer);
        *key = None;
        *demand = InletDemand::default();
        *listed = false;
        inlet.is_cancelled.store(false, Relaxed);
        true
    }

    // ---- the driver's side --------------------------------------------------------------------

    /// The stream is open under this key; what its consumer has wanted until now.
    pub(crate) fn open(&self, key: StreamKey) -> InletDemand {
        let mut inner = self.lock();
        inner.key = Some(key);
        inner.take_demand()
    }

    /// Its consumer has gone. One that goes just now may not be seen, and has the driver look again.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Relaxed)
    }

    /// Leaves a burst of items, and the end if one is the last: whether there was one. The waker is
    /// to be called when the driver's burst is over. The items were read into the block of this charge.
    #[inline(never)]
    pub(crate) fn push(
        &self,
        mut item: (Payload, bool),
        mut next: impl FnMut() -> Option<(Payload, bool)>,
        charge: Option<Arc<BlockCharge>>,
        waiting: &WaitingBytes,
    ) -> (bool, Option<Waker>) {
        let mut inner = self.lock();
        let is_wanted = !inner.demand.cancel;
        let mut bytes = 0;
        let ended = loop {
            let (payload, last) = item;
            if is_wanted {
                bytes += payload.size();
                inner.items.push(payload);
            }
            if last {
                inner.end = Some(Ok(()));
                break true;
            }
            match next() {
                Some(following) => item = following,
                None => break false,
            }
        };
        if is_wanted {
            inner.charges.add(charge);
            inner.waiting += bytes;
            waiting.add(bytes);
        }
        (ended, inner.consumer.take_if(|_| is_wanted || ended))
    }

    /// Leaves the answer to a request, which ends with it: as [`push`](Self::push) does.
    #[inline]
    pub(crate) fn answer(
        &self,
        reply: Payload,
        charge: Option<Arc<BlockCharge>>,
        waiting: &WaitingBytes,
    ) -> Option<Waker> {
        let mut inner = self.lock();
        if !inner.demand.cancel {
            inner.charges.add(charge);
            let bytes = reply.size();
            inner.waiting += bytes;
            waiting.add(bytes);
            inner.items.push(reply);
        }
        inner.end = Some(Ok(()));
        inner.consumer.take()
    }

    /// Bytes that wait here, or have been taken and not been consumed.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.lock().waiting
    }

    /// Drops the items that wait, and ends with this error: how many bytes do not wait any more. The
    /// waker is to be called when the burst is over.
    pub(crate) fn give_up(&self, error: Error) -> (usize, Option<Waker>) {
        let mut inner = self.lock();
        inner.items = Items::default();
        inner.charges.clear();
        inner.end = Some(Err(error));
        (mem::take(&mut inner.waiting), inner.consumer.take())
    }

    /// Nothing follows. The waker is to be called when the burst is over.
    pub(crate) fn end(&self, how: Result<(), Error>) -> Option<Waker> {
        let mut inner = self.lock();
        if inner.end.is_none() {
            inner.end = Some(how);
        }
        inner.consumer.take()
    }

    /// The consumer's demand, and its stream. Before it is open, credit is kept for it. Once it has
    /// ended, another may have its key: on the next connection of a client that reconnects.
    pub(crate) fn take_demand(&self) -> (Option<StreamKey>, InletDemand) {
        let mut inner = self.lock();
        inner.listed = false;
        match inner.key.filter(|_| inner.end.is_none()) {
            Some(key) => (Some(key), inner.take_demand()),
            None => (None, inner.demand),
        }
    }

    // ---- the consumer's side ------------------------------------------------------------------

    /// Changes what is wanted of it; whether the driver has to be told to look.
    pub(super) fn change_demand(&self, change: impl FnOnce(&mut InletDemand)) -> bool {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return false;
        }
        change(&mut inner.demand);
        if inner.demand.cancel {
            self.is_cancelled.store(true, Relaxed);
        }
        !mem::replace(&mut inner.listed, true)
    }

    /// Drops what waits: how many bytes do not wait any more.
    pub(super) fn forget_items(&self) -> usize {
        let mut inner = self.lock();
        let items = mem::take(&mut inner.items);
        let waiting = mem::take(&mut inner.waiting);
        inner.charges.clear();
        drop(inner);
        drop(items);
        waiting
    }

    /// The answer of a request-response, `None` if it completed without one, and how many bytes do
    /// not wait any more.
    pub(super) fn poll_reply(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<(Result<Option<Payload>, Error>, usize)> {
        let mut inner = self.lock();
        if let Some(reply) = inner.items.pop() {
            inner.charges.clear();
            let waiting = mem::take(&mut inner.waiting);
            return Poll::Ready((Ok(Some(reply)), waiting));
        }
        match inner.end.take() {
            Some(end) => Poll::Ready((end.map(|()| None), 0)),
            None => {
                register(&mut inner.consumer, cx.waker());
                Poll::Pending
            }
        }
    }
}

/// The driver's end of an inlet. One that is dropped because the driver panics still ends what its
/// consumer waits for: nobody else knows of it.
pub(crate) struct Feeder(Arc<Inlet>);

impl Feeder {
    pub(crate) fn new(inlet: Arc<Inlet>) -> Self {
        Self(inlet)
    }
}

impl Deref for Feeder {
    type Target = Inlet;

    fn deref(&self) -> &Inlet {
        &self.0
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(consumer) = self.0.end(Err(CloseReason::Disconnected.into()))
        {
            consumer.wake();
        }
    }
}

pub(super) fn register(consumer: &mut Option<Waker>, waker: &Waker) {
    match consumer {
        Some(before) => before.clone_from(waker),
        none => *none = Some(waker.clone()),
    }
}
